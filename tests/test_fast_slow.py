"""The fast-slow update against its closed form on quadratics, its degenerate settings, and the loop that repeats it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.fast_slow import fast_slow_step, fast_step, inner_steps, slow_step
from ugclu_jax.loop import REPORTS, request_loop
from ugclu_jax.trees import descend, global_norm

SIZE, FAST_RATE, REMAIN_RATE = 5, 0.07, 0.2
INFINITY = np.inf


def quadratic(params, model_state, x):
    """`L = ½ (θ − θ̄)ᵀ H (θ − θ̄)` of one inner batch `x = (H, θ̄)`; the state counts the steps."""
    curvature, optimum = x
    gradient = curvature @ (params - optimum)
    return gradient, {"steps": model_state["steps"] + 1}, 0.5 * gradient @ (params - optimum)


@jax.jit
def update(params, direction, x, *, mask=None, fast=FAST_RATE, remain=REMAIN_RATE, slow=1.0, clip=INFINITY):
    return fast_slow_step(
        params,
        {"steps": 0},
        direction,
        quadratic,
        x,
        mask=mask,
        fast_learning_rate=fast,
        remain_learning_rate=remain,
        slow_step_size=slow,
        clip_norm=clip,
    )


def curvatures(count, seed=0):
    """Random positive definite matrices, with eigenvalues up to about 3."""
    factors = np.random.default_rng(seed).normal(size=(count, SIZE, SIZE))
    return factors @ factors.transpose(0, 2, 1) / SIZE


def vectors(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, SIZE))


# --- the closed form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_batches", [True, False])
@pytest.mark.parametrize("inner", [0, 1, 6])
def test_filters_the_task_step_by_the_curvature(x64, inner, same_batches):
    """θ^R(without fast step) − θ^R(with) = β_Q Π_j (I − β_R H_j) g, whatever θ_k and θ̄_j are."""
    params, direction = vectors(2)
    matrices = np.repeat(curvatures(1), inner, axis=0) if same_batches else curvatures(inner)
    x = matrices, vectors(inner, seed=2)
    expected = FAST_RATE * direction
    for matrix in matrices:
        expected = expected - REMAIN_RATE * matrix @ expected
    difference = update(params, np.zeros(SIZE), x).params - update(params, direction, x).params
    np.testing.assert_allclose(difference, expected, rtol=0, atol=2e-15)
    if same_batches:
        power = np.linalg.matrix_power(np.eye(SIZE) - REMAIN_RATE * curvatures(1)[0], inner)
        np.testing.assert_allclose(difference, FAST_RATE * power @ direction, rtol=0, atol=2e-15)


def test_at_the_optimum_the_step_is_the_filter_itself(x64):
    optimum, direction = vectors(2)
    matrices = curvatures(6)
    x = matrices, np.repeat(optimum[None], 6, axis=0)
    at_rest = update(optimum, np.zeros(SIZE), x)
    np.testing.assert_array_equal(at_rest.params, optimum)
    expected = FAST_RATE * direction
    for matrix in matrices:
        expected = expected - REMAIN_RATE * matrix @ expected
    moved = update(optimum, direction, x)
    np.testing.assert_allclose(optimum - moved.params, expected, rtol=0, atol=2e-15)
    np.testing.assert_allclose(moved.displacement_norm, np.linalg.norm(expected), rtol=1e-13)
    slow = update(optimum, direction, x, slow=0.3)
    np.testing.assert_allclose(optimum - slow.params, 0.3 * expected, rtol=0, atol=2e-15)


def test_flat_directions_pass_and_curved_ones_do_not(x64):
    """With eigenvalues 0 and 1/β_R the filter is the projector on the flat subspace."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
    curved, flat = basis[:, :2], basis[:, 2:]
    x = (curved @ curved.T / REMAIN_RATE)[None], np.zeros((1, SIZE))
    direction = vectors(1)[0]
    moved = update(np.zeros(SIZE), direction, x).params
    np.testing.assert_allclose(moved, -FAST_RATE * flat @ flat.T @ direction, atol=1e-15)


# --- degenerate settings ---------------------------------------------------------------------------------------------


def test_without_inner_steps_it_is_plain_descent(x64):
    params, direction = vectors(2)
    x = curvatures(0), vectors(0)
    for sign in (1, -1):
        step = update(params, sign * direction, x)
        np.testing.assert_allclose(step.params, params - sign * FAST_RATE * direction, rtol=1e-15)
        assert step.remain_losses.shape == (0,)
        assert step.model_state["steps"] == 0


