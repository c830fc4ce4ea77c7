"""Going back, purging and exporting."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ugclu_jax import files
from ugclu_jax.harness.remains import size
from ugclu_jax.living import chain, onnx_file
from ugclu_jax.living.begin import versions
from ugclu_jax.living.held import CONFIG, NETWORK, Held, filled, from_files
from ugclu_jax.living.ledger import Ledger
from ugclu_jax.living.measures import of_request, verdict
from ugclu_jax.living.requests import Who
from ugclu_jax.living.results import Done, Purged
from ugclu_jax.living.store import REFERENCES, Store
from ugclu_jax.living.understanding import current


def rollback(store: Store, to: int, who: Who) -> Done:
    """See `LivingModel.rollback`."""
    with store.writing("rollback") as ledger:
        began, kept = time.perf_counter(), store.kept(ledger)
        last = ledger.last()
        assert last is not None
        if to not in kept or to == kept[0]:
            entry = ledger.entry(to)
            later = [e.number for e in ledger.entries() if e.kind == "unlearn" and e.number > to]
            if later:
                raise ValueError(
                    f"entry {to} lies before entry {later[-1]}, which unlearned: that network still knew what was to "
                    "be forgotten, and is gone"
                )
            there = f"these are: {', '.join(map(str, kept[1:]))}" if kept[1:] else "none is"
            raise ValueError(f"entry {entry.number} ({entry.kind}) is no state that can be gone back to; {there}")
        before = current(store)
        after = from_files(store.generation(ledger.entry(to)).files)
        learned = ledger.learned_after(to)
        metrics = of_request(before, after, np.zeros((0, *after.described.shape)), np.zeros(0, np.int32))
        name, said = f"back to {to}", verdict("rollback", metrics)
        seconds = time.perf_counter() - began
        body = {
            "name": name,
            "by": who.by,
            "ticket": who.ticket,
            "asked": name,
            "to": to,
            "method": "none",
            "versions": versions(),
            "before": before.digest(),
            "after": after.digest(),
            "trained": len(learned),
            "held_out": 0,
            "metrics": metrics,
            "verdict": said,
        }
        entry = store.commit(ledger, "rollback", body, leaving=learned, generation=after.files())
    return Done(
        entry.number, "rollback", name, "none", len(learned), 0, seconds, 0.0, 0.0, before.digest(),
        after.digest(), metrics, said,
    )  # fmt: skip


def purge(store: Store, dry_run: bool) -> Purged:
    """See `LivingModel.purge`."""
    with store.writing("purge") as ledger:
        left = tuple(places(store, ledger))  # first: where a sample cannot be read nothing is removed
        found = [(path, size(path)) for path in _traces(store)]
        if not dry_run:
            for path, _ in found:
                files.discard(path)
            if found:
                names = [str(path.relative_to(store.path)) for path, _ in found]
                store.commit(ledger, "purge", {"removed": names, "name": "purge", "asked": "purge"})
    return Purged(tuple((str(path), number) for path, number in found), dry_run, left)


def _traces(store: Store) -> Iterator[Path]:
    """Networks of audits: those of before an unlearning were trained on what it removed."""
    folder = store.path / REFERENCES
    if folder.is_dir():
        yield from sorted(folder.iterdir())


def places(store: Store, ledger: Ledger) -> Iterator[str]:
    """Where an unlearned example stands as a row of an array of the folder, told by its tombstone."""
    gone = {left.content_tombstone for left in ledger.left() if left.content_tombstone is not None}
    if not gone:
        return
    # An example that equals a retained one may stand: it is the other's.
    gone -= {chain.tombstone(ledger.secret, "content", row.example.content) for row in ledger.present()}
    for number in store.kept(ledger):
        held = from_files(store.generation(ledger.entry(number)).files)
        if any(stands(ledger, gone, rows) for rows in arrays(held)):
            yield f"generation {number}"


def arrays(held: Held) -> list[np.ndarray]:
    """Arrays of inputs that a generation holds."""
    return [filled(buffer)[0] for buffer in (held.buffer, held.held_out)]


def stands(ledger: Ledger, gone: set[bytes], rows: np.ndarray) -> bool:
    """Whether a row has a tombstone among some."""
    digests = (hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in rows)
    return any(chain.tombstone(ledger.secret, "content", digest) in gone for digest in digests)


def export(store: Store, path: Path, onnx: bool) -> None:
    """See `LivingModel.export`."""
    beside = path.with_suffix(".json")
    if beside == path:
        raise ValueError(f"{path} is where the configuration is written: give the network another ending")
    found = store.current().files
    content = onnx_file.packed(from_files(found)) if onnx else found[NETWORK]
    with files.replacing(path) as file:
        file.write(content)
    with files.replacing(beside) as file:
        file.write(found[CONFIG])
