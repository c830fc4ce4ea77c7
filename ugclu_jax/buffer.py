"""The memory buffer: a bottom-k reservoir as a pytree of fixed-shape arrays that passes through jit, vmap and scan.

Old data are not kept: at most M examples, a uniform sample of what is retained, stand in for all of it. Every id has a
pseudo-random rank; the buffer is the M retained examples of smallest rank, none above a threshold. The threshold starts
at the largest rank, and falls below the smallest rank ever evicted:

    insert   keep the M smallest ranks of (buffer ∪ new examples of rank ≤ threshold);
             evicted ranks E ≠ ∅  ⇒  threshold = min(threshold, min E − 1)
    remove   drop rows; "uniform" leaves the threshold, "greedy" sets it back to the largest rank

What is in the buffer is a function of what was inserted, not of order or batches, and shards merge. As long as nothing
was removed the sample is exactly uniform. Afterwards a later example enters with the probability that earlier ones had,
up to a relative 1/M in its favour: E[threshold] = (M + 1)/(N + 1), where the earlier N entered with M/N. A reservoir
that fills the gap with whatever comes next (`refill="greedy"`) would favour later examples by the size of the gap.

After `remove` no byte of the input, no id and no rank of a removed example is in the pytree. One number stays that
depends on an example which need not be in the buffer: the threshold, one below an evicted rank.

References: arXiv 2505.15178 keeps a memory buffer of bounded size. The bottom-k sample is this library's choice. The
textbook's real-valued rank in [0, 1), in which the expectation above is stated, is `rank / 2**32` here.
"""

import difflib
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.streaming import HostArray, ShardedArray, take
from ugclu_jax.types import Array, Batch, Buffer, Examples

Refill = Literal["uniform", "greedy"]
LARGEST_RANK = 2**32 - 1


def init(capacity: int, input_shape: Sequence[int], input_dtype: jax.typing.DTypeLike, rng_key: Array) -> Buffer:
    """An empty buffer.

    Args:
        capacity: M ≥ 1.
        input_shape: shape of one example's input, without a batch axis.
        input_dtype: as the dataset is stored, e.g. `jnp.uint8`.
        rng_key: seeds the ranks, hence which examples are kept.

    Raises:
        ValueError: capacity below 1.

    >>> buffer = init(3, (2, 2), jnp.uint8, jax.random.key(0))
    >>> buffer.inputs.shape, int(buffer.count), buffer.ids.tolist()
    ((3, 2, 2), 0, [-1, -1, -1])
    """
    if capacity < 1:
        raise ValueError(f"buffer capacity is {capacity}; it must be at least 1: ask for 1 or more examples")
    return Buffer(
        inputs=jnp.zeros((capacity, *input_shape), input_dtype),
        labels=jnp.zeros(capacity, jnp.int32),
        ids=jnp.full(capacity, -1, jnp.int32),
        ranks=jnp.full(capacity, LARGEST_RANK, jnp.uint32),
        count=jnp.int32(0),
        threshold=jnp.uint32(LARGEST_RANK),
        hash_key=jax.random.bits(rng_key, (2,), jnp.uint32),
    )


def filled(buffer: Buffer) -> Array:
    """Which rows hold an example, [M] bool.

    >>> filled(init(3, (), jnp.uint8, jax.random.key(0))).tolist()
    [False, False, False]
    """
    return jnp.arange(buffer.ids.shape[0]) < buffer.count


def rank(ids: Array, hash_key: Array) -> Array:
    """Pseudo-random rank of each id: `f(f(id ⊕ key_0) ⊕ key_1)`, f = murmur3's 32-bit finaliser.

    Each step can be undone (xor, odd multiplication, xor with its own high half), so this is a keyed bijection of the
    32-bit integers: distinct ids never tie, and an equal rank means an equal id.

    Args:
        ids: [...] int32.
        hash_key: [2] uint32.

    Returns:
        [...] uint32; divided by 2**32, a number that behaves like a uniform draw from [0, 1).

    >>> rank(jnp.arange(3), jnp.array([1, 2], jnp.uint32)).tolist()
    [779996176, 821347078, 376952191]
    """
    bits = lax.bitcast_convert_type(jnp.asarray(ids, jnp.int32), jnp.uint32)
    for word in (hash_key[0], hash_key[1]):
        bits = bits ^ word
        bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
        bits = bits ^ (bits >> 16)
    return bits


