"""The reservoir against a sorted list of Python integers, its statistics over many seeds, and what deletion leaves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ugclu_jax import buffer as reservoir
from ugclu_jax.types import Examples

NUM_EXAMPLES, CAPACITY, PADDED = 40, 8, 16
LARGEST = 2**32 - 1
INPUTS = jnp.asarray(np.random.default_rng(0).integers(1, 256, (NUM_EXAMPLES, 2, 3)), jnp.uint8)
LABELS = jnp.arange(NUM_EXAMPLES) % 5
EMPTY = reservoir.init(CAPACITY, (2, 3), jnp.uint8, jax.random.key(7))

insert = jax.jit(reservoir.insert)
remove = jax.jit(reservoir.remove)


@functools.partial(jax.jit, static_argnums=2)
def sample(buffer, key, shape):
    return reservoir.at_rows(buffer, reservoir.sample_rows(buffer, key, shape))


def padded(ids, size=PADDED):
    return jnp.asarray(np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)])


def examples(ids, size=PADDED):
    return Examples(INPUTS, LABELS, padded(ids, size), jnp.int32(len(ids)))


def inserted(buffer, ids):
    """All ids, in as many batches as the padded size takes."""
    for start in range(0, len(ids), PADDED):
        buffer = insert(buffer, examples(ids[start : start + PADDED]))
    return buffer


def assert_same(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        assert x.dtype == y.dtype, name
        np.testing.assert_array_equal(x, y, err_msg=name)


# --- ranks ---------------------------------------------------------------------------------------------------------


def finaliser(x):
    """murmur3's 32-bit finaliser in Python integers."""
    x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
    x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
    return x ^ x >> 16


def undone(x):
    """The finaliser backwards: xor-shifts by at least 16 bits undo themselves, 13 bits need two more shifts."""
    x ^= x >> 16
    x = x * pow(0xC2B2AE35, -1, 2**32) % 2**32
    x ^= x >> 13 ^ x >> 26
    x = x * pow(0x85EBCA6B, -1, 2**32) % 2**32
    return x ^ x >> 16


def reference_rank(example, key):
    return finaliser(finaliser(example ^ int(key[0])) ^ int(key[1]))


def test_rank_is_two_rounds_of_murmur3():
    # Published: MurmurHash3_x86_32 of the empty string is the finaliser of the seed; seed 1 gives 0x514E28B7.
    key = jnp.array([0, 0x514E28B7 ^ 1], jnp.uint32)
    assert int(reservoir.rank(jnp.int32(1), key)) == 0x514E28B7
    ids = np.r_[np.arange(100), 2**31 - 1, 123456789].astype(np.int32)
    key = jnp.array([0xDEADBEEF, 0x12345678], jnp.uint32)
    assert reservoir.rank(ids, key).tolist() == [reference_rank(int(i), key) for i in ids]


def test_rank_is_a_bijection():
    key = jnp.array([0xDEADBEEF, 0x12345678], jnp.uint32)
    ids = np.random.default_rng(0).integers(0, 2**31, 2000)
    ranks = reservoir.rank(jnp.asarray(ids, jnp.int32), key)
    assert [undone(undone(r) ^ int(key[1])) ^ int(key[0]) for r in ranks.tolist()] == ids.tolist()


# --- agreement with a reference ------------------------------------------------------------------------------------


class Reference:
    """A sorted list of (rank, id) and a threshold, one example at a time."""

    def __init__(self, capacity, key):
        self.capacity, self.key, self.rows, self.threshold = capacity, key, [], LARGEST

    def insert(self, ids):
        for example in ids:
            entry = (reference_rank(example, self.key), example)
            if entry[0] <= self.threshold and entry not in self.rows:
                self.rows = sorted([*self.rows, entry])
            if len(self.rows) > self.capacity:
                self.threshold = self.rows.pop()[0] - 1

    def remove(self, ids):
        self.rows = [entry for entry in self.rows if entry[1] not in ids]

    def assert_equals(self, buffer):
        count = len(self.rows)
        empty = self.capacity - count
        ids = [example for _, example in self.rows]
        assert int(buffer.count) == count
        assert int(buffer.threshold) == self.threshold
        assert buffer.ids.tolist() == ids + [-1] * empty
        assert buffer.ranks.tolist() == [rank for rank, _ in self.rows] + [LARGEST] * empty
        assert buffer.labels.tolist() == [example % 5 for example in ids] + [0] * empty
        assert reservoir.filled(buffer).tolist() == [True] * count + [False] * empty
        np.testing.assert_array_equal(buffer.inputs[:count], np.asarray(INPUTS)[ids])
        assert not np.asarray(buffer.inputs[count:]).any()


