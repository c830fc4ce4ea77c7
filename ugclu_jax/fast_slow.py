"""The fast-slow update: a fast task step, inner steps on remaining data, a slow interpolation. Knows no loss, no data.

    fast:   θ^Q   = θ_k − β_Q · clip( m ⊙ g_Q )
    inner:  θ^R_0 = θ^Q;  θ^R_{j+1} = θ^R_j − β_R ∇L_R(θ^R_j)      j = 0 … J−1
    slow:   θ_{k+1} = θ_k − α (θ_k − θ^R_J)                        0 ≤ α ≤ 1

On a quadratic `L_R = ½(θ−θ̄)ᵀH(θ−θ̄)` the ends of the inner steps without and with the fast step differ by exactly
`β_Q (I − β_R H)^J g`: a filter that removes the task step where the remaining loss is curved and passes it where it is
flat, a regularised `H_R^{-1}` up to scale.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ugclu_jax.components import modulate
from ugclu_jax.decay import decayed
from ugclu_jax.trees import Rates, clip, descend, global_norm
from ugclu_jax.types import Array, ModelState, Params, PyTree

RemainGradientFn = Callable[[Params, ModelState, PyTree], tuple[Params, ModelState, Array]]
"""`(params, model_state, x_j) -> (gradient, new_model_state, loss)` on the j-th slice of the inner inputs."""


class FastStep(NamedTuple):
    """Result of the fast step."""

    fast_params: Params
    norm: Array  # [] global norm of m ⊙ g_Q before clipping
    clipped: Array  # [] bool


class InnerSteps(NamedTuple):
    """Result of preconditioned inner steps."""

    params: Params  # θ^R_J
    model_state: ModelState
    preconditioner_state: optax.OptState
    losses: Array  # [J]


class FastSlowStep(NamedTuple):
    """Result of one outer step."""

    params: Params
    model_state: ModelState
    remain_losses: Array  # [J]
    fast_norm: Array  # []
    clipped: Array  # [] bool
    displacement_norm: Array  # [] ‖θ_{k+1} − θ_k‖


def fast_step(
    params: Params,
    direction: Params,
    *,
    mask: PyTree | None = None,
    fast_learning_rate: Rates,
    clip_norm: Array | float = jnp.inf,
) -> FastStep:
    """`θ^Q = θ − β_Q · clip(m ⊙ g_Q)`, clipped to a global norm after the mask. Plain descent: nothing leaks round it.

    Args:
        params: θ.
        direction: `g_Q`, the learning or unlearning component; its sign is already that of a descent.
        mask: tree like params, or None for ones.
        fast_learning_rate: β_Q ≥ 0, see `Rates`.
        clip_norm: largest global norm, > 0; infinity switches clipping off.

    >>> import jax.numpy as jnp
    >>> step = fast_step(jnp.zeros(2), jnp.array([3.0, 4.0]), fast_learning_rate=1.0, clip_norm=2.5)
    >>> step.fast_params.tolist(), float(step.norm), bool(step.clipped)
    ([-1.5, -2.0], 5.0, True)

    References: arXiv 2505.15178, fast-slow weight adaptation.
    """
    step = clip(modulate(mask, direction), clip_norm)
    return FastStep(descend(params, step.gradient, fast_learning_rate), step.norm, step.active)


def inner_steps(
    fast_params: Params,
    model_state: ModelState,
    remain_gradient: RemainGradientFn,
    remain_inputs: PyTree,
    *,
    remain_learning_rate: Rates,
) -> tuple[Params, ModelState, Array]:
    """`θ^R_{j+1} = θ^R_j − β_R ∇L_R(θ^R_j)`, one `lax.scan` over the leading axis J of `remain_inputs`.

    Args:
        fast_params: `θ^R_0 = θ^Q`.
        model_state: mutable statistics, updated by every inner step.
        remain_gradient: gradient of the remaining loss on one slice of `remain_inputs`.
        remain_inputs: any tree with leading axis J (batches, or keys to draw them from); J = 0 returns `fast_params`.
        remain_learning_rate: β_R ≥ 0, see `Rates`.

    Returns:
        `(θ^R_J, model_state, losses [J])`.

    >>> import jax.numpy as jnp
    >>> quadratic = lambda params, state, x: (params, state, 0.5 * jnp.sum(params**2))
    >>> inner_steps(jnp.ones(1), {}, quadratic, jnp.zeros(3), remain_learning_rate=0.5)[0].tolist()
    [0.125]
    """

    identity = optax.identity()
    steps = preconditioned(
        fast_params,
        model_state,
        remain_gradient,
        remain_inputs,
        remain_learning_rate=remain_learning_rate,
        preconditioner=identity,
        preconditioner_state=identity.init(fast_params),
    )
    return steps.params, steps.model_state, steps.losses


def preconditioned(
    fast_params: Params,
    model_state: ModelState,
    remain_gradient: RemainGradientFn,
    remain_inputs: PyTree,
    *,
    remain_learning_rate: Rates,
    preconditioner: optax.GradientTransformation,
    preconditioner_state: optax.OptState,
    rate_factors: Array | float = 1.0,
    decay_factors: Array | float = 1.0,
) -> InnerSteps:
    """`θ^R_{j+1} = d_j θ^R_j − β_R f_j P_j(∇L_R(θ^R_j))`, one `lax.scan` over the leading axis J of `remain_inputs`.

    With a fixed linear P and no decay the filter of a quadratic, see the top of this file, becomes
    `β_Q Π_j (I − β_R f_j P H) g`. `optax.identity()` and factors of 1 are `inner_steps`, bit for bit.

    Args:
        fast_params, model_state, remain_gradient, remain_inputs, remain_learning_rate: as in `inner_steps`.
        preconditioner: P, any of optax's or one's own; it gives what is subtracted, as optax's `scale_by_…` do.
        preconditioner_state: of the steps before, at first `preconditioner.init(params)`.
        rate_factors: `f [J]`, or one for all.
        decay_factors: `d [J]`, or one for all, see `decay_budget`.

    >>> import jax.numpy as jnp, optax
    >>> quadratic = lambda params, state, x: (params, state, 0.5 * jnp.sum(params**2))
    >>> halved, theta = optax.scale(0.5), jnp.ones(1)
    >>> steps = preconditioned(theta, {}, quadratic, jnp.zeros(2), remain_learning_rate=1.0, preconditioner=halved,
    ...                        preconditioner_state=halved.init(theta))
    >>> steps.params.tolist()
    [0.25]

    References: ours; the paper's inner steps are those of gradient descent.
    """
    number = jax.tree.leaves(remain_inputs)[0].shape[0]
    rates_and_decays = (jnp.broadcast_to(rate_factors, (number,)), jnp.broadcast_to(decay_factors, (number,)))

    def body(
        carry: tuple[Params, ModelState, optax.OptState], x: tuple[PyTree, tuple[Array, Array]]
    ) -> tuple[tuple[Params, ModelState, optax.OptState], Array]:
        params, state, optimizer = carry
        given, (rate_factor, decay_factor) = x
        gradient, state, loss = remain_gradient(params, state, given)
        step, new = preconditioner.update(gradient, optimizer, params)
        optimizer = jax.tree.map(lambda new, old: new.astype(old.dtype), new, optimizer)
        rates = jax.tree.map(lambda rate: rate * rate_factor, remain_learning_rate)
        return (descend(decayed(params, decay_factor), step, rates), state, optimizer), loss

    carry, losses = lax.scan(body, (fast_params, model_state, preconditioner_state), (remain_inputs, rates_and_decays))
    return InnerSteps(*carry, losses)


def slow_step(params: Params, remain_params: Params, slow_step_size: Array | float) -> Params:
    """`θ_{k+1} = θ_k − α (θ_k − θ^R)`: linear interpolation towards the end of the inner steps.

    Args:
        params: θ_k, before the outer step.
        remain_params: θ^R, after the inner steps.
        slow_step_size: α, in [0, 1] as a rule; 0 stays, 1 takes the end of the inner steps.

    Returns:
        A tree like params.

    References: arXiv 2505.15178; it is the slow update of Lookahead (Zhang et al. 2019, arXiv 1907.08610).

    >>> import jax.numpy as jnp
    >>> slow_step(jnp.array([0.0]), jnp.array([2.0]), 0.5).tolist()
    [1.0]
    """
    return descend(params, jax.tree.map(jnp.subtract, params, remain_params), slow_step_size)


def fast_slow_step(
    params: Params,
    model_state: ModelState,
    direction: Params,
    remain_gradient: RemainGradientFn,
    remain_inputs: PyTree,
    *,
    mask: PyTree | None = None,
    fast_learning_rate: Rates,
    remain_learning_rate: Rates,
    slow_step_size: Array | float = 1.0,
    clip_norm: Array | float = jnp.inf,
) -> FastSlowStep:
    """One outer step: fast, inner, slow. Arguments as in the three functions it is made of.

    Degenerate settings: α = 1 and J = 0 is plain descent along `direction`; α = 0 changes no parameter; a direction of
    zeros is replay fine-tuning with step size α.

    >>> import jax.numpy as jnp
    >>> flat = lambda params, state, x: (jnp.zeros_like(params), state, jnp.zeros(()))
    >>> step = fast_slow_step(jnp.zeros(1), {}, jnp.ones(1), flat, jnp.zeros(2),
    ...                       fast_learning_rate=0.5, remain_learning_rate=0.1)
    >>> step.params.tolist()  # no curvature: the task step passes whole
    [-0.5]

    References: arXiv 2505.15178, fast-slow weight adaptation and Proposition 3.
    """
    fast = fast_step(params, direction, mask=mask, fast_learning_rate=fast_learning_rate, clip_norm=clip_norm)
    remain_params, model_state, losses = inner_steps(
        fast.fast_params, model_state, remain_gradient, remain_inputs, remain_learning_rate=remain_learning_rate
    )
    new_params = slow_step(params, remain_params, slow_step_size)
    displacement = global_norm(jax.tree.map(jnp.subtract, new_params, params))
    return FastSlowStep(new_params, model_state, losses, fast.norm, fast.clipped, displacement)
