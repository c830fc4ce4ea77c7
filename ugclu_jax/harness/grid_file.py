"""A grid: scenarios, methods, seeds and settings, of which every combination is one cell. A file of strict JSON.

    {"scenarios": ["class_wise"], "methods": ["ug_clu", "salun"], "seeds": ["0:5"],
     "settings": {"model": "mlp"}, "vary": {"capacity": [100, 1000], "model_options.width": [64, 256]}}

A *table* is what methods and seeds share: a scenario, and one value of each setting of `vary`. Its cells have one data
set, stream and network, so that they share oracles, and their numbers stand in one comparison.
"""

import functools
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax.harness import json_file
from ugclu_jax.harness.config import SETTINGS, ExperimentConfig, from_dict, merge, nearest, numbers_of, shown
from ugclu_jax.harness.options import check_seeds
from ugclu_jax.harness.refusals import check_names
from ugclu_jax.harness.scenarios import SCENARIOS
from ugclu_jax.harness.settings_file import SettingsFile, read

OWN = {
    "methods": "methods",
    "seeds": "seeds",
    "smoke": "smoke",
    "seeds_at_once": "",
    **dict.fromkeys(("settings", "run_dir", "cache_dir", "dry_run", "coordinator", "num_processes", "process_id"), ""),
}
"""Settings that a grid has a key of its own for, or that are decided where it is run."""
MOST_CELLS = 100_000
LONGEST_NAME = 120
"""Characters of a table's name; a folder's may have 255, and method and seed come after it."""


class Table(NamedTuple):
    """What the cells of one comparison share.

    Attributes:
        name: of files; the scenario, and what varies.
        scenario: whose stream is served.
        settings: all of them but methods and seeds, as a settings file has them.
        varied: the part of them that is this table's own, by dotted name.
    """

    name: str
    scenario: str
    settings: Mapping[str, Any]
    varied: Mapping[str, Any]


