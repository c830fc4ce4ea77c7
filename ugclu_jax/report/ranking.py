"""Methods against each other: one row a method, ranked by the distance to the oracle. No training.

Every number is averaged over the milestones of a run (its unlearn requests and its last request), then over seeds. The
distance of a run is `KL(oracle ‖ model)` on test inputs of what is retained plus that on unlearned training inputs, in
nats: the two sides that a method trades against each other.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ugclu_jax.report import grid
from ugclu_jax.report.columns import (
    FM,
    GRADIENT_EVALUATIONS,
    JS_TEST,
    KL_RETAINED,
    KL_TEST,
    KL_UNLEARNED,
    LA,
    MIA,
    RELAPSE,
    RTE,
    TOW,
    UA,
    Column,
)
from ugclu_jax.report.format import markdown_table, mean_text, statistic_text
from ugclu_jax.report.metrics import Line, Numbers, Sides
from ugclu_jax.report.summaries import Statistic, combined, mean, methods_of, milestones, named, statistic, summarise
from ugclu_jax.report.visible import visible

COLUMNS = (KL_TEST, KL_UNLEARNED, KL_RETAINED, JS_TEST, LA, UA, FM, MIA, TOW, RELAPSE, RTE, GRADIENT_EVALUATIONS)
"""Beside the distance; the last column counts an average milestone, not the whole stream."""
SHOWN = (KL_TEST, KL_UNLEARNED, LA, UA, FM, MIA, RTE, GRADIENT_EVALUATIONS)
"""Columns of the terminal."""
WITHOUT_SETTINGS = ("do_nothing", "retrain", "mask_logits", "cool", "mean_of_oracles")
"""Methods of which there is nothing to choose: the second trains as the oracles do."""


class NothingToRankError(ValueError):
    """No method of a run was measured against an oracle on retained test inputs and on unlearned inputs."""


class Row(NamedTuple):
    """One method over seeds."""

    method: str
    distance: Statistic | None
    floor: Statistic | None  # the distance of an oracle
    statistics: Numbers[Statistic]
    seeds: int
    unfinished: int  # seeds that did not reach the last request
    appearance: int  # among the methods of the run, from 0: it has one mark in all figures

    @property
    def label(self) -> str:
        """The method, and how many seeds failed."""
        return self.method + (f" ({self.unfinished} of {self.seeds} seeds failed)" if self.unfinished else "")

    @property
    def sort_key(self) -> float:
        """The distance, infinite where a run failed or has none."""
        if self.unfinished or self.distance is None or not math.isfinite(self.distance.mean):
            return math.inf
        return self.distance.mean


def distance_of(kl: Sides[float]) -> float | None:
    """KL on test inputs of what is retained plus that on unlearned training inputs, where both are defined.

    >>> distance_of(Sides(test=0.25, unlearned=0.5))
    0.75
    """
    return None if kl.test is None or kl.unlearned is None else kl.test + kl.unlearned


def _over_seeds(values: Iterable[float | None]) -> Statistic | None:
    known = [value for value in values if value is not None]
    return statistic(known) if known else None


def rank(lines: Iterable[Line]) -> list[Row]:
    """Rank the methods of a run, nearest to the oracle first; a method without a finite distance comes last.

    Raises:
        NothingToRankError: no line has an oracle, or none is of unlearned inputs.
    """
    lines = list(lines)
    at_milestones = set(milestones(summarise(lines)))
    last = max(at_milestones)
    rows = []
    for appearance, method in enumerate(methods_of(lines)):
        own = [line for line in lines if line.method == method]
        seeds = {line.seed for line in own}
        reached = [
            [ln.numbers for ln in own if ln.seed == seed and ln.request in at_milestones] for seed in sorted(seeds)
        ]
        means = [combined(numbers, mean) for numbers in reached if numbers]
        done = {line.seed for line in own if line.request == last}
        statistics = combined(means, statistic) if means else Numbers()
        distance = _over_seeds(distance_of(each.model.KL) for each in means)
        floor = _over_seeds(distance_of(each.noise_floor.KL) for each in means)
        rows.append(Row(method, distance, floor, statistics, len(seeds), len(seeds - done), appearance))
    if not any(row.floor for row in rows):
        raise NothingToRankError(
            "no request of this run has an oracle and unlearned inputs: there is nothing to compare with"
        )
    return sorted(rows, key=lambda row: row.sort_key)


def shared_references(rows: list[Row]) -> Row:
    """The row that holds the oracle and the noise floor: all methods share them."""
    return max(rows, key=lambda row: (row.seeds - row.unfinished, len(list(named(row.statistics)))))


def _cells(row: Row, columns: Iterable[Column]) -> list[str]:
    own = [statistic_text(column.value(row.statistics), column.integer) for column in columns]
    return [row.label, statistic_text(row.distance), *own]


def _reference_cells(rows: list[Row], columns: Iterable[Column]) -> list[str]:
    shared = shared_references(rows)
    return [mean_text(shared.floor), *(mean_text(c.reference(shared.statistics), c.integer) for c in columns)]


def ranking_table(rows: list[Row]) -> grid.Grid:
    """The terminal's table: `SHOWN` columns, the oracle last; whole at any width."""
    heads = [tuple(title.split()) for title in ("distance", *(column.title for column in SHOWN))]
    found = []
    for row in rows:
        name, *cells = _cells(row, SHOWN)
        found.append(grid.Row(visible(name), [grid.Cell(cell) for cell in cells]))
    references = [grid.Cell(cell) for cell in _reference_cells(rows, SHOWN)]
    return grid.Grid("method", heads, [*found, grid.Row("oracle, noise floor", references, "dim")], right=True)


