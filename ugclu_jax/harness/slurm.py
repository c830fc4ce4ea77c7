"""The cells of a grid as jobs of SLURM, by submitit: arrays a stage, those of the second wait for the first.

A job runs its cell in a process of its own. When SLURM ends a job early (preemption, the end of its time) it warns it,
by SIGTERM or SIGUSR2; the cell is asked to stop, saves the request in hand and exits with 143, and the job asks to be
queued again. Started again, the cell resumes from its checkpoint. Jobs' ids lie on disk, so that any shell can ask.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ugclu_jax import seals
from ugclu_jax.extras import installed_by
from ugclu_jax.files import DamagedFileError
from ugclu_jax.harness.cells import STOPPED, Cell
from ugclu_jax.harness.grid_cells import GridCells
from ugclu_jax.harness.standing import Standing, serve

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

JOBS = "jobs.json"
WARNING_SECONDS = 120
"""How long before the end of its time a job is warned: a request must be finished and saved in it."""
LARGEST_ARRAY = 1000
"""Jobs of one array: SLURM's MaxArraySize is 1001 unless somebody raised it, and it refuses what is larger."""
MOST_REQUEUES = 100
"""Ends of its time after which a job is queued again; each has moved the cell on by that time."""


class Resources(NamedTuple):
    """What the job of one cell asks for.

    Attributes:
        hosts: that share the cell, a process each.
        memory_gb: of each host; None: what the cluster gives.
        hours: after which it is warned, and queued again.
        at_once: jobs of a stage that run at a time.
        others: parameters of sbatch by name, such as partition or account.
    """

    hosts: int = 1
    memory_gb: float | None = None
    hours: float = 12.0
    at_once: int = 256
    others: Mapping[str, str] = {}


@dataclass
class CellJob:
    """What a job does; submitit pickles it, and calls it on the host that SLURM chose."""

    study: Path
    cell: Cell
    package: str
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def __call__(self) -> int:
        """Run the cell, and ask to be queued again where it was stopped.

        Returns:
            Its exit code, 0.

        Raises:
            CellFailed: it ended by itself, with another code; or a signal killed it.
        """
        code = serve(
            self.study, self.cell, self.package, self.started, first=os.environ.get("SLURM_PROCID", "0") == "0"
        )
        if code == STOPPED:
            signal.raise_signal(requeueing_signal())  # answered by submitit: `checkpoint`, then the queue
        if code != 0:
            raise CellFailed(f"{self.cell.name}: exit code {code}; see {self.study / 'logs' / self.cell.name}.log")
        return code

    def started(self, process: "subprocess.Popen[bytes]") -> None:
        """The cell has a process."""
        self.process = process

    def checkpoint(self) -> "DelayedSubmission":
        """What is queued again: this job. The cell, where it still runs, is asked to stop and waited for."""
        from submitit.core.utils import DelayedSubmission

        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=WARNING_SECONDS - 10)
        return DelayedSubmission(CellJob(self.study, self.cell, self.package))


class CellFailed(Exception):
    """A cell failed; the job fails too, so that what waits for it does not start."""


def requeueing_signal() -> int:
    """The signal that submitit queues a job again for."""
    from submitit import JobEnvironment

    return int(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))


def submit(
    study: Path,
    cells: GridCells,
    found: Mapping[str, Standing],
    package: str,
    resources: Resources,
    cluster: str = "slurm",
) -> dict[str, str]:
    """Submit the cells that are waiting for a job, or whose job failed.

    Args:
        study: a folder that `cells.prepare` has seen, on a file system that all hosts see.
        cells: all of them.
        found: how they stand.
        package: that has the programs.
        resources: of each job.
        cluster: of submitit; another than slurm has no queue: its second stage does not wait for the first.

    Returns:
        The ids of the new jobs, by cell.

    Raises:
        MissingExtraError: submitit is not installed.
        ValueError: SLURM is not there, or refuses the jobs, or a parameter of sbatch is none.
    """
    open_ = {name for name, each in found.items() if each.state in ("waiting", "failed")}
    first = [cell for cell in cells.first if cell.name in open_]
    others = [cell for cell in cells.others if cell.name in open_]
    submitted = _submit_stage(study, first, package, resources, cluster, ())
    waited_for = sorted({job.split("_")[0] for job in submitted.values()})
    submitted |= _submit_stage(study, others, package, resources, cluster, waited_for)
    jobs = {**read_jobs(study), **{name: [cluster, job] for name, job in submitted.items()}}
    seals.write(study, JOBS, (json.dumps(jobs, indent=0) + "\n").encode())
    return submitted


