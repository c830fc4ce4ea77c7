"""Decay as a budget: what is left of an untouched weight, whatever rate, schedule and number of steps; and masks."""

import math
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.at import At
from ugclu_jax.decay import decay_budget, decayed
from ugclu_jax.descent import Direction, Report, along, descend_request
from ugclu_jax.optimizer import OptimizerKind
from ugclu_jax.stepping import Schedule, StepHyper, StepSettings, rate_share

SCHEDULES, KINDS = get_args(Schedule), get_args(OptimizerKind)
START = np.array([2.0, -0.5, 1e-3])


def rates_of(schedule, steps):
    """What the rate of every step is multiplied by."""
    left = [1 - k / steps for k in range(steps)]
    return {
        "constant": [1.0] * steps,
        "linear": left,
        "cosine": [(1 + math.cos(math.pi * (1 - e))) / 2 for e in left],
    }[schedule]


def request(hyper, given, gradient=0.0, mask=None, scope="gradient"):
    """The end of a request whose every gradient is the same."""

    def direction(at, batches, hyper):
        return Direction(jnp.full_like(at.params, gradient), at.model_state, Report())

    at = At(lambda *a, **k: None, jnp.asarray(START), {}, mask=mask)
    step = along(direction, given, scope)
    return descend_request(at, step, lambda key: (), jax.random.key(0), hyper, given, 0.0)[0].params


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_shares_are_the_rates_over_their_sum(x64, schedule, steps):
    rates = rates_of(schedule, steps)
    found = [float(rate_share(schedule, steps, 1 - k / steps)) for k in range(steps)]
    np.testing.assert_allclose(found, np.array(rates) / sum(rates), rtol=1e-12, atol=1e-16)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SCHEDULES), st.integers(1, 12), st.floats(0.01, 1.0), st.sampled_from([0.0, 1e-3, 0.1, 10.0]))
def test_a_request_leaves_just_the_kept_share_of_an_untouched_weight(schedule, steps, kept_share, rate):
    with jax.enable_x64(True):
        given = StepSettings(steps=steps, schedule=schedule)
        end = request(StepHyper(rate, kept_share=kept_share), given)
        np.testing.assert_allclose(end, kept_share * START, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_is_beside_every_optimizer_and_all_extras_are_a_loop(x64, schedule, kind):
    """The gradient (1, 1, 1) · 2 of length 2√3, clipped to 1; momentum and second moment; then the factor."""
    steps, rate, momentum, second_momentum, kept_share = 5, 0.1, 0.6, 0.7, 0.4
    hyper = StepHyper(rate, momentum, second_momentum=second_momentum, step_clip_norm=1.0, kept_share=kept_share)
    found = request(hyper, StepSettings(steps=steps, schedule=schedule, optimizer=kind), gradient=2.0)
    rates = rates_of(schedule, steps)
    theta, first, second, g = START.copy(), 0.0, 0.0, 1 / math.sqrt(3)
    for k, factor in enumerate(rates):
        if kind == "sgd":
            first = momentum * first + g
            u = first
        else:
            first = momentum * first + (1 - momentum) * g
            second = second_momentum * second + (1 - second_momentum) * g**2
            square = second / (1 - second_momentum ** (k + 1))
            u = first / (1 - momentum ** (k + 1)) / (math.sqrt(square) + 1e-8)
        theta = kept_share ** (factor / sum(rates)) * theta - rate * factor * u
    np.testing.assert_allclose(found, theta, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_on_the_update_keeps_a_weight_from_decay_and_one_on_the_gradient_does_not(x64, kind):
    mask, given = jnp.array([0.0, 1.0, 0.0]), StepSettings(steps=3, optimizer=kind)
    on_update = request(StepHyper(kept_share=0.3), given, gradient=1.0, mask=mask, scope="update")
    np.testing.assert_array_equal(on_update[::2], START[::2])
    assert on_update[1] != START[1]
    on_gradient = request(StepHyper(kept_share=0.3), given, gradient=1.0, mask=mask)
    np.testing.assert_allclose(on_gradient[::2], 0.3 * START[::2], rtol=1e-12)


def test_a_request_of_no_steps_decays_nothing():
    for schedule in SCHEDULES:
        end = request(StepHyper(kept_share=0.3), StepSettings(steps=0, schedule=schedule))
        np.testing.assert_array_equal(end, START.astype(np.float32))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 1.0, width=32))
def test_a_kept_share_of_one_is_no_decay_to_the_bit(share):
    factor = decay_budget(jnp.float32(1.0), jnp.float32(share))
    assert factor == 1.0
    params = jnp.asarray(START, jnp.float32)
    np.testing.assert_array_equal(decayed(params, factor), params)


def test_types_are_those_of_the_parameters():
    for dtype in (jnp.bfloat16, jnp.float32):
        assert decayed(jnp.ones(2, dtype), jnp.float32(0.5)).dtype == dtype


@pytest.mark.parametrize("kept_share", [1.0, 0.3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_derivative_by_the_kept_share_is_that_of_a_product(x64, schedule, kept_share):
    """At 1 too, where nothing decays: dθ_K/dρ = θ_0."""

    def end(kept_share):
        return request(StepHyper(kept_share=kept_share), StepSettings(steps=4, schedule=schedule))

    for derivative in (jax.jacfwd(end)(kept_share), jax.jacrev(end)(kept_share)):
        np.testing.assert_allclose(derivative, START, rtol=1e-12)
