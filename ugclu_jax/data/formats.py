"""Which files are pictures: by what they hold, whatever their names end in."""

import functools
from pathlib import Path

from ugclu_jax.extras import installed_by

with installed_by("run"):
    from PIL import Image

_SURE = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PSD", "QOI", "DDS", "ICNS")
"""Formats whose first bytes nothing else has: what begins so is a picture, damaged or whole."""
_NOT_READ = {
    "EPS": "a program that another program would have to run",
    "WMF": "drawing commands, which Windows alone can draw",
    "FITS": "measurements, whose range is not that of a picture",
    "MCIDAS": "measurements, whose range is not that of a picture",
    "SPIDER": "measurements, whose range is not that of a picture",
}
_NO_PICTURES = ("BUFR", "GRIB", "HDF5", "MPEG", "IPTC", "IMT", "XVTHUMB")  # known to Pillow, which cannot read them
_FOREIGN = (
    *(".heic", ".heif", ".jxl", ".svg", ".svgz", ".exr", ".hdr", ".xcf", ".psb", ".djvu"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
"""Suffixes of pictures that Pillow does not open, or of which it would see the preview alone."""
_FOREIGN_MARKS = (
    *(b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1"),
    *(b"\0\0\0\x0cJXL ", b"v/1\x01", b"gimp xcf", b"#?RADIANCE"),
)
"""How such pictures begin, some of them after a length of four bytes."""
_PREFIX_BYTES = 64


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NOT_READ and name not in _NO_PICTURES)


def candidates(suffix: str) -> tuple[str, ...]:
    """Formats that a file may be in: all that have a mark at the start, and what a suffix names.

    Example:
        >>> "TGA" in candidates(".png"), "TGA" in candidates(".TGA"), "GIF" in candidates(".png")
        (False, True, True)
    """
    named = _named(suffix)
    return tuple(name for name in formats() if Image.OPEN[name][1] is not None or name == named)


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture.

    Its suffix or its first bytes say so; a file of neither is none.

    Args:
        path: of an ordinary file.

    Raises:
        ValueError: it is a picture that cannot be read as one: drawing commands, measurements, or a format that Pillow
            does not open.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        prefix = file.read(_PREFIX_BYTES).ljust(_PREFIX_BYTES, b"\0")
    formats()
    named = _named(path.suffix)
    begins = [name for name, (_, accept) in Image.OPEN.items() if accept is not None and accept(prefix)]
    if path.suffix.lower() in _FOREIGN or (
        not begins and any(mark in (prefix[: len(mark)], prefix[4 : 4 + len(mark)]) for mark in _FOREIGN_MARKS)
    ):
        raise ValueError(f"{path} is a picture that Pillow does not open: convert it to PNG, or take it away")
    for name, reason in _NOT_READ.items():
        if name == named or name in begins:
            raise ValueError(f"{path} is {name}, {reason}: convert it to PNG, or take it away")
    if named in formats() or any(name in _SURE for name in begins):
        return True
    return any(_opens(path, name) for name in begins if name in formats())


def _named(suffix: str) -> str | None:
    """The format that a suffix names."""
    formats()
    return Image.EXTENSION.get(suffix.lower())


def _opens(path: Path, name: str) -> bool:
    """Whether Pillow makes sense of a file's header: two letters may begin a text as well."""
    try:
        with Image.open(path, formats=(name,)):
            return True
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
