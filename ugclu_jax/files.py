"""Files that appear whole or not at all, and are read only where they are plain files.

A new file is written beside its place under a name that nobody can foretell, forced to the disk and renamed. As long as
it is written, this process holds a lock on it: what bears such a name and is not locked was left by a kill, and
`sweep` removes it. No symbolic link in a file's own place is followed; those that lead to its folder are the user's.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


class DamagedFileError(OSError):
    """A file that does not hold what was written to it."""


PARTIAL = ".partial-"
"""How the name of a file or folder begins that is not whole yet."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_LINK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nor does it wait for the other end of a pipe


def open_plain(path: Path, flags: int = os.O_RDONLY) -> IO[bytes]:
    """Open a file; a link, a pipe or a device in its place is refused, neither followed nor waited for.

    Args:
        path: of the file.
        flags: of `os.open`; with `os.O_RDWR` the file may be written too.

    Raises:
        OSError: it is not there, not a plain file, or cannot be opened.

    >>> open_plain(Path("/dev/null"))
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] not a plain file: '/dev/null'
    """
    try:
        number = os.open(path, flags | _NO_LINK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.EINVAL, "a symbolic link, not a plain file", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    return os.fdopen(number, "r+b" if flags & os.O_RDWR else "rb")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` when the block ends: whole, and on the disk.

    What stood there is as it was if the block raises. The folder is made where it is missing.

    Raises:
        OSError: it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "new")) as file:
    ...         _ = file.write(b"content")
    ...     os.listdir(folder), Path(folder, "new").read_bytes()
    (['new'], b'content')
    """
    partial, number = _made(path.parent, lambda new: os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666))
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(number)
            os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the reason is the error in hand
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:  # a write does not say to which file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    settle(path.parent)


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="surrogatepass"))


@contextlib.contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A new folder to fill and rename; where it is still there when the block ends, it is removed.

    Raises:
        OSError: it cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with partial_folder(Path(parent)) as made:
    ...         sweep(Path(parent)), made.is_dir()
    ...     os.listdir(parent)
    ([], True)
    []
    """

    def make(new: Path) -> int:
        new.mkdir()
        return os.open(new, _FOLDER)

    made, number = _made(parent, make)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)  # gone already where all went well
        os.close(number)


def _made(parent: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Something new and partial in a folder, open and locked."""
    while True:
        parent.mkdir(parents=True, exist_ok=True)
        new = parent / f"{PARTIAL}{secrets.token_hex(8)}"
        try:
            number = make(new)
        except FileNotFoundError:  # a folder that was swept before it was locked
            continue
        with contextlib.suppress(OSError):  # a file system without locks: nobody sweeps there
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(new):
            return new, number
        os.close(number)  # swept before it was locked


def settle(folder: Path) -> None:
    """Force to the disk which names a folder holds, where its file system can."""
    number = os.open(folder, _FOLDER)
    try:
        with contextlib.suppress(OSError):
            os.fsync(number)
    finally:
        os.close(number)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to), or a folder with all it holds; nothing where nothing is.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove a file or folder at once for all who look for it by name: a kill leaves at most what `sweep` removes.

    Raises:
        OSError: it is not there or cannot be removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "entry", "file"), "content")
    ...     discard(Path(folder, "entry"))
    ...     os.listdir(folder)
    []
    """
    doomed = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    path.rename(doomed)
    remove(doomed)


def sweep(folder: Path) -> list[Path]:
    """Remove what a kill left half-written in a folder: what is named as partial and locked by no process.

    Returns:
        What was removed. Another user's is left to the other user.

    >>> sweep(Path("/nonexistent"))
    []
    """
    swept: list[Path] = []
    try:
        left = sorted(path for path in folder.iterdir() if path.name.startswith(PARTIAL))
    except OSError:  # not there, or not ours to look into
        return swept
    for path in left:
        with contextlib.suppress(OSError):
            if path.is_symlink():
                path.unlink()
            elif not _removed(path):
                continue
            swept.append(path)
    return swept


def _removed(path: Path) -> bool:
    number = os.open(path, os.O_RDONLY | _NO_LINK)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(number), os.lstat(path))
        if ours:
            remove(path)
        return ours
    finally:
        os.close(number)
