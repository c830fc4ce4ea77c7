"""The little arithmetic on trees that `optax.tree` lacks: a norm with a derivative at 0, a clip, steps one a layer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.types import Array, Params, PyTree

Rates = PyTree
"""One step size, or one a layer: a tree whose leaves stand where `params` has leaves or whole subtrees."""


def global_norm(tree: PyTree) -> Array:
    """`√Σ x²` over all leaves, with derivative 0 (not NaN) at a tree of zeros.

    >>> import jax.numpy as jnp
    >>> float(global_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}))
    5.0
    """
    squared = sum((jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)), start=jnp.zeros(()))
    # Asked this way round, NaN stays NaN.
    return jnp.where(squared == 0, 0.0, jnp.sqrt(jnp.where(squared == 0, 1.0, squared)))


class Clipped(NamedTuple):
    """A gradient of bounded length."""

    gradient: Params
    norm: Array  # [] global norm before
    active: Array  # [] bool, whether it was longer than the bound


def clip(gradient: Params, clip_norm: Array | float) -> Clipped:
    """`g / max(1, ‖g‖ / c)`: the gradient, no longer than c in its global norm; c = ∞ leaves it as it is.

    >>> import jax.numpy as jnp
    >>> clip(jnp.array([3.0, 4.0]), 2.5).gradient.tolist()
    [1.5, 2.0]
    """
    norm = global_norm(gradient)
    # 1 / max(1, n/c) and not min(1, c/n): differentiable at n = 0. A norm may overflow, and ∞/∞ is no number.
    excess = jnp.where(jnp.isinf(clip_norm), 1.0, jnp.maximum(1.0, norm / clip_norm))
    return Clipped(jax.tree.map(lambda g: g / excess, gradient), norm, norm > clip_norm)


def descend(params: Params, gradient: Params, step_size: Rates) -> Params:
    """`θ − η g`, leaf by leaf, in the type of `params` whatever the type of η.

    >>> import jax.numpy as jnp
    >>> descend(jnp.ones(2), jnp.array([1.0, 2.0]), 0.5).tolist()
    [0.5, 0.0]
    >>> params = {"a": jnp.ones(1), "b": {"c": jnp.ones(1)}}
    >>> moved = descend(params, params, {"a": 0.5, "b": 0.25})
    >>> moved["a"].item(), moved["b"]["c"].item()
    (0.5, 0.75)
    """

    def step(rate: Array | float, params: Params, gradient: Params) -> Params:
        return jax.tree.map(lambda p, g: p - (rate * g).astype(p.dtype), params, gradient)

    return jax.tree.map(step, step_size, params, gradient)
