"""What a study says of two numbers, against NumPy, and the arithmetic of its answers on rows made here."""

import math

import numpy as np
import pytest

from experiments import saliency_threshold
from ugclu_jax.report.compared import Measured, difference, lowest, of_row, of_statistic, told
from ugclu_jax.report.evidence import Energy, Pair
from ugclu_jax.report.metrics import Numbers
from ugclu_jax.report.ranking import Row
from ugclu_jax.report.summaries import statistic


def row_of(value: float, error: float = 0.01, *, kl: tuple[float, ...] = (1.0, 1.5), unfinished: int = 0) -> Row:
    """A method whose distances are halves of these on both sides."""
    half = Energy(value / 2, error / 2)
    pair = Pair(half, half)
    return Row("m", statistic(list(kl)), None, Numbers(), 2, unfinished, 0, pair, pair, pair)


def test_standard_errors_are_numpy_s():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 0.2, 7), rng.normal(0.4, 0.1, 5)
    found = difference(of_statistic(statistic(list(a))), of_statistic(statistic(list(b))))
    assert found.value == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(a.var(ddof=1) / 7 + b.var(ddof=1) / 5), rel=1e-12)
    assert found.beyond_noise == (abs(a.mean() - b.mean()) > 2 * found.standard_error)


def test_one_seed_and_what_is_not_finite_decide_nothing():
    assert of_statistic(statistic([0.5])) == Measured(0.5, None)
    assert not difference(Measured(9.0, None), Measured(0.0, 0.1)).beyond_noise
    assert of_statistic(statistic([0.5, math.nan])) is None
    assert of_statistic(None) is None


def test_a_method_that_lost_a_seed_has_no_distance():
    assert of_row(row_of(0.3)) == Measured(0.3, 0.01)
    assert of_row(row_of(0.3), "KL").value == 1.25
    assert of_row(row_of(0.3, unfinished=1)) is None
    assert of_row(row_of(0.3, unfinished=1), "KL") is None
    assert of_row(row_of(0.3)._replace(matched=None)) is None


def test_the_lowest_is_of_those_that_have_a_value():
    assert lowest({"a": Measured(0.5, 0.1), "b": None, "c": Measured(0.25, 0.1)}) == "c"
    assert lowest({"a": None}) is None


def test_what_is_told_has_the_sign_of_the_difference():
    assert told(Measured(0.5, 0.01), Measured(0.1, 0.01)).startswith("farther by .400")
    assert told(Measured(0.1, 0.01), Measured(0.5, 0.01)).startswith("nearer by .400")
    assert told(Measured(0.1, 0.01), Measured(0.11, 0.01)).startswith("no difference beyond noise, -.010")


def test_the_mask_s_verdict_names_the_nearest_the_farthest_and_the_lost():
    masks = {"hard, γ 1": row_of(0.1), "hard, γ 10": row_of(0.6), "soft, γ 1": row_of(0.2, unfinished=1)}
    text = saliency_threshold.verdict(masks, row_of(0.3))
    assert "nearest of 2 masks (hard, γ 1) .100 ±.010: nearer by .200 ±.014" in text
    assert "farthest (hard, γ 10) .600 ±.010: farther by .300" in text
    assert "seeds were lost with soft, γ 1" in text
    assert "every cell lost seeds" in saliency_threshold.verdict({"hard, γ 1": None}, row_of(0.3))


def test_the_straight_through_mask_is_compared_with_the_hard_one_of_its_threshold():
    masks = {"hard, γ 1": row_of(0.25), "hard, γ 10": row_of(0.5), "straight_through, γ 1": row_of(0.25)}
    assert saliency_threshold.forward(masks) == "; at γ 1 the straight-through mask scores as the hard one"
    masks["straight_through, γ 1"] = row_of(0.5)
    assert ".250 ±.014 from the hard one" in saliency_threshold.forward(masks)
    assert saliency_threshold.forward({"hard, γ 1": row_of(0.5)}) == ""


def test_where_a_density_rises_with_the_threshold_is_told():
    of = {0.1: {"a": Measured(0.5, 0.0)}, 1.0: {"a": Measured(0.75, 0.0)}, 10.0: {"a": Measured(0.25, 0.0)}}
    assert "rises somewhere in a." in saliency_threshold.falls({"classes": of})
    assert "rises in no layer" in saliency_threshold.falls({"classes": {k: of[k] for k in (0.1, 10.0)}})
