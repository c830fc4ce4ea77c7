"""Which examples a request is about, from the way it names them."""

import difflib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ugclu_jax.requests.names import Names
from ugclu_jax.requests.request import brief
from ugclu_jax.requests.stream import share
from ugclu_jax.requests.validate import SHOWN, nearest
from ugclu_jax.types import RequestKind

SELECTORS = ("ids", "id_ranges", "ids_file", "files", "classes", "where", "fraction")
"""Ways to name examples; `fraction` comes with a `seed`."""


class Selected(NamedTuple):
    """Rows of the training split, and of the test split: the latter were never learned, and are named with them."""

    rows: np.ndarray
    held_out: np.ndarray


def select(
    where: str, kind: RequestKind, selector: dict[str, Any], names: Names, retained: np.ndarray, folder: Path
) -> Selected:
    """Rows that a request is about.

    Args:
        where: opens an error message.
        kind: to unlearn by class, condition or fraction is to unlearn what is retained of it.
        selector: one of `SELECTORS` and its value, as JSON has it.
        names: of the examples.
        retained: rows of the training split that are learned and not unlearned since.
        folder: from which a relative `ids_file` is looked for.

    Raises:
        ValueError: an unknown way or several, a value that is none, keys that are not there, or nothing found.
        OSError: an `ids_file` that cannot be read.

    >>> names = Names.numbered([0, 1, 0, 1])
    >>> select("request 1", "unlearn", {"classes": ["1"]}, names, np.array([0, 1]), Path()).rows.tolist()
    [1]
    """
    way = way_of(where, selector)
    value = selector[way]
    if way == "fraction":
        found = Selected(_fraction(where, kind, value, selector["seed"], retained), np.zeros(0, np.int64))
    elif way == "id_ranges":
        found = Selected(_ranges(where, value, names), np.zeros(0, np.int64))
    elif way in ("classes", "where"):
        found = _classes(where, value, names) if way == "classes" else _condition(where, value, names)
        if kind == "unlearn":
            kept = np.intersect1d(found.rows, retained)
            if not kept.size:
                _refuse_nothing(where, way, value, found)
            found = found._replace(rows=kept)
        elif not found.rows.size:
            _refuse_nothing(where, way, value, found)
    else:
        found = _keys(where, way, _listed(where, way, value, names, folder), names)
    return found


def way_of(where: str, selector: Any) -> str:
    """The one way in which a request names its examples.

    Raises:
        ValueError: none, several, or one that is unknown.
    """
    if not isinstance(selector, dict):
        raise ValueError(
            f"{where} names {brief(selector)}; it must be an object with one of {', '.join(SELECTORS)}, such as "
            '{"classes": ["cat"]}'
        )
    for field in selector:
        if field not in (*SELECTORS, "seed"):
            close = nearest(field, (*SELECTORS, "seed"))
            raise ValueError(f"{where} has an unknown field {field!r}; did you mean {close!r}?")
    given = [field for field in SELECTORS if field in selector]
    if len(given) != 1:
        raise ValueError(f"{where} has {given or 'none'} of {list(SELECTORS)}; it must have exactly one: keep one")
    if ("seed" in selector) != ("fraction" in selector):
        raise ValueError(f"{where} has only one of 'fraction' and 'seed'; they must come together: add or drop one")
    return given[0]


def read_keys(path: Path) -> list[str]:
    """Keys of a text file, one a line; empty lines are passed over.

    Raises:
        ValueError: it is not UTF-8, or empty.
        OSError: it cannot be read.
    """
    if "\0" in str(path):
        raise ValueError(f"ids_file is {str(path)!r}, which no file can be called: correct it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): give a file of one id a line") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): write one id a line") from error
    keys = [line.strip("\r") for line in text.split("\n") if line.strip()]
    if not keys:
        raise ValueError(f"{path} names no example: write one id a line")
    return keys


