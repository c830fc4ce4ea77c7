"""Any path that the file system takes works for every folder option: what is written there is read back."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import bank, checkpoints, data
from ugclu_jax.data import cache
from ugclu_jax.harness.run_folder import RunFolder, check_writable

STATE = {"kernel": jnp.arange(5.0), "key": jax.random.key(1)}
FAMILIES = {
    "plain": "plain",
    "spaces": "  a b ",
    "per cent": "50%",
    "per cent code": "%2F%20",
    "number sign": "x#y",
    "question mark": "a?b=c",
    "quotes": "a\"b'c`d",
    "dollar": "$HOME",
    "braces": "{a}${b}",
    "composed": "\u00fc",
    "decomposed": "u\u0308",
    "other scripts": "日本 é",
    "right to left": "\u202eabc",
    "newline": "a\nb",
    "control characters": "\x1b[31m\x07\t\x7f",
    "trailing dot": "a.",
    "dots": "...",
    "Orbax's own": "0.orbax-checkpoint-tmp",
    "Orbax's own with a time": "0.orbax-checkpoint-tmp-123",
    "Orbax's metadata": "_CHECKPOINT_METADATA",
    "brackets": "[x]",
    "negated brackets": "[!x]",
    "stars": "a*?**",
    "bucket": "gs:",
    "other buckets": "s3:",
    "scheme": "file:",
    "web": "http:",
    "key-value store": "kvstore|zip:",
    "archive": "x.zip",
    "home": "~",
    "another's home": "~root",
    "option": "--keep",
    "backslash": "a\\b\\",
    "shell": "a|b;c&d<e>f!(g)^",
    "colon": "C:x",
    "comma and at": "a,b@c=d+e",
    "longest": "x" * 255,
    "longest of two bytes": "é" * 127,
    "not UTF-8": os.fsdecode(b"\xff\xfe"),
    "partly UTF-8": os.fsdecode(b"caf\xe9"),
    "markup": "[red]x[/]",
    "numbers": "7",
    "our own": "checkpoints",
    "lock": "lock",
    "partial": ".partial-0",
}


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path) -> Path:
    return tmp_path / FAMILIES[request.param] / "deeper"


def test_checkpoints_are_read_back(folder):
    checkpoints.save(folder, 0, STATE, {"lines": [1]})
    assert checkpoints.requests(folder) == [0]
    restored = checkpoints.restore(folder, 0, STATE)
    assert np.array_equal(restored.state["kernel"], STATE["kernel"]) and restored.metadata == {"lines": [1]}
    assert [path.name for path in folder.parent.parent.iterdir()] == [folder.parent.name], "and nothing lies elsewhere"


def test_runs_and_caches_are_read_back(folder):
    run = RunFolder(folder)
    check_writable(folder, "--run-dir")
    run.lock().close()
    run.open({"directory": str(folder)}, "examples", "stream")
    run.open({"directory": str(folder)}, "examples", "stream")
    run.write_trace("er", 0, 0, {"losses": np.arange(3)})
    assert run.trace("er", 0, 0).is_file() and run.sweep() == []
    for _ in range(2):
        bank.write(bank.file_of(folder / "oracles" / "key", 0), [np.arange(3)])
        assert bank.read(bank.file_of(folder / "oracles" / "key", 0), [np.arange(3)])[0].tolist() == [0, 1, 2]
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4, 1)
    made = data.from_arrays(folder.parent.name, images, [0, 1], images, [0, 1])
    for _ in range(2):
        loaded = cache.cached(folder / "data", made.name, {"source": str(folder)}, lambda _: made)
        assert np.array_equal(loaded.train_inputs, images)


def test_folders_behind_links_and_relative_ones_are_read_back(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    for request, folder in enumerate((Path("link"), Path("real"), Path("./real/../link"), Path("new/folder"))):
        checkpoints.save(folder.absolute(), request, STATE, {})
        assert checkpoints.restore(folder.absolute(), request, STATE).request == request
    assert checkpoints.requests(tmp_path / "real") == [0, 1, 2]


def test_a_path_that_leaves_no_room_for_what_lies_in_it_is_refused(tmp_path):
    path = tmp_path.joinpath(*["x" * 200] * 19)
    with pytest.raises(OSError, match="has a path longer than 3696 bytes; give another --run-dir"):
        check_writable(path, "--run-dir")
    with pytest.raises(OSError, match=r"cannot be written \(File name too long\); give another --run-dir"):
        check_writable(tmp_path / ("x" * 256), "--run-dir")
    assert list(tmp_path.iterdir()) == []
    nearly = tmp_path.joinpath(*["x" * 200] * ((3600 - len(str(tmp_path))) // 201))
    checkpoints.save(RunFolder(nearly).checkpoints("m" * 100, 2**31), 10**6, STATE, {})
