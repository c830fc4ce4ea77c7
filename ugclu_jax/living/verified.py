"""What a folder or a certificate says, computed again: chains, digests, signatures, samples; a scan for what left."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ugclu_jax import bank, files
from ugclu_jax.buffer import rank
from ugclu_jax.living import certificate, chain, gather, lock, offered, rechecked, signing, upkeep
from ugclu_jax.living.held import Held, filled, from_files
from ugclu_jax.living.ledger import NAME, Ledger
from ugclu_jax.living.results import Verified
from ugclu_jax.living.rows import Entry
from ugclu_jax.living.store import CERTIFICATES, GENERATIONS, HEAD, REFERENCES, Store

UNKNOWN = (
    "whether copies of the folder, backups, logs or exported networks elsewhere still know what was unlearned",
    "whether the weights themselves still say something of it: an audit measures that, and proves nothing",
    "whether a picture that was cut or compressed anew is one that was unlearned: contents are compared byte by byte",
    "whether the folder as a whole was replaced by an older copy of itself: keep the newest certificate elsewhere",
)
_FILES = {NAME, f"{NAME}-wal", f"{NAME}-shm", HEAD, lock.NAME, signing.PRIVATE, signing.PUBLIC}
_DAMAGE = (
    *(ValueError, OSError, sqlite3.DatabaseError, KeyError, TypeError, AttributeError, IndexError, AssertionError),
    bank.DamagedCacheError,
)
"""Of what was changed by hand nothing is certain, but that it is one of these."""


def folder(store: Store, key: str | None = None, sources: Sequence[str] = ()) -> Verified:
    """Compute everything in a model's folder again.

    Args:
        store: of the model.
        key: its public key, in hexadecimal, from a place that is trusted; None = the one in the folder.
        sources: that hold unlearned examples still; their bytes are looked for in every file.
    """
    problems: list[str] = []
    checked: list[str] = []

    def check(what: str, work: Callable[[], list[str]]) -> None:
        try:
            found = work()
        except _DAMAGE as error:
            found = [f"{what}: cannot be read ({error})"]
        problems.extend(found)
        checked.append(what)

    check("files of the folder", lambda: _files(store))
    try:
        with store.ledger() as ledger, ledger.snapshot():
            check("keys", lambda: _keys(store, ledger, key))
            check("chains, commitments and tombstones of the ledger", lambda: rechecked.problems(ledger))
            check("where the ledger ends, and its bytes", lambda: store.head_problems(ledger, _public(ledger)))
            check("generations", lambda: store.stray(ledger))
            check("networks and samples", lambda: _generations(store, ledger))
            check(
                "samples, for unlearned examples",
                lambda: [f"an unlearned example stands in {place}" for place in upkeep.places(store, ledger)],
            )
            check("certificates", lambda: _certificates(store, ledger))
            check("networks of audits", lambda: _references(store, ledger))
            if sources:
                check("every file, for the bytes of unlearned examples", lambda: _bytes(store, ledger, sources))
    except _DAMAGE as error:
        problems.append(f"{NAME} cannot be read ({error})")
    return Verified(tuple(problems), tuple(checked), UNKNOWN)


def _public(ledger: Ledger) -> str:
    return str(ledger.entry(1).body["public_key"])


def _keys(store: Store, ledger: Ledger, key: str | None) -> list[str]:
    own, found = _public(ledger), []
    if signing.read_public(store.path / signing.PUBLIC) != own:
        found.append(f"{signing.PUBLIC} is not the key that the model was made with")
    if signing.load(store.path).public != own:
        found.append(f"{signing.PRIVATE} is not the key that the model was made with")
    if key is not None and key != own:
        found.append("the folder was made with another key than the one given")
    return found


def _files(store: Store) -> list[str]:
    """What lies in the folder and is no part of it, and a lock that nobody holds."""
    folders = {GENERATIONS, CERTIFICATES, REFERENCES}
    names = [path.name for path in store.path.iterdir() if not path.name.startswith(files.PARTIAL)]
    found = [f"{name} is no file of a model's folder" for name in sorted(set(names) - _FILES - folders)]
    path = store.path / lock.NAME
    if path.exists() and path.stat().st_size and not lock.is_held(store.path):
        found.append(f"{lock.NAME} names a writer, and nobody writes")
    return found


def _generations(store: Store, ledger: Ledger) -> list[str]:
    found: list[str] = []
    present = {row.number: row.example for row in ledger.present()}
    kept = store.kept(ledger)
    for number in kept:
        entry = ledger.entry(number)
        generation = store.generation(entry)
        held = from_files(generation.files)
        if held.digest() != entry.body["after"]:
            found.append(f"generation {number} is another network than entry {number} led to")
        inside = {path.name for path in store.place(number).iterdir()}
        found += [f"{name} is no file of generation {number}" for name in sorted(inside - generation.files.keys())]
        for buffer, out in ((held.buffer, False), (held.held_out, True)):
            inputs, labels, numbers = filled(buffer)
            ranks = np.asarray(rank(buffer.ids, buffer.hash_key))
            if not np.array_equal(ranks[: len(numbers)], np.asarray(buffer.ranks)[: len(numbers)]):
                found.append(f"ranks of a sample of generation {number} are not those of its numbers")
            for row, label, example in zip(inputs, labels.tolist(), numbers.tolist(), strict=True):
                known = present.get(example)
                if known is None:
                    if number == kept[0]:
                        found.append(f"generation {number} holds example {example}, which left")
                    continue
                same = hashlib.sha256(np.ascontiguousarray(row).data).digest() == known.content
                if not same or known.held_out != out or held.described.classes[label] != known.class_name:
                    found.append(f"example {example} of generation {number} is not the one that was learned")
    return found


def _certificates(store: Store, ledger: Ledger) -> list[str]:
    found = []
    place = store.path / CERTIFICATES
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        if path.name.startswith(files.PARTIAL):
            continue
        read = certificate.read(path)
        wrong = certificate.problems(read, _public(ledger)) or against(read.content, store, ledger)
        found += [f"{CERTIFICATES}/{path.name}: {each}" for each in wrong]
    return found


def _references(store: Store, ledger: Ledger) -> list[str]:
    """Networks of audits, by the digests that the audits' entries have."""
    known: dict[str, str] = {}
    for entry in ledger.entries():
        if entry.kind == "audit":
            known |= entry.body["references"]
    found = []
    place = store.path / REFERENCES
    for path in sorted(place.glob("*/*")):
        name = str(path.relative_to(place))
        if not path.name.startswith(files.PARTIAL) and known.get(name) != hashlib.sha256(path.read_bytes()).hexdigest():
            found.append(f"{REFERENCES}/{name} is not the network that an audit trained")
    return found


