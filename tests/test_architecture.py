"""Imports point downward; who may import what is read from the source."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"streaming", "ranges"},
    {"types"},
    {"losses", "buffer", "requests", "metrics"},
    {"batches", "coefficients", "components", "distillation", "saliency", "fast_slow", "membership", "optimizer"},
    {"bounded", "euclidean"},
    {"descent", "oracle"},
    {"ugclu", "methods"},
    {"learner"},
    {"checkpoints", "devices"},
    {"tuning", "evaluation"},
    {"harness"},
]
SIDES = {"models", "data"}  # may import types, and nothing of the core imports them
SAME_LAYER = {  # (importer, imported) where one layer has an order of its own
    ("components", "coefficients"),
    ("saliency", "components"),
    ("distillation", "batches"),
    ("fast_slow", "components"),
    ("fast_slow", "coefficients"),
}


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


def part(path: Path) -> str:
    """`ugclu_jax/methods/x.py` → methods; `ugclu_jax/buffer.py` → buffer."""
    return path.relative_to(ROOT / "ugclu_jax").parts[0].removesuffix(".py")


def test_imports_point_downward():
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    seen = 0
    for path in library_files():
        name = part(path)
        for target in {n.split(".")[1] for n in imported(path) if n.startswith("ugclu_jax.")}:
            if target == name or name == "__init__":
                continue
            seen += 1
            if name in SIDES:
                assert target in {"types", *SIDES}, f"{path.name} imports {target}"
                continue
            if name in ("harness", "evaluation") and target in SIDES:
                continue
            assert target in level, f"{path.name} imports {target}, which the core must not"
            downward = level[target] < level[name] or (name, target) in SAME_LAYER
            assert downward, f"{path.name} imports {target}: an upward or sideward arrow"
    assert seen > 20


def test_methods_know_neither_ugclu_nor_each_other():
    files = [path for path in (ROOT / "ugclu_jax" / "methods").glob("*.py") if path.name != "__init__.py"]
    assert files
    for path in files:
        others = {f"ugclu_jax.methods.{other.stem}" for other in files if other != path} | {"ugclu_jax.ugclu"}
        assert not others & imported(path)


def test_one_file_imports_orbax_and_three_of_the_core_jit():
    for path in library_files():
        if any(name.split(".")[0] == "orbax" for name in imported(path)):
            assert path.name == "checkpoints.py"
        calls = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if "jax.jit" in calls and part(path) != "harness":
            assert path.name in ("learner.py", "oracle.py", "devices.py"), path


def test_the_library_does_not_import_the_experiments():
    assert not [p for p in library_files() if any(n.split(".")[0] == "experiments" for n in imported(p))]


def test_experiments_do_not_import_each_other():
    for path in (ROOT / "experiments").glob("*.py"):
        assert not [name for name in imported(path) if name.split(".")[0] == "experiments"], path


def test_references_share_no_code():
    names = {name.split(".")[0] for name in imported(ROOT / "tests" / "reference.py")}
    assert not names & {"jax", "ugclu_jax", "flax", "optax"}


def test_no_drawer_for_leftovers():
    names = {path.stem for folder in ("ugclu_jax", "experiments") for path in (ROOT / folder).rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}
