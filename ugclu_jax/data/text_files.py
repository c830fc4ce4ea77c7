"""Texts, labels, keys and metadata from a file for each split: CSV or JSON Lines."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.data.encodings import text_of
from ugclu_jax.data.keys import KeyKind
from ugclu_jax.data.metadata import Metadata
from ugclu_jax.data.rows import keyed
from ugclu_jax.data.tables import Row, csv_rows, jsonl_rows
from ugclu_jax.data.wording import listed

_READERS = {".jsonl": jsonl_rows, ".csv": csv_rows}
_TEXT, _LABEL, _ID = "text", "label", "id"
_LARGEST = 2**127  # what a column of integers holds


class Texts(NamedTuple):
    """Examples of both splits, those of the training split first.

    Attributes:
        train: how many of them are of the training split.
        texts: of each, as it is.
        labels: of each, as text.
        keys: [N + N'] strings.
        keys_are: what keys are made of.
        places: of each, file and line.
        metadata: the other fields, by key; None where there are none.
        digests: of both files' contents, formats and encoding, in hexadecimal.
        notes: what is to be said of the files.
    """

    train: int
    texts: list[str]
    labels: list[str]
    keys: np.ndarray
    keys_are: KeyKind
    places: list[str]
    metadata: Metadata | None
    digests: list[str]
    notes: list[str]


def read(directory: Path, encoding: str | None) -> Texts:
    """Read `train.jsonl|csv` and `test.jsonl|csv`.

    Raises:
        FileNotFoundError, ValueError: as `text.load`.
    """
    paths = [_find(directory, split) for split in ("train", "test")]
    rows: list[Row] = []
    places, digests, counts = list[str](), list[str](), list[int]()
    notes: list[str] = []
    for path in paths:
        content = _bytes(path)
        digests.append(hashlib.sha256(f"{path.suffix} {encoding}\0".encode() + content).hexdigest())
        decoded, said = text_of(path, content, encoding)
        notes += said
        found = [_checked(path, row) for row in _READERS[path.suffix](str(path), decoded, (_TEXT, _LABEL))]
        if not found:
            raise ValueError(f"{path} has no example: it must have at least one")
        rows += found
        places += [f"{path}, line {row.line}" for row in found]
        counts.append(len(found))
    texts, labels = [row.values[_TEXT] for row in rows], [str(row.values[_LABEL]) for row in rows]
    twofold = {str(row.values[_LABEL]) for row in rows if isinstance(row.values[_LABEL], int)}
    twofold &= {row.values[_LABEL] for row in rows if isinstance(row.values[_LABEL], str)}
    if twofold and all(path.suffix == ".jsonl" for path in paths):
        notes.append(f"labels are written as number and as text, and are one: {listed(sorted(twofold))}")
    names = list(dict.fromkeys(name for row in rows for name in row.values if name not in (_TEXT, _LABEL, _ID)))
    columns = {name: [_plain(row.values.get(name)) for row in rows] for name in names}
    ids = [row.values.get(_ID) for row in rows] if any(_ID in row.values for row in rows) else None
    contents = [json.dumps([text, label]).encode() for text, label in zip(texts, labels, strict=True)]
    keys, kind = keyed(ids, contents, columns, places.__getitem__)
    try:
        metadata = _metadata(keys.tolist(), columns, any(path.suffix == ".csv" for path in paths))
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from error
    return Texts(counts[0], texts, labels, keys, kind, places, metadata, digests, notes)


def _find(directory: Path, split: str) -> Path:
    candidates = [directory / f"{split}{suffix}" for suffix in _READERS]
    found = [path for path in candidates if path.is_file()]
    if len(found) != 1:
        names = " and ".join(path.name for path in found) or "neither"
        raise FileNotFoundError(
            f"{directory} has {names} of {candidates[0].name} and {candidates[1].name}: it must have exactly one, with "
            "fields text and label"
        )
    return found[0]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): make it readable") from error


def _checked(path: Path, row: Row) -> Row:
    text, label = row.values.get(_TEXT), row.values.get(_LABEL)
    if not isinstance(text, str) or not isinstance(label, str | int) or isinstance(label, bool) or label == "":
        raise ValueError(
            f"{path}, line {row.line}: text is {text!r:.60} and label {label!r:.60}; there must be a string 'text' and "
            "a non-empty string or integer 'label'"
        )
    return row


def _plain(value: Any) -> Any:
    """A field as a column can hold it: what is made of parts, and what is too large, as JSON."""
    if isinstance(value, dict | list) or (isinstance(value, int) and abs(value) >= _LARGEST):
        return json.dumps(value, ensure_ascii=False)
    return value


def _metadata(keys: Sequence[str], columns: dict[str, list[Any]], of_text: bool) -> Metadata | None:
    if not columns:
        return None
    if not of_text:
        return Metadata(keys, columns)
    texts = {
        name: [(value or None) if isinstance(value, str | None) else json.dumps(value) for value in values]
        for name, values in columns.items()
    }
    return Metadata.of_text(keys, texts)
