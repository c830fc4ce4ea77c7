"""Seeded cuts of a data set: a held-out part, a smaller one, one with wrong labels.

Every cut ranks the training examples by seeded uniform draws and takes the smallest ranks, so a smaller cut with the
same seed lies inside a larger one. Keys go with their examples; where they are more than positions, the draw of an
example follows its key, so that one that comes or goes changes no other's.
"""

import dataclasses

import numpy as np

from ugclu_jax.data.dataset import Dataset, validate
from ugclu_jax.data.draws import smallest_ranks, stratified_rows
from ugclu_jax.data.keys import key_draws


def training_ranks(dataset: Dataset, seed: int) -> np.ndarray:
    """A seeded uniform draw in [0, 1) for each training example, [N] float64."""
    if dataset.keys_are == "position":
        return np.random.default_rng(seed).random(len(dataset.train_labels))
    return key_draws(dataset.train_keys, f"cut {seed}")


def hold_out(dataset: Dataset, examples: int, seed: int) -> Dataset:
    """Make a stratified part of the training split the test split, to choose settings without test data.

    The true test split is dropped. The order of what stays is kept; held-out examples keep their keys; mean
    and std stay those of the whole training split.

    Args:
        dataset: what to cut.
        examples: how many to hold out; shares of classes follow the training split by largest remainder, and every
            class keeps a training example.
        seed: of the draw.

    Raises:
        ValueError: if `examples` is outside 1..N minus the number of classes present.

    Example:
        >>> import numpy as np
        >>> from ugclu_jax.data import from_arrays
        >>> rows = np.arange(20, dtype=np.uint8)[:, None]
        >>> data = from_arrays("toy", rows, [0, 1] * 10, rows[:1], [0])
        >>> part = hold_out(data, 6, seed=0)
        >>> part.train_inputs.shape, np.bincount(part.test_labels).tolist()
        ((14, 1), [3, 3])
    """
    held = stratified_rows(dataset.train_labels, examples, training_ranks(dataset, seed))
    kept = np.delete(np.arange(len(dataset.train_labels)), held)
    return validate(
        dataclasses.replace(
            dataset,
            train_inputs=dataset.train_inputs[kept],
            train_labels=dataset.train_labels[kept],
            test_inputs=dataset.train_inputs[held],
            test_labels=dataset.train_labels[held],
            train_keys=dataset.train_keys[kept],
            test_keys=dataset.train_keys[held],
        )
    )


def subset(dataset: Dataset, per_class: int, seed: int) -> Dataset:
    """Keep at most `per_class` training examples of each class, in their order; the test split stays whole.

    Raises:
        ValueError: if `per_class` is below 1.

    Example:
        >>> import numpy as np
        >>> from ugclu_jax.data import from_arrays
        >>> rows = np.arange(20, dtype=np.uint8)[:, None]
        >>> data = from_arrays("toy", rows, [0, 1] * 10, rows[:1], [0])
        >>> np.bincount(subset(data, 3, seed=0).train_labels).tolist()
        [3, 3]
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}: it must be at least 1; leave subset out to keep every example")
    rows = smallest_ranks(training_ranks(dataset, seed), dataset.train_labels, np.full(dataset.num_classes, per_class))
    return validate(
        dataclasses.replace(
            dataset,
            train_inputs=dataset.train_inputs[rows],
            train_labels=dataset.train_labels[rows],
            train_keys=dataset.train_keys[rows],
        )
    )


def with_label_noise(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """Give a share of the training examples a uniformly random *other* label.

    Args:
        dataset: what to spoil; its arrays are left as they are.
        fraction: share of the training split, 0..1; the count is rounded to the nearest whole number.
        seed: of the draw.

    Returns:
        The data set with the wrong labels, and the rows changed, [n] int32, sorted.

    Raises:
        ValueError: if `fraction` is outside 0..1.

    Example:
        >>> import numpy as np
        >>> from ugclu_jax.data import from_arrays
        >>> rows = np.arange(20, dtype=np.uint8)[:, None]
        >>> data = from_arrays("toy", rows, [0, 1] * 10, rows[:1], [0])
        >>> noisy, ids = with_label_noise(data, 0.1, seed=0)
        >>> np.array_equal(np.flatnonzero(noisy.train_labels != data.train_labels), ids), len(ids)
        (True, 2)
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}: it must lie in 0..1; 0.1 spoils one label in ten")
    generator = np.random.default_rng(seed)
    count = round(fraction * len(dataset.train_labels))
    rows = np.sort(np.argsort(generator.random(len(dataset.train_labels)), kind="stable")[:count]).astype(np.int32)
    shifts = generator.integers(1, dataset.num_classes, size=count)  # never 0 modulo C, hence another label
    labels = dataset.train_labels.copy()
    labels[rows] = (labels[rows] + shifts) % dataset.num_classes
    return validate(dataclasses.replace(dataset, train_labels=labels)), rows
