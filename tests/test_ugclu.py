"""UG-CLU as a whole: its step against a NumPy loop, its request on devices, its settings, its hypergradients."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.batches import from_buffer, from_mix, from_task, mixed_weights, share
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.types import Batch, Examples, Hyper
from ugclu_jax.ugclu import UGCLUSettings, check_hyper, step, ug_clu

B, J, K, FEATURES, CLASSES = 5, 2, 4, 3, 3
HYPER = Hyper(
    fast_learning_rate=0.3,
    remain_learning_rate=0.2,
    slow_step_size=0.7,
    loss_exponent=0.5,
    clip_norm=0.2,
    remain_weight_decay=0.1,
)
SMALL = UGCLUSettings(outer_steps=3, inner_steps=2, task_batch_size=4, remain_batch_size=8, saliency_batches=2)


def draw_batch(rng, *lead):
    return rng.normal(size=(*lead, B, FEATURES)), rng.integers(0, CLASSES, (*lead, B)), np.ones((*lead, B))


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
@pytest.mark.parametrize("decay", [True, False])
def test_steps_are_those_of_a_loop(x64, mlp, kind, decay):
    rng = np.random.default_rng(5)
    mask = {name: rng.integers(0, 2, p.shape).astype(float) for name, p in mlp.params.items()}
    ours, theirs = jax.tree.map(jnp.asarray, mlp.params), mlp.params
    run = jax.jit(
        functools.partial(step, kind=kind, apply_fn=mlp.apply_fn, coefficient_decay=decay, remain_decay=decay)
    )
    for k in range(K):
        task, remain = draw_batch(rng), draw_batch(rng, J)
        e = 1 - k / K
        ours, _, info = run(ours, {}, Batch(*task), Batch(*remain), HYPER, mask=mask, remaining_share=e)
        settings = dataclasses.asdict(HYPER)
        del settings["saliency_threshold"], settings["mask_temperature"]
        theirs, told = reference.step(
            mlp.twin,
            theirs,
            task,
            list(zip(*remain, strict=True)),
            kind=kind,
            mask=mask,
            coefficient_share=e if decay else 1.0,
            remain_share=e if decay else 1.0,
            **settings,
        )
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(info.task_loss, told["task_loss"], rtol=1e-11)
        np.testing.assert_allclose(info.update.remain_losses, told["remain_losses"], rtol=1e-11)
        np.testing.assert_allclose(info.update.displacement_norm, told["displacement_norm"], rtol=1e-10)
        assert bool(info.update.clipped) == told["clipped"]


INPUTS = np.random.default_rng(0).integers(0, 255, (90, FEATURES)).astype(np.uint8)
LABELS = (np.arange(90) // 30).astype(np.int32)


def scaled(mlp):
    def apply_fn(params, model_state, inputs, *, train, rng_key):
        return mlp.apply_fn(params, model_state, inputs / 255.0, train=train, rng_key=rng_key)

    return apply_fn


def task_of(ids):
    ids = np.asarray(ids, np.int32)
    padded = np.concatenate([ids, np.full(7, -1, np.int32)])
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.asarray(padded), jnp.asarray(len(ids), jnp.int32))


def buffer_of(ids, capacity=40):
    empty = buffer_lib.init(capacity, (FEATURES,), jnp.uint8, jax.random.key(0))
    return buffer_lib.insert(empty, task_of(ids))


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
def test_two_devices_compute_the_request_of_one(x64, mlp, kind):
    method = ug_clu(scaled(mlp), dataclasses.replace(SMALL, inner_data="mixed"), SMALL, num_classes=CLASSES)
    params = jax.tree.map(jnp.asarray, mlp.params)
    state = CLUState(method.init(params, {}), buffer_of(range(60)))
    task = task_of(range(60, 90) if kind == "learn" else range(0, 30))
    one, info = jax.jit(lambda key: apply_request(method, kind, key, state, HYPER, task))(jax.random.key(1))
    split = jax.vmap(
        lambda key, _: apply_request(method, kind, key, state, HYPER, task, axis_name="d"),
        in_axes=(None, 0),
        axis_name="d",
    )
    two, _ = jax.jit(split)(jax.random.key(1), jnp.zeros(2))
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        for device in range(2):
            np.testing.assert_allclose(a[device], b, rtol=1e-9, atol=1e-12)
    moved = max(float(jnp.abs(a - b).max()) for a, b in zip(one.method.params.values(), params.values(), strict=True))
    assert moved > 1e-3 and float(info.gradient_evaluations) == (2 * 2 * 4 + 3 * (4 + 2 * 8)) / 64


def test_batch_sizes_that_devices_cannot_share_are_refused():
    with pytest.raises(ValueError, match="batch size 5 is not a multiple of the 2 devices"):
        jax.vmap(lambda _: share(jnp.arange(5), "d"), axis_name="d")(jnp.zeros(2))


def test_draws_come_from_where_they_should():
    task, buffer = task_of([70, 80]), buffer_of(range(35))  # 30 of class 0 and 5 of class 1 against 2 of class 2
    key = jax.random.key(0)
    rows = {tuple(row) for row in np.asarray(from_task(key, task, (3, 50)).inputs).reshape(-1, FEATURES)}
    assert rows == {tuple(INPUTS[70]), tuple(INPUTS[80])}
    held = {tuple(INPUTS[i]) for i in range(35)}
    batch = from_buffer(key, buffer, (400,))
    assert {tuple(row) for row in np.asarray(batch.inputs)} <= held
    mixed = from_mix(key, task, buffer, mixed_weights(task, buffer, CLASSES), (6000,))
    counts = np.bincount(np.asarray(mixed.labels), minlength=CLASSES)
    # Balanced over classes: 2000 each, standard deviation 37.
    assert np.all(np.abs(counts - 2000) < 5 * 37), counts
    by_row = {tuple(x): int(y) for x, y in zip(INPUTS, LABELS, strict=True)}
    assert all(by_row[tuple(x)] == y for x, y in zip(np.asarray(mixed.inputs), np.asarray(mixed.labels), strict=True))
    assert not np.any(np.asarray(from_buffer(key, buffer_of([]), (4,)).weights))


def test_the_first_request_has_no_buffer_and_a_mask_of_ones(mlp):
    method = ug_clu(scaled(mlp), SMALL, SMALL, num_classes=CLASSES)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), mlp.params)
    state, info = jax.jit(method.learn)(
        jax.random.key(0), method.init(params, {}), Hyper(), task_of(range(30)), buffer_of([])
    )
    assert all(float(d) == 1.0 for d in jax.tree.leaves(info.mask_density))
    assert not np.any(np.asarray(info.remain_losses)), "nothing to rehearse"
    assert float(info.task_losses[-1]) < float(info.task_losses[0])
    assert all(bool(jnp.isfinite(p).all()) for p in jax.tree.leaves(state.params))


def test_hypergradients_are_central_differences(x64, mlp):
    settings = dataclasses.replace(SMALL, mask="soft")
    method = ug_clu(scaled(mlp), settings, settings, num_classes=CLASSES)
    state = method.init(jax.tree.map(jnp.asarray, mlp.params), {})
    task, buffer = task_of(range(60, 90)), buffer_of(range(60))
    hyper = jax.tree.map(jnp.float64, dataclasses.replace(HYPER, clip_norm=0.05))

    @jax.jit
    def objective(hyper):
        params = method.learn(jax.random.key(2), state, hyper, task, buffer)[0].params
        return sum(jnp.sum(jnp.sin(p)) for p in jax.tree.leaves(params))

    reverse, forward = jax.grad(objective)(hyper), jax.jacfwd(objective)(hyper)
    for field in dataclasses.fields(Hyper):
        value = float(getattr(hyper, field.name))
        h = 1e-5 * max(1.0, value)
        low, high = (dataclasses.replace(hyper, **{field.name: jnp.float64(value + s * h)}) for s in (-1, 1))
        difference = float(objective(high) - objective(low)) / (2 * h)
        for slope in (reverse, forward):
            np.testing.assert_allclose(float(getattr(slope, field.name)), difference, rtol=1e-5, atol=1e-8)
    assert abs(float(reverse.saliency_threshold)) > 0


@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [
        ("fast_learning_rate", -1e-9, 0.0),
        ("remain_learning_rate", -1.0, 0.0),
        ("slow_step_size", 1.01, 1.0),
        ("slow_step_size", -0.01, 0.0),
        ("loss_exponent", -0.5, 0.0),
        ("saliency_threshold", -1.0, 0.0),
        ("mask_temperature", 0.0, 1e-6),
        ("clip_norm", 0.0, math.inf),
        ("remain_weight_decay", math.nan, 0.0),
        ("fast_learning_rate", math.inf, 1e6),
    ],
)
def test_hyperparameters_out_of_range_are_refused(field, bad, good):
    check_hyper(dataclasses.replace(Hyper(), **{field: good}))
    with pytest.raises(ValueError, match=f"{field} must be in"):
        check_hyper(dataclasses.replace(Hyper(), **{field: bad}))


@pytest.mark.parametrize("field", ["outer_steps", "task_batch_size", "remain_batch_size", "saliency_batches"])
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 1, got 0"):
        UGCLUSettings(**{field: 0})


@pytest.mark.parametrize("field", ["mask", "saliency", "inner_data"])
def test_unknown_choices_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be one of"):
        UGCLUSettings(**{field: "hrad"})
