"""Cells of a study: each the command line of an experiment with a folder of its own, a process each, and resumed.

    STUDY/study.json           what the cells are
    STUDY/settings/NAME.json   the settings file of a cell
    STUDY/cells/NAME/          its run folder
    STUDY/logs/NAME.log        what its process printed
    STUDY/finished.json        which cells have finished, by a digest of what they are
    STUDY/programs/            what was compiled, as long as cells are left: those of one shape share it

A kill of the study or of a cell loses what a kill of the experiment would lose: the same command goes on from there.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from rich.console import Console

from ugclu_jax import seals
from ugclu_jax.files import DamagedFileError, write
from ugclu_jax.harness.plan import RunFailed
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.signals import Stop, Stopped
from ugclu_jax.harness.terminal import say

POLL_SECONDS = 0.2
CACHE = "JAX_COMPILATION_CACHE_DIR"
"""Of the environment; a folder that the user has named is theirs."""
LOG_LINES = 3
"""Of a failed cell's log, in the message."""
DAMAGED = "is damaged; delete it, and every cell is looked at again"
STOPPED = 128 + signal.SIGTERM
"""The exit code of a run that was asked to end: what it had finished is saved, and the same command goes on."""


class Cell(NamedTuple):
    """One run of an experiment.

    Attributes:
        name: of its folder, and of its row in a table.
        program: as in `python -m experiments.PROGRAM`.
        settings: of its settings file.
        arguments: further words of its command line.
    """

    name: str
    program: str
    settings: Mapping[str, Any]
    arguments: tuple[str, ...] = ()

    def digest(self) -> str:
        """Of everything that the cell is."""
        return hashlib.sha256(json.dumps(self, sort_keys=True).encode()).hexdigest()[:16]


class Watcher:
    """Whoever wants to know how cells stand while they run; this one does not."""

    def started(self, cell: Cell, process: int) -> None:
        """A process was started for a cell."""

    def ended(self, cell: Cell, code: int) -> None:
        """It has ended; negative: by this signal."""


def died(code: int) -> bool:
    """Whether an exit code is of a process that did not end by itself, so that starting it again goes on.

    >>> died(-9), died(143), died(1), died(0)
    (True, True, False, False)
    """
    return code < 0 or code == STOPPED


def folder_of(study: Path, cell: Cell) -> Path:
    """The run folder of a cell."""
    return study / "cells" / cell.name


def command_of(study: Path, cell: Cell, package: str) -> list[str]:
    """What runs a cell, from the package that has the programs.

    >>> command_of(Path("runs/a"), Cell("small", "compare", {}, ("--seeds", "0")), "experiments")[1:]
    ['-m', 'experiments.compare', '--settings', 'runs/a/settings/small.json', '--run-dir', 'runs/a/cells/small', \
'--seeds', '0']
    """
    settings, run_dir = study / "settings" / f"{cell.name}.json", folder_of(study, cell)
    words = ["--settings", str(settings), "--run-dir", str(run_dir), *cell.arguments]
    return [sys.executable, "-m", f"{package}.{cell.program}", *words]


def ending(study: Path, cell: Cell, code: int) -> tuple[int, list[str]]:
    """An exit code as the study takes it, and why seeds were lost.

    A run whose seeds diverged ends with 1, and is done all the same: a lost seed is a result, which tables count.
    """
    lost = RunFolder(folder_of(study, cell)).lost() if code == 1 else []
    return (0 if lost else code), lost


def prepare(study: Path, cells: Sequence[Cell]) -> None:
    """Write down what the cells are, and their settings files.

    Args:
        study: the folder.
        cells: of different names.

    Raises:
        ValueError: two cells have one name, or the folder has a cell of this name that is another and has begun.
        OSError: it cannot be written.
    """
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise ValueError(f"cells must have different names, got {max(names, key=names.count)} more than once")
    path, there = study / "study.json", _object(study, "study.json")
    here = {cell.name: json.loads(json.dumps(cell._asdict())) for cell in cells}
    for name, cell in here.items():
        if there.get(name, cell) != cell and (study / "cells" / name).exists():
            raise ValueError(f"{path} has a cell {name} with other settings; give another --run-dir")
    (study / "settings").mkdir(parents=True, exist_ok=True)
    (study / "logs").mkdir(exist_ok=True)
    for cell in cells:
        write(study / "settings" / f"{cell.name}.json", json.dumps(cell.settings, indent=2) + "\n")
    seals.write(study, path.name, (json.dumps({**there, **here}, indent=1) + "\n").encode())