def insert(buffer: Buffer, examples: Examples) -> Buffer:
    """Offer examples to the buffer; an id that is inside already changes nothing.

    Args:
        buffer: M rows.
        examples: P ≥ 1 ids; each id in 0 … N−1, or -1 for padding.

    Returns:
        The buffer of the M smallest ranks, see the formula at the top of this file.

    Raises:
        ValueError: inputs of another shape or dtype than the buffer's.

    >>> data = jnp.arange(6, dtype=jnp.uint8), jnp.array([0, 0, 0, 1, 1, 1])
    >>> empty = init(4, (), jnp.uint8, jax.random.key(0))
    >>> buffer = insert(empty, Examples(*data, ids=jnp.array([5, 2]), count=jnp.int32(2)))
    >>> buffer.ids.tolist(), buffer.inputs.tolist(), buffer.labels.tolist()
    ([5, 2, -1, -1], [5, 2, 0, 0], [1, 0, 0, 0])
    """
    _check_same_inputs(buffer, examples.inputs, "examples")
    valid = (jnp.arange(examples.ids.shape[0]) < examples.count) & (examples.ids >= 0)
    ids = jnp.where(valid, examples.ids, -1)
    rows = jnp.maximum(ids, 0)
    newcomers = _Rows(ids, examples.labels[rows].astype(jnp.int32), rank(ids, buffer.hash_key), valid, rows)
    return _unite(buffer, newcomers, examples.inputs, buffer.threshold)


def merge(a: Buffer, b: Buffer) -> Buffer:
    """Union of two shards' buffers: the buffer that one device would have made of both streams of insertions.

    `merge(insert(empty, x), insert(empty, y)) == insert(insert(empty, x), y)`. A row above either threshold goes: its
    like were refused in the other shard.

    Args:
        a: its capacity is the result's.
        b: made from the same `rng_key`, with at least a's capacity if the result is to be exact.

    Raises:
        ValueError: inputs of different shape or dtype, or different hash keys (seen only outside of jit and vmap).

    >>> data = jnp.arange(6, dtype=jnp.uint8), jnp.array([0, 0, 0, 1, 1, 1])
    >>> empty = init(4, (), jnp.uint8, jax.random.key(0))
    >>> left, right = (insert(empty, Examples(*data, jnp.array(ids), jnp.int32(2))) for ids in ([0, 1], [1, 5]))
    >>> sorted(merge(left, right).ids.tolist())
    [-1, 0, 1, 5]
    """
    _check_same_inputs(a, b.inputs, "the second buffer")
    concrete = not (isinstance(a.hash_key, jax.core.Tracer) or isinstance(b.hash_key, jax.core.Tracer))
    if concrete and not bool(jnp.array_equal(a.hash_key, b.hash_key)):
        raise ValueError(
            f"hash keys differ ({a.hash_key} and {b.hash_key}): ranks of different keys cannot be compared; "
            "make the buffers of all shards with the same rng_key"
        )
    newcomers = _Rows(b.ids, b.labels, b.ranks, filled(b), jnp.arange(b.ids.shape[0]))
    return _unite(a, newcomers, b.inputs, jnp.minimum(a.threshold, b.threshold))


def remove(buffer: Buffer, ids: Array, *, refill: Refill = "uniform") -> Buffer:
    """Remove examples by id and wipe their bytes; ids that are not inside are ignored.

    Args:
        buffer: M rows.
        ids: [P] int32, -1 for padding.
        refill: "uniform" keeps the sample uniform and small until enough new data come; "greedy" lets later examples
            fill the gap at once, at the price of favouring them.

    Raises:
        ValueError: unknown refill.

    >>> data = jnp.arange(6, dtype=jnp.uint8), jnp.array([0, 0, 0, 1, 1, 1])
    >>> buffer = insert(init(4, (), jnp.uint8, jax.random.key(0)), Examples(*data, jnp.array([1, 2]), jnp.int32(2)))
    >>> remove(buffer, jnp.array([2, -1])).ids.tolist()
    [1, -1, -1, -1]
    """
    return _remove(buffer, jnp.isin(buffer.ids, ids, method="sort"), refill)


def remove_classes(buffer: Buffer, classes: Array, *, refill: Refill = "uniform") -> Buffer:
    """Remove all examples of some classes, as `remove` does by id.

    Args:
        buffer: M rows.
        classes: [Q] int32, -1 for padding.
        refill: see `remove`.

    Raises:
        ValueError: unknown refill.

    >>> data = jnp.arange(6, dtype=jnp.uint8), jnp.array([0, 0, 0, 1, 1, 1])
    >>> buffer = insert(init(4, (), jnp.uint8, jax.random.key(0)), Examples(*data, jnp.array([2, 3]), jnp.int32(2)))
    >>> remove_classes(buffer, jnp.array([1])).ids.tolist()
    [2, -1, -1, -1]
    """
    return _remove(buffer, jnp.isin(buffer.labels, classes), refill)


