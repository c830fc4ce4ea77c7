"""How much must a network have memorised before unlearning means anything?

    python -m experiments.regimes --seeds 0:4 --oracle-seeds 4    # Fashion-MNIST, 100, 250 and 500 pictures a class
    python -m experiments.regimes                                 # five seeds, five oracles
    python -m experiments.regimes --smoke                         # digits, seconds a cell

Reference: what is unlearned must first have left a trace. A network is trained from scratch on all pictures for 5 to
80 epochs; 10 % of them, drawn at random, are to be unlearned; oracles are trained as long on the others. Where the
distance of doing nothing is that of fresh oracles, an unlearner has nothing to gain, and every method that changes
little looks good.

Expected, from the page of the one default (500 a class, 40 epochs, five seeds): E of doing nothing .179 ±.008, matched
.176 ±.008, by KL 1.7 floors, UA 1.00 where the oracle has .867; matched E of `ug_clu` .037 ±.006, of `finetune_remain`
.046 ±.008, whose settings were searched there and at no other length. Fewer epochs: unknown before. About 20 minutes on
one core for the first command, half of it training from scratch, which grows with epochs and pictures.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.columns import UA
from ugclu_jax.report.compared import Measured, difference, of_row, of_statistic
from ugclu_jax.report.format import number
from ugclu_jax.report.ranking import ERRORS, Row, shared_references
from ugclu_jax.report.sweep_picture import Panel, sweep_picture

METHODS = ("ug_clu", "finetune_remain", "do_nothing")
NOTHING = "do_nothing"
PICTURE = "regimes.png"


@dataclass(frozen=True)
class RegimesOptions(Group):
    """How long networks are trained, and on how much."""

    epochs: tuple[int, ...] = (5, 10, 20, 40, 80)
    """Passes over the training set, of network and oracles alike."""
    sizes: tuple[int, ...] = (100, 250, 500)
    """Pictures of a class."""

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "sizes": 2}.items():
            values = getattr(self, name)
            if not values or min(values) < least or len(set(values)) != len(values):
                raise ValueError(f"{name} must be different numbers of {least} or more, got {values}")
        super().__post_init__()


@dataclass(frozen=True)
class RegimesConfig(StudyOptions, RegimesOptions):
    """The study's configuration."""

    @property
    def grid(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """Sizes and their epochs, in order: two cells at smoke size."""
        sizes, epochs = ((20,), (1, 3)) if self.smoke else (self.sizes, self.epochs)
        return tuple((size, tuple(sorted(epochs))) for size in sorted(sizes))


def cells(options: RegimesConfig) -> list[Cell]:
    """One a size and number of epochs; the buffer holds all that is retained."""
    words = ("--scenario", "random_sample", "--no-counterfactuals", "--methods")
    methods = (METHODS[0], NOTHING) if options.smoke else METHODS
    found = []
    for size, every in options.grid:
        for epochs in every:
            own = {"per_class": size, "oracle": {"epochs": epochs}}
            settings = options.settings("memorised", **own)
            found.append(Cell(f"{size}-{epochs}", "compare", settings, (*words, *methods)))
    return found


class Point(NamedTuple):
    """What one size and number of epochs measured.

    Attributes:
        epochs: of training.
        fresh: standard error of the distance of fresh oracles, which is 0; that of doing nothing where too few oracles
            were trained to have it.
        nothing: matched E of doing nothing.
        others: of the unlearners, by name; None where seeds were lost.
    """

    epochs: int
    fresh: float
    nothing: Measured
    others: Mapping[str, Measured | None]

    @property
    def is_apart(self) -> bool:
        """Whether doing nothing lies beyond what fresh oracles would."""
        return self.nothing.value > ERRORS * self.fresh


def point_of(epochs: int, rows: Mapping[str, Row]) -> Point | None:
    """What a cell measured; None where doing nothing has no distance."""
    nothing = of_row(rows.get(NOTHING))
    if nothing is None:
        return None
    pair = rows[NOTHING].fresh
    error = nothing.standard_error if pair is None else pair.standard_error
    others = {name: of_row(row) for name, row in rows.items() if name != NOTHING}
    return Point(epochs, error or 0.0, nothing, others)


def conclude(options: RegimesConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances over epochs for each size, and from which on there is something to unlearn."""
    rows, sentences, panels = [], [], []
    for size, every in options.grid:
        points = []
        for epochs in every:
            found = measured.rows_of(folders[f"{size}-{epochs}"])
            points += [point] if (point := point_of(epochs, found)) is not None else []
            rows += rows_of_cell(f"{size} a class, {epochs} epochs", found)
        sentences.append(f"{size} a class: {meaning(points)}")
        names = dict.fromkeys(name for point in points for name in point.others)
        series = {NOTHING: [(float(point.epochs), point.nothing) for point in points]}
        for name in names:
            own = [(float(p.epochs), distance) for p in points if (distance := p.others.get(name)) is not None]
            series[name] = own
        noise = max((point.fresh for point in points), default=0.0)
        panels.append(Panel(f"{size} pictures a class", "epochs", "E matched", series, every, noise=noise))
    sweep_picture(panels, folder / PICTURE)
    table = Table(
        "Distances by what was memorised",
        ("size, epochs", "method", "UA less the oracle's", *measured.HEAD, "KL / floor"),
        rows,
        "UA less the oracle's is how much better a network knows what is to be unlearned than one that never saw it: "
        "of doing nothing, what was memorised. In the picture, the band is where fresh oracles lie.",
    )
    return Findings(". ".join(sentences) + ".", (table,), (PICTURE,))


def rows_of_cell(name: str, found: Mapping[str, Row]) -> list[list[str]]:
    """Of the table: each method of a cell."""
    shared = UA.reference(shared_references(list(found.values())).statistics)
    rows = []
    for method, row in found.items():
        own, oracle = of_statistic(UA.value(row.statistics)), of_statistic(shared)
        gap = "–" if own is None or oracle is None else str(difference(own, oracle))
        rows.append([name, method, gap, *measured.texts(row), number(row.quotient)])
    return rows


def meaning(points: Sequence[Point]) -> str:
    """From which number of epochs on doing nothing is told from fresh oracles, and from which an unlearner from it.

    Args:
        points: of one size, by epochs.

    >>> few = Point(5, 0.01, Measured(0.01, 0.01), {"a": Measured(0.02, 0.01)})
    >>> many = Point(40, 0.01, Measured(0.2, 0.01), {"a": Measured(0.05, 0.01)})
    >>> meaning([few, many])
    'from 40 epochs on doing nothing is told from fresh oracles (matched E .200 ±.010 there), a is nearer from 40 on'
    >>> meaning([few])
    'up to 5 epochs doing nothing is not told from fresh oracles (matched E .010 ±.010 there)'
    """
    if not points:
        return "no cell has a distance of doing nothing"
    apart = onset([point.is_apart for point in points])
    if apart is None:
        last = points[-1]
        return (
            f"up to {last.epochs} epochs doing nothing is not told from fresh oracles (matched E {last.nothing} there)"
        )
    first = points[apart]
    parts = [
        f"from {first.epochs} epochs on doing nothing is told from fresh oracles (matched E {first.nothing} there)"
    ]
    for name in dict.fromkeys(name for point in points for name in point.others):
        pairs = [(point.others.get(name), point.nothing) for point in points]
        gains = [Measured(0.0, None) if own is None else difference(nothing, own) for own, nothing in pairs]
        nearer = onset([gain.value > 0 and gain.beyond_noise for gain in gains])
        parts.append(
            f"{name} is nearer at no length" if nearer is None else f"{name} is nearer from {points[nearer].epochs} on"
        )
    return ", ".join(parts)


def onset(holds: Sequence[bool]) -> int | None:
    """The place from which on something always holds; None where it does not hold at the end.

    >>> onset([True, False, True, True]), onset([True, False]), onset([])
    (2, None, None)
    """
    found = None
    for place in reversed(range(len(holds))):
        if not holds[place]:
            break
        found = place
    return found


STUDY = Study("regimes", __doc__ or "", RegimesConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
