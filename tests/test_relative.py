"""The relative test against all exchanges of labels, one by one, and its level under its null."""

import itertools

import numpy as np
import pytest
import reference

from ugclu_jax.evidence import relative_test

SHIFT = np.array([3.0, 0.0, 0.0])


def draws(rng, *shape):
    return rng.normal(size=shape)


def test_distances_and_p_are_those_of_loops():
    rng = np.random.default_rng(0)
    models, oracles, before = draws(rng, 3, 2, 3) + 0.4 * SHIFT, draws(rng, 4, 2, 3), draws(rng, 3, 2, 3) + SHIFT
    found = relative_test(models, oracles, before, permutations=4000, seed=1)
    assert found.to_oracles == pytest.approx(reference.energy(models, oracles))
    assert found.to_before == pytest.approx(reference.energy(models, before))
    pool, statistics = np.concatenate([models, before]), []
    for chosen in itertools.combinations(range(6), 3):
        after, rest = pool[list(chosen)], np.delete(pool, chosen, 0)
        statistics.append(reference.energy(after, rest) - reference.energy(after, oracles))
    exact = np.mean(np.array(statistics) >= statistics[0] - 1e-9)
    assert 0.05 < exact < 0.95, "or the comparison says nothing"
    # 4000 draws: five standard deviations.
    assert found.p_value == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 4000) ** 0.5 + 1 / 4000)


def test_a_fresh_oracle_passes_and_doing_nothing_fails():
    rng = np.random.default_rng(1)
    oracles, fresh, before, again = draws(rng, 4, 6, 30, 3)
    passed = relative_test(fresh, oracles, before + SHIFT, seed=0)
    assert passed.nearer and passed.p_value < 0.02 and abs(passed.to_oracles) < 0.05
    for nothing in (before + SHIFT, again + SHIFT):  # the same networks, or others that were trained alike
        failed = relative_test(nothing, oracles, before + SHIFT, seed=0)
        assert not failed.nearer and failed.p_value > 0.05


def test_part_of_the_way_is_a_small_p_and_not_nearer():
    rng = np.random.default_rng(2)
    oracles, models, before = draws(rng, 3, 6, 60, 3)
    found = relative_test(models + 0.75 * SHIFT, oracles, before + SHIFT, seed=0)
    assert found.p_value < 0.01 and not found.nearer


def test_under_the_null_p_is_below_a_level_no_more_often_than_it_says():
    rng = np.random.default_rng(3)
    found = [
        relative_test(
            *draws(rng, 3, 4, 2, 3) + np.array([1, 0, 1])[:, None, None, None], permutations=99, seed=i
        ).p_value
        for i in range(200)
    ]
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found) <= level)
        assert share < level + 4 * (level * (1 - level) / 200) ** 0.5
    assert np.mean(np.array(found) <= 0.5) > 0.35, "nor much less often: the test is not idle"


def test_one_seed_one_answer_and_refusals():
    rng = np.random.default_rng(4)
    models, oracles, before = draws(rng, 3, 3, 2, 3)
    assert relative_test(models, oracles, before, seed=5) == relative_test(models, oracles, before, seed=5)
    with pytest.raises(ValueError, match="permutations is 0"):
        relative_test(models, oracles, before, permutations=0, seed=0)
    with pytest.raises(ValueError, match=r"before is of shape \[1, 2, 3\]"):
        relative_test(models, oracles, before[:1], seed=0)
    with pytest.raises(ValueError, match=r"models are \[3, 2, 3\] and before \[3, 1, 3\]"):
        relative_test(models, oracles, before[:, :1], seed=0)
