"""Ranks that prefer some examples: inclusion against exact enumeration, and what the buffer promises of any rank."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ugclu_jax import buffer as reservoir
from ugclu_jax import buffer_sampling
from ugclu_jax.learner import CLUState, apply_request, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.types import Examples, MethodState

NUM_EXAMPLES, CAPACITY, PADDED = 40, 8, 16
LARGEST = 2**32 - 1
INPUTS = jnp.asarray(np.random.default_rng(0).integers(1, 256, (NUM_EXAMPLES, 2)), jnp.uint8)
LABELS = jnp.arange(NUM_EXAMPLES) % 3
EMPTY = reservoir.init(CAPACITY, (2,), jnp.uint8, jax.random.key(7))
insert, remove = jax.jit(reservoir.insert), jax.jit(reservoir.remove)


def examples(ids, size=PADDED):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(INPUTS, LABELS, jnp.asarray(padded), jnp.int32(len(ids)))


def assert_same(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


# --- weighted ranks --------------------------------------------------------------------------------------------------


def successive(weights, size):
    """Probability of each example to be among `size` draws without replacement, each by weight, over all orders."""
    found = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), size):
        left, probability = sum(weights), 1.0
        for one in order:
            probability *= weights[one] / left
            left -= weights[one]
        found[list(order)] += probability
    return found


@pytest.mark.parametrize("weights", [(1.0,) * 5, (0.5, 0.75, 1.0, 2.0, 6.0), (0.01, 1.0, 1.0, 1.0, 99.0)])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_inclusion_is_that_of_drawing_one_after_another(weights, size):
    seeds = 20_000
    task = examples(range(5), 8)

    @jax.jit
    @jax.vmap
    def kept(key):
        empty = reservoir.init(size, (2,), jnp.uint8, key)
        ranks = reservoir.rank(task.ids, empty.hash_key)
        ranks = buffer_sampling.weighted_ranks(ranks, jnp.array([*weights, 1.0, 1.0, 1.0]))
        return reservoir.insert(empty, task, ranks).ids

    ids = np.asarray(kept(jax.random.split(jax.random.key(0), seeds)))
    assert (ids >= 0).all()
    counts, expected = np.bincount(ids.ravel(), minlength=5), successive(weights, size)
    for count, probability in zip(counts, expected, strict=True):
        assert stats.binomtest(int(count), seeds, min(1.0, probability)).pvalue > 1e-5, (counts / seeds, expected)


def test_ranks_are_exponential_whose_rate_is_the_weight():
    ranks = reservoir.rank(jnp.arange(4000), jnp.array([3, 9], jnp.uint32))
    for weight in (1e-6, 1.0, 1e6):
        found = buffer_sampling.weighted_ranks(ranks, jnp.full(4000, weight))
        waits = np.asarray(found).view(np.float32).astype(float)
        assert stats.kstest(waits * weight, "expon").pvalue > 1e-3
        order = np.argsort(np.asarray(ranks), kind="stable")
        assert (np.diff(np.asarray(found)[order].astype(np.int64)) >= 0).all(), "of one weight the order is the uniform"
    assert int(found.max()) < LARGEST


def test_weights_are_never_small_and_have_mean_one():
    scores, valid = jnp.array([0.0, 1.0, 5.0, 100.0]), jnp.array([True, True, True, False])
    weights = np.asarray(buffer_sampling.weights_of(scores, valid))
    assert weights[:3].mean() == pytest.approx(1) and weights[:3].min() == pytest.approx(0.5)
    np.testing.assert_allclose(weights[:3], 0.5 + 0.5 * np.array([0, 1, 5]) / 2)
    assert buffer_sampling.weights_of(jnp.zeros(3), jnp.ones(3, bool)).tolist() == [1, 1, 1]
    assert np.isfinite(buffer_sampling.weights_of(scores, jnp.zeros(4, bool))).all()


def test_scores_are_those_of_numpy():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(6, 3)), rng.integers(0, 3, 6)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {
        "loss": [-np.log(row[y]) for row, y in zip(p, labels, strict=True)],
        "gradient_norm": [np.linalg.norm(row - np.eye(3)[y]) for row, y in zip(p, labels, strict=True)],
        "entropy": [-sum(q * np.log(q) for q in row) for row in p],
    }
    for name, score in buffer_sampling.SCORES.items():
        np.testing.assert_allclose(score(jnp.asarray(logits), jnp.asarray(labels)), expected[name], rtol=1e-5)


def test_the_gradient_norm_is_that_of_the_logits(x64):
    logits, labels = jnp.array([[0.3, -1.0, 2.0]]), jnp.array([1])
    slope = jax.grad(lambda z: buffer_sampling.loss(z, labels)[0])(logits)
    assert float(buffer_sampling.gradient_norm(logits, labels)[0]) == pytest.approx(float(jnp.linalg.norm(slope)))


# --- class-balanced ranks ---------------------------------------------------------------------------------------------


def balanced(ids, key, labels=LABELS):
    own = labels[jnp.maximum(jnp.asarray(ids), 0)]
    ranks = reservoir.rank(jnp.asarray(ids, jnp.int32), key)
    return buffer_sampling.class_balanced_ranks(ranks, own, jnp.asarray(ids) >= 0, key)


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(NUM_EXAMPLES)), st.integers(1, NUM_EXAMPLES), st.integers(0, 2**32 - 1))
def test_any_threshold_keeps_as_many_of_each_class(order, count, word):
    ids, key = np.array(order[:count]), jnp.array([word, word ^ 99], jnp.uint32)
    ranks, labels = np.asarray(balanced(ids, key)), np.asarray(LABELS)[ids]
    assert len(set(ranks.tolist())) == count
    for size in range(count + 1):
        kept = np.bincount(labels[np.argsort(ranks)[:size]], minlength=3)
        there = np.bincount(labels, minlength=3)
        most = kept.max()
        assert all(n >= most - 1 or n == there[c] for c, n in enumerate(kept)), (kept, there)


def test_within_a_class_the_order_is_the_uniform_one():
    key = jnp.array([5, 6], jnp.uint32)
    ids = np.arange(NUM_EXAMPLES)
    found, uniform = np.asarray(balanced(ids, key)), np.asarray(reservoir.rank(ids.astype(np.int32), key))
    for label in range(3):
        own = ids[np.asarray(LABELS) == label]
        assert np.argsort(found[own]).tolist() == np.argsort(uniform[own]).tolist()


def test_classes_that_come_later_get_the_same_share():
    """A buffer of 8 of a class of 20, and then of a second one of 20: 4 of each; the unbalanced are 30 to 4."""
    labels = jnp.arange(NUM_EXAMPLES) // 20
    buffer = EMPTY
    for start in (0, 20):
        ids = np.arange(start, start + 20)
        task = Examples(INPUTS, labels, jnp.asarray(ids, jnp.int32), jnp.int32(20))
        buffer = insert(buffer, task, balanced(ids, buffer.hash_key, labels))
    assert np.bincount(np.asarray(buffer.labels)).tolist() == [4, 4]
    few = jnp.where(jnp.arange(NUM_EXAMPLES) < 36, 0, 1)
    task = Examples(INPUTS, few, jnp.arange(NUM_EXAMPLES, dtype=jnp.int32), jnp.int32(NUM_EXAMPLES))
    one = insert(EMPTY, task, balanced(np.arange(NUM_EXAMPLES), EMPTY.hash_key, few))
    assert np.bincount(np.asarray(one.labels)).tolist() == [4, 4]


# --- what the buffer promises of any rank -----------------------------------------------------------------------------


class Reference:
    """A sorted list of (rank, id): the smallest ranks, and of a tie at the border none."""

    def __init__(self, capacity, ranks):
        self.capacity, self.own, self.rows, self.threshold = capacity, ranks, [], LARGEST

    def insert(self, ids):
        inside = {example for _, example in self.rows}
        new = {(self.own[example], example) for example in ids if example not in inside}
        rows = sorted([*self.rows, *(entry for entry in new if entry[0] <= self.threshold)])
        if len(rows) > self.capacity:
            self.threshold = rows[self.capacity][0] - 1
        self.rows = [entry for entry in rows[: self.capacity] if entry[0] <= self.threshold]

    def remove(self, ids):
        self.rows = [entry for entry in self.rows if entry[1] not in ids]


def given_ranks(ids, ranks):
    return jnp.asarray(np.r_[[ranks[i] for i in ids], np.zeros(PADDED - len(ids))], jnp.uint32)


some_ids = st.lists(st.integers(0, NUM_EXAMPLES - 1), max_size=PADDED)
operations = st.lists(st.tuples(st.sampled_from(["insert", "remove"]), some_ids), max_size=8)
few_ranks = st.lists(st.integers(1, 12), min_size=NUM_EXAMPLES, max_size=NUM_EXAMPLES)  # many ties


@settings(max_examples=60, deadline=None)
@given(operations, few_ranks)
def test_any_history_agrees_with_the_reference_ties_and_all(history, ranks):
    buffer, reference = EMPTY, Reference(CAPACITY, ranks)
    for operation, ids in history:
        if operation == "insert":
            buffer = insert(buffer, examples(ids), given_ranks(ids, ranks))
            reference.insert(ids)
        else:
            buffer = remove(buffer, examples(ids).ids)
            reference.remove(ids)
        count = len(reference.rows)
        assert int(buffer.count) == count and int(buffer.threshold) == reference.threshold
        assert buffer.ids.tolist()[:count] == [example for _, example in reference.rows]
        assert buffer.ranks.tolist() == [rank for rank, _ in reference.rows] + [LARGEST] * (CAPACITY - count)
        assert not np.asarray(buffer.inputs[count:]).any()
        np.testing.assert_array_equal(buffer.inputs[:count], np.asarray(INPUTS)[[i for _, i in reference.rows]])


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(NUM_EXAMPLES)), st.lists(st.integers(0, NUM_EXAMPLES), min_size=3, max_size=3), few_ranks)
def test_order_and_batching_do_not_matter(order, cuts, ranks):
    def all_of(parts):
        buffer = EMPTY
        for part in parts:
            for start in range(0, len(part), PADDED):
                some = part[start : start + PADDED]
                buffer = insert(buffer, examples(some), given_ranks(some, ranks))
        return buffer

    parts = [part.tolist() for part in np.split(np.array(order), sorted(cuts))]
    assert_same(all_of(parts), all_of([list(range(NUM_EXAMPLES))]))


@settings(max_examples=30, deadline=None)
@given(operations)
def test_uniform_ranks_that_are_given_are_those_that_are_not(history):
    first = second = EMPTY
    for operation, ids in history:
        if operation == "insert":
            task = examples(ids)
            first, second = insert(first, task), insert(second, task, reservoir.rank(task.ids, EMPTY.hash_key))
        else:
            first, second = (remove(each, examples(ids).ids) for each in (first, second))
    assert_same(first, second)


def test_offered_again_an_example_keeps_its_first_rank():
    once = insert(EMPTY, examples([3, 4]), jnp.full(PADDED, 7, jnp.uint32))
    assert_same(insert(once, examples([4, 3]), jnp.full(PADDED, 2, jnp.uint32)), once)


def test_nothing_of_a_removed_example_is_left():
    ranks = buffer_sampling.weighted_ranks(reservoir.rank(examples([3, 4]).ids, EMPTY.hash_key), jnp.ones(PADDED))
    left = remove(insert(EMPTY, examples([3, 4]), ranks), jnp.array([3]))
    assert_same(left, insert(EMPTY, examples([4]), jnp.roll(ranks, -1)))


# --- in a request -----------------------------------------------------------------------------------------------------


def linear(params, model_state, inputs, *, train, rng_key):
    return inputs.astype(jnp.float32) / 255 @ params, model_state


PARAMS = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3)), jnp.float32)


@pytest.mark.parametrize("sampling", ["loss", "gradient_norm", "entropy", "class_balanced"])
def test_a_request_ranks_by_the_network_that_it_leads_to(sampling):
    ranks_fn = buffer_sampling.ranks_fn(sampling, linear)
    method, state = do_nothing()._replace(ranks=ranks_fn), CLUState(MethodState(PARAMS, {}), EMPTY)
    task = examples(range(12))
    found, _ = jax.jit(functools.partial(apply_request, method, "learn"))(jax.random.key(0), state, (), task)
    uniform = reservoir.rank(task.ids, EMPTY.hash_key)
    if sampling == "class_balanced":
        expected = balanced(task.ids, EMPTY.hash_key)
    else:
        logits = np.asarray(linear(PARAMS, {}, INPUTS[:12], train=False, rng_key=None)[0])
        scores = np.asarray(buffer_sampling.SCORES[sampling](jnp.asarray(logits), LABELS[:12]))
        weights = np.r_[0.5 + 0.5 * scores / scores.mean(), np.ones(4)]
        expected = buffer_sampling.weighted_ranks(uniform, jnp.asarray(weights, jnp.float32))
    wanted = insert(EMPTY, task, expected)
    assert found.buffer.ids.tolist() == wanted.ids.tolist()
    assert found.buffer.ids.tolist() != insert(EMPTY, task).ids.tolist()


def test_one_program_serves_tasks_and_another_sampling_is_another():
    run, state = request_program(), CLUState(MethodState(PARAMS, {}), EMPTY)
    method = do_nothing()._replace(ranks=buffer_sampling.ranks_fn("loss", linear))
    first = run(method, "learn", jax.random.key(0), state, (), examples(range(12)))
    again = run(method, "learn", jax.random.key(1), first[0], (), examples(range(12, 20)))
    other = run(do_nothing(), "learn", jax.random.key(0), state, (), examples(range(12)))
    assert again[2].compile_seconds < min(first[2].compile_seconds, other[2].compile_seconds) / 4
    assert other[0].buffer.ids.tolist() == insert(EMPTY, examples(range(12))).ids.tolist()


def test_a_buffer_that_holds_everything_has_no_choice(tmp_path, capsys):
    from ugclu_jax.harness.cli import main

    words = ["--smoke", "--buffer-sampling", "loss", "--capacity", "5000", "--run-dir", str(tmp_path / "run")]
    assert main("random_sample", "", words) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--buffer-sampling is 'loss' and changes nothing: a buffer of 5000 holds all" in told
