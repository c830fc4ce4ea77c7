"""The attacks against closed forms: Gaussian losses, exchangeable and separable sets, and a loop for each feature."""

import math
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ugclu_jax.membership import FEATURES, attack, attack_all, feature_values


def softmax_row(row):
    largest = max(row)
    weights = [math.exp(v - largest) for v in row]
    return [w / sum(weights) for w in weights]


def feature_loop(logits, labels, feature):
    """The definitions from probabilities, one row and one class at a time."""
    out = []
    for row, y in zip(logits, labels, strict=True):
        p = softmax_row(row)
        if feature == "loss":
            value = -math.log(p[y])
        elif feature == "entropy":
            value = -sum(v * math.log(v) for v in p)
        elif feature == "confidence":
            value = p[y]
        else:
            value = -(1 - p[y]) * math.log(p[y])
            for c, v in enumerate(p):
                if c != y:
                    value -= v * math.log(1 - v)
        out.append(value)
    return np.array(out)


def modified_entropy_with_whole_label_vector(logits, labels):
    """The widely copied wrong form: `[:, labels]` picks columns for all rows, and log(1−p) is taken of p."""
    p = np.array([softmax_row(row) for row in logits])
    log_p, reverse, log_reverse = np.log(p), 1 - p, np.log(p)
    modified, modified_log = p.copy(), log_reverse.copy()
    modified[:, labels] = reverse[:, labels]
    modified_log[:, labels] = log_p[:, labels]
    return -(modified * modified_log).sum(axis=1)


def logits_of_losses(losses):
    """Two-class logits whose loss on label 0 is given: −log σ(−z) = L for z = log(e^L − 1)."""
    return np.stack([np.zeros(len(losses)), np.log(np.expm1(losses))], axis=1)


def zeros(logits):
    return np.zeros(len(logits), np.int32)


@pytest.mark.parametrize("feature", FEATURES)
def test_features_agree_with_loops(feature):
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(60, 6)), rng.integers(0, 6, 60)
    expected = feature_loop(logits, labels, feature)
    np.testing.assert_allclose(feature_values(logits, labels, feature), expected, rtol=1e-10)
    as_jax = feature_values(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), feature)
    np.testing.assert_allclose(as_jax, expected, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 10])
def test_features_of_the_uniform_distribution(classes):
    logits, labels = np.full((3, classes), 7.0), np.array([0, 1, classes - 1])
    p = 1 / classes
    closed_forms = {
        "loss": math.log(classes),
        "entropy": math.log(classes),
        "confidence": p,
        "modified_entropy": (1 - p) * math.log(classes) - (classes - 1) * p * math.log(1 - p),
    }
    for feature in FEATURES:
        np.testing.assert_allclose(feature_values(logits, labels, feature), closed_forms[feature], rtol=1e-12)


def test_modified_entropy_sees_the_label_where_entropy_does_not():
    sure = [[20.0, 0.0], [20.0, 0.0]]
    right, wrong = feature_values(sure, [0, 1], "modified_entropy")
    tail = 1 / (1 + math.exp(20))  # two classes: right −2·tail·log(1 − tail), wrong −2·(1 − tail)·log(tail)
    np.testing.assert_allclose(right, -2 * tail * math.log1p(-tail), rtol=1e-6)
    np.testing.assert_allclose(wrong, -2 * (1 - tail) * math.log(tail), rtol=1e-12)
    assert np.ptp(feature_values(sure, [0, 1], "entropy")) == 0


