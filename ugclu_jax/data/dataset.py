"""A labelled data set as NumPy arrays, and the checks that guard it.

Rows number the examples of the arrays at hand; keys name them, and go with an example through every cut (`cuts.py`)
and from one start of a program to the next (`record.py`).
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ugclu_jax.data.checks import check_inputs, check_keys, check_labels, check_scale, check_tokens
from ugclu_jax.data.conditions import rows_where
from ugclu_jax.data.keys import KeyKind, position_keys
from ugclu_jax.data.metadata import Metadata

DIGEST_BYTES = 16
_STATISTICS_CHUNK = 4096  # examples converted to float64 at a time: 60,000 images at once would take 376 MB


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Two splits of examples, as stored, with what a model needs to normalise them.

    Arrays may be memory-mapped and read-only; nothing here writes to them.

    Attributes:
        name: what the report calls it.
        train_inputs: [N, ...] uint8 or float32, channels last; or [N, L] int32 tokens, where 0 pads.
        train_labels: [N] int32.
        test_inputs: [N', ...] of the same dtype and example shape.
        test_labels: [N'] int32.
        class_names: one name a class; label `c` means `class_names[c]`.
        mean: per channel (last axis), of `train_inputs / scale`; empty for tokens.
        std: per channel, of `train_inputs / scale`, positive; empty for tokens.
        scale: what stored values are divided by first: the largest storable one of uint8 data (255, or 16 for digits);
            1 for tokens.
        train_keys: [N] strings, the key of each training row, see `keys.py`.
        test_keys: [N'] strings, likewise; none stands in both.
        keys_are: what keys are made of.
        vocabulary_size: None, or V where inputs are tokens in [0, V).
        metadata: columns by key, or None.
        notes: what somebody who starts a program on these data should read first: files passed over, and the like.
        sizes: of each class's pictures in their files, such as "32×32 to 640×480"; none where the source does not say.
        tokenizer: file of the one that made tokens of texts; None where the source has none.
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
    train_keys: np.ndarray
    test_keys: np.ndarray
    keys_are: KeyKind = "position"
    vocabulary_size: int | None = None
    metadata: Metadata | None = None
    notes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    tokenizer: Path | None = None

    @property
    def num_classes(self) -> int:
        """C, the number of class names."""
        return len(self.class_names)

    def where(self, condition: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training and of the test split for which a condition is true.

        Args:
            condition: over `key`, `class`, `split` and the columns of the metadata, see `conditions.rows_where`.

        Raises:
            ValueError: it is no condition on these columns.

        Example:
            >>> import numpy as np
            >>> rows, labels = np.eye(4, dtype=np.uint8), [0, 1, 0, 1]
            >>> data = from_arrays("toy", rows, labels, rows, labels)
            >>> [rows.tolist() for rows in data.where("class = '1' and key != 'test/3'")]
            [[1, 3], [1]]
        """
        train = len(self.train_keys)
        names = np.array(self.class_names, dtype=object)
        columns = {
            "key": [*self.train_keys.tolist(), *self.test_keys.tolist()],
            "class": [*names[self.train_labels], *names[self.test_labels]],
            "split": ["train"] * train + ["test"] * len(self.test_keys),
        }
        rows = rows_where(condition, columns, self.metadata)
        return rows[rows < train], rows[rows >= train] - train

    def digests(self, part: int = 0, parts: int = 1) -> np.ndarray:
        """The first half of the SHA-256 of the input of every example, training split first.

        Args:
            part: with `parts`, which of the rows to read, so that several processes can each read a share.
            parts: as many processes.

        Returns:
            `[N + N', 16]` uint8, 0 for the rows of other parts: the sum over the parts is that of one part alone.
        """
        found = np.zeros((len(self.train_inputs) + len(self.test_inputs), DIGEST_BYTES), np.uint8)
        first = 0
        for inputs in (self.train_inputs, self.test_inputs):
            for row in range(part, len(inputs), parts):
                digest = hashlib.sha256(np.ascontiguousarray(inputs[row]).data).digest()
                found[first + row] = np.frombuffer(digest[:DIGEST_BYTES], np.uint8)
            first += len(inputs)
        return found

    def fingerprint(self, digests: np.ndarray | None = None) -> str:
        """SHA-256, in hexadecimal, of contents, order, keys, classes and normalisation; metadata and notes stay out.

        Args:
            digests: those of this data set, where they are at hand; None = read the inputs for them.
        """
        digest = hashlib.sha256((self.digests() if digests is None else digests).tobytes())
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{field.name}:{value.dtype.kind}:{value.shape};".encode())
                if field.name in ("train_keys", "test_keys"):
                    # Not the array's own bytes: its width is that of the longest key.
                    digest.update("\0".join(value.tolist()).encode(errors="surrogatepass"))
                elif field.name not in ("train_inputs", "test_inputs"):
                    digest.update(np.ascontiguousarray(value).data)
            elif field.name not in ("metadata", "notes", "sizes", "tokenizer"):
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
        _check_kind(f"{split}_inputs", inputs, dataset.vocabulary_size)
        check_labels(f"{split}_labels", labels, len(inputs), dataset.num_classes)
        check_keys(f"{split}_keys", getattr(dataset, f"{split}_keys"), len(inputs))
        if labels.dtype != np.int32:
            raise ValueError(f"{split}_labels has dtype {labels.dtype}: it must be int32; use .astype(np.int32)")
    shared = np.intersect1d(dataset.train_keys, dataset.test_keys)
    if shared.size:
        raise ValueError(
            f"test_keys holds {str(shared[0])!r}, which train_keys has too: a key must name one example; see keys.py"
        )
    train, test = dataset.train_inputs, dataset.test_inputs
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise ValueError(
            f"test_inputs is {test.dtype}{list(test.shape)} and train_inputs {train.dtype}{list(train.shape)}: dtype "
            "and example shape must agree; prepare both splits in the same way"
        )
    if dataset.vocabulary_size is not None:
        if (dataset.mean, dataset.std, dataset.scale) != ((), (), 1.0):
            raise ValueError(
                f"mean, std, scale are {dataset.mean!r}, {dataset.std!r}, {dataset.scale!r}: tokens have none; they "
                "must be (), (), 1.0"
            )
        return dataset
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
    vocabulary_size: int | None = None,
    train_keys: np.ndarray | None = None,
    test_keys: np.ndarray | None = None,
    keys_are: KeyKind = "position",
    metadata: Metadata | None = None,
) -> Dataset:
    """Build and validate a data set from arrays of one's own.

    Args:
        name: what the report calls it.
        train_inputs: [N, ...] uint8 or any float (kept as float32), channels last; or [N, L] int32 tokens.
        train_labels: [N] integers 0..C-1.
        test_inputs: [N', ...] like `train_inputs`.
        test_labels: [N'] integers 0..C-1.
        class_names: C names; "0", "1", … up to the largest label when left out.
        mean: per channel, of `inputs / scale`; of the training split when left out.
        std: per channel, of `inputs / scale`; of the training split when left out (1 where a channel is constant).
        scale: divisor of the stored values; 255 for uint8 and 1 for floats when left out.
        vocabulary_size: V where inputs are tokens in [0, V); mean, std and scale must then be left out.
        train_keys: [N] strings; split and position when left out, and only then `keys_are` may be.
        test_keys: [N'] strings, likewise.
        keys_are: what keys are made of.
        metadata: columns by key.

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
        _check_kind(key, inputs, vocabulary_size)
    if class_names is None:
        class_names = _default_class_names(train_labels, test_labels)
    check_labels("train_labels", train_labels, len(train_inputs), len(class_names))  # before int32 could wrap them
    check_labels("test_labels", test_labels, len(test_inputs), len(class_names))
    if vocabulary_size is not None:
        mean, std, scale = mean or (), std or (), 1.0 if scale is None else scale
    elif scale is None:
        scale = 255.0 if train_inputs.dtype == np.uint8 else 1.0
    check_scale(scale, train_inputs, test_inputs)
    if mean is None or std is None:
        computed_mean, computed_std = (each.tolist() for each in _statistics(train_inputs, scale))
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
            train_keys=position_keys("train", len(train_inputs)) if train_keys is None else train_keys,
            test_keys=position_keys("test", len(test_inputs)) if test_keys is None else test_keys,
            keys_are=keys_are,
            vocabulary_size=vocabulary_size,
            metadata=metadata,
        )
    )


def _check_kind(key: str, inputs: np.ndarray, vocabulary_size: int | None) -> None:
    if vocabulary_size is None:
        check_inputs(key, inputs)
    else:
        check_tokens(key, inputs, vocabulary_size)


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
