"""What `--help` of an experiment waits for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"sklearn", "scipy", "matplotlib", "orbax", "tensorflow_datasets", "torch"}


@pytest.mark.parametrize("name", ["task_aware", "compare", "search", "hypergradients"])
def test_help_imports_nothing_heavy_that_it_does_not_need(name):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"experiments.{name}", "--help"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    packages = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert {"jax", "tyro"} <= packages, "the list of imports was read"
    assert not packages & HEAVY
    assert "--learn.hyper.loss-exponent" in done.stdout