def _object(study: Path, name: str) -> dict[str, Any]:
    """The object in a file of a study; nothing where there is no such file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        found = json.loads(seals.read(study, name))
    except FileNotFoundError:
        return {}
    except (ValueError, DamagedFileError) as error:
        raise ValueError(f"{study / name} {DAMAGED} ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{study / name} {DAMAGED}")
    return found


def finished(study: Path, cells: Sequence[Cell]) -> list[Cell]:
    """Those of the cells that have been run to their end.

    Raises:
        ValueError: the record of it is damaged.
    """
    done = _object(study, "finished.json")
    return [cell for cell in cells if done.get(cell.name) == cell.digest() and folder_of(study, cell).is_dir()]


class _Running(NamedTuple):
    cell: Cell
    process: "subprocess.Popen[bytes]"
    since: float
    place: int


def run_cells(
    study: Path,
    cells: Sequence[Cell],
    package: str,
    jobs: int,
    console: Console,
    stop: Stop,
    *,
    needs: Mapping[str, str] = MappingProxyType({}),
    lives: int = 1,
    watcher: Watcher | None = None,
) -> None:
    """Run the cells that have not finished, in their order, so many at a time; each has its share of the cores.

    Args:
        study: a folder that `prepare` has seen.
        cells: all of them.
        package: that has the programs.
        jobs: processes at a time, 1 or more.
        console: of the study; what the cells print goes to their logs.
        stop: whether a signal has come; the cells are then told, too, and waited for. A second one kills them.
        needs: of some cells, by name, the one that must have finished before.
        lives: how often a cell is started whose process dies, 1 or more; one that ends by itself is started once.
        watcher: is told of each start and end.

    Raises:
        RunFailed: cells failed. All others were run before that is said, but for those that needed one of them.
        Stopped: a signal came.
    """
    watcher = watcher or Watcher()
    done = {cell.name for cell in finished(study, cells)}
    waiting = [cell for cell in cells if cell.name not in done]
    if done:
        say(console, "", f"{len(done)} of {len(cells)} cells have finished before")
    running: list[_Running] = []
    failed: dict[str, str] = {}
    starts: dict[str, int] = {}
    places = list(range(jobs))
    try:
        while waiting or running:
            stop.check(f"cells {', '.join(each.cell.name for each in running)}")
            for cell in [cell for cell in waiting if needs.get(cell.name) in failed]:
                waiting.remove(cell)
                failed[cell.name] = f"{needs[cell.name]} failed, which it needs"
            for cell in [cell for cell in waiting if needs.get(cell.name) in (None, *done)][: len(places)]:
                waiting.remove(cell)
                running.append(_started(study, cell, package, places.pop(0), jobs))
                stop.processes.append(running[-1].process)
                starts[cell.name] = starts.get(cell.name, 0) + 1
                watcher.started(cell, running[-1].process.pid)
            time.sleep(POLL_SECONDS)
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                stop.processes.remove(each.process)
                places.append(each.place)
                seconds = time.monotonic() - each.since
                code, lost = ending(study, each.cell, each.process.returncode)
                watcher.ended(each.cell, code)
                if code == 0:
                    done.add(each.cell.name)
                    mark(study, each.cell)
                    say(console, "", f"{len(done)} of {len(cells)}: {each.cell.name} in {seconds:.0f} s")
                    for why in lost:
                        say(console, "lost:", why.partition(". ")[0], "yellow")
                elif died(code) and starts[each.cell.name] < lives:
                    waiting.insert(0, each.cell)
                    say(console, "died:", f"{each.cell.name}, exit code {code}; it is started again", "yellow")
                else:
                    failed[each.cell.name] = _end_of_log(study, each.cell)
                    say(console, "failed:", f"{each.cell.name}, exit code {code}: {failed[each.cell.name]}")
    except (Stopped, KeyboardInterrupt):
        for each in running:
            each.process.send_signal(signal.SIGTERM)
        for each in running:
            watcher.ended(each.cell, each.process.wait())
        raise
    shutil.rmtree(study / "programs", ignore_errors=True)
    if failed:
        logs = ", ".join(str(study / "logs" / f"{name}.log") for name in failed if starts.get(name))
        raise RunFailed(f"{len(failed)} of {len(cells)} cells failed: see {logs}. The same command takes them up again")


def _started(study: Path, cell: Cell, package: str, place: int, jobs: int) -> _Running:
    environment = {CACHE: str((study / "programs").absolute()), **os.environ}
    with (study / "logs" / f"{cell.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command_of(study, cell, package), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
        )
    if jobs > 1 and hasattr(os, "sched_setaffinity"):
        # Before it has made a thread: two programs on all cores wait for each other's threads.
        cores = sorted(os.sched_getaffinity(0))
        own = cores[place % len(cores) :: jobs] or cores
        os.sched_setaffinity(process.pid, own)
    return _Running(cell, process, time.monotonic(), place)


def mark(study: Path, cell: Cell) -> None:
    """Write down that a cell has been run to its end.

    Raises:
        ValueError: the record of it is damaged.
    """
    done = {**_object(study, "finished.json"), cell.name: cell.digest()}
    seals.write(study, "finished.json", (json.dumps(done, indent=0, sort_keys=True) + "\n").encode())


def _end_of_log(study: Path, cell: Cell) -> str:
    text = (study / "logs" / f"{cell.name}.log").read_text(encoding="utf-8", errors="replace")
    return " ".join(line.strip() for line in text.splitlines()[-LOG_LINES:] if line.strip())
