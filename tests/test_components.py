"""The four components against hand-derived backward passes, central differences, padding, state and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ugclu_jax.coefficients import adaptive, uniform
from ugclu_jax.components import (
    Shares,
    euclidean_direction,
    learning_gradient,
    modulate,
    preserving_gradient,
    unlearning_gradient,
    weighted_gradient,
)
from ugclu_jax.types import Batch

WEIGHTS = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])


@functools.partial(jax.jit, static_argnums=0)
def plain_components(apply_fn, params, batch):
    return tuple(
        component(apply_fn, params, {}, batch)
        for component in (learning_gradient, unlearning_gradient, preserving_gradient)
    )


@functools.partial(jax.jit, static_argnames=("apply_fn", "kind", "axis_name"))
def adaptive_component(apply_fn, params, batch, exponent, kind, axis_name=None):
    component = learning_gradient if kind == "learn" else unlearning_gradient
    coefficient_fn = adaptive(kind, exponent, 0.7, axis_name=axis_name)
    return component(apply_fn, params, {}, batch, coefficient_fn, axis_name=axis_name)


def draw(seed=1, weights=WEIGHTS):
    rng = np.random.default_rng(seed)
    return Batch(rng.normal(size=(len(weights), 3)), rng.integers(0, 3, len(weights)), weights)


def assert_close(tree, expected, **tolerance):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, err_msg=name, **{"rtol": 1e-11, "atol": 1e-14, **tolerance})


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
def test_task_components_are_those_of_a_loop(x64, tiny, kind):
    """With λ ≠ 0 the loop's coefficients are constants: agreement means that they are held constant."""
    batch = draw()
    coefficients = reference.coefficients(kind, reference.losses(tiny.twin, tiny.params, batch), WEIGHTS, 0.5, 0.7)
    expected, loss = reference.mean_gradient(tiny.twin, tiny.params, batch, coefficients)
    component = adaptive_component(tiny.apply_fn, tiny.params, batch, 0.5, kind)
    sign = 1 if kind == "learn" else -1
    assert_close(component.gradient, {name: sign * g for name, g in expected.items()})
    assert component.loss == pytest.approx(loss, rel=1e-12)


def test_without_coefficients_all_three_are_the_mean_gradient(x64, tiny):
    batch = draw(2)
    expected, loss = reference.mean_gradient(tiny.twin, tiny.params, batch)
    for result, sign in zip(plain_components(tiny.apply_fn, tiny.params, batch), (1, -1, 1), strict=True):
        assert_close(result.gradient, {name: sign * g for name, g in expected.items()})
        assert result.loss == pytest.approx(loss, rel=1e-12)


