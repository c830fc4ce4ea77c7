"""The ledger's chains, commitments and tombstones computed again, from its bare rows."""

import sqlite3
from collections.abc import Iterator

from ugclu_jax.living import chain
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.rows import content_of, fixed, operation
from ugclu_jax.strict_json import parse


def problems(ledger: Ledger) -> list[str]:
    """What is not as it was written; empty: all of it is.

    A row of which the chain no longer holds is named; those behind it are not judged.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder, "ledger.sqlite")) as ledger:
    ...     problems(ledger)
    []
    """
    found: list[str] = []
    try:
        ((answer, *_), *_) = ledger.connection.execute("pragma integrity_check(1)").fetchall()
        if answer != "ok":
            found.append(f"the database is damaged: {answer}")
        found += [*_of_entries(ledger), *_of_examples(ledger)]
        entries = ledger.entries()
        if entries and entries[0].body.get("secret") not in (None, ledger.secret_digest()):
            found.append("the secret of tombstones is not the one that the ledger was made with")
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, AttributeError) as error:
        found.append(f"the ledger cannot be read whole ({error})")
    return found


def _of_entries(ledger: Ledger) -> Iterator[str]:
    head = chain.START
    query = "select number, kind, body, chain from entries order by number"
    for expected, (number, kind, text, stored) in enumerate(ledger.connection.execute(query).fetchall(), start=1):
        head = chain.link(head, operation(number, kind, text))
        if number != expected or head != stored:
            yield f"entry {expected} is not the one that was written: its chain does not hold"
            return
        if parse(f"entry {number}", text)["left"] != ledger.left_digest(number):
            yield f"entry {number} made other examples leave than the ledger says"


def _of_examples(ledger: Ledger) -> Iterator[str]:
    entries = ledger.entries()
    last = entries[-1].number if entries else 0
    head, before = chain.START, 0
    columns = "number, learned_by, held_out, commitment, chain, left_by, salt, key, content, class, metadata"
    rows = ledger.connection.execute(f"select {columns} from examples order by number")
    for expected, (number, by, held_out, sealed, stored, left_by, salt, *content) in enumerate(rows):
        head = chain.link(head, fixed(number, by, held_out, sealed))
        if number != expected or head != stored or not before <= by <= last:
            yield f"example {expected} is not the one that was written: its chain does not hold"
            return
        before = by
        if left_by is None and chain.commitment(salt, content_of(*content)) != sealed:
            yield f"example {number} is not the one that was learned: key, content, class or metadata differ"
        if left_by is not None and not (by <= left_by <= last and all(part is None for part in (salt, *content))):
            yield f"example {number} left with entry {left_by}, which cannot be, or something of it is still there"
    if entries and entries[-1].body["examples"] != head.hex():
        yield "examples are missing at the end, or no entry knows them"
