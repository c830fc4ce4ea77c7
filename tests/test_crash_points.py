"""A kill at every single file event costs nothing: the next start finds the old or the new, whole, and sweeps up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests" / "crash_points.py"


def killed(name: str, stride: int = 1) -> int:
    """Points tried; the next start went right at all of them."""
    process = subprocess.run(
        [sys.executable, str(SCRIPT), name, str(stride)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["lost"] == [], process.stderr
    return found["tried"]


@pytest.mark.parametrize(("name", "least"), [("run", 6), ("open", 10), ("report", 3), ("oracle", 3), ("dataset", 12)])
def test_a_kill_at_any_file_event_leaves_the_old_or_the_new(name, least):
    """The figures of docs/limits.md are the numbers of points."""
    assert killed(name) >= least


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("new model", 15), ("model", 30)])
def test_a_kill_at_any_file_event_of_a_model_leaves_the_request_before_or_after(name, least):
    assert killed(name) >= least


@pytest.mark.parametrize(("name", "least"), [("save", 2), ("unlearn", 3)])
def test_a_kill_at_some_events_of_a_checkpoint_costs_nothing(name, least):
    assert killed(name, stride=17) >= least


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("save", 35), ("unlearn", 90)])
def test_a_kill_at_any_event_of_a_checkpoint_costs_nothing(name, least):
    assert killed(name) >= least
