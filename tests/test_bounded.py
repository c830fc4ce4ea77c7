"""Bounded unlearning: levels, coefficients, neighbours and targets against loops, and requests of UG-CLU with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ugclu_jax import bounded
from ugclu_jax import buffer as reservoir
from ugclu_jax.bounded import bounded_coefficients, held_levels, neighbour_labels, task_targets, unlearned_targets
from ugclu_jax.components import unlearning_gradient
from ugclu_jax.losses import cross_entropy
from ugclu_jax.types import Batch, Examples, Execution, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import gradient_evaluations

ROWS, CLASSES, CAPACITY = 60, 4, 40
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(ROWS, 3))
LABELS = RNG.integers(0, 3, ROWS).astype(np.int32)  # class 3 was never seen
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
insert = jax.jit(reservoir.insert)


def examples(ids, inputs=INPUTS, size=50, labels=LABELS):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(inputs), jnp.asarray(labels), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids, inputs=INPUTS, labels=LABELS, capacity=CAPACITY):
    inputs = jnp.asarray(inputs)
    empty = reservoir.init(capacity, inputs.shape[1:], inputs.dtype, jax.random.key(0))
    return insert(empty, examples(ids, inputs, max(50, len(ids)), labels))


# --- bounded ---------------------------------------------------------------------------------------------------------


def test_levels_are_those_of_a_loop_and_0_without_examples(x64):
    ids = [i for i in range(30) if LABELS[i] != 1]
    buffer, logits = buffer_of(ids), RNG.normal(size=(CAPACITY, CLASSES))
    expected = np.zeros(CLASSES)
    for c in (0, 2):
        rows = [r for r in range(len(ids)) if buffer.labels[r] == c]
        expected[c] = np.mean([reference.softmax(logits[r])[c] for r in rows])
    np.testing.assert_allclose(held_levels(logits, buffer), expected, rtol=1e-12)


def test_coefficients_are_the_formula_and_stop_at_the_level(x64):
    p, levels = np.array([0.9, 0.5, 0.3, 0.3]), np.array([0.2, 0.5, 0.6, 0.0])
    expected = 0.7 * np.array([0.7 / 0.1, 0.0, 0.0, 0.3 / 0.7])
    np.testing.assert_allclose(bounded_coefficients(levels, 0.7)(-np.log(p), np.ones(4)), expected, rtol=1e-12)


def test_without_a_level_the_component_is_the_gradient_of_the_log_of_the_rest(x64, regression):
    batch = Batch(INPUTS[:5], LABELS[:5], np.ones(5))
    gradient = unlearning_gradient(
        regression.apply_fn, regression.params, {}, batch, bounded_coefficients(jnp.zeros(5))
    ).gradient

    def log_of_the_rest(params):
        probabilities = jax.nn.softmax(regression.apply_fn(params, {}, INPUTS[:5], train=True, rng_key=None)[0])
        return jnp.mean(-jnp.log(1 - probabilities[jnp.arange(5), LABELS[:5]]))

    expected = jax.grad(log_of_the_rest)(jax.tree.map(jnp.asarray, regression.params))
    for name in expected:
        np.testing.assert_allclose(gradient[name], expected[name], rtol=1e-10)


@pytest.mark.parametrize("margin", [0.0, 8.0, 12.0, 30.0, 200.0])
def test_the_push_on_a_memorised_example_is_whole_and_never_undefined(margin):
    """In float32 the push by the true logit is p_y up to a margin of about 13, where 1 − p_y drowns in rounding."""
    logits = jnp.array([[margin, 0.0]], jnp.float32)
    losses, pull_back = jax.vjp(lambda z: cross_entropy(z, jnp.array([0])), logits)
    (push,) = pull_back(bounded_coefficients(jnp.zeros(1))(losses, jnp.ones(1)))
    assert np.all(np.isfinite(push)) and np.all(np.abs(push) <= 1.1)
    if margin <= 12:
        assert -push[0, 0] == pytest.approx(1 / (1 + np.exp(-margin)), rel=0.05)


# --- target ----------------------------------------------------------------------------------------------------------


def loop_neighbours(x, ids, inputs, labels, count=20):
    near = sorted(ids, key=lambda i: np.sum((inputs[i].astype(float) - x.astype(float)) ** 2))[:count]
    held = sorted(set(labels[ids]))
    histogram = np.array([np.mean(labels[near] == c) for c in range(CLASSES)])
    return 0.95 * histogram + 0.05 * np.array([1 / len(held) if c in held else 0.0 for c in range(CLASSES)])


@pytest.mark.parametrize("ids", [list(range(35)), list(range(7))], ids=["35", "fewer than 20"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_neighbours_are_those_of_a_loop(ids, dtype):
    inputs = (50 * (INPUTS + 3)).clip(0, 255).reshape(ROWS, 3, 1).astype(dtype)
    found = neighbour_labels(jnp.asarray(inputs[40:45]), buffer_of(ids, inputs), CLASSES, batch_size=2)
    for x, histogram in zip(inputs[40:45], found, strict=True):
        np.testing.assert_allclose(histogram, loop_neighbours(x, ids, inputs, LABELS), rtol=1e-6)


def test_neighbours_are_sought_among_the_first_rows_alone(monkeypatch):
    monkeypatch.setattr(bounded, "NEIGHBOUR_ROWS", 25)
    buffer = buffer_of(list(range(35)))
    found = neighbour_labels(jnp.asarray(INPUTS[40:42]), buffer, CLASSES)
    sample = np.asarray(buffer.ids[:25])
    for x, histogram in zip(INPUTS[40:42], found, strict=True):
        near = sorted(sample, key=lambda i: np.sum((INPUTS[i] - x) ** 2))[:20]
        uniform = np.array([1 / 3, 1 / 3, 1 / 3, 0])  # over the classes of the whole buffer
        expected = 0.95 * np.array([np.mean(LABELS[near] == c) for c in range(CLASSES)]) + 0.05 * uniform
        np.testing.assert_allclose(histogram, expected, rtol=1e-6)


def test_tokens_have_no_neighbours():
    tokens = RNG.integers(0, 100, (ROWS, 5)).astype(np.int32)
    found = neighbour_labels(jnp.asarray(tokens[:2]), buffer_of(list(range(30)), tokens), CLASSES)
    histogram = np.bincount(LABELS[:30], minlength=CLASSES) / 30
    expected = 0.95 * histogram + 0.05 * (histogram > 0) / np.sum(histogram > 0)
    np.testing.assert_allclose(found, np.tile(expected, (2, 1)), rtol=1e-6)


def loop_target(logits, neighbours, departed):
    stay = [c for c in range(len(logits)) if c not in departed]
    q, p = np.zeros(len(logits)), np.zeros(len(logits))
    p[stay] = reference.softmax(logits[stay])
    for c in stay:
        q[c] = np.sqrt((neighbours[c] + 1e-4) * max(p[c], np.exp(-12.0)))
    return q / q.sum()


@pytest.mark.parametrize("departed", [[], [1], [0, 1, 2]])
def test_targets_are_the_formula(x64, departed):
    logits = RNG.normal(size=(6, CLASSES)) * 4
    logits[:, 3] -= 40  # below the floor
    neighbours = RNG.dirichlet(np.ones(CLASSES), 6)
    found = unlearned_targets(logits, neighbours, jnp.zeros(CLASSES, bool).at[jnp.array(departed, int)].set(True))
    for row in range(6):
        np.testing.assert_allclose(found[row], loop_target(logits[row], neighbours[row], departed), rtol=1e-12)
    assert np.all(np.asarray(found)[:, departed] == 0)


def test_where_every_class_departs_the_target_is_uniform():
    found = unlearned_targets(jnp.array([[5.0, 0.0]]), jnp.zeros((1, 2)), jnp.ones(2, bool))
    np.testing.assert_allclose(found, [[0.5, 0.5]], rtol=1e-6)


# --- requests of UG-CLU ----------------------------------------------------------------------------------------------

SETTINGS = dataclasses.replace(PLAIN, outer_steps=3, inner_steps=1, task_batch_size=4, remain_batch_size=4, mask="none")
HYPER = dataclasses.replace(
    PLAIN_HYPER,
    fast_learning_rate=0.3,
    remain_learning_rate=0.2,
    slow_step_size=0.8,
    loss_exponent=0.7,
    clip_norm=np.inf,
)


def unlearn(network, settings, task, buffer, *, devices=None):
    method = ug_clu(network.apply_fn, SETTINGS, settings, num_classes=3)
    state = MethodState(network.params, {})
    if devices is None:
        run = jax.jit(method.unlearn, compiler_options=QUICK_COMPILATION)
        return run(jax.random.key(0), state, HYPER, task, buffer)
    mapped = jax.vmap(
        lambda _: method.unlearn(jax.random.key(0), state, HYPER, task, buffer, where=Execution("device")),
        axis_name="device",
    )
    return jax.jit(mapped, compiler_options=QUICK_COMPILATION)(jnp.zeros(devices))


@pytest.mark.parametrize("unlearn_loss", ["bounded", "target"])
@pytest.mark.parametrize("leaves", [True, False], ids=["a class leaves", "an example leaves"])
def test_a_request_is_that_of_a_loop(x64, regression, unlearn_loss, leaves):
    """One example to remove and one in the buffer: every draw is known. λ is not read."""
    labels = np.array([0, 1 if leaves else 0])
    inputs, start = INPUTS[:2], [regression.twin.logits(regression.params, x) for x in INPUTS[:2]]
    task, buffer = examples([1], inputs, labels=labels), buffer_of([0], inputs, labels)
    state, info = unlearn(regression, dataclasses.replace(SETTINGS, unlearn_loss=unlearn_loss), task, buffer)
    level = 0.0 if leaves else reference.softmax(start[0])[0]
    neighbours = np.eye(3)[0]
    target = loop_target(start[1], neighbours, [1] if leaves else [])

    params = regression.params
    for k in range(3):
        p = reference.softmax(regression.twin.logits(params, inputs[1]))
        truth = np.eye(3)[labels[1]]
        gap = p[labels[1]] - level
        delta = p - target if unlearn_loss == "target" else -max(gap, 0) / (1 - p[labels[1]]) * (p - truth)
        away = reference.linear_gradient(inputs[[1]], [(1 - k / 3) * delta], [1])
        fast = {name: value - 0.3 * away[name] for name, value in params.items()}
        back, _ = reference.mean_gradient(regression.twin, fast, (inputs[:1], labels[:1], [1.0]))
        fast = {name: value - 0.2 * (1 - k / 3) * back[name] for name, value in fast.items()}
        params = {name: 0.2 * value + 0.8 * fast[name] for name, value in params.items()}
    for name in params:
        np.testing.assert_allclose(state.params[name], params[name], rtol=1e-6 if unlearn_loss == "target" else 1e-12)
    rows = 50 if unlearn_loss == "target" else CAPACITY
    assert info.gradient_evaluations == pytest.approx((3 * 8 + rows / 3) / 64, rel=1e-6)


@pytest.mark.parametrize("unlearn_loss", ["bounded", "target"])
def test_devices_agree_with_one(x64, regression, unlearn_loss):
    settings = dataclasses.replace(SETTINGS, unlearn_loss=unlearn_loss)
    arguments = (regression, settings, examples([1, 2, 3, 4]), buffer_of(list(range(10, 30))))
    split, whole = unlearn(*arguments, devices=2), unlearn(*arguments)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


def test_padding_of_a_request_is_never_a_target(regression):
    """Only rows of the request are drawn, so what a row of padding was given cannot matter."""
    settings = dataclasses.replace(SETTINGS, unlearn_loss="target")
    buffer = buffer_of(list(range(10, 30)))
    padded, exact = (unlearn(regression, settings, examples([1, 2], size=size), buffer)[0].params for size in (50, 2))
    for name in padded:
        np.testing.assert_allclose(padded[name], exact[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, 0),
        ({"unlearn_loss": "bounded"}, 30),
        ({"unlearn_loss": "bounded", "distillation": True}, 30),
        ({"unlearn_loss": "target"}, 60),
        ({"unlearn_loss": "target", "distillation": True}, 90),
        ({"unlearn_loss": "bounded", "levels": "midpoint"}, 3 * 4 * 2),  # two midpoints of every drawn example
        ({"unlearn_loss": "target", "levels": "midpoint", "distillation": True}, 3 * 4 * 2 + 30),
        ({"fast_step": "budget"}, 3 * 4),  # a probe of every drawn batch
    ],
)
def test_forward_passes_of_the_start_are_counted_once(changes, rows):
    settings = dataclasses.replace(SETTINGS, **changes)
    assert gradient_evaluations(settings, 30, 60) == pytest.approx((3 * 8 + rows / 3) / 64)


def test_an_unlearning_loss_for_learning_and_an_unknown_one_are_refused(regression):
    with pytest.raises(ValueError, match="unlearn_loss of a learn request must be 'ascent', got 'target'"):
        ug_clu(regression.apply_fn, dataclasses.replace(SETTINGS, unlearn_loss="target"), SETTINGS, num_classes=3)
    with pytest.raises(ValueError, match="unlearn_loss must be one of ascent, bounded, target, got 'descent'"):
        dataclasses.replace(SETTINGS, unlearn_loss="descent")


def test_task_targets_read_the_task_and_the_buffer(x64):
    """Row by row: neighbours of the row's input, and the class that departs with the task."""
    ids = [i for i in range(30) if LABELS[i] != 1]
    gone = [i for i in range(30, 60) if LABELS[i] == 1][:3]
    task, logits = examples(gone), RNG.normal(size=(50, CLASSES))
    found = task_targets(logits, task, buffer_of(ids), batch_size=16)
    for row, i in enumerate(gone):
        neighbours = loop_neighbours(INPUTS[i], ids, INPUTS, LABELS)
        np.testing.assert_allclose(found[row], loop_target(logits[row], neighbours, [1]), rtol=1e-6)
