"""Weight saliency: statistics of task and remaining data, and the masks made of them.

    m = 1[ s_Q ≥ γ · s_R ]

element by element over the whole tree of parameters. The product form needs no epsilon: where both statistics are 0 the
weight is free (`0 ≥ γ·0`), and with an empty buffer every weight is. Statistics are taken in evaluation mode without
augmentation (ours).
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from ugclu_jax.components import weighted_gradient
from ugclu_jax.types import ApplyFn, Array, Batch, ModelState, Params, PyTree

MaskKind = Literal["hard", "soft", "straight_through", "none"]
SaliencyKind = Literal["gradient", "fisher", "batch_fisher"]


def _sum_over_batches(
    batches: Batch, statistic: Callable[[Batch], Params], params: Params, axis_name: str | None = None
) -> Params:
    """Sum of `statistic(batch)` over the leading axis of `batches`, one batch in memory at a time."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    total, _ = lax.scan(lambda acc, batch: (jax.tree.map(jnp.add, acc, statistic(batch)), None), zeros, batches)
    return lax.psum(total, axis_name) if axis_name else total


def _count(batches: Batch, axis_name: str | None) -> Array:
    count = jnp.sum(batches.weights)
    return jnp.maximum(lax.psum(count, axis_name) if axis_name else count, 1.0)


def mean_gradient(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, batches: Batch, *, axis_name: str | None = None
) -> Params:
    """`mean_i ∇ℓ_i` over all examples of all batches, in evaluation mode.

    Args:
        apply_fn, params, model_state: the network.
        batches: `[n, B]` examples; weight 0 marks padding.
        axis_name: mapped axis that splits each batch.

    Returns:
        A tree like params.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batches = Batch(jnp.array([[[1.0]], [[3.0]]]), jnp.array([[0], [0]]), jnp.ones((2, 1)))
    >>> mean_gradient(linear, jnp.zeros((1, 2)), {}, batches).tolist()
    [[-1.0, 1.0]]
    """

    def summed(batch: Batch) -> Params:
        # weighted_gradient divides by the batch's own count; undo it, so that padding in one batch shifts no weight.
        mean = weighted_gradient(apply_fn, params, model_state, batch, train=False).gradient
        return jax.tree.map(lambda g: g * jnp.sum(batch.weights), mean)

    total, count = _sum_over_batches(batches, summed, params, axis_name), _count(batches, axis_name)
    return jax.tree.map(lambda g: g / count, total)


def gradient_statistic(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, batches: Batch, *, axis_name: str | None = None
) -> Params:
    """`s = |mean_i ∇ℓ_i|`, the magnitude of the mean gradient over all examples of all batches.

    Arguments as in `mean_gradient`; the result is a tree like params, non-negative.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batches = Batch(jnp.array([[[1.0], [-1.0]]]), jnp.array([[0, 0]]), jnp.ones((1, 2)))
    >>> gradient_statistic(linear, jnp.zeros((1, 2)), {}, batches).tolist()  # the two examples cancel
    [[0.0, 0.0]]

    References: arXiv 2505.15178, balanced weight saliency (its wording).
    """
    return jax.tree.map(jnp.abs, mean_gradient(apply_fn, params, model_state, batches, axis_name=axis_name))


def fisher(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, batches: Batch, *, axis_name: str | None = None
) -> Params:
    """Diagonal empirical Fisher, `s = mean_i (∇ℓ_i)²`: the mean over *examples* of the squared gradient.

    Arguments as in `mean_gradient`, result as in `gradient_statistic`. Memory grows with B × parameters: one gradient
    an example.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batches = Batch(jnp.array([[[1.0], [-1.0]]]), jnp.array([[0, 0]]), jnp.ones((1, 2)))
    >>> fisher(linear, jnp.zeros((1, 2)), {}, batches).tolist()  # nothing cancels
    [[0.25, 0.25]]

    References: arXiv 2409.19732 (SFR-on), its definition; see `batch_fisher` for what its experiments used.
    """

    def squared(inputs: Array, label: Array, weight: Array) -> Params:
        single = Batch(inputs[None], label[None], weight[None])
        gradient = weighted_gradient(apply_fn, params, model_state, single, train=False).gradient
        return jax.tree.map(jnp.square, gradient)

    def summed(batch: Batch) -> Params:
        return jax.tree.map(lambda s: jnp.sum(s, axis=0), jax.vmap(squared)(batch.inputs, batch.labels, batch.weights))

    total, count = _sum_over_batches(batches, summed, params, axis_name), _count(batches, axis_name)
    return jax.tree.map(lambda s: s / count, total)


