"""Fine-tuning, experience replay and A-GEM: steps and requests against NumPy loops, and what is left without data."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import reference
from small_stream import INPUTS, LABELS, assert_close, buffer_of, examples, random_batch, repeated

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, along
from ugclu_jax.loop import Moment
from ugclu_jax.methods import agem, er, finetune
from ugclu_jax.stepping import DescentHyper, DescentSettings, StepHyper, TaskSettings, start
from ugclu_jax.types import Batch, MethodState

SETTINGS = DescentSettings(steps=3, task_batch_size=4, remain_batch_size=4)
TASK_SETTINGS = TaskSettings(steps=3, task_batch_size=4)
HYPER = DescentHyper(learning_rate=0.3, momentum=0.7, weight_decay=0.05)
RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}
FACTORIES = {"finetune": finetune.finetune, "er": er.er, "agem": agem.agem}


def fitting(name, settings, hyper):
    """Fine-tuning reads no buffer, and has no settings of it."""
    return (TASK_SETTINGS, StepHyper(**RATES)) if name == "finetune" else (settings, hyper)


@functools.partial(jax.jit, static_argnames=("name", "settings", "apply_fn"))
def learn(name, settings, apply_fn, params, hyper, task, buffer, key):
    settings, hyper = fitting(name, settings, hyper)
    method = FACTORIES[name](apply_fn, settings)
    return method.learn(key, MethodState(params, {}, {"another": 7}), hyper, task, buffer)


def project(gradient, reference_gradient):
    """Nearest vector of the half space, by pieces of the two flat vectors."""
    names = sorted(gradient)
    g, r = (np.concatenate([tree[name].ravel() for name in names]) for tree in (gradient, reference_gradient))
    if g @ r < 0:
        unit = r / np.sqrt(r @ r)
        g = g - (g @ unit) * unit
    splits = np.split(g, np.cumsum([gradient[name].size for name in names])[:-1])
    return {name: part.reshape(gradient[name].shape) for name, part in zip(names, splits, strict=True)}


def direction(name, task_gradient, remain_gradient):
    if name == "agem":
        return project(task_gradient, remain_gradient)
    return task_gradient if name == "finetune" else reference.add((1.0, task_gradient), (1.0, remain_gradient))


@pytest.mark.parametrize("name", FACTORIES)
def test_a_step_is_that_of_a_loop(x64, mlp, name):
    """On batches with padding; for A-GEM both where the gradients agree and where they conflict."""
    module, conflicts = {"finetune": finetune, "er": er, "agem": agem}[name], set()
    settings, hyper = fitting(name, SETTINGS, HYPER)

    @jax.jit
    def step(params, batches):
        at = At(mlp.apply_fn, params, {}, moment=Moment(remaining_share=0.5))
        return along(module.direction, settings)(at, start(params, settings), batches, hyper)

    for seed in range(6):
        task, remain = random_batch(seed, [1, 0, 1, 1]), random_batch(100 + seed, [1, 1, 0, 1])
        batches = Batches(Batch(*task), None if name == "finetune" else Batch(*remain))
        carry, state, report = step(mlp.params, batches)
        (g, loss), (r, remain_loss) = (reference.mean_gradient(mlp.twin, mlp.params, b) for b in (task, remain))
        conflicts.add(sum(float(np.vdot(g[leaf], r[leaf])) for leaf in g) < 0)
        moved = reference.add((1.0, direction(name, g, r)), (0.05, mlp.params))
        assert_close(carry.params, reference.add((1.0, mlp.params), (-0.15, moved)))
        assert report.task_loss == pytest.approx(loss, rel=1e-11) and state == {}
        if name != "finetune":
            assert report.remain_loss == pytest.approx(remain_loss, rel=1e-11)
    assert conflicts == {False, True}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_request_is_that_of_a_loop(x64, mlp, name):
    """Momentum, weight decay and the falling rate over three steps; what other methods keep is handed on."""
    arguments = (name, SETTINGS, mlp.apply_fn, mlp.params, HYPER, examples([4]))
    state, info = learn(*arguments, buffer_of([9]), jax.random.key(0))

    def gradient(params):
        task, remain = (reference.mean_gradient(mlp.twin, params, repeated(i))[0] for i in (4, 9))
        return direction(name, task, remain)

    assert_close(state.params, reference.sgd(mlp.params, gradient, 3, **RATES))
    assert state.extra == {"another": 7}
    assert info.task_losses.shape == (3,) and info.remain_losses.shape == ((0, 0) if name == "finetune" else (3, 1))
    assert float(info.gradient_evaluations) == 3 * (4 if name == "finetune" else 8) / 64


def test_without_a_buffer_all_are_fine_tuning(x64, mlp):
    arguments = (SETTINGS, mlp.apply_fn, mlp.params, HYPER, examples([4]), buffer_of([]), jax.random.key(0))
    plain, *others = (learn(name, *arguments)[0].params for name in FACTORIES)
    for params in others:
        assert_close(params, plain)
    expected = reference.sgd(
        mlp.params, lambda params: reference.mean_gradient(mlp.twin, params, repeated(4))[0], 3, **RATES
    )
    assert_close(plain, expected)


def test_the_projection_is_the_nearest_point_of_the_half_space(x64):
    """No other direction that respects the buffer is as near, and one that respects it stays."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        g, r, other = ({"a": rng.normal(size=3), "b": rng.normal(size=(2, 2))} for _ in range(3))
        product = lambda x, y: sum(np.vdot(x[leaf], y[leaf]) for leaf in x)  # noqa: E731
        near = jax.tree.map(np.asarray, agem.project(g, r))
        assert product(near, r) >= -1e-12
        if product(g, r) >= 0:
            assert_close(near, g, rtol=0, atol=0)
        if product(other, r) < 0:
            other = {leaf: -x for leaf, x in other.items()}
        distances = [product(d, d) for d in ({leaf: x[leaf] - g[leaf] for leaf in g} for x in (near, other))]
        assert distances[0] <= distances[1] + 1e-12
    zero = {leaf: np.zeros_like(x) for leaf, x in g.items()}
    assert_close(agem.project(g, zero), g, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["er", "agem"])
def test_the_network_at_the_start_teaches_the_buffer_batches(x64, regression, name):
    """Example 9 of class 0 is kept, example 4 of class 1 is new: its class is deleted from what the teacher says."""
    settings = dataclasses.replace(SETTINGS, distillation=True)
    hyper = dataclasses.replace(HYPER, distillation_weight=0.4)
    arguments = (name, settings, regression.apply_fn, regression.params, hyper, examples([4]))
    state, info = learn(*arguments, buffer_of([9]), jax.random.key(0))
    said = np.exp(regression.twin.logits(regression.params, INPUTS[9]))
    said[LABELS[4]] = 0.0
    target = 0.6 * np.eye(3)[LABELS[9]] + 0.4 * said / said.sum()

    def gradient(params):
        task = reference.mean_gradient(regression.twin, params, repeated(4))[0]
        remain = reference.regression_logit_gradient(
            params, repeated(9), lambda logits, _: reference.softmax(logits) - target
        )
        return direction(name, task, remain)

    assert_close(state.params, reference.sgd(regression.params, gradient, 3, **RATES))
    assert float(info.gradient_evaluations) == pytest.approx((3 * 8 + 6 / 3) / 64)
