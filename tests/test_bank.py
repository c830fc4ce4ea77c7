"""The bank of oracles: what names it, what it believes, how it grows, and what a kill leaves of it."""

import dataclasses
import os
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import bank
from ugclu_jax.bank import DamagedCacheError, content_hash, file_of, members, read, seeds_in, write
from ugclu_jax.oracle import OracleSettings

INGREDIENTS = {"data": "d", "ids": np.array([4, 2, 7]), "model": "mlp", "settings": OracleSettings(), "purpose": 1}


def test_the_same_ingredients_hash_alike_and_any_other_differ():
    key = content_hash(**INGREDIENTS)
    assert len(key) == 64 and key == content_hash(**{**INGREDIENTS, "ids": np.array([2, 4, 7], np.int32)})
    others = {"data": "e", "ids": np.array([4, 2]), "model": "cnn", "purpose": 2}
    keys = {content_hash(**{**INGREDIENTS, name: value}) for name, value in others.items()}
    for field in dataclasses.fields(OracleSettings):
        default = getattr(OracleSettings(), field.name)
        another = "adamw" if default == "sgd" else default + 1 if default >= 1 else default / 2
        changed = dataclasses.replace(OracleSettings(), **{field.name: another})
        keys.add(content_hash(**{**INGREDIENTS, "settings": changed}))
    assert len(keys | {key}) == 1 + len(others) + len(dataclasses.fields(OracleSettings))


TREE = ({"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, {}, np.array([1, 2], np.uint8))


def assert_same(tree):
    assert jax.tree.structure(tree) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(TREE), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_network_comes_back_exactly(tmp_path):
    path = tmp_path / "folder" / "key.npz"
    write(path, jax.tree.map(jnp.asarray, TREE))
    assert_same(read(path, TREE))
    assert_same(read(path, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), TREE)))


def test_a_flipped_byte_is_refused_or_harmless(tmp_path):
    path = tmp_path / "key.npz"
    write(path, TREE)
    whole = path.read_bytes()
    refused = 0
    for offset in range(0, len(whole), 5):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :])
        try:
            assert_same(read(path, TREE))
        except DamagedCacheError as error:
            assert str(path) in str(error) and "delete it" in str(error)
            refused += 1
    assert refused > len(whole) / 5 / 3


@pytest.mark.parametrize("damage", [b"", b"not a zip file", None])
def test_another_file_in_its_place_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "key.npz"
    write(path, TREE)
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    with pytest.raises(DamagedCacheError, match=f"{path} is damaged"):
        read(path, TREE)


@pytest.mark.parametrize(
    "other", [TREE[:1], (*TREE, np.zeros(1)), (TREE[0], {}, np.array([1, 2])), ({"kernel": np.zeros(3)}, {}, TREE[2])]
)
def test_another_network_is_refused_by_name(tmp_path, other):
    path = tmp_path / "key.npz"
    write(path, other)
    with pytest.raises(DamagedCacheError, match=f"{path} holds another network"):
        read(path, TREE)


def test_an_oracle_is_believed_only_under_the_name_that_it_was_made_for(tmp_path):
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    write(one, TREE)
    write(other, jax.tree.map(lambda x: x + 1, TREE))
    one.rename(tmp_path / "kept")
    other.rename(one)
    (tmp_path / "kept").rename(other)  # of the same network, and swapped
    for path, made_for in ((one, "other"), (other, "one")):
        said = f"{path} was made for another oracle, {tmp_path.name}/{made_for}; delete it"
        with pytest.raises(DamagedCacheError, match=said):
            read(path, TREE)


def test_a_link_in_an_oracles_place_is_not_followed(tmp_path):
    real, link, nowhere = tmp_path / "real.npz", tmp_path / "link.npz", tmp_path / "target"
    write(real, TREE)
    link.symlink_to(real)
    with pytest.raises(DamagedCacheError, match="symbolic link"):
        read(link, TREE)
    (tmp_path / "new.npz").symlink_to(nowhere)
    write(tmp_path / "new.npz", TREE)
    assert not nowhere.exists() and not (tmp_path / "new.npz").is_symlink()
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DamagedCacheError, match="not a plain file"):
        read(tmp_path / "pipe.npz", TREE)


def test_another_version_of_the_library_has_other_oracles(monkeypatch):
    key = content_hash(**INGREDIENTS)
    monkeypatch.setattr(bank, "__version__", "0.0.0")
    assert content_hash(**INGREDIENTS) != key


