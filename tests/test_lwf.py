"""LwF: the teacher's loss by hand, which classes it speaks of, and who the teacher is."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_stream import CLASSES, INPUTS, LABELS, assert_close, buffer_of, examples, random_batch, repeated

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, along
from ugclu_jax.loop import Moment
from ugclu_jax.methods.lwf import LwFHyper, Past, direction, lwf, teacher_losses
from ugclu_jax.stepping import DescentSettings, TaskSettings, start
from ugclu_jax.types import Batch, Execution, MethodState

SETTINGS = TaskSettings(steps=3, task_batch_size=4)
HYPER = LwFHyper(learning_rate=0.3, momentum=0.7, weight_decay=0.05, old_class_weight=1.5, temperature=2.5)
RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}


@functools.partial(jax.jit, static_argnames=("apply_fn", "devices"))
def learn(apply_fn, params, hyper, task, buffer, devices=None):
    method = lwf(apply_fn, SETTINGS, num_classes=CLASSES)
    run = functools.partial(method.learn, jax.random.key(0), MethodState(params, {}), hyper, task, buffer)
    if devices is None:
        return run()[0].params
    return jax.vmap(lambda _: run(where=Execution("device"))[0].params, axis_name="device")(jnp.zeros(devices))


def taught_delta(logits, label, teacher_logits, seen, weight=1.5, temperature=2.5):
    """Gradient in the logits: softmax − onehot, and λ/T (p − q) over the seen classes alone."""
    delta = reference.softmax(logits) - np.eye(CLASSES)[label]
    if seen:
        p, q = (reference.softmax(z[seen] / temperature) for z in (logits, teacher_logits))
        delta[seen] += weight * (p - q) / temperature
    return delta


@pytest.mark.parametrize("seen", [[], [2], [0, 2], [0, 1, 2]])
def test_a_step_is_that_of_a_loop(x64, regression, seen):
    task, rng = random_batch(0, [1, 0, 1, 1]), np.random.default_rng(5)
    teacher = {name: rng.normal(size=p.shape) for name, p in regression.params.items()}
    past = Past((teacher, {}), jnp.isin(jnp.arange(CLASSES), jnp.asarray(seen, int)))
    at = At(regression.apply_fn, regression.params, {}, moment=Moment(remaining_share=0.5), known=past)
    step, batches = along(direction, SETTINGS), Batches(Batch(*task), None)
    carry, _, report = step(at, start(regression.params, SETTINGS), batches, HYPER)
    logits = regression.twin.logits
    gradient = reference.regression_logit_gradient(
        regression.params, task, lambda z, i: taught_delta(z, task[1][i], logits(teacher, task[0][i]), seen)
    )
    moved = reference.add((1.0, gradient), (0.05, regression.params))
    assert_close(carry.params, reference.add((1.0, regression.params), (-0.15, moved)))
    losses = []
    for i in (0, 2, 3):
        z, said = logits(regression.params, task[0][i]), logits(teacher, task[0][i])
        loss = reference.cross_entropy(z, task[1][i])
        if seen:
            p, q = (reference.softmax(x[seen] / 2.5) for x in (z, said))
            loss -= 1.5 * float(q @ np.log(p))
        losses.append(loss)
    assert report.task_loss == pytest.approx(np.mean(losses), rel=1e-11)


@pytest.mark.parametrize("kept", [[9, 1], [2], []], ids=["classes 0 and 1", "class 2", "nothing"])
def test_a_request_is_that_of_a_loop(x64, regression, kept):
    """The teacher is the network at the start, and the classes seen are those of the buffer."""
    params = learn(regression.apply_fn, regression.params, HYPER, examples([4]), buffer_of(kept))
    seen, said = sorted({i % CLASSES for i in kept}), regression.twin.logits(regression.params, INPUTS[4])

    def gradient(params):
        return reference.regression_logit_gradient(
            params, repeated(4), lambda z, _: taught_delta(z, LABELS[4], said, seen)
        )

    assert_close(params, reference.sgd(regression.params, gradient, 3, **RATES))


def test_without_a_weight_or_a_seen_class_it_is_fine_tuning(x64, regression):
    def gradient(params):
        return reference.mean_gradient(regression.twin, params, repeated(4))[0]

    expected = reference.sgd(regression.params, gradient, 3, **RATES)
    silent = dataclasses.replace(HYPER, old_class_weight=0.0)
    for hyper, kept in ((silent, [9, 1]), (HYPER, [])):
        assert_close(learn(regression.apply_fn, regression.params, hyper, examples([4]), buffer_of(kept)), expected)


def test_the_teacher_is_matched_at_its_own_logits_and_extremes_stay_finite():
    """Minimum at the teacher, where the gradient is 0; huge logits and no class at all give no NaN."""
    z, seen = jnp.array([[1.0, -2.0, 0.5]]), jnp.array([True, False, True])
    loss = lambda x, z, seen: teacher_losses(x, z, seen, 2.0).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(loss)(z, z, seen), np.zeros((1, 3)), atol=1e-7)
    assert loss(z + jnp.array([[1.0, 0.0, 0.0]]), z, seen) > loss(z, z, seen)
    assert loss(z + jnp.array([[0.0, 9.0, 0.0]]), z, seen) == loss(z, z, seen), "of the unseen nothing is said"
    for values in (jnp.array([[1e30, -1e30, 0.0]]), z):
        for classes in (seen, jnp.zeros(3, bool)):
            assert bool(jnp.all(jnp.isfinite(jax.grad(loss)(values, -values, classes))))


def test_two_devices_are_one(x64, regression):
    arguments = (regression.apply_fn, regression.params, HYPER, examples([4, 0, 8]), buffer_of([9, 1]))
    one, two = learn(*arguments), learn(*arguments, devices=2)
    for device in range(2):
        assert_close({name: p[device] for name, p in two.items()}, jax.tree.map(np.asarray, one))


def test_what_it_costs_and_what_it_refuses():
    assert lwf(None, TaskSettings(steps=30), num_classes=3).cost("learn", 10_000, 64) == pytest.approx(40)
    with pytest.raises(TypeError, match="distillation"):
        TaskSettings(distillation=True)
    with pytest.raises(ValueError, match="settings of lwf must be TaskSettings, got DescentSettings"):
        lwf(None, DescentSettings(distillation=True), num_classes=3)