def test_slow_step_size_zero_changes_no_parameter():
    params, direction = np.float32(vectors(2))
    step = update(params, direction, (np.float32(curvatures(3)), np.float32(vectors(3))), slow=0.0)
    np.testing.assert_array_equal(step.params, params)
    assert step.displacement_norm == 0
    assert step.model_state["steps"] == 3


@pytest.mark.parametrize("muted", ["direction", "mask", "fast"])
@pytest.mark.parametrize("slow", [1.0, 0.4])
def test_without_a_task_step_it_is_replay_fine_tuning(x64, muted, slow):
    params, direction = vectors(2)
    x = curvatures(4), vectors(4, seed=3)
    if muted == "direction":
        step = update(params, np.zeros(SIZE), x, slow=slow)
    elif muted == "mask":
        step = update(params, direction, x, mask=np.zeros(SIZE), slow=slow)
    else:
        step = update(params, direction, x, fast=0.0, slow=slow)
    tuned, losses = params, []
    for matrix, optimum in zip(*x, strict=True):
        losses.append(0.5 * (tuned - optimum) @ matrix @ (tuned - optimum))
        tuned = tuned - REMAIN_RATE * matrix @ (tuned - optimum)
    np.testing.assert_allclose(step.params, params + slow * (tuned - params), rtol=1e-12)
    np.testing.assert_allclose(step.remain_losses, losses, rtol=1e-12)
    assert step.model_state["steps"] == 4


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
def test_masked_weights_move_only_through_inner_steps(free):
    params, direction = np.float32(vectors(2))
    mask = np.float32(free)
    x = np.float32(curvatures(3)), np.float32(vectors(3))
    still = update(params, direction, x, mask=mask, remain=0.0).params
    np.testing.assert_array_equal(np.asarray(still)[mask == 0], params[mask == 0])
    assert np.all(np.asarray(still)[mask == 1] != params[mask == 1])
    # Diagonal curvature couples nothing: masked weights end where they end without any task step.
    diagonal = np.float32(np.repeat(np.diag(np.arange(1.0, SIZE + 1))[None], 3, axis=0)), x[1]
    masked, replayed = update(params, direction, diagonal, mask=mask), update(params, 0 * params, diagonal, mask=mask)
    np.testing.assert_array_equal(np.asarray(masked.params)[mask == 0], np.asarray(replayed.params)[mask == 0])


def test_a_mask_of_ones_is_no_mask():
    params, direction = np.float32(vectors(2))
    x = np.float32(curvatures(2)), np.float32(vectors(2))
    with_ones, without = update(params, direction, x, mask=np.ones(SIZE, np.float32)), update(params, direction, x)
    for a, b in zip(jax.tree.leaves(with_ones), jax.tree.leaves(without), strict=True):
        np.testing.assert_array_equal(a, b)


# --- clipping --------------------------------------------------------------------------------------------------------

jit_fast_step = jax.jit(fast_step)


@settings(max_examples=30, deadline=None)
@given(st.floats(2.0**-10, 2.0**10), st.floats(2.0**-10, 2.0**10))
def test_clipping_bounds_the_norm_of_the_masked_direction(scale, clip):
    """The mask comes first: what it removes does not use up the norm."""
    direction = {"a": np.float32(scale) * np.float32([3.0, 100.0]), "b": np.float32(scale) * np.float32([[4.0]])}
    mask = {"a": np.float32([1.0, 0.0]), "b": np.ones((1, 1), np.float32)}
    zeros = jax.tree.map(np.zeros_like, direction)
    step = jit_fast_step(zeros, direction, mask=mask, fast_learning_rate=0.5, clip_norm=clip)
    assert step.norm == pytest.approx(5 * scale, rel=1e-5)
    factor = -0.5 * min(1.0, clip / (5 * scale))
    np.testing.assert_allclose(step.fast_params["a"], factor * scale * np.array([3.0, 0.0]), rtol=1e-5)
    np.testing.assert_allclose(step.fast_params["b"], factor * scale * np.array([[4.0]]), rtol=1e-5)
    if abs(5 * scale - clip) > 1e-3 * clip:
        assert step.clipped == (5 * scale > clip)


