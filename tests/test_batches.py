"""Draws: from where, how often, how they split over devices, and what an empty source gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ugclu_jax import batches
from ugclu_jax import buffer as reservoir
from ugclu_jax.batches import from_buffer, from_mix, from_task, mixed_weights, rows_of_buffer, share, valid_rows
from ugclu_jax.types import Examples

NUM_EXAMPLES, CAPACITY, CLASSES = 20, 8, 5
# An input tells its id; classes 0 … 3 are of 5 ids each, class 4 has none.
INPUTS = jnp.stack([jnp.arange(NUM_EXAMPLES), 100 + jnp.arange(NUM_EXAMPLES)], axis=1)
LABELS = jnp.arange(NUM_EXAMPLES) // 5
insert = jax.jit(reservoir.insert)
balanced_weights = jax.jit(batches.balanced_weights, static_argnums=2)
cumulative_weights = jax.jit(batches.cumulative_weights)
weighted_rows = jax.jit(batches.draw_rows, static_argnums=2)
EMPTY_BUFFER = reservoir.init(CAPACITY, (2,), INPUTS.dtype, jax.random.key(0))


def examples(ids, size=6):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(INPUTS, LABELS, jnp.asarray(padded), jnp.int32(len(ids)))


TASK = examples([3, 8, 9, 6])
BUFFER = insert(EMPTY_BUFFER, examples([0, 2, 10, 15, 11]))


@functools.partial(jax.jit, static_argnames=("source", "shape", "axis_name"))
def draw(source, key, task, buffer, shape, axis_name=None):
    if source == "task":
        return from_task(key, task, shape, axis_name=axis_name)
    if source == "buffer":
        return from_buffer(key, buffer, shape, axis_name=axis_name)
    return from_mix(key, task, buffer, mixed_weights(task, buffer, CLASSES), shape, axis_name=axis_name)


def drawn_ids(batch):
    """Ids of a batch, whose rows must be whole: input, its second column and label of the same example."""
    ids = np.asarray(batch.inputs[..., 0])
    np.testing.assert_array_equal(batch.inputs[..., 1], 100 + ids)
    np.testing.assert_array_equal(batch.labels, ids // 5)
    np.testing.assert_array_equal(batch.weights, np.ones(ids.shape))
    return ids


@pytest.mark.parametrize(("source", "ids"), [("task", [3, 6, 8, 9]), ("buffer", [0, 2, 10, 11, 15])])
def test_draws_are_uniform_over_what_is_not_padding(source, ids):
    drawn, counts = np.unique(drawn_ids(draw(source, jax.random.key(1), TASK, BUFFER, (4, 1000))), return_counts=True)
    assert drawn.tolist() == ids
    assert stats.chisquare(counts).pvalue > 1e-3


def test_mixed_draws_are_balanced_over_classes_and_uniform_within_one():
    # Class 0: ids 0, 2 of the buffer and 3 of the task; 1: 6, 8, 9 of the task; 2: 10, 11 and 3: 15 of the buffer.
    expected = {0: 1 / 12, 2: 1 / 12, 3: 1 / 12, 6: 1 / 12, 8: 1 / 12, 9: 1 / 12, 10: 1 / 8, 11: 1 / 8, 15: 1 / 4}
    drawn, counts = np.unique(drawn_ids(draw("mix", jax.random.key(2), TASK, BUFFER, (4, 1000))), return_counts=True)
    assert drawn.tolist() == list(expected)
    assert stats.chisquare(counts, 4000 * np.array(list(expected.values()))).pvalue > 1e-3


def test_a_mix_with_an_empty_buffer_is_the_task_and_with_an_empty_task_the_buffer():
    assert set(drawn_ids(draw("mix", jax.random.key(3), TASK, EMPTY_BUFFER, (4, 1000))).flat) == {3, 6, 8, 9}
    assert set(drawn_ids(draw("mix", jax.random.key(3), examples([]), BUFFER, (4, 1000))).flat) == {0, 2, 10, 11, 15}


@pytest.mark.parametrize("source", ["task", "buffer", "mix"])
def test_an_empty_source_gives_padding_of_the_same_shape(source):
    batch = draw(source, jax.random.key(4), examples([]), EMPTY_BUFFER, (2, 8))
    np.testing.assert_array_equal(batch.weights, np.zeros((2, 8)))
    assert batch.inputs.shape == (2, 8, 2) and batch.labels.shape == (2, 8)


@pytest.mark.parametrize(("source", "devices", "shape"), [("task", 2, (8,)), ("buffer", 4, (2, 8)), ("mix", 2, (2, 8))])
def test_devices_share_the_draw_of_one(source, devices, shape):
    key = jax.random.key(5)
    local = jax.vmap(lambda _: draw(source, key, TASK, BUFFER, shape, axis_name="device"), axis_name="device")
    split, whole = local(jnp.zeros(devices)), draw(source, key, TASK, BUFFER, shape)
    for shards, rows in zip(split[:3], whole[:3], strict=True):
        joined = np.concatenate(list(shards), axis=len(shape) - 1)
        np.testing.assert_array_equal(joined, rows)


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"batch size 5 is not a multiple of the 2 devices of axis 'device'"):
        jax.vmap(lambda _: share(jnp.arange(5), "device"), axis_name="device")(jnp.zeros(2))
    np.testing.assert_array_equal(share(jnp.arange(5), None), np.arange(5))


def test_rows_after_the_count_are_not_valid():
    np.testing.assert_array_equal(valid_rows(TASK), [True] * 4 + [False] * 2)
    assert not np.any(valid_rows(examples([])))


def test_rows_of_the_buffer_are_those_of_its_batch():
    """What is kept beside the buffer is read at the rows that the batch was read at, on every device."""
    key = jax.random.key(6)
    rows = rows_of_buffer(key, BUFFER, (2, 8))
    np.testing.assert_array_equal(BUFFER.inputs[rows], draw("buffer", key, TASK, BUFFER, (2, 8)).inputs)
    split = jax.vmap(lambda _: rows_of_buffer(key, BUFFER, (2, 8), axis_name="device"), axis_name="device")
    np.testing.assert_array_equal(np.concatenate(list(split(jnp.zeros(2))), axis=1), rows)


# --- weighted draws ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=6, max_size=6))
def test_balanced_weights_agree_with_a_loop(rows):
    labels, valid = (np.array(column) for column in zip(*rows, strict=True))
    weights = np.zeros(6)
    for i in range(6):
        if valid[i]:
            weights[i] = 1 / sum(labels[j] == labels[i] and valid[j] for j in range(6))
    computed = balanced_weights(jnp.asarray(labels), jnp.asarray(valid), 4)
    assert computed.dtype == jnp.float32
    np.testing.assert_allclose(computed, weights, rtol=1e-6)


def test_balanced_draw_gives_every_class_its_share():
    labels = jnp.array([0] * 50 + [1] * 5 + [2] * 1 + [4] * 8)
    valid = jnp.arange(64) < 60  # class 4 has 4 valid rows, class 3 none
    cumulative = cumulative_weights(balanced_weights(labels, valid, 5))
    rows = np.asarray(weighted_rows(jax.random.key(0), cumulative, (20, 400)))
    assert rows.shape == (20, 400) and rows.dtype == np.int32
    assert rows.max() < 60
    counts = np.bincount(rows.ravel(), minlength=60)
    due = np.r_[np.full(50, 1 / 50), np.full(5, 1 / 5), 1.0, np.full(4, 1 / 4)] * rows.size / 4
    assert stats.chisquare(counts, due).pvalue > 1e-3


def test_cumulative_weights_keep_every_share_of_100_000_rows():
    """Classes of 1, ten times 1,000, and 89,999 rows: in float32 sums, steps of 1e-5 at 12 are off by percents."""
    labels = np.r_[0, 1 + np.arange(10_000) % 10, np.full(89_999, 11)]
    weights = balanced_weights(jnp.asarray(labels), jnp.ones(100_000, bool), 12)
    cumulative = np.asarray(cumulative_weights(weights)).astype(np.int64)
    exact = 1 / np.bincount(labels)[labels] / 12
    np.testing.assert_allclose(np.diff(cumulative, prepend=0) / cumulative[-1], exact, rtol=2e-3)
    assert abs(cumulative[-1] - 2**31) < 2**31 * 1e-4
    floats = np.diff(np.cumsum(np.asarray(weights), dtype=np.float32), prepend=np.float32(0)) / 12
    assert np.abs(floats / exact - 1).max() > 2e-2


def test_draws_at_both_ends_of_the_sums():
    """Weight in two rows only, around them zeros: no draw may fall on a zero, nor past the end."""
    for first, last in ((0, 63), (1, 62)):
        weights = jnp.asarray(np.isin(np.arange(64), [first, last]), jnp.float32)
        rows = np.asarray(weighted_rows(jax.random.key(1), cumulative_weights(weights), (20, 400)))
        assert set(rows.ravel().tolist()) == {first, last}
    # A total of 2 makes it certain that both ends of the range of u are drawn.
    steps = jnp.asarray(np.cumsum(np.isin(np.arange(64), [2, 60])), jnp.uint32)
    assert set(np.asarray(weighted_rows(jax.random.key(1), steps, (20, 400))).ravel().tolist()) == {2, 60}
    nothing = cumulative_weights(jnp.zeros(64))
    assert not np.asarray(nothing).any()
    rows = np.asarray(weighted_rows(jax.random.key(1), nothing, (20, 400)))
    assert ((rows >= 0) & (rows < 64)).all()


def test_sums_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"float32; .* cumulative_weights"):
        batches.draw_rows(jax.random.key(0), jnp.ones(3), (1,))
