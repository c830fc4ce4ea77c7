"""SFR-on: ten steps and whole requests against a NumPy loop, the scope of its mask, its coefficients, its cost."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from ugclu_jax import buffer as reservoir
from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.descent import Batches, along, follow_remaining
from ugclu_jax.loop import Moment
from ugclu_jax.methods.sfron import (
    SFRonHyper,
    SFRonSettings,
    adaptive_weights,
    forget_step_with,
    saliency_mask,
    sfron,
    step_with,
)
from ugclu_jax.stepping import BufferSettings, DescentHyper, start
from ugclu_jax.types import Batch, Examples, Execution, MethodState

CLASSES = 3
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(12, 3))
LABELS = np.arange(12) % CLASSES
HYPER = SFRonHyper(
    0.1,
    momentum=0.8,
    weight_decay=0.05,
    distillation_weight=0.3,
    forget_weight=1.5,
    loss_exponent=0.6,
    loss_floor=0.0,
    saliency_threshold=0.9,
    clip_norm=0.5,
)
SETTINGS = SFRonSettings(steps=5, forget_every=2, task_batch_size=4, remain_batch_size=4, saliency_batches=2)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def examples(ids, size=5):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids):
    empty = reservoir.init(6, (3,), jnp.asarray(INPUTS).dtype, jax.random.key(0))
    return reservoir.insert(empty, examples(ids))


def of_loop(hyper):
    """The settings of `reference.sfron`; the others belong to the mask, to the teacher, or to every method."""
    values = dataclasses.asdict(hyper)
    others = {"saliency_threshold", "distillation_weight", "second_momentum", "step_clip_norm", "kept_share"}
    return {name: values[name] for name in values if name not in others}


def assert_close(tree, expected, rtol=1e-10):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, rtol=rtol, atol=1e-12, err_msg=name)


# --- against the loop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["gradient", "update"])
@pytest.mark.parametrize(("kind", "loss_floor"), [("sgd", 0.0), ("adamw", 1.0)])
def test_ten_steps_are_those_of_a_loop(x64, mlp, kind, loss_floor, scope):
    """Momentum, decay and mask active, padding in the batches; the ascent is clipped in some steps only."""
    rng, steps, hyper = np.random.default_rng(5), 10, dataclasses.replace(HYPER, loss_floor=loss_floor)
    settings = dataclasses.replace(SETTINGS, steps=steps, optimizer=kind, mask_applies_to=scope)
    mask = {name: rng.integers(0, 2, p.shape).astype(float) for name, p in mlp.params.items()}
    task, remain = (
        [Batch(rng.normal(size=(4, 3)), rng.integers(0, 3, 4), np.array([1.0, 0.0, 1.0, 1.0])) for _ in range(steps)]
        for _ in range(2)
    )

    @jit
    def run(carry, batches, moment):
        return step_with(settings)(At(mlp.apply_fn, carry.params, {}, None, moment, mask=mask), carry, batches, hyper)

    carry, reports = start(mlp.params, settings), []
    for k in range(steps):
        carry, _, report = run(carry, Batches(task[k], remain[k]), Moment(k, 1 - k / steps))
        reports.append(report)
    expected, norms = reference.sfron(
        mlp.twin,
        mlp.params,
        task,
        remain,
        optimizer=kind,
        mask=mask,
        mask_update=scope == "update",
        forget_every=2,
        **of_loop(hyper),
    )
    assert_close(carry.params, expected)
    np.testing.assert_allclose([report.task_norm for report in reports[::2]], norms, rtol=1e-10)
    clipped = [bool(report.clipped) for report in reports]
    assert clipped[::2] == [norm > HYPER.clip_norm for norm in norms] and 0 < sum(clipped) < 5
    assert not any(clipped[1::2]) and not any(float(report.task_norm) for report in reports[1::2])


def request(tiny, settings=SETTINGS, *, hyper=HYPER, task=(4,), kept=(9,), devices=None):
    update = sfron(tiny.apply_fn, settings).unlearn
    arguments = (jax.random.key(0), MethodState(tiny.params, {}, {"kept": 7}), hyper, examples(task), buffer_of(kept))
    if devices is None:
        return jit(update)(*arguments)
    return jit(jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device"))(
        jnp.zeros(devices)
    )


def mask_of_a_loop(tiny, threshold, task, remain):
    """The quotient of the published code, element by element."""
    f_task, f_remain = (reference.batch_fisher(tiny.twin, tiny.params, [batch]) for batch in (task, remain))
    return {name: ((f + 1e-15) / (f_remain[name] + 1e-15) >= threshold).astype(float) for name, f in f_task.items()}


def test_a_request_is_that_of_a_loop(x64, mlp):
    """Task and buffer hold one example each, so every draw is known; between ascents Info repeats the last one."""
    state, info = request(mlp)
    task, remain = ((INPUTS[[i]], LABELS[[i]], np.ones(1)) for i in (4, 9))
    mask = mask_of_a_loop(mlp, HYPER.saliency_threshold, task, remain)
    assert 0 < np.mean(np.concatenate([m.ravel() for m in mask.values()])) < 1
    rest = {"optimizer": "sgd", "mask": mask, "mask_update": False, "forget_every": 2, **of_loop(HYPER)}
    expected, norms = reference.sfron(mlp.twin, mlp.params, [task] * 5, [remain] * 5, **rest)
    assert_close(state.params, expected)
    assert_close(info.mask_density, {name: m.mean() for name, m in mask.items()})
    np.testing.assert_allclose(info.fast_norms, np.repeat(norms, 2)[:5], rtol=1e-10)
    assert info.task_losses.shape == (5,) and info.task_losses[0] == info.task_losses[1] != info.task_losses[2]
    assert info.remain_losses.shape == (5, 1) and state.extra == {"kept": 7}
    cost = sfron(mlp.apply_fn, SETTINGS).cost("unlearn", 6, 5)
    assert float(info.gradient_evaluations) == pytest.approx(cost)


def test_distillation_teaches_the_steps_on_remaining_data(x64, mlp):
    """The ascent aside, what is descended is the mix of label and teacher, from which the task's class is deleted."""
    hyper = dataclasses.replace(HYPER, forget_weight=0.0, weight_decay=0.0, momentum=0.0)
    state, _ = request(mlp, dataclasses.replace(SETTINGS, distillation=True), hyper=hyper)
    logits = np.where(np.arange(CLASSES) == LABELS[4], -np.inf, mlp.twin.logits(mlp.params, INPUTS[9]))
    target = 0.7 * np.eye(CLASSES)[LABELS[9]] + 0.3 * reference.softmax(logits)
    params, apply = mlp.params, reference.Optimizer("sgd", 0.0, 0.0)
    for k in range(5):
        rate = 0.1 * (1 + np.cos(np.pi * k / 5)) / 2
        params = apply(params, reference.soft_gradient(mlp.twin, params, INPUTS[9], target), rate)
    assert_close(state.params, params)


