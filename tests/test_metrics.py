"""Metrics against closed forms and NumPy loops that share no code with them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ugclu_jax.metrics import (
    accuracy,
    forgetting_measure,
    js_divergence,
    kl_divergence,
    learning_accuracy,
    noise_floor,
    oracle_divergence,
    relapse,
    tug_of_war,
)

LN2 = math.log(2.0)
LOGITS = arrays(np.float64, (2, 3, 4), elements=st.floats(-60, 60))


def softmax_row(row):
    largest = float(max(row))
    weights = [math.exp(float(v) - largest) for v in row]
    return [w / sum(weights) for w in weights]


def kl_loop(oracle, model):
    """Σ p log(p/q) from probabilities, one row and one class at a time."""
    out = []
    for a, b in zip(oracle, model, strict=True):
        p, q = softmax_row(a), softmax_row(b)
        out.append(math.fsum(pc * math.log(pc / qc) for pc, qc in zip(p, q, strict=True)))
    return np.array(out)


def js_loop(oracle, model):
    out = []
    for a, b in zip(oracle, model, strict=True):
        p, q = softmax_row(a), softmax_row(b)
        m = [(pc + qc) / 2 for pc, qc in zip(p, q, strict=True)]
        left = math.fsum(pc * math.log(pc / mc) for pc, mc in zip(p, m, strict=True))
        right = math.fsum(qc * math.log(qc / mc) for qc, mc in zip(q, m, strict=True))
        out.append((left + right) / 2)
    return np.array(out)


def js_averaged_over_elements(oracle, model):
    """The widely copied wrong form: `F.kl_div(log p, m)` and `F.kl_div(log q, m)` with the mean over all elements."""
    p = np.array([softmax_row(row) for row in oracle])
    q = np.array([softmax_row(row) for row in model])
    m = (p + q) / 2
    return 0.5 * ((m * np.log(m / p)).mean() + (m * np.log(m / q)).mean())


def bernoulli(p):
    """Two-class logits with probability p of class 1."""
    return [0.0, math.log(p / (1 - p))]


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.25), (0.9, 0.1), (1e-6, 0.3), (0.2, 0.2)])
def test_divergences_of_bernoulli_distributions_have_their_closed_form(p, q):
    def binary_entropy(x):
        return -x * math.log(x) - (1 - x) * math.log(1 - x)

    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    js = binary_entropy((p + q) / 2) - (binary_entropy(p) + binary_entropy(q)) / 2
    np.testing.assert_allclose(kl_divergence([bernoulli(p)], [bernoulli(q)]), [kl], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(js_divergence([bernoulli(p)], [bernoulli(q)]), [js], rtol=1e-11, atol=1e-15)


def test_kl_has_the_oracle_first_and_is_a_sum_over_classes():
    oracle, model = [[math.log(7), 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]  # p = (.7, .1, .1, .1), q uniform
    expected = 0.7 * math.log(0.7) + 0.3 * math.log(0.1) + math.log(4)
    np.testing.assert_allclose(kl_divergence(oracle, model), [expected], rtol=1e-12)
    assert abs(kl_divergence(model, oracle)[0] - expected) > 0.01


def test_divergences_agree_with_loops_in_any_precision_of_the_input():
    rng = np.random.default_rng(0)
    oracle, model = 4 * rng.normal(size=(2, 30, 7)).astype(np.float32)
    np.testing.assert_allclose(kl_divergence(oracle, model), kl_loop(oracle, model), rtol=1e-10)
    np.testing.assert_allclose(js_divergence(oracle, model), js_loop(oracle, model), rtol=1e-10)
    assert (kl_divergence(jnp.asarray(oracle), jnp.asarray(model)) == kl_divergence(oracle, model)).all()
    coarse = jax.device_get(jnp.asarray(model, jnp.bfloat16)).astype(np.float64)
    assert (js_divergence(oracle, jnp.asarray(model, jnp.bfloat16)) == js_divergence(oracle, coarse)).all()


def test_the_copied_wrong_js_is_another_number():
    rng = np.random.default_rng(1)
    oracle, model = 2 * rng.normal(size=(2, 50, 10))
    ours, wrong = js_divergence(oracle, model).mean(), js_averaged_over_elements(oracle, model)
    np.testing.assert_allclose(ours, js_loop(oracle, model).mean(), rtol=1e-10)
    assert wrong < ours / 2
    assert abs(10 * wrong - ours) > 0.01  # not even the factor C makes it right: the direction of KL is the other one


@settings(max_examples=150, deadline=None)
@given(LOGITS, st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_divergences_ignore_a_shift_of_the_logits_and_keep_their_bounds(pair, shift_oracle, shift_model):
    oracle, model = pair
    kl, js = kl_divergence(oracle, model), js_divergence(oracle, model)
    assert (kl >= 0).all() and np.isfinite(kl).all()
    assert (js >= 0).all() and (js <= LN2).all()
    np.testing.assert_allclose(js, js_divergence(model, oracle), atol=1e-15)
    # Rounding of a logit near 1e3 is 1e-13; KL multiplies log-ratios up to 120.
    shifted = oracle + shift_oracle, model + shift_model
    np.testing.assert_allclose(kl_divergence(*shifted), kl, atol=1e-10)
    np.testing.assert_allclose(js_divergence(*shifted), js, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(LOGITS)
def test_identical_logits_are_exactly_at_distance_zero(pair):
    for logits in pair:
        assert (kl_divergence(logits, logits) == 0).all()
        assert (js_divergence(logits, logits) == 0).all()


def test_opposite_certainties_do_not_overflow():
    sure, opposite = [[1e18, 0.0]], [[0.0, 1e18]]
    assert kl_divergence(sure, opposite).tolist() == [1e18]
    assert js_divergence(sure, opposite).tolist() == [LN2]
    assert kl_divergence([[1e308, -1e308]], [[-1e308, 1e308]]).tolist() == [math.inf]
    assert kl_divergence([[1e308, -1e308]], [[1e308, -1e308]]).tolist() == [0.0]
    assert js_divergence([[1e308, -1e308]], [[1e308, -1e308]]).tolist() == [0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.filterwarnings("error")
def test_a_diverged_model_is_infinitely_far_and_wrong_and_nothing_becomes_nan(bad):
    oracle = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    model = oracle.copy()
    model[1, 0] = bad
    for divergence in (kl_divergence, js_divergence):
        assert divergence(oracle, model).tolist() == [0.0, math.inf, 0.0]
        assert oracle_divergence(oracle[None], model, divergence) == math.inf
        with pytest.raises(ValueError, match=r"1 non-finite rows \(first: 1\).*train it again"):
            divergence(model, oracle)
    assert accuracy(model, [0, 1, 0]) == pytest.approx(2 / 3)
    assert accuracy(np.full((4, 2), bad), [0, 0, 1, 1]) == 0.0


def test_oracle_divergence_and_noise_floor_are_means_over_oracles_and_ordered_pairs():
    rng = np.random.default_rng(2)
    oracles, model = rng.normal(size=(3, 5, 4)), rng.normal(size=(5, 4))
    for divergence, loop in ((kl_divergence, kl_loop), (js_divergence, js_loop)):
        expected = np.mean([loop(oracle, model) for oracle in oracles])
        assert oracle_divergence(oracles, model, divergence) == pytest.approx(expected, rel=1e-10)
        pairs = [loop(oracles[a], oracles[b]) for a, b in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]]
        assert noise_floor(oracles, divergence) == pytest.approx(np.mean(pairs), rel=1e-10)
    assert oracle_divergence(oracles, model) == oracle_divergence(oracles, model, kl_divergence)
    assert noise_floor(oracles) == noise_floor(oracles, kl_divergence)
    assert noise_floor(np.stack([model] * 3)) == 0.0


def test_accuracy_against_a_loop():
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(40, 5)), rng.integers(0, 5, 40)
    right = sum(max(range(5), key=lambda c: row[c]) == label for row, label in zip(logits, labels, strict=True))
    assert accuracy(logits, labels) == right / 40
    assert accuracy(jnp.asarray(logits), jnp.asarray(labels)) == right / 40
    assert accuracy([[1.0, 1.0], [1.0, 1.0]], [0, 1]) == 0.5  # a tie goes to the first class


def test_learning_accuracy_weighs_retained_groups_equally_and_ignores_the_others():
    accuracies = {"a": 1.0, "b": 0.5, "gone": 0.0}
    assert learning_accuracy(accuracies, ["a", "b"]) == 0.75
    assert learning_accuracy(accuracies, ("b",)) == 0.5
    assert learning_accuracy(accuracies, ["a", "b", "b"]) == 0.75


def test_forgetting_is_the_drop_from_the_best_accuracy_since_the_group_was_learned():
    history = [{"a": 0.9}, {"a": 0.95, "b": 0.8}, {"a": 0.7, "b": 0.9, "c": 1.0}]
    learned_at = {"a": 0, "b": 1, "c": 2}
    assert forgetting_measure(history, learned_at, ["a"]) == pytest.approx(0.25)
    assert forgetting_measure(history, learned_at, ["b"]) == pytest.approx(-0.1)  # it has improved
    assert forgetting_measure(history, learned_at, ["a", "b", "c"]) == pytest.approx((0.25 - 0.1) / 2)
    assert forgetting_measure(history[:2], learned_at, ["a", "b"]) == pytest.approx(-0.05)


def test_the_best_accuracy_excludes_the_present_and_everything_before_the_learning():
    history = [{"a": 0.99, "b": 0.2}, {"a": 0.5, "b": 0.6}, {"a": 0.8, "b": 0.6}]
    # Test accuracy of a group not yet learned (transfer from others) is no accuracy that could be forgotten.
    assert forgetting_measure(history, {"a": 1, "b": 0}, ["a"]) == pytest.approx(-0.3)


def test_a_relearned_group_starts_anew():
    history = [{"a": 1.0}, {"a": 0.0}, {"a": 0.75}, {"a": 0.5}]  # learned, unlearned, learned again, another request
    assert forgetting_measure(history, {"a": 2}, ["a"]) == 0.25
    assert forgetting_measure(history[:3], {"a": 2}, ["a"]) == 0.0


def test_nothing_can_be_forgotten_at_the_first_request():
    assert forgetting_measure([{"a": 0.3, "b": 0.4}], {"a": 0, "b": 0}, ["a", "b"]) == 0.0


def test_tug_of_war():
    assert tug_of_war(0.3, 0.9, 0.8, 0.3, 0.9, 0.8) == 1.0
    assert tug_of_war(0.3, 0.9, 0.8, 0.5, 0.8, 0.4) == pytest.approx(0.8 * 0.9 * 0.6)
    # Below the oracle (over-forgetting) costs as much as above it.
    assert tug_of_war(0.1, 0.5, 0.5, 0.3, 0.5, 0.5) == pytest.approx(tug_of_war(0.5, 0.5, 0.5, 0.3, 0.5, 0.5))
    assert tug_of_war(1.0, 0.5, 0.5, 0.0, 0.5, 0.5) == 0.0


def test_relapse_is_the_largest_rise_above_the_first_value():
    assert relapse([0.1, 0.4, 0.2]) == pytest.approx(0.3)
    assert relapse([0.5, 0.1, 0.4]) == 0.0  # a rise from 0.1 to 0.4, never above 0.5
    assert relapse([0.5]) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_divergence(np.zeros((0, 3)), np.zeros((0, 3))), r"oracle_logits has shape \(0, 3\).*empty set"),
        (lambda: js_divergence(np.zeros((2, 3)), np.zeros((3, 3))), r"\(2, 3\) and model_logits \(3, 3\)"),
        (lambda: kl_divergence(np.zeros(3), np.zeros(3)), r"shape \(3,\): it must be \[N, C\]"),
        (lambda: oracle_divergence(np.zeros((2, 3)), np.zeros((2, 3))), r"must be \[S, N, C\] with S ≥ 1"),
        (lambda: noise_floor(np.zeros((1, 2, 3))), r"shape \(1, 2, 3\).*S ≥ 2"),
        (lambda: noise_floor(np.zeros((2, 0, 3))), "empty set"),
        (lambda: accuracy(np.zeros((0, 3)), []), "empty set"),
        (lambda: accuracy(np.zeros((2, 3)), [0]), r"labels has shape \(1,\): it must be \(2,\)"),
        (lambda: accuracy(np.zeros((2, 3)), [0, 3]), r"labels spans 0 … 3: it must lie in 0 … 2"),
        (lambda: accuracy(np.zeros((2, 3)), [-1, 0]), r"labels spans -1 … 0"),
        (lambda: accuracy(np.zeros((2, 3)), [0.0, 1.0]), "float64: labels must be integers"),
        (lambda: learning_accuracy({"a": 1.0}, []), "retained is empty"),
        (lambda: learning_accuracy({"task 1": 1.0}, ["task1"]), "'task1'; nearest known: task 1"),
        (lambda: learning_accuracy({}, ["a"]), "'a'; it is empty"),
        (lambda: learning_accuracy({"a": 97.0}, ["a"]), r"group_accuracy\['a'\] is 97.0"),
        (lambda: learning_accuracy({"a": math.nan}, ["a"]), "is nan"),
        (lambda: learning_accuracy({"a": 1.0}, "a"), "retained is the string 'a'"),
        (lambda: forgetting_measure([], {}, ["a"]), "history is empty"),
        (lambda: forgetting_measure([{"a": 1.0}], {"a": 0}, []), "retained is empty"),
        (lambda: forgetting_measure([{"a": 1.0}], {"b": 0}, ["a"]), "learned_at lacks the retained group 'a'"),
        (lambda: forgetting_measure([{"a": 1.0}], {"a": 1}, ["a"]), r"learned_at\['a'\] is 1.*0 … 0"),
        (lambda: forgetting_measure([{"a": 1.0}, {}], {"a": 0}, ["a"]), r"history\[1\] lacks the retained group 'a'"),
        (lambda: tug_of_war(0.5, 0.5, 0.5, 0.5, 50.0, 0.5), "oracle_retained is 50.0"),
        (lambda: relapse([]), "unlearned_history is empty"),
        (lambda: relapse([0.5, -0.1]), r"unlearned_history\[1\] is -0.1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
