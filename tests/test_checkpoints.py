"""Checkpoints: exact, atomic, and a flipped byte never passes for the truth."""

import gc
import logging
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import checkpoints
from ugclu_jax.harness.orbax_log import logged

# Where a load fails, Orbax leaves a closed event loop to the garbage collector, which pytest would report: here, and
# not in whichever test comes next.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def make_state(value=1.0):
    return {
        "params": {"kernel": jnp.full((40, 3), value), "bias": jnp.arange(3.0)},
        "model_state": {},
        "buffer": (jnp.arange(200, dtype=jnp.uint8), jnp.asarray([True, False]), jnp.asarray(7, jnp.uint32)),
        "key": jax.random.key(3),
    }


def leaves(state):
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731 (two uses, one line)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(state)]


def test_round_trip_is_exact(tmp_path):
    metadata = {"lines": [{"LA": 0.1 + 0.2, "UA": None}]}
    checkpoints.save(tmp_path, 0, make_state(2.5), metadata)
    restored = checkpoints.restore(tmp_path, 0, make_state())
    assert restored.request == 0 and restored.metadata == metadata
    for a, b in zip(leaves(restored.state), leaves(make_state(2.5)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_restored_state_runs_the_same_program_as_a_fresh_one(tmp_path):
    checkpoints.save(tmp_path, 0, make_state(), {})
    restored = checkpoints.restore(tmp_path, 0, make_state())
    request = jax.jit(lambda state: (state["params"]["kernel"] * 2, jax.random.split(state["key"])))
    assert request.lower(restored.state).as_text() == request.lower(make_state()).as_text()
    jax.tree.map(np.testing.assert_array_equal, request(restored.state)[0], request(make_state())[0])


def test_an_older_index_can_be_written_again(tmp_path):
    for request, value in ((0, 1.0), (1, 2.0), (2, 3.0), (1, 4.0)):
        checkpoints.save(tmp_path, request, make_state(value), {})
    assert checkpoints.requests(tmp_path) == [0, 1, 2]
    restored = checkpoints.restore(tmp_path, 1, make_state())
    assert float(restored.state["params"]["kernel"][0, 0]) == 4.0


def test_every_flipped_byte_is_caught_or_harmless(tmp_path):
    state, metadata = make_state(2.5), {"lines": [1, 2, 3]}
    checkpoints.save(tmp_path, 0, state, metadata)
    files = sorted(path for path in (tmp_path / "0").rglob("*") if path.is_file() and path.stat().st_size)
    rng = np.random.default_rng(0)
    caught = 0
    for _ in range(25):
        path = files[rng.integers(len(files))]
        original = path.read_bytes()
        offset = int(rng.integers(len(original)))
        path.write_bytes(original[:offset] + bytes([original[offset] ^ 0x10]) + original[offset + 1 :])
        try:
            restored = checkpoints.restore(tmp_path, 0, make_state())
        except checkpoints.CorruptCheckpointError as error:
            assert str(tmp_path / "0") in str(error)
            caught += 1
        else:
            assert checkpoints.digest(restored.state, restored.metadata) == checkpoints.digest(state, metadata)
        path.write_bytes(original)
    assert caught > 0


@pytest.mark.parametrize("content", [b"", b"{", b'{"item_handlers": 3}', b"\xff"])
def test_a_damaged_checkpoint_harms_no_other(tmp_path, content):
    for request in range(2):
        checkpoints.save(tmp_path, request, make_state(float(request)), {})
    (tmp_path / "1" / "_CHECKPOINT_METADATA").write_bytes(content)
    with pytest.raises(checkpoints.CorruptCheckpointError, match=str(tmp_path / "1")):
        checkpoints.restore(tmp_path, 1, make_state())
    assert float(checkpoints.restore(tmp_path, 0, make_state()).state["params"]["kernel"][0, 0]) == 0.0
    for request in (1, 2):  # the run goes on, over the damaged one and past it
        checkpoints.save(tmp_path, request, make_state(3.0), {})
        assert float(checkpoints.restore(tmp_path, request, make_state()).state["params"]["kernel"][0, 0]) == 3.0


def test_a_missing_file_is_named(tmp_path):
    checkpoints.save(tmp_path, 0, make_state(), {})
    for path in (tmp_path / "0").rglob("*"):
        if path.is_file() and path.name.startswith("manifest"):
            path.unlink()
    with pytest.raises(checkpoints.CorruptCheckpointError, match=str(tmp_path / "0")):
        checkpoints.restore(tmp_path, 0, make_state())


WHOSE = {"run": "a1", "method": "ug_clu", "seed": 0, "data": "d", "version": "1", "request": 1}


@pytest.mark.parametrize("key", WHOSE)
def test_a_checkpoint_that_belongs_elsewhere_is_named_with_what_differs(tmp_path, key):
    checkpoints.save(tmp_path, 1, make_state(), {"identity": WHOSE})
    other = {**WHOSE, key: "another"}
    assert checkpoints.restore(tmp_path, 1, make_state(), WHOSE).metadata == {"identity": WHOSE}
    expected = f"checkpoint {tmp_path}/1 belongs elsewhere ({key} {WHOSE[key]!r} there, 'another' here)"
    with pytest.raises(checkpoints.ForeignCheckpointError, match=f"^{re.escape(expected)}$"):
        checkpoints.restore(tmp_path, 1, make_state(), other)


def test_another_structure_is_told_apart_from_another_run(tmp_path):
    checkpoints.save(tmp_path, 1, {"other": jnp.zeros(3)}, {"identity": {**WHOSE, "method": "der"}})
    with pytest.raises(checkpoints.ForeignCheckpointError, match="'der' there, 'ug_clu' here"):
        checkpoints.restore(tmp_path, 1, make_state(), WHOSE)
    with pytest.raises(checkpoints.CorruptCheckpointError, match="cannot be read"):
        checkpoints.restore(tmp_path, 1, make_state())
    checkpoints.save(tmp_path, 0, make_state(), {})  # of before there were identities
    with pytest.raises(checkpoints.ForeignCheckpointError, match="run None there, 'a1' here"):
        checkpoints.restore(tmp_path, 0, make_state(), WHOSE)


def test_a_purge_deletes_what_belongs_elsewhere(tmp_path):
    for request in range(3):
        checkpoints.save(tmp_path, request, make_state(), {"identity": {**WHOSE, "request": request}})
    shutil.copytree(tmp_path / "2", tmp_path / "0", dirs_exist_ok=True)
    asked = lambda request: {**WHOSE, "request": request}  # noqa: E731 (one line)
    checkpoints.purge(tmp_path, 2, make_state(), lambda state: make_state(0.0), asked)
    assert checkpoints.requests(tmp_path) == [1, 2]
    assert float(checkpoints.restore(tmp_path, 1, make_state(), asked(1)).state["params"]["kernel"][0, 0]) == 0.0


def test_later_checkpoints_crowd_out_none_of_the_run(tmp_path):
    for request in (0, 1, 2, 99):
        checkpoints.save(tmp_path, request, make_state(), {})
    checkpoints.keep_newest(tmp_path, 1, 2)
    assert checkpoints.requests(tmp_path) == [2, 99]


def test_only_numbers_as_they_are_written_are_requests(tmp_path):
    for name in ("0", "10", "07", "²", "٣", "-1", "1.orbax-checkpoint-tmp", "9" * 30):
        (tmp_path / name).mkdir()
    (tmp_path / "3").write_text("a file")
    assert checkpoints.requests(tmp_path) == [0, 10]


def test_links_are_removed_and_what_they_lead_to_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "kept").write_text("kept")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("0", "5.orbax-checkpoint-tmp"):
        (folder / name).symlink_to(tmp_path / "real")
    checkpoints.save(folder, 1, make_state(), {})
    checkpoints.keep_newest(folder, 1, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["1"]
    assert (tmp_path / "real" / "kept").read_text() == "kept"


def test_the_pages_that_orbax_logs_stay_in_a_file(tmp_path, capfd):
    log, folder = tmp_path / "orbax.log", tmp_path / "checkpoints"
    with logged(log):
        checkpoints.save(folder, 0, make_state(), {})
        assert not log.exists(), "nothing to say"
        for path in (folder / "0").rglob("manifest*"):
            path.unlink()
        with pytest.raises(checkpoints.CorruptCheckpointError, match=f"^checkpoint {folder}/0 cannot be read: [^\n]+$"):
            checkpoints.restore(folder, 0, make_state())
    assert "WARNING" in log.read_text()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    before = log.read_text()
    logging.getLogger("absl").warning("as before")
    assert log.read_text() == before


def test_a_link_in_the_logs_place_is_not_followed(tmp_path, capfd):
    (tmp_path / "orbax.log").symlink_to(tmp_path / "target")
    with logged(tmp_path / "orbax.log"):
        logging.getLogger("absl").error("a page")
    assert "a page" in (tmp_path / "orbax.log").read_text()
    assert not (tmp_path / "target").exists() and capfd.readouterr().err == ""


def test_half_written_checkpoints_do_not_count(tmp_path):
    checkpoints.save(tmp_path, 0, make_state(), {})
    (tmp_path / "1.orbax-checkpoint-tmp").mkdir()
    assert checkpoints.requests(tmp_path) == [0]
    checkpoints.save(tmp_path, 1, make_state(), {})
    assert checkpoints.requests(tmp_path) == [0, 1]
    assert not list(Path(tmp_path).glob("*tmp*"))
