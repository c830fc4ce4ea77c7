"""What the examples of a data set are called: the keys, classes and conditions by which a stream names them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Names(NamedTuple):
    """Keys and classes of the rows of both splits.

    Attributes:
        train_keys: [N] strings.
        train_labels: [N] integers.
        test_keys: [N'] strings, none of them a training key.
        test_labels: [N'] integers.
        class_names: of label 0, 1, ….
        positions: whether keys are `train/0`, `train/1`, …, so that a number and a range of numbers name them too.
        where: from a condition to the rows of the training and of the test split for which it is true.
    """

    train_keys: np.ndarray
    train_labels: np.ndarray
    test_keys: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    positions: bool
    where: Callable[[str], tuple[np.ndarray, np.ndarray]] | None = None

    @classmethod
    def numbered(cls, labels: Sequence[int] | np.ndarray) -> "Names":
        """Examples that have no names: training rows are known by their number, classes by theirs.

        >>> Names.numbered([0, 2]).train_keys.tolist(), Names.numbered([0, 2]).class_names
        (['train/0', 'train/1'], ('0', '1', '2'))
        """
        labels, none = np.asarray(labels), np.zeros(0, np.int32)
        keys = np.array([f"train/{row}" for row in range(len(labels))], np.str_)
        classes = tuple(map(str, range(int(labels.max(initial=-1)) + 1)))
        return cls(keys, labels, np.zeros(0, np.str_), none, classes, positions=True)

    def rows(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Rows of the training split, rows of the test split, and the keys that are of neither, each in their order.

        >>> found = Names.numbered([0, 0, 1]).rows(["train/2", "cat.png"])
        >>> found[0].tolist(), found[2]
        ([2], ['cat.png'])
        """
        train, left = _looked_up(self.train_keys, np.array(list(keys), np.str_))
        test, absent = _looked_up(self.test_keys, left)
        return train, test, absent.tolist()


def _looked_up(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the wanted keys that are there, and those that are not."""
    if not len(keys) or not len(wanted):
        return np.zeros(0, np.int64), wanted
    order = np.argsort(keys, kind="stable")
    places = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    rows = order[places]
    there = keys[rows] == wanted
    return rows[there], wanted[~there]
