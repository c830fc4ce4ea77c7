"""The request stream as data: which ids to learn and to unlearn, in which order. NumPy on the host, no images.

A stream is a tuple of requests; each names its kind and the ids it is about (rows of the training split). Tasks exist
here only, to build streams: no algorithm ever sees one.

References: arXiv 2505.15178, the task-aware setting (whole tasks are unlearned) and the task-agnostic one (class-wise
and random-sample). The notation "L1 U2" and the JSON format are this library's own.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ugclu_jax.types import FIRST_TEST_ID, REQUEST_KINDS, RequestKind

SMALLEST_BUCKET = 64
FORMAT, VERSION = "ugclu-requests", 1
_SELECTORS = ("ids", "id_ranges", "classes", "fraction")
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Request:
    """One request of a stream. Ids are a set: they are stored sorted, as a read-only int32 array.

    Raises:
        ValueError: ids that are not a flat list of 32-bit integers. Whether they make sense is asked by `validate`.

    >>> Request("learn", "L1", [2, 0]).ids
    array([0, 2], dtype=int32)
    """

    kind: RequestKind
    name: str
    ids: np.ndarray  # [n] int32, sorted; unique once validated

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids)
        if ids.size == 0:
            ids = ids.astype(np.int32)
        limits = np.iinfo(np.int32)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or np.any((ids < limits.min) | (ids > limits.max)):
            raise ValueError(
                f"ids of request {self.name!r} are {_brief(self.ids)}; they must be one flat list of 32-bit integers: "
                "pass rows of the training split"
            )
        ids = np.sort(ids).astype(np.int32)
        ids.flags.writeable = False
        object.__setattr__(self, "ids", ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        return (self.kind, self.name) == (other.kind, other.name) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.ids.tobytes()))


Stream = tuple[Request, ...]


def split_classes(num_classes: int, num_tasks: int) -> tuple[tuple[int, ...], ...]:
    """Consecutive classes in equally large tasks.

    Raises:
        ValueError: the classes cannot be shared out evenly.

    >>> split_classes(6, 3)
    ((0, 1), (2, 3), (4, 5))
    """
    if num_tasks < 1 or num_classes < 1 or num_classes % num_tasks:
        fitting = [n for n in range(1, num_classes + 1) if num_classes % n == 0]
        raise ValueError(
            f"{num_classes} classes cannot be split into {num_tasks} equal tasks; the number of tasks must divide the "
            f"number of classes: choose one of {fitting}"
        )
    size = num_classes // num_tasks
    return tuple(tuple(range(start, start + size)) for start in range(0, num_classes, size))


def task_aware(labels: np.ndarray, tasks: Sequence[Sequence[int]], sequence: str = "L1 L2 L3 U2 L4 L5 U4") -> Stream:
    """Learn and unlearn whole tasks, in any order: "L3" learns task 3 (counted from 1), "U2" unlearns task 2.

    Args:
        labels: [N] integers, the labels of the training split.
        tasks: the classes of each task.
        sequence: requests, separated by spaces; an unlearned task may be learned again.

    Raises:
        ValueError: a token that is no request, a task that is not there, or a stream that `validate` refuses.

    >>> [(r.kind, r.name, r.ids.tolist()) for r in task_aware([0, 1, 1, 0], [[0], [1]], "L1 L2 U1")]
    [('learn', 'L1', [0, 3]), ('learn', 'L2', [1, 2]), ('unlearn', 'U1', [0, 3])]
    """
    task_ids = _ids_of_tasks(labels, tasks)
    stream = []
    for position, token in enumerate(sequence.split(), start=1):
        match = re.fullmatch(r"([LU])([0-9]+)", token)
        if match is None:
            raise ValueError(
                f"token {position} of the sequence is {token!r}; a token must be L or U and the number of a task, such "
                f"as L1 or U1: correct it in {sequence!r}"
            )
        task = int(match[2])
        if not 1 <= task <= len(task_ids):
            raise ValueError(
                f"token {position} of the sequence is {token!r}; tasks are counted from 1 and there are "
                f"{len(task_ids)}: choose a number from 1 to {len(task_ids)}, or split the classes into more tasks"
            )
        stream.append(Request("learn" if match[1] == "L" else "unlearn", token, task_ids[task - 1]))
    validate(tuple(stream), len(labels))
    return tuple(stream)


def class_wise(labels: np.ndarray, tasks: Sequence[Sequence[int]], unlearn_classes: Sequence[int]) -> Stream:
    """Learn all tasks in order, then unlearn some classes, usually of different tasks, in one request.

    Args:
        labels: [N] integers, the labels of the training split.
        tasks: the classes of each task.
        unlearn_classes: classes of those tasks.

    Raises:
        ValueError: a class that no task has or that has no example, or a stream that `validate` refuses.

    >>> class_wise([0, 1, 2, 3], [[0, 1], [2, 3]], [1, 2])[-1]
    Request(kind='unlearn', name='U classes 1,2', ids=array([1, 2], dtype=int32))
    """
    task_ids = _ids_of_tasks(labels, tasks)
    learned = sorted(label for task in tasks for label in task)
    missing = [label for label in unlearn_classes if label not in learned]
    if missing:
        raise ValueError(
            f"classes {missing} are to be unlearned but belong to no task; only what was learned can be unlearned: "
            f"choose from {learned}"
        )
    name = "U classes " + ",".join(map(str, unlearn_classes))
    stream = (*_learn_all(task_ids), Request("unlearn", name, _ids_of_classes(name, labels, unlearn_classes)))
    validate(stream, len(labels))
    return stream


def random_sample(labels: np.ndarray, tasks: Sequence[Sequence[int]], fraction: float = 0.1, seed: int = 0) -> Stream:
    """Learn all tasks in order, then unlearn a share of all their examples, drawn at random, in one request.

    Args:
        labels: [N] integers, the labels of the training split.
        tasks: the classes of each task.
        fraction: 0 < fraction ≤ 1; `round(fraction · number of learned examples)` are unlearned.
        seed: of the draw.

    Raises:
        ValueError: a fraction out of range or so small that no example is due, or a stream that `validate` refuses.

    >>> [len(r.ids) for r in random_sample([0, 1] * 10, [[0], [1]], fraction=0.1)]
    [10, 10, 2]
    """
    task_ids = _ids_of_tasks(labels, tasks)
    name = f"U {100 * fraction:g}%"
    ids = _share(name, np.concatenate([*task_ids, np.zeros(0, np.int32)]), fraction, seed)
    stream = (*_learn_all(task_ids), Request("unlearn", name, ids))
    validate(stream, len(labels))
    return stream


def validate(stream: Sequence[Request], num_examples: int) -> None:
    """Refuse a stream that cannot be carried out, before any work.

    Args:
        stream: the requests.
        num_examples: N, so that ids are 0 … N−1.

    Raises:
        ValueError: an empty stream or request, an unknown kind, ids out of range or repeated, learning what is
            retained, unlearning what was never learned or is unlearned already. The message names the request, the
            ids, the rule and the fix.

    >>> validate([Request("learn", "first", [0, 1]), Request("unlearn", "second", [1, 2])], num_examples=3)
    Traceback (most recent call last):
        ...
    ValueError: request 2 ('second') unlearns ids 2 (1 in all) that were never learned; only retained examples can be \
