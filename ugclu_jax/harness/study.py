"""A study: a question, cells that are run for it, and what their runs say. One command, and it resumes.

A program of `experiments` names its cells and concludes from their folders; this is the command line around the two.
"""

import datetime
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax.files import write
from ugclu_jax.harness import cells as cells_lib
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.command_line import parse
from ugclu_jax.harness.config import SETTINGS, merge
from ugclu_jax.harness.options import Group, check_seeds
from ugclu_jax.harness.plan import RunFailed
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.harness.settings_file import load_json
from ugclu_jax.harness.signals import Stopped, stoppable
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report import grid
from ugclu_jax.report.format import markdown_table
from ugclu_jax.report.visible import copyable, visible

SMALL: Mapping[str, Any] = {
    "dataset": "digits",
    "model": "mlp",
    "per_class": 20,
    "capacity": 40,
    "oracle": {"epochs": 2},
    "learn": {"settings": {"outer_steps": 3, "inner_steps": 2}},
    "unlearn": {"settings": {"outer_steps": 2, "inner_steps": 2}},
}
"""Settings of every cell at smoke size: embedded digits, seconds a cell."""
SMALL_SEEDS = 2
"""Seeds and oracles at smoke size: the fewest that have a distance."""


@dataclass(frozen=True)
class StudyOptions(Group):
    """How the study is run."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Runs of each cell: numbers, or ranges of them, 0:5 for 0 … 4."""
    oracle_seeds: int = 5
    """Oracles of a request, 2 or more."""
    jobs: int = 1
    """Cells that run at a time, each a process with its share of the cores."""
    smoke: bool = False
    """Smallest size that still takes every step, on embedded digits: two seeds and two oracles."""
    run_dir: Path | None = None
    """Folder of the study; the same command resumes there. Default: runs/<study>-<hash>."""
    dry_run: bool = False
    """List the cells and their command lines, and stop before any work."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be one or more different values, got {self.seeds}")
        check_seeds("seeds", self.seeds)
        self.at_least(oracle_seeds=2, jobs=1)
        super().__post_init__()

    def settings(self, regime: str, **over: Any) -> dict[str, Any]:
        """The settings of a regime (a file of settings/regimes) with this study's seeds, and what a cell changes.

        At smoke size `SMALL` stands between the two: what a cell changes is kept.
        """
        seeds, oracles = (self.seeds[:SMALL_SEEDS], SMALL_SEEDS) if self.smoke else (self.seeds, self.oracle_seeds)
        base = load_json(SETTINGS / "regimes" / f"{regime}.json")
        base = merge(base, {"seeds": list(seeds), "oracle_seeds": oracles})
        return merge(merge(base, dict(SMALL)) if self.smoke else base, over)


class Table(NamedTuple):
    """What a study tables.

    Attributes:
        title: in a few words.
        head: of its columns; the first names the rows.
        rows: texts.
        caption: how to read it.
        words: columns at the left that are words, not numbers.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: int = 1

    def markdown(self) -> str:
        """A section of a page."""
        return (
            f"## {self.title}\n\n{markdown_table(list(self.head), [list(row) for row in self.rows], words=self.words)}"
            + (f"\n\n{self.caption}" if self.caption else "")
        )

    def grid(self) -> grid.Grid:
        """For the terminal."""
        rows = [grid.Row(visible(row[0]), [grid.Cell(visible(cell)) for cell in row[1:]]) for row in self.rows]
        return grid.Grid(self.head[0], [head.split() or [head] for head in self.head[1:]], rows, right=True)


class Findings(NamedTuple):
    """What a study found.

    Attributes:
        answer: to its question, in a sentence or a few.
        tables: that show it.
        pictures: files in the study's folder that show it.
    """

    answer: str
    tables: tuple[Table, ...]
    pictures: tuple[str, ...] = ()


class Study(NamedTuple):
    """A program of `experiments`.

    Attributes:
        name: of the program.
        about: its docstring; the first line is the question.
        options: a subclass of `StudyOptions` and of a group of the study's own options, if it has any.
        cells: of the options.
        conclude: from the options, the study's folder, and the run folders of the cells by their names.
    """

    name: str
    about: str
    options: type[StudyOptions]
    cells: Callable[[Any], Sequence[Cell]]
    conclude: Callable[[Any, Path, Mapping[str, Path]], Findings]


def main(study: Study, package: str, arguments: Sequence[str] | None = None) -> int:
    """Run a study from the command line.

    Args:
        study: which.
        package: that has its program, and those of its cells.
        arguments: of the command line; None = the process's own.

    Returns:
        The exit code: 0 done, 1 a failed cell, 2 wrong use, 130 interrupted, 143 terminated.
    """
    return ended(lambda: _main(study, package, list(sys.argv[1:] if arguments is None else arguments)))


def _main(study: Study, package: str, given: list[str]) -> int:
    console, errors = consoles()
    command = copyable(["python", "-m", f"experiments.{study.name}", *given])
    try:
        (options,) = parse([study.options()], given, study.name, study.about).configurations
        cells = list(study.cells(options))
        digest = hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()[:8]
        folder = options.run_dir or Path("runs") / f"{study.name}-{digest}"
        if options.dry_run:
            for cell in cells:
                say(console, "", copyable(["python", *cells_lib.command_of(folder, cell, package)[1:]]))
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunFolder(folder).lock()
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    resume = f"Resume with:\n  {command}"
    with lock, stoppable(lambda message: say(errors, "", message), lambda _: resume) as stop:
        try:
            cells_lib.prepare(folder, cells)
        except (ValueError, OSError) as error:
            say(errors, "Error:", str(error))
            return 2
        try:
            cells_lib.run_cells(folder, cells, package, options.jobs, console, stop)
            found = study.conclude(options, folder, {cell.name: cells_lib.folder_of(folder, cell) for cell in cells})
        except (RunFailed, ValueError, OSError) as error:
            say(errors, "Run failed:", str(error))
            return 1
        except Stopped as error:
            say(errors, "", f"Stopped; what was finished is saved. {resume}")
            return 128 + error.number
        for table in found.tables:
            say(console, "", table.title, "bold")
            console.print(table.grid(), soft_wrap=True)
        say(console, "", found.answer)
        write(folder / "results.md", page(study, command, found))
        say(console, "", f"Results: {folder / 'results.md'}")
    return 0


def page(study: Study, command: str, found: Findings) -> str:
    """The results of a study as Markdown, with the command that measured them."""
    question = study.about.strip().splitlines()[0]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    parts = [
        f"# {question}",
        found.answer,
        f"Measured {today}:\n\n```sh\n{command}\n```",
        *(table.markdown() for table in found.tables),
        *(f"![{Path(name).stem}]({name})" for name in found.pictures),
    ]
    return "\n\n".join(parts) + "\n"
