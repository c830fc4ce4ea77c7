"""Small multiples, one panel a method: ROC of RMIA on log axes, and how sure models are of the label of an example."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ugclu_jax.evidence import ROC, margins
from ugclu_jax.report.attacks import WHO, non_members
from ugclu_jax.report.marks import mark_of
from ugclu_jax.report.outputs import BEFORE, LABELS, Arrays
from ugclu_jax.report.svg import INK, MUTED, STYLE, as_svg
from ugclu_jax.report.visible import visible

COLUMNS = 4
POINTS = 160
"""Of a curve: more are not seen."""
STYLES: dict[str, dict[str, Any]] = {
    "before": dict(color=mark_of(3).colour, linestyle=mark_of(2).dashes),
    "after": dict(color=mark_of(0).colour, linestyle="-"),
    "never": dict(color=mark_of(1).colour, linestyle=mark_of(3).dashes),
    "oracle": dict(color=INK, linestyle=mark_of(1).dashes),
}
SETS = {
    "before": "unlearned, models before",
    "after": "unlearned, models after",
    "never": "never seen, models after",
    "oracle": "unlearned, oracles",
}
EDGES = (0.5, 99.5)
"""Percentiles of the margins between which the axis lies."""


class Panel(NamedTuple):
    """A method at a request."""

    title: str
    curves: Mapping[str, ROC]  # by `attacks.WHO`


class Margins(NamedTuple):
    """The margins of a method's models, all seeds together, by `SETS`."""

    title: str
    values: Mapping[str, np.ndarray]


def margins_of(title: str, own: Arrays, oracles: Arrays) -> Margins:
    """Margins, nats: how much likelier the label of an example is than all other classes together.

    Args:
        title: of the panel.
        own: outputs of models, [M, N, C] by set.
        oracles: outputs of oracles, with the labels of each set.
    """
    other = non_members(oracles)
    logits = {
        "before": (own.get(BEFORE + "unlearned"), "unlearned"),
        "after": (own.get("unlearned"), "unlearned"),
        "never": (own.get(other), other),
        "oracle": (oracles["unlearned"], "unlearned"),
    }
    found = {who: margins(each, oracles[LABELS + name]) for who, (each, name) in logits.items() if each is not None}
    return Margins(title, {who: values[np.isfinite(values)] for who, values in found.items()})


def _axes(panels: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(11.0 * max(columns, 2) / COLUMNS, 0.6 + 2.5 * rows), layout="constrained")
    found = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for axes in found[panels:]:
        axes.set_axis_off()
    for axes in found[max(0, panels - columns) : panels]:
        axes.xaxis.set_tick_params(labelbottom=True)
    return figure, found[:panels]


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    handles = {str(line.get_label()): line for each in axes for line in each.lines}
    named = {label: line for label, line in handles.items() if not label.startswith("_")}
    columns = 2 if figure.get_figwidth() < 9 else 4
    figure.legend(
        named.values(), named.keys(), loc="outside upper left", ncols=columns, frameon=False, handlelength=2.6
    )


def roc_figure(panels: Sequence[Panel]) -> Figure:
    """Share of members found against share of others that are called members, both logarithmic."""
    figure, all_axes = _axes(len(panels))
    members = [curve.members for panel in panels for curve in panel.curves.values()]
    others = [curve.non_members for panel in panels for curve in panel.curves.values()]
    low = min(0.1, 0.8 / max(members, default=100)), min(0.1, 0.8 / max(others, default=100))
    for axes, (title, curves) in zip(all_axes, panels, strict=True):
        edge = max(low)
        axes.plot([edge, 1], [edge, 1], color=MUTED, linewidth=0.8, label="guessing")
        for who, curve in curves.items():
            fpr, tpr = _thinned(np.maximum(curve.fpr, low[1]), np.maximum(curve.tpr, low[0]))
            axes.plot(fpr, tpr, drawstyle="steps-post", label=WHO[who], **STYLES[who])
        if not curves:
            axes.text(0.5, 0.5, "no attack", color=MUTED, ha="center", transform=axes.transAxes)
        areas = " · ".join(f"{curve.auc:.2f}" for curve in curves.values())
        axes.set_title(visible(title) + (f"\nAUC {areas}" if areas else ""), fontsize=8.5)
        axes.set(xscale="log", yscale="log", xlim=(low[1], 1.05), ylim=(low[0], 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
            axis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.2, linewidth=0.5, color=MUTED)
    for axes in all_axes[::COLUMNS]:
        axes.set_ylabel("members found")
    figure.supxlabel("others called members (false positives)", fontsize=8.5)
    _legend(figure, all_axes)
    return figure


def _thinned(fpr: np.ndarray, tpr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A rising curve at no more than `POINTS` false positive rates, evenly spaced on a log axis."""
    wanted = np.geomspace(fpr[0], 1.0, POINTS)
    last = np.unique(np.searchsorted(fpr, wanted * (1 + 1e-12), "right") - 1)
    return fpr[last], tpr[last]


def margins_figure(panels: Sequence[Margins]) -> Figure:
    """Empirical distributions of margins: where the blue line is at the black one, models are as sure as oracles."""
    figure, all_axes = _axes(len(panels))
    every = np.concatenate([values.ravel() for panel in panels for values in panel.values.values()] or [np.zeros(1)])
    limits = np.percentile(every, EDGES) if every.size else (0.0, 1.0)
    for axes, (title, values) in zip(all_axes, panels, strict=True):
        for who, found in values.items():
            if found.size:
                shares = np.linspace(0, 1, POINTS)
                axes.plot(np.quantile(found, shares), shares, label=SETS[who], **STYLES[who])
        axes.axvline(0.0, color=MUTED, linewidth=0.6, linestyle=":")
        axes.set_title(visible(title), fontsize=8.5)
        axes.set(ylim=(-0.02, 1.02))
        if limits[0] < limits[1]:
            room = 0.03 * (limits[1] - limits[0])
            axes.set_xlim(limits[0] - room, limits[1] + room)
    for axes in all_axes[::COLUMNS]:
        axes.set_ylabel("share of examples below")
    figure.supxlabel("margin of the label, nats (0: as likely as all other classes together)", fontsize=8.5)
    _legend(figure, all_axes)
    return figure


def roc_picture(panels: Sequence[Panel], path: Path) -> None:
    """Draw the curves into a PNG file."""
    with matplotlib.rc_context(STYLE):
        roc_figure(panels).savefig(path, dpi=150, facecolor="white")


def roc_svg(panels: Sequence[Panel], name: str) -> Markup:
    """The same for a page."""
    with matplotlib.rc_context(STYLE):
        return as_svg(roc_figure(panels), name)


def margins_svg(panels: Sequence[Margins], name: str) -> Markup:
    """The distributions for a page."""
    with matplotlib.rc_context(STYLE):
        return as_svg(margins_figure(panels), name)
