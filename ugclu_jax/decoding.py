"""Bytes of a file to text: the encodings of Unicode, told apart by a byte order mark or by where zeros stand."""

import json
import re
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")


class Place(NamedTuple):
    """Where in a text something stands, both counted from 1."""

    line: int
    column: int


def unicode_encoding(content: bytes) -> str:
    """Which encoding of Unicode bytes would be in, if they are in one: UTF-8, -16 or -32, as RFC 4627 tells them apart.

    A text without a byte order mark must begin with two characters of ASCII for that, as JSON and the names of columns
    do; else it is taken for UTF-8.

    Example:
        >>> unicode_encoding(b"{}"), unicode_encoding("{}".encode("utf-16-le")), unicode_encoding(b"\\xff\\xfe{\\0")
        ('utf-8', 'utf-16-le', 'utf-16')
    """
    return json.detect_encoding(content)


def decode(what: str, content: bytes, encoding: str | None = None, cure: str = "convert the file to UTF-8") -> str:
    """Decode the whole of a file.

    Args:
        what: what an error calls the file.
        content: its bytes.
        encoding: in which it is; `unicode_encoding` of it when left out.
        cure: what an error recommends.

    Returns:
        The text, without a byte order mark, with its line ends as they are.

    Raises:
        ValueError: the bytes are not in the encoding; line and byte are named.

    Example:
        >>> decode("it", b"\\xef\\xbb\\xbfa\\r\\n")
        'a\\r\\n'
        >>> decode("it", b"a\\nb\\xff")
        Traceback (most recent call last):
        ...
        ValueError: it, line 2, byte 3 of the file: not UTF-8 (invalid start byte); convert the file to UTF-8
    """
    name = encoding or unicode_encoding(content)
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        # Counted anew: the error's own offset leaves out a byte order mark.
        start = len(content) - len(error.object) + error.start
        before = content[:start]
        line = 1 + len(
            _LINE_END.findall(before.decode(name, "replace"))
            if "16" in name or "32" in name
            else _LINE_END_BYTES.findall(before)
        )
        called = (encoding or name.removesuffix("-sig")).upper()
        raise ValueError(
            f"{what}, line {line}, byte {start} of the file: not {called} ({error.reason}); {cure}"
        ) from error
    return text.removeprefix("\ufeff")


def place(text: str, position: int) -> Place:
    r"""Line and column of a character; `\n`, `\r\n` and `\r` end lines.

    Example:
        >>> place("a\r\nbc", 4)
        Place(line=2, column=2)
    """
    ends = [match.end() for match in _LINE_END.finditer(text, 0, position)]
    return Place(len(ends) + 1, position - (ends[-1] if ends else 0) + 1)
