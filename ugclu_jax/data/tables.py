"""Rows of CSV (RFC 4180) and JSON Lines, with the line on which each begins."""

import contextlib
import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ugclu_jax.strict_json import parse

_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Row(NamedTuple):
    """Values by column, and the line on which they begin."""

    line: int
    values: dict[str, Any]


def jsonl_rows(what: str, text: str, required: Sequence[str]) -> Iterator[Row]:
    r"""Objects of JSON, one a line; empty lines are passed over.

    Lines end with `\n`, `\r\n` or `\r`, none of which can stand within an object's strings.

    Args:
        what: what an error calls the file.
        text: all of it.
        required: names that an object of this file has, for messages.

    Raises:
        ValueError: a line is no JSON (`strict_json.parse`) or no object; file and line are named.

    Example:
        >>> list(jsonl_rows("it", '{"a": 1}\r\n\r\n{"a": "\u2028"}', ["a"]))
        [Row(line=1, values={'a': 1}), Row(line=3, values={'a': '\u2028'})]
    """
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        if not line.strip(" \t"):
            continue
        entry = parse(what, line, number)
        if not isinstance(entry, dict):
            example = ", ".join(f'"{name}": …' for name in required)
            raise ValueError(f"{what}, line {number}: {line:.60} is no JSON object; write {{{example}}}")
        yield Row(number, entry)


def csv_rows(what: str, text: str, required: Sequence[str]) -> Iterator[Row]:
    r"""Rows of a CSV with a header: fields apart by commas, in double quotes where they hold commas, quotes or lines.

    Within quotes everything is text, whatever its length. Empty lines, and columns without a name, are passed over.

    Args:
        what: what an error calls the file.
        text: all of it.
        required: columns that it must have.

    Raises:
        ValueError: columns that are missing or stand twice, a quote that does not close, or a row of another number of
            fields; file and line are named.

    Example:
        >>> list(csv_rows("it", 'a,b\r\n"1,\u2028\n",2\r\n', ["a"]))
        [Row(line=2, values={'a': '1,\u2028\n', 'b': '2'})]
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    with long_fields():
        rows = _numbered(what, reader)
        names = next((fields for _, fields in rows), [])
        _check_names(what, names, required)
        for line, fields in rows:
            if len(fields) != len(names):
                fault, cure = (
                    ("more", "quote texts with commas") if len(fields) > len(names) else ("fewer", "complete it")
                )
                raise ValueError(
                    f"{what}, line {line}: {fault} fields than columns, {len(fields)} for {', '.join(names)}; {cure}"
                )
            yield Row(line, {name: value for name, value in zip(names, fields, strict=True) if name})


def _numbered(what: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, and where they begin."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{what}, line {line}: not CSV ({error}); correct it") from error
        if fields is None:
            return
        if fields:
            yield line, fields


def _check_names(what: str, names: Sequence[str], required: Sequence[str]) -> None:
    repeated = [name for number, name in enumerate(names) if name and name in names[:number]]
    if repeated:
        raise ValueError(f"{what}, line 1: the column {repeated[0]!r} stands twice; rename one")
    if set(required) <= set(names):
        return
    delimiter = next((mark for mark in _OTHER_DELIMITERS if any(mark in name for name in names)), None)
    cure = (
        f"its fields seem to be apart by {_OTHER_DELIMITERS[delimiter]}: write it with commas"
        if delimiter
        else "name them in the first line"
    )
    needed = " and ".join(map(repr, required))
    raise ValueError(f"{what}, line 1: columns are {list(names) or None}; there must be {needed}; {cure}")


@contextlib.contextmanager
def long_fields() -> Iterator[None]:
    """Lift the csv module's limit of 131,072 characters a field, for as long as the block lasts."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
