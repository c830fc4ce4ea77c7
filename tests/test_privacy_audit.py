"""An audit of a finished run: its numbers against loops over the same files, and what it refuses or cannot know."""

import io
import itertools
import json
import math
import shutil

import numpy as np
import pytest
import reference
from audited_run import AGAIN, METHODS, NOTHING, UNLEARNING, line, put, write_lines, write_run
from rich.console import Console
from scipy.stats import binomtest

from experiments import privacy_audit
from ugclu_jax import files, seals
from ugclu_jax.evidence import klom, relative_test
from ugclu_jax.report import audit, audit_tables, outputs
from ugclu_jax.report.metrics import read_metrics

LEARNERS = dict.fromkeys(METHODS, "ug_clu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("audited") / "run")


@pytest.fixture(scope="module")
def audited(made, tmp_path_factory):
    """A copy that was audited, what the command wrote as JSON, and what it printed."""
    folder = tmp_path_factory.mktemp("done") / "run"
    shutil.copytree(made, folder)
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    privacy_audit.audit(folder, console)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    tree = json.loads(seals.read(folder, "audit.json"), parse_constant=refuse)
    return folder, {each["method"]: each for each in tree["requests"]}, tree, console.file.getvalue()


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def stacked(folder, method, seeds=5):
    arrays = [np.load(folder / outputs.model_file(method, seed, UNLEARNING)) for seed in range(seeds)]
    return {key: np.stack([each[key] for each in arrays]) for key in arrays[0].files}


def area(members, others):
    """P(member higher) + ½ P(tie), by pairs."""
    return np.mean([(a > b) + (a == b) / 2 for a, b in itertools.product(np.ravel(members), np.ravel(others))])


def scores_by_loops(networks, oracles, sets=("unlearned", "test"), others="test"):
    """RMIA of each network with all oracles but one."""
    found = {name: [] for name in sets}
    for i in range(len(networks["test"])):
        known = {name: np.delete(oracles[name], i % len(oracles[name]), 0) for name in sets}
        against = np.delete(oracles[others], i % len(oracles[others]), 0)
        population = (networks[others][i], against, oracles[f"labels_{others}"])
        for name in sets:
            one = reference.rmia(networks[name][i], known[name], oracles[f"labels_{name}"], *population, 0.3, 1.0)
            found[name].append(one)
    return {name: np.array(each) for name, each in found.items()}


def test_distances_and_attacks_are_those_of_loops_over_the_files(audited):
    folder, found, _, _ = audited
    oracles = dict(np.load(folder / outputs.oracle_file(UNLEARNING)))
    own = stacked(folder, NOTHING)
    for side in ("unlearned", "test"):
        value = found[NOTHING]["evidence"]["energy"][side]["value"]
        assert value == pytest.approx(reference.energy(own[side], oracles[side]), abs=1e-6)
    before = {name: own[outputs.BEFORE + name] for name in ("unlearned", "test")}
    for who, networks in (("before", before), ("after", own), ("oracle", oracles)):
        scores, there = scores_by_loops(networks, oracles), found[NOTHING]["rmia"][who]
        assert there["auc"] == pytest.approx(area(scores["unlearned"], scores["test"]), abs=1e-9)
        each = [area(*pair) for pair in zip(*scores.values(), strict=True)]
        assert there["spread"] == pytest.approx(np.std(each, ddof=1), abs=1e-9)
        thresholds = np.unique(np.concatenate([s.ravel() for s in scores.values()]))
        allowed = [t for t in thresholds if np.mean(scores["test"] >= t) <= 0.01]
        rate = max([np.mean(scores["unlearned"] >= t) for t in allowed], default=0.0)
        members = scores["unlearned"].shape[1]
        interval = binomtest(round(rate * members), members).proportion_ci(0.95, "exact")
        assert there["tails"][0] == {
            "rate": rate,
            "low": pytest.approx(interval.low),
            "high": pytest.approx(interval.high),
        }
        assert set(there["tails"][1].values()) == {None}, "120 non-members do not resolve 0.1 %"
        assert (there["members"], there["non_members"]) == (30, 120)


def test_of_classes_that_are_gone_the_non_members_are_test_examples(tmp_path):
    """And the population is all test examples: those of retained classes alone would leave nothing but ties."""
    sizes = {"unlearned": 12, "test": 20, "retained": 3, "unlearned_test": 9}
    folder = write_run(tmp_path / "run", 3, 3, sizes)
    oracles, own = dict(np.load(folder / outputs.oracle_file(UNLEARNING))), stacked(folder, NOTHING, 3)
    (nothing, _) = audit.gather(folder, read_metrics(folder), LEARNERS)
    every = np.concatenate([oracles["test"], oracles["unlearned_test"]], 1)
    oracles |= {"all": every, "labels_all": np.r_[oracles["labels_test"], oracles["labels_unlearned_test"]]}
    own["all"] = np.concatenate([own["test"], own["unlearned_test"]], 1)
    scores = scores_by_loops(own, oracles, ("unlearned", "unlearned_test"), "all")
    assert nothing.rmia["after"].auc == pytest.approx(area(*scores.values()), abs=1e-9)
    assert nothing.rmia["after"].non_members == 9


def test_what_still_knows_the_unlearned_is_told_from_an_honest_retraining(audited):
    _, found, _, _ = audited
    nothing, again = (found[method]["rmia"] for method in (NOTHING, AGAIN))
    assert nothing["after"]["auc"] > 0.8 > 0.65 > nothing["oracle"]["auc"]
    assert nothing["after"]["auc"] == nothing["before"]["auc"] == again["before"]["auc"]
    assert abs(again["after"]["auc"] - again["oracle"]["auc"]) < 0.1
    assert not found[NOTHING]["relative"]["nearer"] and found[AGAIN]["relative"]["nearer"]
    assert found[AGAIN]["relative"]["p_value"] < 0.05 and found[NOTHING]["control"]["p_value"] < 0.05


def test_the_relative_test_has_half_of_the_oracles_as_its_candidate(audited):
    folder, found, _, _ = audited
    oracles, own = np.load(folder / outputs.oracle_file(UNLEARNING))["unlearned"], stacked(folder, AGAIN)
    control = relative_test(oracles[:3], oracles[3:], own["before_unlearned"], seed=0)
    assert found[AGAIN]["control"]["p_value"] == control.p_value
    assert found[AGAIN]["control"]["to_before"] == pytest.approx(control.to_before)


def test_gaps_and_the_stream_by_hand(audited):
    _, found, tree, _ = audited
    seeds = np.arange(5) / 32
    gaps = (0.25 + seeds + 0.25 + 0.25 + 0.25) / 4  # UA, RA, TA, MIA by the loss
    assert found[AGAIN]["average_gap"]["mean"] == pytest.approx(np.mean(gaps))
    assert found[AGAIN]["average_gap"]["std"] == pytest.approx(np.std(gaps, ddof=1))
    assert found[AGAIN]["tow"]["mean"] == pytest.approx(np.mean((0.75 - seeds) * 0.75**2))
    assert found[AGAIN]["tow_mia"]["mean"] == pytest.approx(0.75**3)  # by the confidence
    nothing, again = ({each["method"]: each for each in tree["stream"]}[method] for method in METHODS)
    assert nothing["erosion"]["mean"] == 0 and nothing["plasticity"]["mean"] == 0
    assert again["reversal"]["mean"] == pytest.approx(0.25)
    assert again["plasticity"]["mean"] == pytest.approx(np.mean(seeds))


def test_erosion_is_the_fall_of_accuracy_on_what_is_retained(audited):
    folder, _, tree, _ = audited
    labels, own = np.load(folder / outputs.oracle_file(UNLEARNING))["labels_retained"], stacked(folder, AGAIN)
    right = [(own[name].argmax(-1) == labels).mean(1) for name in ("before_retained", "retained")]
    assert tree["stream"][1]["erosion"]["mean"] == pytest.approx(np.mean(right[0] - right[1]))


def test_what_models_do_not_suffice_for_is_said_with_the_number(audited):
    _, found, _, said = audited
    lacks = " ".join(said.split())
    for sentence in (
        "KLoM needs 100 models and 100 oracles, there are 5 and 6",
        "Gaussian KLoM needs 32 models and 32 oracles, there are 5 and 6",
        "U-LiRA needs 16 models and 16 oracles, there are 5 and 6",
        "forgetting quality needs 16 models and 16 oracles, there are 5 and 6",
        "true positives at 0.1 % false positives need 1000 non-members, there are 120",
        "E to the counterfactuals is undefined: the run made none",
    ):
        assert sentence in lacks and any(each.startswith(sentence) for each in found[AGAIN]["undefined"])
    assert "This is evidence, not proof" in lacks and "overstates privacy" in lacks
    assert not any("relative test" in sentence for sentence in found[AGAIN]["undefined"])


def test_parts_that_are_missing_are_said(tmp_path):
    """No outputs before the request, none on retained examples, three oracles."""
    folder = write_run(tmp_path / "run", 3, 3, {"unlearned": 3, "test": 6})
    for method, seed in itertools.product(METHODS, range(3)):
        arrays = dict(np.load(folder / outputs.model_file(method, seed, UNLEARNING)))
        put(
            folder, outputs.model_file(method, seed, UNLEARNING), {n: a for n, a in arrays.items() if "before" not in n}
        )
    (nothing, _) = audit.gather(folder, read_metrics(folder), LEARNERS)
    for sentence in (
        "E of the models before is undefined: their outputs were not kept",
        "the error of fresh oracles needs 4 oracles, there are fewer",
        "RMIA on models before is undefined: outputs were not kept",
        "the relative test is undefined: outputs of the models before the request were not kept",
    ):
        assert sentence in nothing.undefined
    assert set(nothing.rmia) == {"after", "oracle"}


def test_with_enough_models_everything_has_a_value(tmp_path):
    folder = write_run(tmp_path / "run", 100, 100, {"unlearned": 3, "test": 4, "retained": 2})
    (nothing, again) = audit.gather(folder, read_metrics(folder), LEARNERS)
    oracles, own = dict(np.load(folder / outputs.oracle_file(UNLEARNING))), stacked(folder, AGAIN, 100)
    values = klom(own["unlearned"], oracles["unlearned"], oracles["labels_unlearned"])
    assert again.klom["unlearned"].models == (pytest.approx(values.mean()), pytest.approx(np.percentile(values, 95)))
    halves = klom(oracles["test"][:50], oracles["test"][50:], oracles["labels_test"])
    assert again.klom["test"].halves.mean == pytest.approx(halves.mean())
    assert set(again.klom) == set(again.gaussian_klom) == set(audit.SIDES)
    assert nothing.gaussian_klom["unlearned"].models.mean > 4 * again.gaussian_klom["unlearned"].models.mean
    assert nothing.u_lira.auc > 0.9 > 0.6 > again.u_lira.auc and nothing.forgetting_quality < again.forgetting_quality
    assert 0 < again.forgetting_halves < 1
    text = audit_tables.markdown([nothing, again], [])
    assert "### KLoM, in brackets" in text and "### U-LiRA" in text and "the challenge takes 512" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_tables_survive_any_width_and_a_pipe(made, width):
    found = audit.gather(made, read_metrics(made), LEARNERS)
    for terminal in (True, False):
        console = Console(width=width, file=io.StringIO(), force_terminal=terminal, color_system=None)
        console.print(audit_tables.audit_table(found), soft_wrap=True)
        lines = console.file.getvalue().splitlines()
        assert not terminal or max(map(len, lines)) <= width
        assert terminal or len(lines) == 1 + len(METHODS)
        area = audit_tables.number(found[0].rmia["after"].auc)
        assert any(area in each for each in lines)


def test_it_writes_a_page_and_a_picture_and_seals_its_numbers(audited):
    folder, _, _, said = audited
    assert str(folder / "audit.md") in said.replace("\n", "").replace("  ", "")
    page = (folder / "audit.md").read_text()
    assert "| method | attack on | AUC |" in page and "an oracle held out" in page and "evidence, not proof" in page
    assert (folder / "audit.png").read_bytes()[:4] == b"\x89PNG"
    content = bytearray((folder / "audit.json").read_bytes())
    content[40] ^= 1
    (folder / "audit.json").write_bytes(content)
    with pytest.raises(files.DamagedFileError):
        seals.read(folder, "audit.json")


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


REFUSED = {
    "no folder": (lambda run: shutil.rmtree(run), "config.json' does not exist"),
    "unfinished": (
        lambda run: write_lines(run, [line(NOTHING, 0, r) for r in range(2)]),
        "has not finished; resume it",
    ),
    "nothing unlearned": (
        lambda run: (
            write_lines(run, [line(m, s, 0) for m in METHODS for s in range(5)]),
            seals.write(run, "stream.json", b'[{"learn": {}}]'),
        ),
        "has no request to unlearn",
    ),
    "no outputs": (lambda run: (run / outputs.oracle_file(1)).unlink(), "older version that kept none"),
    "damaged outputs": (lambda run: cut(run / outputs.model_file(AGAIN, 1, 1)), "is not readable"),
    "damaged oracles": (lambda run: cut(run / outputs.oracle_file(1)), "is not readable"),
    "damaged metrics": (lambda run: cut(run / "metrics.jsonl"), "metrics.jsonl"),
    "damaged stream": (lambda run: (run / "stream.json").write_text("["), "stream.json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_audited_is_refused_in_a_sentence(name, run, capsys):
    damage, said = REFUSED[name]
    damage(run)
    assert privacy_audit.run([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ") and said in error and len(error.strip().splitlines()) == 1
    assert not list(run.glob("audit.*")) if run.exists() else True


def test_a_seed_that_failed_is_no_unfinished_run_and_outputs_that_are_gone_are_said(run, capsys):
    lines = [line(m, s, r) for m in METHODS for s in range(5) for r in range(3)]
    write_lines(run, [each for each in lines if (each["method"], each["seed"]) != (NOTHING, 4)])
    seals.write(run, "evidence.json", b"[]")
    (run / outputs.model_file(AGAIN, 1, UNLEARNING)).unlink()
    assert privacy_audit.run([str(run)]) == 0
    said = capsys.readouterr().out
    assert f"{AGAIN}: E is undefined: outputs of seed 1 are gone from the run's folder" in said
    assert f"{AGAIN}: KLoM, RMIA, U-LiRA, forgetting quality and the relative test are undefined" in said
    tree = {each["method"]: each for each in json.loads((run / "audit.json").read_text())["requests"]}
    assert tree[AGAIN]["rmia"] == {} and tree[NOTHING]["rmia"]["after"]["networks"] == 4
    assert not math.isnan(tree[NOTHING]["evidence"]["energy"]["test"]["value"])
