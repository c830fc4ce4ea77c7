"""A stream as a JSON file, and back. The format is this library's own: one request a line, examples by stable id."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ugclu_jax.examples import FIRST_TEST_ID
from ugclu_jax.requests.request import Request, Stream, brief
from ugclu_jax.requests.stream import ids_of_classes, share
from ugclu_jax.requests.validate import SHOWN, Ledger, nearest

FORMAT, VERSION = "ugclu-requests", 1
_SELECTORS = ("ids", "id_ranges", "classes", "fraction")


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

    ledger = Ledger(len(labels), ids)
    stream = []
    for position, entry in enumerate(document["requests"], start=1):
        stream.append(_parse_request(f"request {position}", entry, np.asarray(labels), ledger.retained(), ids))
        ledger.enter(stream[-1])
    return tuple(stream)


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
        ids = share(where, retained, value, entry["seed"])
    elif field == "id_ranges":
        end = len(labels) if stable_ids is None else 2 * FIRST_TEST_ID
        if not isinstance(value, list) or not all(_is_range(pair, end) for pair in value):
            _refuse(where, field, value, f"a list of pairs [start, stop] with 0 ≤ start < stop ≤ {end}")
        runs = [
            np.arange(start, stop) if stable_ids is None else _rows_of_range(where, start, stop, stable_ids)
            for start, stop in value
        ]
        ids = np.concatenate(runs) if runs else np.zeros(0, np.int32)
    else:
        if not isinstance(value, list) or not all(map(_is_integer, value)):
            _refuse(where, field, value, "a list of integers")
        if field == "classes":
            ids = ids_of_classes(where, labels, value)
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
        first = np.arange(start, min(stop, start + len(rows) + SHOWN + 1))
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
    shown = ", ".join(map(str, absent[:SHOWN])) + (", …" if len(absent) > SHOWN else "")
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
        raise ValueError(f"{where} is {brief(entry)}; it must be a JSON object with fields {list(required)}: write one")
    for field in entry:
        if field not in (*required, *optional):
            close = nearest(field, (*required, *optional))
            raise ValueError(f"{where} has an unknown field {field!r}; did you mean {close!r}?")
    missing = [field for field in required if field not in entry]
    if missing:
        raise ValueError(f"{where} lacks {missing}; the fields {list(required)} must be there: add them")


def _refuse(where: str, field: str, value: Any, rule: str) -> NoReturn:
    raise ValueError(f"field {field!r} of {where} is {brief(value)}; it must be {rule}: correct it")