def test_devices_agree_with_one(x64, mlp):
    drawn = {"task": (4, 5, 6), "kept": (9, 2, 1, 7)}
    for shards, leaf in zip(
        jax.tree.leaves(request(mlp, devices=2, **drawn)), jax.tree.leaves(request(mlp, **drawn)), strict=True
    ):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


# --- the mask and its scope ------------------------------------------------------------------------------------------


def test_masked_out_weights_move_by_momentum_and_decay_or_not_at_all(x64, regression):
    """One ascent step by hand: `θ − η (μ b + w θ)` against θ; free weights move alike, and so does the momentum."""
    mask = {"kernel": np.zeros((3, 3)), "bias": np.ones(3)}
    momentum = {name: np.full_like(p, 2.0) for name, p in regression.params.items()}
    before = start(regression.params, SETTINGS)
    before = before._replace(optimizer=optax.tree.set(before.optimizer, trace=momentum))
    batches = Batches(Batch(INPUTS[:4], LABELS[:4], np.ones(4)), None)
    at, moved = At(regression.apply_fn, regression.params, {}, mask=mask), {}
    for scope in ("gradient", "update"):
        settings = dataclasses.replace(SETTINGS, mask_applies_to=scope)
        moved[scope], _, _ = forget_step_with(settings)(at, before, batches, HYPER)
    kernel = regression.params["kernel"]
    drift = HYPER.momentum * 2.0 + HYPER.weight_decay * kernel
    np.testing.assert_allclose(moved["gradient"].params["kernel"], kernel - 0.1 * drift, rtol=1e-12)
    np.testing.assert_array_equal(moved["update"].params["kernel"], kernel)
    np.testing.assert_array_equal(moved["update"].params["bias"], moved["gradient"].params["bias"])
    for scope in moved:  # the ascent never enters it where it is masked
        velocity = optax.tree.get(moved[scope].optimizer, "trace")
        np.testing.assert_allclose(velocity["kernel"], drift, rtol=1e-12)
    assert (moved["update"].params["bias"] != regression.params["bias"]).all()


