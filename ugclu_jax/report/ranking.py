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

from ugclu_jax.report.tables import Column, Line, Statistic, at, mean_text, milestones, statistic, std_text, summarise

DISTANCE = Column("distance", "distance", "floor")
COLUMNS = (
    DISTANCE,
    Column("KL test", "model.KL.test", "noise_floor.KL.test"),
    Column("KL unlearned", "model.KL.unlearned", "noise_floor.KL.unlearned"),
    Column("KL retained", "model.KL.retained", "noise_floor.KL.retained"),
    Column("JS test", "model.JS.test", "noise_floor.JS.test"),
    Column("LA", "model.LA", "oracle.LA"),
    Column("UA", "model.UA", "oracle.UA"),
    Column("FM", "model.FM", None),
    Column("MIA", "model.MIA.loss", "oracle.MIA.loss"),
    Column("ToW", "model.ToW", None),
    Column("relapse", "model.relapse", None),
    Column("RTE s", "timing.RTE", None),
    Column("gradient evaluations", "cost.gradient_evaluations", "cost.oracle_gradient_evaluations", integer=True),
)
"""One a metric; the last column counts an average milestone, not the whole stream."""
SHOWN = ("distance", "KL test", "KL unlearned", "LA", "UA", "FM", "MIA", "RTE s", "gradient evaluations")
"""Columns that a terminal has room for."""


OURS, OTHERS, FLOOR = "#d55e00", "#0072b2", "#009e73"  # of Okabe and Ito's colour-blind-safe set


class Row(NamedTuple):
    """One method over seeds."""

    method: str
    statistics: dict[str, Statistic]  # by a column's path or reference
    seeds: int
    unfinished: int  # seeds that did not reach the last request


def compare(lines: Iterable[Line]) -> list[Row]:
    """Rank the methods of a run, nearest to the oracle first; a method without a finite distance comes last.

    Raises:
        ValueError: no line has an oracle.
    """
    lines = list(lines)
    at_milestones = set(milestones(summarise(lines)))
    last = max(at_milestones)
    paths = {path for column in COLUMNS for path in (column.path, column.reference) if path} - {"distance", "floor"}
    rows = []
    for method in dict.fromkeys(line["method"] for line in lines):
        own = [line for line in lines if line["method"] == method]
        seeds = sorted({line["seed"] for line in own})
        values: dict[str, list[float]] = {}
        for seed in seeds:
            reached = [line for line in own if line["seed"] == seed and line["request"] in at_milestones]
            means = {path: mean for path in paths if (mean := _mean(reached, path)) is not None}
            for name, tree in (("distance", "model"), ("floor", "noise_floor")):
                sides = [means.get(f"{tree}.KL.{inputs}") for inputs in ("test", "unlearned")]
                if None not in sides:
                    means[name] = sum(sides)
            for path, value in means.items():
                values.setdefault(path, []).append(value)
        done = {line["seed"] for line in own if line["request"] == last}
        statistics = {path: statistic(found) for path, found in values.items()}
        rows.append(Row(method, statistics, len(seeds), len(set(seeds) - done)))
    if not any("floor" in row.statistics for row in rows):
        raise ValueError("no request of this run has an oracle and unlearned inputs: there is nothing to compare with")
    return sorted(rows, key=_distance)


def _mean(lines: list[Line], path: str) -> float | None:
    found = [value for line in lines if (value := at(line, path)) is not None]
    return sum(found) / len(found) if found else None


def _distance(row: Row) -> float:
    found = row.statistics.get("distance")
    return found.mean if found is not None and math.isfinite(found.mean) and not row.unfinished else math.inf


def _references(rows: list[Row]) -> dict[str, Statistic]:
    return max(rows, key=lambda row: (row.seeds - row.unfinished, len(row.statistics))).statistics


def comparison_table(rows: list[Row]) -> Table:
    """The terminal's table: `SHOWN` columns, the oracle last."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    columns = [column for column in COLUMNS if column.title in SHOWN]
    for column in columns:
        table.add_column(column.title.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        note = f" ({row.unfinished} of {row.seeds} seeds failed)" if row.unfinished else ""
        table.add_row(row.method + note, *(_cell(column, row.statistics.get(column.path)) for column in columns))
    table.add_section()
    shared = _references(rows)
    cells = [_cell(column, shared.get(column.reference or ""), spread=False) for column in columns]
    table.add_row("oracle, noise floor", *cells, style="dim")
    return table


def comparison_text(rows: list[Row]) -> str:
    """A GitHub-markdown table of all columns, and a line that says how to read it."""
    titles = ["method", *(column.title for column in COLUMNS)]
    body = [titles, ["---", *["---:"] * len(COLUMNS)]]
    for row in rows:
        note = f" ({row.unfinished} of {row.seeds} seeds failed)" if row.unfinished else ""
        body.append([row.method + note, *(_cell(column, row.statistics.get(column.path)) for column in COLUMNS)])
    shared = _references(rows)
    cells = [_cell(column, shared.get(column.reference or ""), spread=False) for column in COLUMNS]
    body.append(["*oracle · noise floor*", *cells])
    seeds = max(row.seeds for row in rows)
    return (
        "\n".join("| " + " | ".join(cells) + " |" for cells in body)
        + f"\n\nMean{' ± standard deviation' if seeds > 1 else ''} over {seeds} seed{'s' if seeds > 1 else ''}, each "
        "averaged over the unlearn requests and the last request; ranked by distance = KL test + KL unlearned, in nats."
    )


def _cell(column: Column, found: Statistic | None, *, spread: bool = True) -> str:
    return f"{mean_text(column, found)} {std_text(column, found) if spread else ''}".strip()


def picture(rows: list[Row], path: Path) -> None:
    """Draw KL on retained test inputs against KL on unlearned inputs, one point a method, both axes logarithmic.

    A point bears the method's rank, whose name stands in the list at the right: names beside the points would overlap.
    """
    # Half a second that `--help` need not wait for.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(9.0, max(5.0, 1.0 + 0.17 * len(rows))), layout="constrained")
    axes = figure.add_subplot()
    shared = _references(rows)
    names = []
    for rank, row in enumerate(rows, start=1):
        if not math.isfinite(_distance(row)):
            names.append(f"–  {row.method}")
            continue
        names.append(f"{rank}  {row.method}")
        x, y = (row.statistics[f"model.KL.{inputs}"].mean for inputs in ("test", "unlearned"))
        ours = row.method.startswith("ug_clu") and "+" not in row.method
        axes.plot(x, y, marker="D" if ours else "o", color=OURS if ours else OTHERS, markersize=6, alpha=0.8)
        axes.annotate(str(rank), (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8)
    floor = tuple(shared[f"noise_floor.KL.{inputs}"].mean for inputs in ("test", "unlearned"))
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
