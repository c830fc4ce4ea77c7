"""ℓ1-sparse unlearning: fine-tuning on remaining data with a penalty that drives weights to zero, and fades.

    g = ∇L_R(θ_k) + γ e_k sign(θ_k),   e_k = 1 − k/K     the gradient of L_R + γ e_k ‖θ‖₁
    θ_{k+1} = θ_k − η_k (g + w θ_k)                      (with momentum: see `ugclu_jax.optimizer`)

Jia, Liu et al. 2023 (Model Sparsity Can Simplify Machine Unlearning, arXiv 2304.04934, NeurIPS); γ falls linearly to
0. The norm is that of every parameter, and `sign(0) = 0`: a subgradient, not a proximal step. γ = 0 is
`finetune_remain`.

Differences: remaining data are drawn from the bounded buffer with replacement, and γ falls with each step where the
published code lets it fall with each epoch. The task is not read.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.stepping import BufferSettings, DescentHyper
from ugclu_jax.types import ApplyFn, Batch, Method, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class L1SparseHyper(DescentHyper):
    """Continuous settings of ℓ1-sparse unlearning, traced."""

    l1_weight: Scalar = 0.02
    """γ ≥ 0, weight of the ℓ1 norm at the start of the request."""


def direction(at: At, batches: Batches[None, Batch], hyper: L1SparseHyper) -> Direction:
    """`g_R + γ e_k sign(θ)` of a batch of the buffer."""
    remain = at.gradient(batches.remain)
    weight = hyper.l1_weight * at.moment.remaining_share
    gradient = jax.tree.map(lambda g, p: g + weight * jnp.sign(p), remain.gradient, at.params)
    return Direction(gradient, remain.model_state, Report(remain_loss=remain.loss))


def l1_sparse(apply_fn: ApplyFn, settings: BufferSettings = BufferSettings()) -> Method:
    """The method; it does not learn.

    >>> l1_sparse(lambda *a, **k: None).kinds
    ('unlearn',)
    """
    return descent("l1_sparse", apply_fn, settings, unlearn=direction, hyper=L1SparseHyper(), reads="buffer")
