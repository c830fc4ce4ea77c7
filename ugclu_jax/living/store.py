"""The folder of a model: what lies where, and how an operation becomes visible all at once.

    ledger.sqlite    every example and every operation; the commit of its transaction is the one switch
    head.json        where the ledger's chain ends and the digest of its file, signed: a row that is gone is missed
    generations/N    network, buffers and configuration after entry N; pending-N before its entry is committed
    private.pem      signs; public.pem is for others        lock    who writes, empty where nobody does
    references/      small networks of audits        certificates/    one HTML and one JSON a request

A kill at any moment leaves the state before or after: a generation that no entry names is swept, one that an entry
names and that is still called pending gets its name.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax import files
from ugclu_jax.living import chain, lock, signing
from ugclu_jax.living.ledger import NAME, Ledger
from ugclu_jax.living.rows import Entry, Example
from ugclu_jax.strict_json import parse

HEAD, GENERATIONS, CERTIFICATES, REFERENCES = "head.json", "generations", "certificates", "references"
MODEL_KINDS = ("init", "learn", "unlearn", "rollback")
"""Entries that lead to another network."""
KEPT = 4
"""Generations that a folder holds at most: the newest, as far back as a rollback may go."""
_TRIES = 20
_HELD_OPEN = f"a reader held {NAME} open at the last write, so that its old pages are there: ugclu purge"


class Generation(NamedTuple):
    """What the folder holds after an entry.

    Attributes:
        entry: that led to it.
        files: contents by name.
    """

    entry: Entry
    files: dict[str, bytes]


class Store:
    """A model's folder.

    Args:
        path: of it.

    Raises:
        FileNotFoundError: there is no model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / NAME).is_file():
            raise FileNotFoundError(2, "no model is here: make one with ugclu init", str(path))

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: Path) -> Iterator["Store"]:
        """A new folder, which is there with all that the block writes, or not at all.

        Raises:
            ValueError: something is there already.
            OSError: it cannot be made.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"{path} is there already, and not an empty folder: give another name")
        with files.partial_folder(path.parent) as partial:
            (partial / GENERATIONS).mkdir()
            signing.create(partial)
            Ledger.create(partial / NAME).close()
            made = cls(partial)
            yield made
            partial.replace(path)
            made.path = path
        files.settle(path.parent)

    def ledger(self, write: bool = False) -> Ledger:
        """Its ledger, open.

        Raises:
            ValueError, OSError: as `Ledger`.
        """
        return Ledger(self.path / NAME, write)

    def current(self) -> Generation:
        """The last whole state, whatever a writer does meanwhile.

        Raises:
            DamagedFileError: a file of it is not what was written.
            ValueError, OSError: the ledger is damaged.
        """
        for attempt in range(_TRIES):
            with self.ledger() as ledger:
                entry = ledger.last(MODEL_KINDS)
            assert entry is not None  # as a folder is made with its first
            try:
                return self.generation(entry)
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("the last attempt raises")

    def generation(self, entry: Entry) -> Generation:
        """What the folder holds after an entry.

        Raises:
            DamagedFileError: a file is not what was written.
            FileNotFoundError: it is no longer kept.
        """
        for folder in (self.place(entry.number), self._pending(entry.number), self.place(entry.number)):
            with contextlib.suppress(FileNotFoundError):
                return Generation(entry, {name: _read(folder / name, sha) for name, sha in entry.body["files"].items()})
        raise FileNotFoundError(2, "this generation is no longer kept", str(self.place(entry.number)))

    def kept(self, ledger: Ledger) -> list[int]:
        """Entries to which a rollback may lead, newest first: none from before an unlearning."""
        found: list[int] = []
        for entry in ledger.entries():
            if entry.kind == "rollback":
                found = [entry.number, *found[found.index(entry.body["to"]) :]]
            elif entry.kind in MODEL_KINDS:
                found = [entry.number, *(found if entry.kind == "learn" else [])]
            found = found[:KEPT]
        return found

    @contextlib.contextmanager
    def writing(self, doing: str) -> Iterator[Ledger]:
        """The ledger, to be written by this process alone; what a kill left is swept first.

        Raises:
            ValueError: another process writes, which is named; or ledger, head or private key are not what was written:
                whoever wrote on would sign what another hand has made of them.
        """
        with lock.held(self.path, doing), self.ledger(write=True) as ledger:
            self._check(ledger)
            self._recover(ledger)
            yield ledger

    def commit(
        self,
        ledger: Ledger,
        kind: str,
        body: Mapping[str, Any],
        *,
        entering: Sequence[Example] = (),
        leaving: Sequence[int] = (),
        generation: Mapping[str, bytes] | None = None,
    ) -> Entry:
        """Add an entry, the examples that it learns and the network that it led to: all at once.

        Args:
            ledger: from `writing`.
            kind: of the entry.
            body: JSON values.
            entering: examples that it learns, which get the next numbers.
            leaving: numbers of examples that leave; those of an unlearn entry leave tombstones.
            generation: contents by file name; None where the network stays.

        Raises:
            OSError: the disk is full, or the like; nothing has changed.
        """
        last = ledger.last()
        number = 1 if last is None else last.number + 1
        body = {**body, "at": lock.now()}
        if generation is not None:
            body["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in generation.items()}
            self._write_pending(number, generation)
        signer = signing.load(self.path)
        with ledger.transaction():
            ledger.enter(entering, by=number)
            ledger.leave(leaving, by=number, tombstones=kind == "unlearn")
            entry = ledger.append(kind, dict(body))
            self._write_head(signer, [entry, *([] if last is None else [last])])
        if generation is not None:
            self._pending(number).rename(self.place(number))
            files.settle(self.path / GENERATIONS)
        self._finish(ledger, signer)
        return entry

    def head_problems(self, ledger: Ledger, public: str) -> list[str]:
        """What `head.json` says against the ledger; empty: nothing."""
        last = ledger.last()
        try:
            with files.open_plain(self.path / HEAD) as file:
                text = file.read().decode()
            heads = parse(HEAD, text)["accepted"]
            if text != _head_text(heads):
                return [f"{HEAD} has other bytes than it was written with"]
            for head in heads:
                said = chain.canonical([head["entries"], head["chain"], head["ledger"]])
                if not signing.verified(public, said, head["signature"]):
                    return [f"{HEAD} is not signed by the folder's key"]
            here = [h for h in heads if last and (h["entries"], h["chain"]) == (last.number, last.chain.hex())]
            if not here:
                return [f"the ledger does not end where {HEAD} says: entries are missing, or were added by hand"]
            if len(heads) == 1 and here[0]["ledger"] is None:
                return [_HELD_OPEN]
            if len(heads) == 1 and here[0]["ledger"] != _digest(ledger):
                return [f"{NAME} has other bytes than when it was last written"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            return [f"{HEAD} is damaged or missing ({error})"]
        return []

    def _check(self, ledger: Ledger) -> None:
        if ledger.last() is None:
            return
        public = str(ledger.entry(1).body["public_key"])
        if signing.load(self.path).public != public:
            raise ValueError(
                f"{self.path / signing.PRIVATE} is not the key that the model was made with: put its own back"
            )
        found = [problem for problem in self.head_problems(ledger, public) if problem != _HELD_OPEN]
        if found:
            raise ValueError(
                f"{self.path}: {found[0]}; ugclu verify says what else is not as it was written: put back a whole copy"
            )

    def stray(self, ledger: Ledger) -> list[str]:
        """Generations on disk that no entry names, and those that are missing."""
        there = {path.name for path in (self.path / GENERATIONS).iterdir()}
        kept = {str(number) for number in self.kept(ledger)}
        pending = {name for name in there if name.startswith(("pending-", files.PARTIAL))}
        missing = {n for n in kept - there if f"pending-{n}" not in pending}
        led_to = {str(entry.number) for entry in ledger.entries() if entry.kind in MODEL_KINDS}
        old = there & led_to - kept
        return [
            *(f"generation {name} is on disk, and no entry leads to it" for name in sorted(there - led_to - pending)),
            *(
                f"generation {name} should be gone, and a kill came between: ugclu purge removes it"
                for name in sorted(old)
            ),
            *(f"generation {name} is missing" for name in sorted(missing)),
        ]

    def _recover(self, ledger: Ledger) -> None:
        folder = self.path / GENERATIONS
        for place in (self.path, folder, self.path / CERTIFICATES):
            files.sweep(place)
        for path in folder.glob("pending-*"):
            named = any(str(entry.number) == path.name.removeprefix("pending-") for entry in ledger.entries())
            if named:
                path.rename(folder / path.name.removeprefix("pending-"))
            else:
                files.discard(path)
        self._finish(ledger, signing.load(self.path))

    def _finish(self, ledger: Ledger, signer: signing.Signer) -> None:
        """Make the ledger one file again, say where it ends, and remove generations that nothing leads back to."""
        last = ledger.last()
        if last is None:
            return
        settled = ledger.settle()
        self._write_head(signer, [last], _digest(ledger) if settled else None)
        kept = {str(number) for number in self.kept(ledger)}
        for path in (self.path / GENERATIONS).iterdir():
            if path.name.isdigit() and path.name not in kept:
                files.discard(path)

    def _write_head(self, signer: signing.Signer, entries: Sequence[Entry], ledger: str | None = None) -> None:
        accepted = []
        for entry in entries:
            said = [entry.number, entry.chain.hex(), ledger]
            signature = signer.sign(chain.canonical(said))
            accepted.append({**dict(zip(("entries", "chain", "ledger"), said, strict=True)), "signature": signature})
        text = _head_text(accepted)
        there = self.path / HEAD
        if not there.exists() or there.read_text() != text:
            files.write(there, text)

    def _write_pending(self, number: int, contents: Mapping[str, bytes]) -> None:
        folder = self.path / GENERATIONS
        shutil.rmtree(self._pending(number), ignore_errors=True)
        with files.partial_folder(folder) as partial:
            for name, content in contents.items():
                with files.replacing(partial / name) as file:
                    file.write(content)
            partial.rename(self._pending(number))
        files.settle(folder)

    def place(self, number: int) -> Path:
        """Where the generation of an entry lies."""
        return self.path / GENERATIONS / str(number)

    def _pending(self, number: int) -> Path:
        return self.path / GENERATIONS / f"pending-{number}"


def _digest(ledger: Ledger) -> str:
    content, size = ledger.content(), ledger.path.stat().st_size
    # Bytes behind the last page are none of the database.
    return hashlib.sha256(content).hexdigest() if size == len(content) else f"{size} bytes, of which {len(content)}"


def _head_text(heads: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"accepted": heads}) + "\n"


def _read(path: Path, expected: str) -> bytes:
    with files.open_plain(path) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != expected:
        raise files.DamagedFileError(f"{path} is damaged: its digest is not the one in the ledger")
    return content
