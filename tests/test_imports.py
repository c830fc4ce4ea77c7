"""Imports point downward and in no circle; who may import what is read from the source."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [  # a room is a file or a folder of ugclu_jax; it may import rooms of lower floors, none of its own
    {"types", "version", "decoding", "extras"},
    {
        "analytic",
        "last_layer",
        "streaming",
        "ranges",
        "named",
        "strict_json",
        "examples",
        "trees",
        "losses",
        "coefficients",
        "metrics",
        "programs",
        "combination",
        "files",
        "kernels",
        "makers",
    },
    {"fixed_point", "buffer", "requests", "prediction", "seals", "components", "decay", "loop", "models", "data"},
    {"batches", "optimizer", "saliency", "fast_slow", "output_budget", "membership", "at", "curvature"},
    {"buffer_sampling", "distillation", "retained", "stepping", "oracle", "euclidean", "evaluation", "evidence"},
    {"bounded", "descent", "bank", "ugclu_settings"},
    {"midpoints", "ugclu_step"},
    {"ugclu", "methods"},
    {"learner", "ugclu_plain"},
    {"devices", "checkpoints", "api", "ensemble"},
    {"tuning", "walk", "report"},
    {"harness"},
    {"living"},
]
SIDES = {"models", "data"}  # no part of the method knows them, from api downward, nor do they know it
OF_SIDES = {"types", "examples", "named", "extras", "decoding", "strict_json", "files", "makers"}
HARNESS = next(level for level, floor in enumerate(FLOORS) if "harness" in floor)
WITH_JIT = {"learner", "oracle", "programs", "devices", "harness"}  # the last outside of requests
Graph = dict[str, set[str]]


def imported(path: Path) -> set[str]:
    """Dotted names of every module that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def library_files() -> list[Path]:
    return sorted((ROOT / "ugclu_jax").rglob("*.py"))


def name_of(path: Path) -> str:
    """`ugclu_jax/models/cnn.py` → ugclu_jax.models.cnn; a package stands for its `__init__.py`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    """`ugclu_jax.models.cnn` → models; the package itself is a room above all others."""
    return module.split(".")[1] if "." in module else module


def importing(files: list[Path]) -> Graph:
    """Module → modules of the same files that it imports: a submodule where it names one, else the package."""
    modules = {name_of(path): path for path in files}
    graph: Graph = {}
    for module, path in modules.items():
        found = {name for name in imported(path) if name in modules}
        # `from package import submodule` asks for the submodule: what else the package holds plays no part.
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and all(f"{node.module}.{a.name}" in modules for a in node.names):
                found.discard(str(node.module))
        graph[module] = found - {module}
    return graph


def upward(graph: Graph) -> list[str]:
    """Imports of a room that is not on a lower floor."""
    level = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    arrows = [(a, b) for a, found in graph.items() for b in found if room(a) != room(b) and room(a) != "ugclu_jax"]
    return sorted(f"{a} imports {b}" for a, b in arrows if level.get(room(b), len(FLOORS)) >= level[room(a)])


def circle(graph: Graph) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@functools.cache
def library() -> Graph:
    return importing(library_files())


def test_every_room_has_one_floor():
    rooms = {room(module) for module in library()} - {"ugclu_jax"}
    placed = [name for floor in FLOORS for name in floor]
    assert len(set(placed)) == len(placed)
    assert not rooms - set(placed), "give it a floor"


def test_imports_point_downward():
    assert not upward(library())
    assert sum(map(len, library().values())) > 150


def test_no_circle_of_modules():
    assert not circle(library())


def test_an_upward_arrow_and_a_circle_are_seen():
    core = {"ugclu_jax.losses": {"ugclu_jax.learner"}, "ugclu_jax.learner": {"ugclu_jax.types"}}
    assert upward(core) == ["ugclu_jax.losses imports ugclu_jax.learner"]
    assert upward({"ugclu_jax.losses": {"ugclu_jax.coefficients"}}), "sideward"
    assert upward({"ugclu_jax.losses": {"ugclu_jax"}}), "the package that imports everything"
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()})) == {"a", "b", "c"}


def test_a_submodule_is_not_its_package():
    graph = library()
    assert "ugclu_jax.models.swin" in graph["ugclu_jax.models.create"] > {"ugclu_jax.models.vit"}
    assert "ugclu_jax.models" not in graph["ugclu_jax.models.create"]
    assert "ugclu_jax.buffer" in graph["ugclu_jax.learner"] and "ugclu_jax" not in graph["ugclu_jax.learner"]


def test_models_and_data_stand_aside():
    level = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    for module, found in library().items():
        others = {room(name) for name in found} - {room(module)}
        if room(module) in SIDES:
            assert others <= OF_SIDES, f"{module} imports {others - OF_SIDES}"
        elif others & SIDES:
            assert level[room(module)] >= HARNESS, f"{module} imports {others & SIDES}"


def test_methods_know_neither_ugclu_nor_each_other():
    files = [path for path in (ROOT / "ugclu_jax" / "methods").glob("*.py") if path.name != "__init__.py"]
    assert files
    for path in files:
        others = {f"ugclu_jax.methods.{other.stem}" for other in files if other != path} | {"ugclu_jax.ugclu"}
        assert not others & imported(path)


def test_one_file_imports_orbax_and_four_rooms_jit():
    for path in library_files():
        if any(name.split(".")[0] == "orbax" for name in imported(path)):
            assert path.name == "checkpoints.py"
        calls = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if "jax.jit" in calls:
            assert room(name_of(path)) in WITH_JIT, path


def test_one_file_leans_on_the_interpreters_of_jax():
    found = [name_of(path) for path in library_files() if any(n.startswith("jax.interpreters") for n in imported(path))]
    assert found == ["ugclu_jax.models.lowering.fast_conv"]


@pytest.mark.parametrize("package", ["requests", "devices", "models", "models/lowering"])
def test_a_package_only_hands_on(package):
    """What stands in an `__init__.py` is found last: only the docstring, imports and `__all__` may."""
    body = ast.parse((ROOT / "ugclu_jax" / package / "__init__.py").read_text()).body
    assert {type(node) for node in body} == {ast.Expr, ast.ImportFrom, ast.Assign}
    names = [name.id for node in body if isinstance(node, ast.Assign) for name in node.targets]
    assert names == ["__all__"]


def test_the_library_does_not_import_the_experiments():
    assert not [p for p in library_files() if any(n.split(".")[0] == "experiments" for n in imported(p))]


def test_references_share_no_code():
    names = {name.split(".")[0] for name in imported(ROOT / "tests" / "reference.py")}
    assert not names & {"jax", "ugclu_jax", "flax", "optax"}


def test_no_drawer_for_leftovers():
    names = {path.stem for folder in ("ugclu_jax", "experiments") for path in (ROOT / folder).rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_the_report_reads_and_draws_only():
    for path in (ROOT / "ugclu_jax" / "report").glob("*.py"):
        theirs = {name for name in imported(path) if name.split(".")[0] in ("jax", "ugclu_jax")}
        assert all(
            name.startswith(("ugclu_jax.report", "ugclu_jax.files", "ugclu_jax.seals", "ugclu_jax.evidence"))
            for name in theirs - {"ugclu_jax"}
        ), path
