"""Masked small gradients: what starts anew against a sort, requests against a loop, and what is left at the ends."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_stream import CLASSES, INPUTS, LABELS, assert_close, buffer_of, examples

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.kernels import kernels
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.methods.msg import MSGHyper, MSGSettings, msg, reset, small_gradients
from ugclu_jax.stepping import BufferSettings, DescentHyper
from ugclu_jax.types import Execution, MethodState

RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}
HYPER = MSGHyper(**RATES, distillation_weight=0.4, reset_share=0.4, kept_gradient_share=0.2)
SETTINGS = MSGSettings(steps=3, remain_batch_size=4, saliency_batches=2)
RNG = np.random.default_rng(3)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def fresh_of(params):
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=p.shape) for name, p in params.items()}


def unlearn(tiny, hyper=HYPER, task=(4,), kept=(9,), settings=SETTINGS, devices=None, params=None):
    fresh = fresh_of(tiny.params)
    update = msg(tiny.apply_fn, settings, init_fn=lambda rng_key: (fresh, {})).unlearn
    before = MethodState(tiny.params if params is None else params, {}, {"another": 7})
    arguments = (jax.random.key(0), before, hyper, examples(task), buffer_of(kept))
    if devices is None:
        return jit(update)(*arguments)
    mapped = jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device")
    return jit(mapped)(jnp.zeros(devices))


def begun(params, fresh, statistic, share, kept_share):
    """Of each matrix the weights of smallest statistic, found by a sort; the mask of the steps."""
    start, mask = {n: p.copy() for n, p in params.items()}, {n: np.ones_like(p) for n, p in params.items()}
    for name, p in params.items():
        if p.ndim < 2:
            continue
        places = sorted(np.ndindex(p.shape), key=lambda place, s=statistic[name]: s[place])
        number = p.size - round((1 - share) * p.size)
        mask[name][:] = kept_share
        for place in places[:number]:
            start[name][place], mask[name][place] = fresh[name][place], 1.0
    return start, mask


# --- the start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.4, 1.0])
def test_of_each_kernel_the_smallest_start_anew(x64, mlp, share):
    statistic = {name: RNG.random(p.shape) for name, p in mlp.params.items()}
    fresh = fresh_of(mlp.params)
    found = reset(mlp.params, fresh, statistic, dataclasses.replace(HYPER, reset_share=share))
    start, mask = begun(mlp.params, fresh, statistic, share, 0.2)
    assert_close(found.params, start, rtol=0, atol=0)
    assert_close(found.mask, mask)


def test_convolutions_alone_are_reset_where_there_are_any():
    params = {"conv": jnp.ones((3, 3, 1, 2)), "head": jnp.ones((4, 2)), "bias": jnp.ones(2)}
    assert kernels(params) == {"conv": True, "head": False, "bias": False}
    fresh = jax.tree.map(jnp.zeros_like, params)
    found = reset(params, fresh, params, MSGHyper(reset_share=1.0))
    assert not found.params["conv"].any() and found.params["head"].all() and found.params["bias"].all()
    assert all(leaf.all() for leaf in found.mask.values())


def test_the_statistic_is_that_of_the_difference(x64, mlp):
    at, task, buffer, key = (
        At(mlp.apply_fn, mlp.params, {}),
        examples([4, 5, 6]),
        buffer_of([9, 2, 1]),
        jax.random.key(3),
    )
    found = small_gradients(key, at, task, buffer, SETTINGS)
    task_key, remain_key = jax.random.split(key)
    means = []
    for drawn in (from_buffer(remain_key, buffer, (2, 4)), from_task(task_key, task, (2, 4))):
        flat = [np.asarray(x).reshape(8, *x.shape[2:]) for x in drawn[:3]]
        means.append(reference.mean_gradient(mlp.twin, mlp.params, flat)[0])
    assert_close(found, {name: np.abs(means[0][name] - means[1][name]) for name in mlp.params})


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distillation", [False, True])
def test_a_request_is_that_of_a_loop(x64, mlp, distillation):
    """The teacher is the network before its weights were reset."""
    state, info = unlearn(mlp, settings=dataclasses.replace(SETTINGS, distillation=distillation))
    away, remain = (mlp.twin.gradient(mlp.params, INPUTS[i], LABELS[i]) for i in (4, 9))
    statistic = {name: np.abs(remain[name] - away[name]) for name in remain}
    params, mask = begun(mlp.params, fresh_of(mlp.params), statistic, 0.4, 0.2)
    target = np.eye(CLASSES)[LABELS[9]]
    if distillation:
        target = reference.distilled(mlp.twin.logits(mlp.params, INPUTS[9]), LABELS[9], 0.4, departed=[LABELS[4]])
    apply = reference.Optimizer("sgd", 0.7, 0.05)
    for k in range(3):
        gradient = reference.soft_gradient(mlp.twin, params, INPUTS[9], target)
        params = apply(params, {name: mask[name] * g for name, g in gradient.items()}, 0.3 * (1 - k / 3))
    assert_close(state.params, params)
    assert_close(info.mask_density, {name: m.mean() for name, m in mask.items()}, rtol=1e-6)
    assert state.extra == {"another": 7} and info.remain_losses.shape == (3, 1) and info.task_losses.shape == (0,)


@pytest.mark.parametrize("distillation", [False, True])
def test_no_share_under_whole_gradients_is_fine_tuning_bit_for_bit(mlp, distillation):
    hyper = dataclasses.replace(HYPER, reset_share=0.0, kept_gradient_share=1.0)
    kept, taught = (9, 2, 1, 7), {"distillation": distillation}
    state, _ = unlearn(mlp, hyper, kept=kept, settings=dataclasses.replace(SETTINGS, **taught))
    plain = finetune_remain(mlp.apply_fn, BufferSettings(steps=3, remain_batch_size=4, **taught), num_classes=CLASSES)
    key = jax.random.split(jax.random.key(0), 3)[-1]  # what the preparation leaves for the steps
    before, hyper = MethodState(mlp.params, {}, {"another": 7}), DescentHyper(**RATES, distillation_weight=0.4)
    expected, _ = jit(plain.unlearn)(key, before, hyper, examples([4]), buffer_of(kept))
    jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_the_whole_share_leaves_nothing_of_the_kernels(mlp):
    hyper = dataclasses.replace(HYPER, reset_share=1.0)
    other = {name: p + (p.ndim == 2) * RNG.normal(size=p.shape) for name, p in mlp.params.items()}
    first, second = (unlearn(mlp, hyper, params=params)[0].params for params in (mlp.params, other))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_devices_agree_with_one(x64, mlp):
    drawn = {"task": (4, 5, 6), "kept": (9, 2, 1, 7)}
    split, whole = unlearn(mlp, devices=2, **drawn), unlearn(mlp, **drawn)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)
