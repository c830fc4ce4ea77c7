"""Arrays of one's own in a NumPy `.npz` file."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ugclu_jax.data.classes import split_notes
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.data.keys import rows_for_test
from ugclu_jax.data.labels import numbered
from ugclu_jax.data.metadata import Metadata
from ugclu_jax.data.npz_members import arrays, members
from ugclu_jax.data.npz_roles import CLASS_NAMES, ID, RULE, Roles, roles
from ugclu_jax.data.numbers import stored
from ugclu_jax.data.rows import keyed

TEST_SHARE = 0.2


def load(directory: Path | str | None) -> Dataset:
    """Load a file of `x_train, y_train, x_test, y_test`, or of `x, y`, 20 % of which become the test split.

    That split is drawn by the hash of the keys (`keys.rows_for_test`). A key is an example's `id` (`id_train` and
    `id_test` with the splits), strings or integers, or else the digest of its input and label. Other arrays of one
    value an example are metadata. Labels are integers, booleans or strings, numbered by `labels.numbered`; with an
    array `class_names` of strings they are integers 0..C-1. Inputs: see `numbers.stored`.

    Args:
        directory: the file itself.

    Returns:
        A validated `Dataset`, see `from_arrays`; its notes say what labels and inputs became.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or hostile (`npz_members`), has other arrays, or some that cannot be used.

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
        raise FileNotFoundError(f"{path} is not a file: npz needs a .npz file with {RULE}")
    there = members(path)
    try:
        found = roles(there)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    content = arrays(path)
    try:
        return _dataset(path.stem, content, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _dataset(name: str, content: dict[str, np.ndarray], found: Roles) -> Dataset:
    def parts(stem: str) -> list[np.ndarray]:
        return [content[f"{stem}{ending}"] for ending in found.endings]

    def values(stem: str) -> list[Any]:
        names = [f"{stem}{ending}" for ending in found.endings]
        return [value for name, part in zip(names, parts(stem), strict=True) for value in _values(name, part)]

    x_names = [f"x{ending}" for ending in found.endings]
    inputs = stored(x_names, parts("x"))
    labels = values("y")
    known = {column: values(column) for column in found.columns}
    places = [f"{x}[{row}]" for x, part in zip(x_names, inputs.parts, strict=True) for row in range(len(part))]
    rows = (row for part in parts("x") for row in part.astype(part.dtype.newbyteorder("<"), copy=False))
    contents = [row.tobytes() + f" {label}".encode() for row, label in zip(rows, labels, strict=True)]
    keys, kind = keyed(values(ID) if found.has_ids else None, contents, known, places.__getitem__)
    label_notes: list[str] = []
    if CLASS_NAMES in content:
        names = [str(value) for value in _values(CLASS_NAMES, content[CLASS_NAMES])]
        for place, label in zip(places, labels, strict=True):
            if not 0 <= label < len(names):
                raise ValueError(
                    f"the label of {place} is {label}: with {len(names)} class_names labels are class numbers "
                    f"0..{len(names) - 1}; correct it, or add its class to class_names"
                )
        numbers = np.array(labels, np.int32)
    else:
        names, numbers, label_notes = numbered(np.array(labels))
    first = len(inputs.parts[0])
    test = rows_for_test(keys, numbers, TEST_SHARE) if len(x_names) == 1 else np.arange(first, len(labels))
    train = np.delete(np.arange(len(labels)), test)
    split = inputs.parts if len(x_names) > 1 else [inputs.parts[0][train], inputs.parts[0][test]]
    dataset = from_arrays(
        name,
        split[0],
        numbers[train],
        split[1],
        numbers[test],
        class_names=names,
        scale=inputs.scale,
        train_keys=keys[train],
        test_keys=keys[test],
        keys_are=kind,
        metadata=Metadata(keys.tolist(), known) if known else None,
    )
    notes = [*label_notes, *split_notes(names, dataset.train_labels, dataset.test_labels), *inputs.notes]
    return dataclasses.replace(dataset, notes=tuple(notes))


def _values(name: str, array: np.ndarray) -> list[Any]:
    """Python's values of a flat array; None for what is missing.

    >>> _values("it", np.array([b"a", b"b"])), _values("it", np.array([1.5, np.nan]))
    (['a', 'b'], [1.5, None])
    """
    kind = array.dtype.kind
    if kind == "U" and array.astype(array.dtype.newbyteorder("=")).view(np.uint32).max(initial=0) > sys.maxunicode:
        raise ValueError(f"{name} holds characters that Unicode has not: write strings with .astype(str)")
    if kind == "S":
        try:
            return [value.decode() for value in array.tolist()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} holds {error.object!r:.60}, which is not UTF-8: use np.char.decode") from error
    if kind == "f":
        return [None if value != value else value for value in array.astype(np.float64).tolist()]  # NaN is not itself
    if kind == "M":
        # Finer units than microseconds, and years beyond 1..9999, come out as numbers.
        fine = np.datetime_data(array.dtype)[0] in ("ns", "ps", "fs", "as")
        values = list((array.astype("datetime64[us]") if fine else array).tolist())
        if any(isinstance(value, int) for value in values):
            raise ValueError(f"{name} holds dates beyond the years 1 to 9999: write them as strings")
        return values
    return list(array.tolist())
