"""A grid's file: what it stands for, and what is refused, with the place."""

import itertools
import json
import math
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.harness.grid_cells import cells_of
from ugclu_jax.harness.grid_file import from_json, read_grid

SMALL = {"scenarios": ["class_wise"], "methods": ["er"], "seeds": [0]}


def test_every_combination_is_a_table_and_its_settings_are_the_grid_s():
    grid = from_json(
        {
            **SMALL,
            "scenarios": ["class_wise", "random_sample"],
            "settings": {"capacity": 7, "oracle": {"epochs": 2}},
            "vary": {"capacity": [40, 80], "learn.settings.outer_steps": [3]},
        }
    )
    assert [table.name for table in grid.tables] == [
        f"{scenario}-capacity={size}-learn.settings.outer_steps=3"
        for scenario, size in itertools.product(("class_wise", "random_sample"), (40, 80))
    ]
    first = grid.tables[0]
    assert (first.settings["capacity"], first.settings["oracle"]["epochs"]) == (40, 2)
    assert first.settings["learn"]["settings"]["outer_steps"] == 3
    assert first.settings["oracle"]["learning_rate"] == 0.05, "of the data set's own file"
    assert first.varied == {"capacity": 40, "learn.settings.outer_steps": 3}


def test_the_size_of_a_smoke_test_is_that_of_the_settings_file_and_what_varies_is_over_it():
    grid = from_json({**SMALL, "smoke": True, "vary": {"capacity": [11]}})
    assert grid.tables[0].settings["oracle"]["epochs"] == 3
    assert grid.tables[0].settings["capacity"] == 11
    (_, cell) = cells_of(grid, Path("cache")).cells
    assert "--smoke" in cell.arguments and cell.settings["smoke"] == {}


def test_a_settings_file_is_looked_for_beside_the_grid(tmp_path):
    (tmp_path / "own.json").write_text('{"dataset": "digits", "capacity": 5, "smoke": {"capacity": 3}}')
    path = tmp_path / "grid.json"
    path.write_text(json.dumps({**SMALL, "settings": "own.json"}))
    assert read_grid(path).tables[0].settings == {"dataset": "digits", "capacity": 5}
    path.write_text(json.dumps({**SMALL, "settings": "own.json", "smoke": True}))
    assert read_grid(path).tables[0].settings == {"dataset": "digits", "capacity": 3}


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from(["er", "salun", "do_nothing", "sfron"]), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True),
)
def test_a_cell_for_each_and_one_a_table_comes_first(methods, seeds, sizes):
    grid = from_json({"scenarios": ["class_wise"], "methods": methods, "seeds": seeds, "vary": {"capacity": sizes}})
    found = cells_of(grid, Path("cache"))
    names = [cell.name for cell in found.cells]
    extra = 0 if "do_nothing" in methods else len(sizes)
    assert len(names) == len(set(names)) == math.prod(map(len, (methods, seeds, sizes))) + extra
    assert len(found.first) == len(sizes) and found.cells[: len(sizes)] == found.first
    assert set(found.needs.values()) == {cell.name for cell in found.first}
    assert set(found.by_place) == set(itertools.product([t.name for t in grid.tables], methods, seeds))
    for (table, method, seed), cell in found.by_place.items():
        own = {name: cell.arguments[cell.arguments.index(name) + 1] for name in ("--methods", "--seeds")}
        assert own == {"--methods": method, "--seeds": str(seed)} and cell.name.startswith(table)


def test_counterfactuals_are_run_where_a_comparison_of_all_seeds_would_run_them():
    def words(**over):
        return [" ".join(cell.arguments) for cell in cells_of(from_json({**SMALL, **over}), Path("cache")).cells]

    flag = "--counterfactuals-of-one-seed"
    assert [flag in each for each in words(seeds=[0, 1])] == [False, True, True], "not for oracles alone"
    assert not any(flag in each for each in words(seeds=[0]))
    assert not any(flag in each for each in words(seeds=[0, 1], counterfactuals=False))


def test_a_cell_that_spans_hosts_joins_them():
    (_, cell) = cells_of(from_json(SMALL), Path("cache"), hosts=2).cells
    assert " ".join(cell.arguments).endswith("--coordinator auto --parallel shard_map --devices all")


def test_names_are_fit_for_folders_and_two_are_never_one():
    grid = from_json({**SMALL, "vary": {"augment": ["none"], "unlearn_classes": [["1 2"], ["1/2"], ["2"]]}})
    names = [table.name for table in grid.tables]
    assert len(set(names)) == 3 and not any(set(name) & set('/\\:"[] ') for name in names)
