"""The search for hyperparameters, on embedded digits: its points, its data, and that it resumes."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments import search as command
from ugclu_jax.evidence import energy_distance, matched_energy_distance
from ugclu_jax.harness import cli
from ugclu_jax.harness.budget import check_references
from ugclu_jax.harness.catalogue import METHODS, REFERENCE_POINTS, WITHOUT_STEPS, ranges_of, searched
from ugclu_jax.harness.config import from_dict
from ugclu_jax.harness.scenarios import TaskAwareConfig, shortened
from ugclu_jax.harness.trials import read as read_trials
from ugclu_jax.requests import Request
from ugclu_jax.tuning import sobol

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]
SMALL = ["--smoke", "--tasks", "2", "--sequence", "L1 L2 U1 L1", "--validation-examples", "200"]


def test_points_fill_the_ranges_evenly_on_a_logarithmic_scale():
    ranges = {"rate": (0.001, 1.0), "weight": (1.0, 2.0)}
    drawn = sobol(ranges, 64)
    assert drawn == sobol(ranges, 64) and drawn[:9] == sobol(ranges, 9)
    for name, (low, high) in ranges.items():
        values = np.array([point[name] for point in drawn])
        assert np.all((low <= values) & (values <= high))
        shares = np.histogram(np.log(values), bins=8, range=(math.log(low), math.log(high)))[0]
        assert np.all(shares == 8), "a Sobol sequence leaves no eighth out"


def test_every_method_that_can_be_searched_has_ranges():
    for name in METHODS:
        found = searched(name)
        if found is None:
            assert name in (*REFERENCE_POINTS, *WITHOUT_STEPS)
            continue
        without, extras = ranges_of(found[0], extras=False), ranges_of(found[0], extras=True)
        assert without and set(without) <= set(extras)
        assert all(0 < low < high for low, high in extras.values())


def test_the_stream_ends_with_its_first_unlearn_request():
    learn, unlearn = Request("learn", "a", np.arange(2)), Request("unlearn", "b", np.arange(1))
    assert shortened((learn, unlearn, learn)) == (learn, unlearn)
    with pytest.raises(ValueError, match="the stream unlearns nothing"):
        shortened((learn,))


def test_trials_are_scored_kept_and_resumed(tmp_path, capsys, monkeypatch):
    folder, methods = tmp_path / "run", ["ug_clu", "ug_clu_plain", "neg_grad_plus", "er", "uniclun"]
    places = ["--run-dir", str(folder), "--cache-dir", str(tmp_path / "cache")]
    arguments = [*SMALL, "--trials", "3", "--extras", "--seeds", "7", *places, "--methods", *methods]
    settings = tmp_path / "settings.json"
    settings.write_text(
        '{"capacity": 77, "references": {"er": {"hyper": {"weight_decay": 0.5}}, '
        '"ug_clu_plain": {"hyper": {"slow_step_size": 0.9}}}}'
    )
    arguments += ["--write", str(settings)]
    assert command.run(arguments) == 0
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert [(t["method"], t["trial"]) for t in trials] == [(m, i) for m in methods for i in range(3)]
    for method in methods:
        own = [trial for trial in trials if trial["method"] == method]
        distils = method == "ug_clu"  # as given, alone of these
        assert own[0]["point"] == ({} if distils else {"distillation_weight": 0.0})
        assert set(own[1]["point"]) == set(ranges_of(searched(method)[0], extras=True))
        assert len({trial["distance"] for trial in own}) == 3, "another point, another distance"
        assert all(trial["distance"] > 0 for trial in own)
    config = json.loads((folder / "config.json").read_text())
    assert config["evaluate_on"] == "validation" and config["seeds"] == [7]

    best = json.loads((folder / "best.json").read_text())
    for method in ("neg_grad_plus", "er", "uniclun"):
        own = [trial for trial in trials if trial["method"] == method]
        wanted = min(own, key=lambda trial: trial["distance"])["point"]
        steps = {"momentum": 0.9, "second_momentum": 0.99}  # of UG-CLU's default, for all alike
        assert best["references"][method]["hyper"] == steps | wanted
        assert best["references"][method]["settings"] == {"optimizer": "adamw", "distillation": True}
    assert best["unlearn"]["settings"]["distillation"] is True
    assert best["references"]["ug_clu_plain"].keys() == {"unlearn"}, "its learning has settings of its own"
    written = json.loads(settings.read_text())
    assert written["capacity"] == 77 and written["references"]["er"]["hyper"]["weight_decay"] == 0.5
    assert {**written["references"]["er"]["hyper"], **best["references"]["er"]["hyper"]} == (
        written["references"]["er"]["hyper"]
    )
    plain = written["references"]["ug_clu_plain"]
    assert plain["learn"] == {"hyper": {"slow_step_size": 0.9}} and plain["unlearn"]["hyper"]["slow_step_size"] == 0.9
    check_references(from_dict(TaskAwareConfig, written).references)  # a settings file can hold it

    # The last trial is lost; nothing else is scored again.
    lines = (folder / "trials.jsonl").read_text().splitlines()
    (folder / "trials.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    scored, plain = [], command.Search.score

    def counted(self, method, kinds, point):
        scored.append((method, kinds))
        return plain(self, method, kinds, point)

    monkeypatch.setattr(command.Search, "score", counted)
    assert command.run(arguments) == 0
    assert scored == [("uniclun", ("learn", "unlearn"))]
    assert (folder / "trials.jsonl").read_text().splitlines() == lines
    assert "best of 3" in capsys.readouterr().out


def test_the_test_split_is_not_read(tmp_path, monkeypatch):
    """With another test split the search finds the same."""
    arguments = [*SMALL, "--trials", "2", "--cache-dir", str(tmp_path / "cache"), "--methods", "neg_grad_plus"]
    assert command.run([*arguments, "--run-dir", str(tmp_path / "a")]) == 0
    plain = cli.load_dataset

    def spoiled(config):
        monkeypatch.setattr("ugclu_jax.harness.plan.data.load", lambda *rest: blank(load(*rest)))
        return plain(config)

    def blank(dataset):
        return dataclasses.replace(dataset, test_inputs=np.zeros_like(dataset.test_inputs))

    from ugclu_jax.data import load

    monkeypatch.setattr(cli, "load_dataset", spoiled)
    assert command.run([*arguments, "--run-dir", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "trials.jsonl").read_text() == (tmp_path / "b" / "trials.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "taskaware"], "did you mean task_aware"),
        (["--trials", "0"], "trials must be at least 1, got 0"),
        (["--methods", "retrain"], "'retrain' has no hyperparameters to search"),
        (["--methods", "saln"], "did you mean salun"),
        (["--sequence", "L1 L2"], "the stream unlearns nothing"),
    ],
)
def test_wrong_use_is_refused(arguments, said, tmp_path, capsys):
    assert command.run(["--smoke", "--cache-dir", str(tmp_path), "--run-dir", str(tmp_path / "r"), *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_damaged_trials_are_named(tmp_path):
    assert read_trials(tmp_path) == {}
    entry = {"method": "er", "trial": 0, "point": {}, "distance": 1.0, "settings": {}}
    (tmp_path / "trials.jsonl").write_text(json.dumps(entry) + "\n")
    assert read_trials(tmp_path) == {("er", 0): entry}
    for damage in ("{", "3", '{"method": "er"}', "\x00"):
        (tmp_path / "trials.jsonl").write_text(json.dumps(entry) + "\n" + damage + "\n")
        with pytest.raises(OSError, match=r"trials.jsonl line 2 is .*, which is no trial; delete the line"):
            read_trials(tmp_path)


def test_a_trial_whose_models_answer_the_same_to_everything_is_infinite_and_ends_nothing(tmp_path):
    plain = command.Search.outputs

    def constant(self, state):
        return [np.zeros_like(each) for each in plain(self, state)]

    folder = tmp_path / "run"
    arguments = [*SMALL, "--trials", "2", "--cache-dir", str(tmp_path / "cache"), "--run-dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.Search, "outputs", constant)
        assert command.run([*arguments, "--methods", "ug_clu", "--seeds", "7", "8", "--oracle-seeds", "2"]) == 0
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert [trial["distance"] for trial in trials] == [np.inf, np.inf]
    assert all(np.isfinite(trial["KL"]) and np.isfinite(trial["E"]) for trial in trials)


def test_of_several_seeds_the_matched_energy_distance_decides(tmp_path):
    """Recomputed from the outputs that the search itself scored."""
    folder, kept = tmp_path / "run", []
    plain = command.Search.outputs

    def keeping(self, state):
        kept.append((plain(self, state), self.oracles()))
        return kept[-1][0]

    arguments = [*SMALL, "--trials", "2", "--cache-dir", str(tmp_path / "cache"), "--run-dir", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.Search, "outputs", keeping)
        assert command.run([*arguments, "--seeds", "3", "4", "--methods", "finetune_remain"]) == 0
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert len(trials) == 2 and len(kept) == 4
    for trial, ((first, oracles), (second, _)) in zip(trials, (kept[:2], kept[2:]), strict=True):
        own = [np.stack(pair) for pair in zip(first, second, strict=True)]
        expected = [
            matched_energy_distance(mine, theirs, own[0], oracles[0]).value
            for mine, theirs in zip(own, oracles, strict=True)
        ]
        assert trial["distance"] == trial["matched"] == pytest.approx(np.mean(expected), rel=1e-9)
        plain_energy = [energy_distance(mine, theirs).value for mine, theirs in zip(own, oracles, strict=True)]
        assert trial["E"] == pytest.approx(np.mean(plain_energy), rel=1e-9) and trial["KL"] > 0
