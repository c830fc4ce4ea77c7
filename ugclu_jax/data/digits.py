"""Handwritten digits, 8x8, from inside the scikit-learn wheel: real data that need no download."""

import numpy as np

from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.data.draws import stratified_rows
from ugclu_jax.extras import installed_by

_TEST_EXAMPLES = 360
_SPLIT_SEED = 0


def load() -> Dataset:
    """Load the 1,797 digits as 1,437 training and 360 test images, [8, 8, 1] uint8 with values 0..16.

    The source has no split of its own, so ours is: 360 test rows by `stratified_rows` with seed 0 (each class's share
    by largest remainder, members by smallest seeded rank); the other rows, in their order, are the training split.

    Returns:
        A validated `Dataset` with `scale` 16.

    Example:
        >>> data = load()
        >>> data.train_inputs.shape, data.test_inputs.shape, data.num_classes
        ((1437, 8, 8, 1), (360, 8, 8, 1), 10)

    References:
        UCI "Optical Recognition of Handwritten Digits" (test part), as shipped by scikit-learn.
    """
    with installed_by("run"):
        from sklearn.datasets import load_digits  # seconds that only users of this data set need to spend

    source = load_digits()
    images, labels = source.images.astype(np.uint8)[..., None], source.target
    test = stratified_rows(labels, _TEST_EXAMPLES, np.random.default_rng(_SPLIT_SEED).random(len(labels)))
    train = np.delete(np.arange(len(labels)), test)
    return from_arrays(
        "digits",
        images[train],
        labels[train],
        images[test],
        labels[test],
        class_names=[str(digit) for digit in range(10)],
        scale=16.0,
    )
