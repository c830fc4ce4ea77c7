"""Ends of the ascent read off between an example and its neighbours, against a NumPy loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as reservoir
from ugclu_jax.midpoints import between, midpoint_targets
from ugclu_jax.types import Examples

CLASSES, ROWS, FEATURES = 4, 40, 3
RNG = np.random.default_rng(8)
INPUTS, LABELS = RNG.normal(size=(ROWS, FEATURES)), np.arange(ROWS) % CLASSES
PARAMS = RNG.normal(size=(FEATURES, CLASSES))


def linear(params, state, x, *, train, rng_key):
    assert not train and rng_key is None
    return x.astype(params.dtype) @ params, state


def buffer_of(ids, inputs=INPUTS, capacity=ROWS):
    padded = np.r_[np.asarray(ids, np.int32), np.full(ROWS - len(ids), -1, np.int32)]
    kept = Examples(jnp.asarray(inputs), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))
    return reservoir.insert(reservoir.init(capacity, inputs.shape[1:], kept.inputs.dtype, jax.random.key(0)), kept)


def by_hand(x, kept, departed):
    """The formulas of the module, one example, by sorting distances."""
    order = sorted(kept, key=lambda i: np.sum((INPUTS[i].astype(np.float32) - x.astype(np.float32)) ** 2))
    alive = ~np.asarray(departed)
    mid = np.zeros(CLASSES)
    for i in order[:2]:
        p = np.where(alive, np.exp((x + INPUTS[i]) / 2 @ PARAMS), 0.0)
        mid += p / p.sum() / len(order[:2])
    counts = np.bincount(LABELS[order[:20]], minlength=CLASSES) / max(len(order[:20]), 1)
    held = np.bincount(LABELS[kept], minlength=CLASSES) > 0
    n = 0.95 * counts + 0.05 * held / max(held.sum(), 1)
    q = np.where(alive, np.sqrt(n + 1e-4) * np.sqrt(mid + 1e-4), 0.0)
    return q / q.sum()


@pytest.mark.parametrize("kept", [np.arange(5, 40), np.array([7, 9]), np.array([7])], ids=["many", "two", "one"])
@pytest.mark.parametrize("gone", [(), (2,)])
def test_targets_are_those_of_numpy(x64, kept, gone):
    kept = np.array([i for i in kept if LABELS[i] not in gone])
    departed = np.isin(np.arange(CLASSES), gone)
    found = midpoint_targets(linear, PARAMS, {}, jnp.asarray(INPUTS[:5]), buffer_of(kept), jnp.asarray(departed))
    # n is kept in float32, as labels of neighbours are everywhere.
    for x, q in zip(INPUTS[:5], np.asarray(found), strict=True):
        np.testing.assert_allclose(q, by_hand(x, kept, departed), rtol=1e-5)


def test_of_an_empty_buffer_what_stays_is_uniform(x64):
    departed = jnp.array([True, False, False, False])
    found = midpoint_targets(linear, PARAMS, {}, jnp.asarray(INPUTS[:2]), buffer_of([]), departed)
    np.testing.assert_allclose(found, np.tile([0, 1 / 3, 1 / 3, 1 / 3], (2, 1)), rtol=1e-12)


def test_where_all_classes_leave_nothing_is_nan(x64):
    found = midpoint_targets(linear, PARAMS, {}, jnp.asarray(INPUTS[:2]), buffer_of([]), jnp.ones(CLASSES, bool))
    np.testing.assert_allclose(found, np.full((2, CLASSES), 0.25))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_between_two_inputs_of_their_own_type(dtype):
    pair = np.array([[0, 255, 3], [255, 255, 4]]).astype(dtype)
    middle = between(jnp.asarray(pair[0]), jnp.asarray(pair[1]))
    assert middle.dtype == dtype
    expected = np.array([127.5, 255, 3.5])
    np.testing.assert_array_equal(middle, np.round(expected) if dtype == np.uint8 else expected)


def test_token_ids_have_no_midpoint():
    tokens = RNG.integers(0, 9, (ROWS, FEATURES)).astype(np.int32)
    buffer = buffer_of(np.arange(9), tokens)
    with pytest.raises(ValueError, match="levels 'midpoint' need inputs with midpoints, got token ids of type int32"):
        midpoint_targets(linear, PARAMS, {}, jnp.asarray(tokens[:2]), buffer, jnp.zeros(CLASSES, bool))


def test_a_memorised_example_gets_the_level_of_its_neighbours(x64):
    """A network that is sure of one odd label is not asked about it: its level is what is said half way."""
    centres = np.repeat([[-4.0], [4.0]], 20, axis=0)
    inputs = np.concatenate([centres, np.zeros((40, 2))], axis=1)
    labels = np.repeat([0, 1], 20)
    kept = np.arange(1, 40)
    padded = jnp.asarray(np.r_[kept, -1].astype(np.int32))
    examples = Examples(jnp.asarray(inputs), jnp.asarray(labels, jnp.int32), padded, jnp.int32(39))
    buffer = reservoir.insert(reservoir.init(40, (3,), examples.inputs.dtype, jax.random.key(0)), examples)

    def memorises(params, state, x, *, train, rng_key):
        odd = jnp.all(x == inputs[0] + jnp.array([0.0, 1.0, 0.0]), axis=1)  # the odd one, and no other input
        return jnp.where(odd[:, None], jnp.array([-9.0, 9.0]), jnp.stack([-x[:, 0], x[:, 0]], axis=1)), state

    odd = jnp.asarray(inputs[:1]) + jnp.array([0.0, 1.0, 0.0])
    said = jax.nn.softmax(memorises({}, {}, odd, train=False, rng_key=None)[0])
    level = midpoint_targets(memorises, {}, {}, odd, buffer, jnp.zeros(2, bool))
    assert said[0, 1] > 0.99 and level[0, 0] > 0.85