def test_the_copied_wrong_modified_entropy_is_another_number():
    rng = np.random.default_rng(1)
    logits, labels = 2 * rng.normal(size=(40, 5)), rng.integers(0, 5, 40)
    assert set(labels) == set(range(5))
    ours = feature_values(logits, labels, "modified_entropy")
    wrong = modified_entropy_with_whole_label_vector(logits, labels)
    p = np.array([softmax_row(row) for row in logits])
    np.testing.assert_allclose(wrong, -((1 - p) * np.log(p)).sum(axis=1))  # it has lost the labels altogether
    assert np.abs(ours - wrong).min() > 0.01


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float64, (3, 4), elements=st.floats(-200, 200)),
    arrays(np.int64, 3, elements=st.integers(0, 3)),
    st.floats(-1e3, 1e3),
)
def test_features_are_bounded_and_ignore_a_shift_of_the_logits(logits, labels, shift):
    upper = {"loss": 100.0, "entropy": math.log(4) + 1e-12, "confidence": 1 + 1e-12, "modified_entropy": 100.0}
    for feature in FEATURES:
        values = feature_values(logits, labels, feature)
        assert (values >= 0).all() and (values <= upper[feature]).all()
        np.testing.assert_allclose(feature_values(logits + shift, labels, feature), values, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_non_finite_rows_look_never_seen_and_leave_the_others_alone():
    logits = np.array([[1.0, 2.0, 3.0], [np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf], [1e308, -1e308, 0]])
    labels = np.array([2, 0, 1, 1, 1])
    expected = {"loss": 100.0, "entropy": math.log(3), "confidence": 0.0, "modified_entropy": 100.0}
    for feature in FEATURES:
        values = feature_values(logits, labels, feature)
        np.testing.assert_allclose(values[1:4], expected[feature])
        np.testing.assert_allclose(values[:1], feature_loop(logits[:1], labels[:1], feature))
        # finite, and wrong beyond all measure: the same ends, but for the entropy of a certain model
        np.testing.assert_allclose(values[4], 0.0 if feature == "entropy" else expected[feature])


def test_attack_on_gaussian_losses_has_the_closed_form():
    """Members N(5, 1), others N(6, 1): the line is at 5.5, share Φ(½) of members, AUC Φ(1/√2)."""
    rng = np.random.default_rng(2)
    members, others, unlearned = (logits_of_losses(rng.normal(mean, 1, 5000)) for mean in (5, 6, 5))
    result = attack(members, zeros(members), others, zeros(others), unlearned, zeros(unlearned), feature="loss", seed=0)
    # Four standard deviations: share, binomial of 5,000 plus the line's own error; AUC, 2 × 1,250 held out.
    assert result.member_share == pytest.approx(NormalDist().cdf(0.5), abs=0.035)
    assert result.auc == pytest.approx(NormalDist().cdf(1 / math.sqrt(2)), abs=0.04)
    assert result.non_finite is False


def test_exchangeable_members_and_non_members_give_one_half():
    """By symmetry both expectations are exactly ½. Unequal numbers of members and non-members must not shift them.

    Share: one attack's value lies in [0, 1], so its variance is at most that of one coin, ¼, and the mean over S
    attacks deviates by at most 4 · ½/√S but for 1 in 16,000. AUC: the Mann-Whitney variance on 12 + 12 held-out
    examples is (12 + 12 + 1)/(12 · 12 · 12).
    """
    rng = np.random.default_rng(3)
    seeds = 100
    shares, aucs = [], []
    for seed in range(seeds):
        sets = []
        for size in (150, 50, 30):
            sets += [2 * rng.normal(size=(size, 3)), rng.integers(0, 3, size)]
        results = attack_all(*sets, seed=seed)
        shares.append([results[feature].member_share for feature in FEATURES])
        aucs.append([results[feature].auc for feature in FEATURES])
    np.testing.assert_allclose(np.mean(shares, axis=0), 0.5, atol=4 * 0.5 / math.sqrt(seeds))
    np.testing.assert_allclose(np.mean(aucs, axis=0), 0.5, atol=4 * math.sqrt(25 / 12**3 / seeds))


@pytest.mark.parametrize("feature", FEATURES)
def test_separable_sets_are_told_apart(feature):
    rng = np.random.default_rng(4)
    sure = np.array([8.0, 0.0, 0.0]) + rng.normal(size=(300, 3)) / 2
    unsure = np.array([0.5, 0.0, 0.0]) + rng.normal(size=(300, 3)) / 5
    sets = sure[:200], zeros(sure[:200]), unsure[:200], zeros(unsure[:200])
    kept = attack(*sets, sure[200:], zeros(sure[200:]), feature=feature, seed=0)
    forgotten = attack(*sets, unsure[200:], zeros(unsure[200:]), feature=feature, seed=0)
    assert kept.member_share > 0.98 and forgotten.member_share < 0.02
    assert kept.auc > 0.999


def test_a_feature_that_says_nothing_gives_one_half():
    same = np.tile([0.3, 0.1, 0.7], (20, 1))
    shifted = same + np.linspace(0, 9, 20)[:, None]  # the same model to rounding
    other = np.tile([9.0, 0.0, 0.0], (20, 1))
    for retained in (same, shifted):
        for result in attack_all(retained, zeros(same), same, zeros(same), other, zeros(other), seed=0).values():
            assert (result.member_share, result.auc) == (0.5, 0.5)


def test_all_features_are_attacked_on_the_same_reproducible_subsample():
    rng = np.random.default_rng(5)
    sets = []
    for size in (400, 200, 50):
        sets += [2 * rng.normal(size=(size, 4)), rng.integers(0, 4, size)]
    together = attack_all(*sets, seed=7)
    assert list(together) == list(FEATURES)
    for feature in FEATURES:
        assert attack(*sets, feature=feature, seed=7) == together[feature]
    assert attack_all(*sets, seed=7) == together
    assert attack_all(*sets, seed=8) != together
    assert attack_all(*sets, seed=7, max_examples=100) != together


def test_max_examples_bounds_the_members_that_are_looked_at():
    rng = np.random.default_rng(6)
    retained, test = rng.normal(size=(100, 2)), rng.normal(size=(100, 2))
    baseline = None
    changes = 0
    for row in range(100):
        changed = retained.copy()
        changed[row] = [-30.0, 30.0]  # an outlier that moves the line, and the AUC, wherever it is used
        sets = changed, zeros(changed), test, zeros(test), test, zeros(test)
        result = attack(*sets, feature="loss", seed=0, max_examples=16)
        if baseline is None:
            sets = retained, zeros(retained), test, zeros(test), test, zeros(test)
            baseline = attack(*sets, feature="loss", seed=0, max_examples=16)
        changes += result != baseline
    assert 1 <= changes <= 16


@pytest.mark.filterwarnings("error")
def test_a_diverged_model_is_attacked_and_flagged():
    rng = np.random.default_rng(7)
    sets = []
    for size in (60, 60, 30):
        sets += [rng.normal(size=(size, 3)), rng.integers(0, 3, size)]
    assert not any(result.non_finite for result in attack_all(*sets, seed=0).values())
    for which in (0, 2, 4):
        broken = list(sets)
        broken[which] = sets[which].copy()
        broken[which][-1, 0] = np.nan
        for result in attack_all(*broken, seed=0, max_examples=8).values():  # flagged even where not drawn
            assert result.non_finite is True
            assert 0 <= result.member_share <= 1 and 0 <= result.auc <= 1
    all_nan = [np.full_like(array, np.nan) if i % 2 == 0 else array for i, array in enumerate(sets)]
    for result in attack_all(*all_nan, seed=0).values():
        assert result == (0.5, 0.5, True)
    exploded = [array * 1e18 if i % 2 == 0 else array for i, array in enumerate(sets)]
    for result in attack_all(*exploded, seed=0).values():
        assert 0 <= result.member_share <= 1 and 0 <= result.auc <= 1 and result.non_finite is False


@pytest.mark.filterwarnings("error")
def test_confidences_that_underflow_do_not_overflow_the_scale():
    wrong = np.stack([np.zeros(20), np.linspace(700, 744, 20)], axis=1)  # confidence e^−700 … e^−744 on label 0
    right = np.tile([700.0, 0.0], (5, 1))
    result = attack(wrong, zeros(wrong), wrong, zeros(wrong), right, zeros(right), feature="confidence", seed=0)
    assert result.member_share == 0.5


def valid_sets(**replaced):
    sets = {}
    for name, size in (("retained", 20), ("test", 20), ("unlearned", 5)):
        sets |= {f"{name}_logits": np.eye(size, 3), f"{name}_labels": np.zeros(size, int)}
    return sets | replaced


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: feature_values(np.eye(3), [0, 1, 2], "modified_entrop"),
            "'modified_entrop'; nearest valid: modified_e",
        ),
        (
            lambda: feature_values(np.eye(3), [0, 1, 2], "zz"),
            "nearest valid: loss, entropy, confidence, modified_entropy",
        ),
        (lambda: feature_values(np.eye(3), [0, 1, 3], "loss"), "labels spans 0 … 3"),
        (lambda: attack(**valid_sets(), feature="los", seed=0), "unknown feature 'los'; nearest valid: loss"),
        (lambda: attack_all(**valid_sets(), seed=0, max_examples=7), "max_examples is 7: it must be at least 8"),
        (
            lambda: attack_all(**valid_sets(test_logits=np.eye(7, 3), test_labels=np.zeros(7, int)), seed=0),
            "20 retained and 7 test examples are too few.*at least 8",
        ),
        (
            lambda: attack_all(**valid_sets(unlearned_logits=np.zeros((0, 3)), unlearned_labels=[]), seed=0),
            r"unlearned_logits has shape \(0, 3\)",
        ),
        (
            lambda: attack_all(**valid_sets(unlearned_logits=np.eye(5, 4)), seed=0),
            r"\[3, 3, 4\] classes: they must be of one model",
        ),
        (
            lambda: attack_all(**valid_sets(retained_labels=np.zeros(3, int)), seed=0),
            r"retained_labels has shape \(3,\): it must be \(20,\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