def sample_rows(buffer: Buffer, rng_key: Array, shape: tuple[int, ...]) -> Array:
    """Draw filled rows uniformly, with replacement.

    Args:
        buffer: M rows.
        rng_key: of this draw.
        shape: of the result.

    Returns:
        int32 rows of that shape; 0 where the buffer is empty.

    >>> sample_rows(init(4, (2,), jnp.uint8, jax.random.key(0)), jax.random.key(1), (3,)).tolist()
    [0, 0, 0]
    """
    return jax.random.randint(rng_key, shape, 0, jnp.maximum(buffer.count, 1))


def at_rows(buffer: Buffer, rows: Array, targets: Array | None = None) -> Batch:
    """The examples of drawn rows.

    Args:
        buffer: M rows.
        rows: [...] int32, from `sample_rows`.
        targets: [M, C] distributions, one a row of the buffer, or None: then the labels count.

    Returns:
        Examples with the leading axes of `rows`, of weight 1; of weight 0, and all zeros, where the buffer is empty.

    >>> at_rows(init(4, (2,), jnp.uint8, jax.random.key(0)), jnp.array([0, 0])).weights.tolist()
    [0.0, 0.0]
    """
    weights = jnp.full(rows.shape, buffer.count > 0, jnp.float32)
    return Batch(buffer.inputs[rows], buffer.labels[rows], weights, None if targets is None else targets[rows])