class Grid(NamedTuple):
    """What a file asks for.

    Attributes:
        tables: scenarios × values of `vary`, in the order of the file.
        methods, seeds: of each table.
        smoke: whether every cell is of the smallest size.
        counterfactuals: whether learners are also run without ever seeing what is unlearned.
    """

    tables: tuple[Table, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    smoke: bool = False
    counterfactuals: bool = True


def read_grid(path: Path) -> Grid:
    """The grid of a file; everything in it is checked that can be without data.

    Args:
        path: of the file. A settings file that it names is looked for beside it.

    Returns:
        Its tables, methods and seeds.

    Raises:
        ValueError: it is no JSON object of a grid, or names what nothing has; with the place, and what to do.
        OSError: it, or its settings file, cannot be read.
    """
    values = json_file.load(path, "grid file", "--grid")
    try:
        return from_json(values, path.parent)
    except ValueError as error:
        raise ValueError(f"grid file {path}: {error}") from error


def from_json(values: Any, folder: Path = Path()) -> Grid:
    """A grid from what JSON has for it.

    Args:
        values: an object; `scenarios` and `methods` must be there, `seeds` are 0 … 4 and the others nothing.
        folder: where a settings file is looked for.

    Raises:
        ValueError, OSError: as `read_grid`.

    >>> grid = from_json({"scenarios": ["class_wise"], "methods": ["er"], "vary": {"capacity": [40, 80]}})
    >>> [table.name for table in grid.tables], grid.seeds
    (['class_wise-capacity=40', 'class_wise-capacity=80'], (0, 1, 2, 3, 4))
    >>> from_json({"scenarios": ["class_wise"], "methods": ["er"], "vary": {"capacity": []}})
    Traceback (most recent call last):
        ...
    ValueError: vary.capacity is empty: give one value or more, or leave it out
    """
    if not isinstance(values, dict):
        raise ValueError(f"a grid must be a JSON object, got {shown(values)}")
    for key in values:
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; {nearest(key, _KEYS)}")
    for key in ("scenarios", "methods"):
        if key not in values:
            raise ValueError(f"{key} is missing: give a list of one or more")
    read_by = {key: _KEYS[key](key, value) for key, value in values.items()}
    scenarios, methods = read_by["scenarios"], read_by["methods"]
    seeds, smoke = read_by.get("seeds", tuple(range(5))), read_by.get("smoke", False)
    vary = read_by.get("vary", {})
    cells = len(scenarios) * len(methods) * len(seeds)
    for options in vary.values():
        cells *= len(options)
    if cells > MOST_CELLS:
        raise ValueError(f"the grid has {cells} cells, more than {MOST_CELLS}: divide it over several files")
    tables: dict[str, Table] = {}
    once = functools.cache(read)  # a grid has thousands of tables, and few files
    for scenario in scenarios:
        for point in itertools.product(*vary.values()):
            varied = dict(zip(vary, point, strict=True))
            settings = _settings(scenario, values.get("settings", {}), varied, smoke, folder, once)
            _check(scenario, settings, methods, seeds)
            name = _named(scenario, varied)
            while name in tables:
                name += "_"
            tables[name] = Table(name, scenario, settings, varied)
    return Grid(tuple(tables.values()), methods, seeds, smoke, read_by.get("counterfactuals", True))


def _settings(
    scenario: str,
    own: Any,
    varied: Mapping[str, Any],
    smoke: bool,
    folder: Path,
    read: Callable[[Path, str, bool], SettingsFile],
) -> dict[str, Any]:
    """Everything that a settings file says for a scenario, and over it what the grid does."""
    inline = {} if isinstance(own, str) else own
    nested: dict[str, Any] = {}
    for key, value in varied.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = merge(nested, value)
    over = merge(inline, nested)
    dataset = over.get("dataset", ExperimentConfig.dataset)
    # A data set that there is none of is refused by its name, with the others.
    path = folder / own if isinstance(own, str) else SETTINGS / f"{dataset}.json"
    base = read(path, scenario, smoke).values if isinstance(own, str) or path.is_file() else {}
    return merge(base, over)


def _check(scenario: str, settings: dict[str, Any], methods: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    kind = SCENARIOS[scenario].config
    try:
        check_names(from_dict(kind, {**settings, "methods": list(methods), "seeds": list(seeds)}))
    except ValueError as error:
        raise ValueError(f"{scenario}: {error}") from error


def _named(scenario: str, varied: Mapping[str, Any]) -> str:
    parts = [scenario]
    for key, value in varied.items():
        text = value if isinstance(value, str) else json.dumps(value)
        parts.append(f"{key}={re.sub('[^A-Za-z0-9_.+]+', '_', text)}")
    return "-".join(parts)[:LONGEST_NAME]


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list, got {shown(value)}")
    if not value:
        raise ValueError(f"{key} is empty: give one value or more{', or leave it out' * key.startswith('vary.')}")
    seen: set[str] = set()
    for each in value:
        text = json.dumps(each, sort_keys=True)
        if text in seen:
            raise ValueError(f"{key} has {shown(each)} twice: a cell is run once; leave one out")
        seen.add(text)
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    found = _list(key, value)
    for each in found:
        if not isinstance(each, str):
            raise ValueError(f"{key} must be names, got {shown(each)}")
    return tuple(found)


def _scenarios(key: str, value: Any) -> tuple[str, ...]:
    found = _names(key, value)
    for name in found:
        if name not in SCENARIOS:
            raise ValueError(f"{key} has an unknown scenario {name!r}; {nearest(name, SCENARIOS)}")
    return found


def _seeds(key: str, value: Any) -> tuple[int, ...]:
    found: list[int] = []
    for each in _list(key, value):
        if isinstance(each, str):
            found += numbers_of(each, key)
        elif type(each) is int:
            found.append(each)
        else:
            raise ValueError(f'{key} must be whole numbers, or ranges such as "0:5", got {shown(each)}')
    check_seeds(key, found)
    return tuple(_list(key, found))


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, got {shown(value)}")
    return value


def _given(key: str, value: Any) -> Any:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object of settings, or the path of a settings file, got {shown(value)}")
    for name in value:
        _not_own(f"{key}.{name}", name)
    return value


def _vary(key: str, value: Any) -> dict[str, list[Any]]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be an object of settings and lists of their values, got {shown(value)}")
    for name, options in value.items():
        _not_own(f"{key}.{name}", name)
        _list(f"{key}.{name}", options)
        for other in value:
            if other.startswith(f"{name}."):
                raise ValueError(f"{key} has {name} and {other}, a part of it: vary one of them")
    return value


def _not_own(place: str, name: str) -> None:
    if name in OWN:
        fix = (
            f"give it as {OWN[name]!r} of the grid"
            if OWN[name]
            else "it is decided where the grid is run: leave it out"
        )
        raise ValueError(f"{place} is no setting of a cell; {fix}")


_KEYS: Mapping[str, Callable[[str, Any], Any]] = {
    "scenarios": _scenarios,
    "methods": _names,
    "seeds": _seeds,
    "settings": _given,
    "vary": _vary,
    "smoke": _flag,
    "counterfactuals": _flag,
}
