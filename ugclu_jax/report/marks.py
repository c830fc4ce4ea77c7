"""How one series is told from another: by its marker and its dashes, on paper without colour; by its colour on top.

The colours are far apart for all kinds of colour vision, on white as on black (`style.css` has the dark ones).
"""

from typing import NamedTuple

SERIES = ("#0044ff", "#aa6a00", "#075563", "#f54d8d", "#9a1900", "#2a99de")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
Dashes = str | tuple[int, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (9, 2.5)))
FILLS = ("full", "none", "left", "bottom", "right")
"""Of a marker where there is no line."""


class Mark(NamedTuple):
    """What a series is drawn with."""

    colour: str
    marker: str
    dashes: Dashes
    fill: str


def mark_of(series: int) -> Mark:
    """The mark of the i-th series; of the first 35 no two share both marker and dashes, nor both marker and fill.

    >>> mark_of(0)
    Mark(colour='#0044ff', marker='o', dashes='-', fill='full')
    """
    way = series % len(DASHES)
    return Mark(SERIES[series % len(SERIES)], MARKERS[series % len(MARKERS)], DASHES[way], FILLS[way])
