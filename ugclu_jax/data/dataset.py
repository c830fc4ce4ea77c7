"""A labelled data set as NumPy arrays, the checks that guard it, and the seeded cuts that experiments make of it.

The id of an example is its row in the training split. Every random cut below ranks the training examples by seeded
uniform draws and takes the smallest ranks, so a smaller cut with the same seed lies inside a larger one.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from ugclu_jax.data.checks import check_inputs, check_labels, check_scale
from ugclu_jax.data.draws import smallest_ranks, stratified_rows

_STATISTICS_CHUNK = 4096  # examples converted to float64 at a time: 60,000 images at once would take 376 MB


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Two splits of examples, as stored, with what a model needs to normalise them.

    Attributes:
        name: what the report calls it.
        train_inputs: [N, ...] uint8 or float32, channels last.
        train_labels: [N] int32.
        test_inputs: [N', ...] of the same dtype and example shape.
        test_labels: [N'] int32.
        class_names: one name a class; label `c` means `class_names[c]`.
        mean: per channel (last axis), of `train_inputs / scale`.
        std: per channel, of `train_inputs / scale`, positive.
        scale: what stored values are divided by first: the largest storable one of uint8 data (255, or 16 for digits).
    """

    name: str
    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float

    @property
    def num_classes(self) -> int:
        """C, the number of class names."""
        return len(self.class_names)

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over every field: array bytes, shapes and dtypes, names and statistics."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{field.name}:{value.dtype.str}:{value.shape};".encode())
                digest.update(np.ascontiguousarray(value).data)
            else:
                digest.update(f"{field.name}:{value!r};".encode())
        return digest.hexdigest()


def validate(dataset: Dataset) -> Dataset:
    """Return `dataset` unchanged, or refuse it.

    Raises:
        ValueError: naming the field, the value received, the rule and the fix.

    Example:
        >>> import numpy as np
        >>> data = from_arrays("toy", np.eye(4, dtype=np.uint8), [0, 1, 0, 1], np.eye(4, dtype=np.uint8), [0, 1, 0, 1])
        >>> validate(data) is data
        True
        >>> validate(dataclasses.replace(data, scale=0.0))
        Traceback (most recent call last):
        ...
        ValueError: scale is 0.0: it must be a finite number > 0; use the largest possible input
    """
    if not isinstance(dataset.name, str) or not dataset.name:
        raise ValueError(f"name is {dataset.name!r}: it must be a non-empty string; give the data set a name")
    names = dataset.class_names
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"class_names is {names!r}: it must be a tuple of non-empty strings, one a class")
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"class_names is {names!r}: at least two different names are needed; name each class once")
    for split in ("train", "test"):
        inputs, labels = getattr(dataset, f"{split}_inputs"), getattr(dataset, f"{split}_labels")
        check_inputs(f"{split}_inputs", inputs)
        check_labels(f"{split}_labels", labels, len(inputs), dataset.num_classes)
        if labels.dtype != np.int32:
            raise ValueError(f"{split}_labels has dtype {labels.dtype}: it must be int32; use .astype(np.int32)")
    train, test = dataset.train_inputs, dataset.test_inputs
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise ValueError(
            f"test_inputs is {test.dtype}{list(test.shape)} and train_inputs {train.dtype}{list(train.shape)}: dtype "
            "and example shape must agree; prepare both splits in the same way"
        )
    check_scale(dataset.scale, train, test)
    for key, values in (("mean", dataset.mean), ("std", dataset.std)):
        if not isinstance(values, tuple) or len(values) != train.shape[-1] or not np.isfinite(values).all():
            raise ValueError(
                f"{key} is {values!r}: it must be a tuple of {train.shape[-1]} finite numbers, one a channel (last "
                "axis); leave it out and from_arrays computes it"
            )
    if min(dataset.std) <= 0:
        raise ValueError(f"std is {dataset.std!r}: every entry must be > 0; use 1.0 for a constant channel")
    return dataset


def from_arrays(
    name: str,
    train_inputs: np.ndarray,
    train_labels: np.ndarray,
    test_inputs: np.ndarray,
    test_labels: np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    scale: float | None = None,
) -> Dataset:
    """Build and validate a data set from arrays of one's own.

    Args:
        name: what the report calls it.
        train_inputs: [N, ...] uint8 or any float (kept as float32), channels last.
        train_labels: [N] integers 0..C-1.
        test_inputs: [N', ...] like `train_inputs`.
        test_labels: [N'] integers 0..C-1.
        class_names: C names; "0", "1", … up to the largest label when left out.
        mean: per channel, of `inputs / scale`; of the training split when left out.
        std: per channel, of `inputs / scale`; of the training split when left out (1 where a channel is constant).
        scale: divisor of the stored values; 255 for uint8 and 1 for floats when left out.

    Returns:
        A validated `Dataset`.

    Raises:
        ValueError: as `validate`.

    Example:
        >>> import numpy as np
        >>> images = np.zeros((6, 4, 4, 1), np.uint8); images[3:] = 255
        >>> data = from_arrays("toy", images, [0, 0, 0, 1, 1, 1], images[2:4], [0, 1])
        >>> data.num_classes, data.mean, data.std, data.scale
        (2, (0.5,), (0.5,), 255.0)
    """
    train_inputs, test_inputs = _as_inputs(train_inputs), _as_inputs(test_inputs)
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    for key, inputs in (("train_inputs", train_inputs), ("test_inputs", test_inputs)):
        check_inputs(key, inputs)
    if class_names is None:
        class_names = _default_class_names(train_labels, test_labels)
    check_labels("train_labels", train_labels, len(train_inputs), len(class_names))  # before int32 could wrap them
    check_labels("test_labels", test_labels, len(test_inputs), len(class_names))
    if scale is None:
        scale = 255.0 if train_inputs.dtype == np.uint8 else 1.0
    check_scale(scale, train_inputs, test_inputs)
    if mean is None or std is None:
        computed_mean, computed_std = _statistics(train_inputs, scale)
        mean, std = (computed_mean if mean is None else mean), (computed_std if std is None else std)
    return validate(
        Dataset(
            name=name,
            train_inputs=train_inputs,
            train_labels=train_labels.astype(np.int32),
            test_inputs=test_inputs,
            test_labels=test_labels.astype(np.int32),
            class_names=tuple(class_names),
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
            scale=float(scale),
        )
    )