some_ids = st.lists(st.integers(0, NUM_EXAMPLES - 1), max_size=PADDED)  # may repeat
operations = st.lists(st.tuples(st.sampled_from(["insert", "remove"]), some_ids), max_size=8)


@settings(max_examples=60, deadline=None)
@given(operations)
def test_any_history_agrees_with_the_reference(history):
    buffer, reference = EMPTY, Reference(CAPACITY, EMPTY.hash_key)
    for operation, values in history:
        if operation == "insert":
            buffer = insert(buffer, examples(values))
            reference.insert(values)
        else:
            buffer = remove(buffer, padded(values))
            reference.remove(values)
        reference.assert_equals(buffer)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(NUM_EXAMPLES)), st.lists(st.integers(0, NUM_EXAMPLES), min_size=3, max_size=3))
def test_order_and_batching_do_not_matter(order, cuts):
    expected = inserted(EMPTY, range(NUM_EXAMPLES))
    parts = [part.tolist() for part in np.split(np.array(order), sorted(cuts))]
    buffer = EMPTY
    for part in parts:
        buffer = inserted(buffer, part)
    assert_same(buffer, expected)
    assert_same(inserted(buffer, order[:PADDED]), expected)


def test_scan_over_batches_is_a_loop():
    ids = jnp.stack([padded(range(start, start + 10)) for start in range(0, NUM_EXAMPLES, 10)])

    def step(buffer, batch):
        return reservoir.insert(buffer, Examples(INPUTS, LABELS, batch, jnp.int32(10))), None

    scanned, _ = jax.jit(lambda buffer: jax.lax.scan(step, buffer, ids))(EMPTY)
    assert_same(scanned, inserted(EMPTY, range(NUM_EXAMPLES)))


def stream_with(insert, remove):
    """The same requests through whatever the two functions are wrapped in."""

    def stream(rng_key):
        buffer = insert(reservoir.init(CAPACITY, (2, 3), jnp.uint8, rng_key), examples(range(PADDED)))
        return insert(remove(buffer, padded([1, 2, 3])), examples([2, *range(20, 30)]))

    return stream


def test_vmap_over_seeds_is_a_loop_and_jit_changes_nothing():
    keys = jax.random.split(jax.random.key(0), 3)
    plain, jitted = stream_with(reservoir.insert, reservoir.remove), stream_with(insert, remove)
    batched = jax.jit(jax.vmap(plain))(keys)
    for seed in range(3):
        assert_same(jitted(keys[seed]), jax.tree.map(lambda leaf, seed=seed: leaf[seed], batched))
    assert_same(insert(EMPTY, examples([3, 1])), reservoir.insert(EMPTY, examples([3, 1])))
    assert len({tuple(ids) for ids in batched.ids.tolist()}) == 3, "every seed keeps its own sample"


# --- threshold, capacity -------------------------------------------------------------------------------------------


def test_capacity_for_all_keeps_all():
    everything = reservoir.init(NUM_EXAMPLES, (2, 3), jnp.uint8, jax.random.key(7))
    buffer = insert(everything, examples(range(NUM_EXAMPLES), size=64))
    assert sorted(buffer.ids.tolist()) == list(range(NUM_EXAMPLES))
    assert int(buffer.threshold) == LARGEST, "nothing was evicted"


def test_capacity_of_one():
    ranks = [reference_rank(i, EMPTY.hash_key) for i in range(PADDED)]
    empty = reservoir.init(1, (2, 3), jnp.uint8, jax.random.key(7))
    buffer = insert(empty, examples(range(PADDED)))
    assert buffer.ids.tolist() == [int(np.argmin(ranks))]
    assert int(buffer.threshold) == sorted(ranks)[1] - 1


def test_padding_is_ignored():
    assert_same(insert(EMPTY, examples([])), EMPTY)
    beyond = Examples(INPUTS, LABELS, jnp.arange(PADDED, dtype=jnp.int32), jnp.int32(3))  # ids after the count
    assert_same(insert(EMPTY, beyond), inserted(EMPTY, [0, 1, 2]))


def test_removal_leaves_the_threshold():
    full = inserted(EMPTY, range(NUM_EXAMPLES))
    gone = [int(i) for i in full.ids[:5]]
    above = [i for i in range(NUM_EXAMPLES) if reference_rank(i, full.hash_key) > int(full.threshold)]
    left = remove(full, padded(gone))
    assert int(left.threshold) == int(full.threshold) < LARGEST
    assert_same(inserted(left, above), left)
    assert int(inserted(left._replace(threshold=jnp.uint32(LARGEST)), above).count) == CAPACITY, (
        "only it keeps them out"
    )
    assert_same(inserted(left, gone), full)  # learned again, an example takes its old place


