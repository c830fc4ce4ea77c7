"""Times and sizes of a model's ledger by its rows: `python -m benchmarks.ledger` prints a table.

    python -m benchmarks.ledger --rows 1000 100000 1000000

For each size a ledger in a temporary folder: one request enters all rows, one enters 100 more, one makes 100 leave;
then status, a condition on the metadata over all rows, and the check of both chains. Seconds are the processor's.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from ugclu_jax.living import signing
from ugclu_jax.living.ledger import NAME
from ugclu_jax.living.rechecked import problems
from ugclu_jax.living.rows import Example
from ugclu_jax.living.selection import Asked, chosen
from ugclu_jax.living.store import Store

FEW = 100
HEAD = ("rows", "ledger MB", "enter all", f"enter {FEW}", f"unlearn {FEW}", "status", "where", "verify")


def example(number: int) -> Example:
    """One of many, with two columns of metadata."""
    content = hashlib.sha256(str(number).encode()).digest()
    columns: dict[str, str | None] = {"user": str(number % 997), "date": "2026-01-01"}
    return Example(f"class/{number:08}.png", content, f"c{number % 10}", columns)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of the processor that a call takes: whatever else the machine is at, and without waiting for the disk."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(rows: int) -> tuple[float, ...]:
    """The table's row for so many examples."""
    with tempfile.TemporaryDirectory() as place:
        with Store.create(Path(place, "model")) as store, store.writing("init") as ledger:
            facts = {"public_key": signing.load(store.path).public, "secret": ledger.secret_digest()}
            store.commit(ledger, "init", facts, generation={"n": b""})
            many = [example(number) for number in range(rows)]
            all_of = timed(lambda: store.commit(ledger, "learn", {}, entering=many, generation={"n": b""}))
            more = [example(rows + number) for number in range(FEW)]
            few = timed(lambda: store.commit(ledger, "learn", {}, entering=more, generation={"n": b""}))
            gone = list(range(FEW))
            leave = timed(lambda: store.commit(ledger, "unlearn", {}, leaving=gone, generation={"n": b""}))
        size = (store.path / NAME).stat().st_size / 1e6
        with store.ledger() as ledger:
            status = timed(lambda: (ledger.counts(), ledger.class_counts(), ledger.last()))
            where = timed(lambda: chosen(Asked(where="user = 117"), ledger.present()))
            verify = timed(lambda: problems(ledger))
    return rows, size, all_of, few, leave, status, where, verify


def main(rows: tuple[int, ...] = (1_000, 100_000, 1_000_000)) -> int:
    """Measure ledgers of several sizes.

    Args:
        rows: examples of each.
    """
    print("| " + " | ".join(HEAD) + " |")
    print("| " + " | ".join(["---:"] * len(HEAD)) + " |")
    for number in rows:
        found = measure(number)
        print("| " + " | ".join([f"{number:,}", *(f"{value:.3g}" for value in found[1:])]) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
