"""Many comparisons on machines that others keep: scenarios, methods, seeds and settings, a cell each combination.

    python -m experiments.grid GRID.json                                  # here, a process a cell
    python -m experiments.grid GRID.json --executor slurm --slurm partition=gpu gpus-per-node=1
    python -m experiments.grid GRID.json --executor print --image IMAGE   # files for SkyPilot and Kubernetes
    python -m experiments.grid GRID.json --status                         # from any shell
    python -m experiments.grid GRID.json --collect                        # the tables, as `compare` writes them

A cell is the command line of `experiments.compare` with one method and seed, a run folder of its own and a cache of
oracles that all share. Cells that train oracles run first. The same command goes on where it was.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import tyro
from rich.console import Console

from ugclu_jax.extras import MissingExtraError
from ugclu_jax.harness import slurm
from ugclu_jax.harness.cells import Cell, command_of, mark, prepare, run_cells
from ugclu_jax.harness.collect import collect
from ugclu_jax.harness.command_line import parse
from ugclu_jax.harness.grid_cells import GridCells, cells_of
from ugclu_jax.harness.grid_file import Grid, read_grid
from ugclu_jax.harness.manifests import Place, print_all
from ugclu_jax.harness.options import NO_HOME, Group, default_cache
from ugclu_jax.harness.plan import RunFailed
from ugclu_jax.harness.run_folder import RunFolder, check_writable
from ugclu_jax.harness.signals import Stopped, stoppable
from ugclu_jax.harness.standing import Recorder, counted, serve, standing_of, standings, status_table
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report.ranking import NothingToRankError, ranking_table
from ugclu_jax.report.visible import copyable


@dataclass(frozen=True)
class GridOptions(Group):
    """What is run, and where."""

    grid: Annotated[Path, tyro.conf.arg(metavar="GRID.json")] = field(kw_only=True)
    """File of the grid; its name may stand alone in front. Keys: scenarios, methods, seeds, settings, vary, smoke,
    counterfactuals."""
    executor: Literal["local", "slurm", "print"] = "local"
    """Who runs the cells: this machine; SLURM, by submitit; or others, for whom files are written."""
    status: bool = False
    """Print how each cell stands, and run nothing."""
    collect: bool = False
    """Put the tables together, and run nothing."""
    only: str | None = None
    """Run this one cell, here: what a pod or a job does."""
    dry_run: bool = False
    """List the cells and their command lines, and stop before any work."""
    run_dir: Path | None = None
    """Folder of the grid; the same command resumes there. Default: runs/grid-<hash>."""
    cache_dir: Path | None = None
    """Where all cells keep oracles, named by a hash of everything that determines them. Default: ~/.cache/ugclu_jax."""
    lives: int = 3
    """How often a cell is started here that is killed or stopped; one that fails by itself is started once."""


@dataclass(frozen=True)
class ResourceOptions(Group):
    """What a cell gets."""

    jobs: int | None = None
    """Cells that run at a time. Default: 1 here, each with its share of the cores, and 256 of SLURM's."""
    memory_gb: float | None = None
    """Memory of a cell on each host: here no more run at a time than the machine's holds; SLURM is asked for it."""
    hours: float | None = None
    """Of a job of SLURM; a cell that takes longer is stopped, queued again and goes on. Default: 12."""
    hosts: int | None = None
    """That share each cell, a process each, joined by jax.distributed; of SLURM and print. Default: 1."""
    slurm: tuple[str, ...] = ()
    """Further parameters of sbatch, as NAME=VALUE: partition=gpu gpus-per-node=1 cpus-per-task=8."""
    image: str | None = None
    """Container that has the library, of print."""
    volume: str | None = None
    """Claim of the volume that has the study and the cache, of print. Default: study."""

    def __post_init__(self) -> None:
        self.at_least(jobs=1, hosts=1)
        for name in ("memory_gb", "hours"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        slurm.names_of_parameters(self.slurm)
        super().__post_init__()


@dataclass(frozen=True)
class GridConfig(GridOptions, ResourceOptions):
    """The program's configuration."""

    @property
    def cache(self) -> Path:
        """Where oracles are kept."""
        return (self.cache_dir or default_cache()).absolute()

    def __post_init__(self) -> None:
        self.at_least(lives=1)
        asked = [f"--{name}" for name in ("status", "collect", "only") if getattr(self, name) not in (False, None)]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)} are given; leave all but one out")
        used = {"slurm": ("hours", "slurm"), "print": ("image", "volume")}
        for executor, names in used.items():
            for name in names:
                if self.executor != executor and getattr(self, name) not in (None, ()):
                    raise ValueError(f"{name} is read by --executor {executor}; give that, or leave it out")
        if self.executor == "local" and self.hosts is not None and self.only is None:
            raise ValueError("hosts is read by --executor slurm or print; give one, or leave it out")
        if self.executor == "print" and (self.jobs is not None or self.memory_gb is not None):
            name = "jobs" if self.jobs is not None else "memory_gb"
            raise ValueError(f"{name} is not read by --executor print: Kubernetes decides; leave it out")
        if self.executor == "print" and self.image is None and not (self.status or self.collect or self.only):
            raise ValueError("image is missing: --executor print needs a container that has the library")
        if self.cache_dir is None and default_cache() == NO_HOME:
            raise ValueError(f"cache_dir is {NO_HOME} and this process has no home folder: give another folder")
        super().__post_init__()


