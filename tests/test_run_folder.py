"""A run's folder: it belongs to one configuration, and what is in it is whole."""

import json
import os

import numpy as np
import pytest

from ugclu_jax import files
from ugclu_jax.harness.run_folder import RunFolder, check_writable, differences

CONFIG = {"dataset": "digits", "learn": {"hyper": {"clip_norm": 1.0}}, "seeds": [0]}


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "deep" / "run")
    made.open(CONFIG, "examples", "stream")
    return made


def test_a_new_folder_holds_configuration_and_stream(folder):
    there = folder.read_config()
    assert there.pop("run") == folder.run_id() and there == CONFIG
    assert (folder.path / "stream.json").read_text() == "stream"
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "config.json",
        "digests.json",
        "examples.csv",
        "stream.json",
    ]


def test_the_same_configuration_takes_it_up_untouched(folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    folder.open(json.loads(json.dumps(CONFIG)), "examples", "stream")
    assert {path.name: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before


def test_another_configuration_is_refused_with_every_differing_key(folder):
    other = {"dataset": "fashion_mnist", "learn": {"hyper": {"clip_norm": 2.0}}, "seeds": [0], "model": "cnn"}
    with pytest.raises(ValueError) as caught:
        folder.open(other, "examples", "stream")
    message = str(caught.value)
    assert str(folder.path) in message and "--run-dir" in message and "seeds" not in message
    assert 'dataset ("digits" there, "fashion_mnist" here)' in message
    assert "learn.hyper.clip_norm (1.0 there, 2.0 here)" in message
    assert 'model ("nothing" there, "cnn" here)' in message
    there = folder.read_config()
    assert there.pop("run") == folder.run_id() and there == CONFIG


def test_a_stream_that_goes_on_is_written(folder):
    run = folder.run_id()
    folder.open(CONFIG, "other examples", "stream, and more")
    assert folder.stream.read_text() == "stream, and more" and folder.examples.read_text() == "examples"
    assert folder.run_id() == run


@pytest.mark.parametrize("text", ["", "{", "3", "null", "{}", '{"run": 3}', '{"run": "../other"}'])
def test_a_damaged_configuration_is_named(folder, text):
    (folder.path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is not a configuration .* give another --run-dir"):
        folder.open(CONFIG, "examples", "stream")


def test_a_folder_without_configuration_is_one_that_was_cut_short(folder):
    (folder.path / "config.json").unlink()
    folder.open(CONFIG, "examples", "another")
    assert (folder.path / "stream.json").read_text() == "another"


def test_a_folder_that_cannot_be_written_is_named_with_its_setting(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError, match=f"folder {path} cannot be written .* give another --cache-dir"):
            check_writable(path, "--cache-dir")
        with pytest.raises(OSError, match=f"folder {path} cannot be written .* give another --run-dir"):
            RunFolder(path).open(CONFIG, "examples", "stream")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="Permission denied"):
            check_writable(tmp_path, "--run-dir")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("in_place", ["link", "link to nothing", "pipe", "folder", "another file"])
def test_what_is_no_lock_file_is_refused_and_left_as_it_is(folder, tmp_path, in_place):
    lock, target = folder.path / "lock", tmp_path / "target"
    if in_place == "link":
        target.write_text("precious")
    if in_place.startswith("link"):
        lock.symlink_to(target)
    elif in_place == "pipe":
        os.mkfifo(lock)
    elif in_place == "folder":
        lock.mkdir()
    else:
        os.link(folder.path / "config.json", lock)
    before = {path: path.read_bytes() for path in (target, folder.path / "config.json") if path.exists()}
    with pytest.raises(ValueError, match=f"{lock} is .*; delete it, or give another --run-dir"):
        folder.lock()
    assert {path: path.read_bytes() for path in before} == before and target.exists() == (in_place == "link")


def test_a_lock_is_left_by_the_dead_and_held_by_the_living(folder):
    (folder.path / "lock").write_text("4194303")
    with folder.lock(), pytest.raises(ValueError, match=f"in use by process {os.getpid()};"):
        folder.lock()
    folder.lock().close()


def test_what_a_kill_left_is_swept(folder):
    folder.write_trace("ug_clu", 0, 0, {"task_losses": np.arange(3.0)})
    traces = folder.trace("ug_clu", 0, 0).parent
    left = [folder.path / ".partial-1", traces / ".partial-2"]
    for path in left:
        path.write_text("half")
    assert folder.sweep() == left
    assert [path.name for path in traces.iterdir()] == ["0.npz"]


def test_differences_look_inside_and_both_ways():
    assert not list(differences(CONFIG, CONFIG))
    assert list(differences({"a": 1, "c": {"d": 0}}, {"b": None, "c": {"d": 0}})) == [
        'a (1 there, "nothing" here)',
        'b ("nothing" there, null here)',
    ]
    assert list(differences({"a": {"b": 1}}, {"a": 2})) == ['a ({"b": 1} there, 2 here)']


def test_metrics_and_traces_come_back(folder):
    lines = [{"request": 0, "KL": 0.1 + 0.2, "UA": None}, {"request": 1}]
    folder.write_metrics(lines)
    assert [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()] == lines
    folder.write_trace("ug_clu", 3, 1, {"task_losses": np.arange(3.0)})
    with np.load(folder.trace("ug_clu", 3, 1)) as stored:
        np.testing.assert_array_equal(stored["task_losses"], np.arange(3.0))
    assert folder.trace("ug_clu", 3, 1).parent.parent == folder.checkpoints("ug_clu", 3).parent
    assert not list(folder.path.rglob(f"{files.PARTIAL}*"))