def batch_fisher(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, batches: Batch, *, axis_name: str | None = None
) -> Params:
    """`s = mean_b (mean_{i∈b} ∇ℓ_i)²`: the mean over *mini-batches* of the squared batch gradient.

    Depends on the batch size: for B = 1 it is `fisher`, for one batch of everything `gradient_statistic` squared.
    Arguments as in `mean_gradient`, result as in `gradient_statistic`; a batch of padding counts nowhere.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batches = Batch(jnp.array([[[1.0]], [[-1.0]]]), jnp.array([[0], [0]]), jnp.ones((2, 1)))
    >>> batch_fisher(linear, jnp.zeros((1, 2)), {}, batches).tolist()
    [[0.25, 0.25]]

    References: arXiv 2409.19732 (SFR-on), its published experiments.
    """

    def squared(batch: Batch) -> Params:
        mean = weighted_gradient(apply_fn, params, model_state, batch, train=False, axis_name=axis_name).gradient
        return jax.tree.map(jnp.square, mean)

    # Under axis_name each batch's mean is already that of the whole batch on every device: no second sum over devices.
    total = _sum_over_batches(batches, squared, params)
    filled = jnp.sum(batches.weights, axis=1)
    filled = lax.psum(filled, axis_name) if axis_name else filled
    number = jnp.maximum(jnp.sum(filled > 0), 1)
    return jax.tree.map(lambda s: s / number, total)


STATISTICS: dict[SaliencyKind, Callable[..., Params]] = {
    "gradient": gradient_statistic,
    "fisher": fisher,
    "batch_fisher": batch_fisher,
}


def hard_mask(task_statistic: PyTree, remain_statistic: PyTree, saliency_threshold: Array | float = 1.0) -> PyTree:
    """`m = 1[ s_Q ≥ γ · s_R ]`, element by element; 1 = may change. Its derivative in γ is 0 everywhere.

    Args:
        task_statistic, remain_statistic: `s_Q`, `s_R`, trees like params, non-negative.
        saliency_threshold: γ ≥ 0; 0 frees every weight.

    Returns:
        A tree like params of 0 and 1, in the type of the statistics.

    >>> import jax.numpy as jnp
    >>> hard_mask(jnp.array([0.0, 1.0, 2.0]), jnp.array([0.0, 2.0, 1.0])).tolist()
    [1.0, 0.0, 1.0]

    References: arXiv 2505.15178, balanced weight saliency.
    """
    return jax.tree.map(lambda q, r: (q >= saliency_threshold * r).astype(q.dtype), task_statistic, remain_statistic)


def soft_mask(
    task_statistic: PyTree,
    remain_statistic: PyTree,
    saliency_threshold: Array | float = 1.0,
    mask_temperature: Array | float = 1.0,
) -> PyTree:
    """`m = σ((log s_Q − log s_R − log γ) / τ)` (ours): differentiable in γ, the hard mask as τ → 0.

    Logarithms are floored at the smallest normal number of the type. Two differences from the hard mask, by
    construction: a tie gives 1/2 and not 1, and so does a weight that neither data set uses (`s_Q = s_R = 0`, γ = 1).

    Args:
        task_statistic, remain_statistic: trees like params, non-negative.
        saliency_threshold: γ > 0.
        mask_temperature: τ > 0.

    Returns:
        A tree like params with values in [0, 1].

    >>> import jax.numpy as jnp
    >>> soft_mask(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0])).tolist()
    [0.5, 1.0]
    """

    def soften(q: Array, r: Array) -> Array:
        floor = jnp.finfo(q.dtype).tiny
        log_ratio = jnp.log(jnp.maximum(q, floor)) - jnp.log(jnp.maximum(r, floor)) - jnp.log(saliency_threshold)
        return jax.nn.sigmoid(log_ratio / mask_temperature)

    return jax.tree.map(soften, task_statistic, remain_statistic)


