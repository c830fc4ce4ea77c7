"""A JSON file that an option names: of bounded size, in any encoding of Unicode, as the standard has it."""

from pathlib import Path
from typing import Any

from ugclu_jax.decoding import decode
from ugclu_jax.strict_json import parse

LARGEST_BYTES = 2**24


def load(path: Path, what: str, option: str) -> Any:
    """What the file holds, as it stands there, in UTF-8, UTF-16 or UTF-32.

    Args:
        path: of the file.
        what: it is, as messages call it.
        option: that names it.

    Raises:
        ValueError: it is too large, or no JSON as the standard has it; see `strict_json.parse`.
        OSError: it cannot be read.

    >>> load(Path("nowhere.json"), "settings file", "--settings")
    Traceback (most recent call last):
        ...
    OSError: settings file nowhere.json cannot be read (No such file or directory); give --settings a JSON file
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise OSError(f"{what} {path} cannot be read ({error.strerror}); give {option} a JSON file") from error
    if len(raw) > LARGEST_BYTES:
        raise ValueError(f"{what} {path} is larger than {LARGEST_BYTES >> 20} MiB; give {option} a JSON file")
    try:
        return parse(str(path), decode(str(path), raw))
    except ValueError as error:
        raise ValueError(f"{what} {error}") from error
