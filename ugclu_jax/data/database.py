"""Columns of values as tables of DuckDB, and the types that text may have."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ugclu_jax.extras import installed_by

if TYPE_CHECKING:
    import duckdb


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


def reason(error: Exception) -> str:
    """The first line of an error, without DuckDB's own name for its kind."""
    return str(error).splitlines()[0].split("Error: ", 1)[-1].strip()


_TESTS = {
    "bigint": "try_cast({c} as bigint)::varchar = {c}",
    "double": "try_cast({c} as double) is not null and not regexp_matches({c}, '^[-+]?0[0-9]|[a-zA-Z]')",
    "boolean": "lower({c}) in ('true', 'false')",
    "date": "try_cast({c} as date)::varchar = {c}",
    "timestamp": "regexp_matches({c}, '^[0-9-]{{10}}[T ][0-9:.]+$') and try_cast({c} as timestamp) is not null",
}
"""What every value of a column of text must satisfy for the column to be of a type."""


def casts(connection: "duckdb.DuckDBPyConnection") -> list[str]:
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
