"""What do the seconds of a whole run go into, how much memory does it take, and what does a warm compile cache save?

`python -m experiments.task_aware` with UG-CLU and the seeds of the settings: one on digits, three on full
Fashion-MNIST, there also with the evaluation of all 70,000 examples instead of a draw of 2,000 of each set. Oracles
are cached before the first start that counts; a second start, in another folder, finds the compiled programs of the
first. Memory is the largest that a process had resident, against the least that must be held at once: the data, and of
every seed its buffer, its parameters with Adam's two moments, and what XLA needs beside them for one gradient.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks import document, process
from benchmarks.cases import CASES, gradient
from benchmarks.document import Section, Table
from benchmarks.process import Finished
from ugclu_jax.harness.at_once import tree_bytes

MEASURE = "benchmarks.whole_runs:held"


class Run(NamedTuple):
    """A run that is started: its words, the case with its network and data, how many seeds its settings have."""

    arguments: list[str]
    case: str
    seeds: int


FASHION = ["--dataset", "fashion_mnist", "--oracles", "milestones"]
RUNS = {
    "digits": Run(["--dataset", "digits"], "mlp", 1),
    "Fashion-MNIST": Run(FASHION, "cnn", 3),
    "Fashion-MNIST, measured on all": Run([*FASHION, "--evaluation-examples", "None"], "cnn", 3),
}
COMMON = ["--methods", "ug_clu"]
PARTS = ("requests", "compilation", "oracles", "evaluation", "checkpoints", "report", "the rest")
BESIDE = ("evaluation", "checkpoints", "the rest")  # the rest: traces, progress and tables
EMPTY = "import experiments.task_aware, matplotlib.pyplot, orbax.checkpoint, sklearn.linear_model, jax; jax.devices()"
"""A process that imports what a run imports, and starts JAX."""
HELD = ("data", "buffers", "parameters", "one gradient")


def start(arguments: list[str], environment: dict[str, str], folder: Path) -> tuple[Finished, dict[str, float]]:
    """A whole process, and the seconds that its `Seconds:` line says.

    Raises:
        RuntimeError: it failed, or printed no such line; with its output.
    """
    command = [sys.executable, "-m", "experiments.task_aware", *arguments, "--run-dir", str(folder)]
    done = process.run(command, environment)
    line = re.search(r"^Seconds: (.*)$", done.output, re.MULTILINE)
    if line is None:
        raise RuntimeError(f"{' '.join(command)} does not say its seconds:\n{done.output}")
    return done, {name: float(value) for name, value in re.findall(r"([a-z ]+?) ([0-9.]+)(?:,|$)", line.group(1))}


def held(cores: int, case: str, seeds: int, smoke: bool) -> list[int]:
    """Bytes of `HELD` of the network and data of a case, whose arguments are those of `CASES`."""
    made = CASES[case](smoke)
    params = made.state.method.params
    needs = jax.jit(gradient(made)).lower(params).compile().memory_analysis()
    arrays = (made.dataset.train_inputs, made.dataset.train_labels, made.dataset.test_inputs, made.dataset.test_labels)
    return [
        sum(array.nbytes for array in arrays),
        seeds * tree_bytes(made.state.buffer),
        seeds * 3 * tree_bytes(params),
        needs.temp_size_in_bytes,
    ]


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
    rows, memory = [], []
    empty = process.run([sys.executable, "-c", EMPTY]).peak_bytes
    with tempfile.TemporaryDirectory() as folder:
        for name, each in list(RUNS.items())[: 1 if smoke else None]:
            own = [*each.arguments, *COMMON, *(["--smoke"] if smoke else [])]
            cache = {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / f"programs of {name}")}
            cache |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            start(own, {}, Path(folder) / f"{name} oracles")
            parts, _ = process.call(MEASURE, cores=1, case=each.case, seeds=each.seeds, smoke=smoke)
            for which in ("first start", "warm compile cache"):
                done, seconds = start(own, cache, Path(folder) / f"{name} {which}")
                rows.append(row(name, which, done.seconds, seconds))
                needed = empty + sum(parts)
                sizes = (done.peak_bytes, empty, *parts)
                memory.append((name, which, *map(mebibytes, sizes), f"{done.peak_bytes / needed:.2f}"))
    shares = (f"({' + '.join(BESIDE)}) / requests", "outside the requests / whole process")
    header = ("data", "start", "whole process, s", *PARTS, *shares)
    note = "The goal for both shares is 10 %."
    of_memory = ("data", "start", "most, MiB", "of a process that imports and starts", *HELD, "most / what is held")
    return Section(
        [
            Table("Whole runs", header, rows, note),
            Table("Memory", of_memory, memory, "What is held: the process as it starts, and the four. The goal is 2."),
        ]
    )


def mebibytes(size: int) -> str:
    """A size in MiB.

    >>> mebibytes(3 * 2**19)
    '1.5'
    """
    return f"{size / 2**20:.1f}"


if __name__ == "__main__":
    document.main("whole_runs", __doc__, run)