unlearned: take them out, or learn them in an earlier request
    """
    if not stream:
        raise ValueError("the stream has 0 requests; it must have at least one: add a learn request")
    ledger = _Ledger(num_examples)
    for request in stream:
        ledger.enter(request)


def retained_after(stream: Sequence[Request]) -> list[np.ndarray]:
    """What is retained after each request: everything learned and not unlearned since.

    Returns:
        T sorted int32 arrays of ids.

    >>> retained_after([Request("learn", "a", [0, 1]), Request("unlearn", "b", [1])])
    [array([0, 1], dtype=int32), array([0], dtype=int32)]
    """
    return [retained for retained, _ in _histories(stream)]


def unlearned_after(stream: Sequence[Request]) -> list[np.ndarray]:
    """What counts as unlearned after each request: everything unlearned so far and not learned again.

    Returns:
        T sorted int32 arrays of ids.

    >>> unlearned_after([Request("learn", "a", [0, 1]), Request("unlearn", "b", [1])])
    [array([], dtype=int32), array([1], dtype=int32)]
    """
    return [unlearned for _, unlearned in _histories(stream)]


def to_json(stream: Sequence[Request], ids: np.ndarray | None = None) -> str:
    """Write a stream, one request a line; `from_json` with the same `ids` gives back an equal one.

    Args:
        stream: the requests, whose ids are rows of the training arrays at hand.
        ids: [N] the stable id of each row (`Dataset.train_ids`), under which examples are written, so that the file
            holds for every cut of the data set; rows are written as they are when left out.

    >>> print(to_json([Request("learn", "first", [0, 1, 2, 3, 7])]))
    {"format": "ugclu-requests", "version": 1, "requests": [
      {"kind": "learn", "name": "first", "id_ranges": [[0, 4], [7, 8]]}
    ]}
    """
    lines = []
    for request in stream:
        written = request.ids if ids is None else np.sort(ids[request.ids])
        cuts = np.flatnonzero(np.diff(written) != 1) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(written, cuts) if run.size]
        # A pair of numbers for each run of consecutive ids, where that is shorter than the ids.
        selected = {"id_ranges": runs} if 2 * len(runs) < written.size else {"ids": written.tolist()}
        lines.append("  " + json.dumps({"kind": request.kind, "name": request.name, **selected}, ensure_ascii=False))
    head = f'{{"format": "{FORMAT}", "version": {VERSION}, "requests": [\n'
    return head + ",\n".join(lines) + "\n]}"


def from_json(text: str, labels: np.ndarray, ids: np.ndarray | None = None) -> Stream:
    """Read a stream: `{"format": "ugclu-requests", "version": 1, "requests": [...]}`.

    A request has "kind", "name" and says which examples it is about in one of these ways:

    - "ids": `[4, 7, ...]`;
    - "id_ranges": `[[start, stop], ...]`, stop not included;
    - "classes": `[3, 5]`, to learn all training examples of these labels, or to unlearn those that are retained;
    - "fraction": `0.1` with "seed": `0`, to unlearn that share of what is retained, at random.

    Args:
        text: the JSON.
        labels: [N] integers, the labels of the training split.
        ids: [N] the stable id of each row (`Dataset.train_ids`), which "ids" and "id_ranges" then mean; they mean rows
            when left out. Requests hold rows either way.

    Raises:
        ValueError: text that is no JSON (with line and column), a field that is missing, unknown or of the wrong type,
            an id of the test split or of an example that was cut away, or a stream that `validate` refuses.

    >>> text = '''{"format": "ugclu-requests", "version": 1, "requests": [
    ...   {"kind": "learn", "name": "both", "classes": [0, 1]},
    ...   {"kind": "unlearn", "name": "half", "fraction": 0.5, "seed": 0}]}'''
    >>> [len(request.ids) for request in from_json(text, labels=[0, 1, 0, 1])]
    [4, 2]
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the request stream is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; correct the "
            "text there"
        ) from error
    _check_fields("the document", document, required=("format", "version", "requests"))
    for field, expected in (("format", FORMAT), ("version", VERSION)):
        if document[field] != expected or isinstance(document[field], bool):
            _refuse("the document", field, document[field], repr(expected))
    if not isinstance(document["requests"], list) or not document["requests"]:
        _refuse("the document", "requests", document["requests"], "a list of at least one request")

    ledger = _Ledger(len(labels), ids)
    stream = []
    for position, entry in enumerate(document["requests"], start=1):
        stream.append(_parse_request(f"request {position}", entry, np.asarray(labels), ledger.retained(), ids))
        ledger.enter(stream[-1])
    return tuple(stream)


