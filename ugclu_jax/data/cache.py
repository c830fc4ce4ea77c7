"""Prepared data sets on disk: `.npy` files, read back memory-mapped, and a manifest that is written last.

An entry is a folder `<name>-<hash of its key>`; the key holds everything that determines the content. It is written
under another name (`.partial-…`) and renamed when whole, so that a killed process leaves no entry, only a partial
folder, which the next one to ask for an entry removes. Every file's SHA-256 is checked at each load (1.7 GB/s here);
they stand in the manifest, with the key that was asked for, and the manifest stands under a digest of its own.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ugclu_jax import files
from ugclu_jax.data.dataset import Dataset, validate

FORMAT_VERSION = 2
LONGEST_NAME = 40
"""Characters of a data set's name that the folder of an entry has: in UTF-8 one has up to 4 bytes, of 255."""
_MANIFEST = "manifest.json"
_ARRAYS = tuple(field.name for field in dataclasses.fields(Dataset) if field.type is np.ndarray)
_TUPLES = ("class_names", "mean", "std")
_FIELDS = (*_TUPLES, "scale", "keys_are", "vocabulary_size")


def default_directory() -> Path:
    """Where entries lie unless another folder is given.

    Raises:
        ValueError: the process has no home folder.
    """
    try:
        return Path.home() / ".cache" / "ugclu_jax" / "data"
    except RuntimeError as error:
        raise ValueError(f"data.cache_dir is missing: this process has no home folder ({error}); give one") from error


def entry_path(cache_dir: Path | None, name: str, key: Mapping[str, Any]) -> Path:
    """Folder of an entry, whether it is there or not.

    Args:
        cache_dir: where entries lie; the default directory for None.
        name: of the data set.
        key: JSON values that determine the content.

    Example:
        >>> entry_path(Path("cache"), "toy", {"size": 8}) == entry_path(Path("cache"), "toy", {"size": 9})
        False
    """
    text = json.dumps({"format": FORMAT_VERSION, **key}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return (cache_dir or default_directory()) / f"{name[:LONGEST_NAME]}-{digest}"


def cached(cache_dir: Path | None, name: str, key: Mapping[str, Any], build: Callable[[Path], Dataset]) -> Dataset:
    """Load an entry; build and store it first where it is missing.

    Args:
        cache_dir: as `entry_path`.
        name: as `entry_path`.
        key: as `entry_path`.
        build: makes the data set; it may leave further files in the folder that it is given.

    Returns:
        A validated `Dataset` whose arrays are memory-mapped, read-only.

    Raises:
        ValueError: if the entry is damaged; the message names the file and the fix.
        OSError: if the cache cannot be written.
    """
    entry = entry_path(cache_dir, name, key)
    files.sweep(entry.parent)
    if not os.path.lexists(entry):
        _store(entry, name, key, build)
    return load(cache_dir, name, key)


def entries(cache_dir: Path) -> list[Path]:
    """Folders of the entries in a cache; empty where there is none.

    >>> entries(Path("/nonexistent"))
    []
    """
    return sorted(path.parent for path in cache_dir.glob(f"*/{_MANIFEST}"))


def arrays_of(entry: Path) -> list[np.ndarray]:
    """The inputs of both splits of an entry, memory-mapped, whole or not.

    Raises:
        ValueError, OSError: they cannot be read.
    """
    return [np.load(entry / f"{name}_inputs.npy", mmap_mode="r", allow_pickle=False) for name in ("train", "test")]


def load(cache_dir: Path | None, name: str, key: Mapping[str, Any]) -> Dataset:
    """Read an entry that is there. Arguments as `cached`.

    Raises:
        ValueError: as `cached`.
    """
    entry = entry_path(cache_dir, name, key)
    manifest = _read_manifest(entry, name, key)
    for file_name, expected in manifest["files"].items():
        path = entry / file_name
        found = _describe(path) if path.is_file() and not path.is_symlink() else None
        if found != expected:
            raise ValueError(f"{path} is damaged: the manifest says {expected}, there is {found}; {_fix(entry)}")
    arrays = {array: np.load(entry / f"{array}.npy", mmap_mode="r", allow_pickle=False) for array in _ARRAYS}
    fields = {field: manifest[field] for field in _FIELDS} | {field: tuple(manifest[field]) for field in _TUPLES}
    return validate(Dataset(name=name, **arrays, **fields))


def _store(entry: Path, name: str, key: Mapping[str, Any], build: Callable[[Path], Dataset]) -> None:
    with files.partial_folder(entry.parent) as partial:
        dataset = build(partial)
        for field in _ARRAYS:
            np.save(partial / f"{field}.npy", getattr(dataset, field), allow_pickle=False)
        manifest = {
            "format": FORMAT_VERSION,
            "name": name,
            "key": dict(key),
            **{field: getattr(dataset, field) for field in _FIELDS},
            "files": {path.name: _describe(path) for path in sorted(partial.iterdir())},
        }
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        files.write(partial / _MANIFEST, json.dumps({**manifest, "digest": _digest(manifest)}, indent=1))
        try:
            partial.rename(entry)
        except OSError:
            if not entry.exists():  # else another process was first, with the same content
                raise
    files.settle(entry.parent)


def _digest(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_manifest(entry: Path, name: str, key: Mapping[str, Any]) -> dict[str, Any]:
    path = entry / _MANIFEST
    if not os.path.lexists(path):
        raise ValueError(f"{path} is missing: the cache entry is damaged; {_fix(entry)}")
    try:
        with files.open_plain(path) as file:
            manifest = dict(json.loads(file.read()))
        said = manifest.pop("digest", None)
    except (ValueError, TypeError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); {_fix(entry)}") from error
    if said != _digest(manifest):
        raise ValueError(f"{path} is damaged (its digest does not match); {_fix(entry)}")
    if manifest["name"] != name or manifest["key"] != json.loads(json.dumps(key)):
        raise ValueError(f"{path} is of another entry: {manifest['name']!r} by {manifest['key']}; {_fix(entry)}")
    return manifest


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fix(entry: Path) -> str:
    return f"delete the folder {entry} and start again: it is then made anew from the source"
