"""What befalls a long run: kills, signals, a full disk, another process; and that the unlearned leaves its folder."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from ugclu_jax import checkpoints, data
from ugclu_jax.data.cuts import subset
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.plan import RunFailed
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.stream_run import resumable

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see test_checkpoints.py
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]
SMALL = ["--smoke", "--sequence", "L1 L2 U1", "--methods", "ug_clu", "der"]
FOLDERS = [("ug_clu", 0), ("der", 0)]


def run(*arguments) -> int:
    return main("task_aware", "", arguments)


def places(tmp_path, name):
    return ["--run-dir", str(tmp_path / name), "--cache-dir", str(tmp_path / "cache")]


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """Holds a finished run, and the oracles of all of them."""
    path = tmp_path_factory.mktemp("faults")
    assert run(*SMALL, *places(path, "finished")) == 0
    return path


def outcome(folder: Path):
    """All that a run found but times, and the bits of its last states."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["timing"]
    states = [RunFolder(folder).checkpoints(method, seed) / "2" for method, seed in FOLDERS]
    return lines, [checkpoints.digest(ocp.load(state), {}) for state in states]


# Kills and signals.

ZYGOTE = """
import os, random, signal, sys, time
from ugclu_jax.harness.cli import main  # imports only: no thread of XLA is there yet when it forks
moments, kills, arguments = random.Random(0), int(sys.argv[1]), sys.argv[2:]
rounds = killed = 0
longest = 6.0
while killed < kills:
    folder = arguments[-1] + str(rounds)
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        given = [*arguments[:-1], folder]
        code = main("task_aware", "", given)
        os._exit(code)
    start, moment = time.monotonic(), moments.uniform(0.2, longest)
    status = None
    while status is None and time.monotonic() < start + moment:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        time.sleep(0.005)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
    elif status == 0:
        longest = time.monotonic() - start  # so that most moments fall into the run
        rounds += 1
    else:
        sys.exit(f"child ended with status {status}")
print(rounds)
"""


@pytest.mark.slow
def test_thirty_kills_at_random_moments_change_no_bit(there, tmp_path):
    command = [sys.executable, "-c", ZYGOTE, "30", *SMALL, "--cache-dir", str(there / "cache"), "--run-dir"]
    result = subprocess.run(
        [*command, str(tmp_path / "killed-")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr
    rounds = int(result.stdout)
    last = tmp_path / f"killed-{rounds}"  # may be unfinished, or not begun
    assert run(*SMALL, "--cache-dir", str(there / "cache"), "--run-dir", str(last)) == 0
    for number in range(rounds + 1):
        assert outcome(tmp_path / f"killed-{number}") == outcome(there / "finished")


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 143, "Terminated"), (signal.SIGINT, 130, "Inter")]
)
def test_a_signal_ends_the_run_in_order(number, code, said, there, tmp_path):
    arguments = [*SMALL, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(there / "cache")]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.task_aware", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert said in errors and "Resume with:" in errors and "Traceback" not in errors
    folder = RunFolder(tmp_path / "run").checkpoints("ug_clu", 0)
    assert checkpoints.requests(folder) and not list(folder.glob("*.orbax-checkpoint-tmp")), "the save was finished"
    assert run(*arguments) == 0
    assert outcome(tmp_path / "run") == outcome(there / "finished")


def test_a_second_process_is_refused(there, tmp_path, capsys):
    shutil.copytree(there / "finished", tmp_path / "run")
    with RunFolder(tmp_path / "run").lock():
        arguments = [*SMALL, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(there / "cache")]
        assert run(*arguments) == 2
        message = re.sub(r"\s+", " ", capsys.readouterr().err)
        assert f"is in use by process {os.getpid()}" in message and "another --run-dir" in message
    assert run(*arguments) == 0, "free again"


# The disk.


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes; `resize(size)`."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)

    yield place, resize
    subprocess.run(["umount", "-l", place], check=True)


def test_a_checkpoint_that_does_not_fit_is_named_and_the_one_before_is_whole(small_disk):
    place, _ = small_disk
    state = {"kernel": jax.random.normal(jax.random.key(0), (200, 200))}
    checkpoints.save(place / "runs", 0, state, {})
    with pytest.raises(OSError, match="No space left"):
        (place / "filler").write_bytes(b"x" * 2**20)
    with pytest.raises(OSError, match=str(place / "runs" / "1")):
        checkpoints.save(place / "runs", 1, state, {})
    assert checkpoints.requests(place / "runs") == [0]
    restored = checkpoints.restore(place / "runs", 0, jax.tree.map(np.zeros_like, state))
    assert np.array_equal(restored.state["kernel"], state["kernel"])
    (place / "filler").unlink()
    checkpoints.save(place / "runs", 1, state, {})
    assert checkpoints.requests(place / "runs") == [0, 1]


