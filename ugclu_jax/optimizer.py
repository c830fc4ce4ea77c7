"""optax's optimizers with an explicit mask: what it multiplies, the gradient or the whole update.

    SGD     b ← μ b + (m ⊙ g + w θ),  θ ← θ − η b       mask on the gradient: b and w still move masked-out weights
            b ← μ b + (g + w θ),      θ ← θ − η m ⊙ b   mask on the update: a weight of mask 0 stays where it is
    AdamW   a ← μ a + (1 − μ) g,  c ← ν c + (1 − ν) g²,  u = â / (√ĉ + 10⁻⁸) + w θ,  θ ← θ − η u;  masks likewise

`â` and `ĉ` are the moments divided by one minus their decay to the power of the number of updates so far.

Two extras, off by default: the gradient may have a largest global norm, m ⊙ g where the mask is on the gradient; and θ
may be multiplied by a factor f beside the update, θ ← f θ − η u (see `ugclu_jax.decay`), under a mask on the update
only as far as the mask lets it. No moment knows of the factor.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from ugclu_jax.components import modulate
from ugclu_jax.decay import decayed
from ugclu_jax.trees import clip, descend
from ugclu_jax.types import Array, Params, PyTree

OptimizerKind = Literal["sgd", "adamw"]
MaskScope = Literal["gradient", "update"]

SECOND_MOMENTUM = 0.999
"""ν, unless another is given."""
TINY = float(jnp.finfo(jnp.float32).tiny)
"""Under the root of AdamW: no value moves by it, and where a gradient is 0 the root has a derivative that is no NaN."""


def transformation(
    kind: OptimizerKind,
    momentum: Array | float = 0.0,
    weight_decay: Array | float = 0.0,
    second_momentum: Array | float = SECOND_MOMENTUM,
) -> optax.GradientTransformation:
    """What turns gradients into steps `u` of `θ ← θ − η u`; its hyperparameters may be traced.

    >>> import jax.numpy as jnp
    >>> sgd = transformation("sgd", weight_decay=0.5)
    >>> sgd.update(jnp.ones(1), sgd.init(jnp.ones(1)), jnp.ones(1))[0].tolist()
    [1.5]
    """
    decay = optax.add_decayed_weights(weight_decay)
    if kind == "sgd":
        return optax.chain(decay, optax.trace(momentum))
    return optax.chain(_scale_by_adam(momentum, second_momentum), decay)


def _scale_by_adam(momentum: Array | float, second_momentum: Array | float) -> optax.GradientTransformation:
    """optax's `scale_by_adam`, for decays that may be traced."""
    # 1 − ν, written so that the default gives what the constant .999 does: in float32, 1 − ν itself is off by 5e-5. Of
    # a sum of constants and −ν the compiler would make 1 − ν again.
    added = (1 - SECOND_MOMENTUM) - (second_momentum - SECOND_MOMENTUM)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, optax.ScaleByAdamState)
        first = optax.tree.update_moment(updates, state.mu, momentum, 1)
        second = jax.tree.map(lambda g, c: added * g**2 + second_momentum * c, updates, state.nu)
        count = optax.safe_increment(state.count)
        mean = optax.tree.bias_correction(first, momentum, count)
        square = optax.tree.bias_correction(second, second_momentum, count)
        steps = jax.tree.map(lambda a, c: a / (jnp.sqrt(c + TINY) + 1e-8), mean, square)
        return steps, optax.ScaleByAdamState(count, first, second)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def update(
    kind: OptimizerKind,
    gradient: Params,
    state: optax.OptState,
    params: Params,
    *,
    learning_rate: Array | float,
    momentum: Array | float = 0.0,
    weight_decay: Array | float = 0.0,
    second_momentum: Array | float = SECOND_MOMENTUM,
    clip_norm: Array | float = math.inf,
    factor: Array | float = 1.0,
    mask: PyTree | None = None,
    mask_applies_to: MaskScope = "gradient",
) -> tuple[Params, optax.OptState]:
    """One update, see the formulas at the top of this file.

    Args:
        kind: "sgd" or "adamw", static.
        gradient: tree like params.
        state: of the update before; the first is `transformation(kind).init(params)`.
        params: θ.
        learning_rate: η ≥ 0.
        momentum: μ in [0, 1); the decay of AdamW's first moment.
        weight_decay: w ≥ 0; part of the gradient for SGD, apart from it for AdamW.
        second_momentum: ν in [0, 1), the decay of AdamW's second moment; SGD has none.
        clip_norm: > 0, largest global norm of the gradient, of the masked one where the mask is on the gradient.
        factor: f in (0, 1], what is left of θ beside the update.
        mask: tree like params, or None for ones.
        mask_applies_to: what the mask multiplies, static.

    Returns:
        `(params, state)`.

    >>> import jax.numpy as jnp
    >>> theta, free = jnp.ones(2), jnp.array([1.0, 0.0])
    >>> for scope in ("gradient", "update"):
    ...     moved, _ = update("sgd", jnp.ones(2), transformation("sgd").init(theta), theta, learning_rate=0.5,
    ...                       weight_decay=0.5, mask=free, mask_applies_to=scope)
    ...     print(moved.tolist())
    [0.25, 0.75]
    [0.25, 1.0]

    References: arXiv 1711.05101 (AdamW). Published code of masked methods differs in what the mask multiplies.
    """
    on_gradient, on_update = (mask, None) if mask_applies_to == "gradient" else (None, mask)
    masked = modulate(on_gradient, gradient)
    # Back in the types of before: a norm is wider than leaves of half precision.
    bounded = jax.tree.map(lambda c, g: c.astype(g.dtype), clip(masked, clip_norm).gradient, masked)
    steps, new_state = transformation(kind, momentum, weight_decay, second_momentum).update(bounded, state, params)
    # Traced hyperparameters are wider than a state of half precision, and the next update must find what this one did.
    new_state = jax.tree.map(lambda new, old: new.astype(old.dtype), new_state, state)
    kept = decayed(params, factor, on_update)
    return descend(kept, modulate(on_update, steps), learning_rate), new_state
