"""Rows of the ledger: what is known of an example and of an operation, and what of them the chains are made of."""

from typing import Any, NamedTuple

from ugclu_jax.living import chain


class Example(NamedTuple):
    """What the ledger knows of an example.

    Attributes:
        key: by which it is known.
        content: SHA-256 of its input, as it is stored.
        class_name: of its label.
        metadata: columns as text; None where a value is missing.
        held_out: whether nothing ever learns it: it is measured on.
    """

    key: str
    content: bytes
    class_name: str
    metadata: dict[str, str | None]
    held_out: bool = False


class Row(NamedTuple):
    """An example that stands in the ledger, by number."""

    number: int
    learned_by: int
    example: Example


class Entry(NamedTuple):
    """One operation.

    Attributes:
        number: 1, 2, …
        kind: init, learn, unlearn, rollback, audit or purge.
        body: JSON values.
        chain: hash of this row and of all before it.
    """

    number: int
    kind: str
    body: dict[str, Any]
    chain: bytes


class Left(NamedTuple):
    """What is there of an example that left."""

    number: int
    left_by: int
    key_tombstone: bytes | None
    content_tombstone: bytes | None


def spelled(text: str) -> str:
    """A text that SQLite takes: bytes of a path that are no UTF-8 as escapes.

    >>> print(spelled("a\\udcff"))
    a\\udcff
    """
    return text.encode(errors="backslashreplace").decode()


def content_of(key: str, content: bytes, class_name: str, metadata: str) -> list[str]:
    """What a commitment is of."""
    return [key, content.hex(), class_name, metadata]


def fixed(number: int, learned_by: int, held_out: int, sealed: bytes) -> bytes:
    """What never changes of an example's row."""
    return chain.canonical([number, learned_by, held_out, sealed.hex()])


def operation(number: int, kind: str, body: str) -> bytes:
    """An entry's row."""
    return chain.canonical([number, kind, body])
