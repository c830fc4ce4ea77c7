"""Measures of two distributions of models, against loops, closed forms, and what smoothing does to them."""

import itertools
import math

import numpy as np
import pytest
import reference

from ugclu_jax.evidence import energy_distance, gaussian_klom, klom, margins, matched_energy_distance


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def hellinger(a, b):
    p, q = softmax(a), softmax(b)
    return math.sqrt(sum((math.sqrt(x) - math.sqrt(y)) ** 2 for x, y in zip(p, q, strict=True)) / 2)


def by_loops(models, oracles):
    """The statistic of each input, pair by pair."""
    found = []
    for x in range(len(models[0])):
        across = np.mean([hellinger(m[x], o[x]) for m, o in itertools.product(models, oracles)])
        own = [np.mean([hellinger(a[x], b[x]) for a, b in itertools.permutations(s, 2)]) for s in (models, oracles)]
        found.append(2 * across - sum(own))
    return found


def draws(seed, *shape):
    return 2 * np.random.default_rng(seed).normal(size=shape)


def test_the_energy_distance_is_that_of_loops_and_its_error_the_jackknifes():
    models, oracles = draws(0, 4, 6, 3), draws(1, 5, 6, 3) + np.array([1.0, 0.0, 0.0])
    found = energy_distance(models, oracles)
    np.testing.assert_allclose(found.per_example, by_loops(models, oracles), rtol=1e-10)
    assert found.value == pytest.approx(np.mean(found.per_example))
    variance = 0.0
    for side, other in ((models, oracles), (oracles, models)):
        left = [np.mean(by_loops(np.delete(side, i, 0), other)) for i in range(len(side))]
        variance += (len(side) - 1) / len(side) * np.sum((np.array(left) - np.mean(left)) ** 2)
    # What a set does not share with the one that is left out from is a constant of the jackknife.
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)
    swapped = energy_distance(oracles, models)
    assert swapped.value == pytest.approx(found.value) and swapped.standard_error == pytest.approx(found.standard_error)


def test_two_classes_that_each_is_sure_of_are_as_far_as_can_be():
    sure = np.array([[[800.0, 0.0]]] * 3)
    assert energy_distance(sure, -sure).value == pytest.approx(2.0)
    assert energy_distance(sure, sure) == (0.0, 0.0, [0.0])
    assert math.isnan(energy_distance(sure[:2], sure).standard_error)


def test_pairs_of_one_seed_are_left_out():
    """Where models are the oracles themselves all terms have the same pairs: E is 0, and −2/M of them without."""
    models, oracles = draws(0, 5, 6, 3), draws(1, 5, 6, 3) + np.array([1.0, 0.0, 0.0])
    found = energy_distance(models, oracles, same_seeds=True)
    assert found.value == pytest.approx(reference.energy(models, oracles, same_seeds=True))
    left = [reference.energy(np.delete(models, i, 0), np.delete(oracles, i, 0), True) for i in range(5)]
    assert found.standard_error == pytest.approx(math.sqrt(4 / 5 * np.sum((np.array(left) - np.mean(left)) ** 2)))
    same = energy_distance(models, models, same_seeds=True)
    assert abs(same.value) < 1e-9 and same.standard_error < 1e-9
    pairs = [hellinger(a[x], b[x]) for a, b in itertools.permutations(models, 2) for x in range(6)]
    assert energy_distance(models, models).value == pytest.approx(-2 * np.mean(pairs) / 5, abs=1e-7)
    assert math.isnan(energy_distance(models[:2], oracles[:2], same_seeds=True).standard_error)
    test = draws(2, 5, 50, 3)
    assert abs(matched_energy_distance(models, models, test, test, same_seeds=True).value) < 0.05
    with pytest.raises(ValueError, match="same_seeds with 5 models and 4 oracles"):
        energy_distance(models, oracles[:4], same_seeds=True)


