"""Tables that no width tears: each number stands whole in one line, beside its row's name."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from ugclu_jax.report.grid import Cell, Grid, Row

WIDTHS = (40, 60, 80, 132, 200)


def on_terminal(grid, width):
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(grid, soft_wrap=True)
    return console.file.getvalue().splitlines()


def some_grid(columns=10, rows=5, name="request {}"):
    heads = [("KL", f"h{c}") for c in range(columns)]
    body = [
        Row(name.format(r), [Cell(f"{r}.{c}00→.{r}{c}0", "|.100", "±.010") for c in range(columns)])
        for r in range(rows)
    ]
    return Grid("request", heads, body)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_is_whole_beside_its_row(width):
    grid = some_grid()
    lines = on_terminal(grid, width)
    assert max(map(cell_len, lines)) <= width
    for row in grid.rows:
        found = [line for line in lines if line.startswith(row.name)]
        assert len(found) == len(grid.blocks(width))
        numbers = [number for line in found for number in line[len(row.name) :].split()]
        assert numbers == [cell.text + cell.dim for cell in row.cells]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_name_that_is_too_long_is_cut_and_told_in_full(width):
    long = (
        "a request whose name is longer than a third of the terminal, whatever it is, and then some more {} " + "x" * 99
    )
    lines = on_terminal(some_grid(rows=2, name=long), width)
    assert any(line.endswith(long.format(1)) and "… = " in line for line in lines)
    assert all(cell_len(line) <= width for line in lines if " = " not in line)


def test_wide_characters_take_two_columns():
    grid = Grid("名前", [("LA",)], [Row("学习 一", [Cell(".5")]), Row("ab", [Cell(".25")])])
    first, second = (line for line in on_terminal(grid, 80) if "." in line)
    assert cell_len(first.split(".")[0]) == cell_len(second.split(".")[0])


def test_a_pipe_gets_a_line_a_row_and_nothing_drawn():
    console = Console(width=40, file=io.StringIO(), force_terminal=False)
    grid = some_grid()
    console.print(grid, soft_wrap=True)
    text = console.file.getvalue()
    head, *rows = text.splitlines()
    assert not set("─│┃━…\x1b") & set(text)
    assert head.split() == ["request", *(f"KL_h{c}" for c in range(10))]
    assert [row.split("  ")[0] for row in rows] == [row.name for row in grid.rows]
    assert all(len([cell for cell in row.split("  ") if cell.strip()]) == 11 for row in rows)
    assert "2.300→.230±.010|.100" in rows[2]


def test_a_heading_stands_before_its_rows_in_a_pipe():
    grid = Grid("request", [("LA",)], [Row("4 unlearn U2"), Row("er", [Cell(".5")])])
    assert grid.plain()[1].startswith("4 unlearn U2: er  ")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z", "M"]), max_size=30), min_size=1, max_size=4, unique=True
    ),
    st.integers(1, 12),
    st.integers(30, 200),
)
def test_no_width_and_no_name_breaks_a_row(names, columns, width):
    rows = [Row(name, [Cell("9" * (1 + (c + len(name)) % 15)) for c in range(columns)]) for name in names]
    grid = Grid("request", [(f"h{c}",) for c in range(columns)], rows)
    lines = on_terminal(grid, width)
    told = len(grid.cut(width))
    table = lines[: len(lines) - told]
    assert max(map(cell_len, table)) <= width
    # Of each block: heading, rule, the rows, and a space between two.
    assert len(table) == len(grid.blocks(width)) * (len(rows) + 3) - 1