def test_the_largest_rank_is_a_rank_like_any_other():
    """The id of rank 2**32 − 1 must not pass for an empty row; a key is made under which that is id 3."""
    buffer = EMPTY._replace(hash_key=jnp.array([undone(undone(LARGEST) ^ 5) ^ 3, 5], jnp.uint32))
    assert reference_rank(3, buffer.hash_key) == LARGEST
    buffer = insert(buffer, examples([3, 4]))
    assert buffer.ids[:2].tolist() == [4, 3] and int(buffer.count) == 2
    np.testing.assert_array_equal(buffer.inputs[1], INPUTS[3])


# --- statistics ----------------------------------------------------------------------------------------------------

SEEDS, MANY, LARGE = 2000, 400, 100
EARLY, DELETED, LATE = range(0, 300), range(50, 150), range(300, 400)
RETAINED = np.array(sorted({*EARLY, *LATE} - {*DELETED}))


def uniformity_p_value(included):
    """Chi-square test that each seed's sample, given its size, is a uniform subset.

    included: [S, n] bool. For subsets of k_s out of n, counts c_i have mean Σ k_s / n and, around their common mean,
    variance v = Σ k_s (n − k_s) / (n (n − 1)); then Σ (c_i − c̄)² / v is chi-square with n − 1 degrees of freedom.
    """
    size, n = included.sum(axis=1), included.shape[1]
    counts = included.sum(axis=0)
    variance = (size * (n - size)).sum() / (n * (n - 1))
    return stats.chi2.sf(((counts - counts.mean()) ** 2).sum() / variance, n - 1)


def membership(ids):
    """[S, M] ids to [S, N] bool."""
    included = np.zeros((ids.shape[0], MANY + 1), bool)
    np.put_along_axis(included, np.asarray(ids), True, axis=1)  # empty rows, -1, fall into the last column
    return included[:, :MANY]


@pytest.fixture(scope="module")
def samples():
    """Ids in the buffer of each seed: before the deletion, after it and later arrivals, and if these fill the gap."""
    inputs, labels = jnp.zeros((MANY, 1), jnp.uint8), jnp.zeros(MANY, jnp.int32)
    early, deleted, late = (jnp.arange(ids.start, ids.stop, dtype=jnp.int32) for ids in (EARLY, DELETED, LATE))

    def stream(rng_key):
        buffer = reservoir.init(LARGE, (1,), jnp.uint8, rng_key)
        before = reservoir.insert(buffer, Examples(inputs, labels, early, jnp.int32(early.size)))
        left = reservoir.remove(before, deleted)
        open_to_all = left._replace(threshold=jnp.full_like(left.threshold, LARGEST))
        arrivals = Examples(inputs, labels, late, jnp.int32(late.size))
        return before.ids, *(reservoir.insert(buffer, arrivals).ids for buffer in (left, open_to_all))

    keys = jax.random.split(jax.random.key(2025), SEEDS)
    return [membership(ids) for ids in jax.jit(jax.vmap(stream))(keys)]


def restarting_reservoir():
    """The textbook's reservoir, filled up after a deletion and counting on from what it then holds: [S, N] bool."""
    rng = np.random.default_rng(0)
    slots = np.argsort(rng.random((SEEDS, len(EARLY))), axis=1)[:, :LARGE]
    slots[np.isin(slots, DELETED)] = -1
    seen = (slots >= 0).sum(axis=1)
    for example in LATE:
        seen += 1
        has_room = (slots < 0).any(axis=1)
        place = np.where(has_room, np.argmax(slots < 0, axis=1), rng.integers(0, np.maximum(seen, 1)))
        enters = np.flatnonzero(place < LARGE)
        slots[enters, place[enters]] = example
    return membership(slots)


def test_inclusion_is_uniform_before_and_after_deletion(samples):
    before, after, _ = samples
    assert (before.sum(axis=1) == LARGE).all()
    assert uniformity_p_value(before[:, EARLY]) > 1e-3
    assert not after[:, DELETED].any()
    assert uniformity_p_value(after[:, RETAINED]) > 1e-3


def test_the_uniformity_test_refuses_a_reservoir_that_fills_the_gap(samples):
    assert uniformity_p_value(samples[2][:, RETAINED]) < 1e-9
    assert uniformity_p_value(restarting_reservoir()[:, RETAINED]) < 1e-9


