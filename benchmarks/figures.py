"""What the figures of benchmarks have in common."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes_of(x: str, y: str) -> tuple[Figure, Axes]:
    """A figure of one pair of axes."""
    figure = Figure(figsize=(5.0, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
