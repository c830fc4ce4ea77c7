"""The notebooks run from start to end against this checkout, and are stored without what running them prints."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECKOUT = rf"""
import warnings
warnings.filterwarnings("error")
warnings.filterwarnings("default", module=r"ipykernel\.")  # what the kernel says of itself when it shuts down
import ugclu_jax
assert ugclu_jax.__file__ == {str(ROOT / "ugclu_jax" / "__init__.py")!r}, ugclu_jax.__file__
"""


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell in a kernel of its own that imports this checkout and treats warnings as errors."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(CHECKOUT))
    # With XLA's optimisation, as a reader runs it: a notebook computes longer than it compiles.
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython")}
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute(env=environment)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    notebook = read(path)
    execute(notebook, tmp_path)
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures


def test_a_failing_cell_is_named(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("width = 0\n1 / width")])
    with pytest.raises(CellExecutionError, match=r"1 / width[\s\S]*ZeroDivisionError[\s\S]*division by zero"):
        execute(notebook, tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_without_outputs(path):
    for number, cell in enumerate(read(path).cells):
        if cell.cell_type == "code":
            stored = (cell.outputs, cell.execution_count)
            assert stored == ([], None), f"cell {number} of {path.name} holds outputs: clear all of them and save"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_starts_with_what_installs_the_library_where_it_is_missing(path):
    title, install, *others = read(path).cells
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert 'if importlib.util.find_spec("ugclu_jax") is None:\n    %pip install' in install.source
    assert not any("%pip" in cell.source for cell in others)
