"""Figures as `<svg>` elements of a page: in its font, in its colours, with ids of their own, and nothing loaded."""

import html
import io
import re
from typing import TYPE_CHECKING

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ugclu_jax.report.marks import SERIES

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Figures are drawn in stand-in colours that become CSS variables of the page, so that plots follow light and dark.
INK, MUTED = "#010203", "#818283"
CSS_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)"} | {c: f"var(--series-{i})" for i, c in enumerate(SERIES)}
STYLE: "dict[RcKeyType, object]" = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" in a request's name is a "$"
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


SHARES = 0.69, 1.2
"""Of the width that it was drawn for, how narrow and how wide a page may make a figure: its letters stay readable."""


def as_svg(figure: Figure, name: str) -> Markup:
    """Return a figure as an <svg> element for a page: between two widths, no namespace URL, ids unique in the page."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", facecolor="none")
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<svg ([^>]*?)\bwidth="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)\bheight="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1system-ui, sans-serif", text)
    for colour, variable in CSS_COLOURS.items():
        text = text.replace(colour, variable)
    least, most = (round(share * 96 * figure.get_figwidth()) for share in SHARES)  # CSS has 96 pixels an inch
    about = f'role="img" aria-label="{html.escape(name)}" style="min-width: {least}px; max-width: {most}px"'
    return Markup(text.replace("<svg ", f"<svg {about} ", 1))


def log_scale(axes: Axes) -> None:
    """Make the y-axis logarithmic with plain numbers on it: mathematical type does not survive as text in an SVG."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
