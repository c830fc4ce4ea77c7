"""The array cache: built once, memory-mapped, and never used half-written or damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ugclu_jax import data
from ugclu_jax.data import cache

KEY = {"source": "abc", "size": 8}


def dataset(seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    return data.from_arrays("toy", images, np.arange(30) % 3, images[:6], np.arange(6) % 3, class_names="abc")


class Source:
    """Counts how often it is asked."""

    def __init__(self, made=None):
        self.made, self.calls = made or dataset(), 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "extra.txt").write_text("kept beside the arrays")
        return self.made


def refuse(folder):
    raise AssertionError("the source was touched")


def test_a_second_load_does_not_touch_the_source(tmp_path):
    source = Source()
    first = cache.cached(tmp_path, "toy", KEY, source)
    second = cache.cached(tmp_path, "toy", KEY, refuse)
    assert source.calls == 1
    for loaded in (first, second):
        assert loaded.fingerprint() == source.made.fingerprint()
        assert loaded.mean == source.made.mean and loaded.class_names == ("a", "b", "c")
    assert (cache.entry_path(tmp_path, "toy", KEY) / "extra.txt").read_text() == "kept beside the arrays"


def test_arrays_are_memory_mapped_and_pass_through_the_cuts(tmp_path):
    mapped, plain = cache.cached(tmp_path, "toy", KEY, Source()), dataset()
    assert isinstance(mapped.train_inputs, np.memmap) and mapped.train_inputs.mode == "r"
    with pytest.raises(ValueError, match="read-only"):
        mapped.train_inputs[0] = 0
    for cut in (
        lambda d: data.hold_out(d, 6, seed=1),
        lambda d: data.subset(d, 2, seed=1),
        lambda d: data.with_label_noise(d, 0.5, seed=1)[0],
    ):
        assert cut(mapped).fingerprint() == cut(plain).fingerprint()
    assert not isinstance(data.subset(mapped, 2, seed=1).train_inputs, np.memmap)  # a copy: the file may go


def test_everything_in_the_key_matters(tmp_path, monkeypatch):
    paths = [
        cache.entry_path(tmp_path, "toy", KEY),
        cache.entry_path(tmp_path, "other", KEY),
        cache.entry_path(tmp_path, "toy", KEY | {"size": 9}),
        cache.entry_path(tmp_path, "toy", KEY | {"more": None}),
    ]
    monkeypatch.setattr(cache, "FORMAT_VERSION", cache.FORMAT_VERSION + 1)
    paths.append(cache.entry_path(tmp_path, "toy", KEY))
    assert len(set(paths)) == len(paths)
    assert cache.entry_path(None, "toy", KEY).parent == cache.default_directory()


def test_a_source_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "train_inputs.npy").write_bytes(b"half")
        raise ValueError("a damaged source")

    with pytest.raises(ValueError, match="a damaged source"):
        cache.cached(tmp_path, "toy", KEY, fail)
    assert list(tmp_path.iterdir()) == []
    assert cache.cached(tmp_path, "toy", KEY, Source()).fingerprint() == dataset().fingerprint()


KILLED = """
import os, pathlib, signal, sys
import numpy as np
from ugclu_jax import data
from ugclu_jax.data import cache

save, saved = np.save, []
def save_and_die(path, array, **options):
    save(path, array, **options)
    saved.append(path)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
np.save = save_and_die
images = np.zeros((4, 2, 2, 1), np.uint8)
made = data.from_arrays("toy", images, [0, 1, 0, 1], images, [0, 1, 0, 1])
cache.cached(pathlib.Path(sys.argv[1]), "toy", {"source": "abc", "size": 8}, lambda folder: made)
"""


def test_what_a_killed_process_wrote_is_not_used(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": "."})
    assert run.returncode == -signal.SIGKILL, run.stderr
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".partial-") and len(list(partial.iterdir())) == 3
    source = Source()
    assert cache.cached(tmp_path, "toy", KEY, source).fingerprint() == dataset().fingerprint()
    assert source.calls == 1
    assert list(tmp_path.iterdir()) == [cache.entry_path(tmp_path, "toy", KEY)], "and it was swept away"


def test_the_second_of_two_writers_uses_what_the_first_wrote(tmp_path):
    def overtaken(folder):
        cache.cached(tmp_path, "toy", KEY, Source())
        return dataset()

    assert cache.cached(tmp_path, "toy", KEY, overtaken).fingerprint() == dataset().fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == [cache.entry_path(tmp_path, "toy", KEY).name]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "truncated": ("train_inputs.npy", lambda path: os.truncate(path, path.stat().st_size - 1)),
    "flipped": ("test_labels.npy", flip),
    "gone": ("train_keys.npy", Path.unlink),
    "extra file changed": ("extra.txt", lambda path: path.write_text("x")),
    "no manifest": ("manifest.json", Path.unlink),
    "manifest cut": ("manifest.json", lambda path: os.truncate(path, 50)),
    "manifest a list": ("manifest.json", lambda path: path.write_text("[]")),
    "manifest lacks a file": (
        "manifest.json",
        lambda path: path.write_text(json.dumps(without(path, "test_keys.npy"))),
    ),
}


def without(path: Path, name: str) -> dict:
    manifest = json.loads(path.read_text())
    del manifest["files"][name]
    return manifest


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def changed(path: Path) -> None:
    """A name of a class, spelt with care as JSON."""
    path.write_text(path.read_text().replace('"a"', '"z"', 1))


DAMAGES |= {
    "a link": ("train_inputs.npy", linked),
    "the manifest a link": ("manifest.json", linked),
    "another class name": ("manifest.json", changed),
    "nested without end": ("manifest.json", lambda path: path.write_text("[" * 100_000)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_named_with_the_fix(tmp_path, damage):
    name, spoil = DAMAGES[damage]
    cache.cached(tmp_path, "toy", KEY, Source())
    entry = cache.entry_path(tmp_path, "toy", KEY)
    spoil(entry / name)
    with pytest.raises(ValueError, match="damaged") as error:
        cache.cached(tmp_path, "toy", KEY, refuse)
    assert str(entry / name) in str(error.value) and f"delete the folder {entry}" in str(error.value)


def test_an_entry_under_the_name_of_another_is_refused(tmp_path):
    for size in (8, 9):
        cache.cached(tmp_path, "toy", KEY | {"size": size}, Source(dataset(size)))
    one, other = (cache.entry_path(tmp_path, "toy", KEY | {"size": size}) for size in (8, 9))
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(ValueError, match=r"is of another entry: 'toy' by .*'size': 9"):
        cache.cached(tmp_path, "toy", KEY, refuse)


@pytest.mark.parametrize("name", ["x" * 255, "日" * 85, "a b", "%", "[x]", "x\udcff"])
def test_any_name_of_a_folder_names_an_entry(tmp_path, name):
    source = Source()
    for _ in range(2):
        loaded = cache.cached(tmp_path, name, KEY, source)
        assert loaded.name == name and np.array_equal(loaded.train_inputs, dataset().train_inputs)
    assert source.calls == 1


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        cache.cached(tmp_path / "file", "toy", KEY, Source())
