"""What is known of examples besides their inputs and labels, such as whose they are: columns, asked by conditions.

Columns lie in an in-memory DuckDB table by key. A condition is a DuckDB expression, `user == 17 and date <
'2024-01-01'`; it reads nothing but the table. A value that is missing makes a comparison neither true nor false, so
that its example is not chosen; ask for it by `user is null`.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ugclu_jax.data.tables import jsonl_rows, long_fields
from ugclu_jax.decoding import decode
from ugclu_jax.extras import installed_by

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
        connection.execute(f"create or replace table read as select {', '.join(_casts(connection))} from text")
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


def rows_where(condition: str, columns: Mapping[str, Sequence[Any]], metadata: Metadata | None) -> np.ndarray:
    """Rows for which a condition is true.

    Args:
        condition: a DuckDB expression over the columns and those of the metadata.
        columns: what every data set has: `key`, `class` and `split`, of equal length.
        metadata: the rest, by key.

    Returns:
        Sorted int64 rows.

    Raises:
        ValueError: no such column, no expression, or one that is neither true nor false.

    Example:
        >>> dates = ["2023-05-01", "2024-01-01", "2024-02-01"]
        >>> known = Metadata(["a", "b", "c"], {"user": [17, 18, 17], "date": dates})
        >>> columns = {"key": ["b", "a", "c"], "class": ["cat", "cat", "dog"], "split": ["train"] * 3}
        >>> rows_where("user == 17 and date < '2024-01-01'", columns, known).tolist()
        [1]
        >>> rows_where("usr == 17", columns, known)
        Traceback (most recent call last):
            ...
        ValueError: 'usr == 17' asks for 'usr', which is no column; columns are key, class, split, user (INTEGER), \
date (VARCHAR)
    """
    with installed_by("run"):
        import duckdb

    connection = connect() if metadata is None else metadata.connection.cursor()
    connection.execute("drop table if exists own")
    fill(connection, "own", {"row": range(len(columns["key"])), **columns})
    known: dict[str, str] = dict.fromkeys(columns, "")
    table, kept = "own", [f"own.{quote(name)}" for name in ("row", *columns)]
    if metadata is not None:
        known |= metadata.types()
        table = "own left join metadata on own.key = metadata.key"
        kept += [f"metadata.{quote(name)}" for name in metadata.names]
    there = ", ".join(f"{name} ({kind})" if kind else name for name, kind in known.items())
    # The line break ends a comment. What is more than an expression makes more columns, or no sense.
    chosen = f"{condition}\n as chosen"
    query = f'select "row", {chosen} from (select {", ".join(kept)} from {table})'
    try:
        lower = {name.lower() for name in known}
        # DuckDB itself would take `user` for the user of the database, where no column has that name.
        absent = [name for name in _columns_asked(connection, chosen) if name.lower() not in lower]
        if absent:
            raise ValueError(f"{condition!r} asks for {absent[0]!r}, which is no column; columns are {there}")
        found = described(connection, query)
        if len(found) != 2 or found[1][1] != "BOOLEAN":
            kind = found[1][1] if len(found) == 2 else "more than one expression"
            raise ValueError(
                f"{condition!r} is {kind}; a condition must be true or false, such as user == 17: columns are {there}"
            )
        rows = [row for row, is_true in connection.execute(query).fetchall() if is_true]
    except duckdb.Error as error:
        raise ValueError(
            f"{condition!r} is no condition ({_reason(error)}); write one such as user == 17 and date < '2024-01-01'; "
            f"columns are {there}"
        ) from error
    return np.sort(np.array(rows, np.int64))


def _columns_asked(connection: "duckdb.DuckDBPyConnection", expression: str) -> list[str]:
    """Names of the columns in an expression, by DuckDB's own parser; none where it is no expression."""
    ((text,),) = connection.execute("select json_serialize_sql($1)", [f"select {expression}"]).fetchall()
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict) and node.get("class") == "COLUMN_REF":
            found.append(node["column_names"][-1])
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(part)

    walk(json.loads(text))
    return found


def connect() -> "duckdb.DuckDBPyConnection":
    """A database of its own in memory."""
    with installed_by("run"):
        import duckdb

    return duckdb.connect(":memory:")


def fill(connection: "duckdb.DuckDBPyConnection", name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Make a table of columns of Python values; the type of a column is its values', text where they are of several."""
    lists = [[_storable(value) for value in values] for values in columns.values()]
    empty = [all(value is None for value in values) for values in lists]
    # A column of nothing has no type.
    casts = ["::varchar[]" if nothing else "" for nothing in empty]
    parts = (
        f"unnest(${n}{cast}) as {quote(column)}" for n, (column, cast) in enumerate(zip(columns, casts, strict=True), 1)
    )
    connection.execute(f"create table {quote(name)} as select {', '.join(parts)}", lists)


def described(connection: "duckdb.DuckDBPyConnection", query: str) -> list[tuple[str, str]]:
    """Names and types of the columns of a table or of a query."""
    return [(row[0], row[1]) for row in connection.execute(f"describe {query}").fetchall()]


def quote(name: str) -> str:
    """A name as SQL has it.

    >>> print(quote('a "b" c'))
    "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


def _storable(value: Any) -> Any:
    """NumPy's scalars as Python's; bytes of a path that are no UTF-8 as escapes."""
    plain = value.item() if isinstance(value, np.generic) else value
    return plain.encode(errors="backslashreplace").decode() if isinstance(plain, str) else plain


def _reason(error: Exception) -> str:
    """The first line of an error, without DuckDB's own name for its kind."""
    return str(error).splitlines()[0].split("Error: ", 1)[-1].strip()


def _read(connection: "duckdb.DuckDBPyConnection", path: Path) -> None:
    """Make the table `read` of a file."""
    import duckdb

    try:
        if path.suffix == ".csv":
            fill(connection, "text", _text_columns(path))
            connection.execute(f"create table read as select {', '.join(_casts(connection))} from text")
        else:
            if path.suffix == ".jsonl":
                _check_json(path)
            connection.execute(f"create table read as select * from {_READERS[path.suffix]}", [str(path)])
    except (duckdb.Error, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is not readable as {path.suffix[1:].upper()} ({_reason(error)}): correct it"
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
_TESTS = {
    "bigint": "try_cast({c} as bigint)::varchar = {c}",
    "double": "try_cast({c} as double) is not null and not regexp_matches({c}, '^[-+]?0[0-9]|[a-zA-Z]')",
    "boolean": "lower({c}) in ('true', 'false')",
    "date": "try_cast({c} as date)::varchar = {c}",
    "timestamp": "regexp_matches({c}, '^[0-9-]{{10}}[T ][0-9:.]+$') and try_cast({c} as timestamp) is not null",
}
"""What every value of a column of text must satisfy for the column to be of a type."""


def _casts(connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """Columns of `text`, each as the first type that all its values are."""
    found = []
    for name, _ in described(connection, "text"):
        column = quote(name)
        tests = (f"bool_and(coalesce({test.format(c=column)}, {column} is null))" for test in _TESTS.values())
        query = f"select {', '.join(tests)} from text where {column} is not null"
        ((*answers,),) = connection.execute(query).fetchall()
        kind = next((kind for kind, answer in zip(_TESTS, answers, strict=True) if answer), "varchar")
        found.append(f"{column}::{kind} as {column}")
    return found
