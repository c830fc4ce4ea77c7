"""The fast step of a set size in outputs: a NumPy loop, its invariances, its limits, its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.output_budget import (
    FIRST_RELATIVE_STEP,
    LARGEST_RELATIVE_STEP,
    kl_budget_step,
    mean_divergence,
)

RNG = np.random.default_rng(4)
INPUTS, LABELS, CLASSES = RNG.normal(size=(6, 4)), np.arange(6) % 3, 3
PARAMS, WEIGHTS = RNG.normal(size=(4, CLASSES)), np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])


def logits(params, scale=1.0):
    return INPUTS @ (params / scale)


def divergence_from(params, scale=1.0):
    before = logits(params, scale)
    return lambda other: mean_divergence(before, logits(other, scale), jnp.asarray(WEIGHTS))


def gradient(params):
    """Of the mean cross-entropy, in closed form."""
    p = np.apply_along_axis(reference.softmax, 1, np.asarray(logits(params)))
    p[np.arange(len(LABELS)), LABELS] -= 1
    return INPUTS.T @ (p * WEIGHTS[:, None]) / WEIGHTS.sum()


def step(params=PARAMS, direction=None, budget=0.1, relative_step=FIRST_RELATIVE_STEP, mask=None):
    direction = gradient(params) if direction is None else direction
    return kl_budget_step(
        jnp.asarray(params),
        jnp.asarray(direction),
        divergence_from(params),
        output_budget=budget,
        relative_step=relative_step,
        mask=mask,
    )


def by_hand(params, direction, budget, s):
    """The formulas of the module in NumPy, with a loop over examples for the divergence."""
    u = direction * np.linalg.norm(params) / np.linalg.norm(direction)
    total = 0.0
    for x, weight in zip(INPUTS, WEIGHTS, strict=True):
        p, q = (reference.softmax(x @ theta) for theta in (params, params - s * u))
        total += weight * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    d = total / WEIGHTS.sum()
    r = np.sqrt(budget / max(d, 1e-12))
    return params - s * min(r, 4.0, LARGEST_RELATIVE_STEP / s) * u, s * np.clip(r, 0.1, min(4.0, 0.3 / s)), d


@pytest.mark.parametrize("s", [1e-3, 0.03, 0.29])
@pytest.mark.parametrize("budget", [1e-6, 1e-2, 0.5])
def test_a_step_is_that_of_numpy(x64, s, budget):
    found, (params, following, d) = step(budget=budget, relative_step=s), by_hand(PARAMS, gradient(PARAMS), budget, s)
    np.testing.assert_allclose(found.fast_params, params, rtol=1e-12)
    assert float(found.relative_step) == pytest.approx(following, rel=1e-10)
    assert float(found.divergence) == pytest.approx(d, rel=1e-8)
    assert float(found.norm) == pytest.approx(np.linalg.norm(gradient(PARAMS)))


def test_a_few_steps_find_the_budget(x64):
    """Of a smooth network a probe at the length of the step before is at δ within a few of them."""
    s, target = FIRST_RELATIVE_STEP, 0.05
    for _ in range(8):
        found = step(budget=target, relative_step=s)
        s = found.relative_step
    assert float(divergence_from(PARAMS)(found.fast_params)) == pytest.approx(target, rel=0.01)
    assert not found.held


# --- what it does not depend on --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(-12, 12))
def test_the_scale_of_the_loss_drops_out(exponent):
    with jax.enable_x64(True):
        plain, scaled = step(), step(direction=10.0**exponent * gradient(PARAMS))
        np.testing.assert_allclose(scaled.fast_params, plain.fast_params, rtol=1e-10)
        assert float(scaled.relative_step) == pytest.approx(float(plain.relative_step), rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.floats(-6, 6), st.floats(1e-6, 1.0))
def test_the_unit_of_the_parameters_drops_out(exponent, budget):
    """A network of parameters c θ that divides by c is the same network, and takes the same step."""
    c = 10.0**exponent
    with jax.enable_x64(True):
        plain = step(budget=budget, relative_step=0.02)
        scaled = kl_budget_step(
            c * jnp.asarray(PARAMS),
            jnp.asarray(gradient(PARAMS)) / c,
            divergence_from(c * PARAMS, scale=c),
            output_budget=budget,
            relative_step=0.02,
        )
        np.testing.assert_allclose(scaled.fast_params / c, plain.fast_params, rtol=1e-9)
        assert float(scaled.relative_step) == pytest.approx(float(plain.relative_step), rel=1e-7)


# --- its limits ------------------------------------------------------------------------------------------------------


def test_a_budget_of_nothing_moves_nothing(x64):
    found = step(budget=0.0, relative_step=0.1)
    assert np.array_equal(found.fast_params, PARAMS)
    assert float(found.relative_step) == pytest.approx(0.01)


def test_a_direction_of_zeros_moves_nothing(x64):
    found = step(direction=np.zeros_like(PARAMS))
    assert np.array_equal(found.fast_params, PARAMS) and float(found.norm) == 0.0
    slope = jax.grad(lambda g: jnp.sum(step(direction=g).fast_params))(jnp.zeros(PARAMS.shape))
    assert np.isfinite(slope).all()


def test_parameters_of_zeros_move_all_the_same(x64):
    zeros = np.zeros_like(PARAMS)
    found = step(params=zeros, relative_step=0.1, budget=1e-3)
    assert float(divergence_from(zeros)(found.fast_params)) == pytest.approx(1e-3, rel=0.1)


def test_masked_weights_stay(x64):
    mask = jnp.asarray(RNG.integers(0, 2, PARAMS.shape).astype(float))
    found = step(mask=mask)
    assert np.array_equal(np.asarray(found.fast_params)[np.asarray(mask) == 0], PARAMS[np.asarray(mask) == 0])
    masked = step(direction=gradient(PARAMS) * np.asarray(mask))
    np.testing.assert_array_equal(found.fast_params, masked.fast_params)


def test_no_step_is_longer_than_a_share_of_the_parameters(x64):
    found = step(budget=1e6, relative_step=0.2)
    moved = np.linalg.norm(found.fast_params - PARAMS)
    assert moved == pytest.approx(LARGEST_RELATIVE_STEP * np.linalg.norm(PARAMS))
    assert found.held and float(found.relative_step) == pytest.approx(LARGEST_RELATIVE_STEP)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_hold_the_step(x64, value):
    found = kl_budget_step(
        jnp.asarray(PARAMS), jnp.ones(PARAMS.shape), lambda _: jnp.asarray(value), output_budget=0.1, relative_step=0.1
    )
    assert np.array_equal(found.fast_params, PARAMS) and found.held
    assert float(found.relative_step) == pytest.approx(0.01)


def test_padding_counts_nowhere(x64):
    before, after = RNG.normal(size=(2, 3, CLASSES))
    whole = mean_divergence(before[:2], after[:2], jnp.ones(2))
    assert float(mean_divergence(before, after, jnp.array([1.0, 1.0, 0.0]))) == pytest.approx(float(whole), rel=1e-12)
    assert float(mean_divergence(before, after, jnp.zeros(3))) == 0.0


def test_devices_agree_with_one(x64):
    before, after = RNG.normal(size=(2, 4, CLASSES))
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    split = jax.vmap(lambda *x: mean_divergence(*x, axis_name="device"), axis_name="device")(
        *(x.reshape(2, 2, *x.shape[1:]) for x in (before, after, weights))
    )
    np.testing.assert_allclose(split, mean_divergence(before, after, weights), rtol=1e-12)


# --- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["budget", "relative_step"])
def test_derivatives_are_those_of_finite_differences(x64, argument):
    base, direction = {"budget": 0.01, "relative_step": 0.05}, gradient(PARAMS)

    def moved(value):
        found = step(direction=direction, **{**base, argument: value})
        return jnp.sum(jnp.sin(found.fast_params)) + found.relative_step

    at, eps = base[argument], 1e-6 * base[argument]
    expected = (moved(at + eps) - moved(at - eps)) / (2 * eps)
    assert float(jax.grad(moved)(at)) == pytest.approx(float(expected), rel=1e-6)
    assert float(jax.jvp(moved, (at,), (1.0,))[1]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("length", [3e-4, 3e-3, 3e-2, 0.3, 3.0, 30.0])
def test_a_divergence_of_single_precision_keeps_four_digits_however_short_the_step(length):
    rng = np.random.default_rng(5)
    before = (4.0 * rng.normal(size=(64, 10))).astype(np.float32)
    after = before + (length * rng.normal(size=before.shape)).astype(np.float32)
    p, q = (np.exp(z.astype(np.float64)) for z in (before, after))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    wanted = np.mean(np.sum(p * np.log(p / q), axis=-1))
    found = mean_divergence(jnp.asarray(before), jnp.asarray(after), jnp.ones(64, jnp.float32))
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(wanted, rel=1e-4)