def _listed(where: str, way: str, value: Any, names: Names, folder: Path) -> list[str]:
    """Keys that are written one by one."""
    if way == "ids_file":
        if not isinstance(value, str) or not value:
            refuse(where, way, value, "the path of a file of one id a line")
        try:
            return [_key(key, names) for key in read_keys(folder / value)]
        except (OSError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from error
    if not isinstance(value, list) or not all(isinstance(item, str) or is_integer(item) for item in value):
        refuse(where, way, value, "a list of ids" if way == "ids" else "a list of paths")
    return [_key(item, names) for item in value]


def _key(given: str | int, names: Names) -> str:
    """The key that somebody wrote; of a fixed set a number is the position in its training split."""
    text = str(given)
    return f"train/{int(text)}" if names.positions and _is_number(text) else text


def _keys(where: str, way: str, keys: Sequence[str], names: Names) -> Selected:
    train, test, absent = names.rows(keys)
    if absent:  # the same name may be spelled in another form of Unicode
        more = names.rows([unicodedata.normalize("NFC", key) for key in absent])
        train, test = np.concatenate([train, more[0]]), np.concatenate([test, more[1]])
        absent = more[2]
    if absent:
        shown = ", ".join(map(repr, absent[:SHOWN])) + (", …" if len(absent) > SHOWN else "")
        close = nearest(absent[0], names.train_keys.tolist()) if len(names.train_keys) <= 100_000 else ""
        raise ValueError(
            f"{where} names {shown} ({len(absent)} in all), which the data set does not have; it may be gone, or cut "
            f"away{f'; the nearest there is {close!r}' if close else ''}: take it out of {way}, or put it back"
        )
    return Selected(train, test)


def _ranges(where: str, value: Any, names: Names) -> np.ndarray:
    if not names.positions:
        raise ValueError(
            f"{where} has 'id_ranges', which only sets with numbered examples have; the ids here are such as "
            f"{str(names.train_keys[0])!r}: list them under 'ids', or in a file under 'ids_file'"
        )
    if not isinstance(value, list) or not all(map(_is_range, value)):
        refuse(where, "id_ranges", value, "a list of pairs [start, stop] with 0 ≤ start < stop")
    positions = np.array([int(key.split("/")[1]) for key in names.train_keys.tolist()], np.int64)
    found = []
    for start, stop in value:
        rows = np.flatnonzero((positions >= start) & (positions < stop))
        if len(rows) < stop - start:
            first = np.setdiff1d(np.arange(start, min(stop, start + len(rows) + SHOWN + 1)), positions[rows])
            _keys(where, "id_ranges", [f"train/{position}" for position in first], names)
        found.append(rows)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _classes(where: str, value: Any, names: Names) -> Selected:
    if not isinstance(value, list) or not value or not all(isinstance(c, str) or is_integer(c) for c in value):
        refuse(where, "classes", value, "a list of classes, by name or number")
    labels = [class_number(where, one, names.class_names) for one in value]
    return Selected(*(np.flatnonzero(np.isin(split, labels)) for split in (names.train_labels, names.test_labels)))


def class_number(where: str, given: str | int, class_names: Sequence[str]) -> int:
    """The label of a class, by its name or, where no class has that name, by its number.

    Raises:
        ValueError: no such class.

    >>> class_number("request 1", "10", ("2", "10")), class_number("request 1", 0, ("cat", "dog"))
    (1, 0)
    """
    if str(given) in class_names:
        return class_names.index(str(given))
    # Where all names are numbers, a number is a name.
    named_by_numbers = all(map(_is_number, class_names))
    if _is_number(str(given)) and int(given) < len(class_names) and not named_by_numbers:
        return int(given)
    shown = ", ".join(f"{label} = {name}" for label, name in enumerate(class_names[:20]))
    more = ", …" if len(class_names) > 20 else ""
    close = difflib.get_close_matches(str(given), class_names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"{where} names class {given!r}, which is not there{hint} Classes: {shown}{more}")


def _condition(where: str, value: Any, names: Names) -> Selected:
    if not isinstance(value, str) or not value.strip():
        refuse(where, "where", value, "a condition, such as \"user == 17 and date < '2024-01-01'\"")
    if names.where is None:
        raise ValueError(f"{where} has 'where', and these examples have no columns to ask: give ids or classes")
    try:
        return Selected(*names.where(value))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _fraction(where: str, kind: RequestKind, value: Any, seed: Any, retained: np.ndarray) -> np.ndarray:
    if kind != "unlearn":
        raise ValueError(f"{where} has 'fraction', which only unlearn requests may: give ids or classes to learn")
    if not isinstance(value, int | float) or isinstance(value, bool):
        refuse(where, "fraction", value, "a number")
    if not is_integer(seed) or seed < 0:
        refuse(where, "seed", seed, "an integer of at least 0")
    return share(where, retained, value, seed)


def _refuse_nothing(where: str, way: str, value: Any, found: Selected) -> NoReturn:
    held = f", and {len(found.held_out)} test examples, which are never learned" if found.held_out.size else ""
    many = "no training example"
    if found.rows.size:
        many = f"{len(found.rows)} training examples, none of which is retained"
    is_of = "are" if way == "classes" else "is true of"
    raise ValueError(
        f"{where} has {way} {json.dumps(value, ensure_ascii=False)}, which {is_of} {many}{held}; a request must have "
        "at least one: correct it, or leave the request out"
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def is_integer(value: Any) -> bool:
    """Whether JSON has a whole number here; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_range(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(map(is_integer, pair)) and 0 <= pair[0] < pair[1] <= 2**40


def refuse(where: str, field: str, value: Any, rule: str) -> NoReturn:
    """Refuse the value of a field; without one, that of the whole."""
    name = f"field {field!r} of {where}" if field else where
    raise ValueError(f"{name} is {brief(value)}; it must be {rule}: correct it")
