"""Rows of a table or of arrays: their keys, ids or else digests of content, and the columns known of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.data.keys import KeyKind, content_keys


class Keyed(NamedTuple):
    """Keys of rows and what they are made of."""

    keys: np.ndarray
    kind: KeyKind


def keyed(
    ids: Sequence[Any] | None,
    contents: Sequence[bytes],
    columns: Mapping[str, Sequence[Any]],
    place: Callable[[int], str],
) -> Keyed:
    """Give every row a key: its id, or the digest of its content where there are no ids.

    Args:
        ids: of each row, strings or integers; None where the source has none.
        contents: of each row, all that makes it what it is but its metadata.
        columns: metadata by name, a value a row.
        place: what a message calls a row.

    Raises:
        ValueError: an id that is missing, or that two rows have; or, without ids, rows that only their metadata tell
            apart.

    Example:
        >>> keyed([7, "b"], [b"", b""], {}, str)
        Keyed(keys=array(['7', 'b'], dtype='<U1'), kind='id')
    """
    if ids is not None:
        first: dict[str, int] = {}
        for row, value in enumerate(ids):
            if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
                raise ValueError(f"{place(row)}: id is {value!r}; it must be a string that is not empty, or an integer")
            if not _is_text(str(value)):
                raise ValueError(f"{place(row)}: id is {value!r}, which is no text; write letters and digits")
            other = first.setdefault(str(value), row)
            if other != row:
                raise ValueError(
                    f"{place(other)} and {place(row)} have one id, {str(value)!r}: an id is of one example"
                )
        return Keyed(np.array(list(first), dtype=np.str_), "id")
    if columns:
        seen: dict[bytes, int] = {}
        for row, content in enumerate(contents):
            other = seen.setdefault(content, row)
            for name, values in columns.items():
                if repr(values[other]) != repr(values[row]):
                    raise ValueError(
                        f"{place(other)} and {place(row)} are equal but for their metadata, of which {name} is "
                        f"{values[other]!r} and {values[row]!r}, so that neither has a name: give every example an id"
                    )
    return Keyed(content_keys(contents), "content")


def _is_text(value: str) -> bool:
    """Whether a string can be written anywhere: NumPy drops zeros at its end, and UTF-8 lacks halves of pairs."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