def test_a_run_that_fills_the_disk_goes_on_when_there_is_room(small_disk, there, capsys, monkeypatch):
    place, resize = small_disk
    arguments = [*SMALL, "--run-dir", str(place / "run"), "--cache-dir", str(there / "cache")]
    begin = checkpoints.begin

    def fill_first(directory, request, state, metadata):
        if request == 1:
            with pytest.raises(OSError, match="No space left"):
                (place / "filler").write_bytes(b"x" * 2**20)
        return begin(directory, request, state, metadata)

    monkeypatch.setattr(checkpoints, "begin", fill_first)
    assert run(*arguments) == 1
    message = re.sub(r"\s+", " ", capsys.readouterr().err).strip()
    assert re.fullmatch(
        r"Run failed: checkpoint \S+/checkpoints/1 cannot be written: the disk is full. What was finished before is "
        r"saved. Make room in the folder of --run-dir and resume with: python -m experiments.task_aware .*",
        message,
    ), message
    assert checkpoints.requests(RunFolder(place / "run").checkpoints("ug_clu", 0)) == [0]
    monkeypatch.setattr(checkpoints, "begin", begin)
    resize("100m")
    assert run(*arguments) == 0
    assert outcome(place / "run") == outcome(there / "finished")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/runs/a/metrics.jsonl"),
            "'/runs/a/metrics.jsonl' cannot be written: the disk is full. What was finished before is saved. Make "
            "room in the folder of --run-dir and resume with:\n  again",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "/cache/oracles/a.npz"),
            "'/cache/oracles/a.npz' cannot be written: Permission denied. What was finished before is saved. See to "
            "it in the folder of --cache-dir and resume with:\n  again",
        ),
        (
            OSError("checkpoint /runs/a/1 cannot be written: the disk is full"),
            "checkpoint /runs/a/1 cannot be written: the disk is full. What was finished before is saved. Make "
            "room in the folder of --run-dir and resume with:\n  again",
        ),
    ],
)
def test_what_cannot_be_written_is_told_with_file_reason_setting_and_command(error, said):
    plan = SimpleNamespace(config=SimpleNamespace(cache_dir=Path("/cache")), resume_command="again")
    with pytest.raises(RunFailed) as caught, resumable(plan):
        raise error
    assert str(caught.value) == said


# What is unlearned, and other devices.


def remnants(folder: Path, forgotten: np.ndarray) -> list[str]:
    """Where one of the inputs still lies: in an array of a checkpoint, or in the bytes of a file."""
    wanted = {row.tobytes() for row in forgotten}
    found = []
    for path in folder.rglob("checkpoints/*"):
        for leaf in jax.tree.leaves(ocp.load(path)):
            array = np.asarray(leaf)
            if array.dtype == forgotten.dtype and array.shape[1:] == forgotten.shape[1:]:
                found += [str(path)] * any(row.tobytes() in wanted for row in array)
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [str(path)] * any(row in content for row in wanted)
    return found


def forgotten_inputs() -> np.ndarray:
    """Those of task 1 in the smoke run, but for what equals an input that is retained."""
    dataset = subset(data.load("digits"), 30, seed=0)
    task = np.isin(dataset.train_labels, [0, 1])
    kept = {row.tobytes() for row in dataset.train_inputs[~task]}
    return np.stack([row for row in dataset.train_inputs[task] if row.tobytes() not in kept])


@pytest.mark.parametrize("keep", ["1", "9"])
def test_no_byte_of_an_unlearned_input_is_left(keep, there, tmp_path):
    arguments = [*SMALL, "--keep", keep, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(there / "cache")]
    assert run(*arguments) == 0
    for method, seed in FOLDERS:
        folder = RunFolder(tmp_path / "run").checkpoints(method, seed)
        assert checkpoints.requests(folder) == ([2] if keep == "1" else [0, 1, 2])
    assert len(forgotten_inputs()) > 40 and remnants(tmp_path / "run", forgotten_inputs()) == []


def test_a_purge_that_was_cut_short_is_done_on_resuming(there, tmp_path, monkeypatch):
    arguments = [*SMALL, "--keep", "9", "--run-dir", str(tmp_path / "run"), "--cache-dir", str(there / "cache")]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "purge", lambda *rest: None)
        assert run(*arguments) == 0
    assert len(remnants(tmp_path / "run", forgotten_inputs())) >= 4, "so the test above would see them"
    assert run(*arguments) == 0
    assert remnants(tmp_path / "run", forgotten_inputs()) == []


def test_a_rewritten_checkpoint_leads_to_the_same_end(there, tmp_path):
    """The unlearn request itself removes what the purge removed: nothing that follows can tell."""
    shutil.copytree(there / "finished", tmp_path / "run")
    for method, seed in FOLDERS:
        shutil.rmtree(RunFolder(tmp_path / "run").checkpoints(method, seed) / "2")
    assert run(*SMALL, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(there / "cache")) == 0
    assert outcome(tmp_path / "run") == outcome(there / "finished")


@pytest.mark.slow
def test_a_run_is_resumed_on_another_number_of_devices(there, tmp_path):
    arguments = [*SMALL, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(there / "cache")]
    assert run(*arguments, "--devices", "2") == 0
    for method, seed in FOLDERS:
        shutil.rmtree(RunFolder(tmp_path / "run").checkpoints(method, seed) / "2")
    assert run(*arguments, "--devices", "4", "--parallel", "shard_map") == 0
    (lines, _), (alone, _) = outcome(tmp_path / "run"), outcome(there / "finished")
    for line, other in zip(lines, alone, strict=True):
        assert line["buffer"] == other["buffer"]
        assert line["model"]["KL"]["test"] == pytest.approx(other["model"]["KL"]["test"], rel=1e-2)