def _submit_stage(
    study: Path, cells: Sequence[Cell], package: str, resources: Resources, cluster: str, after: Sequence[str]
) -> dict[str, str]:
    if not cells:
        return {}
    with installed_by("grid"):
        import submitit
    others: dict[str, Any] = dict(resources.others)
    if after:
        # Without the second, jobs whose oracles failed would wait for ever.
        others |= {"dependency": f"afterok:{':'.join(after)}", "kill-on-invalid-dep": "yes"}
    asked: dict[str, Any] = {
        "name": study.name[:40],
        "nodes": resources.hosts,
        "tasks_per_node": 1,
        "timeout_min": int(resources.hours * 60),
        "slurm_array_parallelism": max(1, resources.at_once // -(-len(cells) // LARGEST_ARRAY)),
        "slurm_signal_delay_s": WARNING_SECONDS,
        "slurm_additional_parameters": {**others, "requeue": True},
    }
    if resources.memory_gb is not None:
        asked["mem_gb"] = resources.memory_gb
    jobs: list[submitit.Job[int]] = []
    try:
        executor = submitit.AutoExecutor(study / "submitit", cluster, slurm_max_num_timeout=MOST_REQUEUES)
        executor.update_parameters(**asked)
        for start in range(0, len(cells), LARGEST_ARRAY):
            with executor.batch():
                some = cells[start : start + LARGEST_ARRAY]
                jobs += [executor.submit(CellJob(study, cell, package)) for cell in some]
    except (RuntimeError, ValueError, OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"jobs cannot be submitted to {cluster}: {error}; see that sbatch and srun are there"
        ) from error
    return {cell.name: job.job_id for cell, job in zip(cells, jobs, strict=True)}


def read_jobs(study: Path) -> dict[str, list[str]]:
    """Cluster and job's id of each cell that was submitted; nothing where none was.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return {str(name): list(map(str, job)) for name, job in json.loads(seals.read(study, JOBS)).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, DamagedFileError) as error:
        raise ValueError(f"{study / JOBS} is damaged ({error}); delete it: running jobs are then not known") from error


def states(study: Path) -> dict[str, str]:
    """What the queue says of each cell that was submitted, in SLURM's words; UNKNOWN where it does not answer.

    Raises:
        ValueError: see `read_jobs`.
        MissingExtraError: there are jobs, and submitit is not installed.
    """
    jobs = read_jobs(study)
    if not jobs:
        return {}
    with installed_by("grid"):
        from submitit import LocalJob, SlurmJob
    # Of a queue without accounting submitit warns on stdout too, at every look; UNKNOWN says as much.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    kinds: dict[str, Any] = {"slurm": SlurmJob, "local": LocalJob}
    made = {name: kinds[cluster](study / "submitit", job) for name, (cluster, job) in jobs.items() if cluster in kinds}
    found = {name: str(job.state) for name, job in made.items()}  # the first asks for all of them
    # "CANCELLED by 1000" is SLURM's, and whole sentences are those of a queue of this machine that is gone.
    words = {name: (state.split() or ["UNKNOWN"])[0] for name, state in found.items()}
    return {name: {"FINISHED": "COMPLETED", "NO": "UNKNOWN"}.get(word, word) for name, word in words.items()}


def names_of_parameters(words: Sequence[str]) -> dict[str, str]:
    """Parameters of sbatch from NAME=VALUE.

    Raises:
        ValueError: one that is not of that form, or given twice.

    >>> names_of_parameters(["partition=gpu", "account=a"])
    {'partition': 'gpu', 'account': 'a'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ValueError(f"slurm has {word!r}: give NAME=VALUE, such as partition=gpu")
        if name in found:
            raise ValueError(f"slurm has {name} twice: leave one out")
        found[name] = value
    return found