def test_seeds_that_resemble_each_other_bias_only_what_keeps_their_pairs():
    """Models of the oracles' distribution that share half of their noise with the oracle of their number."""
    rng = np.random.default_rng(5)
    kept, left, apart = [], [], []
    for _ in range(200):
        shared, first, second = rng.normal(size=(3, 4, 10, 3))
        models, oracles = 1.5 * (shared + first), 1.5 * (shared + second)
        kept.append(energy_distance(models, oracles).value)
        left.append(energy_distance(models, oracles, same_seeds=True))
        apart.append(energy_distance(models, 1.5 * rng.normal(size=(4, 10, 3)) * 2**0.5, same_seeds=True).value)
    for values in ([one.value for one in left], apart):
        assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert np.mean(kept) < -8 * np.std(kept) / 200**0.5


@pytest.mark.parametrize("same_seeds", [False, True])
@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 1.1, 2.0), (2.0, 0.9, 1.5)])
def test_the_jackknife_is_not_too_small(same_seeds, shift, least, most):
    """Against the spread over draws, which 150 of them know to 6 %; at E = 0 the statistic is degenerate."""
    rng, found = np.random.default_rng(6), []
    for _ in range(150):
        noise = 1.5 * rng.normal(size=(3, 8, 10, 3))
        models, oracles = noise[1:] + same_seeds * noise[0]
        found.append(energy_distance(models + np.array([shift, 0, 0]), oracles, same_seeds=same_seeds))
    errors, values = ([one[i] for one in found] for i in (1, 0))
    assert least < np.mean(errors) / np.std(values) < most


def test_sure_models_by_counting():
    """Models sure of class 0 or of class 1, where distances are 0 or 1: shares p, q of class 1 give closed forms."""
    sure = np.array([[[60.0, 0.0]], [[0.0, 60.0]]])
    models, oracles = sure[[0, 1, 1, 1]], sure[[0, 0, 1]]
    across, within, among = 3 / 4 * 2 / 3 + 1 / 4 * 1 / 3, 2 * 3 / 12, 2 * 2 / 6
    assert energy_distance(models, oracles).value == pytest.approx(2 * across - within - among, abs=1e-6)


def test_a_fresh_oracle_is_at_nothing_and_smoothing_is_not():
    rng = np.random.default_rng(3)
    centre = rng.normal(size=(400, 4)) * 2
    oracles, fresh, others = (centre + 1.5 * rng.normal(size=(8, 400, 4)) for _ in range(3))
    at_nothing = energy_distance(fresh, oracles)
    assert abs(at_nothing.value) < 4 * at_nothing.standard_error < 0.02
    mean = np.log(np.mean([np.exp(o - np.logaddexp.reduce(o, axis=1, keepdims=True)) for o in others], axis=0))
    smooth = {
        "logits halved": fresh / 2,
        "one mean of oracles": np.stack([mean] * 8),
        "means of three": np.stack([np.mean(others[[i, (i + 1) % 8, (i + 2) % 8]], axis=0) for i in range(8)]),
        "two nats for the first class": fresh + np.array([2.0, 0.0, 0.0, 0.0]),
    }
    for name, models in smooth.items():
        found = energy_distance(models, oracles)
        assert found.value > 0.02 + 5 * at_nothing.standard_error, name


def test_matching_takes_confidence_away_and_nothing_else():
    rng = np.random.default_rng(4)
    centre = rng.normal(size=(400, 4)) * 2
    oracles, sure = (centre + 1.5 * rng.normal(size=(8, 400, 4)) for _ in range(2))
    models = 0.4 * sure
    assert energy_distance(models, oracles).value > 0.03
    assert abs(matched_energy_distance(models, oracles, models, oracles).value) < 0.01
    shifted = models + np.array([1.0, 0.0, 0.0, 0.0])
    assert matched_energy_distance(shifted, oracles, models, oracles).value > 0.03
    with pytest.raises(ValueError, match=r"test_models\[0\] has mean entropy 1.39 and the oracles .*: no temperature"):
        matched_energy_distance(models, oracles, models * 0, oracles)


