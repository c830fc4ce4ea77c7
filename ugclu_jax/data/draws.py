"""Draws of rows by class: examples are ranked, and the smallest ranks of each class are taken."""

import numpy as np


def stratified_rows(labels: np.ndarray, examples: int, ranks: np.ndarray) -> np.ndarray:
    """Take rows whose class shares follow `labels` by largest remainder, leaving at least one row of every class.

    Args:
        labels: [N] non-negative integers.
        examples: how many rows to take.
        ranks: [N] any numbers, drawn; the smallest of each class are taken.

    Returns:
        [examples] int64 row numbers, sorted.

    Raises:
        ValueError: if `examples` is outside 1..N minus the number of classes present.

    Example:
        >>> import numpy as np
        >>> labels = np.array([0] * 6 + [1] * 3)
        >>> labels[stratified_rows(labels, 3, np.random.default_rng(0).random(9))].tolist()
        [0, 0, 1]
    """
    counts = np.bincount(labels)
    room = np.maximum(counts - 1, 0)
    if not 1 <= examples <= room.sum():
        raise ValueError(
            f"examples is {examples}: it must lie in 1..{room.sum()}, so that every class keeps a training example"
        )
    shares = counts * examples / counts.sum()
    quotas = np.minimum(np.floor(shares).astype(np.int64), room)
    while quotas.sum() < examples:
        quotas[np.argmax(np.where(quotas < room, shares - quotas, -np.inf))] += 1
    return smallest_ranks(ranks, labels, quotas)


def smallest_ranks(ranks: np.ndarray, labels: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Choose, of each class `c`, the `quotas[c]` rows of smallest rank, or all if there are fewer.

    Args:
        ranks: [N] any numbers.
        labels: [N] integers.
        quotas: [C] how many rows of each class.

    Returns:
        int64 row numbers, sorted.

    Example:
        >>> import numpy as np
        >>> smallest_ranks(np.array([0.9, 0.1, 0.5, 0.2]), np.array([0, 0, 1, 1]), np.array([1, 5])).tolist()
        [1, 2, 3]
    """
    rows = []
    for label, quota in enumerate(quotas):
        members = np.flatnonzero(labels == label)
        rows.append(members[np.argsort(ranks[members], kind="stable")[:quota]])
    return np.sort(np.concatenate(rows))
