"""What the arrays of a `.npz` file are, by their headers: shape and type, before a byte of them is unpacked."""

import math
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ugclu_jax.data.memory import check_fits

_NPY = ".npy"
_MOST_MEMBERS = 1000
_MOST_RATIO = 1040  # Deflate cannot pack more tightly
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats", "U": "strings", "S": "bytes", "M": "dates"}
_UNREADABLE = (
    *(OSError, ValueError, EOFError, SyntaxError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, tokenize.TokenError),
)
"""What the readers of zip files and of headers raise on damaged ones."""


class Member(NamedTuple):
    """An array of the file, not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype


def members(path: Path) -> dict[str, Member]:
    """Look at the headers of all arrays of a file.

    Args:
        path: of an ordinary file.

    Returns:
        By name, without the suffix.

    Raises:
        ValueError: it is no zip file of plain arrays: members of other kinds or names, or several of one; headers that
            do not agree with what is stored, Python objects, records; more than the machine's memory holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _members(archive)
    except _UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} is truncated or not a .npz file of plain arrays ({reason:.300}): write it again"
        ) from error
    total = sum(math.prod(member.shape) * member.dtype.itemsize for member in found.values())
    check_fits(f"{path}, unpacked,", total, "give fewer or smaller arrays")
    return found


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a file whose `members` are in order.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except _UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path} is truncated or not a .npz file of plain arrays ({reason:.300}): write it again"
        ) from error


def _members(archive: zipfile.ZipFile) -> dict[str, Member]:
    entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        raise ValueError(f"it has {len(entries)} members; more than {_MOST_MEMBERS} are not read")
    found: dict[str, Member] = {}
    for entry in entries:
        name = entry.filename.removesuffix(_NPY)
        if not entry.filename.endswith(_NPY) or not name or set(name) & set("/\\\0"):
            raise ValueError(f"its member {entry.filename!r} is no array with a plain name")
        if name in found:
            raise ValueError(f"it has the member {entry.filename!r} more than once")
        if entry.flag_bits & 1:
            raise ValueError(f"its member {entry.filename!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"its member {entry.filename!r} is packed as NumPy does not pack")
        if entry.file_size > _MOST_RATIO * entry.compress_size + _MOST_RATIO:
            raise ValueError(
                f"its member {entry.filename!r} says that it has {entry.file_size} bytes, and {entry.compress_size} "
                "packed ones cannot hold them"
            )
        with archive.open(entry) as file:
            member, header_bytes = _header(name, file)
        if math.prod(member.shape) * member.dtype.itemsize != entry.file_size - header_bytes:
            raise ValueError(
                f"{name} has {entry.file_size - header_bytes} bytes, and its header says {member.dtype} "
                f"{list(member.shape)}"
            )
        found[name] = member
    return found


def _header(name: str, file: IO[bytes]) -> tuple[Member, int]:
    """What an array's header says, and how long it is."""
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python 2 wrote it
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        elif version in ((2, 0), (3, 0)):  # they differ in names of fields, which no plain array has
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"{name} is of version {version} of NumPy's format, which is not known")
    if any(isinstance(length, bool) or length < 0 for length in shape):
        raise ValueError(f"{name} has the shape {shape}")
    if dtype.kind not in _KINDS or dtype.itemsize == 0 or dtype.subdtype is not None:
        kinds = ", ".join(dict.fromkeys(_KINDS.values()))
        raise ValueError(f"{name} is of type {dtype}; plain arrays are of {kinds}")
    return Member(tuple(shape), dtype), file.tell()