def straight_through_mask(
    task_statistic: PyTree,
    remain_statistic: PyTree,
    saliency_threshold: Array | float = 1.0,
    mask_temperature: Array | float = 1.0,
) -> PyTree:
    """The hard mask forward, the derivative of the soft one backward (ours). Arguments as in `soft_mask`.

    >>> import jax, jax.numpy as jnp
    >>> f = lambda threshold: straight_through_mask(jnp.array([1.0]), jnp.array([1.0]), threshold)[0]
    >>> float(f(1.0)), float(jax.grad(f)(1.0))
    (1.0, -0.25)
    """
    hard = hard_mask(task_statistic, remain_statistic, lax.stop_gradient(saliency_threshold))
    soft = soft_mask(task_statistic, remain_statistic, saliency_threshold, mask_temperature)
    # soft − stop(soft) is exactly 0 forward and carries the soft derivative backward.
    return jax.tree.map(lambda h, s: h + (s - lax.stop_gradient(s)), hard, soft)


def make_mask(
    kind: MaskKind,
    task_statistic: PyTree,
    remain_statistic: PyTree,
    saliency_threshold: Array | float,
    mask_temperature: Array | float,
) -> PyTree:
    """The mask of that kind; "none" is a mask of ones. Arguments as in `soft_mask`.

    >>> import jax.numpy as jnp
    >>> make_mask("hard", jnp.array([1.0]), jnp.array([2.0]), 0.5, 1.0).tolist()
    [1.0]
    """
    if kind == "hard":
        return hard_mask(task_statistic, remain_statistic, saliency_threshold)
    if kind == "soft":
        return soft_mask(task_statistic, remain_statistic, saliency_threshold, mask_temperature)
    if kind == "straight_through":
        return straight_through_mask(task_statistic, remain_statistic, saliency_threshold, mask_temperature)
    return jax.tree.map(jnp.ones_like, task_statistic)


def top_share_mask(statistic: PyTree, keep_share: Array | float) -> PyTree:
    """`m = 1` for the weights of largest statistic, a share of the whole tree and not of each leaf.

    Args:
        statistic: tree like params, non-negative.
        keep_share: share in [0, 1] of all weights, rounded to a whole number of them. Among equals those that come
            first in the tree are kept, so that the number holds where many are 0.

    Returns:
        A tree like params of 0 and 1, in the type of the statistic.

    >>> top_share_mask({"a": jnp.array([3.0, 0.0]), "b": jnp.array([0.0, 2.0])}, 0.75)
    {'a': Array([1., 1.], dtype=float32), 'b': Array([0., 1.], dtype=float32)}

    References: arXiv 2310.12508 (SalUn), the threshold of its mask.
    """
    flat, unravel = ravel_pytree(statistic)
    order = jnp.argsort(flat, descending=True, stable=True)
    kept = (jnp.arange(flat.size) < jnp.round(keep_share * flat.size)).astype(flat.dtype)
    return unravel(jnp.zeros_like(flat).at[order].set(kept))


def density(mask: PyTree) -> PyTree:
    """Share of each leaf's weights that may change: the mean of the mask, one scalar a leaf.

    >>> import jax.numpy as jnp
    >>> density({"kernel": jnp.array([1.0, 0.0, 0.0, 1.0])})["kernel"].item()
    0.5
    """
    return jax.tree.map(jnp.mean, mask)
