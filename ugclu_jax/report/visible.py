"""Text from outside on its way to a terminal: names of files and classes, settings, commands. All of it passes here.

A name may hold an escape sequence that clears the screen, or a mark that turns the rest of the line around.
"""

import re
import shlex
import unicodedata
from collections.abc import Iterable

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN = frozenset(("Cc", "Cs", "Zl", "Zp"))  # controls, halves of a pair, separators of lines
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""A name on one line: each character that a terminal would obey, and not show, is spelled out.

    >>> print(visible("cat\x1b[2J"), visible("two\nlines"), visible("naïve 猫"))
    cat\x1b[2J two\nlines naïve 猫
    """
    return "".join(_spelled(character) if _obeyed(character) else character for character in text)


def visible_lines(text: str) -> str:
    r"""The same for a message of several lines, whose ends are the program's own.

    >>> print(visible_lines("no such file: a\rb\nResume with: x"))
    no such file: a\rb
    Resume with: x
    """
    return "\n".join(map(visible, text.split("\n")))


def copyable(words: Iterable[str]) -> str:
    r"""Words as a shell takes them, to be copied from a terminal; what it would obey stands as `$'…'`.

    >>> print(copyable(["--run-dir", "my runs", "a\x1bb'"]))
    --run-dir 'my runs' $'a\x1bb\''
    """
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if not any(map(_obeyed, word)):
        return shlex.quote(word)
    if any(0xDC80 <= ord(character) <= 0xDCFF for character in word):  # bytes that are no UTF-8
        raw = word.encode("utf-8", "surrogateescape")
        return "$'" + "".join(chr(b) if 32 <= b < 127 and chr(b) not in "'\\" else f"\\x{b:02x}" for b in raw) + "'"
    kept = re.sub(r"(['\\])", r"\\\1", word)
    return "$'" + "".join(_spelled(character) if _obeyed(character) else character for character in kept) + "'"


def _obeyed(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN or character in _TURNING


def _spelled(character: str) -> str:
    """As Python and shells spell it: an undecodable byte by its own value.

    >>> _spelled("\\udcff"), _spelled("\\u202e")
    ('\\\\xff', '\\\\u202e')
    """
    number = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"
