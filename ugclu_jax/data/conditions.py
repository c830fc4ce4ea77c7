"""Conditions on examples, such as `user == 17 and date < '2024-01-01'`: DuckDB expressions that read nothing else.

A value that is missing makes a comparison neither true nor false, so that its example is not chosen; ask for it by
`user is null`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ugclu_jax.data.database import connect, described, fill, quote, reason
from ugclu_jax.data.metadata import Metadata
from ugclu_jax.extras import installed_by

if TYPE_CHECKING:
    import duckdb


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
        asked = _asked(connection, chosen)
        absent = [name for name in asked.columns if name.lower() not in lower]
        if absent:
            raise ValueError(f"{condition!r} asks for {absent[0]!r}, which is no column; columns are {there}")
        texts = {name.lower() for name, kind in known.items() if kind in ("", "VARCHAR")}
        # DuckDB itself would read the text as a number, by which 007 and 7 are one person.
        for name in asked.with_numbers:
            if name.lower() in texts:
                raise ValueError(
                    f"{condition!r} compares {name}, which is text, with a number: write the number in quotes, such as "
                    f"{name} == '7', or cast({name} as bigint) == 7; columns are {there}"
                )
        found = described(connection, query)
        if len(found) != 2 or found[1][1] != "BOOLEAN":
            kind = found[1][1] if len(found) == 2 else "more than one expression"
            raise ValueError(
                f"{condition!r} is {kind}; a condition must be true or false, such as user == 17: columns are {there}"
            )
        rows = [row for row, is_true in connection.execute(query).fetchall() if is_true]
    except duckdb.Error as error:
        raise ValueError(
            f"{condition!r} is no condition ({reason(error)}); write one such as user == 17 and date < '2024-01-01'; "
            f"columns are {there}"
        ) from error
    return np.sort(np.array(rows, np.int64))


class Asked(NamedTuple):
    """The columns of an expression, and those among them that it compares with a number that is written there."""

    columns: list[str]
    with_numbers: list[str]


def _asked(connection: "duckdb.DuckDBPyConnection", expression: str) -> Asked:
    """What an expression asks for, by DuckDB's own parser; nothing where it is no expression."""
    ((text,),) = connection.execute("select json_serialize_sql($1)", [f"select {expression}"]).fetchall()
    found = Asked([], [])

    def walk(node: Any) -> None:
        parts = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
        if isinstance(node, dict) and node.get("class") == "COLUMN_REF":
            found.columns.append(node["column_names"][-1])
        elif isinstance(node, dict) and node.get("class") in _COMPARING:
            sides = [side for part in parts for side in (part if isinstance(part, list) else [part])]
            sides = [side for side in sides if isinstance(side, dict)]
            if any(_is_number(side) for side in sides):
                columns = (side for side in sides if side.get("class") == "COLUMN_REF")
                found.with_numbers.extend(side["column_names"][-1] for side in columns)
        for part in parts:
            walk(part)

    walk(json.loads(text))
    return found


_COMPARING = ("COMPARISON", "BETWEEN", "OPERATOR")
_NUMBERS = ("INTEGER", "NUMERIC", "TINYINT", "SMALLINT", "BIGINT", "HUGEINT", "DECIMAL", "FLOAT", "DOUBLE")


def _is_number(node: dict[str, Any]) -> bool:
    """Whether a node is a number as it is written; DuckDB 1 and 2 say so in different places."""
    literal, value = node.get("literal") or {}, node.get("value") or {}
    kind = literal.get("kind") or (value.get("type") or {}).get("id") if isinstance(value, dict) else None
    return node.get("class") == "CONSTANT" and kind in _NUMBERS
