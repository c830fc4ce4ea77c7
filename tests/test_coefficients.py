"""Adaptive coefficients against a loop, their properties, the ends of the range, and what their gradient may see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ugclu_jax.coefficients import LOSS_FLOOR, adaptive, remaining_shares, uniform

KINDS = ["learn", "unlearn"]
LOSSES = np.array([0.0, 1e-6, 0.3, 2.0, 40.0])
WEIGHTS = np.array([1.0, 1.0, 1.0, 0.0, 1.0])


def _adaptive(kind, loss_exponent, share, losses, weights):
    return adaptive(kind, loss_exponent, share)(losses, weights)


compute = jax.jit(_adaptive, static_argnums=0)
slope_in_exponent = jax.jit(jax.jacrev(_adaptive, argnums=1), static_argnums=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0])
def test_are_those_of_a_loop(x64, kind, exponent):
    expected = reference.coefficients(kind, LOSSES, WEIGHTS, exponent, 0.7)
    np.testing.assert_allclose(compute(kind, exponent, 0.7, LOSSES, WEIGHTS), expected, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.floats(0, 50),
    arrays.arrays(np.float32, 5, elements=st.floats(0, 2.0**100, width=32)),
    arrays.arrays(np.float32, 5, elements=st.sampled_from([0.0, 1.0])),
)
def test_have_mean_one_over_what_is_not_padding(kind, exponent, losses, weights):
    assume(weights.any())
    coefficients = np.asarray(compute(kind, exponent, 1.0, losses, weights))
    assert np.all(coefficients >= 0) and np.all(coefficients[weights == 0] == 0)
    np.testing.assert_allclose(coefficients[weights == 1].mean(), 1.0, rtol=1e-5)
    order = np.argsort(losses[weights == 1], kind="stable")
    steps = np.diff(coefficients[weights == 1][order])
    assert np.all(steps >= -1e-6) if kind == "learn" else np.all(steps <= 1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 3), arrays.arrays(np.float32, 5, elements=st.floats(2.0**-10, 2.0**10, width=32)))
def test_learning_is_the_mirror_of_unlearning(exponent, losses):
    mirrored = compute("learn", exponent, 1.0, 1 / losses, np.ones(5, np.float32))
    straight = compute("unlearn", exponent, 1.0, losses, np.ones(5, np.float32))
    np.testing.assert_allclose(straight, mirrored, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_exponent_zero_is_uniform(kind):
    np.testing.assert_allclose(compute(kind, 0.0, 0.25, LOSSES, WEIGHTS), 0.25 * WEIGHTS, rtol=1e-6)
    np.testing.assert_array_equal(uniform(jnp.asarray(LOSSES), jnp.asarray(WEIGHTS)), np.ones(5))


def test_losses_below_the_floor_count_as_the_floor():
    at_floor = compute("unlearn", 1.0, 1.0, np.array([LOSS_FLOOR, 1.0]), np.ones(2))
    np.testing.assert_array_equal(compute("unlearn", 1.0, 1.0, np.array([0.0, 1.0]), np.ones(2)), at_floor)
    assert at_floor[0] == pytest.approx(2.0, rel=1e-3) and 0 < at_floor[1] < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_padding_has_coefficients_of_zero(kind):
    np.testing.assert_array_equal(compute(kind, 0.5, 1.0, LOSSES, np.zeros(5)), np.zeros(5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [WEIGHTS, np.zeros(5)])
def test_slope_in_the_exponent_is_finite_whatever_padding_holds(kind, weights):
    """Were `exp` taken of the extreme loss in the padding, reverse mode would meet 0 · ∞."""
    losses = np.where(WEIGHTS == 1, 1.0, 1e30 if kind == "learn" else 0.0)
    np.testing.assert_array_equal(slope_in_exponent(kind, 20.0, 1.0, losses, weights), np.zeros(5))


@pytest.mark.parametrize("kind", KINDS)
def test_slope_in_the_exponent_is_the_central_difference(x64, kind):
    def at(exponent):
        return np.asarray(compute(kind, exponent, 1.0, LOSSES, WEIGHTS))

    numeric = (at(0.5 + 1e-6) - at(0.5 - 1e-6)) / 2e-6
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(slope_in_exponent(kind, 0.5, 1.0, LOSSES, WEIGHTS), numeric, atol=1e-8)


@pytest.mark.parametrize(("kind", "devices"), [("learn", 2), ("unlearn", 4)])
def test_devices_agree_with_one(x64, kind, devices):
    losses, weights = np.geomspace(1e-5, 50, 8), np.array([1.0, 1, 0, 1, 1, 1, 0, 0])

    def on_devices(exponent):
        local = adaptive(kind, exponent, 0.5, axis_name="device")
        shards = losses.reshape(devices, -1), weights.reshape(devices, -1)
        return jax.vmap(local, axis_name="device")(*shards).ravel()

    values, slopes = jax.jit(lambda exponent: (on_devices(exponent), jax.jacfwd(on_devices)(exponent)))(0.5)
    np.testing.assert_allclose(values, compute(kind, 0.5, 0.5, losses, weights), rtol=1e-12)
    np.testing.assert_allclose(slopes, slope_in_exponent(kind, 0.5, 0.5, losses, weights), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("outer_steps", [0, 1, 5])
def test_remaining_shares_fall_from_one(outer_steps):
    expected = [1 - k / outer_steps for k in range(outer_steps)]
    np.testing.assert_allclose(remaining_shares(outer_steps), expected, rtol=1e-6)