def test_what_is_cut_short_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "key.npz"

    def half(file, *arrays, **more):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        with pytest.raises(KeyboardInterrupt):
            write(path, TREE)
    assert not list(tmp_path.iterdir())
    write(path, TREE)
    assert_same(read(path, TREE))
    assert zipfile.is_zipfile(path)


def test_a_network_of_another_bank_is_refused_under_its_own_seed(tmp_path):
    one, other = (file_of(tmp_path / name, 3) for name in ("one", "other"))
    write(one, TREE)
    other.parent.mkdir()
    one.rename(other)
    with pytest.raises(DamagedCacheError, match="was made for another oracle, one/3; delete it"):
        read(other, TREE)


# --- how it grows ----------------------------------------------------------------------------------------------------


def tree_of(seed: int):
    return {"weights": np.full(3, seed, np.float32), "logits": np.full((2, 2), -seed, np.float32)}


class Trainer:
    """Trains, and remembers what it was asked for; stops where it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls, self.stop_at = [], stop_at

    def __call__(self, seeds, size):
        self.calls.append((seeds, size))
        if self.stop_at in seeds:
            raise KeyboardInterrupt
        return [tree_of(seed) for seed in seeds]


def grown(folder, seeds, trainer, at_once=4, **how) -> list[int]:
    found = []
    for seed, tree in members(folder, seeds, tree_of(0), trainer, at_once=at_once, **how):
        jax.tree.map(np.testing.assert_array_equal, tree, tree_of(seed))
        found.append(seed)
    return found


def test_asked_for_more_it_trains_what_is_missing_alone(tmp_path):
    first, second, third = Trainer(), Trainer(), Trainer()
    assert grown(tmp_path / "bank", range(8), first, at_once=8) == list(range(8))
    assert first.calls == [(tuple(range(8)), 8)]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "bank").iterdir()}
    assert sorted(grown(tmp_path / "bank", range(32), second, at_once=8)) == list(range(32))
    assert [len(seeds) for seeds, _ in second.calls] == [8, 8, 8]
    assert [seed for seeds, _ in second.calls for seed in seeds] == list(range(8, 32))
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "what was there is as it was"
    assert sorted(grown(tmp_path / "bank", [5, 31, 2], third)) == [2, 5, 31] and third.calls == []


@pytest.mark.parametrize(("number", "at_once"), [(1, 4), (4, 4), (5, 4), (9, 4), (10, 3), (3, 1)])
def test_all_calls_are_of_one_size_and_waste_less_than_a_place_each(tmp_path, number, at_once):
    trainer = Trainer()
    assert grown(tmp_path / "bank", range(number), trainer, at_once) == list(range(number))
    sizes = {size for _, size in trainer.calls}
    assert len(sizes) == 1 and max(sizes) <= at_once
    assert len(trainer.calls) * max(sizes) - number < len(trainer.calls) == -(-number // at_once)


def test_a_kill_loses_what_was_in_hand_and_no_more(tmp_path):
    killed, resumed = Trainer(stop_at=6), Trainer()
    with pytest.raises(KeyboardInterrupt):
        grown(tmp_path / "bank", range(12), killed)
    assert seeds_in(tmp_path / "bank", range(12)) == {0, 1, 2, 3}
    assert sorted(grown(tmp_path / "bank", range(12), resumed)) == list(range(12))
    assert resumed.calls == [((4, 5, 6, 7), 4), ((8, 9, 10, 11), 4)]


def test_one_that_is_damaged_is_named_before_any_is_trained(tmp_path):
    grown(tmp_path / "bank", range(3), Trainer())
    damaged, trainer = file_of(tmp_path / "bank", 1), Trainer()
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(DamagedCacheError, match=f"{damaged} is damaged"):
        grown(tmp_path / "bank", range(9), trainer)
    assert trainer.calls == []


def test_who_writes_and_who_looks_may_be_another_process(tmp_path):
    trainer = Trainer()
    assert grown(tmp_path / "bank", range(3), trainer, keep=False) == [0, 1, 2]
    assert not (tmp_path / "bank").exists()
    grown(tmp_path / "bank", [0], Trainer())
    assert grown(tmp_path / "bank", [0, 1], again := Trainer(), there=set(), keep=False) == [0, 1]
    assert again.calls == [((0, 1), 2)], "as the others were told"
