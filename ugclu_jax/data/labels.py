"""Labels of any kind to class numbers 0..C-1; the original labels are the names of the classes."""

import unicodedata
from typing import NamedTuple

import numpy as np

from ugclu_jax.data.classes import in_order, near_twins
from ugclu_jax.data.wording import counted, listed


class Numbered(NamedTuple):
    """Labels as numbers.

    Attributes:
        names: of the classes, in the order of their numbers.
        numbers: [N] int32.
        notes: which label has which number, unless they are equal, and labels that look alike.
    """

    names: list[str]
    numbers: np.ndarray
    notes: list[str]


def numbered(labels: np.ndarray) -> Numbered:
    """Number labels: integers and booleans by value, strings that are whole numbers by value, others by spelling.

    Args:
        labels: [N] integers, booleans or strings.

    Raises:
        ValueError: labels of another kind, an empty string, two that differ by space or by form of Unicode alone, or
            labels that are all equal.

    Example:
        >>> names, numbers, notes = numbered(np.array([1, -1, 1]))
        >>> names, numbers.tolist(), notes
        (['-1', '1'], [1, 0, 1], ['label -1 is class 0, label 1 is class 1'])
    """
    if labels.dtype.kind not in "biuU":
        raise ValueError(f"labels are {labels.dtype}: they must be integers of at most 64 bits, booleans or strings")
    values, numbers = np.unique(labels, return_inverse=True)
    names = [str(value) for value in values.tolist()]
    if labels.dtype.kind == "U":
        _refuse_twins(names)
        ordered = in_order(names)
        places = {name: number for number, name in enumerate(ordered)}
        numbers, names = np.array([places[name] for name in names])[numbers], ordered
    if len(names) < 2:
        raise ValueError(f"all labels are {names[0]!r}: at least two different names are needed, one a class")
    notes = []
    if names != [str(number) for number in range(len(names))]:
        pairs = [f"label {name} is class {number}" for number, name in enumerate(names)]
        notes.append(listed(pairs, most=20))
    for group in near_twins(names):
        notes.append(f"{counted(len(group), 'label', 'labels')} are nearly one: {listed(map(repr, group))}")
    return Numbered(names, numbers.astype(np.int32).reshape(labels.shape), notes)


def _refuse_twins(names: list[str]) -> None:
    """Refuse labels that nobody can tell apart by looking at them."""
    seen: dict[str, str] = {}
    for name in names:
        bare = unicodedata.normalize("NFC", name.strip())
        if not bare:
            raise ValueError(f"label {name!r} is empty: every label must be a name")
        if bare in seen:
            raise ValueError(
                f"labels {seen[bare]!a} and {name!a} differ by space or by form of Unicode alone: write one"
            )
        seen[bare] = name