def jobs_at_once(config: GridConfig) -> int:
    """Cells that this machine runs at a time: those that are asked for, and whose memory it has.

    Raises:
        ValueError: it has not that of one.
    """
    asked = config.jobs or 1
    if config.memory_gb is None:
        return asked
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    fit = int(there / config.memory_gb)
    if fit < 1:
        raise ValueError(f"memory_gb is {config.memory_gb:g}, and this machine has {there:.1f}: give less")
    return min(asked, fit)


def folder_of_grid(config: GridConfig, cells: GridCells) -> Path:
    """Of the grid: the one that is asked for, or one named by what its cells are."""
    digest = hashlib.sha256(json.dumps(cells.cells, sort_keys=True).encode()).hexdigest()[:8]
    return (config.run_dir or Path("runs") / f"grid-{digest}").absolute()


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code: 0 done, 1 a failed cell, 2 wrong use, 130 interrupted, 143 terminated."""
    return ended(lambda: _main(list(arguments)))


def _main(given: list[str]) -> int:
    console, errors = consoles()
    words = ["--grid", *given] if given and not given[0].startswith("-") else given
    package = __package__ or "experiments"
    try:
        (config,) = parse([GridConfig], words, "grid", __doc__ or "").configurations
        grid = read_grid(config.grid)
        cells = cells_of(grid, config.cache, config.hosts or 1)
        study = folder_of_grid(config, cells)
        if config.dry_run:
            for cell in cells.cells:
                say(console, "", copyable(["python", *command_of(study, cell, package)[1:]]))
            return 0
        if config.only is not None:
            return _only(study, cells, config.only, package, config.hosts or 1)
        if config.status or config.collect:
            return _tell(config, study, grid, cells, console, errors)
        jobs = jobs_at_once(config) if config.executor == "local" else 0
        check_writable(study, "--run-dir")
        lock = RunFolder(study).lock()
    except BrokenPipeError:
        raise
    except (ValueError, OSError, MissingExtraError) as error:
        say(errors, "Error:", str(error))
        return 2
    with lock:
        try:
            prepare(study, cells.cells)
            if config.executor == "slurm":
                return _submit(config, study, cells, package, console)
            if config.executor == "print":
                return _print(config, study, cells, package, console)
        except (ValueError, OSError, MissingExtraError) as error:
            say(errors, "Error:", str(error))
            return 2
        return _run_here(config, study, grid, cells, package, jobs, console, errors, given)


def _run_here(
    config: GridConfig,
    study: Path,
    grid: Grid,
    cells: GridCells,
    package: str,
    jobs: int,
    console: Console,
    errors: Console,
    given: list[str],
) -> int:
    resume = f"Resume with:\n  {copyable(['python', '-m', 'experiments.grid', *given])}"
    with stoppable(lambda message: say(errors, "", message), lambda _: resume) as stop:
        try:
            for cell in cells.cells:  # of SLURM's jobs, say
                if standing_of(study, cell).state == "finished":
                    mark(study, cell)
            run_cells(
                study,
                cells.cells,
                package,
                jobs,
                console,
                stop,
                needs=cells.needs,
                lives=config.lives,
                watcher=Recorder(study),
            )
        except (RunFailed, ValueError, OSError) as error:
            say(errors, "Run failed:", str(error))
            return 1
        except Stopped as error:
            say(errors, "", f"Stopped; what was finished is saved. {resume}")
            return 128 + error.number
    return _collect(study, grid, cells, {}, console, errors)


def _tell(config: GridConfig, study: Path, grid: Grid, cells: GridCells, console: Console, errors: Console) -> int:
    if not (study / "study.json").is_file():
        raise ValueError(
            f"{study} holds no grid yet: run it first, or give the --run-dir, --hosts and --cache-dir it has"
        )
    jobs = slurm.states(study)
    if config.collect:
        return _collect(study, grid, cells, jobs, console, errors)
    found = standings(study, cells.cells, jobs)
    console.print(status_table(found), soft_wrap=True)
    say(console, "", counted(found))
    return 0


def _collect(study: Path, grid: Grid, cells: GridCells, jobs: dict[str, str], console: Console, errors: Console) -> int:
    code = 0
    try:
        for table in collect(study, grid, cells, standings(study, cells.cells, jobs)):
            say(console, "", table.name, "bold")
            console.print(ranking_table(table.comparison.rows, table.comparison.others), soft_wrap=True)
            for note in table.comparison.notes:
                say(console, "", note)
            for name in table.failed:
                say(errors, "failed:", f"{name}; the table has its requests up to there")
                code = 1
            say(console, "", f"Comparison: {table.path}")
    except (ValueError, OSError, NothingToRankError) as error:
        say(errors, "Run failed:", str(error))
        return 1
    return code


def _submit(config: GridConfig, study: Path, cells: GridCells, package: str, console: Console) -> int:
    given = {name: value for name in ("hosts", "memory_gb", "hours") if (value := getattr(config, name)) is not None}
    if config.jobs is not None:
        given["at_once"] = config.jobs
    resources = slurm.Resources(**given, others=slurm.names_of_parameters(config.slurm))
    found = standings(study, cells.cells, slurm.states(study))
    submitted = slurm.submit(study, cells, found, package, resources)
    say(console, "", counted(found))
    say(console, "", f"Submitted {len(submitted)} jobs. How they stand: the same command with --status")
    return 0


def _print(config: GridConfig, study: Path, cells: GridCells, package: str, console: Console) -> int:
    file = config.grid.absolute()
    mount = os.path.commonpath([study.parent, config.cache, file.parent])
    if mount == os.sep:
        raise ValueError(
            f"run_dir {study}, cache_dir {config.cache} and {file} have no folder in common, at which the machines "
            "could mount a volume: put them into one"
        )
    words = ["--grid", str(file), "--run-dir", str(study), "--cache-dir", str(config.cache)]
    if config.hosts is not None:
        words += ["--hosts", str(config.hosts)]
    place = Place(str(config.image), config.volume or "study", mount, config.hosts or 1)
    for path in print_all(study, cells, ["python", "-m", f"{package}.grid", *words], place):
        say(console, "", str(path))
    return 0


def _only(study: Path, cells: GridCells, name: str, package: str, hosts: int) -> int:
    """Run one cell; a signal that ends this process is passed on, and the cell's end waited for."""
    found: list[Cell] = [cell for cell in cells.cells if cell.name == name]
    if not found:
        raise ValueError(f"only is {name!r}, which is no cell of the grid; --dry-run lists them")
    if not (study / "settings" / f"{name}.json").is_file():
        raise ValueError(f"{study} has no settings of {name}: run the grid with --executor print first, on this volume")

    def started(process: "subprocess.Popen[bytes]") -> None:
        def pass_on(number: int, frame: FrameType | None) -> None:
            process.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)

    # Where hosts share the cell, the first keeps its record; else this variable is the number of the cell.
    place = os.environ.get("JOB_COMPLETION_INDEX", os.environ.get("SKYPILOT_NODE_RANK", "0"))
    code = serve(study, found[0], package, started, first=hosts == 1 or place == "0")
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
