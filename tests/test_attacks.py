"""RMIA and U-LiRA against loops and what normals allow; curves and intervals against scikit-learn and SciPy."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from ugclu_jax.evidence import rmia, roc, true_positives_at, u_lira


def of_margins(values):
    """Two-class logits of which the first class has these margins, [models, examples, 2]."""
    return np.stack([values, np.zeros_like(values)], axis=-1)


def draws(seed, *shape):
    return 2 * np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("a", "gamma"), [(0.3, 1.0), (0.0, 2.0), (1.0, 0.7)])
def test_rmia_is_that_of_loops(a, gamma):
    models, references, population, of_references = (
        draws(i, *shape) for i, shape in enumerate([(3, 8, 4), (2, 8, 4), (3, 30, 4), (2, 30, 4)])
    )
    labels, of_population = np.arange(8) % 4, np.arange(30) % 4
    found = rmia(models, references, labels, population, of_references, of_population, a=a, gamma=gamma)
    for m in range(3):
        others = (references, labels, population[m], of_references, of_population)
        assert found[m].tolist() == pytest.approx(reference.rmia(models[m], *others, a, gamma))
        assert rmia(models[m], *others, a=a, gamma=gamma).tolist() == found[m].tolist()


def test_a_model_that_is_its_reference_scores_by_gamma_alone():
    logits, labels = draws(0, 5, 3), [0] * 5
    for gamma, score in ((1.0, 0.0), (0.99, 1.0)):
        assert (
            rmia(logits, logits[None], labels, logits, logits[None], labels, a=1.0, gamma=gamma).tolist() == [score] * 5
        )
    far = of_margins(np.array([[-2000.0, 0.0]]))[0]  # a probability that no float has
    assert rmia(far, far[None], [0, 0], far[1:], far[None, 1:], [0], a=1.0, gamma=0.99).tolist() == [1.0, 1.0]


def test_rmia_scores_rise_with_the_probability_and_fall_with_gamma():
    references, population, of_references = draws(1, 3, 1, 2), draws(2, 60, 2), draws(3, 3, 60, 2)
    scores = [
        [rmia([[z, 0.0]], references, [0], population, of_references, [0] * 60, gamma=g)[0] for z in range(-4, 5)]
        for g in (0.5, 1.0, 2.0)
    ]
    assert (np.diff(scores, axis=1) >= 0).all() and (np.diff(scores, axis=0) <= 0).all() and np.ptp(scores) > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": 1.1}, "a is 1.1"),
        ({"gamma": 0.0}, "gamma is 0"),
        ({"population": np.zeros((3, 4, 2))}, "models are 2 and population of 3"),
        ({"population_references": np.zeros((2, 4, 2))}, "references are 1 and population_references of 2"),
        ({"references": np.zeros((1, 4, 2))}, r"models are \[2, 5, 2\] and references \[1, 4, 2\]"),
        ({"labels": [2] * 5}, "labels reach 2"),
    ],
)
def test_rmia_refuses(change, message):
    fine = {
        "models": np.zeros((2, 5, 2)),
        "references": np.zeros((1, 5, 2)),
        "labels": [0] * 5,
        "population": np.zeros((2, 4, 2)),
        "population_references": np.zeros((1, 4, 2)),
        "population_labels": [0] * 4,
    }
    with pytest.raises(ValueError, match=message):
        rmia(**fine | change)


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6)])
def test_u_lira_is_that_of_loops(sizes):
    models, oracles, labels = draws(0, sizes[0], 3, 4), draws(1, sizes[1], 3, 4), [1, 3, 0]
    members, others = u_lira(models, oracles, labels)
    for x, y in enumerate(labels):
        unlearned, never = ([reference.margin(z[x], y) for z in side] for side in (models, oracles))
        for i, value in enumerate(unlearned):
            rest = [v for j, v in enumerate(never) if j != i % len(never)]
            expected = reference.likelihood_ratio(value, unlearned[:i] + unlearned[i + 1 :], rest)
            assert members[i, x] == pytest.approx(expected)
        for i, value in enumerate(never):
            rest = [v for j, v in enumerate(unlearned) if j != i % len(unlearned)]
            expected = reference.likelihood_ratio(value, rest, never[:i] + never[i + 1 :])
            assert others[i, x] == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_u_lira_reaches_what_two_normals_allow(shift):
    """The best attacker on N(δ, 1) against N(0, 1) has the area Φ(δ / √2)."""
    rng = np.random.default_rng(0)
    models, oracles = (of_margins(mean + rng.normal(size=(96, 400))) for mean in (shift, 0.0))
    # Two independent areas of 400 examples each would be within .005; few networks cost another .005.
    assert roc(*u_lira(models, oracles, np.zeros(400, int))).auc == pytest.approx(norm.cdf(shift / 2**0.5), abs=0.015)


def test_u_lira_of_one_distribution_is_a_guess_however_few():
    """Both sides are fitted to as many networks: no side scores higher for the number of its samples."""
    rng = np.random.default_rng(1)
    models, oracles = (of_margins(rng.normal(size=(4, 20_000))) for _ in range(2))
    assert roc(*u_lira(models, oracles, np.zeros(20_000, int))).auc == pytest.approx(0.5, abs=0.008)


def test_networks_that_all_say_the_same():
    still = of_margins(np.ones((3, 2)))
    assert [part.tolist() for part in u_lira(still, still, [0, 0])] == [[[0.0, 0.0]] * 3] * 2
    apart = u_lira(still, of_margins(np.array([[-1.0], [0.0], [0.5]]))[:, [0, 0]], [0, 0])
    assert roc(*apart).auc == 1.0 and np.isfinite(apart.members).all()
    with pytest.raises(ValueError, match=r"models is of shape \[2, 2, 2\].*three models or more"):
        u_lira(still[:2], still, [0, 0])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_the_area_is_mann_and_whitneys_with_ties_at_one_half(members, others):
    curve = roc(members, others)
    won = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert curve.auc == pytest.approx(np.mean(won))
    for t, tpr, fpr in zip(curve.thresholds, curve.tpr, curve.fpr, strict=True):
        assert tpr == pytest.approx(np.mean(np.array(members) >= t)) and fpr == pytest.approx(
            np.mean(np.array(others) >= t)
        )


def test_the_curve_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score, roc_curve

    rng = np.random.default_rng(2)
    members, others = rng.integers(0, 40, (3, 20)) + 5, rng.integers(0, 40, 50)
    labels, scores = np.repeat([1, 0], [60, 50]), np.r_[members.ravel(), others]
    curve = roc(members, others)
    for own, theirs in zip(curve[:3], roc_curve(labels, scores, drop_intermediate=False), strict=True):
        np.testing.assert_allclose(own, theirs)
    assert curve.auc == pytest.approx(roc_auc_score(labels, scores)) and curve[4:] == (60, 50)


def test_infinite_scores_are_scores():
    curve = roc([math.inf, 0.0], [-math.inf, 0.0])
    assert curve.auc == 0.875 and curve.tpr.tolist() == [0.0, 0.5, 1.0, 1.0] and curve.fpr[-2:].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("found", [0, 1, 7, 30])
def test_intervals_are_scipys_exact_ones(found):
    members = np.r_[np.full(found, 9.0), np.full(30 - found, -1.0)]
    for rate, false in ((0.01, 2), (0.001, 0)):
        others = np.r_[np.full(false, 10.0), np.zeros(1000 - false)]  # up to 10 may stand above the threshold
        got = true_positives_at(roc(members, others), rate)
        exact = binomtest(found, 30).proportion_ci(0.95, "exact")
        assert got == pytest.approx((found / 30, exact.low, exact.high))


def test_a_rate_takes_no_more_false_positives_than_it_says():
    members, others = np.arange(100) + 0.5, np.r_[np.full(2, 90.0), np.zeros(98)]
    assert true_positives_at(roc(members, others), 0.01).rate == 0.1  # two false positives stand at 90
    assert true_positives_at(roc(members, others), 0.02).rate == 1.0
    assert true_positives_at(roc([1.0] * 5, [1.0] * 100), 0.01).rate == 0.0  # all tied


def test_too_few_non_members_resolve_no_rate():
    assert all(math.isnan(value) for value in true_positives_at(roc([1.0], [0.0] * 999), 0.001))
    assert true_positives_at(roc([1.0], [0.0] * 1000), 0.001).rate == 1.0
    for fpr in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="fpr is"):
            true_positives_at(roc([1.0], [0.0]), fpr)
    for scores in ([], [math.nan]):
        with pytest.raises(ValueError, match="members has"):
            roc(scores, [0.0])
