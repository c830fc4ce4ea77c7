"""Weight decay as a budget: what is left of a weight that no gradient touches, whatever the rates and their number."""

import jax.numpy as jnp

from ugclu_jax.types import Array


def decay_budget(kept_share: Array | float, share: Array | float) -> Array:
    """`ρ^share`, what one step multiplies the parameters with.

    Args:
        kept_share: ρ in (0, 1], what is left after a whole request; 1 is no decay.
        share: `lr_j / Σ_j lr_j` of the step; those of a request sum to 1.

    >>> round(float(decay_budget(0.25, 0.5)), 6), float(decay_budget(1.0, 0.5))
    (0.5, 1.0)

    References: ours; decoupled as in AdamW (arXiv 1711.05101), whose `w` is `ln(1/ρ) / Σ_j lr_j` to first order.
    """
    return jnp.exp(share * jnp.log(kept_share))
