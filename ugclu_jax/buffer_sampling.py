"""Which examples a full buffer keeps: uniformly drawn ones, or some rather than others. It changes ranks, and no more.

The buffer keeps the M smallest ranks (see `buffer`). Uniform ranks `r` are `rank(id)`; `u = r / 2^32` is like a uniform
draw. Others are made of them as the examples are offered, once, and stay:

    weighted         x = −ln(1 − u) / w, exponential of rate w: the M smallest are drawn without replacement, each next
                     one with probability w_i / Σ w of those that are left
    class-balanced   the j-th smallest u of its class within the request has the j-th rank of all classes: any threshold
                     keeps as many of each class, or all that it has

Weights are `½ + ½ s / mean(s)` over the request, `s` a score of the model that has just learned it: no example is left
out for good, and each request keeps about its share. The scores are those of importance sampling: the loss; a bound of
the gradient's norm, `‖softmax(z) − onehot(y)‖`, that of the loss by the logits; the entropy of the output.

A rank that a model gave depends on all that the model had learned by then: which examples are kept can tell of what was
unlearned later. Uniform and class-balanced ranks depend on ids, labels and a key alone.

References: Efraimidis and Spirakis (2006), "Weighted random sampling with a reservoir"; Katharopoulos and Fleuret
(2018, arXiv 1803.00942) for the bound; the paper, arXiv 2505.15178, leaves importance sampling of the buffer open.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.batches import valid_rows
from ugclu_jax.prediction import predict
from ugclu_jax.streaming import take
from ugclu_jax.types import ApplyFn, Array, Examples, RanksFn

BufferSampling = Literal["uniform", "loss", "gradient_norm", "entropy", "class_balanced"]
BATCH = 64
"""Examples that pass forward at a time."""
CLASSES_APART = 2**12
"""Classes whose ranks never tie; of each as many ranks."""


def weighted_ranks(ranks: Array, weights: Array) -> Array:
    """Ranks by which the M smallest are a weighted draw without replacement, from uniform ones.

    `x = −ln(1 − u) / w` in float32, whose bits, read as an integer, have the order of the numbers: no weight is too
    large or too small. Two examples tie where their x agree in 24 binary digits; `buffer.insert` tells them by id.

    Args:
        ranks: [...] uint32, of `buffer.rank`.
        weights: [...] above 0.

    Returns:
        [...] uint32.

    >>> weighted_ranks(jnp.array([2**31, 2**31], jnp.uint32), jnp.array([1.0, 2.0])).tolist()
    [1060205080, 1051816472]
    """
    u = (ranks.astype(jnp.float32) + 0.5) * 2.0**-32
    x = -jnp.log1p(-u) / weights.astype(jnp.float32)
    return lax.bitcast_convert_type(x, jnp.uint32)


def class_balanced_ranks(ranks: Array, labels: Array, valid: Array, hash_key: Array) -> Array:
    """Ranks by which the M smallest have as many of each class, from uniform ones of the examples of one request.

    Args:
        ranks: [P] uint32, of `buffer.rank`.
        labels: [P], classes below `CLASSES_APART`.
        valid: [P] bool; the others get a rank of no meaning.
        hash_key: [2] uint32, of the buffer: decides which class comes first among equals.

    Returns:
        [P] uint32.

    >>> ranks, labels = jnp.array([9, 3, 5, 7], jnp.uint32), jnp.array([0, 0, 0, 1])
    >>> found = class_balanced_ranks(ranks, labels, jnp.ones(4, bool), jnp.zeros(2, jnp.uint32))
    >>> (found // CLASSES_APART).tolist()
    [2, 0, 1, 0]
    """
    places = jnp.arange(ranks.shape[0])
    group = jnp.where(valid, labels, jnp.iinfo(jnp.int32).max).astype(jnp.int32)
    group, _, order = lax.sort((group, ranks, places), num_keys=2)
    first = jnp.concatenate([jnp.ones(1, bool), group[1:] != group[:-1]])
    ordinal = places - lax.cummax(jnp.where(first, places, 0))
    ordinal = jnp.zeros_like(ordinal).at[order].set(ordinal).astype(jnp.uint32)
    # An odd factor permutes the numbers below a power of two.
    turn = (labels.astype(jnp.uint32) * (2 * hash_key[0] + 1) + hash_key[1]) % CLASSES_APART
    return jnp.minimum(ordinal, 2**20 - 1) * CLASSES_APART + turn


def weights_of(scores: Array, valid: Array) -> Array:
    """`½ + ½ s / mean(s)` over the valid ones; 1 for all where every score is 0.

    >>> weights_of(jnp.array([1.0, 3.0, 9.0]), jnp.array([True, True, False]))[:2].tolist()
    [0.75, 1.25]
    """
    mean = jnp.sum(jnp.where(valid, scores, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
    return jnp.where(mean > 0, 0.5 + 0.5 * scores / jnp.where(mean > 0, mean, 1.0), 1.0)


def loss(logits: Array, labels: Array) -> Array:
    """`−ln p_y` of each example, [P].

    >>> [round(float(x), 3) for x in loss(jnp.zeros((1, 4)), jnp.array([0]))]
    [1.386]
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


def gradient_norm(logits: Array, labels: Array) -> Array:
    """`‖p − onehot(y)‖` of each example, [P].

    >>> [round(float(x), 3) for x in gradient_norm(jnp.zeros((1, 2)), jnp.array([0]))]
    [0.707]
    """
    return jnp.linalg.norm(jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1]), axis=1)


def entropy(logits: Array, labels: Array) -> Array:
    """`−Σ p ln p` of each output, [P]; labels are not read.

    >>> [round(float(x), 3) for x in entropy(jnp.zeros((1, 4)), jnp.array([0]))]
    [1.386]
    """
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=1)


Score = Callable[[Array, Array], Array]
SCORES: dict[BufferSampling, Score] = {"loss": loss, "gradient_norm": gradient_norm, "entropy": entropy}


def ranks_fn(sampling: BufferSampling, apply_fn: ApplyFn) -> RanksFn | None:
    """How examples that enter the buffer are ranked, for `Method.ranks`.

    Args:
        sampling: by name.
        apply_fn: of the model, which scores them in evaluation mode.

    Returns:
        None where ranks are uniform, and nothing is computed.

    >>> ranks_fn("uniform", lambda *a, **k: None) is None
    True
    """
    if sampling == "uniform":
        return None
    if sampling == "class_balanced":
        return _balanced
    return functools.partial(_weighted, SCORES[sampling], apply_fn)


def _balanced(params: object, model_state: object, task: Examples, hash_key: Array) -> Array:
    labels = task.labels[jnp.maximum(task.ids, 0)]
    return class_balanced_ranks(buffer_lib.rank(task.ids, hash_key), labels, valid_rows(task), hash_key)


def _weighted(
    score: Score, apply_fn: ApplyFn, params: object, model_state: object, task: Examples, hash_key: Array
) -> Array:
    rows = jnp.maximum(task.ids, 0)
    logits = predict(apply_fn, params, model_state, take(task.inputs, rows), batch_size=BATCH)
    weights = weights_of(score(logits, task.labels[rows]), valid_rows(task))
    return weighted_ranks(buffer_lib.rank(task.ids, hash_key), weights)
