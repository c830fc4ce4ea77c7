"""Sequential fine-tuning: descent on the new data alone. The lower bound of continual learning: nothing is rehearsed.

    θ_{k+1} = θ_k − η_k (∇L_L(θ_k) + w θ_k)          (with momentum: see `ugclu_jax.optimizer`)

Differences to the literature: none; the buffer is not read.
"""

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.stepping import StepHyper, TaskSettings
from ugclu_jax.types import ApplyFn, Batch, Method


def direction(at: At, batches: Batches[Batch, None], hyper: StepHyper) -> Direction:
    """`g_L` of a batch of new data."""
    task = at.gradient(batches.task)
    return Direction(task.gradient, task.model_state, Report(task.loss))


def finetune(apply_fn: ApplyFn, settings: TaskSettings = TaskSettings()) -> Method:
    """The method; it only learns.

    >>> finetune(lambda *a, **k: None).kinds
    ('learn',)
    """
    return descent("finetune", apply_fn, settings, learn=direction, reads="task")
