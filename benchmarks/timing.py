"""Repeats of several things in turn, so that what disturbs a machine for a while disturbs all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

REPEATS = 5
PAUSE = 0.02
"""Seconds between two measurements: the idle threads of one library spin for a moment, at the cost of the next."""


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.lowest)}–{number(self.highest)})"


def number(value: float) -> str:
    """Three significant digits, thousands in full: 0.00123, 1.23, 12,300."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest of the values."""
    return Spread(statistics.median(values), min(values), max(values))


def interleaved(
    cases: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each case, `repeats` of them, all cases taking turns; a call of each before that is not counted.

    Args:
        cases: functions that return when their work is done.
        repeats: rounds; each begins with another case.
        clock: seconds.
    """
    names, seconds = list(cases), {name: [] for name in cases}
    for name in names:
        cases[name]()
    for turn in range(repeats):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            time.sleep(PAUSE)
            start = clock()
            cases[name]()
            seconds[name].append(clock() - start)
    return seconds


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Spread of the quotients round by round: what disturbed a whole round cancels."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Exponent p of the fit `seconds ∝ size^p`: 1 = proportional, 0 = flat."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
