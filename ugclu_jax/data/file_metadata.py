"""The metadata of a folder of pictures: a file beside the classes, whose rows are matched to keys."""

import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ugclu_jax.data.links import composed
from ugclu_jax.data.metadata import NAMES, Metadata
from ugclu_jax.data.wording import counted, listed


def read(directory: Path, splits: Sequence[str], keys: Sequence[str]) -> tuple[Metadata | None, list[str]]:
    """Read `metadata.csv`, `.jsonl` or `.parquet` of a folder, or of each of its splits.

    Names of files are relative to the folder that the metadata lie in, or absolute.

    Args:
        directory: of the pictures.
        splits: folders in it that may have metadata of their own.
        keys: of the pictures: paths relative to `directory`.

    Returns:
        The columns by key, or None where there is no such file; and what is to be said of rows and pictures without
        each other.

    Raises:
        ValueError: several files, two rows of one picture, no row of any picture, or what `Metadata.read` refuses.
    """
    folders = ("", *splits)
    found = {folder: [path for name in NAMES if (path := directory / folder / name).is_file()] for folder in folders}
    for paths in (found[""] + found[split] for split in splits or ("",)):
        distinct = list(dict.fromkeys(paths))
        if len(distinct) > 1:
            raise ValueError(f"{' and '.join(map(str, distinct))} are metadata of the same pictures: keep one of them")
    parts = [_read(path, directory, folder, keys) for folder in folders for path in found[folder]]
    if not parts:
        return None, []
    tables, notes = [table for table, _ in parts], [note for _, part in parts for note in part]
    known = set[str]().union(*(table.keys() for table in tables))
    lacking = [key for key in keys if key not in known]
    if lacking:
        notes.append(
            f"{counted(len(lacking), 'picture has', 'pictures have')} no row in the metadata: {listed(lacking)}"
        )
    return _joined(tables), notes


def _read(path: Path, directory: Path, folder: str, keys: Sequence[str]) -> tuple[Metadata, list[str]]:
    table = Metadata.read(path)
    known, renamed, missing = set(keys), dict[str, str](), list[str]()
    rows: dict[str, str] = {}  # key → how a row spells it
    for written in sorted(table.keys()):
        key = _key(written, directory / folder, folder, known)
        if key is None:
            missing.append(written)
        elif key in rows:
            raise ValueError(f"{path} has the rows {rows[key]!r} and {written!r}, both of {key}: keep one")
        else:
            rows[key], renamed[written] = written, key
    if not renamed:
        example = next((key for key in keys if key.startswith(folder)), keys[0]).removeprefix(f"{folder}/")
        raise ValueError(
            f"{path} names no picture that is there: it has {listed(map(repr, missing), most=3)}; name them from its "
            f"own folder on, such as {example!r}"
        )
    notes = []
    if missing:
        rows_are = counted(len(missing), "row of a file that is", "rows of files that are")
        notes.append(f"{path.name} has {rows_are} no picture here: {listed(missing)}")
    return table.renamed(renamed), notes


def _key(written: str, base: Path, folder: str, keys: set[str]) -> str | None:
    """The key of the picture that a row names, if it is there: as it is written, else by the form of paths."""
    for name in dict.fromkeys((composed(written), composed(written).replace("\\", "/"))):
        if PurePosixPath(name).is_absolute():
            for root in (base.absolute(), base.resolve()):
                if PurePosixPath(name).is_relative_to(composed(root.as_posix())):
                    name = PurePosixPath(name).relative_to(composed(root.as_posix())).as_posix()
                    break
        for key in (posixpath.join(folder, name), posixpath.normpath(posixpath.join(folder, name))):
            if key in keys:
                return key
    return None


def _joined(tables: Sequence[Metadata]) -> Metadata:
    """One table of the rows of several; a column that one lacks is missing there."""
    if len(tables) == 1:
        return tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    keys: list[str] = []
    columns: dict[str, list[object]] = {name: [] for name in names}
    for table in tables:
        for row in table.connection.execute("select * from metadata order by key").fetchall():
            values = dict(zip(table.names, row[1:], strict=True))
            keys.append(row[0])
            for name in names:
                columns[name].append(values.get(name))
    return Metadata(keys, columns)