def bucket_size(count: int) -> int:
    """The size that a request of `count` ids is padded to: the next power of two, at least 64.

    Requests of one bucket share one compiled program.

    Raises:
        ValueError: a negative count.

    >>> bucket_size(3), bucket_size(64), bucket_size(65)
    (64, 64, 128)
    """
    if count < 0:
        raise ValueError(f"count is {count}; it must not be negative: pass the number of ids, len(request.ids)")
    return max(SMALLEST_BUCKET, 1 << max(count - 1, 0).bit_length())


def pad_ids(ids: np.ndarray, size: int) -> np.ndarray:
    """Ids followed by -1, [size] int32.

    Raises:
        ValueError: more ids than `size`.

    >>> pad_ids([4, 2], 3)
    array([ 4,  2, -1], dtype=int32)
    """
    if len(ids) > size:
        raise ValueError(
            f"{len(ids)} ids do not fit in {size}; pad to bucket_size({len(ids)}) = {bucket_size(len(ids))}"
        )
    padded = np.full(size, -1, np.int32)
    padded[: len(ids)] = ids
    return padded


class _Ledger:
    """Which examples are retained or unlearned while a stream is read; refuses a request that does not fit."""

    NEVER, RETAINED, UNLEARNED = range(3)

    def __init__(self, num_examples: int, stable_ids: np.ndarray | None = None) -> None:
        self.status = np.full(num_examples, self.NEVER, np.int8)
        self.entered = 0
        self.stable_ids = stable_ids

    def some(self, rows: np.ndarray) -> str:
        return _some(rows if self.stable_ids is None else self.stable_ids[rows])

    def retained(self) -> np.ndarray:
        return np.flatnonzero(self.status == self.RETAINED).astype(np.int32)

    def enter(self, request: Request) -> None:
        self.entered += 1
        where = f"request {self.entered} ({request.name!r})"
        ids = request.ids
        if request.kind not in REQUEST_KINDS:
            raise ValueError(
                f"{where} is of kind {request.kind!r}; a kind must be one of {list(REQUEST_KINDS)}: did you mean "
                f"{_nearest(request.kind, REQUEST_KINDS)!r}?"
            )
        if ids.size == 0:
            raise ValueError(f"{where} has 0 ids; a request must have at least one: add ids, or leave the request out")
        outside = ids[(ids < 0) | (ids >= self.status.size)]
        if outside.size:
            raise ValueError(
                f"{where} has ids {_some(outside)} that are not in the training split; an id must be from 0 to "
                f"{self.status.size - 1}: take them out"
            )
        repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
        if repeated.size:
            raise ValueError(
                f"{where} has ids {self.some(repeated)} more than once; each id must appear once: pass np.unique(ids)"
            )
        if request.kind == "learn":
            retained = ids[self.status[ids] == self.RETAINED]
            if retained.size:
                raise ValueError(
                    f"{where} learns ids {self.some(retained)} that are retained already; an example can be learned "
                    "again only after it was unlearned: take them out, or unlearn them in an earlier request"
                )
            self.status[ids] = self.RETAINED
        else:
            never, twice = (ids[self.status[ids] == status] for status in (self.NEVER, self.UNLEARNED))
            if never.size:
                raise ValueError(
                    f"{where} unlearns ids {self.some(never)} that were never learned; only retained examples can be "
                    "unlearned: take them out, or learn them in an earlier request"
                )
            if twice.size:
                raise ValueError(
                    f"{where} unlearns ids {self.some(twice)} that are unlearned already; nothing can be unlearned "
                    "twice: take them out, or learn them again before"
                )
            self.status[ids] = self.UNLEARNED