def ranking_markdown(rows: list[Row], notes: Iterable[str] = ()) -> str:
    """A GitHub-markdown table of all columns, a line that says how to read it, and notes on what not to read in it."""
    head = ["method", "distance", *(column.title for column in COLUMNS)]
    body = [_cells(row, COLUMNS) for row in rows]
    body.append(["*oracle · noise floor*", *_reference_cells(rows, COLUMNS)])
    seeds = max(row.seeds for row in rows)
    return (
        markdown_table(head, body, words=1)
        + f"\n\nMean{' ± standard deviation' if seeds > 1 else ''} over {seeds} seed{'s' if seeds > 1 else ''}, each "
        "averaged over the unlearn requests and the last request; ranked by distance = KL test + KL unlearned, in nats."
        + "".join(f"\n\n{note}" for note in notes)
    )


def reservations(config: Mapping[str, Any], methods: Iterable[str]) -> list[str]:
    """What a ranking may not be read for: a size that only tries the program, and settings that nobody chose.

    Args:
        config: of the run, as its folder has it.
        methods: that are ranked.

    >>> chosen = {"er": {"hyper": {"learning_rate": 0.1}}}
    >>> print(*reservations({"smoke": True, "references": chosen}, ["er", "er+salun", "ug_clu"]), sep="\\n")
    The size is that of a smoke test (--smoke): it tries the program, and says nothing of the methods.
    Nobody chose the settings of salun for these data: they are defaults, and others may rank it elsewhere.
    """
    found = []
    if config.get("smoke"):
        found.append(
            "The size is that of a smoke test (--smoke): it tries the program, and says nothing of the methods."
        )
    parts = dict.fromkeys(part for method in methods for part in method.split("+"))
    chosen = config.get("references") or {}
    unchosen = [
        part
        for part in parts
        if part not in chosen and part not in WITHOUT_SETTINGS and not part.startswith("ug_clu")  # has its own settings
    ]
    if unchosen:
        them = "it" if len(unchosen) == 1 else "them"
        found.append(
            f"Nobody chose the settings of {', '.join(unchosen)} for these data: they are defaults, and others may "
            f"rank {them} elsewhere."
        )
    return found
