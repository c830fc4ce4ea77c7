"""A model that lives in a folder: opened by many, written by one at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from ugclu_jax.harness.progress import Progress
from ugclu_jax.living import audit, begin, certificate, lock, offered, requests, understanding, upkeep, verified
from ugclu_jax.living.begin import Start
from ugclu_jax.living.gather import encoded
from ugclu_jax.living.held import Held
from ugclu_jax.living.ledger import NAME
from ugclu_jax.living.requests import Who
from ugclu_jax.living.results import Done, Predicted, Purged, Status, Understood, Verified
from ugclu_jax.living.rows import Entry
from ugclu_jax.living.selection import Asked
from ugclu_jax.living.store import MODEL_KINDS, Store
from ugclu_jax.living.understanding import DEFAULT


class LivingModel:
    """A model in a folder.

    Args:
        folder: of it.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: its ledger is damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = Path(place, "digits")
    ...     quick = {"oracle": {"epochs": 1}, "capacity": 100}
    ...     model, _ = LivingModel.init(folder, data="digits", settings=quick, held_out=50)
    ...     model.status().counts["retained"], model.predict("digits", 2)[0].what
    (1437, 'train/0')
    """

    def __init__(self, folder: Path | str) -> None:
        self.store = Store(Path(folder))
        self.store.ledger().close()

    @classmethod
    def open(cls, folder: Path | str) -> "LivingModel":
        """The same, as a file is opened."""
        return cls(folder)

    @classmethod
    def init(
        cls,
        folder: Path | str,
        data: str,
        *,
        by: str | None = None,
        ticket: str | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        **start: Any,
    ) -> tuple["LivingModel", Done]:
        """Make a folder: from data and the weights that a network has learned them with, or trained here.

        Args:
            folder: that is made.
            data, settings: see `begin.Start`, and so are further arguments.
            by, ticket: who asked for it, and under which number.
            progress: bars of a terminal; None: there is none.

        Returns:
            The model, and what was done.

        Raises:
            ValueError, OSError: as `begin.begin`.
        """
        done = begin.begin(Path(folder), Start(data, settings=settings or {}, **start), by, ticket, progress)
        return cls(folder), done

    def understand(self, asked: Asked | str, method: str = DEFAULT, relearn: bool = False) -> Understood:
        """What a request would do, and what it would cost: of a source to learn, or of examples to unlearn.

        Raises:
            ValueError, OSError: it cannot be served.
        """
        if isinstance(asked, str):
            return understanding.understand_learning(self.store, asked, method, relearn).understood
        return understanding.understand_unlearning(self.store, asked, method)

    def learn(
        self,
        data: str,
        *,
        name: str | None = None,
        by: str | None = None,
        ticket: str | None = None,
        method: str = DEFAULT,
        relearn: bool = False,
        progress: Progress | None = None,
    ) -> Done:
        """Learn what a source has and the model does not know; new classes make its last layer grow.

        Args:
            data: see `offered.read`.
            name: of the request; None = the source.
            by, ticket: who asked for it, and under which number.
            method: of the library, or `retrain`.
            relearn: whether what was unlearned before may be learned again.
            progress: bars of a terminal; None: there is none.

        Raises:
            ValueError, OSError: as `requests.learn`; nothing has changed.
        """
        return requests.learn(self.store, data, Who(name, by, ticket), method, relearn, progress)

    def unlearn(
        self,
        asked: Asked | None = None,
        *,
        name: str | None = None,
        by: str | None = None,
        ticket: str | None = None,
        method: str = DEFAULT,
        sources: Sequence[str] = (),
        progress: Progress | None = None,
        **named: Any,
    ) -> Done:
        """Unlearn examples; no byte of them is in the folder afterwards.

        Args:
            asked: which, or `where=`, `ids=`, `files=`, `classes=` of `selection.Asked`.
            name: of the request; None = what was asked.
            by, ticket: who asked for it, and under which number.
            method: of the library, or `retrain`.
            sources: where the examples are, where not where they came from.
            progress: bars of a terminal; None: there is none.

        Raises:
            ValueError, OSError: as `requests.unlearn`; nothing has changed.
        """
        who = Who(name, by, ticket)
        return requests.unlearn(self.store, asked or Asked(**named), who, method, sources, progress)

    def held(self) -> Held:
        """Network, samples and configuration, as they stand."""
        return understanding.current(self.store)

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs for inputs as stored, [N, C]."""
        return self.held().logits(inputs)

    def predict(self, source: str, limit: int | None = None) -> list[Predicted]:
        """What the network says of a picture, or of everything in a source.

        Args:
            source: a picture, or see `offered.read`.
            limit: most inputs; None = all.

        Raises:
            ValueError, OSError: it cannot be read, or is no input of this model.
        """
        held = self.held()
        found = encoded(offered.read_any(source, held.described.image_size), held.tokenizer, held.described)
        found = found.some(np.arange(len(found.keys))[:limit])
        shares = softmax(held.logits(found.inputs), axis=1)
        names = held.described.classes
        orders = np.argsort(-shares, axis=1, kind="stable")[:, :3]
        return [
            Predicted(key, tuple(names[i] for i in order), tuple(float(share[i]) for i in order))
            for key, order, share in zip(found.keys, orders, shares, strict=True)
        ]

    def status(self) -> Status:
        """How the model stands."""
        held = self.held()
        with self.store.ledger() as ledger, ledger.snapshot():
            first, last, counts = ledger.entry(1), ledger.last(), ledger.counts()
            classes = dict.fromkeys(held.described.classes, 0) | ledger.class_counts()
            kept = tuple(self.store.kept(ledger)[1:])
        assert last is not None
        inside = [path.stat().st_size for path in self.store.path.rglob("*") if path.is_file()]
        return Status(
            str(self.store.path),
            held.described.config().model,
            classes,
            counts,
            (int(held.buffer.count), held.buffer.ids.shape[0]),
            last.number,
            kept,
            (sum(inside), (self.store.path / NAME).stat().st_size),
            first.body["public_key"],
            lock.holder(self.store.path),
        )

    def history(self) -> list[Entry]:
        """Every operation, from the first on."""
        with self.store.ledger() as ledger:
            return ledger.entries()

    def rollback(self, to: int, *, by: str | None = None, ticket: str | None = None) -> Done:
        """Go back to the network of an entry; what was learned since leaves. Never past an unlearning.

        Raises:
            ValueError: there is no such state any more, or it lies before an unlearning.
        """
        return upkeep.rollback(self.store, to, Who(None, by, ticket))

    def purge(self, dry_run: bool = False) -> Purged:
        """Remove what still holds traces of unlearned examples, and scan every array that is left."""
        return upkeep.purge(self.store, dry_run)

    def export(self, path: Path | str, *, onnx: bool = False) -> None:
        """Write the network as safetensors or ONNX, with its configuration beside it.

        Args:
            path: of the file.
            onnx: write ONNX, see `onnx_file.packed`.

        Raises:
            MissingExtraError: ONNX is asked for, and the extra `onnx` is not installed.
            ValueError: the network cannot be written as ONNX, or the path is the configuration's.
            OSError: it cannot be written.
        """
        upkeep.export(self.store, Path(path), onnx)

    def audit(
        self,
        number: int | None = None,
        *,
        references: int = 0,
        oracle: bool = False,
        sources: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """What evidence there is, with intervals, that a request to unlearn did so; it stands in the ledger then.

        Args:
            number: of the request; None = the last that unlearned.
            references: networks, trained on the buffer, against which every example is judged; 0 = none.
            oracle: retrain from source, and give the distances to it.
            sources: where the unlearned examples still are; none: where they came from.
            progress: bars of a terminal; None: there is none.

        Raises:
            ValueError, OSError: there is no such request, or a source cannot be read.
        """
        return audit.audit(self.store, number, references, oracle, sources, progress)

    def certificate(self, number: int | None = None) -> tuple[Path, Path]:
        """Write the certificate of a request, as JSON and as a page; None = of the last.

        Raises:
            ValueError, OSError: as `certificate.write`.
        """
        return certificate.write(self.store, self.request(number).number)

    def verify(self, key: str | None = None, sources: Sequence[str] = ()) -> Verified:
        """Compute everything in the folder again, see `verified.folder`."""
        return verified.folder(self.store, key, sources)

    def request(self, number: int | None = None) -> Entry:
        """A request by its number; None = the last that led to another network."""
        with self.store.ledger() as ledger:
            found = ledger.last(MODEL_KINDS) if number is None else ledger.entry(number)
        assert found is not None
        return found
