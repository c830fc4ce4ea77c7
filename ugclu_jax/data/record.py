"""What a run remembers of its data: every example's key, class and content, so that rows mean the same at each start.

The rows of a run are those of its record. Data that lie in another order are brought into that one; what came since
stands behind it; what is gone leaves a row of zeros, which its run must be able to do without.
"""

import csv
import dataclasses
import hashlib
import io
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.data.dataset import DIGEST_BYTES, Dataset, validate

_SHOWN = 5
_COLUMNS = ("split", "key", "class", "content")


class Record(NamedTuple):
    """The examples of a data set, training split first, and what else its fingerprint covers.

    Attributes:
        keys: [n] strings.
        is_test: [n] bool.
        classes: [n] strings, the name of each example's class.
        digests: [n, 16] uint8, see `Dataset.digests`.
        facts: JSON values: fingerprint, classes in the order of their numbers, normalisation, shape and type.
    """

    keys: np.ndarray
    is_test: np.ndarray
    classes: np.ndarray
    digests: np.ndarray
    facts: dict[str, Any]

    def to_csv(self) -> str:
        """Rows `split,key,class,content`, the last in hexadecimal; the examples of each split in their order."""
        text = io.StringIO()
        rows = csv.writer(text)  # lines end as RFC 4180 has it: a lone end of line within a key is then quoted
        rows.writerow(_COLUMNS)
        splits = np.where(self.is_test, "test", "train").tolist()
        contents = (digest.tobytes().hex() for digest in self.digests)
        rows.writerows(zip(splits, self.keys.tolist(), self.classes.tolist(), contents, strict=True))
        return text.getvalue()

    @classmethod
    def from_csv(cls, text: str, facts: dict[str, Any]) -> "Record":
        """What `to_csv` wrote.

        Raises:
            ValueError: it did not write this.
        """
        rows = list(csv.reader(io.StringIO(text, newline="")))
        if not rows or tuple(rows[0]) != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
            raise ValueError(f"it has not the columns {', '.join(_COLUMNS)} throughout")
        splits, keys, classes, contents = zip(*rows[1:], strict=True)
        digests = np.frombuffer(bytes.fromhex("".join(contents)), np.uint8).reshape(-1, DIGEST_BYTES)
        return cls(np.array(keys, np.str_), np.array(splits) == "test", np.array(classes, np.str_), digests, facts)


def record(dataset: Dataset, digests: np.ndarray) -> Record:
    """The record of a data set.

    Args:
        dataset: what to remember.
        digests: of its examples, `Dataset.digests`.

    Example:
        >>> from ugclu_jax.data.dataset import from_arrays
        >>> rows = np.eye(4, dtype=np.uint8)
        >>> data = from_arrays("toy", rows[:3], [0, 1, 1], rows[3:], [0], class_names=["cat", "dog"])
        >>> [row[:21] for row in record(data, data.digests()).to_csv().splitlines()[:2]]
        ['split,key,class,conte', 'train,train/0,cat,67a']
    """
    names = np.array(dataset.class_names, np.str_)
    return Record(
        keys=np.concatenate([dataset.train_keys, dataset.test_keys]),
        is_test=np.arange(len(digests)) >= len(dataset.train_keys),
        classes=names[np.concatenate([dataset.train_labels, dataset.test_labels])],
        digests=digests,
        facts={"fingerprint": dataset.fingerprint(digests), "examples": len(digests), **_facts(dataset)},
    )


def _facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "classes": list(dataset.class_names),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "scale": dataset.scale,
        "shape": list(dataset.train_inputs.shape[1:]),
        "dtype": str(dataset.train_inputs.dtype),
        "vocabulary_size": dataset.vocabulary_size,
        "keys_are": dataset.keys_are,
    }


class Aligned(NamedTuple):
    """Data in the rows of a record.

    Attributes:
        dataset: the recorded examples in the record's order, then those that came since.
        digests: of its rows, those that are gone included, as the record has them.
        gone_train, gone_test: rows of examples that are gone; their inputs are zeros.
        notes: what differs from the start of the run, in sentences.
    """

    dataset: Dataset
    digests: np.ndarray
    gone_train: np.ndarray
    gone_test: np.ndarray
    notes: tuple[str, ...]