def test_the_mask_compares_means_over_batches(x64, mlp):
    """Not over examples, as the same draw tells."""
    task, buffer, key = examples([4, 5, 6]), buffer_of([9, 2, 1, 7]), jax.random.key(0)
    mask = saliency_mask(key, At(mlp.apply_fn, mlp.params, {}), HYPER, task, buffer, SETTINGS)
    keys = jax.random.split(key)
    drawn = [from_task(keys[0], task, (2, 4)), from_buffer(keys[1], buffer, (2, 4))]
    drawn = [list(zip(*batches[:3], strict=True)) for batches in drawn]
    by_batch, by_example = (
        reference.hard_mask(*(statistic(mlp.twin, mlp.params, batches) for batches in drawn), HYPER.saliency_threshold)
        for statistic in (reference.batch_fisher, reference.fisher)
    )
    assert_close(mask, by_batch)
    assert any((m != by_example[name]).any() for name, m in by_batch.items())


@pytest.mark.parametrize("threshold", [0.5, 3.0])
def test_the_mask_of_a_dead_weight_is_that_of_the_published_floor(x64, regression, threshold):
    """Feature 2 is 0 in the data: both Fishers are, and the quotient of the two floors is 1."""
    inputs = INPUTS * np.array([1.0, 1.0, 0.0])
    task, kept = examples([4])._replace(inputs=jnp.asarray(inputs)), examples([9])._replace(inputs=jnp.asarray(inputs))
    buffer = reservoir.insert(reservoir.init(6, (3,), task.inputs.dtype, jax.random.key(0)), kept)
    hyper, at = dataclasses.replace(HYPER, saliency_threshold=threshold), At(regression.apply_fn, regression.params, {})
    mask = saliency_mask(jax.random.key(0), at, hyper, task, buffer, SETTINGS)
    batches = ((inputs[[i]], LABELS[[i]], np.ones(1)) for i in (4, 9))
    assert_close(mask, mask_of_a_loop(regression, threshold, *batches))
    assert mask["kernel"][2].tolist() == [float(threshold <= 1.0)] * 3


# --- what the settings do --------------------------------------------------------------------------------------------


