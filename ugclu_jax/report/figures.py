"""Curves over requests: one a method, and what they are to be read against."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ugclu_jax.report.columns import Column
from ugclu_jax.report.marks import Dashes, mark_of
from ugclu_jax.report.metrics import Numbers
from ugclu_jax.report.summaries import RequestSummary, Statistic, by_request, methods_of, references
from ugclu_jax.report.svg import INK, MUTED, STYLE, as_svg, log_scale

LABEL_HEIGHT = 0.28  # inches that the name of a curve takes at its end


def _mark_requests(axes: Axes, summaries: list[RequestSummary], named: bool) -> None:
    groups = by_request(summaries)
    for request, group in groups.items():
        unlearn = group[0].kind == "unlearn"
        if unlearn:
            axes.axvspan(request + 0.6, request + 1.4, color=MUTED, alpha=0.16, linewidth=0)
        axes.axvline(request + 1, color=MUTED, linewidth=0.6, linestyle="-" if unlearn else ":", alpha=0.7, zorder=0)
    ticks = [request + 1 for request in groups]
    if named:
        labels = [f"{tick} {group[0].name}" for tick, group in zip(ticks, groups.values(), strict=True)]
        axes.set_xticks(ticks, labels, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(ticks)
    axes.set_xlim(ticks[0] - 0.45, ticks[-1] + 0.45)
    axes.set_xlabel("request")


class Curve(NamedTuple):
    """A number over requests, where it is defined."""

    name: str
    colour: str
    marker: str
    dashes: Dashes
    request: np.ndarray  # from 1
    mean: np.ndarray
    std: np.ndarray  # 0 for none


def _curve(
    name: str,
    colour: str,
    marker: str,
    dashes: Dashes,
    summaries: list[RequestSummary],
    number: Callable[[Numbers[Statistic]], Statistic | None],
) -> Curve:
    points = [(summary.request, found) for summary in summaries if (found := number(summary.statistics)) is not None]
    numbers = ([request + 1 for request, _ in points], [s.mean for _, s in points], [s.std or 0.0 for _, s in points])
    return Curve(name, colour, marker, dashes, *(np.array(each, dtype=float) for each in numbers))


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each curve's name beside its end, at the right of the axes, pushed apart where they would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted((float(to_axes.transform((0.0, y))[1]), text, colour) for y, text, colour in ends)
    figure = axes.get_figure(root=True)
    assert figure is not None
    gap, heights = LABEL_HEIGHT / figure.get_figheight(), [height for height, _, _ in placed]
    for row in range(1, len(heights)):
        heights[row] = max(heights[row], heights[row - 1] + gap)
    excess = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        axes.text(1.015, height - excess, text, color=colour, transform=axes.transAxes, va="center", fontweight="bold")


def _draw(axes: Axes, summaries: list[RequestSummary], column: Column, reference_name: str, named: bool) -> None:
    """Draw a number over requests, a line a method, and its reference; a cross on the upper edge where it diverged."""
    _mark_requests(axes, summaries, named)
    curves = []
    for i, name in enumerate(methods_of(summaries)):
        own = [summary for summary in summaries if summary.method == name]
        colour, marker, dashes, _ = mark_of(i)
        curves.append(_curve(name, colour, marker, dashes, own, column.value))
    shared = [references(group) for group in by_request(summaries).values()]
    curves.append(_curve(reference_name, INK, ".", "--", shared, column.reference))
    ends = []
    for name, colour, marker, dashes, x, mean, std in curves:
        fine = np.isfinite(mean)
        axes.plot(x, np.where(fine, mean, np.nan), color=colour, marker=marker, linestyle=dashes, zorder=3)
        spread = np.where(np.isfinite(std), std, 0.0)[fine]
        # On a log axis a band that reaches zero would leave the plot: it stops at a tenth of the mean.
        low = np.maximum(mean[fine] - spread, 0.1 * mean[fine])
        axes.fill_between(x[fine], low, mean[fine] + spread, color=colour, alpha=0.16, linewidth=0)
        edge = axes.get_xaxis_transform()
        axes.plot(x[~fine], np.full((~fine).sum(), 0.98), "x", color=colour, transform=edge, markersize=8)
        if fine.any():
            ends.append((mean[fine][-1], name, colour))
    positive = np.concatenate([curve.mean for curve in curves])
    positive = positive[np.isfinite(positive)]
    if reference_name == "noise floor":
        if positive.size and positive.min() > 0 and positive.max() > 8 * positive.min():
            log_scale(axes)
        else:
            axes.set_ylim(bottom=0.0)
        axes.autoscale_view()
        bottom = axes.get_ylim()[0]
        axes.fill_between(curves[-1].request, bottom, curves[-1].mean, color=MUTED, alpha=0.22, linewidth=0, zorder=1)
        axes.set_ylim(bottom=bottom)
    else:
        axes.set_ylim(-0.03, 1.03)
    _label_ends(axes, ends)


@matplotlib.rc_context(STYLE)
def over_requests(
    summaries: list[RequestSummary], panels: dict[str, Column], reference_name: str, unit: str, name: str
) -> Markup:
    """Draw numbers over requests, a panel each.

    Args:
        summaries: of all methods.
        panels: what is drawn, by the panel's title.
        reference_name: oracle, or noise floor.
        unit: of the numbers.
        name: of the figure, for its ids and for who cannot see it.
    """
    # As high as the names of all methods, one above the other, beside the axes.
    curves = len(methods_of(summaries)) + 1
    figure = Figure(figsize=(11.0, max(3.7, 1.3 * curves * LABEL_HEIGHT)), layout="constrained")
    for axes, (title, column) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw(axes, summaries, column, reference_name, named=len(panels) < 3)
        axes.set_title(title)
        axes.set_ylabel(unit)
    return as_svg(figure, name)
