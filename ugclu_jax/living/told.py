"""Results in words: the lines that the command line prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from ugclu_jax.data.wording import counted
from ugclu_jax.living.results import Done, Estimate, Predicted, Purged, Status, Understood, Verified
from ugclu_jax.living.rows import Entry

_CLASSES = 12


def understood(found: Understood) -> Iterator[str]:
    """What a request means, and what it would cost.

    >>> cost = Estimate("ug_clu", 616.0, 40.0, 261.0, 17.0, ("photos",), ())
    >>> asked = Understood("unlearn", "user = 17", (1, 2), (3,), {"cat": 2}, ("cat/1.png", "cat/2.png"), (), 0, cost, 1)
    >>> for line in understood(asked):
    ...     print(line)  # doctest: +NORMALIZE_WHITESPACE
    3 examples of user = 17: 2 trained on, 1 held out (cat 2); cat/1.png, cat/2.png and 1 more
    Cost about 616 gradient evaluations by ug_clu (40 s here); retraining 261 (17 s here), compilation apart:
    retraining is cheaper.
    """
    total = len(found.trained) + len(found.held_out)
    rest = f" and {total - len(found.first)} more" if total > len(found.first) else ""
    classes = ", ".join(f"{name} {number}" for name, number in list(found.classes.items())[:_CLASSES])
    more = f" and {len(found.classes) - _CLASSES} classes more" if len(found.classes) > _CLASSES else ""
    verb = "trained on" if found.kind == "unlearn" else "to learn"
    sizes = f"{len(found.trained)} {verb}, {len(found.held_out)} held out"
    yield f"{total} examples of {found.asked}: {sizes} ({classes}{more}); {', '.join(found.first)}{rest}"
    if found.known:
        yield f"{found.known} more are learned already, and passed over"
    if found.new_classes:
        yield f"New classes, for which the last layer grows: {', '.join(found.new_classes)}"
    yield from (f"Note: {note}" for note in found.notes)
    yield cost(found.estimate)


def cost(found: Estimate) -> str:
    """What a request would cost, by both ways."""
    own = f"Cost about {found.evaluations:.0f} gradient evaluations by {found.method}{_here(found.seconds)}"
    if found.method == "retrain":
        return f"{own}."
    apart = "" if found.seconds is None else ", compilation apart"
    again = f"{own}; retraining {found.retraining:.0f}{_here(found.retraining_seconds)}{apart}"
    if found.missing:
        return f"{again}, but its source data are not at hand."
    return f"{again}: {'retraining is cheaper' if found.retraining_is_cheaper else 'it is cheaper than retraining'}."


def _here(seconds: float | None) -> str:
    return "" if seconds is None else f" ({seconds:.2g} s here)" if seconds < 10 else f" ({seconds:.0f} s here)"


def done(found: Done) -> Iterator[str]:
    """What was done, and what came of it."""
    verb = {"init": "learned", "learn": "learned", "unlearn": "unlearned", "rollback": "took back"}[found.kind]
    by = f" by {found.method}" if found.method != "none" else ""
    yield (
        f"Entry {found.entry}: {verb} {found.trained} examples{by}, {found.held_out} held out, in {found.seconds:.1f} "
        f"s, {found.compile_seconds:.1f} s of it compilation, and {found.evaluations:.0f} gradient evaluations"
    )
    yield from (f"Note: {note}" for note in found.notes)
    yield found.verdict


def status(found: Status) -> Iterator[str]:
    """How a model stands."""
    counts = found.counts
    yield f"{found.folder}: {found.model}, {len(found.classes)} classes, {found.entries} entries"
    classes = ", ".join(f"{name} {number}" for name, number in list(found.classes.items())[:_CLASSES])
    yield f"Retained:    {counts['retained']} ({classes}{', …' if len(found.classes) > _CLASSES else ''})"
    yield f"Held out:    {counts['held_out']}"
    yield f"Unlearned:   {counts['unlearned']}"
    if counts["rolled_back"]:
        yield f"Rolled back: {counts['rolled_back']}"
    yield f"Buffer:      {found.buffer[0]} of {found.buffer[1]}"
    yield f"On disk:     {decimal(found.bytes[0])}, of which the ledger {decimal(found.bytes[1])}"
    yield f"Rollback to: {', '.join(map(str, found.rollback)) or 'nothing: the last request unlearned, or is alone'}"
    yield f"Public key:  {found.public_key}"
    if found.writer is not None:
        yield f"In use by process {found.writer.get('pid')} on {found.writer.get('host')} ({found.writer.get('doing')})"


def history(entries: Sequence[Entry]) -> Iterator[str]:
    """A line an entry."""
    rows = [
        (
            str(entry.number),
            entry.kind,
            str(entry.body.get("at", "")),
            str(entry.body.get("trained", "")),
            str(entry.body.get("method", "")),
            str(entry.body.get("by") or ""),
            str(entry.body.get("ticket") or ""),
            str(entry.body.get("name", "")),
        )
        for entry in entries
    ]
    head = ("entry", "kind", "at", "examples", "method", "by", "ticket", "name")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()


def predicted(found: Sequence[Predicted]) -> Iterator[str]:
    """A line an input.

    >>> list(predicted([Predicted("a.png", ("cat", "dog"), (0.9, 0.1))]))
    ['a.png: cat .90, dog .10']
    """
    for each in found:
        shares = (f"{name} {share:.2f}".replace(" 0.", " .") for name, share in zip(*each[1:], strict=True))
        yield f"{each.what}: {', '.join(shares)}"


def purged(found: Purged) -> Iterator[str]:
    """What was removed, or would be, and what the scan says."""
    for path, size in found.removed:
        yield f"{'remains' if found.dry_run else 'removed'}  {size:>9}  {path}"
    if found.left:
        yield f"The scan still finds an unlearned example in {', '.join(found.left)}"
    else:
        verb = "remain" if found.dry_run else "removed"
        yield f"{len(found.removed)} things {verb}; the scan of every sample finds none"


def verified(found: Verified) -> Iterator[str]:
    """What holds, what does not, and what nobody can know so."""
    for what in found.checked:
        yield f"checked: {what}"
    for problem in found.problems:
        yield f"PROBLEM: {problem}"
    yield "What this cannot know:"
    yield from (f"  {each}" for each in found.unknown)
    if found.problems:
        yield f"{counted(len(found.problems), 'problem', 'problems')} found: not all is as it was written."
    else:
        yield "All is as it was written."


def audited(found: Mapping[str, Any]) -> Iterator[str]:
    """The sentences of an audit."""
    yield from found["sentences"]
