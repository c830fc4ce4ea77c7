"""Archives of the npm registry: fetched with their digest proved, and read without unpacking them."""

import hashlib
import shutil
import subprocess
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REGISTRY = "https://registry.npmjs.org"
_ROOT = "package/"  # npm puts every file of a package there
_SECONDS = 60  # without a byte


class Package(NamedTuple):
    """One version of a package: what is fetched, and nothing else."""

    name: str
    version: str
    sha256: str


def fetch(package: Package, folder: Path) -> Path:
    """Download a package: by npm, which knows a user's mirror, or where there is no npm from the registry itself.

    Args:
        package: what to fetch.
        folder: where the archive is left.

    Returns:
        The archive.

    Raises:
        RuntimeError: it cannot be fetched; the message holds what npm or the registry said.
        ValueError: it is another file than was read when this was written.
    """
    name = f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    path = folder / name
    if shutil.which("npm"):
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if run.returncode or not path.is_file():
            raise RuntimeError(f"{' '.join(command)} left no {name}: {run.stderr.strip()}")
    else:
        url = f"{REGISTRY}/{package.name}/-/{package.name.rpartition('/')[2]}-{package.version}.tgz"
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer, path.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise RuntimeError(f"{url} cannot be fetched ({error}): is there a network?") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise ValueError(f"{name} has SHA-256 {found}, not {package.sha256}: fetch it again from another registry")
    return path


def contents(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Read some files of an archive; nothing is written, whatever names are in it.

    Args:
        archive: of `fetch`.
        wanted: of a path within the package, whether to read it.

    Returns:
        Contents by path.

    Raises:
        ValueError: the archive is damaged or no such archive.
    """
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                path = member.name.removeprefix(_ROOT)
                if member.isfile() and wanted(path):
                    file = members.extractfile(member)
                    assert file is not None  # of a plain file there is always one
                    found[path] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive} is not a readable archive ({error}): fetch it again") from error
    return found
