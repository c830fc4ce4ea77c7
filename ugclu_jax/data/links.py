"""What an entry of a folder is, and where a link leads."""

import os
import stat
import unicodedata
from pathlib import Path
from typing import Literal

Kind = Literal["folder", "file", "other"]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name.

    Raises:
        ValueError: it cannot be read, or a name in it is no text; both are named.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"{folder} cannot be read ({error.strerror}): make it readable, or take it away") from error
    for name in names:
        if any("\udc80" <= character <= "\udcff" for character in name):
            raise ValueError(f"{folder} holds {name!r}, whose name is not UTF-8: rename it")
    return [folder / name for name in names]


def kind(path: Path, root: Path, follow_links: bool) -> Kind:
    """Whether a path is of a folder, of an ordinary file, or of something that is not to be opened, such as a pipe.

    Args:
        path: of what is there, or of a link.
        root: of all that may be read, resolved.
        follow_links: whether links may lead out of it.

    Raises:
        ValueError: a link that leads nowhere, out of `root` unless that is asked for, or back to a folder that it lies
            in; it is named.
    """
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} is a link that leads nowhere, or in a circle: take it away") from error
        if not follow_links and not target.is_relative_to(root):
            raise ValueError(
                f"{path} is a link that leads out of the folder, to {target}: take it away, or give "
                "--data.follow-links to read what it leads to"
            )
        if path.parent.resolve().is_relative_to(target):
            raise ValueError(f"{path} is a link that leads back to {target}, in which it lies: take it away")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): make it readable, or take it away") from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which two that look alike are one.

    Example:
        >>> composed("e\\u0301") == "é"
        True
    """
    return unicodedata.normalize("NFC", name)