def test_gradient_is_the_central_difference_of_the_loss(x64, tiny):
    batch, gradient = draw(3), {}
    for name, leaf in tiny.params.items():
        gradient[name] = np.zeros_like(leaf)
        for place in np.ndindex(leaf.shape):
            ends = []
            for shift in (1e-5, -1e-5):
                moved = leaf.copy()
                moved[place] += shift
                ends.append(float(plain_components(tiny.apply_fn, {**tiny.params, name: moved}, batch)[2].loss))
            gradient[name][place] = (ends[0] - ends[1]) / 2e-5
    assert_close(plain_components(tiny.apply_fn, tiny.params, batch)[2].gradient, gradient, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
def test_padding_changes_nothing(x64, mlp, kind):
    full = Batch(*(x[WEIGHTS == 1] for x in draw()[:3]))
    garbage = draw()._replace(inputs=np.where(WEIGHTS[:, None] == 1, draw().inputs, 1e3))
    padded, plain = (adaptive_component(mlp.apply_fn, mlp.params, batch, 0.5, kind) for batch in (garbage, full))
    assert_close(padded.gradient, plain.gradient)
    assert padded.loss == pytest.approx(float(plain.loss), rel=1e-13)


# --- mutable statistics ----------------------------------------------------------------------------------------------


def normalising(params, model_state, inputs, *, train, rng_key):
    """A linear model behind running means, with noise on its logits; in training mode it needs a key."""
    mean = inputs.mean(0) if train else model_state["mean"]
    state = {"mean": 0.5 * model_state["mean"] + 0.5 * mean} if train else model_state
    noise = jax.random.normal(rng_key) if train else 0.0
    return (inputs - mean) @ params["kernel"] + params["bias"] + noise * params["noise"], state


NORMALISING = {"kernel": np.ones((3, 3)), "bias": np.zeros(3), "noise": np.arange(3.0)}


jit_gradient = jax.jit(weighted_gradient, static_argnames=("apply_fn", "coefficient_fn", "train"))


def normalising_gradient(weights, train=True, key=0):
    return jit_gradient(
        normalising,
        NORMALISING,
        {"mean": np.full(3, 2.0)},
        draw(weights=weights),
        uniform,
        train=train,
        rng_key=jax.random.key(key) if train else None,
    )


def test_a_batch_of_padding_has_no_gradient_and_leaves_the_state_alone():
    component = normalising_gradient(np.zeros(8))
    assert_close(component.gradient, jax.tree.map(np.zeros_like, NORMALISING))
    np.testing.assert_array_equal(component.model_state["mean"], np.full(3, 2.0))
    assert component.loss == 0


def test_training_mode_updates_the_state_and_uses_the_key():
    component = normalising_gradient(np.ones(8))
    np.testing.assert_allclose(component.model_state["mean"], 1.0 + 0.5 * draw().inputs.mean(0), rtol=1e-5)
    assert normalising_gradient(np.ones(8)).loss == component.loss
    assert normalising_gradient(np.ones(8), key=1).loss != component.loss


def test_evaluation_mode_leaves_the_state_alone_and_needs_no_key():
    component = normalising_gradient(np.ones(8), train=False)
    np.testing.assert_array_equal(component.model_state["mean"], np.full(3, 2.0))


# --- combination and devices -----------------------------------------------------------------------------------------


def test_modulation_and_the_euclidean_combination():
    rng = np.random.default_rng(0)
    remain, task, removal, task_mask, removal_mask = ({"w": x, "b": x[0]} for x in rng.normal(size=(5, 2, 3)))
    combined = euclidean_direction(
        Shares(0.5, 0.3, 0.2),
        remain=remain,
        learn=task,
        unlearn=removal,
        learn_mask=task_mask,
        unlearn_mask=removal_mask,
    )
    expected = {
        name: 0.5 * remain[name] + 0.3 * task_mask[name] * task[name] + 0.2 * removal_mask[name] * removal[name]
        for name in remain
    }
    assert_close(combined, expected, rtol=1e-5)
    without_mask = euclidean_direction(Shares(0.5, unlearn=0.5), remain=remain, unlearn=removal)
    assert_close(without_mask, {name: 0.5 * (remain[name] + removal[name]) for name in remain}, rtol=1e-5)
    assert_close(euclidean_direction(Shares(2.0), remain=remain), {name: 2 * g for name, g in remain.items()})
    assert modulate(None, task) is task
    assert_close(modulate(task_mask, task), {name: task_mask[name] * g for name, g in task.items()}, rtol=1e-6)


@pytest.mark.parametrize(("kind", "devices"), [("learn", 2), ("unlearn", 4)])
def test_devices_agree_with_one(x64, mlp, kind, devices):
    batch = draw()
    shards = Batch(*(x.reshape(devices, -1, *x.shape[1:]) for x in batch[:3]))
    local = jax.vmap(
        lambda shard: adaptive_component(mlp.apply_fn, mlp.params, shard, 0.5, kind, axis_name="device"),
        axis_name="device",
    )
    split, whole = jax.jit(local)(shards), adaptive_component(mlp.apply_fn, mlp.params, batch, 0.5, kind)
    for device in range(devices):
        assert_close({name: g[device] for name, g in split.gradient.items()}, whole.gradient)
    np.testing.assert_allclose(split.loss, np.full(devices, whole.loss), rtol=1e-13)


def test_devices_average_the_statistics_of_the_state():
    shards = Batch(*(x.reshape(2, 4, *x.shape[1:]) for x in draw(weights=np.ones(8))[:3]))

    def local(shard):
        state, key = {"mean": jnp.full(3, 2.0)}, jax.random.key(0)
        return weighted_gradient(normalising, NORMALISING, state, shard, rng_key=key, axis_name="device")

    split = jax.jit(jax.vmap(local, axis_name="device"))(shards)
    expected = normalising_gradient(np.ones(8)).model_state["mean"]
    np.testing.assert_allclose(split.model_state["mean"], [expected, expected], rtol=1e-5)


def test_another_loss_of_the_logits_goes_through_the_same_mean(x64, regression):
    """Squared distance to given logits; its gradient is walked by hand, padding excluded, on one device and on two."""
    batch, wanted = draw(), np.random.default_rng(9).normal(size=(8, 3))

    def gradient(batch, wanted, axis_name=None):
        def losses_fn(logits, _):
            return jnp.sum((logits - wanted) ** 2, axis=-1)

        return weighted_gradient(
            regression.apply_fn, regression.params, {}, batch, losses_fn=losses_fn, axis_name=axis_name
        )

    expected = reference.regression_logit_gradient(regression.params, batch, lambda logits, i: 2 * (logits - wanted[i]))
    assert_close(gradient(batch, wanted).gradient, expected)
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), (batch, wanted))
    split = jax.vmap(lambda b, w: gradient(b, w, "device"), axis_name="device")(*halves)
    for device in range(2):
        assert_close({name: g[device] for name, g in split.gradient.items()}, expected)