def hold_out(dataset: Dataset, examples: int, seed: int) -> Dataset:
    """Make a stratified part of the training split the test split, to choose settings without test data.

    The true test split is dropped. Ids are the rows of the smaller training split, whose order is kept; mean and std
    stay those of the whole training split.

    Args:
        dataset: what to cut.
        examples: how many to hold out; shares of classes follow the training split by largest remainder, and every
            class keeps a training example.
        seed: of the draw.

    Raises:
        ValueError: if `examples` is outside 1..N minus the number of classes present.

    Example:
        >>> import numpy as np
        >>> rows = np.arange(20, dtype=np.uint8)[:, None]
        >>> data = from_arrays("toy", rows, [0, 1] * 10, rows[:1], [0])
        >>> part = hold_out(data, 6, seed=0)
        >>> part.train_inputs.shape, np.bincount(part.test_labels).tolist()
        ((14, 1), [3, 3])
    """
    held = stratified_rows(dataset.train_labels, examples, seed)
    kept = np.delete(np.arange(len(dataset.train_labels)), held)
    return validate(
        dataclasses.replace(
            dataset,
            train_inputs=dataset.train_inputs[kept],
            train_labels=dataset.train_labels[kept],
            test_inputs=dataset.train_inputs[held],
            test_labels=dataset.train_labels[held],
        )
    )


def subset(dataset: Dataset, per_class: int, seed: int) -> Dataset:
    """Keep at most `per_class` training examples of each class, in their order; the test split stays whole.

    Raises:
        ValueError: if `per_class` is below 1.

    Example:
        >>> import numpy as np
        >>> rows = np.arange(20, dtype=np.uint8)[:, None]
        >>> data = from_arrays("toy", rows, [0, 1] * 10, rows[:1], [0])
        >>> np.bincount(subset(data, 3, seed=0).train_labels).tolist()
        [3, 3]
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}: it must be at least 1; leave subset out to keep every example")
    ranks = np.random.default_rng(seed).random(len(dataset.train_labels))
    rows = smallest_ranks(ranks, dataset.train_labels, np.full(dataset.num_classes, per_class))
    return validate(
        dataclasses.replace(dataset, train_inputs=dataset.train_inputs[rows], train_labels=dataset.train_labels[rows])
    )


def with_label_noise(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """Give a share of the training examples a uniformly random *other* label.

    Args:
        dataset: what to spoil; its arrays are left as they are.
        fraction: share of the training split, 0..1; the count is rounded to the nearest whole number.
        seed: of the draw.

    Returns:
        The data set with the wrong labels, and the ids changed, [n] int32, sorted.

    Raises:
        ValueError: if `fraction` is outside 0..1.

    Example:
        >>> import numpy as np
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
    ids = np.sort(np.argsort(generator.random(len(dataset.train_labels)), kind="stable")[:count]).astype(np.int32)
    shifts = generator.integers(1, dataset.num_classes, size=count)  # never 0 modulo C, hence another label
    labels = dataset.train_labels.copy()
    labels[ids] = (labels[ids] + shifts) % dataset.num_classes
    return validate(dataclasses.replace(dataset, train_labels=labels)), ids


def _as_inputs(inputs: np.ndarray) -> np.ndarray:
    """Floats become float32, what the device computes in; everything else is left for the check to judge."""
    inputs = np.asarray(inputs)
    with np.errstate(over="ignore"):  # an overflow becomes inf, which the check refuses by row
        return inputs.astype(np.float32, copy=False) if inputs.dtype.kind == "f" else inputs


def _default_class_names(*label_arrays: np.ndarray) -> list[str]:
    """ "0", "1", … up to the largest label; no more names than labels, lest one wild label make millions."""
    labels = np.concatenate([np.ravel(labels) for labels in label_arrays])
    largest = int(labels.max(initial=0)) if labels.dtype.kind in "iu" else 0
    return [str(label) for label in range(min(largest + 1, max(labels.size, 2)))]


def _statistics(inputs: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Per-channel mean and standard deviation of `inputs / scale` in float64, two passes over chunks."""
    axes = tuple(range(inputs.ndim - 1))
    chunks = [inputs[start : start + _STATISTICS_CHUNK] for start in range(0, len(inputs), _STATISTICS_CHUNK)]
    values = inputs[..., 0].size
    mean = sum(chunk.sum(axes, dtype=np.float64) for chunk in chunks) / values / scale
    variance = sum(np.square(chunk / np.float64(scale) - mean).sum(axes) for chunk in chunks) / values
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0)
