"""The cells of a grid: one method and one seed each, and before them one a table that trains the table's oracles.

Oracles lie in a cache under a hash of everything that determines them. Were all cells started at once, each would
train them: the first cell of a table is run alone, and the others find them. It is `do_nothing`, the cheapest method
there is, unless the grid has that one anyway.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.grid_file import Grid, Table

CHEAPEST = "do_nothing"
ORACLES = "oracles"
"""Stands in place of method and seed in the name of a cell that trains oracles for the others alone."""


class GridCells(NamedTuple):
    """What a grid runs.

    Attributes:
        cells: those that train oracles first.
        needs: the name of the cell that must have finished before one, by that one's name.
        by_place: the cell of each table's method and seed.
    """

    cells: tuple[Cell, ...]
    needs: Mapping[str, str]
    by_place: Mapping[tuple[str, str, int], Cell]

    @property
    def first(self) -> tuple[Cell, ...]:
        """Those that train oracles."""
        return tuple(cell for cell in self.cells if cell.name not in self.needs)

    @property
    def others(self) -> tuple[Cell, ...]:
        """Those that find oracles."""
        return tuple(cell for cell in self.cells if cell.name in self.needs)


def cells_of(grid: Grid, cache_dir: Path, hosts: int = 1) -> GridCells:
    """The cells of a grid.

    Args:
        grid: what is asked for.
        cache_dir: where all of them keep oracles.
        hosts: that share a cell, 1 or more: a process each, joined by what the cluster tells them.

    >>> from ugclu_jax.harness.grid_file import from_json
    >>> grid = from_json({"scenarios": ["class_wise"], "methods": ["er", "salun"], "seeds": [7]})
    >>> found = cells_of(grid, Path("cache"))
    >>> [cell.name for cell in found.cells]
    ['class_wise-oracles', 'class_wise-er-7', 'class_wise-salun-7']
    >>> found.needs["class_wise-er-7"]
    'class_wise-oracles'
    """
    first: list[Cell] = []
    others: list[Cell] = []
    needs: dict[str, str] = {}
    by_place: dict[tuple[str, str, int], Cell] = {}
    for table in grid.tables:
        own = {
            (method, seed): _cell(grid, table, method, seed, f"{_named(method)}-{seed}", cache_dir, hosts)
            for method in grid.methods
            for seed in grid.seeds
        }
        by_place |= {(table.name, *place): cell for place, cell in own.items()}
        training = own.get((CHEAPEST, grid.seeds[0]))
        if training is None:
            training = _cell(grid, table, CHEAPEST, grid.seeds[0], ORACLES, cache_dir, hosts, alone=True)
        first.append(training)
        rest = [cell for cell in own.values() if cell is not training]
        others += rest
        needs |= {cell.name: training.name for cell in rest}
    return GridCells((*first, *others), needs, by_place)


def _cell(
    grid: Grid, table: Table, method: str, seed: int, name: str, cache_dir: Path, hosts: int, *, alone: bool = False
) -> Cell:
    words = ["--scenario", table.scenario, "--methods", method, "--seeds", str(seed), "--cache-dir", str(cache_dir)]
    if not alone and grid.counterfactuals and len(grid.seeds) > 1:
        words.append("--counterfactuals-of-one-seed")
    if grid.smoke:
        words.append("--smoke")
    if hosts > 1:
        words += ["--coordinator", "auto", "--parallel", "shard_map", "--devices", "all"]
    # What the size changes is in the settings by now; the part must be there for --smoke to be taken.
    settings = {**table.settings, "smoke": {}} if grid.smoke else dict(table.settings)
    return Cell(f"{table.name}-{name}", "compare", settings, tuple(words))


def _named(method: str) -> str:
    """A method in a folder's name: one of the user's own is package.module:factory."""
    return method.replace(":", ".")
