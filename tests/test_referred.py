"""A buffer that refers to inputs in host memory draws what one of copies draws, bit for bit, and holds no input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_streaming import CLASSES, FEATURES, INPUTS, LABELS, MAKERS, Counted, budgeted, examples, network

from ugclu_jax import api, checkpoints
from ugclu_jax import buffer as buffer_lib
from ugclu_jax.batches import from_mix, mixed_weights
from ugclu_jax.bounded import neighbour_labels
from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.streaming import HostArray, take

CAPACITY = 12


def empty_of(source=None):
    return buffer_lib.init(CAPACITY, (FEATURES,), jnp.uint8, jax.random.key(1), source)


def as_copies(buffer):
    """The same buffer with the inputs that it refers to, 0 where it is empty."""
    filled = buffer_lib.filled(buffer)[:, None]
    return buffer._replace(inputs=jnp.where(filled, take(buffer.inputs, jnp.arange(buffer.inputs.shape[0])), 0))


def assert_same(referred, copied):
    jax.tree.map(np.testing.assert_array_equal, referred, copied)


distilling = functools.partial(budgeted, distillation=True)
"""Its teacher answers for the whole buffer before the request."""
ALL = {
    **MAKERS,
    "distillation": distilling,
    "bounded": functools.partial(distilling, unlearn_loss="bounded"),
    "midpoints": functools.partial(distilling, unlearn_loss="bounded", levels="midpoint"),
}


@pytest.mark.parametrize("name", ALL)
def test_requests_are_the_same_bit_for_bit(name):
    run, host = request_program(), HostArray(INPUTS)
    method, hyper = ALL[name](Counted())

    def served(buffer):
        state = CLUState(method.init(*network()), buffer_lib.insert(buffer, examples(host, range(30, 50))))
        learned, *told = run(method, "learn", jax.random.key(2), state, hyper, examples(host, range(20)))
        unlearned, *more = run(method, "unlearn", jax.random.key(3), learned, hyper, examples(host, range(8)))
        return learned, unlearned, told[0], more[0]

    *referred, told, more = served(empty_of(host))
    *copied, same_told, same_more = served(empty_of())
    assert_same((told, more), (same_told, same_more))
    for own, other in zip(referred, copied, strict=True):
        assert_same(own.method, other.method)
        assert_same(as_copies(own.buffer), other.buffer)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_offers_and_removals_lead_to_the_same(data):
    host = HostArray(INPUTS)
    referred, copied = empty_of(host), empty_of()
    for _ in range(data.draw(st.integers(1, 5))):
        ids = data.draw(st.lists(st.integers(0, 59), max_size=20, unique=True))
        if data.draw(st.booleans()):
            referred, copied = (buffer_lib.insert(each, examples(host, ids)) for each in (referred, copied))
        else:
            referred, copied = (buffer_lib.remove(each, examples(host, ids).ids) for each in (referred, copied))
    assert_same(as_copies(referred), copied)
    rows = buffer_lib.sample_rows(copied, jax.random.key(4), (2, 3))
    assert_same(buffer_lib.at_rows(referred, rows), buffer_lib.at_rows(copied, rows))
    gone = np.setdiff1d(np.arange(60), np.asarray(copied.ids))
    held = np.asarray(referred.inputs.rows)[: int(referred.count)]
    assert not np.isin(held, gone).any(), "no number of an example that has left"
    assert not np.asarray(referred.inputs.rows)[int(referred.count) :].any()


def test_a_draw_from_nothing_reads_nobody():
    batch = buffer_lib.at_rows(empty_of(HostArray(INPUTS)), jnp.array([0, 0]))
    assert not batch.inputs.any() and not batch.weights.any()


def test_mixed_draws_and_neighbours_are_the_same():
    host = HostArray(INPUTS)
    found = []
    for empty in (empty_of(host), empty_of()):
        buffer, task = buffer_lib.insert(empty, examples(host, range(30, 50))), examples(host, range(9))
        cumulative = mixed_weights(task, buffer, CLASSES)
        mixed = from_mix(jax.random.key(0), task, buffer, cumulative, (5, 4))
        found.append((mixed, neighbour_labels(jnp.asarray(INPUTS[:3]), buffer, CLASSES)))
    assert_same(*found)


def test_other_inputs_than_those_referred_to_are_refused():
    host = HostArray(INPUTS)
    with pytest.raises(ValueError, match="refers to other inputs than the examples'"):
        buffer_lib.insert(empty_of(host), examples(HostArray(INPUTS), [1]))
    with pytest.raises(
        ValueError, match=r"has inputs of \(5,\), uint8; they must be those of the buffer, \(4,\), uint8"
    ):
        buffer_lib.init(3, (4,), jnp.uint8, jax.random.key(0), host)
    method, _ = MAKERS["finetune_remain"](Counted())
    params, statistics = network()
    resident = api.Data(INPUTS, LABELS)
    with pytest.raises(ValueError, match="refer is for inputs in host memory"):
        api.init(jax.random.key(0), method, params, resident, capacity=3, model_state=statistics, refer=True)


def test_a_state_that_refers_is_made_served_and_saved_by_the_functions_of_notebooks(tmp_path):
    """From a memory-mapped file, and without a byte of an input in the checkpoint."""
    np.save(tmp_path / "inputs.npy", INPUTS)
    data = api.Data(HostArray(np.load(tmp_path / "inputs.npy", mmap_mode="r")), LABELS)
    method, hyper = ALL["ug_clu"](Counted())
    params, statistics = network()
    made = api.init(
        jax.random.key(0), method, params, data, capacity=9, model_state=statistics, remember=range(40), refer=True
    )
    state, _ = api.unlearn(jax.random.key(1), method, made, data[range(10)], hyper)
    assert not np.isin(np.asarray(state.buffer.ids), np.arange(10)).any()
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state.buffer.inputs)) == 9 * 4
    checkpoints.save(tmp_path / "state", 1, state, {})
    restored = checkpoints.restore(tmp_path / "state", 1, made).state
    assert_same(restored, state)
    assert restored.buffer.inputs.source is data.inputs
