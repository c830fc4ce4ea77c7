"""Stable ids: one number names an example of a source for good, whatever cut of the data set it lies in."""

from typing import Literal

import numpy as np

from ugclu_jax.examples import FIRST_TEST_ID

Split = Literal["train", "test"]


def example_id(split: Split, position: int) -> int:
    """The id of an example: `position` in the training split, `2**40 + position` in the test split.

    Args:
        split: "train" or "test", as the source has them.
        position: 0-based, in the source's own order; below 2**40.

    Raises:
        ValueError: for another split, or a position that is out of range.

    Example:
        >>> example_id("train", 7), example_id("test", 7) == 2**40 + 7
        (7, True)
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}: it must be 'train' or 'test'")
    if not 0 <= position < FIRST_TEST_ID:
        raise ValueError(f"position is {position}: it must lie in 0..2**40 - 1; count from 0 within the split")
    return int(position) + (FIRST_TEST_ID if split == "test" else 0)


def split_and_position(stable_id: int) -> tuple[Split, int]:
    """The split and position that an id was made of.

    Raises:
        ValueError: for a number that `example_id` never returns.

    Example:
        >>> split_and_position(2**40 + 7)
        ('test', 7)
    """
    if not 0 <= stable_id < 2 * FIRST_TEST_ID:
        raise ValueError(f"id is {stable_id}: it must lie in 0..2**41 - 1; take it from Dataset.train_ids or test_ids")
    return ("test", int(stable_id) - FIRST_TEST_ID) if stable_id >= FIRST_TEST_ID else ("train", int(stable_id))


def split_ids(split: Split, examples: int) -> np.ndarray:
    """Ids of a whole split, [examples] int64.

    Example:
        >>> split_ids("train", 3)
        array([0, 1, 2])
    """
    return np.arange(examples, dtype=np.int64) + example_id(split, 0)
