"""Points in the space of hyperparameters, by name: grids, random and quasi-random draws on a logarithmic scale."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ugclu_jax.tuning.problem import Hypers
from ugclu_jax.types import RequestKind

Point = dict[str, float]
Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value by name; both positive."""


def grid(values: Mapping[str, Sequence[float]]) -> list[Point]:
    """Every combination of the values.

    >>> grid({"a": [1.0, 2.0], "b": [3.0]})
    [{'a': 1.0, 'b': 3.0}, {'a': 2.0, 'b': 3.0}]
    """
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def random(ranges: Ranges, number: int, seed: int = 0) -> list[Point]:
    """`number` points, uniform on a logarithmic scale in every range.

    Args:
        ranges: lowest and highest value by name, positive.
        number: of points.
        seed: of the draw.

    Raises:
        ValueError: a range that is empty or not positive.

    >>> all(0.1 <= point["rate"] <= 1.0 for point in random({"rate": (0.1, 1.0)}, 3))
    True
    """
    return _spread(ranges, np.random.default_rng(seed).random((number, len(ranges))))


def sobol(ranges: Ranges, number: int, seed: int = 0) -> list[Point]:
    """`number` points of a scrambled Sobol sequence, on a logarithmic scale: the first of more are the same.

    Args:
        ranges: lowest and highest value by name, positive.
        number: of points.
        seed: of the scrambling.

    Raises:
        ValueError: a range that is empty or not positive.

    >>> sobol({"rate": (0.01, 1.0)}, 2) == sobol({"rate": (0.01, 1.0)}, 3)[:2]
    True
    >>> sobol({"rate": (0.0, 1.0)}, 2)
    Traceback (most recent call last):
        ...
    ValueError: the range of rate must be 0 < lowest <= highest < inf, got 0 to 1
    """
    if not ranges:
        return [{} for _ in range(number)]
    from scipy.stats import qmc  # half a second that the help of an experiment need not wait for

    unit = qmc.Sobol(len(ranges), rng=seed).random_base2(math.ceil(math.log2(max(number, 1))))
    return _spread(ranges, unit[:number])


def _spread(ranges: Ranges, unit: np.ndarray) -> list[Point]:
    for name, (low, high) in ranges.items():
        if not 0 < low <= high < math.inf:
            raise ValueError(f"the range of {name} must be 0 < lowest <= highest < inf, got {low:g} to {high:g}")
    lows, highs = (np.log([bounds[side] for bounds in ranges.values()]) for side in (0, 1))
    return [dict(zip(ranges, np.exp(lows + row * (highs - lows)).tolist(), strict=True)) for row in unit]


def at(hyper: Hypers, point: Mapping[str, Any]) -> Hypers:
    """The hyperparameters with those of a point in place, each named `KIND.FIELD`.

    Args:
        hyper: hyperparameters by kind of request.
        point: values by name, of any type that the program takes.

    Raises:
        ValueError: no such hyperparameter; all names are given.

    >>> from ugclu_jax.ugclu_settings import UGCLUHyper
    >>> at({"unlearn": UGCLUHyper()}, {"unlearn.clip_norm": 2.0})["unlearn"].clip_norm
    2.0
    """
    result = dict(hyper)
    for name, value in point.items():
        kind, field = kind_and_field(result, name)
        result[kind] = dataclasses.replace(result[kind], **{field: value})
    return result


def value_at(hyper: Hypers, name: str) -> Any:
    """The hyperparameter of a name `KIND.FIELD`.

    Raises:
        ValueError: no such hyperparameter; all names are given.

    >>> from ugclu_jax.ugclu_settings import UGCLUHyper
    >>> value_at({"unlearn": UGCLUHyper(clip_norm=3.0)}, "unlearn.clip_norm")
    3.0
    """
    kind, field = kind_and_field(hyper, name)
    return getattr(hyper[kind], field)


def kind_and_field(hyper: Hypers, name: str) -> tuple[RequestKind, str]:
    """What a name `KIND.FIELD` names.

    Raises:
        ValueError: no such hyperparameter; all names are given.

    >>> from ugclu_jax.ugclu_settings import UGCLUHyper
    >>> kind_and_field({"unlearn": UGCLUHyper()}, "unlearn.clip_norm")
    ('unlearn', 'clip_norm')
    """
    names = {f"{kind}.{field.name}": (kind, field.name) for kind in hyper for field in dataclasses.fields(hyper[kind])}
    if name not in names:
        raise ValueError(f"unknown hyperparameter {name!r}; it must be one of {', '.join(names)}")
    return names[name]
