"""A fast step of a set size in outputs: as long as it takes to move the outputs on the task by a budget, no longer.

    u   = m ⊙ g_Q · ‖θ‖ / ‖m ⊙ g_Q‖                       ‖θ‖ = 1 where all parameters are 0; u = 0 where g_Q is
    D   = KL̄(θ ‖ θ − s u)                                  mean KL divergence of outputs before and after, on the task
    r   = √(δ / max(D, 10⁻¹²))                             D is quadratic in a short step
    θ^Q = θ − s · min(r, 4, s_max/s) · u                   0 of u where D is not finite
    s   ← min(s · clip(r, 1/10, 4), s_max)                 for the next outer step; a tenth where D is not finite

The step of the paper, `β_Q g_Q`, is a length in parameters: what it does to the outputs depends on the curvature of the
task, which differs 800-fold between kinds of request, on the scale of the loss and on that of the parameters. Here δ is
in nats, s is a share of ‖θ‖, and the scale of loss and parameters drops out.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.components import modulate
from ugclu_jax.trees import descend, global_norm
from ugclu_jax.types import Array, Params, PyTree

DivergenceFn = Callable[[Params], Array]
"""`params -> []`: mean KL divergence of the outputs at the start of the step from those there."""

FIRST_RELATIVE_STEP = 1e-3
"""s before the first step of a request: a thousandth of ‖θ‖, short enough for D to be quadratic."""
LARGEST_RELATIVE_STEP = 0.3
"""s_max: saturated outputs hardly move, and no step may replace what the parameters were."""
_LONGER, _SHORTER = 4.0, 0.1
_SMALLEST_DIVERGENCE = 1e-12
_SMALL = 0.1
_SERIES = [1 / math.factorial(k) for k in range(9, 1, -1)]
"""Of `(e^u − 1 − u) / u²`, highest power first: exact to 10⁻¹³ of itself where |u| is small."""


class BudgetedStep(NamedTuple):
    """Result of a fast step of a set size in outputs."""

    fast_params: Params
    relative_step: Array  # [] s of the next step
    divergence: Array  # [] D of the probe, in nats
    norm: Array  # [] global norm of m ⊙ g_Q
    held: Array  # [] bool, whether s_max or a D that is not finite held the step back


def mean_divergence(before: Array, after: Array, weights: Array, *, axis_name: str | None = None) -> Array:
    """`Σ_i v_i KL(softmax z_i ‖ softmax z'_i) / Σ_i v_i`, in nats; 0 for a batch of padding.

    Taken as `Σ_c p (e^u − 1 − u)` with `u = log q − log p`, which is the same since `Σ_c p (e^u − 1) = 0`, by its
    series where u is small: terms of first order cancel in the sum, and in a short step leave their rounding there.

    Args:
        before, after: logits `z, z' [B, C]`.
        weights: `v [B]`.
        axis_name: mapped axis that splits the batch; the mean is then that of the whole batch.

    >>> import jax.numpy as jnp
    >>> round(float(mean_divergence(jnp.zeros((1, 2)), jnp.log(jnp.array([[3.0, 1.0]])), jnp.ones(1))), 4)
    0.1438
    """
    log_p, log_q = jax.nn.log_softmax(before), jax.nn.log_softmax(after)
    u, p = log_q - log_p, jnp.exp(log_p)
    small = jnp.abs(u) < _SMALL
    near = jnp.where(small, u, 0.0)
    series = p * near**2 * jnp.polyval(jnp.asarray(_SERIES, p.dtype), near)
    divergences = jnp.where(small, series, jnp.exp(log_q) - p - p * u)
    return mean_over(jnp.sum(divergences, axis=-1), weights, axis_name=axis_name)


def mean_over(each: Array, weights: Array, *, axis_name: str | None = None) -> Array:
    """`Σ_i v_i x_i / Σ_i v_i` of a batch, over all devices that share it; 0 for padding.

    >>> import jax.numpy as jnp
    >>> float(mean_over(jnp.array([1.0, 3.0, 9.0]), jnp.array([1.0, 1.0, 0.0])))
    2.0
    """
    total, count = jnp.sum(weights * each), jnp.sum(weights)
    if axis_name:
        total, count = lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1.0)


def kl_budget_step(
    params: Params,
    direction: Params,
    divergence: DivergenceFn,
    *,
    output_budget: Array | float,
    relative_step: Array | float = FIRST_RELATIVE_STEP,
    mask: PyTree | None = None,
) -> BudgetedStep:
    """The fast step of the formulas at the top of this file, for the price of one forward pass.

    Multiplying loss and direction by a number changes nothing; multiplying all parameters, of a network that takes the
    inverse into account, multiplies the step alike. δ = 0 moves nothing.

    Args:
        params: θ.
        direction: `g_Q`, the learning or unlearning component; its sign is already that of a descent.
        divergence: D at other parameters.
        output_budget: δ ≥ 0, nats.
        relative_step: s > 0, as the step before left it.
        mask: tree like params, or None for ones.

    >>> import jax.numpy as jnp
    >>> quadratic = lambda moved: 0.5 * jnp.sum((moved - 1.0) ** 2)
    >>> step = kl_budget_step(jnp.ones(1), jnp.array([7.0]), quadratic, output_budget=0.5e-6)
    >>> round(float(step.fast_params[0]), 4), round(float(step.relative_step), 4)  # D is δ after 10⁻³
    (0.999, 0.001)

    References: ours; the paper's fast step is `fast_slow.fast_step`. Its idea is that of a trust region in outputs, as
    in natural gradient and TRPO (Schulman et al. 2015, arXiv 1502.05477).
    """
    masked = modulate(mask, direction)
    norm, size = global_norm(masked), global_norm(params)
    scale = jnp.where(size == 0, 1.0, size) / jnp.where(norm == 0, 1.0, norm)
    unit = jax.tree.map(lambda g: scale * g, masked)
    found = divergence(descend(params, unit, relative_step))
    finite = jnp.isfinite(found)
    # The inner select keeps NaN out of the derivative of what the outer one discards.
    ratio = jnp.sqrt(output_budget / jnp.maximum(jnp.where(finite, found, 1.0), _SMALLEST_DIVERGENCE))
    longest = jnp.minimum(_LONGER, LARGEST_RELATIVE_STEP / relative_step)
    factor = jnp.where(finite, jnp.minimum(ratio, longest), 0.0)
    following = jnp.where(finite, jnp.clip(ratio, _SHORTER, longest), _SHORTER)
    held = ~finite | (ratio > LARGEST_RELATIVE_STEP / relative_step)
    fast_params = descend(params, unit, relative_step * factor)
    return BudgetedStep(fast_params, relative_step * following, found, norm, held)
