"""Which values a continuous setting may have: stated beside each field, checked here before work starts.

A field `momentum: Annotated[Scalar, MOMENTUM] = 0.0` lies in [0, 1); one that states nothing lies in [0, ∞).
"""

import dataclasses
import math
import typing
from typing import Any, NamedTuple

import jax
import numpy as np


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
KEPT_SHARE = Interval(1.0, lowest_allowed=False)
NORM_BOUND = Interval(lowest_allowed=False, infinity_allowed=True)
"""A largest norm: infinity bounds nothing."""


def range_of(hyper: type, name: str) -> Interval:
    """The range that a class of hyperparameters states for a field.

    >>> from ugclu_jax.descent import DescentHyper
    >>> str(range_of(DescentHyper, "momentum")), str(range_of(DescentHyper, "weight_decay"))
    ('[0, 1)', '[0, ∞)')
    """
    stated = typing.get_args(typing.get_type_hints(hyper, include_extras=True)[name])
    return next((each for each in stated if isinstance(each, Interval)), NON_NEGATIVE)


def check_hyper(hyper: Any, where: str = "") -> None:
    """Refuse hyperparameters of any method whose concrete numbers lie outside their ranges; a trace cannot be checked.

    Args:
        hyper: a dataclass of numbers, each field with its range beside it, or `()` where a method has none.
        where: written before the name of the setting.

    Raises:
        ValueError: naming the setting, its range and the value.

    >>> from ugclu_jax.ugclu import UGCLUHyper
    >>> check_hyper(UGCLUHyper(slow_step_size=1.5))
    Traceback (most recent call last):
        ...
    ValueError: slow_step_size must be in [0, 1], got 1.5
    """
    for field in dataclasses.fields(hyper) if dataclasses.is_dataclass(hyper) else ():
        interval = range_of(type(hyper), field.name)
        for path, value in jax.tree.leaves_with_path(getattr(hyper, field.name)):  # one number, or one a layer
            if not isinstance(value, jax.core.Tracer) and not all(map(interval.holds, np.ravel(value).tolist())):
                place = where + field.name + jax.tree_util.keystr(path)
                raise ValueError(f"{place} must be in {interval}, got {_shown(value)}")


def _shown(value: Any) -> str:
    return f"{float(value):g}" if np.ndim(value) == 0 else str(np.asarray(value))
