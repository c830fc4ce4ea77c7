"""The picture of a study that sweeps a setting: a measured number over it, with errors, a panel each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ugclu_jax.report.compared import Measured
from ugclu_jax.report.marks import mark_of
from ugclu_jax.report.ranking import ERRORS

Series = Sequence[tuple[float, Measured]]
NOTHING: Mapping[str, Measured] = MappingProxyType({})
MARGIN = 1.15
"""Factor from the outermost points to the ends of a logarithmic axis."""


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
        title: of the panel.
        x: name of the setting, whose axis is logarithmic.
        y: name of the number.
        series: by name, points `(x, number)`; a name has one mark in all panels.
        ticks: values of the setting, one or more; the axis ends beside the outermost.
        levels: numbers that have no such setting, drawn across.
        noise: a standard error, of which a band around 0 has two on each side; 0 for none.
    """

    title: str
    x: str
    y: str
    series: Mapping[str, Series]
    ticks: Sequence[float]
    levels: Mapping[str, Measured] = NOTHING
    noise: float = 0.0


def sweep_picture(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels side by side into a PNG file: points with one standard error, lines through them."""
    import matplotlib  # half a second that `--help` need not wait for
    from matplotlib.figure import Figure

    from ugclu_jax.report.svg import MUTED, STYLE

    names = list(dict.fromkeys(name for panel in panels for name in (*panel.series, *panel.levels)))
    marks = {name: mark_of(i) for i, name in enumerate(names)}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
        handles = {}
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.set_xscale("log")
            axes.set_xlim(min(panel.ticks) / MARGIN, max(panel.ticks) * MARGIN)  # now: one point alone has no width
            for name, points in panel.series.items():
                mark = marks[name]
                handles[name] = axes.errorbar(
                    [x for x, _ in points],
                    [found.value for _, found in points],
                    [found.standard_error or 0.0 for _, found in points],
                    color=mark.colour,
                    marker=mark.marker,
                    linestyle=mark.dashes,
                    fillstyle=mark.fill,
                    linewidth=1.3,
                    elinewidth=0.8,
                    capsize=2.0,
                )
            for name, found in panel.levels.items():
                mark, error = marks[name], found.standard_error or 0.0
                handles[name] = axes.axhline(found.value, color=mark.colour, linestyle=mark.dashes, linewidth=1.0)
                axes.axhspan(found.value - error, found.value + error, color=mark.colour, alpha=0.1, linewidth=0)
            if panel.noise:
                low, high = -ERRORS * panel.noise, ERRORS * panel.noise
                axes.axhspan(low, high, color=MUTED, alpha=0.25, linewidth=0, zorder=0)
            axes.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
            axes.set_xticks([], minor=True)
            axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
            axes.grid(alpha=0.25, linewidth=0.5, color=MUTED)
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 4), frameon=False
        )
        figure.savefig(path, dpi=150, facecolor="white")