def balanced_weights(labels: Array, valid: Array, num_classes: int) -> Array:
    """Weights for a class-balanced draw: `w_i = 1 / n_{y_i}`, n_c = number of valid rows of class c.

    Each class that is present has total weight 1, spread evenly. For a draw from buffer and task together, concatenate
    their labels, and `filled(buffer)` with the task's validity. Balanced batches are this library's choice.

    Args:
        labels: [R] int32 in 0 … C−1.
        valid: [R] bool.
        num_classes: C.

    Returns:
        [R] float32, 0 where not valid.

    >>> balanced_weights(jnp.array([0, 1, 1, 1]), jnp.array([True, True, True, False]), 3).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    counts = jnp.zeros(num_classes, jnp.int32).at[labels].add(valid)
    return jnp.where(valid, 1.0 / jnp.maximum(counts[labels], 1), 0.0).astype(jnp.float32)


def cumulative_weights(weights: Array) -> Array:
    """Running sums of weights scaled to a total of about 2**31, in integers.

    A running sum of 100,000 floats of 32 bits would distort single weights by percents; integers add without error, and
    a share of 10⁻⁶ is rounded by less than 0.1 %.

    Args:
        weights: [R] non-negative floats.

    Returns:
        [R] uint32 for `draw_rows`. A row of weight 0 adds 0; a row of positive weight adds at least 1.

    >>> cumulative_weights(jnp.array([1.0, 0.0, 1.0])).tolist()
    [1073741824, 1073741824, 2147483648]
    """
    total = jnp.sum(weights)
    shares = weights / jnp.where(total > 0, total, 1.0)
    steps = jnp.where(weights > 0, jnp.maximum(jnp.floor(shares * 2.0**31), 1.0), 0.0)
    return jnp.cumsum(steps.astype(jnp.uint32), dtype=jnp.uint32)


def draw_rows(rng_key: Array, cumulative: Array, shape: Sequence[int]) -> Array:
    """Draw rows with probability in proportion to their weights, with replacement, by the inverse of the sums.

    An integer u, uniform in 0 … total−1, falls to the first row whose running sum exceeds it, so a row of weight 0 is
    never drawn, and no rounding of u can lead past the last row.

    Args:
        rng_key: of this draw.
        cumulative: [R] uint32 from `cumulative_weights`: computed once, outside the scan that draws.
        shape: of the result.

    Returns:
        int32 rows in 0 … R−1; meaningless, though in range, where all weights are 0.

    Raises:
        ValueError: `cumulative` not of uint32.

    >>> draw_rows(jax.random.key(0), cumulative_weights(jnp.array([0.0, 1.0, 0.0])), (4,)).tolist()
    [1, 1, 1, 1]
    """
    if cumulative.dtype != jnp.uint32:
        raise ValueError(
            f"cumulative has dtype {cumulative.dtype}; it must be uint32: pass the result of cumulative_weights"
        )
    draws = jax.random.randint(rng_key, shape, 0, cumulative[-1], jnp.uint32)
    rows = jnp.searchsorted(cumulative, draws, side="right")
    return jnp.minimum(rows, cumulative.shape[0] - 1).astype(jnp.int32)


class _Rows(NamedTuple):
    """Candidates for the buffer, each with the place of its input in some array."""

    ids: Array  # [P] int32
    labels: Array  # [P] int32
    ranks: Array  # [P] uint32
    valid: Array  # [P] bool
    rows: Array  # [P] int32


def _unite(buffer: Buffer, newcomers: _Rows, source: Array | HostArray | ShardedArray, threshold: Array) -> Buffer:
    """The M smallest ranks of the buffer and of `newcomers`, whose inputs are `source[newcomers.rows]`."""
    capacity = buffer.ids.shape[0]
    ids, labels, ranks, valid = (
        jnp.concatenate(pair)
        for pair in zip((buffer.ids, buffer.labels, buffer.ranks, filled(buffer)), newcomers[:4], strict=True)
    )
    slots = jnp.arange(ids.shape[0])
    # "Empty" is a key of its own because the largest rank belongs to some id.
    empty = (~valid | (ranks > threshold)).astype(jnp.uint8)
    empty, ranks, places = lax.sort((empty, ranks, slots), num_keys=2, is_stable=True)
    repeated = jnp.concatenate([jnp.zeros(1, bool), ranks[1:] == ranks[:-1]])
    keep = (empty == 0) & ~repeated
    order = jnp.argsort(~keep, stable=True)
    ranks, places = ranks[order], places[order]
    total = jnp.sum(keep)

    evicted = (slots >= capacity) & (slots < total)
    # An evicted rank exceeds a kept one, so it is at least 1 and the subtraction does not wrap.
    threshold = jnp.min(jnp.where(evicted, ranks - 1, threshold))
    places = places[:capacity]
    stays = places < capacity
    # Inputs move once, from where they are: the dataset is never concatenated or copied.
    inputs = jnp.where(
        stays.reshape(-1, *(1,) * (source.ndim - 1)),
        buffer.inputs[jnp.where(stays, places, 0)],
        take(source, newcomers.rows[jnp.where(stays, 0, places - capacity)]),
    )
    kept = Buffer(inputs, labels[places], ids[places], ranks[:capacity], total, threshold, buffer.hash_key)
    return _blank_after(kept, jnp.minimum(total, capacity))


def _remove(buffer: Buffer, unwanted: Array, refill: Refill) -> Buffer:
    if refill not in get_args(Refill):
        nearest = difflib.get_close_matches(str(refill), get_args(Refill), n=1, cutoff=0.0)[0]
        raise ValueError(f"refill is {refill!r}; it must be one of {get_args(Refill)}: did you mean {nearest!r}?")
    keep = filled(buffer) & ~unwanted
    order = jnp.argsort(~keep, stable=True)
    compact = buffer._replace(
        inputs=buffer.inputs[order], labels=buffer.labels[order], ids=buffer.ids[order], ranks=buffer.ranks[order]
    )
    if refill == "greedy":
        compact = compact._replace(threshold=jnp.full_like(buffer.threshold, LARGEST_RANK))
    return _blank_after(compact, jnp.sum(keep))


def _blank_after(buffer: Buffer, count: Array) -> Buffer:
    """Set the number of filled rows and wipe what lies after them."""
    buffer = buffer._replace(count=count.astype(jnp.int32))
    row_filled = filled(buffer)
    input_filled = row_filled.reshape(-1, *(1,) * (buffer.inputs.ndim - 1))
    return buffer._replace(
        inputs=jnp.where(input_filled, buffer.inputs, jnp.zeros_like(buffer.inputs)),
        labels=jnp.where(row_filled, buffer.labels, 0),
        ids=jnp.where(row_filled, buffer.ids, -1),
        ranks=jnp.where(row_filled, buffer.ranks, jnp.uint32(LARGEST_RANK)),
    )


def _check_same_inputs(buffer: Buffer, inputs: Array | HostArray | ShardedArray, origin: str) -> None:
    expected, received = (buffer.inputs.shape[1:], buffer.inputs.dtype), (inputs.shape[1:], inputs.dtype)
    if expected != received:
        raise ValueError(
            f"inputs of {origin} have shape and dtype {received[0]}, {received[1]}; they must be those of "
            f"the buffer, {expected[0]}, {expected[1]}: give init these inputs' shape and dtype"
        )
