"""MU-Mis: sensitivities and gradients in closed form, the stopping rule by hand, and inputs without a gradient."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_stream import CLASSES, INPUTS, LABELS, buffer_of, examples

import ugclu_jax as clu
from ugclu_jax.at import At
from ugclu_jax.methods.mu_mis import MUMisBatch, MUMisHyper, direction, mu_mis, sensitivities
from ugclu_jax.stepping import TaskSettings
from ugclu_jax.types import Batch, Execution, MethodState

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
FREE = {"clip_norm": math.inf, "stop_ratio": math.inf}
KERNEL = np.random.default_rng(5).normal(size=(3, 2))


def settings_of(steps=6, schedule="constant"):
    return TaskSettings(steps=steps, task_batch_size=4, schedule=schedule)


def two_classes(params, model_state, inputs, *, train, rng_key):
    """Of a linear model the sensitivity of a class is the length of its column; the other class is no chance of two."""
    return inputs @ params, model_state


def unlearn(apply_fn, params, hyper, task=(3,), steps=6, devices=None):
    update = mu_mis(apply_fn, settings_of(steps)).unlearn
    before = MethodState(params, {}, {"another": 7})
    # The label of each is 0 of two classes, unless the task is another.
    drawn = examples(task)
    arguments = (jax.random.key(0), before, hyper, drawn, buffer_of([9]))
    if devices is None:
        return jit(update)(*arguments)
    mapped = jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device")
    return jit(mapped)(jnp.zeros(devices))


# --- the loss --------------------------------------------------------------------------------------------------------


def mlp_sensitivity(params, x, c):
    hidden = np.tanh(x @ params["kernel1"] + params["bias1"])
    return float(((params["kernel1"] @ ((1 - hidden**2) * params["kernel2"][:, c])) ** 2).sum())


def test_sensitivities_are_those_of_the_chain_rule(x64, mlp):
    others = (LABELS + 1) % CLASSES
    at = At(mlp.apply_fn, mlp.params, {})
    found = sensitivities(at, jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.asarray(others))
    for classes, values in zip((LABELS, others), found, strict=True):
        expected = [mlp_sensitivity(mlp.params, x, c) for x, c in zip(INPUTS, classes, strict=True)]
        np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_the_gradient_is_that_of_differences(x64, mlp):
    """Central differences of the loss of the chain rule, padding left out; and clipping makes it shorter only."""
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    batch = MUMisBatch(Batch(INPUTS[:4], jnp.asarray(LABELS[:4]), weights), jnp.asarray((LABELS[:4] + 2) % CLASSES))

    def loss(params):
        terms = [
            mlp_sensitivity(params, INPUTS[i], LABELS[i])
            - mlp_sensitivity(params, INPUTS[i], (LABELS[i] + 2) % CLASSES)
            for i in (0, 2, 3)
        ]
        return sum(terms) / 3

    at = At(mlp.apply_fn, mlp.params, {})
    found = jit(lambda: direction(at, batch, MUMisHyper(**FREE)))()
    for name, p in mlp.params.items():
        for place in np.ndindex(p.shape):
            step = np.zeros_like(p)
            step[place] = 1e-5
            up, down = (loss({**mlp.params, name: p + sign * step}) for sign in (1, -1))
            assert float(found.gradient[name][place]) == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-8)
    assert float(found.report.task_loss) == pytest.approx(loss(mlp.params), rel=1e-12)
    norm = float(found.report.task_norm)
    short = direction(at, batch, MUMisHyper(clip_norm=norm / 4))
    assert bool(short.report.clipped) and not bool(found.report.clipped)
    np.testing.assert_allclose(short.gradient["kernel2"], found.gradient["kernel2"] / 4, rtol=1e-12)


def test_pixels_count_as_shares_of_255():
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3)).astype(np.uint8)

    def of_pixels(params, model_state, inputs, *, train, rng_key):
        return jnp.sin(inputs / 255 * 3) @ params, model_state

    def of_shares(params, model_state, inputs, *, train, rng_key):
        return jnp.sin(inputs * 3) @ params, model_state

    classes, kernel = jnp.array([0, 1, 0, 1]), KERNEL.astype(np.float32)
    (stored,) = sensitivities(At(of_pixels, kernel, {}), jnp.asarray(pixels), classes)
    (shares,) = sensitivities(At(of_shares, kernel, {}), jnp.asarray(pixels / 255, jnp.float32), classes)
    np.testing.assert_allclose(stored, shares, rtol=1e-5)


# --- the steps, and where they end -----------------------------------------------------------------------------------
# Two classes, a linear model: k_0 ← (1 − 2η) k_0, k_1 ← (1 + 2η) k_1, and r_k = (1 + 2η)^k.


def columns_after(steps, rate, weight_decay=0.0):
    return KERNEL * (np.array([1 - 2 * rate, 1 + 2 * rate]) - rate * weight_decay) ** steps


@pytest.mark.parametrize(("stop_ratio", "taken"), [(math.inf, 6), (1.0, 1), (1.25, 3), (1.5, 5), (9.0, 6)])
def test_steps_end_when_the_other_class_has_more_than_its_share(x64, stop_ratio, taken):
    """1.1² = 1.21, 1.1³ = 1.331, 1.1⁴ = 1.4641, 1.1⁵ = 1.61051: from the first k over δ on no step is taken."""
    state, info = unlearn(two_classes, KERNEL, MUMisHyper(0.05, clip_norm=math.inf, stop_ratio=stop_ratio))
    np.testing.assert_allclose(state.params, columns_after(taken, 0.05), rtol=1e-12)
    assert np.count_nonzero(info.displacement_norms) == taken
    assert np.count_nonzero(info.fast_norms) == taken and info.remain_losses.shape == (0, 0)
    assert state.extra == {"another": 7}


def test_a_share_that_only_falls_ends_nothing(x64):
    """Weight decay shrinks both columns: r_k is over δ all the time, and never over what it was."""
    hyper = MUMisHyper(0.05, weight_decay=4.0, clip_norm=math.inf, stop_ratio=1e-3)
    state, _ = unlearn(two_classes, KERNEL, hyper)
    np.testing.assert_allclose(state.params, columns_after(6, 0.05, 4.0), rtol=1e-12)


def test_no_rate_changes_nothing():
    state, _ = unlearn(two_classes, KERNEL.astype(np.float32), MUMisHyper(0.0))
    np.testing.assert_array_equal(state.params, KERNEL.astype(np.float32))


def test_the_model_runs_in_evaluation_mode_and_keeps_its_statistics():
    def averaging(params, model_state, inputs, *, train, rng_key):
        assert not train and rng_key is None
        return (inputs - model_state["mean"]) @ params, {"mean": model_state["mean"] + 1}

    update = jit(mu_mis(averaging, settings_of(2)).unlearn)
    before = MethodState(KERNEL.astype(np.float32), {"mean": jnp.ones(3)})
    state, _ = update(jax.random.key(0), before, MUMisHyper(), examples([3], INPUTS.astype(np.float32)), buffer_of([9]))
    assert state.model_state["mean"].tolist() == [1, 1, 1]


def test_other_classes_are_never_the_label_and_all_that_are_left():
    """A head that marks each class by its column: what has grown was drawn as another class."""
    kernel = np.eye(3, dtype=np.float32)

    def wide(params, model_state, inputs, *, train, rng_key):
        return inputs @ params, model_state

    for row in range(3):
        state, _ = unlearn(wide, kernel, MUMisHyper(1e-3, **FREE), task=(row,), steps=8)
        lengths = np.linalg.norm(state.params, axis=0)
        assert lengths[LABELS[row]] < 1 and all(lengths[c] > 1 for c in range(3) if c != LABELS[row])


def test_devices_agree_with_one(x64, mlp):
    drawn = {"task": (4, 5, 6), "hyper": MUMisHyper(0.05, clip_norm=0.5, stop_ratio=1.05)}
    split, whole = unlearn(mlp.apply_fn, mlp.params, devices=2, **drawn), unlearn(mlp.apply_fn, mlp.params, **drawn)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


# --- what has no gradient --------------------------------------------------------------------------------------------


def test_token_ids_are_refused_at_every_door():
    def of_tokens(params, model_state, inputs, *, train, rng_key):
        return params[inputs].mean(1), model_state

    method, table = mu_mis(of_tokens, settings_of()), np.zeros((9, 2), np.float32)
    data = clu.Data(np.ones((4, 5), np.int32), np.array([0, 1, 0, 1]))
    message = "inputs of int32, as token ids are, have none: give uint8 or floats, or take another method"
    for each in (method, clu.combine(learn=clu.do_nothing(), unlearn=method)):
        with pytest.raises(ValueError, match=message):
            clu.init(jax.random.key(0), each, table, data, capacity=3)
    with pytest.raises(ValueError, match=message):
        method.unlearn(jax.random.key(0), MethodState(table, {}), MUMisHyper(), data[:2], buffer_of([]))
