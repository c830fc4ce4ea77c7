"""ℓ1-sparse unlearning: fine-tuning on remaining data with a penalty that drives weights to zero, and fades.

    g = ∇L_R(θ_k) + γ e_k sign(θ_k),   e_k = 1 − k/K     the gradient of L_R + γ e_k ‖θ‖₁
    θ_{k+1} = θ_k − η_k (g + w θ_k)                      (with momentum: see `ugclu_jax.optimizer`)

Jia, Liu et al. 2023 (Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934, NeurIPS); γ falls linearly to
0. The norm is that of every parameter, and `sign(0) = 0`: a subgradient, not a proximal step. γ = 0 is
`finetune_remain`.

Differences: remaining data are drawn from the bounded buffer with replacement, and γ falls with each step where the
published code lets it fall with each epoch. The task is not read, so `task_batch_size` has no effect.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ugclu_jax.batches import from_buffer
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import preserving_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    refuse,
    teacher_targets,
    update,
)
from ugclu_jax.types import ApplyFn, Array, Batch, Examples, Info, Method, MethodState, ModelState, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class L1SparseHyper(DescentHyper):
    """Continuous settings of ℓ1-sparse unlearning, traced."""

    l1_weight: Scalar = 0.02
    """γ ≥ 0, weight of the ℓ1 norm at the start of the request."""


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=100)
    10.0
    """
    return cost(settings, capacity, a_step=settings.remain_batch_size)


def step(
    carry: Carry,
    model_state: ModelState,
    remain_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: L1SparseHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along `g_R + γ e_k sign(θ)` of an explicit batch.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> padding = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.zeros(1))  # leaves the penalty alone
    >>> theta = jnp.array([[1.0, 0.0]])
    >>> start, settings = Carry(theta, optimizer.init("sgd", theta)), DescentSettings(schedule="constant")
    >>> hyper = L1SparseHyper(0.5, l1_weight=0.5)
    >>> step(start, {}, padding, 0.5, None, hyper, apply_fn=linear, settings=settings)[0].params.tolist()
    [[0.875, 0.0]]
    """
    remain = preserving_gradient(
        apply_fn, carry.params, model_state, remain_batch, rng_key=rng_key, axis_name=axis_name
    )
    weight = hyper.l1_weight * remaining_share
    direction = jax.tree.map(lambda g, p: g + weight * jnp.sign(p), remain.gradient, carry.params)
    carry = update(carry, direction, hyper, settings, remaining_share)
    return carry, remain.model_state, Report(remain_loss=remain.loss)


def l1_sparse(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C; every factory takes it, this method has no use for it.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> l1_sparse(lambda *a, **k: None, DescentSettings(), num_classes=2).learn()
    Traceback (most recent call last):
        ...
    ValueError: l1_sparse does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: L1SparseHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        targets = teacher_targets(apply_fn, state, hyper, settings, task, buffer)

        def draw(key: Array) -> Batch:
            return from_buffer(key, buffer, (settings.remain_batch_size,), targets=targets, axis_name=axis_name)

        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, refuse("l1_sparse", "learn"), unlearn)
