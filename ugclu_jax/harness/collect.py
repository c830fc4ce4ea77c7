"""The tables of a grid: the numbers and outputs of its cells, put together as one run of `compare` would leave them.

    STUDY/tables/NAME/metrics.jsonl, outputs, oracles, counterfactuals, evidence.json, comparison.md, comparison.png

A comparison is computed from lines and outputs alone (`report.evidence`, `report.ranking`), so that it does not matter
how many processes wrote them. What matters is their order, in which sums are taken: method by method, seed by seed,
request by request. That cells are of one table is not believed but compared: their settings, data, network, library
and stream must be the same, and so must every output of an oracle that two of them have.
"""

import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax import seals
from ugclu_jax.files import DamagedFileError
from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.cells import folder_of
from ugclu_jax.harness.grid_cells import GridCells
from ugclu_jax.harness.grid_file import Grid, Table
from ugclu_jax.harness.run_folder import RUN_ID_DIGITS, RunFolder, differences
from ugclu_jax.harness.standing import Standing
from ugclu_jax.report import evidence, outputs
from ugclu_jax.report.comparison import Comparison, compared, write_comparison
from ugclu_jax.report.metrics import from_json

OF_A_CELL = ("run", "methods", "seeds")
"""Keys of a configuration that differ between the cells of a table."""


class Collected(NamedTuple):
    """A table that was put together.

    Attributes:
        name: of the table.
        path: of its comparison.md.
        comparison: what stands there.
        failed: cells that did not come to their end; their lines up to there are in it, as in a run of `compare`.
    """

    name: str
    path: Path
    comparison: Comparison
    failed: tuple[str, ...]


def collect(study: Path, grid: Grid, cells: GridCells, found: Mapping[str, Standing]) -> Iterator[Collected]:
    """Put together each table of a grid.

    Args:
        study: its folder.
        grid, cells: what was run.
        found: how the cells stand.

    Yields:
        The tables in their order.

    Raises:
        ValueError: cells of a table are waiting or running, are not of one table, or their files are damaged.
        NothingToRankError: see `rank`.
        OSError: files cannot be read or written.
    """
    for table in grid.tables:
        yield _collected(study, grid, table, cells, found)


def _collected(study: Path, grid: Grid, table: Table, cells: GridCells, found: Mapping[str, Standing]) -> Collected:
    places = list(itertools.product(grid.methods, grid.seeds))
    names = {place: cells.by_place[(table.name, *place)].name for place in places}
    open_ = [name for name in names.values() if found[name].state in ("waiting", "running")]
    if open_:
        raise ValueError(
            f"table {table.name}: {len(open_)} of {len(names)} cells have not ended, {open_[0]} for one; wait for "
            "them (--status), or run the grid again to start those that died"
        )
    failed = tuple(name for name in names.values() if found[name].state == "failed")
    folders = {place: folder_of(study, cells.by_place[(table.name, *place)]) for place in places}
    folders = {place: folder for place, folder in folders.items() if (folder / "metrics.jsonl").is_file()}
    if not folders:
        raise ValueError(f"table {table.name}: no cell finished a request; see {study / 'logs'}")
    target = study / "tables" / table.name
    settings = merged_settings(folders.values(), grid.methods, grid.seeds)
    lines = merge_runs(target, folders, settings)
    read = [from_json(line) for line in lines]
    known = evidence.gather(target, read, {method: split_name(method)[0] for method in grid.methods})
    evidence.write(target, known)
    comparison = compared(settings, read, known)
    return Collected(table.name, write_comparison(target, comparison), comparison, failed)


def merged_settings(folders: Iterable[Path], methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """The configuration that a run of all methods and seeds would have.

    Args:
        folders: of runs of one method and seed each; one or more.
        methods, seeds: of all of them.

    Raises:
        ValueError: a configuration is missing or damaged, or two differ in more than method and seed.
    """
    first: tuple[Path, dict[str, Any]] | None = None
    for folder in folders:
        config = RunFolder(folder).read_config()
        if config is None:
            raise ValueError(f"{folder} has no config.json; run the grid again")
        own = {key: value for key, value in config.items() if key not in OF_A_CELL}
        first = first or (folder, own)
        other = list(differences(first[1], own))
        if other:
            raise ValueError(f"{first[0]} and {folder} are not of one table; differing: {'; '.join(other)}")
    assert first is not None
    run = {"run": secrets.token_hex(RUN_ID_DIGITS // 2)}
    return {**run, **first[1], "methods": list(methods), "seeds": list(seeds)}


def merge_runs(
    target: Path, folders: Mapping[tuple[str, int], Path], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Put the lines and outputs of runs into one folder.

    Args:
        target: the folder, which is made or written over.
        folders: of each method and seed, in the order in which one run would serve them.
        settings: see `merged_settings`.

    Returns:
        All lines, in that order.

    Raises:
        ValueError: a file is damaged, or two runs had other oracles or another stream.
        OSError: files cannot be read or written.
    """
    lines: list[dict[str, Any]] = []
    streams: dict[str, Path] = {}
    oracles: dict[str, tuple[Path, dict[str, np.ndarray]]] = {}
    for place, folder in folders.items():
        streams.setdefault(RunFolder(folder).read_stream(), folder)
        if len(streams) > 1:
            one, other = streams.values()
            raise ValueError(f"{one} and {other} served other requests; they are not of one table")
        own = [json.loads(text) for text in _text(folder, "metrics.jsonl").splitlines()]
        lines += [line for line in own if (line["method"], line["seed"]) == place]
        for path in sorted(folder.glob("oracles/*.npz")):
            _same_oracles(folder, str(path.relative_to(folder)), oracles)
        for pattern in ("runs/*/seed-*/outputs/*.npz", "counterfactuals/*/*/seed-*/*.npz"):
            for path in sorted(folder.glob(pattern)):
                _copy(folder, target, str(path.relative_to(folder)))
    for name, (folder, _) in oracles.items():
        _copy(folder, target, name)
    # A table is a run's folder for whatever reads one: the report, an audit, several side by side.
    seals.write(target, "stream.json", next(iter(streams)).encode(errors="surrogatepass"))
    seals.write(target, "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    seals.write(target, "config.json", (json.dumps(settings, indent=2) + "\n").encode())
    return lines


def _text(folder: Path, name: str) -> str:
    try:
        return seals.read(folder, name).decode()
    except (ValueError, DamagedFileError) as error:
        raise ValueError(f"{error}; run the grid again, which writes it") from error


def _copy(folder: Path, target: Path, name: str) -> None:
    content = seals.read(folder, name)
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    seals.write(target, name, content)


def _same_oracles(folder: Path, name: str, known: dict[str, tuple[Path, dict[str, np.ndarray]]]) -> None:
    """Remember the outputs of oracles, and refuse others of the same request."""
    arrays = outputs.read(folder, name)
    there, before = known.setdefault(name, (folder, arrays))
    same = arrays.keys() == before.keys() and all(np.array_equal(arrays[key], before[key]) for key in before)
    if not same:
        raise ValueError(
            f"{there / name} and {folder / name} are of other oracles, though the cells are of one table: they were "
            "trained on machines that compute differently, or the cache was not shared. Give one --cache-dir for all, "
            "delete the cells of one kind, and run the grid again"
        )