def test_an_infinite_norm_switches_clipping_off():
    direction = np.float32([3e10, 4e10])
    step = jit_fast_step(np.zeros(2, np.float32), direction, fast_learning_rate=0.5, clip_norm=INFINITY)
    np.testing.assert_array_equal(step.fast_params, -0.5 * direction)
    assert not step.clipped


def test_clipping_to_a_small_norm_keeps_the_direction(x64):
    step = jit_fast_step(np.zeros(2), np.array([3.0, 4.0]), fast_learning_rate=1.0, clip_norm=1e-12)
    np.testing.assert_allclose(step.fast_params, [-0.6e-12, -0.8e-12], rtol=1e-13)
    assert step.clipped


def test_norm_of_nothing_is_zero_with_slope_zero():
    zeros = {"a": jnp.zeros(2), "b": jnp.zeros((1, 1))}
    value, slope = jax.value_and_grad(global_norm)(zeros)
    assert value == 0
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_non_finite_direction_shows_in_the_norm(value):
    step = jit_fast_step(np.zeros(2), np.array([value, 1.0]), fast_learning_rate=1.0, clip_norm=1.0)
    np.testing.assert_equal(float(step.norm), value)
    assert np.isnan(step.fast_params[0])


def test_parameters_keep_their_type():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    for result in (
        descend(params, params, jnp.float32(0.1)),
        slow_step(params, jax.tree.map(jnp.zeros_like, params), jnp.float32(0.5)),
        inner_steps(params, {}, lambda p, s, x: (p, s, x), jnp.zeros(2), remain_learning_rate=jnp.float32(0.1))[0],
    ):
        assert jax.tree.map(lambda x: x.dtype, result) == jax.tree.map(lambda x: x.dtype, params)


# --- the loop --------------------------------------------------------------------------------------------------------


def draw_noise(key):
    return jax.random.normal(key, (2,))


def noisy_outer_step(key, params, model_state, noise, moment):
    assert noise.shape == params.shape
    return (
        params / 2 + noise,
        model_state + 1,
        {"k": moment.k, "share": moment.remaining_share, "noise": noise, "before": params},
    )


def run(outer_steps, on_step=None):
    """Compiled anew each time, as the callback is part of the program."""
    key = jax.random.key(3)
    loop = jax.jit(
        lambda params: request_loop(draw_noise, noisy_outer_step, params, 0, key, outer_steps, on_step=on_step)
    )
    result = loop(jnp.ones(2))
    jax.effects_barrier()
    return result


@pytest.mark.parametrize("outer_steps", [0, 1, 4])
def test_loop_repeats_the_outer_step_with_fresh_keys_and_falling_shares(outer_steps):
    params, state, per_step = run(outer_steps)
    expected = np.ones(2)
    for k in range(outer_steps):
        np.testing.assert_allclose(per_step["before"][k], expected, rtol=1e-6)
        expected = expected / 2 + per_step["noise"][k]
    np.testing.assert_allclose(params, expected, rtol=1e-6)
    assert state == outer_steps
    assert per_step["noise"].shape == (outer_steps, 2)
    assert len(np.unique(per_step["noise"])) == 2 * outer_steps
    np.testing.assert_array_equal(per_step["k"], range(outer_steps))
    np.testing.assert_allclose(per_step["share"], [1 - k / outer_steps for k in range(outer_steps)], rtol=1e-6)


@pytest.mark.parametrize("outer_steps", [1, REPORTS, 5 * REPORTS + 19])
def test_progress_is_reported_and_changes_nothing(outer_steps):
    calls = []

    def on_step(done, total, per_step):
        calls.append((int(done), int(total), float(per_step["share"])))

    reported, silent = run(outer_steps, on_step), run(outer_steps)
    for a, b in zip(jax.tree.leaves(reported), jax.tree.leaves(silent), strict=True):
        np.testing.assert_array_equal(a, b)
    assert min(outer_steps, REPORTS) <= len(calls) < 2 * REPORTS
    every = max(1, outer_steps // REPORTS)
    # Unordered callbacks: the program need not wait for the host.
    assert [done for done, _, _ in sorted(calls)] == list(range(every, outer_steps + 1, every))
    for done, total, share in calls:
        assert total == outer_steps
        assert share == pytest.approx(1 - (done - 1) / outer_steps, rel=1e-5)
