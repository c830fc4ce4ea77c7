"""Around a program: terminals without signs or readers, machines without accelerator or home. Real processes, few."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(
    folder: Path, *arguments: str, program: str = "task_aware", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{program}", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


DRY = ("--smoke", "--dry-run")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS is 'cuda': unset it, or set it to cpu"),
        ({"JAX_PLATFORMS": "nonsense"}, "JAX_PLATFORMS is 'nonsense': unset it, or set it to cpu"),
        ({"JAX_DISABLE_JIT": "1"}, "JAX_DISABLE_JIT is set"),
    ],
)
def test_what_jax_cannot_do_here_is_one_sentence(environment, said, tmp_path):
    if environment.get("JAX_PLATFORMS") == "cuda" and Path("/dev/nvidiactl").exists():
        pytest.skip("there is one")
    done = run(tmp_path, *DRY, **environment)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and said in line
    assert not any(tmp_path.iterdir())


def test_an_ascii_terminal_reads_every_sign(tmp_path):
    done = run(tmp_path, *DRY, "--capacity", "0", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (2, "Error: --capacity must be at least 1, got 0\n")
    shown = run(tmp_path, "--help", PYTHONIOENCODING="ascii")
    assert (
        shown.returncode == 0
        and shown.stdout.isascii()
        and "beta_Q" in shown.stdout
        and "Traceback" not in shown.stderr
    )
    seeds = run(tmp_path, *DRY, "--seeds", "4294967296", PYTHONIOENCODING="latin-1")
    assert "seeds must be in 0 ... 4294967295" in seeds.stderr


def test_a_narrow_dumb_terminal_without_colour(tmp_path):
    done = run(tmp_path, "--list", program="compare", COLUMNS="20", TERM="dumb", NO_COLOR="1")
    assert done.returncode == 0 and "ug_clu" in done.stdout and "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [("compare", "--list"), ("task_aware", "--help")])
def test_a_reader_that_leaves_is_no_error(arguments, tmp_path):
    program, option = arguments
    line = f"{sys.executable} -m experiments.{program} {option} | head -1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_a_closed_output_is_no_error(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = f"{sys.executable} -m experiments.task_aware --help >&-"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_home_folder(tmp_path):
    """Nothing asks for it but the cache, whose place one may give."""
    code = (
        "import pathlib, sys\n"
        "def home(cls): raise RuntimeError('no home')\n"
        "pathlib.Path.home = classmethod(home)\n"
        "from ugclu_jax.harness.cli import main\n"
        "sys.exit(main('task_aware', '', sys.argv[1:]))\n"
    )

    def go(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *DRY, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)

    refused = go()
    assert (
        refused.returncode == 2 and "--cache-dir is ~/.cache/ugclu_jax and this process has no home" in refused.stderr
    )
    assert go("--cache-dir", "cache").returncode == 0


def test_a_folder_that_cannot_be_written(tmp_path):
    done = run(tmp_path, "--smoke", "--cache-dir", str(tmp_path / "cache"), "--run-dir", "/proc/1/run")
    assert done.returncode == 2 and "folder /proc/1/run cannot be written" in done.stderr
    assert "give another --run-dir" in done.stderr
