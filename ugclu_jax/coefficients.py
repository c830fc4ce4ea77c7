"""Adaptive per-example coefficients `ε̃_i` of the task gradient, computed from the losses of the batch itself."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from ugclu_jax.types import Array, RequestKind

CoefficientFn = Callable[[Array, Array], Array]
"""`(losses [B], weights [B]) -> coefficients [B]`; constants of the gradient that they weight."""

LOSS_FLOOR = 1e-4
"""Smallest loss that still tells examples apart (ours): below it p_y > 0.9999 and `ℓ^−λ` would let one example rule."""


def uniform(losses: Array, weights: Array) -> Array:
    """Coefficients of 1: the plain mean.

    >>> import jax.numpy as jnp
    >>> uniform(jnp.array([0.5, 2.0]), jnp.ones(2)).tolist()
    [1.0, 1.0]
    """
    return jnp.ones_like(losses)


def adaptive(
    kind: RequestKind,
    loss_exponent: Array | float,
    remaining_share: Array | float = 1.0,
    *,
    axis_name: str | None = None,
) -> CoefficientFn:
    """Coefficients that favour what is not yet done.

        unlearn:  ε̃_i = e_k · w_i,  w_i ∝ ℓ_i^{−λ}      a high loss is already forgotten: small weight
        learn:    ε̃_i = e_k · w_i,  w_i ∝ ℓ_i^{+λ}      a high loss is not yet learned: large weight (ours, the mirror)

    with `w` normalised to mean 1 over the examples of weight 1 and `e_k` the share of the request that is left.
    Losses are floored at `LOSS_FLOOR`. `λ = 0` gives `e_k` for every example.

    Args:
        kind: "learn" or "unlearn".
        loss_exponent: λ ≥ 0.
        remaining_share: `e_k` in [0, 1]; 1 where the coefficients do not decay.
        axis_name: mapped axis over which the batch is split; the mean is then that of the whole batch.

    Returns:
        A function of `losses [B]` and `weights [B]`; padding (weight 0) gets a coefficient of 0.

    >>> import jax.numpy as jnp
    >>> adaptive("unlearn", 1.0)(jnp.array([1.0, 3.0]), jnp.ones(2)).round(4).tolist()
    [1.5, 0.5]
    >>> adaptive("learn", 1.0, 0.5)(jnp.array([1.0, 3.0]), jnp.ones(2)).round(4).tolist()
    [0.25, 0.75]

    References: arXiv 2505.15178, adaptive coefficients; the exponent form is that of arXiv 2409.19732 (SFR-on).
    """
    exponent = loss_exponent if kind == "learn" else -loss_exponent

    def coefficients(losses: Array, weights: Array) -> Array:
        log_w = exponent * jnp.log(jnp.maximum(losses, LOSS_FLOOR))
        log_w = jnp.where(weights > 0, log_w, -jnp.inf)
        # Only ratios matter: taking the largest out keeps any λ from overflowing, and as a constant it changes no
        # derivative (pmax has none).
        largest = lax.stop_gradient(jnp.max(log_w))
        largest = lax.pmax(largest, axis_name) if axis_name else largest
        w = jnp.exp(log_w - jnp.where(jnp.isfinite(largest), largest, 0.0))
        total, count = jnp.sum(w * weights), jnp.sum(weights)
        if axis_name:
            total, count = lax.psum((total, count), axis_name)
        mean = total / jnp.maximum(count, 1.0)
        return remaining_share * w / jnp.where(count > 0, mean, 1.0)

    return coefficients


def remaining_shares(outer_steps: int) -> Array:
    """`e_k = 1 − k/K` for `k = 0 … K−1`: 1 at the start of the request, 1/K at its last step.

    >>> remaining_shares(4).tolist()
    [1.0, 0.75, 0.5, 0.25]
    """
    # By NumPy: a constant is the same in every program, while XLA rounds an expression as the code around it suggests.
    one = np.ones((), jnp.result_type(float))
    return jnp.asarray(one - np.arange(outer_steps, dtype=one.dtype) * (one / max(outer_steps, 1)))
