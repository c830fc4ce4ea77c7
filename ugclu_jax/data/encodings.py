"""Texts in encodings that are none of Unicode: declared, or told by their bytes where these leave no doubt."""

import codecs
from pathlib import Path

from ugclu_jax.data.wording import listed
from ugclu_jax.decoding import decode, unicode_encoding
from ugclu_jax.extras import installed_by

_MARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16", "utf-32": "utf-32"}
_NO_CHARSETS = ("punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined")
"""Codecs of Python that are ways to write single words or literals."""
_CURE = "give its encoding by --data.encoding, or convert the file to UTF-8"


def text_of(path: Path, content: bytes, encoding: str | None) -> tuple[str, list[str]]:
    """Decode a file: by the encoding that is declared; else as Unicode; else as its bytes alone can be read.

    Bytes leave no doubt where a single encoding makes a text of some language of them (charset-normalizer). Between the
    encodings of Western Europe they mostly do, for they differ in few letters.

    Args:
        path: of the file, for messages.
        content: its bytes.
        encoding: that is declared; None = none is.

    Returns:
        The text, and what is to be said of it.

    Raises:
        ValueError: an encoding that nobody knows or that the file's own mark contradicts; bytes that are not in it, or
            in none without doubt, with line and byte.

    Example:
        >>> text_of(Path("it.csv"), "è così".encode("cp1252"), "cp1252")
        ('è così', [])
    """
    found = unicode_encoding(content)
    if encoding is not None:
        name = _known(encoding)
        if found in _MARKED and not name.startswith(_MARKED[found]):
            raise ValueError(
                f"{path} begins with the mark of {_MARKED[found].upper()} and encoding is {encoding!r}: leave "
                "--data.encoding out"
            )
        return decode(str(path), content, encoding, "give the encoding that it is in"), []
    try:
        text = decode(str(path), content)
    except ValueError as error:
        guesses = _guesses(content)
        if len(guesses) == 1:
            return _guessed(path, content, guesses[0])
        may = f" (it may be {listed(guesses)})" if guesses else ""
        raise ValueError(f"{str(error).rpartition(';')[0]}{may}; {_CURE}") from error
    if "\x1b$" in text and len(guesses := _guesses(content)) == 1:  # Japanese and Korean in 7 bits
        return _guessed(path, content, guesses[0])
    return text, []


def _known(encoding: str) -> str:
    """The codec's own name."""
    try:
        name = codecs.lookup(encoding).name
        if name not in _NO_CHARSETS:
            "".encode(encoding)  # refuses those of Python that make bytes of bytes
            return name
    except (LookupError, ValueError):
        pass
    raise ValueError(
        f"encoding is {encoding!r:.60}: Python knows none of this name for text; give one such as utf-8, cp1252, "
        "latin-1 or shift_jis"
    )


def _guessed(path: Path, content: bytes, guess: str) -> tuple[str, list[str]]:
    return decode(str(path), content, guess), [
        f"{path.name} is not UTF-8: read as {guess}, the one encoding that makes words of it; give --data.encoding "
        "where that is wrong"
    ]


def _guesses(content: bytes) -> list[str]:
    """Encodings that make words of the bytes; none where these are UTF-8 with damage."""
    with installed_by("text"):
        import charset_normalizer

    replaced = content.decode("utf-8", "replace")
    damage = replaced.count("\ufffd")
    if damage and len(replaced) - sum(map(str.isascii, replaced)) - damage >= damage:
        return []
    return [match.encoding for match in charset_normalizer.from_bytes(content) if not match.encoding.startswith("utf")]
