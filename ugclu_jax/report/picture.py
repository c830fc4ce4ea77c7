"""The picture of a comparison: how far each method's models are from oracles, on unlearned and on test inputs."""

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from ugclu_jax.report.columns import KL_TEST, KL_UNLEARNED
from ugclu_jax.report.evidence import Pair
from ugclu_jax.report.marks import mark_of
from ugclu_jax.report.ranking import Row, by_energy, shared_references
from ugclu_jax.report.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 12
"""Methods up to which names stand beside the points; with more, a point bears its rank, and a list has the names."""
MARKER, LABEL, LETTER = 0.15, 0.17, 0.088
"""Inches: the size of a marker, the height of a name, and the width of a letter of it."""
LEAST = 1e-6
"""Nats below which a logarithmic axis does not go."""
Point = tuple[float, float]


def ranking_picture(rows: list[Row], notes: list[str], path: Path) -> None:
    """Draw the comparison into a PNG file, with notes on what it may not be read for under it."""
    import matplotlib  # half a second that `--help` need not wait for

    from ugclu_jax.report.svg import STYLE

    with matplotlib.rc_context(STYLE):
        figure = ranking_figure(rows)
        if notes:
            figure.supxlabel("\n".join(notes), fontsize=8, x=0.01, ha="left")
        figure.savefig(path, dpi=150, facecolor="white")


def ranking_svg(rows: list[Row]) -> Markup:
    """The same picture for a page, in whose caption the notes stand."""
    import matplotlib

    from ugclu_jax.report.svg import STYLE, as_svg

    with matplotlib.rc_context(STYLE):
        return as_svg(ranking_figure(rows), "comparison")


LINEAR = 0.01
"""Energy distance up to which an axis is linear: around 0 lie fresh oracles, on both sides."""


def _energy_point(row: Row) -> Point | None:
    """E on retained test inputs and on unlearned inputs; None where there is none."""
    return None if row.energy is None else (row.energy.test.value, row.energy.unlearned.value)


def _kl_point(row: Row, of_reference: bool = False) -> Point | None:
    """KL on retained test inputs and on unlearned inputs; None where one of them is undefined or not finite."""
    found = []
    for column in (KL_TEST, KL_UNLEARNED):
        statistic = (column.reference if of_reference else column.value)(row.statistics)
        if statistic is None or not math.isfinite(statistic.mean):
            return None
        found.append(max(statistic.mean, LEAST))
    return found[0], found[1]


def ranking_figure(rows: list[Row]) -> "Figure":
    """E on retained test inputs against E on unlearned inputs, one point a method; KL where one seed has no E.

    No two points share marker and filling, and each bears its name, or its rank in a list of names.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from ugclu_jax.report.svg import INK, MUTED

    energies = by_energy(rows)
    many = len(rows) > NAMED
    figure = Figure(figsize=(9.0, max(5.0, 1.0 + 0.19 * len(rows)) if many else 5.0), layout="constrained")
    axes = figure.add_subplot()
    handles, labels, absent = [], [], []
    for place, row in enumerate(rows, start=1):
        colour, marker, _, fill = mark_of(row.appearance)
        point = None if row.unfinished else (_energy_point if energies else _kl_point)(row)
        style: dict[str, Any] = dict(marker=marker, color=colour, fillstyle=fill, markersize=8, linestyle="none")
        name = f"{place}  {visible(row.method)}"
        if point is None:
            absent.append(visible(row.label))
            continue
        axes.plot(*point, **style, markeredgewidth=1.4, zorder=3)
        handles.append(Line2D([], [], **style, label=name))
        labels.append((point, str(place) if many else name, colour))
    floor = (0.0, 0.0) if energies else _kl_point(shared_references(rows), of_reference=True)
    if floor is not None:
        axes.plot(*floor, marker="*", color=INK, markersize=14, linestyle="none", zorder=2)
        labels.append((floor, "fresh oracles" if energies else "noise floor", INK))
    without = textwrap.fill(f"Not in the picture: {', '.join(absent)}", 110) if absent else ""
    (_energy_axes if energies else _kl_axes)(axes, without)
    fresh = shared_references(rows).fresh
    if energies and fresh is not None:
        _draw_region(axes, fresh)
    axes.margins(x=0.25, y=0.12)
    axes.set_title("Nearer to the star is nearer to retraining from scratch; 1 is the nearest method")
    axes.grid(alpha=0.25, linewidth=0.5, color=MUTED)
    if many:
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
    _name_points(axes, labels)
    return figure


def _energy_axes(axes: "Axes", without: str) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    ticks = [0.0, *(sign * tick for sign in (1, -1) for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0))]
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_yscale("symlog", linthresh=LINEAR)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    axes.set(xlabel=f"energy distance to the oracles on retained test inputs\n{without}".strip())
    axes.set(ylabel="energy distance to the oracles on unlearned inputs")


def _kl_axes(axes: "Axes", without: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(xscale="log", yscale="log", xlabel=f"KL to the oracle on retained test inputs, nats\n{without}".strip())
    axes.set(ylabel="KL to the oracle on unlearned inputs, nats")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _draw_region(axes: "Axes", fresh: Pair) -> None:
    """Where fresh oracles lie: within two standard errors of 0 on both sides."""
    from matplotlib.patches import Rectangle

    from ugclu_jax.report.svg import MUTED

    width, height = (2 * (side.standard_error or 0.0) for side in (fresh.test, fresh.unlearned))
    axes.add_patch(
        Rectangle((-width, -height), 2 * width, 2 * height, facecolor=MUTED, alpha=0.25, linewidth=0, zorder=1)
    )


class _Box(NamedTuple):
    """A rectangle of the figure, in inches."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "_Box") -> bool:
        """Whether the two share more than an edge."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)


def _name_points(axes: "Axes", labels: list[tuple[Point, str, str]]) -> None:
    """Write each name at the right of its point, or at the nearest height that is free, with a line to the point."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # where the points lie is known once the layout is made
    places = [axes.transData.transform(point) / figure.dpi for point, _, _ in labels]
    taken = [_Box(x - MARKER / 2, y - MARKER / 2, x + MARKER / 2, y + MARKER / 2) for x, y in places]
    edges = axes.bbox.transformed(figure.dpi_scale_trans.inverted())
    for (point, text, colour), (x, y) in zip(labels, places, strict=True):
        for step in range(200):
            # Up, down, further up … by half a line, within the axes.
            height = y + LABEL / 2 * ((step + 1) // 2) * (-1 if step % 2 else 1)
            left = x + MARKER
            box = _Box(left, height - LABEL / 2, left + LETTER * len(text), height + LABEL / 2)
            if edges.y0 <= box.bottom and box.top <= edges.y1 and not any(map(box.overlaps, taken)):
                break
        taken.append(box)
        axes.annotate(
            text,
            point,
            xytext=(72 * MARKER, 72 * (height - y)),
            textcoords="offset points",
            fontsize=8.5,
            va="center",
            color=colour,
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 4} if height != y else None,
        )
