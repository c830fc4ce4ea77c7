"""Data sources by name: arrays in, ids out."""

import difflib
from collections.abc import Callable
from pathlib import Path

from ugclu_jax.data import digits, fashion_mnist
from ugclu_jax.data.dataset import Dataset, from_arrays, hold_out, subset, validate, with_label_noise

__all__ = ["DATASETS", "Dataset", "from_arrays", "hold_out", "load", "subset", "validate", "with_label_noise"]

DATASETS: dict[str, Callable[..., Dataset]] = {"digits": digits.load, "fashion_mnist": fashion_mnist.load}
_READ_FROM_A_DIRECTORY = ("fashion_mnist",)


def load(name: str, directory: Path | str | None = None) -> Dataset:
    """Load a data set by name.

    Args:
        name: a key of `DATASETS`.
        directory: where its files are, for sources that can be given one.

    Returns:
        A validated `Dataset`.

    Raises:
        ValueError: if the name is unknown (the nearest valid names are given), or a directory is given for a source
            that reads none.
        FileNotFoundError: if the data are not on this machine; the message names the ways to get them.

    Example:
        >>> load("digits").num_classes
        10
        >>> load("digit")
        Traceback (most recent call last):
        ...
        ValueError: unknown dataset 'digit': it must be one of digits, fashion_mnist; did you mean digits?
    """
    if name not in DATASETS:
        nearest = difflib.get_close_matches(str(name), DATASETS)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
        raise ValueError(f"unknown dataset {name!r}: it must be one of {', '.join(DATASETS)}{hint}")
    if directory is None:
        return DATASETS[name]()
    if name not in _READ_FROM_A_DIRECTORY:
        raise ValueError(f"directory is {str(directory)!r}: {name} reads no directory; leave it out")
    return DATASETS[name](directory)
