"""What the evaluation of a request looks at: outputs of these rows are kept, of many models too, and no others."""

from typing import NamedTuple

import numpy as np

from ugclu_jax.data.dataset import Dataset
from ugclu_jax.evaluation import Labels, Logits
from ugclu_jax.requests import Situation, renumbered, rows_of


class View(NamedTuple):
    """Some rows of the two splits, and everything else by places in them.

    Attributes:
        train, test: sorted rows.
        labels: of these rows.
        situation: after the request, its rows as places in `train` and `test`.
    """

    train: np.ndarray
    test: np.ndarray
    labels: Labels
    situation: Situation

    def of(self, logits: Logits) -> Logits:
        """Outputs on these rows, from those on whole splits."""
        return Logits(logits.train[..., self.train, :], logits.test[..., self.test, :])

    def places(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Where rows of a split that are looked at stand in outputs on these rows."""
        return np.searchsorted(self.train if split == "train" else self.test, rows)


def view_of(situation: Situation, dataset: Dataset) -> View:
    """The view of a request.

    Args:
        situation: after it, as far as it is measured.
        dataset: whose rows it names.

    >>> from ugclu_jax.data import from_arrays
    >>> from ugclu_jax.requests import Groups, Request, situations
    >>> toy = from_arrays("toy", np.zeros((9, 2)), [0, 1] * 4 + [0], np.zeros((3, 2)), [0, 1, 1])
    >>> stream = [Request("learn", "some", [2, 4, 8])]
    >>> one = situations(stream, toy.train_labels, toy.test_labels, 2, Groups({"0": (0,), "1": (1,)}))[0]
    >>> view = view_of(one, toy)
    >>> view.train.tolist(), view.situation.learned.tolist(), view.places("train", np.array([8])).tolist()
    ([2, 4, 8], [0, 1, 2], [2])
    """
    train, test = rows_of(situation)
    labels = Labels(dataset.train_labels[train], dataset.test_labels[test])
    return View(train, test, labels, renumbered(situation, train, test))
