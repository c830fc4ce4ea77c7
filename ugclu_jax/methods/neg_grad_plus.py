"""NegGrad+: ascent on what is to be removed and descent on remaining data, as one gradient.

    g = α ∇L_R(θ_k) − (1 − α) ∇L_U(θ_k)                  0 ≤ α ≤ 1
    θ_{k+1} = θ_k − η_k (g + w θ_k)                      (with momentum: see `ugclu_jax.optimizer`)

a step of descent on `α L_R − (1 − α) L_U`, both of them mean cross-entropies: the loss of remaining data is pulled down
with weight α, that of the task pushed up with weight 1 − α. α = 1 is fine-tuning on the buffer, α = 0 ascent alone.
It is the Euclidean combination of `components` with shares p_R = α, p_U = 1 − α and no mask.

Kurmanji et al. 2023 (Towards Unbounded Machine Unlearning, arXiv 2302.09880, NeurIPS). Nothing bounds the ascent.

Differences: remaining data are drawn from the bounded buffer, both batches with replacement. Both forward passes are in
training mode, but only the remaining batch's statistics are kept; those of the task are of what is to be removed.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import optax

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.ranges import SHARE
from ugclu_jax.stepping import DescentHyper, DescentSettings
from ugclu_jax.types import ApplyFn, Batch, Method, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NegGradPlusHyper(DescentHyper):
    """Continuous settings of NegGrad+, traced."""

    remain_weight: Annotated[Scalar, SHARE] = 0.92
    """α in [0, 1], weight of the descent on remaining data; the ascent on the task has 1 − α."""


def direction(at: At, batches: Batches[Batch, Batch], hyper: NegGradPlusHyper) -> Direction:
    """`α g_R − (1 − α) ∇L_U` of a batch of each."""
    task, remain = (here.gradient(batch) for here, batch in zip(at.split(2), batches, strict=True))
    descent_of_remain = optax.tree.scale(hyper.remain_weight, remain.gradient)
    gradient = optax.tree.add_scale(descent_of_remain, hyper.remain_weight - 1.0, task.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def neg_grad_plus(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings()) -> Method:
    """The method; it does not learn.

    >>> neg_grad_plus(lambda *a, **k: None).kinds
    ('unlearn',)
    """
    return descent("neg_grad_plus", apply_fn, settings, unlearn=direction, hyper=NegGradPlusHyper())
