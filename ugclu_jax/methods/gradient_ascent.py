"""Gradient ascent on what is to be removed: unlearning by raising its loss, and nothing that holds the rest.

    g = −∇ mean_i ℓ_i(θ_k) over a batch of the task
    θ_{k+1} = θ_k − η_k (clip(g) + w θ_k)                (with momentum: see `ugclu_jax.optimizer`)

Golatkar et al. 2020 (arXiv 1911.04933, there "NegGrad") and Thudi et al. 2022 (Unrolling SGD, arXiv 2109.13398), "GA"
in the tables of the field. Unbounded by nature: few steps, a small rate, or a clip norm keep the network alive.

Differences: batches are drawn with replacement where the field goes through epochs. The forward pass is in evaluation
mode, as in the published experiments of arXiv 2409.19732: the model's statistics never see what is to be removed. The
buffer is not read.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.ranges import NORM_BOUND
from ugclu_jax.stepping import StepHyper, TaskSettings
from ugclu_jax.trees import clip
from ugclu_jax.types import ApplyFn, Batch, Method, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientAscentHyper(StepHyper):
    """Continuous settings of gradient ascent, traced."""

    learning_rate: Scalar = 0.01
    """η ≥ 0, learning rate at the start of the request."""
    clip_norm: Annotated[Scalar, NORM_BOUND] = 1.0
    """> 0, largest global norm of the ascent; inf = no clipping."""


def direction(at: At, batches: Batches[Batch, None], hyper: GradientAscentHyper) -> Direction:
    """`clip(−∇L)` of a batch to remove, in evaluation mode."""
    task = at.gradient(batches.task, train=False)
    ascent = clip(jax.tree.map(jnp.negative, task.gradient), hyper.clip_norm)
    report = Report(task_loss=task.loss, task_norm=ascent.norm, clipped=ascent.active)
    return Direction(ascent.gradient, at.model_state, report)


def gradient_ascent(apply_fn: ApplyFn, settings: TaskSettings = TaskSettings()) -> Method:
    """The method; it does not learn.

    >>> gradient_ascent(lambda *a, **k: None).kinds
    ('unlearn',)
    """
    return descent("gradient_ascent", apply_fn, settings, unlearn=direction, hyper=GradientAscentHyper(), reads="task")
