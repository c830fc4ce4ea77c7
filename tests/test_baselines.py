"""What may pass for unlearning, the gaps, and the measures over a stream: by hand and by what defines them."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from ugclu_jax import metrics
from ugclu_jax.evidence import (
    Rates,
    average_gap,
    cool,
    energy_distance,
    erosion,
    mask_logits,
    matched_energy_distance,
    mean_of_oracles,
    plasticity,
    reversal,
    tow,
    tow_mia,
)


def draws(seed, *shape):
    return 2 * np.random.default_rng(seed).normal(size=shape)


def test_a_mask_removes_a_class_and_leaves_the_others_odds():
    logits, removed = draws(0, 3, 5, 4), [1, 3]
    masked = mask_logits(logits, removed)
    assert (softmax(masked, axis=-1)[..., removed] < 1e-21).all() and np.isfinite(log_softmax(masked, axis=-1)).all()
    kept = softmax(logits, axis=-1)[..., [0, 2]]
    np.testing.assert_allclose(softmax(masked, axis=-1)[..., [0, 2]], kept / kept.sum(-1, keepdims=True))
    assert (mask_logits(logits, []) == logits).all() and (mask_logits(masked, removed) == masked).all()
    divergence = metrics.kl_divergence(logits[0], masked[0])
    gone = softmax(logits[0], axis=-1)[:, removed].sum(1)
    np.testing.assert_allclose(divergence, entropy(softmax(logits[0], axis=-1), softmax(masked[0], axis=-1), axis=-1))
    assert (divergence > 40 * gone).all(), "a class that an oracle expects is paid for"
    assert 0 < energy_distance(masked, logits).value < 2


def test_a_mask_holds_at_the_largest_float32():
    masked = mask_logits(np.float32([[3e38, 3e38]]), [0])
    assert np.isfinite(masked).all() and softmax(mask_logits([[1e8, 0.0]], [0]))[0, 1] == 1.0


@pytest.mark.parametrize(
    ("logits", "removed", "message"),
    [
        ([[0.0, 1.0]], [0, 1], "removed are all 2 classes"),
        ([[0.0, 1.0]], [2], "removed has 2"),
        ([[0.0, np.nan]], [0], "finite"),
        (0.0, [0], "shape"),
    ],
)
def test_what_cannot_be_masked_is_refused(logits, removed, message):
    with pytest.raises(ValueError, match=message):
        mask_logits(logits, removed)


def test_cooling_matches_the_entropy_and_undoes_a_temperature():
    models, test, oracles = draws(0, 3, 5, 4), draws(1, 3, 200, 4), draws(2, 4, 200, 4)
    hot = np.array([0.5, 1.0, 3.0])[:, None, None]
    cooled = cool(test * hot, test * hot, oracles)
    wanted = entropy(softmax(oracles, axis=2), axis=2).mean()
    assert entropy(softmax(cooled, axis=2), axis=2).mean(1) == pytest.approx([wanted] * 3, rel=1e-9)
    np.testing.assert_allclose(cool(models * hot, test * hot, oracles), cool(models, test, oracles), rtol=1e-9)
    one = draws(3, 1, 200, 4)
    np.testing.assert_allclose(cool(one / 3, one / 3, one), one, rtol=1e-9)
    matched = matched_energy_distance(models * hot, draws(4, 4, 5, 4), test * hot, oracles)
    assert matched.value == pytest.approx(energy_distance(cool(models, test, oracles), draws(4, 4, 5, 4)).value)
    with pytest.raises(ValueError, match="models are 3 and test_models 2"):
        cool(models, test[:2], oracles)


def test_nothing_is_nearer_to_the_oracles_by_kl_than_their_mean():
    oracles = draws(0, 5, 7, 3)
    mean = mean_of_oracles(oracles)
    np.testing.assert_allclose(np.exp(mean), softmax(oracles, axis=2).mean(0))

    def to_oracles(logits):
        return metrics.oracle_divergence(oracles, logits)

    least = to_oracles(mean)
    rng = np.random.default_rng(1)
    for other in (*oracles, *(mean + 0.01 * rng.normal(size=mean.shape) for _ in range(10))):
        expected = least + metrics.kl_divergence(mean, other).mean()
        assert to_oracles(other) == pytest.approx(expected) and to_oracles(other) > least


MODEL, ORACLE = Rates(0.9, 1.0, 0.8, 0.3), Rates(0.5, 0.9, 0.85, 0.1)


def test_gaps_by_hand():
    assert average_gap(MODEL, ORACLE) == pytest.approx((0.4 + 0.1 + 0.05 + 0.2) / 4)
    assert tow(MODEL, ORACLE) == pytest.approx(0.6 * 0.9 * 0.95)
    assert tow_mia(MODEL, ORACLE) == pytest.approx(0.8 * 0.9 * 0.95)
    assert (average_gap(ORACLE, ORACLE), tow(ORACLE, ORACLE), tow_mia(ORACLE, ORACLE)) == (0, 1, 1)
    members = tow_mia(MODEL._replace(attacked=0.7), ORACLE._replace(attacked=0.9))
    assert members == pytest.approx(tow_mia(MODEL, ORACLE)), "a share of members or of non-members, all the same"
    for field, value in (("attacked", 30.0), ("test", np.nan)):
        for measure in (average_gap, tow_mia):
            with pytest.raises(ValueError, match=r"must be a share in \[0, 1\]"):
                measure(MODEL._replace(**{field: value}), ORACLE)


def test_a_stream_by_hand():
    assert erosion([0.9, 0.8], [0.8, 0.6]) == pytest.approx(0.15)
    assert erosion([0.5], [0.75]) == -0.25
    assert plasticity([0.7, 0.9], [0.9, 0.8]) == pytest.approx(-0.05)
    assert reversal([0.25, 0.0, 0.75, 0.5]) == metrics.relapse([0.25, 0.0, 0.75, 0.5]) == 0.5
    for wrong in (([], []), ([0.5], [0.5, 0.5]), ([50.0], [0.5])):
        for measure in (erosion, plasticity):
            with pytest.raises(ValueError, match=r"accuracies|must be a share"):
                measure(*wrong)