def test_coefficients_survive_a_loss_of_zero_and_pad_with_zero():
    """As published `1/(0 + 10⁻¹⁵)` outweighs all; λ = 0 is the plain mean; an empty batch has none."""
    losses, weights = jnp.array([0.0, 1.0, 5.0]), jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(adaptive_weights(3.0, 0.5, 0.0)(losses, weights), [6.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(adaptive_weights(3.0, 0.5, 0.25)(losses, weights), [4.0, 2.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(adaptive_weights(3.0, 0.0, 0.0)(losses, weights), [3.0, 3.0, 0.0], rtol=1e-6)
    assert adaptive_weights(3.0, 0.5, 0.0)(losses, jnp.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_without_ascent_it_is_fine_tuning(x64, regression):
    """Without momentum and decay an ascent step of weight 0 leaves no trace."""
    hyper = dataclasses.replace(HYPER, forget_weight=0.0, momentum=0.0, weight_decay=0.0)
    batches = Batches(*(Batch(INPUTS[rows], LABELS[rows], np.ones(4)) for rows in (slice(4), slice(4, 8))))
    before = start(regression.params, SETTINGS)
    at = At(regression.apply_fn, regression.params, {}, moment=Moment(2, 0.6))
    stepped, _, _ = step_with(SETTINGS)(at, before, batches, hyper)
    settings = BufferSettings(schedule="cosine")
    expected, _, _ = along(follow_remaining, settings)(at, before, batches, DescentHyper(0.1))
    jax.tree.map(np.testing.assert_allclose, stepped.params, expected.params)


def test_the_statistics_of_both_steps_are_kept():
    def averaging(params, model_state, inputs, *, train, rng_key):
        state = {"mean": (model_state["mean"] + inputs.mean(0)) / 2} if train else model_state
        return (inputs - state["mean"]) @ params, state

    before = {"mean": np.full(3, 5.0, np.float32)}
    update = jit(sfron(averaging, SETTINGS).unlearn)
    state, _ = update(
        jax.random.key(0), MethodState(np.ones((3, 3), np.float32), before), HYPER, examples([4]), buffer_of([9])
    )
    expected = before["mean"]
    for k in range(5):
        for source in ([4] if k % 2 == 0 else []) + [9]:
            expected = (expected + INPUTS[source]) / 2
    np.testing.assert_allclose(state.model_state["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize(("steps", "every"), [(100, 5), (1000, 7), (37, 1), (3, 50)])
def test_ascent_is_due_in_every_round(steps, every):
    """The step is counted, not read from the share that is left, a float of 32 bits."""
    settings = SFRonSettings(steps=steps, forget_every=every, task_batch_size=1, remain_batch_size=1)

    def apply_fn(params, model_state, inputs, *, train, rng_key):
        return inputs @ params, model_state

    batch = Batch(np.ones((1, 1), np.float32), np.zeros(1, np.int32), np.ones(1, np.float32))
    before = start(np.zeros((1, 2), np.float32), settings)

    def due(k, share):
        at = At(apply_fn, before.params, {}, moment=Moment(k, share))
        return step_with(settings)(at, before, Batches(batch, batch), SFRonHyper())[2].task_loss > 0

    found = np.flatnonzero(jit(jax.vmap(due))(jnp.arange(steps), 1.0 - jnp.arange(steps) / steps))
    assert found.tolist() == list(range(0, steps, every))


def test_no_steps_change_nothing(x64, regression):
    state, info = request(regression, dataclasses.replace(SETTINGS, steps=0))
    jax.tree.map(np.testing.assert_array_equal, state.params, regression.params)
    assert info.task_losses.shape == info.displacement_norms.shape == (0,)


@pytest.mark.parametrize(("steps", "ascents"), [(0, 0), (2, 1), (10, 5)])
def test_gradient_evaluations_count_every_example(regression, steps, ascents):
    settings = dataclasses.replace(SETTINGS, steps=steps, task_batch_size=32, remain_batch_size=16)
    read = 2 * 2 * 32 + ascents * 32 + steps * 16
    assert sfron(regression.apply_fn, settings).cost("unlearn", 600, 64) == pytest.approx(read / 64)
    distilling = dataclasses.replace(settings, distillation=True)
    assert sfron(regression.apply_fn, distilling).cost("unlearn", 600, 64) == pytest.approx((read + 200) / 64)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("forget_every", 0, "at least 1, got 0"),
        ("saliency_batches", 0, "at least 1, got 0"),
        ("mask_applies_to", "x", "one of gradient, update, got 'x'"),
        ("steps", -1, "at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, rule):
    with pytest.raises(ValueError, match=f"{field} must be {rule}"):
        SFRonSettings(**{field: value})


def test_it_does_not_learn(regression):
    method = sfron(regression.apply_fn, SETTINGS)
    assert method.learn is None and method.kinds == ("unlearn",)
    with pytest.raises(ValueError, match="sfron does not learn: combine it with a method that does"):
        method.update("learn")
