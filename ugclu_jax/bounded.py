"""Bounded unlearning (ours): estimates, once a request, of where the ascent on an example should stop.

    bounded   ε̃_i = e_k · (p_y − a_y)_+ / (1 − p_y)         ascent on ℓ_i that fades out at p_y = a_y
              a_y = mean p_y(θ_0) of the buffer's examples of class y; 0 where it holds none: the class leaves whole
    target    descent on CE(q_i, p),  q ∝ (n + 10⁻⁴)^½ · p_U^½,  0 for a class that leaves whole
              p_U = softmax(logits_i(θ_0)) without the classes that leave, log floored at −12
              n   = labels of the 20 nearest remaining examples, of 2,000 at most, with 5 % uniform over what remains

Plain ascent has no end, and no one step size: ∇ℓ vanishes as p_y → 1, so a memorised example hardly moves where a
class already runs away. Divided by 1 − p_y the push is of the same length for both: for a_y = 0 the bounded component
is the gradient of `−log(1 − p_y)`, of which the logits see `p_y` at most.

Whoever never saw an example classifies it as well as *held-out* data of its class. A method's contract has none, so
a_y comes from the buffer, whose examples were trained on: it is too high by as much as they are memorised, and the
ascent stops that much too early. Nor is it the level of an odd example, one with a wrong label say: that one is pushed
no further than the usual ones stand. `target` has no such level; its p_U comes from a network that saw the example.

Neighbours are those in the space of the inputs as stored, by Euclidean distance in float32. Token ids have no such
distance: there `n` is the label histogram of the whole buffer. The search costs no gradient evaluation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.buffer import filled
from ugclu_jax.coefficients import CoefficientFn
from ugclu_jax.distillation import departed_classes
from ugclu_jax.streaming import take
from ugclu_jax.types import Array, Buffer, Examples, Rows

NEIGHBOURS = 20
NEIGHBOUR_ROWS = 2000
UNIFORM_SHARE = 0.05
COUNT_FLOOR = 1e-4
LOG_FLOOR = -12.0
GAP_FLOOR = 1e-6
"""Smallest `1 − p_y` that a coefficient is divided by; in float32 it is known to about 10⁻⁷."""


def held_levels(logits: Array, buffer: Buffer) -> Array:
    """`a [C]`: mean true-class probability of the buffer's examples of each class, 0 where there is none.

    Args:
        logits: `[M, C]` of the buffer's rows, by the network at the start of the request.
        buffer: M rows; what is to be removed has left it.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init, insert
    >>> kept = Examples(jnp.zeros((2, 1)), jnp.array([1, 0]), jnp.array([0]), jnp.array(1))
    >>> held_levels(jnp.zeros((1, 4)), insert(init(1, (1,), jnp.float32, jax.random.key(0)), kept)).tolist()
    [0.0, 0.25, 0.0, 0.0]
    """
    probabilities = jnp.take_along_axis(jax.nn.softmax(logits), buffer.labels[:, None], axis=1)[:, 0]
    valid = filled(buffer)
    empty = jnp.zeros(logits.shape[-1], logits.dtype)
    count = empty.at[buffer.labels].add(valid)
    return empty.at[buffer.labels].add(jnp.where(valid, probabilities, 0.0)) / jnp.maximum(count, 1.0)


def bounded_coefficients(levels: Array, remaining_share: Array | float = 1.0) -> CoefficientFn:
    """Coefficients `e_k (p_y − a_y)_+ / (1 − p_y)` of the unlearning component, with `p_y = exp(−ℓ)`.

    Args:
        levels: `a_y [B]` of the batch's examples, in [0, 1).
        remaining_share: `e_k` in [0, 1].

    >>> import jax.numpy as jnp
    >>> losses = -jnp.log(jnp.array([0.75, 0.25]))
    >>> bounded_coefficients(jnp.array([0.5, 0.5]))(losses, jnp.ones(2)).round(4).tolist()
    [1.0, 0.0]
    """

    def coefficients(losses: Array, weights: Array) -> Array:
        gap = jnp.maximum(-jnp.expm1(-losses), GAP_FLOOR)
        return remaining_share * jnp.maximum(jnp.exp(-losses) - levels, 0.0) / gap

    return coefficients


class Nearest(NamedTuple):
    """Rows of the buffer next to each of some inputs."""

    rows: Array  # [R, 20] int32, the nearest first
    found: Array  # [R, 20] bool, False where the buffer has no more


def has_distance(inputs: Rows) -> bool:
    """Whether inputs have a Euclidean distance; token ids have none."""
    return inputs.dtype == jnp.uint8 or not jnp.issubdtype(inputs.dtype, jnp.integer)


def nearest_rows(inputs: Array, buffer: Buffer, *, batch_size: int = 64) -> Nearest:
    """The `NEIGHBOURS` nearest examples of the buffer, of its first 2,000: a uniform sample, its order being random.

    Args:
        inputs: `[R, ...]` as stored.
        buffer: M rows.
        batch_size: rows of `inputs` in memory at a time.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init, insert
    >>> kept = Examples(jnp.array([[0.0], [5.0]]), jnp.array([1, 0]), jnp.array([0, 1]), jnp.array(2))
    >>> buffer = insert(init(2, (1,), jnp.float32, jax.random.key(0)), kept)
    >>> buffer.inputs[nearest_rows(jnp.ones((1, 1)), buffer).rows[0]].tolist()
    [[0.0], [5.0]]
    """
    rows = min(NEIGHBOUR_ROWS, buffer.ids.shape[0])
    known = take(buffer.inputs, jnp.arange(rows)).reshape(rows, -1).astype(jnp.float32)
    lengths = jnp.where(filled(buffer)[:rows], jnp.sum(known**2, axis=1), jnp.inf)
    count = min(NEIGHBOURS, rows)

    def nearest(x: Array) -> Nearest:
        # ‖x − b‖² − ‖x‖²: the same order.
        negative, places = lax.top_k(-(lengths - 2 * known @ x.reshape(-1).astype(jnp.float32)), count)
        return Nearest(places, negative > -jnp.inf)

    return lax.map(nearest, inputs, batch_size=batch_size)


def neighbour_labels(inputs: Array, buffer: Buffer, num_classes: int, *, batch_size: int = 64) -> Array:
    """Label histograms `n` of the nearest examples of the buffer, mixed with 5 % uniform over the classes it holds.

    Args:
        inputs: `[R, ...]` as stored.
        buffer: M rows; what is to be removed has left it.
        num_classes: C.
        batch_size: rows of `inputs` in memory at a time.

    Returns:
        `[R, C]` distributions; zeros where the buffer is empty.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init, insert
    >>> kept = Examples(jnp.zeros((2, 1)), jnp.array([1, 0]), jnp.array([0]), jnp.array(1))
    >>> buffer = insert(init(1, (1,), jnp.float32, jax.random.key(0)), kept)
    >>> neighbour_labels(jnp.ones((1, 1)), buffer, 3).tolist()
    [[0.0, 1.0, 0.0]]
    """
    near = nearest_rows(inputs, buffer, batch_size=batch_size) if has_distance(buffer.inputs) else None
    return label_histograms(near, buffer, inputs.shape[0], num_classes)


def label_histograms(near: Nearest | None, buffer: Buffer, rows: int, num_classes: int) -> Array:
    """`n [rows, C]` of what `nearest_rows` found; of the whole buffer where inputs have no distance."""
    histogram = jnp.zeros(num_classes, jnp.float32).at[buffer.labels].add(filled(buffer))
    held = (histogram > 0).astype(jnp.float32)
    uniform = held / jnp.maximum(held.sum(), 1.0)
    if near is None:
        shares = jnp.broadcast_to(histogram / jnp.maximum(buffer.count, 1), (rows, num_classes))
    else:
        places = buffer.labels[near.rows]
        counts = jnp.zeros((rows, num_classes), jnp.float32).at[jnp.arange(rows)[:, None], places].add(near.found)
        shares = counts / jnp.maximum(jnp.sum(near.found, axis=1, keepdims=True), 1)
    return (1 - UNIFORM_SHARE) * shares + UNIFORM_SHARE * uniform


def unlearned_targets(logits: Array, neighbours: Array, departed: Array) -> Array:
    """`q ∝ (n + 10⁻⁴)^½ · p_U^½`, see the top of this file; 0 for the departed.

    Args:
        logits: `[R, C]` of the examples to remove, by the network at the start of the request.
        neighbours: `n [R, C]`.
        departed: `[C]` bool, classes that leave whole; where all do, the target is uniform.

    Returns:
        `[R, C]` distributions.

    >>> import jax.numpy as jnp
    >>> gone = jnp.array([False, False, True])
    >>> unlearned_targets(jnp.zeros((1, 3)), jnp.array([[0.5, 0.5, 0.0]]), gone).tolist()
    [[0.5, 0.5, 0.0]]
    """
    deleted = jnp.finfo(logits.dtype).min  # finite: where all classes depart, no NaN
    log_p = jnp.maximum(jax.nn.log_softmax(jnp.where(departed, deleted, logits)), LOG_FLOOR)
    log_q = 0.5 * jnp.log(neighbours + COUNT_FLOOR) + 0.5 * log_p
    return jax.nn.softmax(jnp.where(departed, deleted, log_q).astype(logits.dtype))


def task_targets(logits: Array, task: Examples, buffer: Buffer, *, batch_size: int = 64) -> Array:
    """Targets `q [P, C]` of every row of the request, for `batches.from_task`; of no meaning where a row is padding.

    Args:
        logits: `[P, C]` of `task.inputs[task.ids]`, by the network at the start of the request.
        task: the examples to remove.
        buffer: M rows; they have left it.
        batch_size: rows of the task in memory at a time.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init
    >>> task = Examples(jnp.zeros((1, 1)), jnp.array([0]), jnp.array([0]), jnp.array(1))
    >>> task_targets(jnp.zeros((1, 3)), task, init(1, (1,), jnp.float32, jax.random.key(0))).tolist()
    [[0.0, 0.5, 0.5]]
    """
    num_classes = logits.shape[-1]
    neighbours = neighbour_labels(take(task.inputs, task.ids), buffer, num_classes, batch_size=batch_size)
    return unlearned_targets(logits, neighbours, departed_classes(task, buffer, num_classes))
