"""What the verbs return: typed, and the same that `--json` prints."""

from typing import Any, NamedTuple


class Estimate(NamedTuple):
    """What a request would cost by a method, and by training from scratch on what remains.

    Attributes:
        method: its name.
        evaluations: gradient evaluations, in units of 64 examples.
        seconds: of its steps on this machine, compilation apart, by the last request; None where there was none.
        retraining: gradient evaluations of training from scratch.
        retraining_seconds: likewise.
        sources: that retraining would read.
        missing: those of them that are not at hand.
    """

    method: str
    evaluations: float
    seconds: float | None
    retraining: float
    retraining_seconds: float | None
    sources: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def retraining_is_cheaper(self) -> bool:
        """Whether it is, and can be done."""
        return not self.missing and self.retraining < self.evaluations


class Understood(NamedTuple):
    """A request before it is served.

    Attributes:
        kind: learn or unlearn.
        asked: in words, as it was typed.
        trained: numbers of the examples in the ledger, or to be, that are trained on.
        held_out: likewise of those that are only measured on.
        classes: how many examples of each class.
        first: the first keys.
        new_classes: that the network has no output for yet.
        known: how many are learned already, and passed over.
        estimate: of its cost.
        entry: the last one of the ledger that was read for it.
        notes: what else is to be said.
    """

    kind: str
    asked: str
    trained: tuple[int, ...]
    held_out: tuple[int, ...]
    classes: dict[str, int]
    first: tuple[str, ...]
    new_classes: tuple[str, ...]
    known: int
    estimate: Estimate
    entry: int
    notes: tuple[str, ...] = ()


class Done(NamedTuple):
    """A request that was served.

    Attributes:
        entry: its number in the ledger.
        kind: of it.
        name: that it was given.
        method: that served it.
        trained, held_out: how many examples entered or left.
        seconds: that it took, compilation included.
        compile_seconds: of these, what a later request of the same size does not take.
        evaluations: gradient evaluations.
        before, after: digests of the parameters.
        metrics: what was measured, see `measures.of_request`.
        verdict: in a sentence.
        notes: what else is to be said.
    """

    entry: int
    kind: str
    name: str
    method: str
    trained: int
    held_out: int
    seconds: float
    compile_seconds: float
    evaluations: float
    before: str
    after: str
    metrics: dict[str, Any]
    verdict: str
    notes: tuple[str, ...] = ()


class Status(NamedTuple):
    """How a model stands.

    Attributes:
        folder: of it.
        model: name of the network.
        classes: names, with the number of examples trained on of each.
        counts: of the ledger's examples, by where they stand.
        buffer: examples that the buffer holds, and may hold.
        entries: of the ledger.
        rollback: entries to which it can be rolled back.
        bytes: of the folder, and of the ledger alone.
        public_key: that certificates are checked by, in hexadecimal.
        writer: who writes at this moment; None: nobody.
    """

    folder: str
    model: str
    classes: dict[str, int]
    counts: dict[str, int]
    buffer: tuple[int, int]
    entries: int
    rollback: tuple[int, ...]
    bytes: tuple[int, int]
    public_key: str
    writer: dict[str, Any] | None


class Predicted(NamedTuple):
    """What the network says of an input: the likeliest classes, with their probabilities."""

    what: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Purged(NamedTuple):
    """What still held traces of unlearned examples, by path, with bytes; removed unless it was a dry run."""

    removed: tuple[tuple[str, int], ...]
    dry_run: bool
    left: tuple[str, ...]  # places where an unlearned example still stands


class Verified(NamedTuple):
    """What was computed again.

    Attributes:
        problems: what is not as it was written, in sentences; empty: all of it is.
        checked: what was, in sentences.
        unknown: what no such check can know.
    """

    problems: tuple[str, ...]
    checked: tuple[str, ...]
    unknown: tuple[str, ...]
