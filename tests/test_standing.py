"""How cells stand, and cells that die: with programs that take no time."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from rich.console import Console

from ugclu_jax.harness import standing
from ugclu_jax.harness.cells import Cell, died, folder_of, prepare, run_cells
from ugclu_jax.harness.plan import RunFailed
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.signals import Stop
from ugclu_jax.harness.standing import Recorder, Standing, counted, serve, standing_of, standings, status_table

PROGRAM = """
import json, os, pathlib, signal, sys, time
settings = json.loads(pathlib.Path(sys.argv[sys.argv.index("--settings") + 1]).read_text())
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir(parents=True, exist_ok=True)
with (folder.parent / "order").open("a") as file:
    file.write(folder.name + " ")
starts = folder / "starts"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
if len(starts.read_text()) <= settings.get("dies", 0):
    os.kill(os.getpid(), settings.get("by", signal.SIGKILL))
    time.sleep(60)
sys.exit(settings.get("code", 0))
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "one.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path / "study"


def served(study, cells, **options):
    prepare(study, cells)
    run_cells(study, cells, "programs", 1, Console(quiet=True), Stop(), watcher=Recorder(study), **options)


def starts(study, cell):
    path = folder_of(study, cell) / "starts"
    return len(path.read_text()) if path.exists() else 0


def test_a_third_of_the_cells_is_killed_and_all_finish(study):
    cells = [Cell(f"c{place}", "one", {"dies": int(place % 3 == 0)}) for place in range(6)]
    served(study, cells, lives=2)
    assert [starts(study, cell) for cell in cells] == [2, 1, 1, 2, 1, 1]
    found = standings(study, cells)
    assert [found[cell.name].state for cell in cells] == ["finished"] * 6
    assert [found[cell.name].starts for cell in cells] == [2, 1, 1, 2, 1, 1]
    assert counted(found) == "6 cells: 0 waiting, 0 running, 6 finished, 0 failed"


def test_a_cell_has_no_more_lives_than_it_is_given_and_goes_on_under_the_same_command(study):
    cell = Cell("a", "one", {"dies": 3})
    with pytest.raises(RunFailed, match=r"1 of 1 cells failed"):
        served(study, [cell], lives=2)
    assert standing_of(study, cell)[0::2] == ("waiting", 2), "what it saved is there: it is no failure of its own"
    served(study, [cell], lives=2)
    assert starts(study, cell) == 4 and standing_of(study, cell).state == "finished"


def test_what_ends_by_itself_is_started_once(study):
    cell = Cell("a", "one", {"code": 3})
    with pytest.raises(RunFailed):
        served(study, [cell], lives=5)
    assert starts(study, cell) == 1
    assert standing_of(study, cell).state == "failed" and standing_of(study, cell).note == "exit code 3"


def test_a_cell_waits_for_what_it_needs_and_is_not_run_where_that_failed(study):
    cells = [Cell("b", "one", {}), Cell("d", "one", {}), Cell("bad", "one", {"code": 1}), Cell("a", "one", {})]
    with pytest.raises(RunFailed, match=r"2 of 4 cells failed: see \S*bad\.log\. "):
        served(study, cells, needs={"b": "a", "d": "bad"})
    assert (study / "cells" / "order").read_text().split() == ["bad", "a", "b"]
    assert {name: each.state for name, each in standings(study, cells).items()} == {
        "b": "finished", "d": "waiting", "bad": "failed", "a": "finished"
    }  # fmt: skip


def test_exit_codes_of_deaths():
    assert [died(code) for code in (-9, -15, 143, 0, 1, 2, 130)] == [True, True, True, False, False, False, False]


def test_one_cell_is_served_by_itself_and_written_down(study):
    cells = [Cell("a", "one", {}), Cell("b", "one", {"dies": 1})]
    prepare(study, cells)
    processes: list[subprocess.Popen] = []
    assert [serve(study, cell, "programs", processes.append) for cell in cells] == [0, -signal.SIGKILL]
    assert [each.state for each in standings(study, cells).values()] == ["finished", "waiting"]
    assert len(processes) == 2
    assert serve(study, cells[1], "programs", processes.append, first=False) == 0
    assert standing_of(study, cells[1]).state == "waiting", "the record is another host's"


def test_the_warning_of_a_cluster_does_not_end_a_cell(study):
    (study.parent / "programs" / "warned.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGUSR2)")
    cells = [Cell("warned", "warned", {})]
    prepare(study, cells)
    assert serve(study, cells[0], "programs", lambda process: None) == 0


def test_a_cell_whose_seeds_diverged_is_done_and_one_that_failed_is_not(study, capsys):
    cells = [Cell("lost", "one", {"code": 1}), Cell("failed", "one", {"code": 1})]
    prepare(study, cells)
    folder_of(study, cells[0]).mkdir(parents=True)
    RunFolder(folder_of(study, cells[0])).write_lost(["a, seed 2: remain losses became non-finite. Lower the rates"])
    with pytest.raises(RunFailed, match="1 of 2 cells failed"):
        run_cells(study, cells, "programs", 1, Console(), Stop(), watcher=Recorder(study))
    assert "lost: a, seed 2: remain losses became non-finite" in capsys.readouterr().out
    assert [standing_of(study, cell).state for cell in cells] == ["finished", "failed"]
    assert serve(study, cells[0], "programs", lambda process: None) == 0
    RunFolder(folder_of(study, cells[0])).write_lost([])
    assert serve(study, cells[0], "programs", lambda process: None) == 1


def record(study, cell, **over):
    standing.begin(study, cell, os.getpid())
    path = study / "standing" / f"{cell.name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **over}))


def test_what_is_written_and_what_the_queue_says_together(study):
    cell = Cell("a", "one", {})
    prepare(study, [cell])
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert standing_of(study, cell) == Standing("waiting")
    assert standing_of(study, cell, "PENDING").state == "waiting"
    assert standing_of(study, cell, "CANCELLED").state == "failed", "it waited for what failed"
    record(study, cell)
    assert standing_of(study, cell).state == "running" and standing_of(study, cell).note == socket.gethostname()
    record(study, cell, process=gone.pid)
    assert standing_of(study, cell).state == "waiting" and "killed" in standing_of(study, cell).note
    record(study, cell, host="elsewhere")
    cases = {"RUNNING": "running", "NODE_FAIL": "failed", "PENDING": "waiting", "UNKNOWN": "running"}
    assert {job: standing_of(study, cell, job).state for job in cases} == cases
    record(study, cell, code=143)
    assert standing_of(study, cell).state == "waiting"
    other = cell._replace(settings={"x": 1})
    assert standing_of(study, other) == Standing("waiting"), "what is written is of other settings"
    (study / "standing" / "a.json").write_text("{")
    assert standing_of(study, cell) == Standing("waiting")


def test_the_table_has_a_row_a_cell():
    table = status_table({"a": Standing("running", 61.4, 2, "host"), "b": Standing("waiting")})
    assert [[row.name, *(cell.text for cell in row.cells)] for row in table.rows] == [
        ["a", "running", "61", "2", "host"],
        ["b", "waiting", "0", "0", "–"],
    ]
