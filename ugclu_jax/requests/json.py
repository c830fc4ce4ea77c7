"""A stream as JSON, and back: a list of requests, each of which says which examples it is about."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ugclu_jax import strict_json
from ugclu_jax.requests.names import Names
from ugclu_jax.requests.request import Request, Stream, brief
from ugclu_jax.requests.select import refuse, select, way_of
from ugclu_jax.requests.validate import Ledger, nearest
from ugclu_jax.types import REQUEST_KINDS, RequestKind

_FIELDS = (*REQUEST_KINDS, "name", "asked", "held_out")
_DECIDED_BY_DATA = ("classes", "where", "fraction")
_LONGEST_NAME = 24


def to_json(stream: Sequence[Request], names: Names | None = None) -> str:
    """Write a stream, one request a line, with its examples by key; `from_json` gives back an equal one.

    Args:
        stream: the requests, whose ids are rows of the arrays at hand.
        names: of those rows, with which the file holds for every cut and every order of the data set; None = rows are
            written as they are.

    >>> print(to_json([Request("learn", "first", [0, 1, 2, 3, 7])]))
    [
      {"learn": {"id_ranges": [[0, 4], [7, 8]]}, "name": "first"}
    ]
    """
    if names is None:
        last = max((int(ids[-1]) for each in stream for ids in (each.ids,) if ids.size), default=-1)
        names = Names.numbered(np.zeros(last + 1, np.int32))
    return "[\n" + ",\n".join("  " + json.dumps(_entry(request, names)) for request in stream) + "\n]"


def _entry(request: Request, names: Names) -> dict[str, Any]:
    keys = names.train_keys[request.ids].tolist()
    selected: dict[str, Any] = {"ids": keys}
    if names.positions:
        # A pair of numbers for each run of consecutive positions, where that is shorter.
        written = np.sort(np.array([int(key.split("/")[1]) for key in keys], np.int64))
        cuts = np.flatnonzero(np.diff(written) != 1) + 1
        runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(written, cuts) if run.size]
        selected = {"id_ranges": runs} if 2 * len(runs) < written.size else {"ids": written.tolist()}
    entry = {request.kind: selected, "name": request.name}
    if request.held_out.size:
        entry["held_out"] = names.test_keys[request.held_out].tolist()
    if request.asked:
        entry["asked"] = json.loads(request.asked)
    return entry


def from_json(
    text: str, names: Names | Sequence[int] | np.ndarray, *, folder: Path = Path(), known: Stream = ()
) -> Stream:
    """Read a stream, such as `[{"learn": {"classes": ["cat", "dog"]}}, {"unlearn": {"where": "user == 17"}}]`.

    A request may have a "name", and says which examples it is about in one of these ways:

    - "ids": `["cat/1.png", …]`, their keys; of a fixed set, positions in the training split, `[4, 7, …]`;
    - "id_ranges": `[[start, stop], …]`, of a fixed set, stop not included;
    - "ids_file": a text file of one key a line;
    - "files": `["cat/1.png", …]`, as "ids";
    - "classes": `["cat", "dog"]`, by name or number: to learn all training examples of them, or to unlearn those that
      are retained;
    - "where": a condition on what is known of the examples, likewise;
    - "fraction": `0.1` with "seed": `0`, to unlearn that share of what is retained, at random.

    Test examples among them are never learned; they go with the request as its `held_out` ones. A file that `to_json`
    wrote lists these apart, and what was "asked" beside the ids that this meant.

    Args:
        text: the JSON.
        names: of the examples; labels alone for examples that are known by their row.
        folder: from which a relative "ids_file" is looked for.
        known: requests that were resolved before, at the beginning of this stream; they are taken as they are, if the
            text still asks for the same.

    Raises:
        ValueError: text that is no JSON (with line and column), a field that is missing, unknown or of the wrong type,
            a key that the data set does not have, a stream that `validate` refuses, or one that does not go on from
            `known`.
        OSError: an "ids_file" that cannot be read.

    >>> text = '[{"learn": {"classes": [0, 1]}, "name": "both"}, {"unlearn": {"fraction": 0.5, "seed": 0}}]'
    >>> [(request.name, len(request.ids)) for request in from_json(text, [0, 1, 0, 1])]
    [('both', 4), ('U 0.5', 2)]
    """
    names = names if isinstance(names, Names) else Names.numbered(names)
    ledger = Ledger(len(names.train_labels), names.train_keys)
    stream: list[Request] = []
    for position, entry in enumerate(_entries(text), start=1):
        where = f"request {position}"
        kind, name, asked = _head(where, entry)
        before = known[position - 1] if position <= len(known) else None
        if before is not None and asked and (kind, name, asked) == (before.kind, before.name, before.asked):
            stream.append(before)  # what it meant then, whatever it would mean by the data of today
        else:
            where = f"{where} ({name!r})"
            found = select(where, kind, entry[kind], names, ledger.retained(), folder)
            if not found.rows.size and found.held_out.size:
                raise ValueError(
                    f"{where} names test examples alone ({len(found.held_out)}), which are never learned; a request "
                    "must have at least one training example: leave it out"
                )
            held_out = found.held_out if "held_out" not in entry else _held_out(where, entry["held_out"], names)
            stream.append(Request(kind, name, found.rows, held_out, asked))
        ledger.enter(stream[-1])
    return continued(known, tuple(stream))


def unlearn_named(where: str, selector: dict[str, Any], names: Names, learned: Stream, known: Stream = ()) -> Request:
    """The request that unlearns what a selector names, after some requests to learn.

    Args:
        where: opens an error message.
        selector: one of the ways of `from_json`.
        names: of the examples.
        learned: the requests before it.
        known: requests that were resolved before; its own among them is taken as it is.

    Raises:
        ValueError, OSError: as `from_json`.

    >>> learned = (Request("learn", "both", [0, 1, 2]),)
    >>> unlearn_named("--unlearn-classes", {"classes": ["1"]}, Names.numbered([0, 1, 1]), learned)
    Request(kind='unlearn', name='U classes 1', ids=array([1, 2], dtype=int32))
    """
    way = way_of(where, selector)
    said = Path(selector[way]).name if way == "ids_file" else selector[way]
    name = f"U {way} {_brief({way: said})}"
    asked = json.dumps(selector, sort_keys=True) if way in _DECIDED_BY_DATA else ""
    before = known[len(learned)] if len(known) > len(learned) else None
    if before is not None and asked and (name, asked) == (before.name, before.asked):
        return before
    retained = np.unique(np.concatenate([request.ids for request in learned]))
    found = select(where, "unlearn", selector, names, retained, Path())
    return Request("unlearn", name, found.rows, found.held_out, asked)


def continued(known: Stream, stream: Stream) -> Stream:
    """A stream that begins with requests that were resolved before.

    Args:
        known: those, with what they meant then.
        stream: what is asked now.

    Returns:
        `known`, then the rest of `stream`.

    Raises:
        ValueError: the stream does not begin as `known` does.

    >>> first, other = Request("learn", "first", [0]), Request("learn", "first", [1])
    >>> len(continued((first,), (first, Request("unlearn", "second", [0]))))
    2
    >>> continued((first,), (other,))
    Traceback (most recent call last):
        ...
    ValueError: request 1 is learn 'first' of 1 examples there, and learn 'first' of 1 other examples here
    """
    for position, before in enumerate(known, start=1):
        there = f"request {position} is {before.kind} {before.name!r} of {len(before.ids)} examples there, and"
        if position > len(stream):
            raise ValueError(f"{there} missing here")
        now = stream[position - 1]
        same = (before.kind, before.name, before.asked) == (now.kind, now.name, now.asked)
        if not same or not (before.asked or before == now):
            raise ValueError(f"{there} {now.kind} {now.name!r} of {len(now.ids)} other examples here")
    return (*known, *stream[len(known) :])


def _entries(text: str) -> list[Any]:
    document = strict_json.parse("the request stream", text)
    if not isinstance(document, list) or not document:
        refuse(
            "the request stream",
            "",
            document,
            'a list of at least one request, such as [{"learn": {"classes": ["cat"]}}]',
        )
    return document


def _head(where: str, entry: Any) -> tuple[RequestKind, str, str]:
    """Kind and name of a request, and what it asks for in words that the data decide; "" where it lists ids."""
    if not isinstance(entry, dict):
        example = '{"unlearn": {"where": "user == 17"}}'
        raise ValueError(f"{where} is {brief(entry)}; it must be an object such as {example}: write one")
    for field in entry:
        if field not in _FIELDS:
            raise ValueError(f"{where} has an unknown field {field!r}; did you mean {nearest(field, _FIELDS)!r}?")
    kinds = [kind for kind in REQUEST_KINDS if kind in entry]
    if len(kinds) != 1:
        raise ValueError(f"{where} has {kinds or 'none'} of {list(REQUEST_KINDS)}; it must have exactly one: keep one")
    selector, asked = entry[kinds[0]], entry.get("asked")
    way = way_of(where, selector)
    if asked is None and way in _DECIDED_BY_DATA:
        asked = selector
    if asked is not None and way_of(where, asked) not in _DECIDED_BY_DATA:
        refuse(where, "asked", asked, f"an object with one of {', '.join(_DECIDED_BY_DATA)}")
    name = entry.get("name", f"{kinds[0][0].upper()} {_brief(asked or selector)}")
    if not isinstance(name, str) or not name:
        refuse(where, "name", name, "a string that is not empty")
    return kinds[0], name, "" if asked is None else json.dumps(asked, sort_keys=True)


def _brief(selector: dict[str, Any]) -> str:
    """What a request that has no name is called."""
    value = next(iter(selector.values()))
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def _held_out(where: str, keys: Any, names: Names) -> np.ndarray:
    """Rows of test examples that `to_json` wrote."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        refuse(where, "held_out", keys, "a list of ids of test examples")
    train, test, absent = names.rows(keys)
    if train.size or absent:
        wrong = absent[0] if absent else str(names.train_keys[train[0]])
        raise ValueError(f"{where} has {wrong!r} in 'held_out', which is no test example of the data set: take it out")
    return test