def _bytes(store: Store, ledger: Ledger, sources: Sequence[str]) -> list[str]:
    held = from_files(store.current().files)
    gone = {left.content_tombstone for left in ledger.left() if left.content_tombstone is not None}
    found = []
    # The ledger's own file is read as `Ledger.content` says; its -shm holds the numbers of pages, and locks.
    own = {store.path / NAME, store.path / f"{NAME}-shm"}
    others = [path for path in sorted(store.path.rglob("*")) if path.is_file() and path not in own]
    contents = [(store.path / NAME, ledger.content()), *((path, path.read_bytes()) for path in others)]
    for source in sources:
        there = gather.encoded(offered.read(source, held.described.image_size), held.tokenizer, held.described)
        for example, row in zip(there.examples(), there.inputs, strict=True):
            if chain.tombstone(ledger.secret, "content", example.content) in gone:
                raw = np.ascontiguousarray(row).tobytes()
                found += [f"{path} holds the bytes of {example.key}" for path, content in contents if raw in content]
    return found


def against(content: dict[str, object], store: Store, ledger: Ledger) -> list[str]:
    """What a certificate says against the folder that it is of: row, what left with it, network, numbers."""
    said = content["entry"]
    assert isinstance(said, dict)
    entry = ledger.entry(said["number"])
    found = []
    if (entry.kind, entry.body, entry.chain.hex()) != (said["kind"], said["body"], content["chain"]):
        found.append(f"the ledger has another entry {entry.number}")
    if entry.kind == "unlearn":
        left = ledger.left_commitments(entry.number)
        if left != entry.body["commitments"] or len(left) != entry.body["trained"] + entry.body["held_out"]:
            found.append("other examples left with it than it says")
    if entry.number in store.kept(ledger):
        held = from_files(store.generation(entry).files)
        if held.digest() != entry.body["after"]:
            found.append("the network after it is another")
        found += _numbers(entry, held)
    return found


def _numbers(entry: Entry, held: Held) -> list[str]:
    """The accuracy on the held-out sample, computed again."""
    said = entry.body["metrics"].get("held_out")
    inputs, labels, _ = filled(held.held_out)
    if said is None or said["count"] != len(labels):
        return []
    again = float((held.logits(inputs).argmax(1) == labels).mean())
    if abs(again - said["accuracy"][1][0]) > 1.5 / len(labels):  # another machine may turn one prediction
        return [f"accuracy on held-out examples is {again:.4f} today, and not {said['accuracy'][1][0]:.4f}"]
    return []


def of_certificate(path: Path, public: str, store: Store | None = None) -> Verified:
    """Check a certificate by the model's public key, and against its folder where that is at hand.

    Args:
        path: of the JSON or the page.
        public: the key in hexadecimal, from a place that is trusted.
        store: of the model.
    """
    checked = ["text, signature and chain"]
    try:
        read = certificate.read(path)
        problems = certificate.problems(read, public)
        if store is not None and not problems:
            checked.append("its row, what left with it, its network and its numbers, in the folder")
            with store.ledger() as ledger:
                problems = against(read.content, store, ledger)
    except _DAMAGE as error:
        problems = [str(error)]
    return Verified(tuple(problems), tuple(checked), UNKNOWN)