def _histories(stream: Sequence[Request]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`(retained, unlearned)` after each request of a valid stream."""
    retained = unlearned = np.zeros(0, np.int32)
    for request in stream:
        if request.kind == "learn":
            retained = np.union1d(retained, request.ids)
            unlearned = np.setdiff1d(unlearned, request.ids)
        else:
            retained = np.setdiff1d(retained, request.ids)
            unlearned = np.union1d(unlearned, request.ids)
        yield retained, unlearned


def _learn_all(task_ids: Sequence[np.ndarray]) -> list[Request]:
    return [Request("learn", f"L{task}", ids) for task, ids in enumerate(task_ids, start=1)]


def _ids_of_tasks(labels: np.ndarray, tasks: Sequence[Sequence[int]]) -> list[np.ndarray]:
    classes = [label for task in tasks for label in task]
    shared = sorted({label for label in classes if classes.count(label) > 1})
    if shared:
        raise ValueError(
            f"classes {shared} stand more than once in tasks {[list(task) for task in tasks]}; a class must belong to "
            "one task: take the repetition out"
        )
    return [_ids_of_classes(f"task {position}", labels, task) for position, task in enumerate(tasks, start=1)]


def _ids_of_classes(where: str, labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    present = np.unique(labels)
    missing = [label for label in classes if label not in present]
    if missing:
        raise ValueError(
            f"{where} has classes {missing} without any training example; a class must occur in the labels: choose "
            f"from {present.tolist()}"
        )
    return np.flatnonzero(np.isin(labels, classes)).astype(np.int32)


def _share(where: str, ids: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    if not 0 < fraction <= 1:
        raise ValueError(f"{where} has fraction {fraction}; it must be above 0 and at most 1: 0.1 unlearns a tenth")
    count = round(fraction * len(ids))
    if count == 0:
        raise ValueError(
            f"{where} has fraction {fraction} of {len(ids)} retained examples, which is none; a request must have at "
            "least one id: choose a larger fraction, or learn first"
        )
    return np.random.default_rng(seed).choice(np.sort(ids), count, replace=False)


def _parse_request(
    where: str, entry: Any, labels: np.ndarray, retained: np.ndarray, stable_ids: np.ndarray | None
) -> Request:
    _check_fields(where, entry, required=("kind", "name"), optional=(*_SELECTORS, "seed"))
    for field in ("kind", "name"):
        if not isinstance(entry[field], str):
            _refuse(where, field, entry[field], "a string")
    where = f"{where} ({entry['name']!r})"
    given = [field for field in _SELECTORS if field in entry]
    if len(given) != 1:
        raise ValueError(f"{where} has {given or 'none'} of {list(_SELECTORS)}; it must have exactly one: keep one")
    if ("seed" in entry) != ("fraction" in entry):
        raise ValueError(f"{where} has only one of 'fraction' and 'seed'; they must come together: add or drop one")
    field = given[0]
    value = entry[field]
    if field == "fraction":
        if entry["kind"] != "unlearn":
            raise ValueError(f"{where} has 'fraction', which only unlearn requests may: give ids or classes to learn")
        if not isinstance(value, int | float) or isinstance(value, bool):
            _refuse(where, field, value, "a number")
        if not _is_integer(entry["seed"]) or entry["seed"] < 0:
            _refuse(where, "seed", entry["seed"], "an integer of at least 0")
        ids = _share(where, retained, value, entry["seed"])
    elif field == "id_ranges":
        end = len(labels) if stable_ids is None else 2 * FIRST_TEST_ID
        if not isinstance(value, list) or not all(_is_range(pair, end) for pair in value):
            _refuse(where, field, value, f"a list of pairs [start, stop] with 0 ≤ start < stop ≤ {end}")
        runs = [np.arange(*pair) if stable_ids is None else _rows_of_range(where, *pair, stable_ids) for pair in value]
        ids = np.concatenate(runs) if runs else np.zeros(0, np.int32)
    else:
        if not isinstance(value, list) or not all(map(_is_integer, value)):
            _refuse(where, field, value, "a list of integers")
        if field == "classes":
            ids = _ids_of_classes(where, labels, value)
        else:
            ids = np.array(value) if stable_ids is None else _rows(where, value, stable_ids)
        if field == "classes" and entry["kind"] == "unlearn":
            ids = np.intersect1d(ids, retained)
    return Request(entry["kind"], entry["name"], ids)


def _rows(where: str, wanted: Sequence[int], stable_ids: np.ndarray) -> np.ndarray:
    """Rows of stable ids."""
    outside = [value for value in wanted if not 0 <= value < 2 * FIRST_TEST_ID]
    if outside:
        _refuse_absent(where, outside)
    order = np.argsort(stable_ids)
    places = np.searchsorted(stable_ids, np.array(wanted, np.int64), sorter=order)
    rows = order[np.minimum(places, len(order) - 1)]
    absent = np.array(wanted, np.int64)[stable_ids[rows] != wanted]
    if absent.size:
        _refuse_absent(where, absent.tolist())
    return rows


def _rows_of_range(where: str, start: int, stop: int, stable_ids: np.ndarray) -> np.ndarray:
    """Rows of the stable ids start … stop−1, which may be far more than there is memory for."""
    rows = np.flatnonzero((stable_ids >= start) & (stable_ids < stop))
    if len(rows) < stop - start:
        first = np.arange(start, min(stop, start + len(rows) + _SHOWN + 1))
        _refuse_absent(where, np.setdiff1d(first, stable_ids[rows]).tolist())
    return rows


def _refuse_absent(where: str, absent: list[int]) -> NoReturn:
    """Refuse stable ids that no row has, for the reason that holds for the first."""
    if not 0 <= absent[0] < 2 * FIRST_TEST_ID:
        reason = "that no example can have; stable ids lie in 0..2**41 - 1: take them from Dataset.train_ids"
    elif absent[0] >= FIRST_TEST_ID:
        reason = "of the test split (2**40 and more); only training examples can be learned or unlearned: take them out"
    else:
        reason = (
            "of examples that were cut away from the training split, or that it never had: take them out, or use the "
            "data set uncut"
        )
    shown = ", ".join(map(str, absent[:_SHOWN])) + (", …" if len(absent) > _SHOWN else "")
    raise ValueError(f"{where} has ids {shown} {reason}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_range(pair: Any, num_examples: int) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(map(_is_integer, pair))
        and 0 <= pair[0] < pair[1] <= num_examples
    )


def _check_fields(where: str, entry: Any, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"{where} is {_brief(entry)}; it must be a JSON object with fields {list(required)}: write one"
        )
    for field in entry:
        if field not in (*required, *optional):
            nearest = _nearest(field, (*required, *optional))
            raise ValueError(f"{where} has an unknown field {field!r}; did you mean {nearest!r}?")
    missing = [field for field in required if field not in entry]
    if missing:
        raise ValueError(f"{where} lacks {missing}; the fields {list(required)} must be there: add them")


def _refuse(where: str, field: str, value: Any, rule: str) -> NoReturn:
    raise ValueError(f"field {field!r} of {where} is {_brief(value)}; it must be {rule}: correct it")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _some(ids: np.ndarray) -> str:
    return ", ".join(map(str, ids[:_SHOWN])) + (", …" if len(ids) > _SHOWN else "") + f" ({len(ids)} in all)"


def _nearest(name: str, valid: Iterable[str]) -> str:
    return difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.0)[0]
