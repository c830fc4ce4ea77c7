"""What is known of examples besides their inputs and labels, such as whose they are: columns by key.

They lie in an in-memory DuckDB table; `conditions.py` asks it.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugclu_jax.data.database import casts, connect, described, fill, quote, reason
from ugclu_jax.data.tables import jsonl_rows, long_fields
from ugclu_jax.decoding import decode

if TYPE_CHECKING:
    import duckdb

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_COLUMNS = ("file_name", "file", "path")
"""Columns that may say which file a row is about."""
OWN_COLUMNS = ("key", "class", "split")
"""Columns that every data set has, whatever its metadata."""
_SHOWN = 5


class Metadata:
    """Columns of examples by key; immutable.

    Args:
        keys: of the examples, each once.
        columns: by name, a value for each key, None where it is missing.

    Raises:
        ValueError: a name that every data set has, two names that differ by case alone, a key that stands twice, or a
            column of another length.

    Example:
        >>> known = Metadata(["a", "b"], {"user": [17, 18], "note": ["x", None]})
        >>> known.names, known.types()
        (('user', 'note'), {'user': 'INTEGER', 'note': 'VARCHAR'})
    """

    def __init__(self, keys: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
        for name, values in columns.items():
            if len(values) != len(keys):
                raise ValueError(f"metadata column {name!r} has {len(values)} values for {len(keys)} examples")
        _refuse_own(columns)
        _refuse_twins(columns)
        connection = connect()
        fill(connection, "read", {**columns, "key": keys})
        self._take(connection, "key")

    @classmethod
    def of_text(cls, keys: Sequence[str], columns: Mapping[str, Sequence[str | None]]) -> "Metadata":
        """Columns of text, as a CSV has them: of numbers or dates if all their values come back as they were written.

        Example:
            >>> Metadata.of_text(["a", "b"], {"user": ["17", None], "zip": ["007", "1"]}).types()
            {'user': 'BIGINT', 'zip': 'VARCHAR'}
        """
        texts = cls(keys, columns)
        made, connection = cls.__new__(cls), texts.connection
        connection.execute("alter table metadata rename to text")
        connection.execute(f"create or replace table read as select {', '.join(casts(connection))} from text")
        made._take(connection, "key")
        return made

    @classmethod
    def read(cls, path: Path) -> "Metadata":
        """Read `metadata.csv`, `.jsonl` or `.parquet`, one row a file, whose column `file_name`, `file` or `path` is
        the key.

        In a CSV a column is of numbers or dates only if all its values come back as they were written: `007` is text.

        Raises:
            ValueError: unreadable, without such a column or with several, or what the class refuses.
        """
        made, connection = cls.__new__(cls), connect()
        _read(connection, path)
        columns = [name for name, _ in described(connection, "read")]
        named = [name for name in columns if name.lower() in FILE_COLUMNS]
        if len(named) != 1:
            found = f"the columns {', '.join(named)}" if named else f"none among {', '.join(columns)}"
            raise ValueError(
                f"{path} must have one column {' or '.join(FILE_COLUMNS)}, the name of the file; it has {found}"
            )
        try:
            made._take(connection, named[0])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return made

    def _take(self, connection: "duckdb.DuckDBPyConnection", key: str) -> None:
        """Make the table of what was read, by key."""
        names = [name for name, _ in described(connection, "read") if name != key]
        _refuse_own(names)
        others = "".join(f", {quote(name)}" for name in names)
        connection.execute(f"create table metadata as select {quote(key)}::varchar as key{others} from read")
        if connection.execute("select 1 from metadata where key is null limit 1").fetchall():
            raise ValueError("metadata has a row that names no example: name one, or take it out")
        twice = "select key from metadata group by key having count(*) > 1 order by key limit 1"
        for (repeated,) in connection.execute(twice).fetchall():
            raise ValueError(f"metadata has more than one row of {repeated!r}: keep one")
        connection.execute("set enable_external_access = false")
        self.connection = connection
        self.names: tuple[str, ...] = tuple(names)

    def types(self) -> dict[str, str]:
        """Names and DuckDB types of the columns."""
        return dict(described(self.connection, "metadata")[1:])

    def keys(self) -> list[str]:
        """Keys that have a row."""
        return [key for (key,) in self.connection.execute("select key from metadata order by key").fetchall()]

    def renamed(self, keys: Mapping[str, str]) -> "Metadata":
        """The same columns under other keys; rows whose key is not among them are left out."""
        rows = [row for row in self.connection.execute("select * from metadata").fetchall() if row[0] in keys]
        columns = {name: [row[place] for row in rows] for place, name in enumerate(self.names, start=1)}
        return Metadata([keys[row[0]] for row in rows], columns)


def _read(connection: "duckdb.DuckDBPyConnection", path: Path) -> None:
    """Make the table `read` of a file."""
    import duckdb

    try:
        if path.suffix == ".csv":
            fill(connection, "text", _text_columns(path))
            connection.execute(f"create table read as select {', '.join(casts(connection))} from text")
        else:
            if path.suffix == ".jsonl":
                _check_json(path)
            connection.execute(f"create table read as select * from {_READERS[path.suffix]}", [str(path)])
    except (duckdb.Error, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is not readable as {path.suffix[1:].upper()} ({reason(error)}): correct it"
        ) from error


def _check_json(path: Path) -> None:
    """Refuse what DuckDB's reader settles by itself: numbers that are none, and columns that differ by case alone."""
    rows = jsonl_rows(path.name, decode(path.name, path.read_bytes()), FILE_COLUMNS[:1])
    _refuse_twins(dict.fromkeys(name for row in rows for name in row.values))


def _refuse_own(names: Iterable[str]) -> None:
    for name in names:
        if name.lower() in OWN_COLUMNS:
            raise ValueError(f"metadata has a column {name!r}, which every data set has of its own: rename it")


def _refuse_twins(names: Iterable[str]) -> None:
    """Refuse names of columns that a condition cannot tell apart."""
    folded: dict[str, str] = {}
    for name in names:
        if folded.setdefault(name.lower(), name) != name:
            raise ValueError(
                f"metadata has the columns {folded[name.lower()]!r} and {name!r}, which are one in a condition: rename "
                "one"
            )


def _text_columns(path: Path) -> dict[str, list[str | None]]:
    """Columns of a CSV as written, None where nothing is; DuckDB's own reader guesses where the table begins."""
    with long_fields():
        rows = csv.reader(io.StringIO(decode(path.name, path.read_bytes()), newline=""), strict=True)
        names = next(rows, [])
        columns: dict[str, list[str | None]] = {name: [] for name in names}
        if len(columns) < len(names) or not names:
            raise csv.Error(f"line 1: columns are {names}; there must be some, each of another name")
        _refuse_twins(names)
        for row in rows:
            if row and len(row) != len(names):
                raise csv.Error(f"line {rows.line_num}: {len(row)} fields for {len(names)} columns")
            for name, value in zip(names, row, strict=False):
                columns[name].append(value or None)
    return columns


_READERS = {
    ".jsonl": "read_json($1, format = 'newline_delimited', sample_size = -1)",
    ".parquet": "read_parquet($1)",
}
