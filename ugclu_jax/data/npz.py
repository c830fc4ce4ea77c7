"""Arrays of one's own in a NumPy `.npz` file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.data.keys import content_keys, rows_for_test

TEST_SHARE = 0.2
_WHOLE = ("x", "y")
_SPLIT = ("x_train", "y_train", "x_test", "y_test")


def load(directory: Path | str | None) -> Dataset:
    """Load a file of `x_train, y_train, x_test, y_test`, or of `x, y`, 20 % of which become the test split.

    That split is drawn by the hash of the keys (`keys.rows_for_test`); a key is the digest of an example's input and
    label. An optional array `class_names` of strings names the classes.

    Args:
        directory: the file itself.

    Returns:
        A validated `Dataset`, see `from_arrays`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, has other arrays, or arrays that `from_arrays` refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/toy.npz", x=np.arange(40, dtype=np.uint8).reshape(10, 4), y=np.arange(10) % 2)
        ...     data = load(f"{folder}/toy.npz")
        >>> data.name, data.train_inputs.shape, data.test_inputs.shape
        ('toy', (9, 4), (1, 4))
    """
    if directory is None:
        raise ValueError("directory is None: npz needs the file; give --data.directory FILE.npz")
    path = Path(directory)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file: npz needs a .npz file with {_rule()}")
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array without a name")
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not a .npz file of plain arrays ({error}): write it again") from error
    class_names = arrays.pop("class_names", None)
    try:
        if set(arrays) == set(_SPLIT):
            parts = [arrays[name] for name in _SPLIT]
            keys = np.split(
                _keys(np.concatenate([parts[0], parts[2]]), np.concatenate([parts[1], parts[3]])), [len(parts[0])]
            )
        elif set(arrays) == set(_WHOLE):
            *parts, train_keys, test_keys = _split(*(arrays[name] for name in _WHOLE))
            keys = [train_keys, test_keys]
        else:
            raise ValueError(f"it holds {', '.join(sorted(arrays)) or 'nothing'} and must hold {_rule()}: rename them")
        return from_arrays(
            path.stem,
            *parts,
            class_names=None if class_names is None else class_names.tolist(),
            train_keys=keys[0],
            test_keys=keys[1],
            keys_are="content",
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _rule() -> str:
    return f"{', '.join(_WHOLE)} or {', '.join(_SPLIT)}, and class_names if wanted"


def _split(inputs: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.size == 0 or labels.min() < 0:
        raise ValueError(f"y is {labels.dtype}{list(labels.shape)}: it must be one flat array of class numbers 0..C-1")
    if inputs.ndim == 0 or len(inputs) != len(labels):
        raise ValueError(f"x has shape {inputs.shape} and y {labels.shape}: they must have equally many examples")
    if labels.max() >= labels.size:
        raise ValueError(f"y reaches {labels.max()} with {labels.size} examples: use class numbers 0..C-1")
    keys = _keys(inputs, labels)
    test = rows_for_test(keys, labels, TEST_SHARE)
    train = np.delete(np.arange(len(labels)), test)
    return [inputs[train], labels[train], inputs[test], labels[test], keys[train], keys[test]]


def _keys(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return content_keys([x.tobytes() + f" {y}".encode() for x, y in zip(inputs, labels.tolist(), strict=True)])
