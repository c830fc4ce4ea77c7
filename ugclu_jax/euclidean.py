"""The Euclidean outer step (Proposition 1): what the fast-slow update is compared with, at the same cost.

    θ_{j+1} = θ_j − β_R [ p_R · g_R(θ_j) + p_Q · clip( m ⊙ g_Q(θ_k) ) ]      θ_0 = θ_k,  j = 0 … J−1

The same batches as in a fast-slow outer step, each differentiated once: one task gradient, at the start of the outer
step, and J gradients of remaining data. Where the fast-slow update takes the task step first and lets the inner steps
undo it where the remaining loss is curved, this one adds the two, in the ratio of the shares of the data.
"""

import functools

import jax
import jax.numpy as jnp

from ugclu_jax.components import Shares, euclidean_direction, modulate
from ugclu_jax.fast_slow import FastSlowStep, RemainGradientFn, inner_steps
from ugclu_jax.trees import clip, global_norm
from ugclu_jax.types import Array, ModelState, Params, PyTree


def data_shares(remain_count: Array, task_count: Array) -> tuple[Array, Array]:
    """`(p_R, p_Q)`: how many examples each stands for, as shares of both together; `(1, 0)` where there are none.

    >>> import jax.numpy as jnp
    >>> [float(share) for share in data_shares(jnp.array(300), jnp.array(100))]
    [0.75, 0.25]
    """
    task_share = task_count / jnp.maximum(remain_count + task_count, 1)
    return 1.0 - task_share, task_share


def toward_both(
    remain_gradient: RemainGradientFn, task_gradient: Params, shares: tuple[Array | float, Array | float]
) -> RemainGradientFn:
    """`p_R g_R(θ_j) + p_Q g` in place of `g_R(θ_j)`, for inner steps along the Euclidean direction.

    Args:
        remain_gradient: as in `fast_slow.inner_steps`.
        task_gradient: g, masked and clipped.
        shares: `(p_R, p_Q)`.

    >>> import jax.numpy as jnp
    >>> slope = lambda params, state, x: (jnp.ones(1), state, jnp.zeros(()))
    >>> toward_both(slope, -jnp.ones(1), (0.75, 0.25))(jnp.zeros(1), {}, None)[0].tolist()
    [0.5]
    """
    combine = functools.partial(euclidean_direction, Shares(shares[0], learn=shares[1]), learn=task_gradient)

    def gradient(params: Params, model_state: ModelState, x: PyTree) -> tuple[Params, ModelState, Array]:
        remain, model_state, loss = remain_gradient(params, model_state, x)
        return combine(remain=remain), model_state, loss

    return gradient


def euclidean_step(
    params: Params,
    model_state: ModelState,
    direction: Params,
    remain_gradient: RemainGradientFn,
    remain_inputs: PyTree,
    *,
    shares: tuple[Array | float, Array | float],
    mask: PyTree | None = None,
    learning_rate: Array | float,
    clip_norm: Array | float = jnp.inf,
) -> FastSlowStep:
    """One outer step of J steps along the Euclidean direction.

    Args:
        params, model_state: θ_k and the model's mutable statistics.
        direction: `g_Q`, the learning or unlearning component; its sign is already that of a descent.
        remain_gradient, remain_inputs: as in `fast_slow.inner_steps`.
        shares: `(p_R, p_Q)`.
        mask: tree like params, or None for ones.
        learning_rate: β_R ≥ 0.
        clip_norm: largest global norm of `m ⊙ g_Q`, > 0.

    Returns:
        What a fast-slow step reports; `fast_norm` is the norm of `m ⊙ g_Q`.

    >>> import jax.numpy as jnp
    >>> slope = lambda params, state, x: (jnp.ones(1), state, jnp.zeros(()))
    >>> step = euclidean_step(jnp.zeros(1), {}, -jnp.ones(1), slope, jnp.zeros(2), shares=(0.75, 0.25),
    ...                       learning_rate=1.0)
    >>> step.params.tolist()  # −2 (0.75 − 0.25)
    [-1.0]

    References: arXiv 2505.15178, Proposition 1.
    """
    task = clip(modulate(mask, direction), clip_norm)
    gradient = toward_both(remain_gradient, task.gradient, shares)
    new_params, model_state, losses = inner_steps(
        params, model_state, gradient, remain_inputs, remain_learning_rate=learning_rate
    )
    displacement = global_norm(jax.tree.map(jnp.subtract, new_params, params))
    return FastSlowStep(new_params, model_state, losses, task.norm, task.active, displacement)
