"""What do the seconds of a whole run go into, how much memory does it take, and what does a warm compile cache save?

`python -m experiments.task_aware` with UG-CLU and the seeds of the settings: one on digits, three on full
Fashion-MNIST, there also with the evaluation of all 70,000 examples instead of a draw of 2,000 of each set. Oracles
are cached before the first start that counts; a second start, in another folder, finds the compiled programs of the
first.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import document
from benchmarks.document import Section, Table
from benchmarks.process import ROOT

RUNS = {
    "digits": ["--dataset", "digits"],
    "Fashion-MNIST": ["--dataset", "fashion_mnist", "--oracles", "milestones"],
    "Fashion-MNIST, measured on all": [
        *("--dataset", "fashion_mnist", "--oracles", "milestones", "--evaluation-examples", "None")
    ],
}
COMMON = ["--methods", "ug_clu"]
PARTS = ("requests", "compilation", "oracles", "evaluation", "checkpoints", "report", "the rest")
BESIDE = ("evaluation", "checkpoints", "the rest")  # the rest: traces, progress and tables


def start(arguments: list[str], environment: dict[str, str], folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of a whole process, and what its `Seconds:` line says.

    Raises:
        RuntimeError: it failed, or printed no such line; with its output.
    """
    command = [sys.executable, "-m", "experiments.task_aware", *arguments, "--run-dir", str(folder)]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    line = re.search(r"^Seconds: (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or line is None:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, {name: float(value) for name, value in re.findall(r"([a-z ]+?) ([0-9.]+)(?:,|$)", line.group(1))}


def row(name: str, which: str, whole: float, parts: dict[str, float]) -> tuple[str, ...]:
    """Seconds of the parts, then two shares: what goes on beside the requests, and all that is outside of them."""
    seconds = {part.strip(): value for part, value in parts.items()}
    beside = sum(seconds[part] for part in BESIDE) / seconds["requests"]
    return (
        name,
        which,
        f"{whole:.1f}",
        *(f"{seconds.get(part, 0.0):.1f}" for part in PARTS),
        f"{100 * beside:.0f} %",
        f"{100 * (1 - seconds['requests'] / whole):.0f} %",
    )


def run(smoke: bool) -> Section:
    """One row a start."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in list(RUNS.items())[: 1 if smoke else None]:
            own = [*arguments, *COMMON, *(["--smoke"] if smoke else [])]
            cache = {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / f"programs of {name}")}
            cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            start(own, {}, Path(folder) / f"{name} oracles")
            for which in ("first start", "warm compile cache"):
                whole, parts = start(own, cache, Path(folder) / f"{name} {which}")
                rows.append(row(name, which, whole, parts))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    shares = (f"({' + '.join(BESIDE)}) / requests", "outside the requests / whole process")
    header = ("data", "start", "whole process, s", *PARTS, *shares)
    note = f"Peak memory of the largest of these processes: {peak:.2f} GiB. The goal for both shares is 10 %."
    return Section([Table("Whole runs", header, rows, note)])


if __name__ == "__main__":
    document.main("whole_runs", __doc__, run)
