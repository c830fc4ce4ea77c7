"""How each cell of a grid stands: a small file a cell, written by whoever runs it, on whatever host that is.

    STUDY/standing/NAME.json   the cell's digest, when and where it was last started, how that ended, seconds so far

No two processes write one file, so that ten thousand jobs need no lock between them. A file that says "started" and
whose process is gone is of a cell that was killed: what it had saved is there, and the next start goes on.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ugclu_jax.files import write
from ugclu_jax.harness.cells import CACHE, Cell, Watcher, command_of, died, ending, folder_of
from ugclu_jax.report import grid as layout
from ugclu_jax.report.visible import visible

State = Literal["waiting", "running", "finished", "failed"]
STATES: tuple[State, ...] = ("waiting", "running", "finished", "failed")
QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SUSPENDED", "PREEMPTED")
"""What a queue calls a job that will still start."""
AT_WORK = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING")
# A cluster warns every process of a job by this signal, which ends one that does not expect it; the job asks the
# cell to stop instead. Set by a process that then becomes the cell: between fork and exec it can deadlock under JAX.
DEAF = "import os, signal, sys; signal.signal(signal.SIGUSR2, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


class Standing(NamedTuple):
    """How a cell stands.

    Attributes:
        state: one of `STATES`.
        seconds: that it has run, all its starts together.
        starts: how often it was started.
        note: the exit code of a cell that failed, or where one runs.
    """

    state: State
    seconds: float = 0.0
    starts: int = 0
    note: str = ""


def _path(study: Path, name: str) -> Path:
    return study / "standing" / f"{name}.json"


def _read(study: Path, cell: Cell) -> dict[str, Any] | None:
    """What is written of a cell as it is now; None where nothing is, or of other settings, or by no cell."""
    try:
        found = json.loads(_path(study, cell.name).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("cell") == cell.digest() else None


def begin(study: Path, cell: Cell, process: int) -> None:
    """Write down that a process was started for a cell."""
    before = _read(study, cell) or {"seconds": 0.0, "starts": 0}
    now = {
        "cell": cell.digest(),
        "host": socket.gethostname(),
        "process": process,
        "started": time.time(),
        "seconds": before["seconds"],
        "starts": before["starts"] + 1,
        "code": None,
    }
    _path(study, cell.name).parent.mkdir(parents=True, exist_ok=True)
    write(_path(study, cell.name), json.dumps(now) + "\n")


def end(study: Path, cell: Cell, code: int) -> None:
    """Write down how it ended; negative: by this signal."""
    now = _read(study, cell)
    if now is not None:
        now |= {"code": code, "seconds": now["seconds"] + time.time() - now["started"]}
        write(_path(study, cell.name), json.dumps(now) + "\n")


class Recorder(Watcher):
    """Writes down each start and end."""

    def __init__(self, study: Path) -> None:
        self.study = study

    def started(self, cell: Cell, process: int) -> None:
        """A process was started for a cell."""
        begin(self.study, cell, process)

    def ended(self, cell: Cell, code: int) -> None:
        """It has ended."""
        end(self.study, cell, code)


def serve(
    study: Path, cell: Cell, package: str, started: Callable[["subprocess.Popen[bytes]"], None], *, first: bool = True
) -> int:
    """Run one cell in a process of its own to its end, and write down how that went.

    Args:
        study: a folder that `cells.prepare` has seen.
        cell: one of its cells.
        package: that has the programs.
        started: gets the process, to be able to stop it.
        first: whether this host is the one that keeps the record, where several share the cell.

    Returns:
        The exit code; negative: by this signal.
    """
    environment = {CACHE: str((study / "programs").absolute()), **os.environ}
    with (study / "logs" / f"{cell.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", DEAF, *command_of(study, cell, package)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    if first:
        begin(study, cell, process.pid)
    started(process)
    code, _ = ending(study, cell, process.wait())
    if first:
        end(study, cell, code)
    return code


def standing_of(study: Path, cell: Cell, job: str | None = None) -> Standing:
    """How a cell stands.

    Args:
        study: the folder.
        cell: one of its cells.
        job: what its queue says of it, where it has one, in SLURM's words.
    """
    now = _read(study, cell)
    queued, at_work = job in QUEUED, job in AT_WORK
    if now is None:
        failed = job not in (None, "UNKNOWN", "COMPLETED") and not queued and not at_work
        return Standing("failed", note=f"job {job}") if failed else Standing("running" if at_work else "waiting")
    code, seconds, starts = now["code"], now["seconds"], now["starts"]
    if code == 0:
        # A folder that somebody removed is a cell that is run again.
        return Standing("finished" if folder_of(study, cell).is_dir() else "waiting", seconds, starts)
    if queued:
        return Standing("waiting", seconds, starts, "to go on")
    if code is None:
        here = now["host"] == socket.gethostname()
        if here and not _lives(now["process"]) and not at_work:
            return Standing("waiting", seconds, starts, "killed; goes on where it was")
        if not here and job is not None and job != "UNKNOWN" and not at_work:
            return Standing("failed", seconds, starts, f"job {job}")
        return Standing("running", seconds + time.time() - now["started"], starts, now["host"])
    if died(code):
        return Standing("waiting", seconds, starts, f"exit code {code}; goes on where it was")
    return Standing("failed", seconds, starts, f"exit code {code}")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it has another owner
        return True
    return True


def standings(
    study: Path, cells: Iterable[Cell], jobs: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Standing]:
    """How all cells stand, by name; `jobs` has what their queue says."""
    return {cell.name: standing_of(study, cell, jobs.get(cell.name)) for cell in cells}


def counted(found: Mapping[str, Standing]) -> str:
    """How many cells stand how.

    >>> counted({"a": Standing("finished", 2.0), "b": Standing("waiting")})
    '2 cells: 1 waiting, 0 running, 1 finished, 0 failed'
    """
    states = [each.state for each in found.values()]
    return f"{len(states)} cells: " + ", ".join(f"{states.count(state)} {state}" for state in STATES)


def status_table(found: Mapping[str, Standing]) -> layout.Grid:
    """A row a cell: its state, seconds, starts, and a note."""
    heads = [("state",), ("seconds",), ("starts",), ("note",)]
    rows = [layout.Row(visible(name), [layout.Cell(text) for text in _texts(each)]) for name, each in found.items()]
    return layout.Grid("cell", heads, rows, right=True)


def _texts(each: Standing) -> Sequence[str]:
    return (each.state, f"{each.seconds:.0f}", str(each.starts), visible(each.note) or "–")
