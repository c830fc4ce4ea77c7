"""Decay as a budget: what a request leaves of a weight that no gradient touches, whatever its rates and its steps.

    θ_{j+1} = ρ^{s_j} θ_j − η_j u_j,   s_j = η_j / Σ_i η_i         so that Π_j ρ^{s_j} = ρ

ρ is the share that is kept: 1 is no decay. Only ratios of rates enter, so a learning rate of 0 decays all the same.
Decay beside the optimizer (AdamW, arXiv 1711.05101) multiplies by 1 − η_j w instead, which keeps ρ to first order for
w = ln(1/ρ) / Σ_i η_i; the power keeps it exactly.
"""

import jax
import jax.numpy as jnp

from ugclu_jax.trees import descend
from ugclu_jax.types import Array, Params, PyTree


def decay_budget(kept_share: Array | float, share: Array | float) -> Array:
    """`ρ^s`, what one step multiplies θ by; where the shares s of a request sum to 1, their product is ρ.

    Args:
        kept_share: ρ in (0, 1]; 1 gives 1.
        share: s in [0, 1], the step's part of the sum of all rates of the request.

    Returns:
        A factor in (0, 1], or an array of them, of the shape that both broadcast to.

    >>> import jax.numpy as jnp
    >>> factors = decay_budget(0.25, jnp.array([0.5, 0.5]))
    >>> factors.tolist(), factors.prod().item()
    ([0.5, 0.5], 0.25)

    References: ours; arXiv 1711.05101 for decay apart from the gradient.
    """
    return jnp.power(kept_share, share)


def decayed(params: Params, factor: Array | float, mask: PyTree | None = None) -> Params:
    """`θ − m ⊙ (1 − f) θ`: every weight times f; where there is a mask m, a weight of mask 0 stays as it is.

    Args:
        params: θ.
        factor: f in (0, 1], see `decay_budget`; 1 leaves θ as it is, to the bit.
        mask: tree like params, or None for ones.

    >>> import jax.numpy as jnp
    >>> decayed(jnp.full(2, 4.0), 0.75).tolist(), decayed(jnp.full(2, 4.0), 0.75, jnp.array([1.0, 0.0])).tolist()
    ([3.0, 3.0], [3.0, 4.0])
    """
    # Not `f θ`: a compiler may merge a product and the difference that follows into one rounding, and would choose this
    # product in place of the optimizer's, so that f = 1 would change the last bits.
    free = params if mask is None else jax.tree.map(jnp.multiply, mask, params)
    return descend(params, free, 1.0 - factor)
