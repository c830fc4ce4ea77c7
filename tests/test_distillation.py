"""Distillation on remaining data: its targets against a loop, and unlearning with it, where every draw is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ugclu_jax import buffer as reservoir
from ugclu_jax.distillation import departed_classes, remain_targets
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.prediction import predict
from ugclu_jax.stepping import BufferSettings, DescentHyper
from ugclu_jax.types import Examples, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER

ROWS, CLASSES = 12, 3
INPUTS = np.random.default_rng(0).normal(size=(ROWS, 3))
LABELS = np.arange(ROWS) % CLASSES
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
insert = jax.jit(reservoir.insert)


def examples(ids, size=5):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids):
    return insert(reservoir.init(6, (3,), jnp.asarray(INPUTS).dtype, jax.random.key(0)), examples(ids))


targets_jit = jax.jit(remain_targets, static_argnames=("apply_fn", "batch_size"))


def targets_by_id(regression, task_ids, buffer_ids, weight):
    buffer = buffer_of(buffer_ids)
    targets = targets_jit(regression.apply_fn, regression.params, {}, examples(task_ids), buffer, weight, batch_size=4)
    return dict(zip(np.asarray(buffer.ids).tolist(), np.asarray(targets), strict=True))


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("task_ids", "departed"),
    [([4, 7], [1]), ([4, 6], [1]), ([3], []), ([], [])],
    ids=["a class leaves", "and another loses", "a class loses", "nothing"],
)
def test_targets_are_those_of_a_loop(x64, regression, task_ids, departed, weight):
    held = [0, 2, 3, 5, 9]  # classes 0 and 2
    targets = targets_by_id(regression, task_ids, held, weight)
    for i in held:
        logits = regression.twin.logits(regression.params, INPUTS[i])
        expected = reference.distilled(logits, LABELS[i], weight, departed)
        np.testing.assert_allclose(targets[i], expected, rtol=1e-12, err_msg=str(i))
        assert np.all(targets[i][departed] == 0.0)
        assert targets[i].sum() == pytest.approx(1.0, rel=1e-12)


def test_without_weight_the_targets_are_the_labels(regression):
    for i, target in targets_by_id(regression, [4], [0, 2, 5], 0.0).items():
        if i >= 0:
            np.testing.assert_array_equal(target, np.eye(CLASSES)[LABELS[i]])


def test_where_every_class_departs_nothing_is_undefined(regression):
    targets = targets_jit(regression.apply_fn, regression.params, {}, examples([0, 1, 2]), buffer_of([]), 0.5)
    assert np.all(np.isfinite(targets))


@pytest.mark.parametrize(
    ("task_ids", "buffer_ids", "departed"),
    [([0, 1], [3, 5], [False, True, False]), ([0, 1], [], [True, True, False]), ([], [0], [False, False, False])],
)
def test_a_class_departs_where_the_buffer_holds_none_of_it(task_ids, buffer_ids, departed):
    # Row -1, which padding points to, is of class 2: it must not count.
    assert departed_classes(examples(task_ids), buffer_of(buffer_ids), CLASSES).tolist() == departed


def test_the_teacher_runs_in_evaluation_mode_and_in_any_batch_size(regression):
    def by_mode(params, model_state, inputs, *, train, rng_key):
        return (-1.0 if train else 1.0) * (inputs @ params["kernel"]), model_state

    expected = INPUTS @ regression.params["kernel"]
    for size in (1, 5, 64):
        logits = predict(by_mode, regression.params, {}, jnp.asarray(INPUTS), batch_size=size)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)


# --- requests --------------------------------------------------------------------------------------------------------


def deltas(regression, params, ids, targets):
    return [reference.softmax(regression.twin.logits(params, INPUTS[i])) - t for i, t in zip(ids, targets, strict=True)]


def test_finetune_remain_unlearns_towards_the_teacher(x64, regression):
    """One example in the buffer: every batch is that example, whose class stays while class 1 leaves."""
    settings = BufferSettings(steps=3, remain_batch_size=4, distillation=True)
    hyper = DescentHyper(0.4, momentum=0.5, weight_decay=0.1, distillation_weight=0.7)
    method = finetune_remain(regression.apply_fn, settings, num_classes=CLASSES)
    run = jax.jit(method.unlearn, compiler_options=QUICK_COMPILATION)
    state, info = run(jax.random.key(0), method.init(regression.params, {}), hyper, examples([4]), buffer_of([9]))

    target = reference.distilled(regression.twin.logits(regression.params, INPUTS[9]), LABELS[9], 0.7, [1])
    params, velocity = regression.params, {name: 0.0 * p for name, p in regression.params.items()}
    for k in range(3):
        gradient = reference.linear_gradient(INPUTS[[9]], deltas(regression, params, [9], [target]), [1])
        params, velocity = reference.momentum_step(params, velocity, gradient, 0.4 * (1 - k / 3), 0.5, 0.1)
    for name in params:
        np.testing.assert_allclose(state.params[name], params[name], rtol=1e-12)
    assert info.gradient_evaluations == pytest.approx((3 * 4 + 6 / 3) / 64)


def test_ug_clu_unlearns_towards_the_teacher(x64, regression):
    settings = dataclasses.replace(
        PLAIN, outer_steps=3, inner_steps=2, task_batch_size=4, remain_batch_size=4, mask="none"
    )
    hyper = dataclasses.replace(
        PLAIN_HYPER,
        fast_learning_rate=0.3,
        remain_learning_rate=0.2,
        slow_step_size=0.8,
        loss_exponent=0.0,
        clip_norm=np.inf,
        remain_weight_decay=0.1,
        distillation_weight=0.7,
    )
    distilling = dataclasses.replace(settings, distillation=True)
    method = ug_clu(regression.apply_fn, settings, distilling, num_classes=CLASSES)
    run = jax.jit(method.unlearn, compiler_options=QUICK_COMPILATION)
    state, info = run(jax.random.key(0), MethodState(regression.params, {}), hyper, examples([4]), buffer_of([9]))

    target = reference.distilled(regression.twin.logits(regression.params, INPUTS[9]), LABELS[9], 0.7, [1])
    params = regression.params
    for k in range(3):
        share = 1 - k / 3
        away = reference.linear_gradient(INPUTS[[4]], deltas(regression, params, [4], [np.eye(3)[1]]), [1])
        fast = {name: p + 0.3 * share * away[name] for name, p in params.items()}
        for _ in range(2):
            gradient = reference.linear_gradient(INPUTS[[9]], deltas(regression, fast, [9], [target]), [1])
            fast = {name: p - 0.2 * share * (gradient[name] + 0.1 * p) for name, p in fast.items()}
        params = {name: 0.2 * p + 0.8 * fast[name] for name, p in params.items()}
    for name in params:
        np.testing.assert_allclose(state.params[name], params[name], rtol=1e-12)
    assert info.gradient_evaluations == pytest.approx((3 * (4 + 2 * 4) + 6 / 3) / 64)
