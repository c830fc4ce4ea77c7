"""Models that never saw what is unlearned: they do not depend on it, and are what methods are held against."""

import contextlib
import json

import numpy as np
import pytest

from experiments import compare as command
from ugclu_jax.data import load
from ugclu_jax.evidence import energy_distance
from ugclu_jax.harness.counterfactuals import Counterfactuals
from ugclu_jax.harness.outputs import taken
from ugclu_jax.harness.plan import REPLAY
from ugclu_jax.harness.server import Server
from ugclu_jax.report import outputs

pytestmark = [pytest.mark.filterwarnings("ignore:Sharding info not provided")]
GONE = (1, 6)
STEPS = ["--learn.settings.outer-steps", "12", "--unlearn.settings.outer-steps", "12"]
LEARNERS = ("ug_clu", "er")
SEEDS = ("0", "1")
METHODS = ["ug_clu", "er+finetune_remain", "do_nothing"]


def run(folder, images, labels, test, *more):
    folder.mkdir()
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=test[0], y_test=test[1])
    size = [
        "--dataset",
        "npz",
        "--data.directory",
        str(folder / "data.npz"),
        "--smoke",
        "--tasks",
        "2",
        *STEPS,
    ]
    places = ["--cache-dir", str(folder / "cache"), "--run-dir", str(folder / "run")]
    asked = ["--unlearn-classes", *map(str, GONE), "--seeds", *SEEDS, "--methods", *METHODS]
    return command.run(["--scenario", "class_wise", *size, *places, *asked, *more])


@contextlib.contextmanager
def counted():
    """The kinds of the requests that counterfactuals were served, one an entry."""
    kinds, apply = [], Server.apply

    def counting(self, method, seed, step, state, hyper=None, entry=None):
        kinds.extend([step.request.kind] if entry is not None else [])
        return apply(self, method, seed, step, state, hyper, entry)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "apply", counting)
        yield kinds


@contextlib.contextmanager
def held_against_one_that_shares_nothing():
    """The names of counterfactuals that are, to the bit, what their own methods make of all of their requests."""
    alike, computed = [], Counterfactuals.computed

    def checking(self, name, seed, step, learned):
        found, state = computed(self, name, seed, step, learned), self.first(name, seed)
        for asked in self.asked(step):
            entry = self.plan.counterfactuals[name]
            state = self.server.apply(name, seed, asked, state, entry=entry).state
        logits = self.predictions.measured_logits(step.index, state.method.params, state.method.model_state)
        expected = taken(step, logits)
        assert found.keys() == expected.keys()
        alike.extend([name] if all(np.array_equal(found[side], expected[side]) for side in found) else [])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counterfactuals, "computed", checking)
        yield alike


@pytest.fixture(scope="module")
def watched_runs(tmp_path_factory):
    """The same run twice: in the second, every picture that is unlearned is another, of the same numbers."""
    digits, folder = load("digits"), tmp_path_factory.mktemp("counterfactuals")
    rows = np.concatenate([np.flatnonzero(digits.train_labels == c)[:24] for c in range(10)])
    images, labels = digits.train_inputs[rows].astype(np.uint8), digits.train_labels[rows]
    test = digits.test_inputs[:200].astype(np.uint8), digits.test_labels[:200]
    other = images.copy()
    other[np.isin(labels, GONE)] = other[np.isin(labels, GONE)][:, ::-1]
    with held_against_one_that_shares_nothing() as alike:
        assert run(folder / "a", images, labels, test) == 0
    with counted() as kinds:
        assert run(folder / "b", other, labels, test) == 0
    return folder, alike, kinds


@pytest.fixture(scope="module")
def two_runs(watched_runs):
    return watched_runs[0]


def test_what_is_learned_before_the_first_unlearning_is_served_once_for_both(watched_runs):
    _, alike, kinds = watched_runs
    assert kinds.count("learn") == len(LEARNERS) * len(SEEDS) * 2, "two tasks, whether it replays or not"
    assert kinds.count("unlearn") == len(LEARNERS) * len(SEEDS) * len(REPLAY)
    assert sorted(alike) == sorted(f"{learner}+{end}" for learner in LEARNERS for end in REPLAY.values() for _ in SEEDS)


def arrays(folder, learner, replay, seed=0):
    return outputs.read(folder / "run", outputs.counterfactual_file(learner, replay, seed, 2))


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("replay", [False, True])
def test_they_have_never_seen_what_is_unlearned(two_runs, learner, replay):
    first, second = (arrays(two_runs / each, learner, replay) for each in "ab")
    for side in ("test", "retained"):
        np.testing.assert_allclose(first[side], second[side], atol=1e-5)
    nothing = [outputs.read(two_runs / each / "run", outputs.model_file("do_nothing", 0, 2)) for each in "ab"]
    assert np.abs(nothing[0]["test"] - nothing[1]["test"]).max() > 0.1, "a model that learned them depends on them"


def test_replay_changes_them_and_seeds_differ(two_runs):
    alone, replayed = (arrays(two_runs / "a", "ug_clu", replay)["test"] for replay in (False, True))
    other = arrays(two_runs / "a", "ug_clu", True, seed=1)["test"]
    assert np.abs(alone - replayed).max() > 0.1 and np.abs(other - replayed).max() > 0.1


def test_methods_are_held_against_those_of_their_learner_without_pairs_of_one_seed(two_runs):
    folder = two_runs / "a"
    found = {each["method"]: each for each in json.loads((folder / "run" / "evidence.json").read_text())}
    for method, learner in zip(METHODS, ("ug_clu", "er", "ug_clu"), strict=True):
        own = [outputs.read(folder / "run", outputs.model_file(method, seed, 2))["test"] for seed in (0, 1)]
        others = [arrays(folder, learner, True, seed)["test"] for seed in (0, 1)]
        value = energy_distance(np.stack(own), np.stack(others), same_seeds=True).value
        assert found[method]["counterfactual"]["test"]["value"] == pytest.approx(value)
    assert {"never learned, by ug_clu", "never learned, by er"} < set(found)
    assert "never learned, by er" in (folder / "run" / "comparison.md").read_text()


def test_they_come_from_the_cache_and_are_not_needed(two_runs, capsys):
    folder = two_runs / "a"
    before = arrays(folder, "ug_clu", True)["test"]
    cached = {path: path.stat().st_mtime_ns for path in (folder / "cache" / "oracles").glob("*.npz")}
    again = ["--cache-dir", str(folder / "cache"), "--run-dir", str(folder / "again"), "--seeds", "0", "1"]
    size = [
        "--dataset",
        "npz",
        "--data.directory",
        str(folder / "data.npz"),
        "--smoke",
        "--tasks",
        "2",
        *STEPS,
    ]
    asked = ["--scenario", "class_wise", "--unlearn-classes", *map(str, GONE), "--methods", "do_nothing"]
    assert command.run([*asked, *size, *again, "--no-counterfactuals"]) == 0
    assert not (folder / "again" / "counterfactuals").exists()
    assert command.run([*asked, *size, *again]) == 0
    name = outputs.counterfactual_file("ug_clu", True, 0, 2)
    np.testing.assert_array_equal(outputs.read(folder / "again", name)["test"], before)
    assert cached == {path: path.stat().st_mtime_ns for path in (folder / "cache" / "oracles").glob("*.npz")}
    capsys.readouterr()
    assert command.run([*asked, *size, *again]) == 0
    assert "compilation 0.0" in capsys.readouterr().out, "a finished run does nothing again"
