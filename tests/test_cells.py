"""Cells of a study: run, resumed, failed and stopped, with programs that take no time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ugclu_jax.harness.cells import Cell, finished, folder_of, prepare, run_cells
from ugclu_jax.harness.plan import RunFailed
from ugclu_jax.harness.signals import Stop, Stopped

PROGRAM = """
import json, os, pathlib, sys, time
settings = json.loads(pathlib.Path(sys.argv[sys.argv.index("--settings") + 1]).read_text())
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write("x")
(folder / "environment.json").write_text(json.dumps([os.environ["JAX_COMPILATION_CACHE_DIR"], sys.argv[5:]]))
if settings.get("sleep"):
    (folder.parent.parent / "started").touch()
    time.sleep(settings["sleep"])
if settings.get("fails_without") and not pathlib.Path(settings["fails_without"]).exists():
    print("it is not there")
    sys.exit(1)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder, and a package `programs` that cells can name."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "one.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path / "study"


def starts(study: Path, cell: Cell) -> int:
    return len((folder_of(study, cell) / "starts").read_text())


def served(study: Path, cells: list[Cell], jobs: int = 1) -> None:
    prepare(study, cells)
    run_cells(study, cells, "programs", jobs, Console(quiet=True), Stop())


def test_each_cell_runs_once_with_its_settings_and_words(study):
    cells = [Cell("a", "one", {"x": 1}, ("--more", "words")), Cell("b", "one", {"x": 2})]
    served(study, cells, jobs=2)
    served(study, cells)
    assert [starts(study, cell) for cell in cells] == [1, 1]
    assert json.loads((study / "settings" / "b.json").read_text()) == {"x": 2}
    shared, words = json.loads((folder_of(study, cells[0]) / "environment.json").read_text())
    assert words == ["--more", "words"]
    assert Path(shared) == study / "programs"
    assert finished(study, cells) == cells


def test_a_failed_cell_is_named_after_the_others_ran_and_is_taken_up_again(study, tmp_path):
    there = tmp_path / "there"
    cells = [Cell("bad", "one", {"fails_without": str(there)}), Cell("good", "one", {})]
    with pytest.raises(RunFailed, match=r"1 of 2 cells failed: see .*bad\.log"):
        served(study, cells)
    assert finished(study, cells) == cells[1:]
    assert "it is not there" in (study / "logs" / "bad.log").read_text()
    there.touch()
    served(study, cells)
    assert [starts(study, cell) for cell in cells] == [2, 1]


def test_a_cell_whose_folder_is_gone_runs_again(study):
    cell = Cell("a", "one", {})
    served(study, [cell])
    (folder_of(study, cell) / "starts").unlink()
    (folder_of(study, cell) / "environment.json").unlink()
    folder_of(study, cell).rmdir()
    served(study, [cell])
    assert starts(study, cell) == 1


def test_more_cells_may_come_and_other_settings_of_one_are_refused(study):
    served(study, [Cell("a", "one", {"x": 1})])
    served(study, [Cell("a", "one", {"x": 1}), Cell("b", "one", {})])
    with pytest.raises(ValueError, match=r"has a cell a with other settings; give another --run-dir"):
        prepare(study, [Cell("a", "one", {"x": 2})])
    settled = Cell("never started", "one", {"x": 1})
    for cell in (settled, settled._replace(settings={"x": 2})):  # one that was refused before work may be mended
        prepare(study, [cell])
    assert json.loads((study / "settings" / "never started.json").read_text()) == {"x": 2}
    with pytest.raises(ValueError, match="different names, got c more than once"):
        prepare(study, [Cell("c", "one", {}), Cell("c", "one", {"x": 1})])


def test_damaged_records_are_named(study):
    cell = Cell("a", "one", {})
    served(study, [cell])
    (study / "finished.json").write_text("[]")
    with pytest.raises(ValueError, match=r"finished\.json is damaged; delete it"):
        finished(study, [cell])


def test_a_second_signal_ends_cells_that_do_not_end_for_the_first(study, tmp_path):
    """A cell finishes its request first; one that outlived its study would hold the folder against the next start."""
    (tmp_path / "programs" / "deaf.py").write_text(
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[4], 'told').touch())\n"
        "folder = pathlib.Path(sys.argv[4]); folder.mkdir(parents=True)\n"
        "(folder / 'process').write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    code = (
        "from pathlib import Path; from rich.console import Console; "
        "from ugclu_jax.harness.cells import Cell, prepare, run_cells; "
        "from ugclu_jax.harness.signals import stoppable; "
        f"study = Path({str(study)!r}); cells = [Cell('a', 'deaf', {{}})]; prepare(study, cells)\n"
        "with stoppable(print, str) as stop: run_cells(study, cells, 'programs', 1, Console(quiet=True), stop)"
    )
    folder = folder_of(study, Cell("a", "deaf", {}))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        for file in ("process", "told"):
            while not (folder / file).exists():
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    cell = int((folder / "process").read_text())
    deadline = time.monotonic() + 30
    while _lives(cell) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(cell)


def _lives(process: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked for is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_signal_ends_the_cells_and_is_told(study):
    """The stop is set from outside, as the listening thread of `stoppable` does."""
    cells = [Cell("long", "one", {"sleep": 600})]
    prepare(study, cells)
    stop = Stop()

    class WhenStarted(Stop):
        def check(self, before: str = "") -> None:
            if (study / "started").exists():
                stop.number = signal.SIGTERM
            stop.check(before)

    began = time.monotonic()
    with pytest.raises(Stopped):
        run_cells(study, cells, "programs", 1, Console(quiet=True), WhenStarted())
    assert time.monotonic() - began < 60
    assert finished(study, cells) == []
    left = subprocess.run(["pgrep", "-f", str(folder_of(study, cells[0]))], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_two_at_a_time_have_cores_of_their_own(study):
    (study.parent / "programs" / "cores.py").write_text(
        "import os, pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[4])\nfolder.mkdir(parents=True)\ntime.sleep(1)\n"
        "(folder / 'cores').write_text(' '.join(map(str, os.sched_getaffinity(0))))\n"
    )
    cells = [Cell("a", "cores", {}), Cell("b", "cores", {})]
    served(study, cells, jobs=2)
    found = [{*(folder_of(study, cell) / "cores").read_text().split()} for cell in cells]
    if len(os.sched_getaffinity(0)) > 1:
        assert not found[0] & found[1]
    assert all(found)


def test_the_command_runs_with_this_interpreter():
    from ugclu_jax.harness.cells import command_of

    assert command_of(Path("s"), Cell("a", "compare", {}), "experiments")[0] == sys.executable
