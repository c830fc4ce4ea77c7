"""ER-LAS: priors and steps against NumPy loops, the sliding window, and what it is without adjustment."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_stream import CLASSES, INPUTS, LABELS, assert_close, buffer_of, examples, random_batch, repeated

from ugclu_jax.at import At
from ugclu_jax.descent import Batches
from ugclu_jax.loop import Moment
from ugclu_jax.methods.er import er
from ugclu_jax.methods.er_las import ERLASHyper, ERLASSettings, er_las, frequencies, log_prior, step_with
from ugclu_jax.stepping import DescentHyper, DescentSettings, start
from ugclu_jax.types import Batch, Execution, MethodState

RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}
HYPER = ERLASHyper(**RATES, adjustment=0.8)
SIZES = {"steps": 3, "task_batch_size": 4, "remain_batch_size": 4}
TINY = np.finfo(np.float64).tiny
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def learn(tiny, hyper=HYPER, task=(4,), kept=(9,), devices=None, method=None, **settings):
    update = (method or er_las(tiny.apply_fn, ERLASSettings(**SIZES, **settings), num_classes=CLASSES)).learn
    state = MethodState(tiny.params, {}, {"another": 7})
    arguments = (jax.random.key(0), state, hyper, examples(task), buffer_of(kept))
    if devices is None:
        return jit(update)(*arguments)
    mapped = jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device")
    return jit(mapped)(jnp.zeros(devices))


def counted(batch):
    """Frequencies of the labels of a batch, one at a time."""
    found = np.zeros(CLASSES)
    for label, weight in zip(batch[1], batch[2], strict=True):
        found[label] += weight
    return found / max(sum(batch[2]), 1)


def adjusted_gradient(params, batch, log_pi, tau):
    def delta(logits, i):
        return reference.softmax(logits + tau * log_pi) - np.eye(CLASSES)[batch[1][i]]

    return reference.regression_logit_gradient(params, batch, delta)


@pytest.mark.parametrize("window", [1, 2])
def test_steps_are_those_of_a_loop(x64, regression, window):
    """Padding in the batches, which counts in no frequency; the window forgets what is older than its length."""
    settings = ERLASSettings(**SIZES, window_steps=window)
    step = jit(lambda carry, batches: step_with(settings)(at(carry.params), carry, batches, HYPER))

    def at(params):
        return At(regression.apply_fn, params, {}, moment=Moment(remaining_share=0.5))

    carry = start(regression.params, settings, jnp.zeros((window, CLASSES)))
    params, velocity = regression.params, {name: np.zeros_like(p) for name, p in regression.params.items()}
    seen = []
    for seed in range(4):
        task, remain = random_batch(seed, [1, 0, 1, 1]), random_batch(100 + seed, [1, 1, 0, 0])
        carry, _, report = step(carry, Batches(Batch(*task), Batch(*remain)))
        seen = [*seen, (counted(task) + counted(remain)) / 2][-window:]
        log_pi = np.log(np.maximum(np.mean(seen, axis=0), TINY))
        gradient = reference.add(*((1.0, adjusted_gradient(params, b, log_pi, 0.8)) for b in (task, remain)))
        params, velocity = reference.momentum_step(params, velocity, gradient, 0.15, 0.7, 0.05)
        assert_close(carry.params, params)
        np.testing.assert_allclose(carry.memory.sum(0), 2 * np.sum(seen, axis=0), rtol=1e-12)
        assert report.task_loss is not None and report.remain_loss is not None


@pytest.mark.parametrize("distillation", [False, True])
def test_a_request_is_that_of_a_loop(x64, regression, distillation):
    """Of the two classes that are taught each is one half; with a teacher its target is what counts."""
    hyper = dataclasses.replace(HYPER, distillation_weight=0.4)
    state, info = learn(regression, hyper, distillation=distillation)
    target = np.eye(CLASSES)[LABELS[9]]
    if distillation:
        logits = regression.twin.logits(regression.params, INPUTS[9])
        target = reference.distilled(logits, LABELS[9], 0.4, departed=[LABELS[4]])
    log_pi = np.log(np.maximum((np.eye(CLASSES)[LABELS[4]] + target) / 2, TINY))

    def gradient(params):
        task = adjusted_gradient(params, repeated(4), log_pi, 0.8)
        remain = reference.regression_logit_gradient(
            params, repeated(9), lambda logits, _: reference.softmax(logits + 0.8 * log_pi) - target
        )
        return reference.add((1.0, task), (1.0, remain))

    assert_close(state.params, reference.sgd(regression.params, gradient, 3, **RATES))
    assert state.extra == {"another": 7} and info.task_losses.shape == (3,) and info.remain_losses.shape == (3, 1)


@pytest.mark.parametrize("distillation", [False, True])
@pytest.mark.parametrize("window", [1, 3])
def test_without_adjustment_it_is_er_bit_for_bit(mlp, distillation, window):
    """Same key, same draws; classes that the window lacks are no exception."""
    arguments = {"task": (4, 5, 7), "kept": (9, 2, 1)}
    plain = dataclasses.replace(HYPER, adjustment=0.0)
    found = learn(mlp, plain, **arguments, distillation=distillation, window_steps=window)
    method = er(mlp.apply_fn, DescentSettings(**SIZES, distillation=distillation))
    expected = learn(mlp, DescentHyper(**RATES), **arguments, method=method)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_equal_frequencies_adjust_nothing(x64, mlp):
    """A constant that is added to all logits has no effect: a long window over balanced batches is ER."""
    rng = np.random.default_rng(0)
    batch = Batch(jnp.asarray(rng.normal(size=(6, 3))), jnp.arange(6) % CLASSES, jnp.ones(6))
    at = At(mlp.apply_fn, mlp.params, {})
    settings = ERLASSettings(**SIZES)
    moved = [
        step_with(settings)(at, start(mlp.params, settings, jnp.zeros((1, CLASSES))), Batches(batch, batch), hyper)[0]
        for hyper in (HYPER, dataclasses.replace(HYPER, adjustment=0.0))
    ]
    assert_close(moved[0].params, moved[1].params)


def test_padding_and_targets_count_as_they_teach():
    batch = Batch(jnp.zeros((2, 1)), jnp.array([2, 2]), jnp.array([1.0, 0.0]))
    assert frequencies(batch, 3).tolist() == [0.0, 0.0, 1.0]
    assert frequencies(batch._replace(weights=jnp.zeros(2)), 3).tolist() == [0.0, 0.0, 0.0]
    taught = batch._replace(targets=jnp.array([[0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]))
    assert frequencies(taught, 3).tolist() == [0.25, 0.0, 0.75]
    assert bool(jnp.all(jnp.isfinite(log_prior(jnp.zeros((2, 3))))))


def test_devices_agree_with_one(x64, mlp):
    drawn = {"task": (4, 5, 6), "kept": (9, 2, 1, 7), "window_steps": 2}
    split, whole = learn(mlp, **drawn, devices=2), learn(mlp, **drawn)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)
