"""Losses against loops, their gradients in closed form, and their behaviour at the ends of the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ugclu_jax.losses import cross_entropy, divergence, soft_cross_entropy

cross_entropy_jit = jax.jit(cross_entropy)
summed_gradient = jax.jit(jax.grad(lambda logits, labels: cross_entropy(logits, labels).sum()))


def draw(seed=0, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, (5, 4)), rng.integers(0, 4, 5)


def test_is_that_of_a_loop_and_does_not_see_a_shift(x64):
    logits, labels = draw()
    expected = [reference.cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(cross_entropy_jit(logits, labels), expected, rtol=1e-13)
    np.testing.assert_allclose(cross_entropy_jit(logits + 100.0, labels), expected, rtol=1e-11)


def test_gradient_is_softmax_minus_one_hot(x64):
    logits, labels = draw(1)
    expected = [reference.softmax(row) - np.eye(4)[label] for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(summed_gradient(logits, labels), expected, atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float32, (5, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_is_never_negative_or_undefined(logits):
    losses = np.asarray(cross_entropy_jit(logits, np.arange(5) % 4))
    assert losses.shape == (5,)
    assert np.all(losses >= 0) and np.all(np.isfinite(losses))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_keeps_the_type_of_the_logits(dtype):
    assert cross_entropy(jnp.zeros((2, 3), dtype), jnp.array([0, 1])).dtype == dtype


# --- to a distribution, and to a teacher -----------------------------------------------------------------------------

soft_cross_entropy_jit = jax.jit(soft_cross_entropy)
soft_gradient = jax.jit(jax.grad(lambda logits, targets: soft_cross_entropy(logits, targets).sum()))
divergence_jit = jax.jit(divergence)
divergence_gradient = jax.jit(jax.grad(lambda *arguments: divergence(*arguments).sum()))


def draw_targets(seed=0):
    targets = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
    targets[0] = [0.0, 1.0, 0.0, 0.0]
    return targets


def test_soft_is_that_of_a_loop_and_of_the_labels_at_one_hot(x64):
    (logits, labels), targets = draw(), draw_targets()
    expected = [
        sum(q * reference.cross_entropy(row, c) for c, q in enumerate(target))
        for row, target in zip(logits, targets, strict=True)
    ]
    np.testing.assert_allclose(soft_cross_entropy_jit(logits, targets), expected, rtol=1e-13)
    one_hot = np.eye(4)[labels]
    np.testing.assert_allclose(soft_cross_entropy_jit(logits, one_hot), cross_entropy_jit(logits, labels), rtol=1e-13)


def test_soft_gradient_is_softmax_minus_target(x64):
    (logits, _), targets = draw(1), draw_targets(1)
    expected = [reference.softmax(row) - target for row, target in zip(logits, targets, strict=True)]
    np.testing.assert_allclose(soft_gradient(logits, targets), expected, atol=1e-14)


def test_soft_is_least_where_the_softmax_is_the_target(x64):
    targets = draw_targets(2)[1:]
    entropies = -(targets * np.log(targets)).sum(axis=1)
    np.testing.assert_allclose(soft_cross_entropy_jit(np.log(targets), targets), entropies, rtol=1e-13)
    assert np.all(soft_cross_entropy_jit(draw(2)[0][1:], targets) > entropies)


def test_a_class_of_target_0_adds_nothing_however_unlikely():
    logits, targets = np.array([[0.0, 0.0, -np.inf]], np.float32), np.array([[0.5, 0.5, 0.0]], np.float32)
    np.testing.assert_allclose(soft_cross_entropy_jit(logits, targets), [np.log(2)], rtol=1e-6)
    assert np.all(np.isfinite(soft_gradient(logits[:, :2], targets[:, :2])))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_is_that_of_a_loop_and_0_at_the_teacher(x64, temperature):
    (logits, _), (teacher, _) = draw(), draw(3)
    expected = []
    for row, known in zip(logits, teacher, strict=True):
        p, q = reference.softmax(row / temperature), reference.softmax(known / temperature)
        expected.append(temperature**2 * sum(b * np.log(b / a) for a, b in zip(p, q, strict=True)))
    np.testing.assert_allclose(divergence_jit(logits, teacher, temperature), expected, rtol=1e-12)
    np.testing.assert_allclose(divergence_jit(logits + 9.0, logits, temperature), np.zeros(5), atol=1e-13)
    deltas = [reference.divergence_delta(*rows, temperature) for rows in zip(logits, teacher, strict=True)]
    np.testing.assert_allclose(divergence_gradient(logits, teacher, temperature), deltas, atol=1e-13)
