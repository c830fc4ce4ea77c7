"""Paired differences against the distances, jackknives in loops and SciPy's paired test; Holm's by its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments import buffer_sampling
from ugclu_jax.evidence import energy_distance, matched_energy_distance
from ugclu_jax.report import paired

RNG = np.random.default_rng(0)
ORACLES = {"unlearned": RNG.normal(size=(4, 6, 3)), "test": RNG.normal(size=(4, 9, 3))}


def drawn(shift):
    models = {name: 1.5 * RNG.normal(size=(5, *array.shape[1:])) + shift for name, array in ORACLES.items()}
    return paired.Outputs(models, ORACLES)


FIRST, SECOND = drawn(0.0), drawn(np.array([0.0, 0.5, 1.0]))


def whole(found, matched, seeds=slice(None), oracles=slice(None)):
    """E by the public functions; a cooled model is cooled to all oracles."""
    total = 0.0
    for name in ("unlearned", "test"):
        models, known = found.models[name], found.oracles[name][oracles]
        if matched:
            from ugclu_jax.evidence.baselines import cool

            models = cool(models, found.models["test"], found.oracles["test"])
        total += energy_distance(models[seeds], known).value
    return total


@pytest.mark.parametrize("matched", [False, True])
def test_the_difference_is_that_of_the_distances_and_its_error_the_jackknife_s(matched):
    found = paired.energy_difference(FIRST, SECOND, matched=matched)
    assert found.value == pytest.approx(whole(FIRST, matched) - whole(SECOND, matched))
    if matched:
        sides = [
            sum(
                matched_energy_distance(e.models[n], ORACLES[n], e.models["test"], ORACLES["test"]).value
                for n in ORACLES
            )
            for e in (FIRST, SECOND)
        ]
        assert found.value == pytest.approx(sides[0] - sides[1])
    variance = 0.0
    for number, kind in ((5, "seeds"), (4, "oracles")):
        gaps = []
        for one in range(number):
            kept = {kind: [i for i in range(number) if i != one]}
            gaps.append(whole(FIRST, matched, **kept) - whole(SECOND, matched, **kept))
        variance += (number - 1) / number * sum((gap - np.mean(gaps)) ** 2 for gap in gaps)
    assert found.standard_error == pytest.approx(variance**0.5)
    expected = 2 * stats.t.sf(abs(found.value) / found.standard_error, 4)
    assert found.probability == pytest.approx(expected)


def test_divergences_are_those_of_loops_and_the_test_is_scipy_s():
    def kl(found, seed):
        total = 0.0
        for name, oracles in ORACLES.items():
            for x in range(oracles.shape[1]):
                for z in oracles[:, x]:
                    p, q = (np.exp(v) / np.exp(v).sum() for v in (z, found.models[name][seed, x]))
                    total += sum(p * np.log(p / q)) / (len(oracles) * oracles.shape[1])
        return total

    each = [[kl(found, seed) for seed in range(5)] for found in (FIRST, SECOND)]
    found = paired.divergence_difference(FIRST, SECOND)
    assert found.value == pytest.approx(np.mean(each[0]) - np.mean(each[1]))
    expected = stats.ttest_rel(*each)
    assert found.probability == pytest.approx(expected.pvalue)
    assert found.standard_error == pytest.approx(found.value / expected.statistic)


def test_of_the_same_models_there_is_no_difference_and_of_few_no_error():
    for found in (paired.energy_difference(FIRST, FIRST), paired.divergence_difference(FIRST, FIRST)):
        assert found == (0, 0, 1)
    few = paired.Outputs({name: array[:2] for name, array in FIRST.models.items()}, ORACLES)
    for found in (paired.energy_difference(few, few), paired.divergence_difference(few, few)):
        assert found == (0, None, None)
    with pytest.raises(ValueError, match="seeds and oracles must be as many"):
        paired.energy_difference(FIRST, few)
    with pytest.raises(ValueError, match="seeds must be as many, got 5 and 2"):
        paired.divergence_difference(FIRST, few)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_rejects_what_the_closed_procedure_of_bonferroni_rejects(probabilities):
    """A hypothesis falls at a level where every set that has it is rejected by Bonferroni."""
    number = len(probabilities)
    expected = [
        max(
            min(1.0, len(some) * min(probabilities[i] for i in some))
            for size in range(1, number + 1)
            for some in itertools.combinations(range(number), size)
            if one in some
        )
        for one in range(number)
    ]
    assert paired.holm(probabilities) == pytest.approx(expected)
    assert paired.holm([None, *probabilities])[1:] == pytest.approx(expected)


def test_the_answer_says_what_is_beyond_noise_and_what_was_lost():
    def comparison(sampling, value, probability):
        own = paired.Difference(value, 0.1, probability)
        return buffer_sampling.Comparison("classes", sampling, dict.fromkeys(buffer_sampling.MEASURES, own))

    def told(*compared):
        own = [buffer_sampling._probability(each, "KL") for each in compared]
        return buffer_sampling.said(list(compared), dict.fromkeys(buffer_sampling.MEASURES, paired.holm(own)))

    nothing = told(comparison("loss", -0.1, 0.3), comparison("entropy", 0.1, 0.4))
    assert "none is nearer than uniform and none is farther" in nothing and ".600" in nothing
    both = told(comparison("loss", -0.5, 0.001), comparison("entropy", 0.5, 0.002))
    assert "nearer to the oracles than uniform: loss by matched E (classes, -.500 ±.100 (.002))" in both
    assert "farther: entropy by" in both
    lost = buffer_sampling.Comparison("random", "loss", None)
    assert "Seeds were lost by random, loss" in told(lost, comparison("entropy", 0.5, 0.002))
    assert "three or more seeds" in told(lost)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--samplings", "uniform"), "samplings has uniform, which all are compared with anyway"),
        (("--samplings", "loss", "loss"), "must be one or more different ones of"),
        (("--regimes", "memorised"), "--regimes"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(words, told, tmp_path, capsys):
    assert buffer_sampling.run([*words, "--run-dir", str(tmp_path / "run")]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
