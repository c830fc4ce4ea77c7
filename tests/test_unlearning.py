"""Gradient ascent, NegGrad+, random labels, ℓ1-sparse: steps and requests against NumPy loops, and what they become."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy import stats

from ugclu_jax import buffer as reservoir
from ugclu_jax.at import At
from ugclu_jax.batches import with_random_labels
from ugclu_jax.descent import Batches, along, follow_remaining
from ugclu_jax.loop import Moment
from ugclu_jax.methods import finetune_remain, gradient_ascent, l1_sparse, neg_grad_plus, random_label
from ugclu_jax.stepping import BufferSettings, DescentHyper, DescentSettings, TaskSettings, start
from ugclu_jax.types import Batch, Examples, Execution, MethodState

CLASSES, STEPS = 3, 3
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(12, 3))
LABELS = np.arange(12) % CLASSES
COMMON = {"learning_rate": 0.3, "momentum": 0.8, "weight_decay": 0.05}
TAUGHT = {**COMMON, "distillation_weight": 0.3}
SIZES = {"task_batch_size": 4, "remain_batch_size": 4}
MODULES = {
    "gradient_ascent": (gradient_ascent, gradient_ascent.GradientAscentHyper(**COMMON, clip_norm=0.4)),
    "neg_grad_plus": (neg_grad_plus, neg_grad_plus.NegGradPlusHyper(**TAUGHT, remain_weight=0.7)),
    "random_label": (random_label, random_label.RandomLabelHyper(**TAUGHT, remain_weight=0.6)),
    "l1_sparse": (l1_sparse, l1_sparse.L1SparseHyper(**TAUGHT, l1_weight=0.2)),
}
READS_TASK, READS_BUFFER = ("gradient_ascent",), ("l1_sparse",)  # alone
READS_TEACHER = [name for name in MODULES if name not in READS_TASK]
insert = jax.jit(reservoir.insert)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def examples(ids, inputs=INPUTS, size=5):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(inputs), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids, inputs=INPUTS):
    empty = reservoir.init(6, inputs.shape[1:], jnp.asarray(inputs).dtype, jax.random.key(0))
    return insert(empty, examples(ids, inputs))


def settings_of(name, **changes):
    """Of the class that the method takes: it has settings of what is read alone."""
    kind = TaskSettings if name in READS_TASK else BufferSettings if name in READS_BUFFER else DescentSettings
    read = {field.name for field in dataclasses.fields(kind)}
    return kind(**{"steps": STEPS, **{size: rows for size, rows in SIZES.items() if size in read}, **changes})


def method_of(name, apply_fn, settings=None):
    other = {"num_classes": CLASSES} if name == "random_label" else {}
    return getattr(MODULES[name][0], name)(apply_fn, settings or settings_of(name), **other)


def unlearn(name, apply_fn, params, *, hyper=None, settings=None, task=(4,), kept=(9,), state=None, devices=None):
    """One request; on `devices` mapped devices every leaf of the result has that leading axis."""
    update = method_of(name, apply_fn, settings).unlearn
    before = MethodState(params, {} if state is None else state, {"of another": 7})
    arguments = (jax.random.key(0), before, hyper or MODULES[name][1], examples(task), buffer_of(kept))
    if devices is None:
        return jit(update)(*arguments)
    mapped = jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device")
    return jit(mapped)(jnp.zeros(devices))


def step_of(name, apply_fn, settings=None):
    """`(carry, batches, share, hyper, rng_key=None) -> (carry, model_state, report)`."""
    step = along(MODULES[name][0].direction, settings or settings_of(name))

    def run(carry, batches, share, hyper, rng_key=None):
        return step(At(apply_fn, carry.params, {}, rng_key, Moment(0, share)), carry, batches, hyper)

    return run


def direction(name, hyper, task, remain, params, share):
    """The gradient that a step descends, from those of the task batch and of the remaining batch."""
    if name == "gradient_ascent":
        return reference.clip(reference.weighted_sum((-1.0, task)), hyper.clip_norm)
    if name == "neg_grad_plus":
        return reference.weighted_sum((hyper.remain_weight, remain), (hyper.remain_weight - 1, task))
    if name == "random_label":
        return reference.weighted_sum((1.0, task), (hyper.remain_weight, remain))
    return reference.weighted_sum((1.0, remain), (hyper.l1_weight * share, {n: np.sign(p) for n, p in params.items()}))


def batches_of(name, task, remain):
    return Batches(None if name in READS_BUFFER else task, None if name in READS_TASK else remain)


def assert_close(tree, expected):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, rtol=1e-11, atol=1e-13, err_msg=name)


# --- against the loop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_steps_are_those_of_a_loop(x64, mlp, name, kind):
    """Momentum, decay and schedule active, padding in the batches; ascent is clipped in every other step."""
    hyper, rng = MODULES[name][1], np.random.default_rng(5)
    settings = settings_of(name, optimizer=kind)
    step = jit(step_of(name, mlp.apply_fn, settings))
    carry, params = start(mlp.params, settings), mlp.params
    apply, clipped = reference.Optimizer(kind, hyper.momentum, hyper.weight_decay), []
    for k in range(4):
        share = 1 - k / 4
        if name == "gradient_ascent":
            hyper = dataclasses.replace(hyper, clip_norm=[np.inf, 0.1][k % 2])
        task = Batch(rng.normal(size=(5, 3)), rng.integers(0, 3, 5), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
        remain = Batch(rng.normal(size=(4, 3)), rng.integers(0, 3, 4), np.array([0.0, 1.0, 1.0, 1.0]))
        carry, state, report = step(carry, batches_of(name, task, remain), share, hyper)
        (g_task, task_loss), (g_remain, remain_loss) = (
            reference.mean_gradient(mlp.twin, params, batch) for batch in (task, remain)
        )
        params = apply(params, direction(name, hyper, g_task, g_remain, params, share), hyper.learning_rate * share)
        assert_close(carry.params, params)
        assert state == {}
        for told, loss in ((report.task_loss, task_loss), (report.remain_loss, remain_loss)):
            assert told is None or float(told) == pytest.approx(loss, rel=1e-11)
        if name == "gradient_ascent":
            assert float(report.task_norm) == pytest.approx(reference.norm(g_task), rel=1e-11)
            clipped.append(bool(report.clipped))
    assert clipped == ([False, True] * 2 if name == "gradient_ascent" else [])


def request_of_a_loop(name, tiny, hyper, distillation, label):
    """Task and buffer hold one example each, so every draw is known; `label` is what the task is taught."""
    old = tiny.params
    target = np.eye(CLASSES)[LABELS[9]]
    if distillation:
        teacher = reference.softmax(
            np.where(np.arange(CLASSES) == LABELS[4], -np.inf, tiny.twin.logits(old, INPUTS[9]))
        )
        target = (1 - hyper.distillation_weight) * target + hyper.distillation_weight * teacher
    params, apply = old, reference.Optimizer("sgd", hyper.momentum, hyper.weight_decay)
    for k in range(STEPS):
        share = 1 - k / STEPS
        task = tiny.twin.gradient(params, INPUTS[4], label)
        remain = reference.soft_gradient(tiny.twin, params, INPUTS[9], target)
        params = apply(params, direction(name, hyper, task, remain, params, share), hyper.learning_rate * share)
    return params


@pytest.mark.parametrize(
    ("name", "taught"),
    [
        ("gradient_ascent", {}),
        *((name, {"distillation": on}) for name in ("neg_grad_plus", "l1_sparse") for on in (False, True)),
    ],
)
def test_a_request_is_that_of_a_loop(x64, mlp, name, taught):
    """The class of the task, of which the buffer holds nothing, is deleted from the teacher."""
    hyper = MODULES[name][1]
    state, info = unlearn(name, mlp.apply_fn, mlp.params, settings=settings_of(name, **taught))
    expected = request_of_a_loop(name, mlp, hyper, taught.get("distillation", False), LABELS[4])
    assert_close(state.params, expected)
    assert state.extra == {"of another": 7}
    assert info.task_losses.shape == ((0,) if name in READS_BUFFER else (STEPS,))
    assert info.remain_losses.shape == ((0, 0) if name in READS_TASK else (STEPS, 1))
    assert all(float(share) == 1.0 for share in info.mask_density.values())


@pytest.mark.parametrize("distillation", [False, True])
def test_random_labels_are_wrong_and_stay_for_the_request(x64, mlp, distillation):
    """The same wrong label in every step, whichever it is; over seeds, each of the two."""
    hyper, settings = MODULES["random_label"][1], settings_of("random_label", distillation=distillation)
    update = jit(method_of("random_label", mlp.apply_fn, settings).unlearn)
    expected = {
        label: request_of_a_loop("random_label", mlp, hyper, distillation, label)
        for label in range(CLASSES)
        if label != LABELS[4]
    }
    seen = []
    for seed in range(8):
        state, _ = update(jax.random.key(seed), MethodState(mlp.params, {}), hyper, examples([4]), buffer_of([9]))
        seen += [
            label
            for label, params in expected.items()
            if all(np.allclose(state.params[name], params[name], rtol=1e-11, atol=1e-13) for name in params)
        ]
    assert len(seen) == 8 and set(seen) == set(expected)


def test_random_labels_are_uniform_among_the_others():
    classes, number = 5, 4000
    task = examples([1])._replace(labels=jnp.arange(number, dtype=jnp.int32) % classes)
    wrong = with_random_labels(jax.random.key(3), task, classes)
    shift = np.asarray(wrong.labels - task.labels) % classes
    assert wrong.labels.dtype == task.labels.dtype and wrong.labels.min() >= 0 and wrong.labels.max() < classes
    counts = np.bincount(shift, minlength=classes)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-3
    assert (with_random_labels(jax.random.key(4), task, classes).labels != wrong.labels).any()
    with pytest.raises(ValueError, match="num_classes must be at least 2 for a label to be wrong, got 1"):
        with_random_labels(jax.random.key(0), task, 1)


# --- what they become ------------------------------------------------------------------------------------------------


def one_step(direction, hyper, batches, tiny):
    settings = DescentSettings()
    at = At(tiny.apply_fn, tiny.params, {}, moment=Moment(0, 0.5))
    return along(direction, settings)(at, start(tiny.params, settings), batches, hyper)[0]


def test_extreme_weights_are_other_methods(x64, regression):
    task, remain = (Batch(INPUTS[rows], LABELS[rows], np.ones(4)) for rows in (slice(4), slice(4, 8)))
    padding = task._replace(weights=np.zeros(4))
    ascent = gradient_ascent.GradientAscentHyper(**COMMON, clip_norm=np.inf)
    finetuned = one_step(follow_remaining, DescentHyper(**TAUGHT), Batches(None, remain), regression)
    ascended = one_step(gradient_ascent.direction, ascent, Batches(task, None), regression)
    for name, change, batches, expected in (
        ("neg_grad_plus", {"remain_weight": 1.0}, Batches(task, remain), finetuned),
        ("neg_grad_plus", {"remain_weight": 0.0}, Batches(task, remain), ascended),
        ("random_label", {"remain_weight": 1.0}, Batches(padding, remain), finetuned),
        ("random_label", {"remain_weight": 0.0}, Batches(remain, task), finetuned),
        ("l1_sparse", {"l1_weight": 0.0}, Batches(None, remain), finetuned),
    ):
        module, hyper = MODULES[name]
        hyper = dataclasses.replace(hyper, **change)
        jax.tree.map(np.testing.assert_allclose, one_step(module.direction, hyper, batches, regression), expected)


def test_a_request_without_penalty_is_fine_tuning(x64, mlp):
    """Same key, same draws."""
    hyper = dataclasses.replace(MODULES["l1_sparse"][1], l1_weight=0.0)
    kept, settings = (9, 2, 1, 7), settings_of("l1_sparse", distillation=True)
    state, info = unlearn("l1_sparse", mlp.apply_fn, mlp.params, hyper=hyper, settings=settings, kept=kept)
    method = finetune_remain.finetune_remain(mlp.apply_fn, settings, num_classes=CLASSES)
    before = MethodState(mlp.params, {}, {"of another": 7})
    expected = jit(method.unlearn)(jax.random.key(0), before, DescentHyper(**TAUGHT), examples([4]), buffer_of(kept))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), (state, info), expected)


def test_the_penalty_drives_unused_weights_to_zero():
    """Weights of feature 2, which the model does not use, shrink by Σ η_k γ e_k; a weight of 0 stays."""

    def linear(params, state, inputs, *, train, rng_key):
        return (inputs * jnp.array([1.0, 1.0, 0.0])) @ params, state

    hyper = l1_sparse.L1SparseHyper(0.1, l1_weight=0.3)
    params = jnp.asarray(np.array([[0.0] * 3, [0.0] * 3, [0.5, -0.5, 0.0]], np.float32))
    state, _ = unlearn("l1_sparse", linear, params, hyper=hyper)
    fall = sum(0.1 * share * 0.3 * share for share in (1, 2 / 3, 1 / 3))
    np.testing.assert_allclose(state.params[2], [0.5 - fall, fall - 0.5, 0.0], rtol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_no_steps_change_nothing(regression, name):
    params = jax.tree.map(np.float32, regression.params)
    state, info = unlearn(name, regression.apply_fn, params, settings=settings_of(name, steps=0))
    jax.tree.map(np.testing.assert_array_equal, state.params, params)
    assert info.displacement_norms.shape == (0,) and float(info.gradient_evaluations) == 0.0


# --- statistics, randomness, devices, cost ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_the_statistics_are_those_of_remaining_data(name):
    def averaging(params, model_state, inputs, *, train, rng_key):
        state = {"mean": (model_state["mean"] + inputs.mean(0)) / 2} if train else model_state
        return (inputs - state["mean"]) @ params, state

    before = {"mean": np.full(3, 5.0, np.float32)}
    state, _ = unlearn(name, averaging, np.ones((3, 3), np.float32), state=before)
    expected = before["mean"]
    for _ in range(STEPS if name not in READS_TASK else 0):
        expected = (expected + INPUTS[9]) / 2
    np.testing.assert_allclose(state.model_state["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["neg_grad_plus", "random_label"])
def test_the_model_gets_another_key_for_each_batch(name):
    keys = []

    def recording(params, model_state, inputs, *, train, rng_key):
        keys.append(np.asarray(jax.random.key_data(rng_key)).tolist())
        return inputs @ params, model_state

    params, batch = np.ones((3, 3), np.float32), Batch(INPUTS[:4], LABELS[:4], np.ones(4))
    carry = start(params, settings_of(name))
    step_of(name, recording)(carry, Batches(batch, batch), 1.0, MODULES[name][1], jax.random.key(1))
    assert len(keys) == 2 and keys[0] != keys[1]


@pytest.mark.parametrize(("name", "taught"), [("gradient_ascent", {}), ("random_label", {"distillation": True})])
def test_devices_agree_with_one(x64, mlp, name, taught):
    drawn, settings = {"task": (4, 5, 6), "kept": (9, 2, 1, 7)}, settings_of(name, **taught)
    split = unlearn(name, mlp.apply_fn, mlp.params, settings=settings, devices=2, **drawn)
    whole = unlearn(name, mlp.apply_fn, mlp.params, settings=settings, **drawn)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "sizes", "examples_read"),
    [
        ("gradient_ascent", {"task_batch_size": 32}, 10 * 32),
        ("neg_grad_plus", {"task_batch_size": 32, "remain_batch_size": 16}, 10 * (32 + 16)),
        ("random_label", {"task_batch_size": 32, "remain_batch_size": 16}, 10 * (32 + 16)),
        ("l1_sparse", {"remain_batch_size": 16}, 10 * 16),
    ],
)
def test_gradient_evaluations_count_every_example(regression, name, sizes, examples_read):
    def cost(**taught):
        method = method_of(name, regression.apply_fn, settings_of(name, steps=10, **sizes, **taught))
        return method.cost("unlearn", 600, 64)

    assert cost() == pytest.approx(examples_read / 64)
    if name in READS_TEACHER:
        assert cost(distillation=True) == pytest.approx((examples_read + 600 / 3) / 64)


@pytest.mark.parametrize("name", MODULES)
def test_they_do_not_learn(regression, name):
    method = method_of(name, regression.apply_fn)
    assert method.learn is None and method.kinds == ("unlearn",)
    with pytest.raises(ValueError, match=f"{name} does not learn: combine it with a method that does"):
        method.update("learn")


@pytest.mark.parametrize(("name", "read"), [("gradient_ascent", "TaskSettings"), ("l1_sparse", "BufferSettings")])
def test_settings_of_what_is_not_read_are_refused(regression, name, read):
    with pytest.raises(ValueError, match=f"settings of {name} must be {read}, got DescentSettings"):
        method_of(name, regression.apply_fn, DescentSettings())