def test_pairs_are_included_as_in_a_uniform_subset(samples):
    """Neighbouring ids must not enter together: P(i, i+1 both in) = n (n − 1) / (N (N − 1))."""
    before = samples[0][:, EARLY]
    together = (before[:, :-1] & before[:, 1:]).sum(axis=1)
    n, total = LARGE, len(EARLY)
    expected = (total - 1) * n * (n - 1) / (total * (total - 1))
    assert abs(together.mean() - expected) < 4 * together.std() / np.sqrt(SEEDS)


def test_advantage_of_late_arrivals_is_the_documented_one():
    """All of N early examples removed, late ones enter with probability E[threshold] = (M + 1)/(N + 1), not M/N."""
    capacity, early, late = 4, 16, 4
    inputs, labels = jnp.zeros((early + late, 1), jnp.uint8), jnp.zeros(early + late, jnp.int32)

    def late_count(rng_key):
        buffer = reservoir.init(capacity, (1,), jnp.uint8, rng_key)
        ids = jnp.arange(early, dtype=jnp.int32)
        buffer = reservoir.insert(buffer, Examples(inputs, labels, ids, jnp.int32(early)))
        buffer = reservoir.remove(buffer, ids)
        ids = jnp.arange(early, early + late, dtype=jnp.int32)
        return reservoir.insert(buffer, Examples(inputs, labels, ids, jnp.int32(late))).count

    seeds = 6_000
    counts = np.asarray(jax.jit(jax.vmap(late_count))(jax.random.split(jax.random.key(1), seeds)))
    error = counts.std() / np.sqrt(seeds)
    assert abs(counts.mean() - late * (capacity + 1) / (early + 1)) < 4 * error
    assert abs(counts.mean() - late * capacity / early) > 10 * error, "the test must tell the two apart"


# --- privacy -------------------------------------------------------------------------------------------------------


def test_no_byte_of_a_removed_example_is_left():
    inputs = jnp.asarray(np.random.default_rng(1).integers(0, 256, (NUM_EXAMPLES, 2, 3)), jnp.uint8)
    data = Examples(inputs, LABELS, padded(range(NUM_EXAMPLES), 64), jnp.int32(NUM_EXAMPLES))
    full = insert(EMPTY, data)
    label = int(full.labels[0])
    gone = [i for i in range(NUM_EXAMPLES) if i % 5 == label]
    buffer = remove(full, padded(gone))

    def traces(buffer):
        image = b"".join(np.asarray(leaf).tobytes() for leaf in buffer)
        numbers = {*buffer.ids.tolist(), *buffer.ranks.tolist(), int(buffer.threshold)}
        found = {i for i in gone if np.asarray(inputs[i]).tobytes() in image}
        found |= {i for i in gone if np.uint32(reference_rank(i, buffer.hash_key)).tobytes() in image}
        return found | (numbers & set(gone))

    assert traces(full) == set(gone) & set(full.ids.tolist()) != set(), "the search finds what is there"
    assert traces(buffer) == set()
    assert set(buffer.ids.tolist()) - {-1} == set(full.ids.tolist()) - set(gone)


# --- draws ---------------------------------------------------------------------------------------------------------


def test_sample_is_uniform_over_filled_rows():
    buffer = inserted(EMPTY, [3, 9, 14])
    batch = sample(buffer, jax.random.key(3), (3000,))
    assert batch.weights.dtype == jnp.float32 and batch.weights.tolist() == [1.0] * 3000
    drawn = [np.all(np.asarray(batch.inputs) == np.asarray(INPUTS[i]), axis=(1, 2)) for i in (3, 9, 14)]
    assert stats.chisquare(np.sum(drawn, axis=1)).pvalue > 1e-3
    np.testing.assert_array_equal(batch.labels, np.select(drawn, [3 % 5, 9 % 5, 14 % 5]))
    assert np.sum(drawn) == 3000


def test_sample_of_an_empty_buffer_weighs_nothing():
    full = inserted(EMPTY, range(NUM_EXAMPLES))
    buffer = remove(full, full.ids)
    batch = sample(buffer, jax.random.key(0), (3000,))
    assert batch.inputs.shape == (3000, 2, 3)
    for leaf in batch[:3]:
        assert not np.asarray(leaf).any()


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, fragments",
    [
        (lambda: reservoir.init(0, (2,), jnp.uint8, jax.random.key(0)), ["0", "at least 1"]),
        (lambda: reservoir.insert(EMPTY, examples([1])._replace(inputs=INPUTS[:, 0])), ["(3,)", "(2, 3)", "init"]),
        (lambda: reservoir.insert(EMPTY, examples([1])._replace(inputs=INPUTS * 1.0)), ["float32", "uint8"]),
    ],
)
def test_bad_arguments(call, fragments):
    with pytest.raises(ValueError) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value)
