"""Whether two measured numbers differ by more than their noise: what a study's answer may say of them. No training.

    d = a − b,   s_d = √(s_a² + s_b²)          beyond noise where |d| > 2 s_d

Methods of one study share seeds and oracles, so that the error of their difference is mostly smaller than this one:
what is said to differ does, and some of what is called noise may not be.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from ugclu_jax.report.format import number
from ugclu_jax.report.ranking import ERRORS, Row
from ugclu_jax.report.summaries import Statistic


class Measured(NamedTuple):
    """A number and its standard error; None: there were too few runs to have one."""

    value: float
    standard_error: float | None

    def __str__(self) -> str:
        """As a table has it.

        >>> str(Measured(0.25, 0.0125)), str(Measured(0.25, None))
        ('.250 ±.013', '.250')
        """
        return number(self.value) + ("" if self.standard_error is None else f" ±{number(self.standard_error)}")

    @property
    def beyond_noise(self) -> bool:
        """Whether it is not 0, as far as its error tells.

        >>> Measured(-0.25, 0.1).beyond_noise, Measured(0.25, 0.125).beyond_noise, Measured(0.25, None).beyond_noise
        (True, False, False)
        """
        return self.standard_error is not None and abs(self.value) > ERRORS * self.standard_error


def difference(one: Measured, other: Measured) -> Measured:
    """`a − b` with the error of independent numbers.

    >>> difference(Measured(0.5, 0.3), Measured(0.25, 0.4))
    Measured(value=0.25, standard_error=0.5)
    >>> difference(Measured(0.5, None), Measured(0.25, 0.4)).beyond_noise
    False
    """
    a, b = one.standard_error, other.standard_error
    return Measured(one.value - other.value, None if a is None or b is None else math.hypot(a, b))


def of_statistic(statistic: Statistic | None) -> Measured | None:
    """A mean over seeds and its standard error, `s / √n`; None where it is undefined or not finite.

    >>> of_statistic(Statistic(0.5, 0.25, 4))
    Measured(value=0.5, standard_error=0.125)
    """
    if statistic is None or not math.isfinite(statistic.mean):
        return None
    error = None if statistic.std is None else statistic.std / math.sqrt(statistic.values)
    return Measured(statistic.mean, error)


def of_row(row: Row | None, measure: str = "matched") -> Measured | None:
    """A distance of a method that lost no seed; None else.

    Args:
        row: of the method.
        measure: "energy", "matched" or "counterfactual"; "KL", on retained test inputs plus on unlearned inputs.

    >>> of_row(None)
    """
    if row is None or row.unfinished:
        return None
    if measure == "KL":
        return of_statistic(row.distance)
    pair = getattr(row, measure)
    return None if pair is None else Measured(pair.value, pair.standard_error)


def told(one: Measured, other: Measured) -> str:
    """What may be said of the first against the second, both of them distances.

    >>> told(Measured(0.5, 0.01), Measured(0.25, 0.01))
    'farther by .250 ±.014'
    >>> told(Measured(0.25, 0.1), Measured(0.26, 0.1))
    'no difference beyond noise, -.010 ±.141'
    """
    found = difference(one, other)
    if not found.beyond_noise:
        return f"no difference beyond noise, {found}"
    return f"{'farther' if found.value > 0 else 'nearer'} by {Measured(abs(found.value), found.standard_error)}"


def lowest(found: Mapping[str, Measured | None]) -> str | None:
    """The name with the smallest value; None where nothing has one.

    >>> lowest({"a": None, "b": Measured(0.5, None), "c": Measured(0.25, None)})
    'c'
    """
    known = {name: each.value for name, each in found.items() if each is not None}
    return min(known, key=known.__getitem__) if known else None
