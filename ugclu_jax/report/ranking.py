"""Methods against each other: one row a method, ranked by the distance to the oracle, and a picture. No training.

Every number is averaged over the milestones of a run (its unlearn requests and its last request), then over seeds. The
distance of a run is `KL(oracle ‖ model)` on test inputs of what is retained plus that on unlearned training inputs, in
nats: the two sides that a method trades against each other.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.table import Table

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

COLUMNS = (KL_TEST, KL_UNLEARNED, KL_RETAINED, JS_TEST, LA, UA, FM, MIA, TOW, RELAPSE, RTE, GRADIENT_EVALUATIONS)
"""Beside the distance; the last column counts an average milestone, not the whole stream."""
SHOWN = (KL_TEST, KL_UNLEARNED, LA, UA, FM, MIA, RTE, GRADIENT_EVALUATIONS)
"""Columns that a terminal has room for."""


OURS, OTHERS, FLOOR = "#d55e00", "#0072b2", "#009e73"  # of Okabe and Ito's colour-blind-safe set


class Row(NamedTuple):
    """One method over seeds."""

    method: str
    distance: Statistic | None
    floor: Statistic | None  # the distance of an oracle
    statistics: Numbers[Statistic]
    seeds: int
    unfinished: int  # seeds that did not reach the last request

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
        ValueError: no line has an oracle.
    """
    lines = list(lines)
    at_milestones = set(milestones(summarise(lines)))
    last = max(at_milestones)
    rows = []
    for method in methods_of(lines):
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
        rows.append(Row(method, distance, floor, statistics, len(seeds), len(seeds - done)))
    if not any(row.floor for row in rows):
        raise ValueError("no request of this run has an oracle and unlearned inputs: there is nothing to compare with")
    return sorted(rows, key=lambda row: row.sort_key)


def _references(rows: list[Row]) -> Row:
    """The row that holds the oracle and the noise floor: all methods share them."""
    return max(rows, key=lambda row: (row.seeds - row.unfinished, len(list(named(row.statistics)))))


def _cells(row: Row, columns: Iterable[Column]) -> list[str]:
    own = [statistic_text(column.value(row.statistics), column.integer) for column in columns]
    return [row.label, statistic_text(row.distance), *own]


def _reference_cells(rows: list[Row], columns: Iterable[Column]) -> list[str]:
    shared = _references(rows)
    return [mean_text(shared.floor), *(mean_text(c.reference(shared.statistics), c.integer) for c in columns)]


def ranking_table(rows: list[Row]) -> Table:
    """The terminal's table: `SHOWN` columns, the oracle last."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    for title in ("distance", *(column.title for column in SHOWN)):
        table.add_column(title.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, SHOWN))
    table.add_section()
    table.add_row("oracle, noise floor", *_reference_cells(rows, SHOWN), style="dim")
    return table


def ranking_markdown(rows: list[Row]) -> str:
    """A GitHub-markdown table of all columns, and a line that says how to read it."""
    head = ["method", "distance", *(column.title for column in COLUMNS)]
    body = [_cells(row, COLUMNS) for row in rows]
    body.append(["*oracle · noise floor*", *_reference_cells(rows, COLUMNS)])
    seeds = max(row.seeds for row in rows)
    return (
        markdown_table(head, body, words=1)
        + f"\n\nMean{' ± standard deviation' if seeds > 1 else ''} over {seeds} seed{'s' if seeds > 1 else ''}, each "
        "averaged over the unlearn requests and the last request; ranked by distance = KL test + KL unlearned, in nats."
    )


def ranking_picture(rows: list[Row], path: Path) -> None:
    """Draw KL on retained test inputs against KL on unlearned inputs, one point a method, both axes logarithmic.

    A point bears the method's rank, whose name stands in the list at the right: names beside the points would overlap.
    """
    # Half a second that `--help` need not wait for.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(9.0, max(5.0, 1.0 + 0.17 * len(rows))), layout="constrained")
    axes = figure.add_subplot()
    names = []
    for place, row in enumerate(rows, start=1):
        if not math.isfinite(row.sort_key):
            names.append(f"–  {row.method}")
            continue
        names.append(f"{place}  {row.method}")
        x, y = (column.value(row.statistics).mean for column in (KL_TEST, KL_UNLEARNED))
        ours = row.method.startswith("ug_clu") and "+" not in row.method
        axes.plot(x, y, marker="D" if ours else "o", color=OURS if ours else OTHERS, markersize=6, alpha=0.8)
        axes.annotate(str(place), (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
    shared = _references(rows).statistics
    floor = tuple(column.reference(shared).mean for column in (KL_TEST, KL_UNLEARNED))
    axes.plot(*floor, marker="*", color=FLOOR, markersize=14, alpha=0.8)
    axes.annotate("noise floor", floor, xytext=(9, -11), textcoords="offset points", fontsize=8, color=FLOOR)
    axes.text(1.03, 1.0, "\n".join(names), transform=axes.transAxes, va="top", fontsize=8, linespacing=1.35)
    axes.set(xscale="log", yscale="log", xlabel="KL to the oracle on retained test inputs, nats")
    axes.set(ylabel="KL to the oracle on unlearned inputs, nats")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_title("Nearer to the lower left is nearer to retraining; diamonds: UG-CLU", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    figure.savefig(path, dpi=150)