def aligned(dataset: Dataset, digests: np.ndarray, before: Record) -> Aligned:
    """Bring data into the rows of a record.

    Classes and normalisation are the record's, whatever those of the data at hand, which depend on what is gone.

    Args:
        dataset: the data at hand.
        digests: of its examples.
        before: what a run remembers of them.

    Raises:
        ValueError: an example has another content, class or split than it had, there is a class that was not, or inputs
            have another shape, type or vocabulary; the first keys are named.
    """
    now = record(dataset, digests)
    for fact in ("shape", "dtype", "scale", "vocabulary_size", "keys_are"):
        if now.facts[fact] != before.facts[fact]:
            raise ValueError(f"{fact} of the data is {now.facts[fact]} here and {before.facts[fact]} there")
    new_classes = [name for name in dataset.class_names if name not in before.facts["classes"]]
    if new_classes:
        raise ValueError(
            f"class {', '.join(map(repr, new_classes))} of the data is new: the network has outputs for "
            f"{', '.join(before.facts['classes'])} alone"
        )
    order = np.argsort(now.keys, kind="stable")
    places = order[np.minimum(np.searchsorted(now.keys, before.keys, sorter=order), len(order) - 1)]
    there = now.keys[places] == before.keys
    for what, old, new in (
        ("another content", before.digests, now.digests),
        ("another class", before.classes, now.classes),
        ("another split", before.is_test, now.is_test),
    ):
        differ = (old != new[places]).reshape(len(places), -1).any(1) & there
        if differ.any():
            raise ValueError(
                f"{_some(before.keys[differ])} {'has' if differ.sum() == 1 else 'have'} {what} than at the run's start"
            )
    came = np.setdiff1d(np.arange(len(now.keys)), places[there])
    return _arranged(dataset, digests, before, np.where(there, places, -1), came)


def _arranged(dataset: Dataset, digests: np.ndarray, before: Record, places: np.ndarray, came: np.ndarray) -> Aligned:
    """The data in the record's order: row `places[i]` of both splits together, -1 where it is gone; then what came."""
    number = {name: label for label, name in enumerate(before.facts["classes"])}
    train = len(dataset.train_keys)
    names = np.array(dataset.class_names, np.str_)
    arrays: dict[str, Any] = {}
    found_digests, gone = [], {}
    for split, first, wanted in (("train", 0, ~before.is_test), ("test", train, before.is_test)):
        inputs, labels = getattr(dataset, f"{split}_inputs"), getattr(dataset, f"{split}_labels")
        new = came[(came >= first) & (came < first + len(inputs))]
        rows = np.concatenate([places[wanted], new])
        missing = np.flatnonzero(rows < 0)
        gone[split] = missing
        if np.array_equal(rows, np.arange(first, first + len(inputs))):
            arrays[f"{split}_inputs"] = inputs  # as they lie, on disk perhaps
        else:
            taken = inputs[np.maximum(rows - first, 0)]
            taken[missing] = 0
            arrays[f"{split}_inputs"] = taken
        classes = np.concatenate([before.classes[wanted], names[labels[new - first]]])
        arrays[f"{split}_labels"] = np.array([number[name] for name in classes.tolist()], np.int32)
        arrays[f"{split}_keys"] = np.concatenate([before.keys[wanted], getattr(dataset, f"{split}_keys")[new - first]])
        found_digests += [before.digests[wanted], digests[new]]
    notes = []
    total = len(gone["train"]) + len(gone["test"])
    if total:
        keys = np.concatenate([arrays["train_keys"][gone["train"]], arrays["test_keys"][gone["test"]]])
        notes.append(f"gone since the run's start, and unlearned before: {_some(keys)}")
    if came.size:
        keys = np.concatenate([dataset.train_keys, dataset.test_keys])[came]
        notes.append(f"came since the run's start: {_some(keys)}")
    kept = places[places >= 0]
    if (np.diff(kept) < 0).any():
        notes.append("in another order than at the run's start; examples are taken by their keys")
    facts = before.facts
    made = dataclasses.replace(
        dataset,
        **arrays,
        class_names=tuple(facts["classes"]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
    )
    return Aligned(validate(made), np.concatenate(found_digests), gone["train"], gone["test"], tuple(notes))


def content_digest(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _some(keys: np.ndarray) -> str:
    shown = ", ".join(map(str, keys[:_SHOWN])) + (", …" if len(keys) > _SHOWN else "")
    return shown if len(keys) == 1 else f"{shown} ({len(keys)} in all)"
