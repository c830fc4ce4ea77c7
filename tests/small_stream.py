"""Twelve examples of three classes, and the requests and buffers of given ids that the methods are tested on.

Inputs are float64: tests of numbers that use them take the fixture `x64`. Where task and buffer hold one example each,
every draw is known, and a request is a loop that NumPy can walk.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as reservoir
from ugclu_jax.types import Examples

NUM_EXAMPLES, CLASSES, CAPACITY = 12, 3, 6
INPUTS = np.random.default_rng(0).normal(size=(NUM_EXAMPLES, 3))
LABELS = np.arange(NUM_EXAMPLES) % CLASSES
insert = jax.jit(reservoir.insert)


def typed(inputs):
    # Not `jnp.asarray(inputs)`: without x64 that was once still float64, of whoever had enabled it before.
    return jnp.asarray(inputs, jax.dtypes.canonicalize_dtype(np.asarray(inputs).dtype))


def examples(ids, inputs=INPUTS, size=5):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(typed(inputs), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids, inputs=INPUTS):
    empty = reservoir.init(CAPACITY, inputs.shape[1:], typed(inputs).dtype, jax.random.key(0))
    return insert(empty, examples(ids, inputs))


def repeated(i, times=4):
    """A batch of one example many times, for the loops of `reference`."""
    return INPUTS[[i] * times], LABELS[[i] * times], np.ones(times)


def random_batch(seed, weights):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(weights), 3)), rng.integers(0, CLASSES, len(weights)), np.asarray(weights, float)


def assert_close(tree, expected, **tolerance):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, err_msg=name, **{"rtol": 1e-11, "atol": 1e-13, **tolerance})
