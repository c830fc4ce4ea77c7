"""Files of a folder under digests, in one file beside them: a flip, or another run's file in its place, is told.

The digest is written before the file, beside that of the content that is replaced: a kill between the two leaves a file
that is one of both. What has no digest, such as a file that was made by hand, is not checked.
"""

import hashlib
import json
from pathlib import Path

from ugclu_jax import files

DIGESTS = "digests.json"


def write(folder: Path, name: str, content: bytes) -> None:
    """Write a file, whole or not at all, and its digest.

    Args:
        folder: that has the digests.
        name: of the file, relative to it.
        content: of the file.

    Raises:
        DamagedFileError: the digests are damaged.
        OSError: it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder), "a.txt", b"one")
    ...     read(Path(folder), "a.txt")
    ...     _ = Path(folder, "a.txt").write_bytes(b"two")
    ...     read(Path(folder), "a.txt")
    Traceback (most recent call last):
    ...
    ugclu_jax.files.DamagedFileError: ... is damaged: its digest is not the one in digests.json
    """
    there = _digests(folder)
    accepted = [_digest(content), *there.get(name, [])[:1]]
    if accepted[0] not in there.get(name, []):
        files.write(folder / DIGESTS, json.dumps({**there, name: accepted}, indent=0, sort_keys=True) + "\n")
    with files.replacing(folder / name) as file:
        file.write(content)


def read(folder: Path, name: str) -> bytes:
    """The content of a file, checked where there is a digest of it. Arguments as `write`.

    Raises:
        DamagedFileError: it is not what was written.
        OSError: it cannot be read.
    """
    with files.open_plain(folder / name) as file:
        content = file.read()
    accepted = _digests(folder).get(name)
    if accepted is not None and _digest(content) not in accepted:
        raise files.DamagedFileError(f"{folder / name} is damaged: its digest is not the one in {DIGESTS}")
    return content


def knows(folder: Path, name: str) -> bool:
    """Whether there is a digest of a file. Arguments and errors as `read`.

    >>> knows(Path("/nonexistent"), "a.txt")
    False
    """
    return name in _digests(folder)


def _digests(folder: Path) -> dict[str, list[str]]:
    path = folder / DIGESTS
    try:
        with files.open_plain(path) as file:
            return {str(name): list(map(str, accepted)) for name, accepted in json.loads(file.read()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise files.DamagedFileError(f"{path} is damaged ({error}); delete it to go on without digests") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
