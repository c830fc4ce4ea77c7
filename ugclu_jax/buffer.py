"""The memory buffer: a bottom-k reservoir as a pytree of fixed-shape arrays that passes through jit, vmap and scan.

Old data are not kept: at most M examples, a uniform sample of what is retained, stand in for all of it. Every id has a
pseudo-random rank; the buffer is the M retained examples of smallest rank, none above a threshold. The threshold starts
at the largest rank, and falls below the smallest rank ever evicted:

    insert   keep the M smallest ranks of (buffer ∪ new examples of rank ≤ threshold);
             evicted ranks E ≠ ∅  ⇒  threshold = min(threshold, min E − 1)
    remove   drop rows; the threshold stays

What is in the buffer is a function of what was inserted, not of order or batches. As long as nothing was removed the
sample is exactly uniform. Afterwards a later example enters with the probability that earlier ones had, up to a
relative 1/M in its favour: E[threshold] = (M + 1)/(N + 1), where the earlier N entered with M/N. A reservoir that fills
the gap with whatever comes next would favour later examples by the size of the gap.

Ranks of other distributions may be given (`buffer_sampling`); then the sample is theirs, and all else here holds.

Where the data set lies in host memory, a buffer may refer to it instead of holding copies: it has row numbers, and a
draw reads its rows from there. What is drawn is the same, bit for bit.

After `remove` no byte of the input, no id and no rank of a removed example is in the pytree. One number stays that
depends on an example which need not be in the buffer: the threshold, one below an evicted rank.

References: arXiv 2505.15178 keeps a memory buffer of bounded size. The bottom-k sample is this library's choice. The
textbook's real-valued rank in [0, 1), in which the expectation above is stated, is `rank / 2**32` here.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.streaming import HostArray, Referred, take
from ugclu_jax.types import Array, Batch, Buffer, Examples, Rows

LARGEST_RANK = 2**32 - 1


def init(
    capacity: int,
    input_shape: Sequence[int],
    input_dtype: jax.typing.DTypeLike,
    rng_key: Array,
    source: HostArray | None = None,
) -> Buffer:
    """An empty buffer.

    Args:
        capacity: M ≥ 1.
        input_shape: shape of one example's input, without a batch axis.
        input_dtype: as the dataset is stored, e.g. `jnp.uint8`.
        rng_key: seeds the ranks, hence which examples are kept.
        source: inputs of all examples that will be offered, which the buffer is to refer to: 4 bytes a row in place of
            a copy of its input. None = copies.

    Raises:
        ValueError: capacity below 1; a source of another shape or dtype.

    >>> buffer = init(3, (2, 2), jnp.uint8, jax.random.key(0))
    >>> buffer.inputs.shape, int(buffer.count), buffer.ids.tolist()
    ((3, 2, 2), 0, [-1, -1, -1])
    """
    if capacity < 1:
        raise ValueError(f"buffer capacity is {capacity}; it must be at least 1: ask for 1 or more examples")
    inputs: Rows
    if source is None:
        inputs = jnp.zeros((capacity, *input_shape), input_dtype)
    else:
        inputs = Referred(jnp.zeros(capacity, jnp.int32), source)
        wanted, given = (tuple(input_shape), jnp.dtype(input_dtype)), (source.shape[1:], source.dtype)
        if given != wanted:
            raise ValueError(
                f"the source has inputs of {given[0]}, {given[1]}; they must be those of the buffer, {wanted[0]}, "
                f"{wanted[1]}: give init the source's shape and dtype"
            )
    return Buffer(
        inputs=inputs,
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


def insert(buffer: Buffer, examples: Examples, ranks: Array | None = None, names: Array | None = None) -> Buffer:
    """Offer examples to the buffer; an id that is inside already changes nothing.

    Args:
        buffer: M rows.
        examples: P ≥ 1 ids; each id in 0 … N−1, or -1 for padding.
        ranks: [P] uint32, of examples that are not to be drawn uniformly, see `buffer_sampling`; an id has one rank.
            None = `rank` of the ids. Ranks may tie: where that is at the border, all of the tie are evicted, so that
            order and batches still decide nothing.
        names: [P] int32 ids by which the buffer is to know them, where the rows of the arrays at hand are not what
            outlives them; None = the rows are the ids.

    Returns:
        The buffer of the M smallest ranks, see the formula at the top of this file.

    Raises:
        ValueError: inputs of another shape or dtype than the buffer's, or other ones than it refers to.

    >>> data = jnp.arange(6, dtype=jnp.uint8), jnp.array([0, 0, 0, 1, 1, 1])
    >>> empty = init(4, (), jnp.uint8, jax.random.key(0))
    >>> buffer = insert(empty, Examples(*data, ids=jnp.array([5, 2]), count=jnp.int32(2)))
    >>> buffer.ids.tolist(), buffer.inputs.tolist(), buffer.labels.tolist()
    ([5, 2, -1, -1], [5, 2, 0, 0], [1, 0, 0, 0])
    >>> known = insert(empty, Examples(*data, jnp.array([5, 2]), jnp.int32(2)), names=jnp.array([71, 70]))
    >>> known.ids.tolist(), known.inputs.tolist()
    ([70, 71, -1, -1], [2, 5, 0, 0])
    """
    _check_same_inputs(buffer, examples.inputs)
    valid = (jnp.arange(examples.ids.shape[0]) < examples.count) & (examples.ids >= 0)
    new_ids = jnp.where(valid, examples.ids if names is None else names, -1)
    rows = jnp.maximum(examples.ids, 0)
    if ranks is None:
        own = rank(new_ids, buffer.hash_key)
    else:
        # Below, the threshold is one below a rank. Offered again, an example may have another rank: the first stays.
        own, valid = jnp.maximum(ranks, 1), valid & ~jnp.isin(new_ids, buffer.ids, method="sort")
    newcomers = new_ids, examples.labels[rows].astype(jnp.int32), own, valid
    capacity = buffer.ids.shape[0]
    ids, labels, ranks, valid = (
        jnp.concatenate(pair)
        for pair in zip((buffer.ids, buffer.labels, buffer.ranks, filled(buffer)), newcomers, strict=True)
    )
    slots = jnp.arange(ids.shape[0])
    # "Empty" is a key of its own because the largest rank belongs to some id.
    empty = (~valid | (ranks > buffer.threshold)).astype(jnp.uint8)
    empty, ranks, ordered, places = lax.sort((empty, ranks, ids, slots), num_keys=3, is_stable=True)
    repeated = jnp.concatenate([jnp.zeros(1, bool), (ranks[1:] == ranks[:-1]) & (ordered[1:] == ordered[:-1])])
    keep = (empty == 0) & ~repeated
    order = jnp.argsort(~keep, stable=True)
    ranks, places = ranks[order], places[order]
    total = jnp.sum(keep)

    evicted = (slots >= capacity) & (slots < total)
    # An evicted rank exceeds a kept one, or is at least 1 as all that tie: the subtraction does not wrap.
    threshold = jnp.min(jnp.where(evicted, ranks - 1, buffer.threshold))
    places = places[:capacity]
    stays = places < capacity
    # Inputs move once, from where they are: the dataset is never concatenated or copied.
    old, new = jnp.where(stays, places, 0), rows[jnp.where(stays, 0, places - capacity)]
    held = _held(buffer.inputs)
    newly = new if isinstance(buffer.inputs, Referred) else take(examples.inputs, new)
    inputs = _holding(buffer.inputs, jnp.where(_across(stays, held), held[old], newly))
    kept = Buffer(inputs, labels[places], ids[places], ranks[:capacity], total, threshold, buffer.hash_key)
    below = jnp.sum(ranks[:capacity] <= threshold)  # fewer than are kept where a kept rank ties with an evicted one
    return _blank_after(kept, jnp.minimum(jnp.minimum(total, capacity), below))


def remove(buffer: Buffer, ids: Array) -> Buffer:
    """Remove examples by id and wipe their bytes; ids that are not inside are ignored.

    The sample stays uniform, and small until enough new data come.

    Args:
        buffer: M rows.
        ids: [P] int32, -1 for padding.

    >>> data = jnp.arange(6, dtype=jnp.uint8), jnp.array([0, 0, 0, 1, 1, 1])
    >>> buffer = insert(init(4, (), jnp.uint8, jax.random.key(0)), Examples(*data, jnp.array([1, 2]), jnp.int32(2)))
    >>> remove(buffer, jnp.array([2, -1])).ids.tolist()
    [1, -1, -1, -1]
    """
    keep = filled(buffer) & ~jnp.isin(buffer.ids, ids, method="sort")
    order = jnp.argsort(~keep, stable=True)
    inputs = _holding(buffer.inputs, _held(buffer.inputs)[order])
    compact = buffer._replace(
        inputs=inputs, labels=buffer.labels[order], ids=buffer.ids[order], ranks=buffer.ranks[order]
    )
    return _blank_after(compact, jnp.sum(keep))


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
    weights, inputs = jnp.full(rows.shape, buffer.count > 0, jnp.float32), take(buffer.inputs, rows)
    if isinstance(buffer.inputs, Referred):  # an empty row is of number 0, which is some example's
        inputs = jnp.where(buffer.count > 0, inputs, jnp.zeros_like(inputs))
    return Batch(inputs, buffer.labels[rows], weights, None if targets is None else targets[rows])


def _blank_after(buffer: Buffer, count: Array) -> Buffer:
    """Set the number of filled rows and wipe what lies after them."""
    buffer = buffer._replace(count=count.astype(jnp.int32))
    row_filled, held = filled(buffer), _held(buffer.inputs)
    return buffer._replace(
        inputs=_holding(buffer.inputs, jnp.where(_across(row_filled, held), held, jnp.zeros_like(held))),
        labels=jnp.where(row_filled, buffer.labels, 0),
        ids=jnp.where(row_filled, buffer.ids, -1),
        ranks=jnp.where(row_filled, buffer.ranks, jnp.uint32(LARGEST_RANK)),
    )


def _held(inputs: Rows) -> Array:
    """What a buffer itself holds of its inputs, `[M, ...]`: copies, or row numbers."""
    return inputs.rows if isinstance(inputs, Referred) else jnp.asarray(inputs)


def _holding(like: Rows, held: Array) -> Rows:
    """The inputs of a buffer that holds this, copies or row numbers as another one does."""
    return Referred(held, like.source) if isinstance(like, Referred) else held


def _across(rows: Array, held: Array) -> Array:
    """A truth value a row, for all that a row holds."""
    return rows.reshape(-1, *(1,) * (held.ndim - 1))


def _check_same_inputs(buffer: Buffer, inputs: Rows) -> None:
    if isinstance(buffer.inputs, Referred) and inputs is not buffer.inputs.source:
        raise ValueError("the buffer refers to other inputs than the examples': give those that init had as its source")
    expected, received = (buffer.inputs.shape[1:], buffer.inputs.dtype), (inputs.shape[1:], inputs.dtype)
    if expected != received:
        raise ValueError(
            f"inputs of examples have shape and dtype {received[0]}, {received[1]}; they must be those of "
            f"the buffer, {expected[0]}, {expected[1]}: give init these inputs' shape and dtype"
        )
