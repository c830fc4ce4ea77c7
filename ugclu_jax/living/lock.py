"""One writer of a folder at a time, and who it is."""

import contextlib
import datetime
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ugclu_jax import files

NAME = "lock"


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def held(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder's lock for as long as the block lasts; while it does, `lock` says who, where, since when and why.

    Args:
        folder: of the model.
        doing: in a word.

    Raises:
        ValueError: another process holds it; it is named. Or `lock` is no plain file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, held(Path(folder), "learn"):
    ...     holder(Path(folder))["doing"]
    'learn'
    """
    path = folder / NAME
    try:
        file = files.open_plain(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ValueError(f"{path} is {error.strerror}: delete it") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = holder(folder) or {}
            raise ValueError(
                f"{folder} is in use by process {who.get('pid', '?')} on {who.get('host', '?')}, since "
                f"{who.get('since', '?')} ({who.get('doing', '?')}): wait for it; reading goes on as ever"
            ) from error
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": now(), "doing": doing}
        file.truncate(0)
        file.write(json.dumps(who).encode())
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # at rest the file is empty: a byte in it is somebody's


def holder(folder: Path) -> dict[str, Any] | None:
    """Who holds a folder's lock, as far as its file says; None: nobody."""
    try:
        with files.open_plain(folder / NAME) as file:
            found = json.loads(file.read(1000) or b"null")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder's lock.

    >>> is_held(Path("/nonexistent"))
    False
    """
    try:
        with files.open_plain(folder / NAME) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
