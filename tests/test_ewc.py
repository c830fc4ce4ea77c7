"""Online EWC: two requests against a loop, the Fisher that is carried, and the penalty that is not there."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_stream import assert_close, buffer_of, examples, random_batch, repeated

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, along
from ugclu_jax.loop import Moment
from ugclu_jax.methods.ewc import Consolidation, EWCHyper, EWCSettings, direction, ewc
from ugclu_jax.methods.finetune import finetune
from ugclu_jax.stepping import TaskSettings, start
from ugclu_jax.types import Batch, Execution

SETTINGS = EWCSettings(steps=3, task_batch_size=4, fisher_batches=2)
HYPER = EWCHyper(learning_rate=0.3, momentum=0.7, weight_decay=0.05, penalty_weight=3.0, fisher_decay=0.6)
RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}


@functools.partial(jax.jit, static_argnames=("apply_fn", "devices"))
def learn(apply_fn, state, hyper, task, key, devices=None):
    method = ewc(apply_fn, SETTINGS)
    run = functools.partial(method.learn, key, state, hyper, task, buffer_of([9]))
    if devices is None:
        return run()[0]
    return jax.vmap(lambda _: run(where=Execution("device"))[0], axis_name="device")(jnp.zeros(devices))


def init(apply_fn, params):
    return ewc(apply_fn, SETTINGS).init(jax.tree.map(jnp.asarray, params), {})


def test_a_step_is_that_of_a_loop(x64, mlp):
    """The penalty is that of every weight by itself; the reported loss is the batch's alone."""
    rng, task = np.random.default_rng(3), random_batch(0, [1, 0, 1, 1])
    fisher, anchor = (
        {name: scale(rng.normal(size=p.shape)) for name, p in mlp.params.items()} for scale in (np.square, np.array)
    )
    at = At(mlp.apply_fn, mlp.params, {}, moment=Moment(remaining_share=0.5), memory=Consolidation(fisher, anchor))
    carry, _, report = along(direction, SETTINGS)(at, start(mlp.params, SETTINGS), Batches(Batch(*task), None), HYPER)
    gradient, loss = reference.mean_gradient(mlp.twin, mlp.params, task)
    for name, p in mlp.params.items():
        total = gradient[name] + 3.0 * fisher[name] * (p - anchor[name]) + 0.05 * p
        np.testing.assert_allclose(carry.params[name], p - 0.15 * total, rtol=1e-11)
    assert report.task_loss == pytest.approx(loss, rel=1e-11)


def test_two_requests_are_those_of_a_loop(x64, mlp):
    """Task of one example each: the first has no penalty, the second is held by the Fisher of the first."""
    state = learn(mlp.apply_fn, init(mlp.apply_fn, mlp.params), HYPER, examples([9]), jax.random.key(0))
    middle = reference.sgd(mlp.params, lambda p: reference.mean_gradient(mlp.twin, p, repeated(9))[0], 3, **RATES)
    fisher = reference.fisher(mlp.twin, middle, [repeated(9)])
    assert_close(state.params, middle)
    assert_close(state.extra["ewc"].anchor, middle)
    assert_close(state.extra["ewc"].fisher, fisher)

    state = learn(mlp.apply_fn, state, HYPER, examples([4]), jax.random.key(1))

    def gradient(params):
        held = {name: 3.0 * fisher[name] * (p - middle[name]) for name, p in params.items()}
        return reference.add((1.0, reference.mean_gradient(mlp.twin, params, repeated(4))[0]), (1.0, held))

    end = reference.sgd(middle, gradient, 3, **RATES)
    assert_close(state.params, end)
    new = reference.fisher(mlp.twin, end, [repeated(4)])
    assert_close(state.extra["ewc"].fisher, reference.add((0.6, fisher), (1.0, new)))
    assert_close(state.extra["ewc"].anchor, end)


def test_without_a_penalty_it_is_fine_tuning_and_a_strong_one_holds(x64, mlp):
    """λ = 0 against the method of that name; with a growing λ the weights stay nearer to the anchor."""
    key, task = jax.random.key(2), examples([4])
    start = learn(mlp.apply_fn, init(mlp.apply_fn, mlp.params), HYPER, examples([9]), jax.random.key(0))
    free = learn(mlp.apply_fn, start, dataclasses.replace(HYPER, penalty_weight=0.0), task, key)
    plain = finetune(mlp.apply_fn, TaskSettings(steps=3, task_batch_size=4))
    assert_close(free.params, plain.learn(key, start, HYPER, task, buffer_of([]))[0].params)

    def moved(penalty):
        hyper = EWCHyper(learning_rate=0.02, penalty_weight=penalty)
        end = learn(mlp.apply_fn, start, hyper, task, key)
        fisher = start.extra["ewc"].fisher
        return sum(float(jnp.sum(fisher[n] * (end.params[n] - start.params[n]) ** 2)) for n in fisher)

    distances = [moved(penalty) for penalty in (0.0, 10.0, 100.0)]
    assert distances[0] > distances[1] > distances[2] > 0


def test_two_devices_are_one(x64, mlp):
    state = learn(mlp.apply_fn, init(mlp.apply_fn, mlp.params), HYPER, examples([9, 1]), jax.random.key(0))
    arguments = (mlp.apply_fn, state, HYPER, examples([4, 0, 8]), jax.random.key(1))
    one, two = learn(*arguments), learn(*arguments, devices=2)
    for device in range(2):
        jax.tree.map(
            lambda split, whole, device=device: np.testing.assert_allclose(split[device], whole, rtol=1e-9, atol=1e-12),
            two,
            one,
        )


def test_settings_and_cost():
    assert ewc(None, EWCSettings(steps=30, fisher_batches=4)).cost("learn", 10_000, 64) == 34
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        EWCSettings(steps=-1)
    with pytest.raises(TypeError, match="distillation"):
        EWCSettings(distillation=True)
