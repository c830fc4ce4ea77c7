"""Jobs of SLURM without a SLURM: submitit's own queue on this machine runs them, and a stand-in of sbatch takes them.

`.ci/slurm` runs the same on a real one where Debian's packages can be had.
"""

import os
import re
import stat
import time
from pathlib import Path

import pytest

from ugclu_jax.harness import slurm
from ugclu_jax.harness.cells import Cell, folder_of, prepare
from ugclu_jax.harness.grid_cells import GridCells
from ugclu_jax.harness.slurm import Resources, names_of_parameters, read_jobs, states, submit
from ugclu_jax.harness.standing import standings

local = pytest.importorskip("submitit.local.local")
slurm_jobs = pytest.importorskip("submitit.slurm.slurm")
PROGRAM = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir(parents=True, exist_ok=True)
starts = folder / "starts"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
if "--stopped" in sys.argv and len(starts.read_text()) == 1:
    sys.exit(143)
if "--waits" in sys.argv and len(starts.read_text()) == 1:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    (folder / "there").touch()
    time.sleep(120)
if "--fails" in sys.argv:
    sys.exit(1)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "one.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path / "study"


@pytest.fixture
def queue(monkeypatch):
    """Submitit's queue of this machine, whose processes it leaves to themselves: here they are waited for."""
    started, start = [], local.start_controller

    def remembered(*arguments, **options):
        started.append(start(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(local, "start_controller", remembered)
    yield
    for process in started:
        process.wait(timeout=120)


def grid_of(*others: Cell) -> GridCells:
    first = Cell("first", "one", {})
    return GridCells((first, *others), {cell.name: "first" for cell in others}, {})


def until(study, cells, wanted, seconds=120):
    end = time.monotonic() + seconds
    while {name: each.state for name, each in standings(study, cells.cells).items()} != wanted:
        assert time.monotonic() < end, standings(study, cells.cells)
        time.sleep(0.1)


def starts(study, name):
    return (folder_of(study, Cell(name, "", {})) / "starts").read_text()


@pytest.mark.slow
def test_jobs_run_their_cells_and_one_that_was_stopped_is_queued_again(study, queue):
    cells = grid_of(Cell("stopped", "one", {}, ("--stopped",)), Cell("bad", "one", {}, ("--fails",)))
    prepare(study, cells.cells)
    submitted = submit(study, cells, standings(study, cells.cells), "programs", Resources(), cluster="local")
    assert list(submitted) == ["first", "stopped", "bad"]
    assert read_jobs(study) == {name: ["local", job] for name, job in submitted.items()}
    until(study, cells, {"first": "finished", "stopped": "finished", "bad": "failed"})
    assert [starts(study, name) for name in submitted] == ["x", "xx", "x"]
    again = submit(study, cells, standings(study, cells.cells), "programs", Resources(), cluster="local")
    assert list(again) == ["bad"], "what has finished is not run again"
    assert read_jobs(study)["first"] == ["local", submitted["first"]]
    end = time.monotonic() + 120
    while starts(study, "bad") != "xx":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert set(states(study)) == {"first", "stopped", "bad"}


@pytest.mark.slow
def test_a_job_that_is_warned_stops_its_cell_and_is_queued_again(study, queue):
    cells = grid_of(Cell("waits", "one", {}, ("--waits",)))
    prepare(study, cells.cells)
    found = {name: each for name, each in standings(study, cells.cells).items() if name == "waits"}
    job = submit(study, cells, found, "programs", Resources(), cluster="local")["waits"]
    end = time.monotonic() + 120
    while not (folder_of(study, cells.others[0]) / "there").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    # As the cluster does: the process that submitit started for the job, the parent of the cell's.
    (task,) = Path(f"/proc/{job}/task/{job}/children").read_text().split()
    os.kill(int(task), slurm.requeueing_signal())
    until(study, cells, {"first": "waiting", "waits": "finished"})
    assert starts(study, "waits") == "xx"


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Programs that stand in for SLURM's: the files that sbatch was given are kept, and sacct knows two states."""
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "srun": "exit 0",
        "sbatch": f'n=$(ls {folder}/*.sbatch 2>/dev/null | wc -l); n=$((n + 101)); cp "$1" {folder}/$n.sbatch\n'
        'echo "Submitted batch job $n"',
        "sacct": 'printf "JobID|State|NodeList\\n101|COMPLETED|a\\n102_0|CANCELLED by 0|a\\n102_[1]|PENDING|None\\n"',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_an_array_a_stage_the_second_after_the_first(study, sbatch):
    cells = grid_of(Cell("a", "one", {}), Cell("b", "one", {}))
    prepare(study, cells.cells)
    resources = Resources(hosts=2, memory_gb=1.5, hours=2, at_once=7, others={"partition": "gpu", "gpus-per-node": "4"})
    submitted = submit(study, cells, standings(study, cells.cells), "programs", resources)
    assert submitted == {"first": "101", "a": "102_0", "b": "102_1"}
    first, second = (dict(flags((sbatch / f"{job}.sbatch").read_text())) for job in (101, 102))
    for asked in (first, second):
        assert (asked["nodes"], asked["ntasks-per-node"], asked["mem"], asked["time"]) == ("2", "1", "1536MB", "120")
        assert (asked["partition"], asked["gpus-per-node"], asked["requeue"]) == ("gpu", "4", "")
        assert asked["signal"] == "USR2@120"
    assert "array" not in first and "dependency" not in first
    assert second["array"] == "0-1%2" and second["dependency"] == "afterok:101"
    assert second["kill-on-invalid-dep"] == "yes", "or they would wait for ever"
    jobs = states(study)
    assert jobs == {"first": "COMPLETED", "a": "CANCELLED", "b": "PENDING"}
    assert {name: each.state for name, each in standings(study, cells.cells, jobs).items()} == {
        "first": "waiting", "a": "failed", "b": "waiting"
    }  # fmt: skip


def test_a_queue_without_accounting_is_unknown_and_prints_nothing_on_stdout(study, sbatch, capfd, monkeypatch):
    # One a process, which has heard of other tests' jobs of these numbers.
    monkeypatch.setattr(slurm_jobs.SlurmJob, "watcher", slurm_jobs.SlurmInfoWatcher())
    (sbatch / "sacct").write_text("#!/bin/sh\necho 'accounting storage is disabled' >&2\nexit 1\n")
    cells = grid_of(Cell("a", "one", {}))
    prepare(study, cells.cells)
    submit(study, cells, standings(study, cells.cells), "programs", Resources())
    assert set(states(study).values()) == {"UNKNOWN"}
    out, err = capfd.readouterr()
    assert out == "" and set(err.splitlines()) == {"accounting storage is disabled"}


def flags(text):
    return re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, flags=re.MULTILINE)


def test_without_slurm_it_is_said(study, monkeypatch):
    cells = grid_of()
    prepare(study, cells.cells)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ValueError, match=r"jobs cannot be submitted to slurm: .*srun"):
        submit(study, cells, standings(study, cells.cells), "programs", Resources())


def test_a_damaged_record_of_jobs_is_named(study):
    study.mkdir()
    (study / "jobs.json").write_text("[")
    with pytest.raises(ValueError, match=r"jobs\.json is damaged"):
        read_jobs(study)


@pytest.mark.parametrize("words", [["partition"], ["=gpu"], ["partition="], ["a=1", "a=2"]])
def test_parameters_are_name_and_value(words):
    with pytest.raises(ValueError, match=r"slurm has "):
        names_of_parameters(words)
