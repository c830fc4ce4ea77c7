"""Where the ascent on an example should stop, read off between it and its neighbours (ours).

    x̄_j = (x + x_j) / 2                     x_j the 2 nearest retained inputs, in the space of the inputs as stored
    mid = mean_j softmax(logits(x̄_j; θ_0))  without the classes that leave whole
    q   ∝ (n + 10⁻⁴)^½ · (mid + 10⁻⁴)^½     n the labels of the 20 nearest, see `bounded`; 0 for a class that leaves

A network that memorised x says nothing of what it would make of x unseen, and the level of its class is near 1 where
the buffer is memorised as well. Half way to a neighbour lies an input that it never saw, and that resembles x.
`bounded` ends at `p_y = q_y`, `target` descends on `CE(q, p)`. Two forward passes and a search a drawn example.
"""

import jax
import jax.numpy as jnp

from ugclu_jax.bounded import COUNT_FLOOR, has_distance, label_histograms, nearest_rows
from ugclu_jax.streaming import take
from ugclu_jax.types import ApplyFn, Array, Buffer, ModelState, Params, Rows

MIDPOINTS = 2


def between(inputs: Array, neighbours: Array) -> Array:
    """`(x + x_j) / 2` in the type of the inputs; of whole numbers, rounded to the even one at .5.

    >>> import jax.numpy as jnp
    >>> between(jnp.array([250], jnp.uint8), jnp.array([253], jnp.uint8)).tolist()
    [252]
    """
    middle = (inputs.astype(jnp.float32) + neighbours.astype(jnp.float32)) / 2
    whole = jnp.issubdtype(inputs.dtype, jnp.integer)
    return (jnp.round(middle) if whole else middle).astype(inputs.dtype)


def check(params: Params, model_state: ModelState, inputs: Rows) -> None:
    """Refuse inputs without midpoints.

    Raises:
        ValueError: naming their type.

    >>> import jax.numpy as jnp
    >>> check({}, {}, jnp.zeros((1, 4), jnp.int32))
    Traceback (most recent call last):
        ...
    ValueError: levels 'midpoint' need inputs with midpoints, got token ids of type int32: use levels 'class'
    """
    if not has_distance(inputs):
        raise ValueError(
            f"levels 'midpoint' need inputs with midpoints, got token ids of type {inputs.dtype}: use levels 'class'"
        )


def midpoint_targets(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, inputs: Array, buffer: Buffer, departed: Array
) -> Array:
    """`q [B, C]` of the formulas at the top of this file, for the inputs of one batch.

    Args:
        apply_fn: the model.
        params, model_state: θ_0, the network at the start of the request.
        inputs: `[B, ...]` as stored.
        buffer: M rows; what is to be removed has left it. Where it holds fewer than 2 examples, fewer midpoints count,
            and of an empty one q is uniform over what stays.
        departed: `[C]` bool, classes that leave whole, see `distillation.departed_classes`.

    Raises:
        ValueError: inputs of token ids, which have no midpoint.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init, insert
    >>> from ugclu_jax.types import Examples
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> kept = Examples(jnp.zeros((1, 1)), jnp.array([1]), jnp.array([0]), jnp.array(1))
    >>> buffer, departed = insert(init(1, (1,), jnp.float32, jax.random.key(0)), kept), jnp.array([False, False, True])
    >>> q = midpoint_targets(linear, jnp.zeros((1, 3)), {}, jnp.ones((1, 1)), buffer, departed)
    >>> [round(float(each), 2) for each in q[0]]
    [0.01, 0.99, 0.0]
    """
    check(params, model_state, buffer.inputs)
    rows, num_classes = inputs.shape[0], departed.shape[0]
    near = nearest_rows(inputs, buffer, batch_size=rows)
    places, found = near.rows[:, :MIDPOINTS], near.found[:, :MIDPOINTS]
    number = places.shape[1]
    middles = between(jnp.repeat(inputs, number, axis=0), take(buffer.inputs, places.reshape(-1)))
    logits = apply_fn(params, model_state, middles, train=False, rng_key=None)[0]
    deleted = jnp.finfo(logits.dtype).min  # finite: where all classes depart, no NaN
    each = jax.nn.softmax(jnp.where(departed, deleted, logits)).reshape(rows, number, num_classes)
    mid = jnp.sum(each * found[..., None], axis=1) / jnp.maximum(jnp.sum(found, axis=1, keepdims=True), 1)
    counts = label_histograms(near, buffer, rows, num_classes)
    log_q = 0.5 * jnp.log(counts + COUNT_FLOOR) + 0.5 * jnp.log(mid + COUNT_FLOOR)
    return jax.nn.softmax(jnp.where(departed, deleted, log_q).astype(logits.dtype))
