"""Two processes on the loopback, two devices each: as one process with four; and what happens when one dies."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from ugclu_jax import checkpoints, devices
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.run_folder import RunFolder

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]
SMALL = ["--smoke", "--sequence", "L1 L2 U1", "--parallel", "shard_map"]


@pytest.fixture
def started():
    """`start(arguments) -> processes`; none outlives the test."""
    running = []

    def start(arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        joined = ["--devices", "all", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id"]
        for number in range(2):
            command = [sys.executable, "-m", "experiments.task_aware", *arguments, *joined, str(number)]
            environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            running.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
        return running

    yield start
    for process in running:
        process.kill()
        process.communicate()


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_do_what_one_does(started, tmp_path):
    # Few steps: sums in another order differ in the last bit of float32, and every step multiplies that.
    few = ["--learn.settings.outer-steps", "3", "--unlearn.settings.outer-steps", "3", "--model", "cnn_bn"]
    places = ["--cache-dir", str(tmp_path / "cache"), "--run-dir"]
    both = started([*SMALL, *few, *places, str(tmp_path / "two")])
    said = [process.communicate(timeout=400) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(text for texts in said for text in texts)
    assert "Report:" in said[0][0] and "Report:" not in said[1][0], "process 0 speaks"
    arguments = [*SMALL, *few, "--devices", "4", *places, str(tmp_path / "one")]
    assert main("task_aware", "", arguments) == 0  # with their oracles
    two, one = lines_of(tmp_path / "two"), lines_of(tmp_path / "one")
    assert len(two) == len(one) == 3
    for line, other in zip(two, one, strict=True):
        assert line["buffer"] == other["buffer"] and line["oracle"] == other["oracle"]
        theirs = other["model"]["KL"]
        for name, value in line["model"]["KL"].items():
            if value is None:
                assert theirs[name] is None, name
            else:
                assert value == pytest.approx(theirs[name], rel=1e-3), name
    banks = [sorted(path.name for path in bank.iterdir()) for bank in (tmp_path / "cache" / "oracles").iterdir()]
    assert banks == [["0.npz", "1.npz"]] * 3, "no oracle was trained twice"
    states = [ocp.load(RunFolder(tmp_path / name).checkpoints("ug_clu", 0) / "2") for name in ("two", "one")]
    assert len(jax.tree.leaves(states[0])) > 10
    for ours, theirs in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_others_end_when_one_dies(victim, started, tmp_path):
    folder = tmp_path / "run"
    both = started([*SMALL, "--cache-dir", str(tmp_path / "cache"), "--run-dir", str(folder)])
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert both[0].poll() is None, both[0].communicate()
        time.sleep(0.02)
    both[victim].kill()
    _, errors = both[1 - victim].communicate(timeout=3 * devices.HEARTBEAT_SECONDS)  # else this raises
    assert both[1 - victim].returncode != 0
    assert "was lost" in errors or "another task died" in errors
    assert checkpoints.requests(RunFolder(folder).checkpoints("ug_clu", 0)), "and what was done is kept"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--coordinator", "127.0.0.1:1", "--num-processes", "2"], "--process-id is missing"),
        (["--coordinator", "127.0.0.1:1", "--process-id", "0"], "--num-processes is missing"),
        (
            ["--coordinator", "127.0.0.1:1", "--num-processes", "2", "--process-id", "2"],
            "--process-id must be in 0 … 1, got 2",
        ),
    ],
)
def test_half_an_address_is_refused(arguments, said, tmp_path, capsys):
    places = ["--cache-dir", str(tmp_path / "cache"), "--run-dir", str(tmp_path / "run")]
    assert main("task_aware", "", [*SMALL, *places, *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
