"""Which values a continuous setting may have: stated beside each `Hyper`, checked here before work starts."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax


class Interval(NamedTuple):
    """The values that a setting may have.

    >>> str(Interval()), str(Interval(1.0)), str(Interval(lowest_allowed=False, infinity_allowed=True))
    ('[0, ∞)', '[0, 1]', '(0, ∞]')
    """

    highest: float = math.inf
    lowest_allowed: bool = True  # the lowest is 0
    highest_allowed: bool = True
    infinity_allowed: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value lies in the interval; NaN lies in none."""
        if math.isinf(value):
            return value > 0 and self.infinity_allowed
        above = value >= 0 if self.lowest_allowed else value > 0
        return above and (value <= self.highest if self.highest_allowed else value < self.highest)

    def __str__(self) -> str:
        top = f"{self.highest:g}" if math.isfinite(self.highest) else "∞"
        closed = self.infinity_allowed if math.isinf(self.highest) else self.highest_allowed
        return f"{'[' if self.lowest_allowed else '('}0, {top}{']' if closed else ')'}"


NON_NEGATIVE = Interval()
POSITIVE = Interval(lowest_allowed=False)
SHARE = Interval(1.0)
MOMENTUM = Interval(1.0, highest_allowed=False)
NORM_BOUND = Interval(lowest_allowed=False, infinity_allowed=True)
"""A largest norm: infinity bounds nothing."""


def check_hyper(hyper: Any, where: str = "") -> None:
    """Refuse a `Hyper` of any method whose concrete numbers lie outside its ranges; traced values cannot be checked.

    Args:
        hyper: a dataclass of numbers, whose class may state `ranges`, intervals by field; all others are `[0, ∞)`.
        where: written before the name of the setting.

    Raises:
        ValueError: naming the setting, its range and the value.

    >>> from ugclu_jax.types import Hyper
    >>> check_hyper(Hyper(slow_step_size=1.5))
    Traceback (most recent call last):
        ...
    ValueError: slow_step_size must be in [0, 1], got 1.5
    """
    for field in dataclasses.fields(hyper):
        interval = hyper.ranges.get(field.name, NON_NEGATIVE)
        for path, value in jax.tree.leaves_with_path(getattr(hyper, field.name)):  # one number, or one a layer
            if not interval.holds(float(value)):
                place = where + field.name + jax.tree_util.keystr(path)
                raise ValueError(f"{place} must be in {interval}, got {float(value):g}")
