"""Batches drawn on the device from the task, the buffer, or a class-balanced mix of both.

A draw is with replacement, so every batch is full unless its source is empty. Under `axis_name` the same key draws the
same global batch on every device and each keeps its own share of the rows: one device and eight compute the same step.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.buffer import at_rows, filled, sample_rows
from ugclu_jax.streaming import take
from ugclu_jax.types import Array, Batch, Buffer, Examples


def valid_rows(examples: Examples) -> Array:
    """`[P]` bool: which rows of `examples.ids` are not padding.

    >>> import jax.numpy as jnp
    >>> valid_rows(Examples(jnp.zeros(5), jnp.zeros(5, int), jnp.array([3, -1]), jnp.array(1))).tolist()
    [True, False]
    """
    return jnp.arange(examples.ids.shape[0]) < examples.count


def share(rows: Array, axis_name: str | None, axis: int = -1) -> Array:
    """This device's part of the batch axis of a global draw; everything where no axis is mapped.

    Raises:
        ValueError: the batch size is not a multiple of the size of the mapped axis.

    >>> import jax, jax.numpy as jnp
    >>> jax.vmap(lambda _: share(jnp.arange(4), "d"), axis_name="d")(jnp.zeros(2)).tolist()
    [[0, 1], [2, 3]]
    """
    if axis_name is None:
        return rows
    size = lax.axis_size(axis_name)
    if rows.shape[axis] % size:
        raise ValueError(f"batch size {rows.shape[axis]} is not a multiple of the {size} devices of axis {axis_name!r}")
    part = rows.shape[axis] // size
    return lax.dynamic_slice_in_dim(rows, lax.axis_index(axis_name) * part, part, axis=axis)


def _weights(rows: Array, source_count: Array) -> Array:
    return jnp.full(rows.shape, source_count > 0, jnp.float32)


def from_task(
    rng_key: Array,
    task: Examples,
    shape: tuple[int, ...],
    *,
    targets: Array | None = None,
    axis_name: str | None = None,
) -> Batch:
    """Uniform draw from the examples of a request.

    Args:
        rng_key: key, consumed.
        task: the examples.
        shape: `(B,)` or `(n, B)`, B the global batch size.
        targets: `[P, C]` distributions, one a row of the request, or None: then the labels count.
        axis_name: mapped axis of devices; each gets `B / D` rows.

    Returns:
        A batch of that leading shape; weights 0 where the request is empty.

    >>> import jax, jax.numpy as jnp
    >>> task = Examples(jnp.arange(5.0), jnp.arange(5), jnp.array([3, -1]), jnp.array(1))
    >>> from_task(jax.random.key(0), task, (2,)).inputs.tolist()
    [3.0, 3.0]
    """
    positions = share(jax.random.randint(rng_key, shape, 0, jnp.maximum(task.count, 1)), axis_name)
    rows, drawn = task.ids[positions], None if targets is None else targets[positions]
    return Batch(take(task.inputs, rows), task.labels[rows], _weights(rows, task.count), drawn)


def rows_of_buffer(rng_key: Array, buffer: Buffer, shape: tuple[int, ...], *, axis_name: str | None = None) -> Array:
    """Rows of a uniform draw from what the buffer holds, for `buffer.at_rows` and for what is kept beside the buffer.

    Arguments as in `from_task`; the result is int32 of that shape, its last axis divided over the devices.
    """
    return share(sample_rows(buffer, rng_key, shape), axis_name)


def from_buffer(
    rng_key: Array,
    buffer: Buffer,
    shape: tuple[int, ...],
    *,
    targets: Array | None = None,
    axis_name: str | None = None,
) -> Batch:
    """Uniform draw from what the buffer holds. Arguments and result as in `from_task`; `targets` as in `at_rows`."""
    return at_rows(buffer, rows_of_buffer(rng_key, buffer, shape, axis_name=axis_name), targets)


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


def mixed_weights(task: Examples, buffer: Buffer, num_classes: int) -> Array:
    """Cumulative row weights of the class-balanced union of buffer and task, for `from_mix`: once a request.

    Every class present has the same total weight, every example of a class the same share of it.

    Returns:
        `[M + P]` uint32, see `cumulative_weights`.
    """
    labels = jnp.concatenate([buffer.labels, task.labels[task.ids]])
    valid = jnp.concatenate([filled(buffer), valid_rows(task)])
    return cumulative_weights(balanced_weights(labels, valid, num_classes))


def from_mix(
    rng_key: Array,
    task: Examples,
    buffer: Buffer,
    cumulative: Array,
    shape: tuple[int, ...],
    *,
    targets: Array | None = None,
    axis_name: str | None = None,
) -> Batch:
    """Class-balanced draw from buffer and task together; `cumulative` is `mixed_weights(task, buffer, C)`.

    `targets [M, C]` are of the buffer's rows, see `buffer.at_rows`; those of the task are then their labels. The other
    arguments and the result are those of `from_task`.
    """
    rows = share(draw_rows(rng_key, cumulative, shape), axis_name)
    capacity = buffer.labels.shape[0]
    in_buffer = rows < capacity
    buffer_rows = jnp.where(in_buffer, rows, 0)
    task_rows = task.ids[jnp.where(in_buffer, 0, rows - capacity)]
    from_either = in_buffer.reshape(in_buffer.shape + (1,) * (buffer.inputs.ndim - 1))
    inputs = jnp.where(from_either, take(buffer.inputs, buffer_rows), take(task.inputs, task_rows))
    labels = jnp.where(in_buffer, buffer.labels[buffer_rows], task.labels[task_rows])
    drawn = None
    if targets is not None:
        own = jax.nn.one_hot(labels, targets.shape[-1], dtype=targets.dtype)
        drawn = jnp.where(in_buffer[..., None], targets[buffer_rows], own)
    return Batch(inputs, labels, _weights(rows, buffer.count + task.count), drawn)


def with_random_labels(rng_key: Array, task: Examples, num_classes: int) -> Examples:
    """The task with a wrong label for every example: uniform among the other classes, and the same at every draw.

    Args:
        rng_key: key, consumed; with the id it decides the label of an example.
        task: the examples.
        num_classes: C ≥ 2.

    Raises:
        ValueError: a single class, which leaves no other.

    >>> import jax, jax.numpy as jnp
    >>> task = Examples(jnp.zeros(3), jnp.array([0, 1, 1]), jnp.arange(3), jnp.array(3))
    >>> with_random_labels(jax.random.key(0), task, num_classes=2).labels.tolist()
    [1, 0, 0]
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2 for a label to be wrong, got {num_classes}")
    shift = jax.random.randint(rng_key, task.labels.shape, 1, num_classes, task.labels.dtype)
    return task._replace(labels=(task.labels + shift) % num_classes)