@pytest.mark.parametrize(
    ("models", "oracles", "message"),
    [
        (np.zeros((1, 2, 3)), np.zeros((2, 2, 3)), r"models is of shape \[1, 2, 3\].*two models or more"),
        (np.zeros((2, 3)), np.zeros((2, 2, 3)), r"models is of shape \[2, 3\]"),
        (np.zeros((2, 0, 3)), np.zeros((2, 0, 3)), r"models is of shape \[2, 0, 3\]"),
        (np.zeros((2, 2, 3)), np.zeros((2, 2, 4)), r"models are \[2, 2, 3\] and oracles \[2, 2, 4\]"),
        (np.full((2, 2, 3), np.nan), np.zeros((2, 2, 3)), r"models\[0\] has logits that are not finite"),
    ],
)
def test_what_is_no_set_of_models_is_refused(models, oracles, message):
    with pytest.raises(ValueError, match=message):
        energy_distance(models, oracles)


def test_a_margin_is_the_logit_of_the_probability():
    logits, labels = draws(5, 3, 7, 4), np.arange(7) % 4
    for m, x in itertools.product(range(3), range(7)):
        p = softmax(logits[m, x])[labels[x]]
        assert margins(logits, labels)[m, x] == pytest.approx(math.log(p / (1 - p)))
    assert margins([[[500.0, 0.0]]], [0]).tolist() == [[100.0]]
    for labels in ([0.0], [[0]], [2], [-1]):
        with pytest.raises(ValueError, match="labels"):
            margins(np.zeros((1, 1, 2)), labels)


def of_margins(values):
    """Two-class logits of which the first class has these margins, [models, examples, 2]."""
    return np.stack([values, np.zeros_like(values)], axis=-1)


def test_klom_is_biased_as_published_and_its_gaussian_form_less():
    """Two samples of one normal: the finite-sample values, from a mean over a thousand examples."""
    rng = np.random.default_rng(0)
    labels = np.zeros(1000, int)
    for number, published, gaussian in ((16, 3.9, 0.15), (64, 0.63, 0.033), (100, 0.35, None)):
        models, oracles = (of_margins(rng.normal(size=(number, 1000))) for _ in range(2))
        assert np.mean(klom(models, oracles, labels)) == pytest.approx(published, rel=0.12)
        if gaussian is not None:
            assert np.mean(gaussian_klom(models, oracles, labels)) == pytest.approx(gaussian, rel=0.12)


def test_klom_of_a_histogram_by_hand():
    """Margins 0 and 1 in the first and in the last of 20 bins, the largest value in the last."""
    models, oracles = (of_margins(np.array(values)[:, None]) for values in ([0.0, 0, 0, 1], [0.0, 1, 1, 1]))
    expected = 0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.75)
    assert klom(models, oracles, [0]).tolist() == pytest.approx([expected])
    apart = klom(of_margins(np.zeros((4, 1))), of_margins(np.ones((4, 1))), [0])
    assert apart.tolist() == pytest.approx([math.log(1 / 1e-5)])
    assert klom(models[:1], models[:1], [0]).tolist() == [0.0]


def test_gaussian_klom_is_the_divergence_of_two_normals():
    p, q = np.array([[-1.0], [1.0], [3.0]]), np.array([[0.0], [2.0], [7.0]])
    (mean_p, std_p), (mean_q, std_q) = ((v.mean(), v.std(ddof=1)) for v in (p, q))
    expected = math.log(std_q / std_p) + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5
    assert gaussian_klom(of_margins(p), of_margins(q), [0]).tolist() == pytest.approx([expected])
    still = of_margins(np.ones((3, 1)))
    assert gaussian_klom(still, still, [0]).tolist() == [0.0]
    assert gaussian_klom(still, of_margins(q), [0]).tolist() == [math.inf]
    with pytest.raises(ValueError, match="1 models and 3 oracles"):
        gaussian_klom(still[:1], still, [0])
