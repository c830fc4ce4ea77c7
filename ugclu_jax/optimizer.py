"""First-order optimizers whose mask is explicit: what it multiplies, the gradient or the whole update.

    SGD     b ← μ b + (m ⊙ g + w θ),  θ ← θ − η b       mask on the gradient: b and w still move masked-out weights
            b ← μ b + (g + w θ),      θ ← θ − η m ⊙ b   mask on the update: a weight of mask 0 stays where it is
    AdamW   a ← μ a + (1 − μ) g,  c ← .999 c + .001 g²,  u = â / (√ĉ + 10⁻⁸) + w θ,  θ ← θ − η u;  masks likewise

`â` and `ĉ` are the moments divided by one minus their decay to the power of the number of updates so far.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.types import Array, Params, PyTree

OptimizerKind = Literal["sgd", "adamw"]
MaskScope = Literal["gradient", "update"]

_SECOND_DECAY = 0.999
_EPSILON = 1e-8


class OptimizerState(NamedTuple):
    """What one update hands to the next."""

    first: Params  # b of SGD, a of AdamW
    second: PyTree  # c of AdamW; () for SGD
    count: Array  # [] int32, updates so far


def init(kind: OptimizerKind, params: Params) -> OptimizerState:
    """The state before the first update: zeros.

    >>> import jax.numpy as jnp
    >>> init("sgd", jnp.ones(2)).first.tolist()
    [0.0, 0.0]
    """
    zeros = jax.tree.map(jnp.zeros_like, params)
    return OptimizerState(zeros, zeros if kind == "adamw" else (), jnp.zeros((), jnp.int32))


def update(
    kind: OptimizerKind,
    gradient: Params,
    state: OptimizerState,
    params: Params,
    *,
    learning_rate: Array | float,
    momentum: Array | float = 0.0,
    weight_decay: Array | float = 0.0,
    mask: PyTree | None = None,
    mask_applies_to: MaskScope = "gradient",
) -> tuple[Params, OptimizerState]:
    """One update, see the formulas at the top of this file.

    Args:
        kind: "sgd" or "adamw", static.
        gradient: tree like params.
        state: of the update before.
        params: θ.
        learning_rate: η ≥ 0.
        momentum: μ in [0, 1); the decay of AdamW's first moment.
        weight_decay: w ≥ 0; part of the gradient for SGD, apart from it for AdamW.
        mask: tree like params, or None for ones.
        mask_applies_to: what the mask multiplies, static.

    Returns:
        `(params, state)`.

    >>> import jax.numpy as jnp
    >>> theta, free = jnp.ones(2), jnp.array([1.0, 0.0])
    >>> for scope in ("gradient", "update"):
    ...     moved, _ = update("sgd", jnp.ones(2), init("sgd", theta), theta, learning_rate=0.5, weight_decay=0.5,
    ...                       mask=free, mask_applies_to=scope)
    ...     print(moved.tolist())
    [0.25, 0.75]
    [0.25, 1.0]

    References: arXiv 1711.05101 (AdamW). Published code of masked methods differs in what the mask multiplies.
    """
    if mask is not None and mask_applies_to == "gradient":
        gradient = jax.tree.map(jnp.multiply, mask, gradient)
    count = state.count + 1
    if kind == "sgd":
        first = jax.tree.map(lambda b, g, p: momentum * b + g + weight_decay * p, state.first, gradient, params)
        second, steps = (), first
    else:
        first = jax.tree.map(lambda a, g: momentum * a + (1 - momentum) * g, state.first, gradient)
        second = jax.tree.map(lambda c, g: _SECOND_DECAY * c + (1 - _SECOND_DECAY) * g**2, state.second, gradient)
        first_bias, second_bias = 1 - jnp.asarray(momentum) ** count, 1 - _SECOND_DECAY**count
        steps = jax.tree.map(
            lambda a, c, p: a / first_bias / (jnp.sqrt(c / second_bias) + _EPSILON) + weight_decay * p,
            first,
            second,
            params,
        )
    if mask is not None and mask_applies_to == "update":
        steps = jax.tree.map(jnp.multiply, mask, steps)
    new_params = jax.tree.map(lambda p, u: p - (learning_rate * u).astype(p.dtype), params, steps)
    first = jax.tree.map(lambda f, p: f.astype(p.dtype), first, params)
    return new_params, OptimizerState(first, second, count)
