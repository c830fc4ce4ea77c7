"""A method that the user names: compared like the others, or refused in a sentence; a run knows it by its source."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from experiments import compare
from ugclu_jax.harness.catalogue import entry_of, make, of_defaults, ranges_of, serves, split_name

SOURCE = """
import jax
from dataclasses import dataclass
import optax
from ugclu_jax import DescentHyper, DescentSettings, Direction, Report, descent

@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MineHyper(DescentHyper):
    task_weight: float = 0.1

def direction(at, batches, hyper):
    task, remain = (here.gradient(batch) for here, batch in zip(at.split(2), batches))
    gradient = optax.tree.add_scale(remain.gradient, -hyper.task_weight, task.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))

def mine(apply_fn, settings=DescentSettings()):
    return descent("mine", apply_fn, settings, unlearn=direction, hyper=MineHyper())

def of_a_folder(apply_fn, settings=DescentSettings(), *, folder):
    return mine(apply_fn, settings)

not_a_function = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where the user stands, with `own/method.py`."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").touch()
    (tmp_path / "own" / "method.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        del sys.modules[name]


def run(folder: Path, *arguments: str) -> int:
    places = ["--run-dir", str(folder / "run"), "--cache-dir", str(folder / "cache")]
    return compare.run(["--smoke", "--sequence", "L1 L2 U1", *arguments, *places])


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_it_is_compared_like_the_others_and_known_by_its_source(folder, capsys):
    assert run(folder, "--methods", "own.method:mine", "finetune_remain") == 0
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    unlearned = {line["method"]: line["cost"]["gradient_evaluations"] for line in lines if line["kind"] == "unlearn"}
    assert set(unlearned) == {"own.method:mine", "finetune_remain"}
    # A step of both batches costs two, of one of them one: within one step of the same budget.
    assert abs(unlearned["own.method:mine"] - unlearned["finetune_remain"]) <= 1
    assert "own.method:mine" in (folder / "run" / "comparison.md").read_text()
    sources = json.loads((folder / "run" / "config.json").read_text())["sources"]
    assert list(sources) == ["own.method:mine"] and len(sources["own.method:mine"]) == 64

    (folder / "own" / "method.py").write_text(SOURCE.replace("-hyper.task_weight", "-2 * hyper.task_weight"))
    capsys.readouterr()
    assert run(folder, "--methods", "own.method:mine", "finetune_remain") == 2, "another source is another run"
    assert "sources" in capsys.readouterr().err


def test_what_it_does_follows_from_the_method(folder):
    name = "own.method:mine"
    assert serves(name) == ("unlearn",) and split_name(name) == ("ug_clu", name)
    assert split_name(f"er+{name}") == ("er", name)
    assert type(of_defaults(name).hyper["unlearn"]).__name__ == "MineHyper"
    assert set(ranges_of(name, extras=True)) == {"kept_share", "distillation_weight"}
    assert entry_of(name).factory.__name__ == "mine" and callable(make)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own.method:mien", "own.method has no attribute mien; did you mean mine?"),
        ("own.nothing:mine", "there is no module own.nothing"),
        ("own.method:not_a_function", "it must be a function of (apply_fn, settings, …)"),
        ("own.method:direction", "it must be a function of (apply_fn, settings, …)"),
        ("own.method:of_a_folder", "of no other parameters than init_fn, num_classes, num_examples, capacity"),
        ("own.method:mine+salun", "'own.method:mine' in method 'own.method:mine+salun' does not learn"),
    ],
)
def test_what_is_no_method_is_refused_with_code_2(folder, capsys, name, said):
    assert run(folder, "--methods", name) == 2
    assert said in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not (folder / "run").exists()
