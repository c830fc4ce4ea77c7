"""JSON as RFC 8259 has it: what Python's reader lets pass beyond it is refused, with its place."""

import json
import math
import re
from pathlib import Path
from typing import Any

from ugclu_jax.decoding import decode, place

DEEPEST = 100
"""Most brackets that may be open at once; Python's reader ends with a RecursionError at about 1,000."""
_MOST_DIGITS = 400  # more are no number that a computer of today counts with
_TOKEN = re.compile(
    r'"(?P<string>[^"\\]*(?:\\.[^"\\]*)*)"(?P<key>[ \t\n\r]*:)?|(?P<opening>[\[{])|(?P<closing>[\]}])'
    r'|(?P<word>[^\s\[\]{},:"]+)',
    re.DOTALL,
)
_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def read_json(path: Path) -> Any:
    """Read a file of one JSON value in UTF-8, -16 or -32, with or without a byte order mark.

    Args:
        path: of a file.

    Returns:
        Dictionaries, lists, strings, finite numbers, booleans and None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `parse`, with the file, or what is there is no file; bytes that are no Unicode, with line and
            byte.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (path := Path(folder, "settings.json")).write_bytes("\\ufeff[1, 2]".encode("utf-16"))
        ...     read_json(path)
        [1, 2]
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: it must be a file of JSON; name the file")
    return parse(str(path), decode(str(path), path.read_bytes()))


def parse(what: str, text: str, first_line: int = 1) -> Any:
    """The value of a text.

    Args:
        what: what an error calls the text.
        text: all of it.
        first_line: number of its first line, where it is a part of a file.

    Raises:
        ValueError: it is no JSON, or has a key twice in one object, NaN or an infinity, a number beyond float64, half
            of a surrogate pair, or more than `DEEPEST` brackets open; line and column are named.

    Example:
        >>> parse("settings", '{"a": 1.5}')
        {'a': 1.5}
        >>> parse("settings", '{"a": 1,\\n "a": 2}')
        Traceback (most recent call last):
        ...
        ValueError: settings, line 2, column 2: the key 'a' stands twice in one object; keep one
    """
    if not text.strip():
        raise ValueError(f"{what} is empty: it must hold JSON")
    wrong = _beyond_the_standard(text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if wrong is None or error.pos < wrong[0]:
            wrong = error.pos, f"not JSON ({error.msg}); correct it"
    except (ValueError, RecursionError):  # too many digits, too many brackets: found already, with their place
        if wrong is None:
            raise
    if wrong is None:
        return value
    line, column = place(text, wrong[0])
    raise ValueError(f"{what}, line {line + first_line - 1}, column {column}: {wrong[1]}")


def _beyond_the_standard(text: str) -> tuple[int, str] | None:
    """The first thing that Python's reader would let pass: its position, and what to say of it."""
    keys: list[set[str]] = []  # of each open bracket
    for match in _TOKEN.finditer(text):
        if match["opening"]:
            keys.append(set())
            if len(keys) > DEEPEST:
                return match.start(), f"more than {DEEPEST} brackets are open; nest less deeply"
        elif match["closing"]:
            if keys:
                keys.pop()
        elif (string := match["string"]) is not None:
            lone = _lone_surrogate(string)
            if lone is not None:
                offset, written = lone
                return (
                    match.start() + 1 + offset,
                    f"{written} is half of a surrogate pair, which is no text; correct it",
                )
            if match["key"] and keys:
                key = _unescaped(string)
                if key in keys[-1]:
                    return match.start(), f"the key {key!r} stands twice in one object; keep one"
                keys[-1].add(key)
        elif reason := _no_number(match["word"]):
            return match.start(), reason
    return None


def _lone_surrogate(string: str) -> tuple[int, str] | None:
    """Position and spelling of half of a surrogate pair in a string as written; an escape is always whole in it."""
    for number, character in enumerate(string if not string.isascii() else ""):
        if 0xD800 <= ord(character) <= 0xDFFF:
            return number, f"\\u{ord(character):04x}"
    if "\\" in string:
        for match in _SURROGATE.finditer(string):
            if match["lone"]:
                return match.start(), match["lone"]
    return None


def _unescaped(string: str) -> str:
    """A key as it is read; one that is no JSON stays as written, for the reader to refuse."""
    if "\\" not in string:
        return string
    try:
        return str(json.loads(f'"{string}"', strict=False))
    except json.JSONDecodeError:
        return string


def _no_number(word: str) -> str | None:
    """What is wrong with a word that Python's reader takes for a number, or fails on."""
    if word in ("NaN", "Infinity", "-Infinity"):
        return f"{word} is no JSON; write a finite number, or null"
    if len(word) > _MOST_DIGITS and word.lstrip("-").isdigit():
        return f"a number of {len(word.lstrip('-'))} digits is larger than any that can be used; correct it"
    if word[-1:].isdigit():
        try:
            number = float(word)
        except ValueError:
            return None
        if math.isinf(number):
            return f"{word[:40]} is larger than the largest number; correct it"
    return None
