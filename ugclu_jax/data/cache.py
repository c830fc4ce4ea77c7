"""Prepared data sets on disk: `.npy` files, read back memory-mapped, and a manifest that is written last.

An entry is a folder `<name>-<hash of its key>`; the key holds everything that determines the content. It is written
under another name (`.partial-…`) and renamed when whole, so that a killed process leaves no entry, only a partial
folder that may be deleted. Every file's SHA-256 is checked at each load (1.7 GB/s here).
"""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ugclu_jax.data.dataset import Dataset, validate

FORMAT_VERSION = 2
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
    return (cache_dir or default_directory()) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


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
    if not entry.exists():
        _store(entry, name, key, build)
    return load(entry)


def load(entry: Path) -> Dataset:
    """Read an entry that is there.

    Raises:
        ValueError: as `cached`.
    """
    manifest = _read_manifest(entry)
    for file_name, expected in manifest["files"].items():
        path = entry / file_name
        found = _describe(path) if path.is_file() else None
        if found != expected:
            raise ValueError(f"{path} is damaged: the manifest says {expected}, there is {found}; {_fix(entry)}")
    arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    fields = {name: manifest[name] for name in _FIELDS} | {name: tuple(manifest[name]) for name in _TUPLES}
    return validate(Dataset(name=manifest["name"], **arrays, **fields))


def _store(entry: Path, name: str, key: Mapping[str, Any], build: Callable[[Path], Dataset]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".partial-{entry.name}-", dir=entry.parent))
    try:
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
        with (partial / _MANIFEST).open("w") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        try:
            partial.rename(entry)
        except OSError:
            if not entry.exists():  # else another process was first, with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already where all went well


def _read_manifest(entry: Path) -> dict[str, Any]:
    path = entry / _MANIFEST
    if not path.is_file():
        raise ValueError(f"{path} is missing: the cache entry is damaged; {_fix(entry)}")
    try:
        manifest = json.loads(path.read_text())
        complete = set(manifest) >= {"name", "files", *_FIELDS} and set(manifest["files"]) >= {
            f"{name}.npy" for name in _ARRAYS
        }
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); {_fix(entry)}") from error
    if not complete:
        raise ValueError(f"{path} is damaged (entries are missing); {_fix(entry)}")
    return manifest


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fix(entry: Path) -> str:
    return f"delete the folder {entry} and start again: it is then made anew from the source"
