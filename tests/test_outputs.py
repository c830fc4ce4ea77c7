"""What a run keeps of its outputs, and the evidence that is computed from it: from files that this test writes."""

import io
import json

import numpy as np
import pytest

from experiments import compare as command
from ugclu_jax import seals
from ugclu_jax.evidence import energy_distance, matched_energy_distance
from ugclu_jax.report import evidence, outputs
from ugclu_jax.report.metrics import from_json

pytestmark = [pytest.mark.filterwarnings("ignore:Sharding info not provided")]
SIDES = {"unlearned": 7, "test": 11}


def put(folder, name, **arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    seals.write(folder, name, content.getvalue())


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    oracles = {name: rng.normal(size=(4, count, 3)).astype(np.float32) for name, count in SIDES.items()}
    models = {name: 2 * rng.normal(size=(3, count, 3)).astype(np.float32) for name, count in SIDES.items()}
    put(tmp_path, outputs.oracle_file(5), **oracles)
    for seed in range(3):
        own = {name: models[name][seed] for name in SIDES}
        before = {outputs.BEFORE + name: own[name] + 1 for name in SIDES}
        put(tmp_path, outputs.model_file("er", seed, 5), **own, **before)
    lines = [from_json(dict(method="er", seed=seed, request=5, kind="unlearn", name="U")) for seed in range(3)]
    return tmp_path, lines, models, oracles


def test_evidence_is_the_distance_of_what_the_files_hold(run):
    folder, lines, models, oracles = run
    (found,) = evidence.gather(folder, lines)
    assert (found.method, found.request, found.seeds, found.oracles) == ("er", 5, (0, 1, 2), 4)
    for side in SIDES:
        value, error, _ = energy_distance(models[side], oracles[side])
        assert getattr(found.energy, side) == (pytest.approx(value), pytest.approx(error))
        matched = matched_energy_distance(models[side], oracles[side], models["test"], oracles["test"])
        assert getattr(found.matched, side).value == pytest.approx(matched.value)
        before = energy_distance(models[side] + 1, oracles[side])
        assert getattr(found.before, side).value == pytest.approx(before.value, abs=1e-6)
        assert getattr(found.fresh, side).standard_error > 0
    evidence.write(folder, [found])
    assert evidence.read(folder) == [found]


def test_what_is_missing_is_said_and_nothing_is_guessed(run):
    folder, lines, _, _ = run
    assert evidence.read(folder) == []
    (alone,) = evidence.gather(folder, lines[:1])
    assert alone.energy is None and "one seed is no distribution" in alone.undefined
    (folder / outputs.model_file("er", 1, 5)).unlink()
    (gone,) = evidence.gather(folder, lines)
    assert gone.energy is None and gone.undefined == "outputs of seed 1 are gone from the run's folder"
    (folder / outputs.oracle_file(5)).unlink()
    (gone,) = evidence.gather(folder, lines)
    assert gone.energy is None and gone.undefined == "outputs of the oracles are gone from the run's folder"


def test_damage_is_told(run):
    folder, lines, _, _ = run
    path = folder / outputs.model_file("er", 1, 5)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"is not readable .*delete it to go on without it"):
        evidence.gather(folder, lines)
    evidence.write(folder, [])
    (folder / evidence.FILE).write_text("[1]")
    with pytest.raises(ValueError, match=r"evidence.json' is damaged"):
        evidence.read(folder)
    (folder / evidence.FILE).unlink()
    with pytest.raises(ValueError, match=r"evidence.json' is damaged \(it is gone\); resume the run, which writes it"):
        evidence.read(folder)


def test_a_comparison_keeps_outputs_and_ranks_by_them(tmp_path, capsys):
    methods = ["ug_clu", "do_nothing", "mask_logits", "cool", "mean_of_oracles", "retrain_on_buffer"]
    size = ["--smoke", "--tasks", "2", "--unlearn-classes", "1", "6", "--seeds", "0", "1"]
    places = ["--cache-dir", str(tmp_path / "cache"), "--run-dir", str(tmp_path / "run")]
    assert command.run(["--scenario", "class_wise", *size, *places, "--methods", *methods]) == 0
    said = capsys.readouterr().out
    found = {each["method"]: each for each in json.loads((tmp_path / "run" / "evidence.json").read_text())}
    assert [*found][:-1] == methods and all(each["seeds"] == [0, 1] for each in found.values())
    oracles = outputs.read(tmp_path / "run", outputs.oracle_file(2))
    by_method = {
        method: outputs.stack(tmp_path / "run", {seed: outputs.model_file(method, seed, 2) for seed in (0, 1)}).sets
        for method in methods
    }
    gone = np.isin(oracles["labels_unlearned"], [1, 6])
    assert gone.all() and len(gone)
    nothing, masked = by_method["do_nothing"]["unlearned"], by_method["mask_logits"]["unlearned"]
    np.testing.assert_array_equal(by_method["cool"]["unlearned"].argmax(-1), nothing.argmax(-1))
    kept = [c for c in range(10) if c not in (1, 6)]
    np.testing.assert_array_equal(masked.argmax(-1), np.take(kept, nothing[..., kept].argmax(-1)))
    np.testing.assert_array_equal(by_method["do_nothing"]["before_unlearned"], nothing)
    np.testing.assert_array_equal(by_method["mask_logits"]["before_unlearned"], nothing)
    mean = np.exp(oracles["test"] - np.log(np.exp(oracles["test"]).sum(-1, keepdims=True))).mean(0)
    np.testing.assert_allclose(np.exp(by_method["mean_of_oracles"]["test"]), [mean, mean], atol=1e-6)
    assert "ranked by E" in (tmp_path / "run" / "comparison.md").read_text() and "E_matched" in said
