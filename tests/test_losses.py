"""Cross-entropy against a loop, its gradient in closed form, and its behaviour at the ends of the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ugclu_jax.losses import cross_entropy

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
