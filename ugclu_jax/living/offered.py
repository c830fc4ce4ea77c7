"""What somebody offers to learn: a folder of pictures, an `.npz`, a table of texts or of paths, a data set by name.

Every source comes out the same: inputs as stored, keys, names of classes, metadata as text. A fifth is held out, drawn
by the hash of each key (`keys.key_draws`), unless the source has splits of its own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax import data
from ugclu_jax.data import file_metadata, folders, formats, images, metadata, tables
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.data.encodings import text_of
from ugclu_jax.data.keys import key_draws
from ugclu_jax.data.rows import keyed
from ugclu_jax.decoding import decode
from ugclu_jax.extras import installed_by
from ugclu_jax.living.network import InputKind
from ugclu_jax.living.rows import Example, spelled

TEST_SHARE = 0.2
_TABLES = (".csv", ".jsonl", ".parquet")
_TEXT, _LABELS, _ID = "text", ("label", "class"), "id"


class Offered(NamedTuple):
    """Examples as a source has them.

    Attributes:
        kind: what an input is.
        inputs: [n, ...] as stored; of texts the texts themselves, [n] strings.
        keys: [n] strings.
        classes: of each, by name.
        held_out: [n] bool.
        columns: metadata of each, as text.
        notes: what is passed over, in sentences.
        scale: divisor of stored numbers.
    """

    kind: InputKind
    inputs: np.ndarray
    keys: list[str]
    classes: list[str]
    held_out: np.ndarray
    columns: list[dict[str, str | None]]
    notes: tuple[str, ...] = ()
    scale: float = 255.0

    def examples(self) -> list[Example]:
        """As the ledger knows them; inputs must be numbers or tokens by now."""
        digests = (hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in self.inputs)
        parts = zip(self.keys, digests, self.classes, self.columns, self.held_out.tolist(), strict=True)
        return [Example(spelled(key), *rest) for key, *rest in parts]

    def some(self, rows: np.ndarray | Sequence[int]) -> "Offered":
        """Some of the rows."""
        chosen = np.asarray(rows, np.int64)
        lists = ([values[i] for i in chosen.tolist()] for values in (self.keys, self.classes, self.columns))
        keys, classes, columns = lists
        return self._replace(
            inputs=self.inputs[chosen], keys=keys, classes=classes, columns=columns, held_out=self.held_out[chosen]
        )


def read(source: str, image_size: int | None, only: set[str] | None = None) -> Offered:
    """Read a source.

    Args:
        source: path of a folder of pictures in folders of classes, of a folder of `train` and `test` texts, of an
            `.npz`, of a `.csv`, `.jsonl` or `.parquet` with a column `label` and one of `text` or `file`; or the name
            of a data set that the library loads.
        image_size: side of pictures; they are read only where it is given.
        only: keys to which pictures are restricted, so that few files are opened; None = all.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it holds nothing that can be read, or what its readers refuse.
    """
    path = Path(source)
    if source in data.DATASETS and not path.exists():
        return _of_dataset(data.load(source))
    if not path.exists():
        raise FileNotFoundError(2, "there is no such folder or file to learn from", source)
    if path.suffix == ".npz":
        return _of_dataset(data.load("npz", data.DataOptions(directory=path)))
    if path.suffix in _TABLES:
        return _table([path], image_size, None)
    if not path.is_dir():
        raise ValueError(f"{source} is no folder, .npz, .csv, .jsonl or .parquet: give one of these")
    splits = [each for stem in ("train", "test") for suffix in _TABLES if (each := path / f"{stem}{suffix}").is_file()]
    if splits:
        return _table(splits, image_size, [each.stem == "test" for each in splits])
    return _pictures(path, image_size, only)


def read_any(source: str, image_size: int | None) -> Offered:
    """Read a source, or a single picture, whose class nobody knows.

    Raises:
        ValueError, OSError: as `read`.
    """
    path = Path(source)
    if path.is_file() and path.suffix not in (*_TABLES, ".npz"):
        blank: list[dict[str, str | None]] = [{}]
        return Offered("pictures", _pixels([path], image_size), [source], [""], np.zeros(1, bool), blank)
    return read(source, image_size)


def _of_dataset(found: Dataset) -> Offered:
    names = np.array(found.class_names, object)
    keys = [*found.train_keys.tolist(), *found.test_keys.tolist()]
    labels = np.concatenate([found.train_labels, found.test_labels])
    return Offered(
        "arrays",
        np.concatenate([found.train_inputs, found.test_inputs]),
        keys,
        names[labels].tolist(),
        np.arange(len(keys)) >= len(found.train_keys),
        _columns(found.metadata, keys),
        found.notes,
        found.scale,
    )


def _pictures(directory: Path, size: int | None, only: set[str] | None) -> Offered:
    found = folders.find(directory, follow_links=False)
    files = [file for group in found.files for file in group]
    known, notes = file_metadata.read(directory, found.splits, [file.key for file in files])
    test = (
        np.arange(len(files)) >= len(found.files[0])
        if found.splits
        else _drawn([file.key for file in files], [file.class_name for file in files])
    )
    rows = [row for row, file in enumerate(files) if only is None or file.key in only]
    chosen = [files[row] for row in rows]
    pixels = _pixels([file.path for file in chosen], size)
    keys = [file.key for file in chosen]
    classes = [file.class_name for file in chosen]
    return Offered("pictures", pixels, keys, classes, test[rows], _columns(known, keys), (*found.notes, *notes))


def _pixels(paths: Sequence[Path], size: int | None) -> np.ndarray:
    if size is None:
        raise ValueError("image_size is not given, and these are pictures: give --image-size, such as 32")
    found = np.empty((len(paths), size, size, 3), np.uint8)
    for row, path in enumerate(paths):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): make it readable, or take it away") from error
        found[row] = images.read(str(path), content, 3, size, formats.candidates(path.suffix)).pixels
    return found


def _table(paths: Sequence[Path], size: int | None, test: Sequence[bool] | None) -> Offered:
    rows, places, parts = list[dict[str, Any]](), list[str](), list[bool]()
    for number, path in enumerate(paths):
        for line, values in _rows_of(path):
            rows.append(values)
            places.append(f"{path}, line {line}")
            parts.append(test is not None and test[number])
    if not rows:
        raise ValueError(f"{paths[0]} has no row: there must be one or more")
    label = next((name for name in _LABELS if name in rows[0]), None)
    file = next((name for name in metadata.FILE_COLUMNS if name in rows[0]), None)
    if label is None or (_TEXT not in rows[0] and file is None):
        raise ValueError(
            f"{paths[0]} has the columns {', '.join(rows[0])}: there must be 'label' (or 'class'), and 'text' or 'file'"
        )
    content = _TEXT if _TEXT in rows[0] else str(file)
    for place, row in zip(places, rows, strict=True):
        if not isinstance(row.get(content), str) or row.get(label) in (None, ""):
            raise ValueError(
                f"{place}: {content} is {row.get(content)!r:.60} and {label} {row.get(label)!r:.60}; give both"
            )
    contents = [content_of(row[content], row[label]) for row in rows]
    others = list(dict.fromkeys(name for row in rows for name in row if name not in (content, label, _ID)))
    columns = {name: [row.get(name) for row in rows] for name in others}
    ids: list[Any] | None = [row.get(_ID) for row in rows] if any(_ID in row for row in rows) else None
    if ids is None and content != _TEXT:
        ids = [row[content] for row in rows]
    keys = keyed(ids, contents, columns, places.__getitem__).keys.tolist()
    texts = [{name: _as_text(values[row]) for name, values in columns.items()} for row in range(len(rows))]
    classes = [str(row[label]) for row in rows]
    held_out = np.array(parts) if test is not None else _drawn(keys, classes)
    if content == _TEXT:
        return Offered("texts", np.array([row[_TEXT] for row in rows], object), keys, classes, held_out, texts)
    base = paths[0].parent
    return Offered("pictures", _pixels([base / row[content] for row in rows], size), keys, classes, held_out, texts)


def content_of(text: str, label: Any) -> bytes:
    """What makes a row of a table what it is."""
    return f"{text}\0{label}".encode(errors="surrogatepass")


def _rows_of(path: Path) -> list[tuple[int, dict[str, Any]]]:
    if path.suffix == ".parquet":
        with installed_by("run"):
            import duckdb
        try:
            table = duckdb.connect(":memory:").execute("select * from read_parquet($1)", [str(path)])
        except duckdb.Error as error:
            raise ValueError(f"{path} is not readable as parquet: write it anew") from error
        names = [column[0] for column in table.description or []]
        return [(n, dict(zip(names, row, strict=True))) for n, row in enumerate(table.fetchall(), start=1)]
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        found = tables.jsonl_rows(str(path), decode(str(path), content), (_TEXT, _LABELS[0]))
    else:
        found = tables.csv_rows(str(path), text_of(path, content, None)[0], ())
    return [(row.line, row.values) for row in found]


def _drawn(keys: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Which are held out; of each class the one with the largest draw never is."""
    draws, names = key_draws(np.array(keys, np.str_), "test split"), np.array(classes)
    chosen = draws < TEST_SHARE
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        chosen[members[np.argmax(draws[members])]] = False
    return chosen


def _columns(known: metadata.Metadata | None, keys: Sequence[str]) -> list[dict[str, str | None]]:
    if known is None:
        return [{} for _ in keys]
    rows = known.connection.execute("select * from metadata").fetchall()
    found: Mapping[str, dict[str, str | None]] = {
        row[0]: {name: _as_text(value) for name, value in zip(known.names, row[1:], strict=True)} for row in rows
    }
    blank: dict[str, str | None] = dict.fromkeys(known.names)
    return [found.get(key, blank) for key in keys]


def _as_text(value: Any) -> str | None:
    """A value as a CSV has it.

    >>> _as_text(True), _as_text(1.5), _as_text(""), _as_text(None)
    ('true', '1.5', None, None)
    """
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or value == "" else str(value)
