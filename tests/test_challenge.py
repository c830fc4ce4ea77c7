"""Forgetting quality against every attacker tried in loops, against counts by hand, and on equal distributions."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.evidence import challenge_score, forgetting_quality

DELTA = 1e-5


def of_margins(values):
    values = np.asarray(values, float)
    return np.stack([values, np.zeros_like(values)], axis=-1)


def quality(models, oracles, delta=DELTA):
    """Of one example with these margins."""
    return forgetting_quality(of_margins(models)[:, None], of_margins(oracles)[:, None], [0], delta)


@pytest.mark.parametrize("seed", range(12))
def test_the_best_attacker_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    sizes, spread = rng.integers(3, 11, 2), [0.3, 1.0, 4.0][seed % 3]
    models, oracles = rng.normal(rng.normal(), spread, sizes[0]), rng.normal(0, rng.uniform(0.3, 3), sizes[1])
    found = quality(models, oracles).epsilon[0]
    assert found == pytest.approx(reference.challenge_epsilon(models, oracles, DELTA), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=3, max_size=7), st.lists(st.integers(-5, 5), min_size=3, max_size=7))
def test_ties_are_decided_alike(models, oracles):
    models, oracles = np.array(models) * 0.75, np.array(oracles) * 0.75  # no edge 2 nats away is a value
    found = quality(models, oracles)
    assert found.epsilon[0] == pytest.approx(reference.challenge_epsilon(models, oracles, DELTA), abs=1e-9)
    assert found.value == found.points[0] == 2.0 ** -math.floor(found.epsilon[0] / 0.5)
    assert quality(oracles, models).epsilon[0] == found.epsilon[0] or np.median(models) == np.median(oracles)


def test_two_values_by_hand():
    """Three of four here, one of four there: FPR = FNR = ¼."""
    found = quality([1, 1, 1, 0], [1, 0, 0, 0])
    assert found.epsilon[0] == pytest.approx(math.log((1 - DELTA - 0.25) / 0.25))
    assert found.points[0] == 0.25  # ln 3 = 1.0986 lies in the third half
    assert quality([1, 1, 1, 0], [1, 0, 0, 0], delta=0.2).epsilon[0] == pytest.approx(math.log(0.55 / 0.25))


def test_what_is_apart_or_narrow_costs_fifty_and_equal_nothing():
    spread = np.linspace(-1, 1, 8)
    for models, oracles in ((spread + 5, spread), (spread, spread + 5), (spread * 0.009, spread)):
        assert quality(models, oracles).epsilon[0] == 50 and quality(models, oracles).value == 2.0**-100
    # A single threshold tells nothing of these two, a double one all.
    around = np.r_[spread - 4, spread + 4]
    assert quality(np.repeat(spread, 2), around).epsilon[0] == 50
    for models, oracles in ((np.ones(4), np.ones(4)), (np.zeros(3), np.zeros(5))):
        assert quality(models, oracles).epsilon[0] == 0 and quality(models, oracles).value == 1
    assert quality(np.ones(4), np.zeros(4)).epsilon[0] == 50


def test_an_attacker_without_one_kind_of_error_is_left_out():
    """Half of the models are beyond all oracles: FPR = 0 and FNR = ½ would say ε = ∞."""
    models, oracles = np.r_[np.full(4, 9.0), np.zeros(4)], np.r_[np.full(2, -3.0), np.zeros(6)]
    assert quality(models, oracles).epsilon[0] == pytest.approx(
        reference.challenge_epsilon(models, oracles, DELTA), abs=1e-9
    )
    assert quality(models, oracles).epsilon[0] < math.log(8)


def test_samples_of_one_distribution_do_not_reach_one():
    """The values of the docstring, for who reads a number of his own."""
    rng = np.random.default_rng(0)
    for number, expected in ((16, 0.16), (64, 0.19)):
        models, oracles = (of_margins(rng.normal(size=(number, 300))) for _ in range(2))
        found = forgetting_quality(models, oracles, np.zeros(300, int))
        assert found.value == pytest.approx(expected, abs=0.03) and found.epsilon.max() < math.log(number)
        assert forgetting_quality(models + np.array([2, 0]), oracles, np.zeros(300, int)).value < found.value / 2


def test_as_many_as_in_the_challenge():
    rng = np.random.default_rng(0)
    models, oracles = (of_margins(rng.normal(size=(512, 40))) for _ in range(2))
    assert forgetting_quality(models, oracles, np.zeros(40, int)).value == pytest.approx(0.195, abs=0.03)


def test_refusals():
    with pytest.raises(ValueError, match="delta is 1"):
        quality([0, 1], [0, 1], 1)
    with pytest.raises(ValueError, match="two models or more"):
        quality([0], [0, 1])
    with pytest.raises(ValueError, match="labels reach 2"):
        forgetting_quality(np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), [2])


def test_the_score_is_discounted_by_what_is_lost():
    assert challenge_score(0.4, 0.9, 0.8, 0.9, 0.8) == pytest.approx(0.4)
    assert challenge_score(0.4, 0.45, 0.4, 0.9, 0.8) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="oracle_test 0"):
        challenge_score(0.4, 0.9, 0.8, 0.9, 0.0)
    with pytest.raises(ValueError, match="quality is 40"):
        challenge_score(40.0, 0.9, 0.8, 0.9, 0.8)
