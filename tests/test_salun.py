"""SalUn: its mask against a sort, its steps against a NumPy loop, and what becomes of the weights that it masks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ugclu_jax import buffer as reservoir
from ugclu_jax.at import At
from ugclu_jax.batches import from_task
from ugclu_jax.descent import Batches, along
from ugclu_jax.loop import Moment
from ugclu_jax.methods import random_label
from ugclu_jax.methods.salun import SalUnHyper, SalUnSettings, direction, saliency_mask, salun
from ugclu_jax.saliency import top_share_mask
from ugclu_jax.stepping import DescentSettings, start
from ugclu_jax.types import Batch, Examples, Execution, MethodState

CLASSES = 3
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(12, 3))
LABELS = np.arange(12) % CLASSES
HYPER = SalUnHyper(0.3, momentum=0.8, weight_decay=0.05, remain_weight=0.6, keep_share=0.4)
SETTINGS = SalUnSettings(steps=3, task_batch_size=4, remain_batch_size=4, saliency_batches=2)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def examples(ids, size=5):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids):
    return reservoir.insert(reservoir.init(6, (3,), jnp.asarray(INPUTS).dtype, jax.random.key(0)), examples(ids))


def assert_close(tree, expected):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, rtol=1e-11, atol=1e-13, err_msg=name)


# --- the mask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.5, 1.0])
def test_the_mask_keeps_the_largest_of_the_whole_tree(share):
    tree = {"b": RNG.random((3, 4)).astype(np.float32), "a": (10 * RNG.random(5)).astype(np.float32)}
    mask = top_share_mask(tree, share)
    jax.tree.map(np.testing.assert_array_equal, mask, reference.largest(tree, share))
    assert sum(float(m.sum()) for m in mask.values()) == round(share * 17)
    assert mask["a"].dtype == np.float32


def test_equal_statistics_keep_their_number():
    """Half of the weights dead: a threshold on the value would free all of them at 0."""
    mask = top_share_mask({"a": jnp.zeros(6), "b": jnp.array([1.0, 2.0])}, 0.5)
    assert mask["a"].tolist() == [1, 1, 0, 0, 0, 0] and mask["b"].tolist() == [1, 1]


def test_the_mask_is_that_of_the_gradient_on_the_task(x64, mlp):
    """Of the mean gradient over all drawn examples, as a loop takes it over the same draw."""
    at, task, key = At(mlp.apply_fn, mlp.params, {}), examples([4, 5, 6]), jax.random.key(0)
    drawn = list(zip(*from_task(key, task, (2, 4))[:3], strict=True))
    mask = saliency_mask(key, at, HYPER, task, SETTINGS)
    assert_close(mask, reference.largest(reference.gradient_statistic(mlp.twin, mlp.params, drawn), 0.4))
    assert any(
        (mask[name] != m).any()
        for name, m in reference.largest(reference.fisher(mlp.twin, mlp.params, drawn), 0.4).items()
    )  # the draw tells the statistics apart


# --- steps -----------------------------------------------------------------------------------------------------------


def step_of(apply_fn, settings):
    """`(carry, batches, share, mask, hyper) -> (carry, model_state, report)`."""
    step = along(direction, settings, settings.mask_applies_to)

    def run(carry, batches, share, mask, hyper):
        return step(At(apply_fn, carry.params, {}, moment=Moment(0, share), mask=mask), carry, batches, hyper)

    return run


@pytest.mark.parametrize("scope", ["gradient", "update"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_steps_are_those_of_a_loop(x64, mlp, kind, scope):
    rng, settings = np.random.default_rng(5), dataclasses.replace(SETTINGS, optimizer=kind, mask_applies_to=scope)
    mask = {name: rng.integers(0, 2, p.shape).astype(float) for name, p in mlp.params.items()}
    run = jit(step_of(mlp.apply_fn, settings))
    carry, params = start(mlp.params, settings), mlp.params
    apply = reference.Optimizer(kind, HYPER.momentum, HYPER.weight_decay)
    for k in range(4):
        task = Batch(rng.normal(size=(5, 3)), rng.integers(0, 3, 5), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
        remain = Batch(rng.normal(size=(4, 3)), rng.integers(0, 3, 4), np.array([0.0, 1.0, 1.0, 1.0]))
        carry, _, _ = run(carry, Batches(task, remain), 1 - k / 4, mask, HYPER)
        g_task, g_remain = (reference.mean_gradient(mlp.twin, params, batch)[0] for batch in (task, remain))
        gradient = reference.weighted_sum((1.0, g_task), (HYPER.remain_weight, g_remain))
        if scope == "gradient":
            gradient = {name: mask[name] * g for name, g in gradient.items()}
        params = apply(params, gradient, 0.3 * (1 - k / 4), mask if scope == "update" else None)
        assert_close(carry.params, params)


@pytest.mark.parametrize("distillation", [False, True])
@pytest.mark.parametrize("scope", ["gradient", "update"])
def test_masked_out_weights_stay_or_only_decay(x64, mlp, scope, distillation):
    """A whole request: under "gradient" they follow momentum and weight decay, the gradient never reaches them."""
    settings = dataclasses.replace(SETTINGS, mask_applies_to=scope, distillation=distillation)
    unlearn = jit(salun(mlp.apply_fn, settings, num_classes=CLASSES).unlearn)
    state, info = unlearn(jax.random.key(0), MethodState(mlp.params, {}), HYPER, examples([4]), buffer_of([9, 2, 7]))
    gradient = mlp.twin.gradient(mlp.params, INPUTS[4], LABELS[4])
    mask = reference.largest({name: np.abs(g) for name, g in gradient.items()}, HYPER.keep_share)
    expected, apply = mlp.params, reference.Optimizer("sgd", HYPER.momentum, HYPER.weight_decay)
    zeros = {name: np.zeros_like(p) for name, p in mlp.params.items()}
    for k in range(3 if scope == "gradient" else 0):
        expected = apply(expected, zeros, 0.3 * (1 - k / 3))
    for name, m in mask.items():
        np.testing.assert_allclose(state.params[name][m == 0], expected[name][m == 0], rtol=1e-12, err_msg=name)
        assert (state.params[name][m == 1] != expected[name][m == 1]).all()
        assert float(info.mask_density[name]) == pytest.approx(m.mean())
    if scope == "update":
        assert all((state.params[name] == p)[mask[name] == 0].all() for name, p in mlp.params.items())


def test_a_full_mask_is_random_labels_and_an_empty_one_is_nothing(x64, regression):
    task, remain = (Batch(INPUTS[rows], LABELS[rows], np.ones(4)) for rows in (slice(4), slice(4, 8)))
    fresh, batches = start(regression.params, SETTINGS), Batches(task, remain)

    def stepped(share):
        mask = top_share_mask(regression.params, share)
        return step_of(regression.apply_fn, SETTINGS)(fresh, batches, 0.5, mask, HYPER)[0].params

    hyper = random_label.RandomLabelHyper(0.3, momentum=0.8, weight_decay=0.05, remain_weight=0.6)
    at = At(regression.apply_fn, regression.params, {}, moment=Moment(0, 0.5))
    expected, _, _ = along(random_label.direction, DescentSettings())(at, fresh, batches, hyper)
    jax.tree.map(np.testing.assert_array_equal, stepped(1.0), expected.params)
    jax.tree.map(np.testing.assert_array_equal, stepped(0.0), regression.params)


def test_devices_agree_with_one(x64, mlp):
    update = salun(mlp.apply_fn, SETTINGS, num_classes=CLASSES).unlearn
    arguments = (jax.random.key(0), MethodState(mlp.params, {}), HYPER, examples([4, 5, 6]), buffer_of([9, 2, 1, 7]))
    whole = jit(update)(*arguments)
    split = jit(jax.vmap(lambda _: update(*arguments, where=Execution("device")), axis_name="device"))(jnp.zeros(2))
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


def test_gradient_evaluations_count_the_mask(regression):
    settings = SalUnSettings(steps=10, task_batch_size=32, remain_batch_size=16, saliency_batches=3)
    cost = salun(regression.apply_fn, settings, num_classes=CLASSES).cost
    assert cost("unlearn", 600, 64) == (10 * 48 + 3 * 32) / 64
    distilling = dataclasses.replace(settings, distillation=True)
    cost = salun(regression.apply_fn, distilling, num_classes=CLASSES).cost
    assert cost("unlearn", 600, 64) == pytest.approx((10 * 48 + 3 * 32 + 200) / 64)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [("saliency_batches", 0, "at least 1, got 0"), ("mask_applies_to", "x", "one of gradient, update, got 'x'")],
)
def test_settings_out_of_range_are_refused(field, value, rule):
    with pytest.raises(ValueError, match=f"{field} must be {rule}"):
        SalUnSettings(**{field: value})
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        SalUnSettings(steps=-1)


def test_it_does_not_learn(regression):
    method = salun(regression.apply_fn, SETTINGS, num_classes=CLASSES)
    assert method.learn is None and method.kinds == ("unlearn",)
    with pytest.raises(ValueError, match="salun does not learn: combine it with a method that does"):
        method.update("learn")
