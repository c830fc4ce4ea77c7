"""How large must the memory buffer be, and what does it cost?

    python -m experiments.buffer_size                    # Fashion-MNIST, 500 pictures a class
    python -m experiments.buffer_size --smoke            # digits, seconds a cell

Reference: the paper, its claim of a cost in memory that is linear in the buffer, and its choice of 5,000 examples. Two
classes leave after a stream, and 10 % of all samples; everything but the capacity is the default's. Buffers of 5,000
and more hold every example of the stream here.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ugclu_jax.harness.buffer_bytes import sizes_in_bytes
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured

REGIMES = {"classes": "class_wise", "random": "random_sample"}
METHODS = ("ug_clu", "finetune_remain", "do_nothing")


@dataclass(frozen=True)
class BufferSizeOptions(Group):
    """Which buffers are compared."""

    capacities: tuple[int, ...] = (200, 1000, 5000, 10000)
    """Examples that the buffer holds."""

    def __post_init__(self) -> None:
        if not self.capacities or min(self.capacities) < 1 or len(set(self.capacities)) != len(self.capacities):
            raise ValueError(f"capacities must be different numbers of 1 or more, got {self.capacities}")
        super().__post_init__()


@dataclass(frozen=True)
class BufferSizeConfig(StudyOptions, BufferSizeOptions):
    """The study's configuration."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those of this run, in their order: two small ones at smoke size."""
        return (10, 40) if self.smoke else tuple(sorted(self.capacities))


def cells(options: BufferSizeConfig) -> list[Cell]:
    """One a capacity and kind of request."""
    return [
        Cell(
            f"{regime}-{size}",
            "compare",
            options.settings(regime, capacity=size),
            ("--scenario", scenario, "--methods", *METHODS),
        )
        for regime, scenario in REGIMES.items()
        for size in options.sizes
    ]


def conclude(options: BufferSizeConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances by capacity, and the bytes of a buffer by its examples."""
    rows, distances = [], {}
    for regime in REGIMES:
        for size in options.sizes:
            found = measured.rows_of(folders[f"{regime}-{size}"])
            rows += [[f"{regime} {size}", name, *measured.texts(found[name])] for name in METHODS if name in found]
            distances[regime, size] = found.get("ug_clu")
    raw, bytes_of = sizes_in_bytes(folders[f"classes-{options.sizes[0]}"], options.sizes)
    slope, start = np.polyfit(options.sizes, bytes_of, 1)
    largest = max(abs(start + slope * size - own) / own for size, own in zip(options.sizes, bytes_of, strict=True))
    memory = [[str(size), f"{own:,}", f"{own / size:.1f}"] for size, own in zip(options.sizes, bytes_of, strict=True)]
    small, large = options.sizes[0], options.sizes[-1]
    changes = "; ".join(
        f"{regime}: matched E of ug_clu {measured.matched_text(distances[regime, small])} with {small}, "
        f"{measured.matched_text(distances[regime, large])} with {large}"
        for regime in REGIMES
    )
    answer = (
        f"{changes}. Memory is linear in the capacity: {slope:.1f} bytes an example, {raw} of which are its input and "
        f"label, and no point is off the line by more than {100 * largest:.1f} %."
    )
    tables = (
        Table("Distance and cost by capacity", ("request, capacity", "method", *measured.HEAD), rows, words=2),
        Table("Memory", ("capacity", "bytes of the buffer", "bytes an example"), memory, "All arrays of the buffer."),
    )
    return Findings(answer, tables)


STUDY = Study("buffer_size", __doc__ or "", BufferSizeConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
