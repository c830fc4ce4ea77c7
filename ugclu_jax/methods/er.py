"""Experience replay: every step descends the loss of new data plus the loss of buffer data.

    θ_{k+1} = θ_k − η_k (∇L_L(θ_k) + ∇L_R(θ_k) + w θ_k)

References: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", arXiv 1902.10486, ER with a reservoir.

Differences to the paper:
- The two losses are added, each the mean over its own batch; the paper takes one mean over both. For batches of one
  size the direction is the same and the step twice as long; with an empty buffer the step is that of fine-tuning.
- Two forward passes, the task's first: BatchNorm normalises each batch by itself, and its statistics follow both.
- New examples enter the buffer after the request, not while it runs: the buffer stands for what was learned before it.
- With `distillation` the network at the start of the request stands in for a part of the labels of buffer data (ours);
  classes that the buffer lacks and the request brings are deleted from what it says.
"""

import optax

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.stepping import DescentHyper, DescentSettings
from ugclu_jax.types import ApplyFn, Batch, Method


def direction(at: At, batches: Batches[Batch, Batch], hyper: DescentHyper) -> Direction:
    """`g_L + g_R` of a batch of new data and one of the buffer."""
    for_task, for_remain = at.split(2)
    task = for_task.gradient(batches.task)
    remain = for_remain._replace(model_state=task.model_state).gradient(batches.remain)
    gradient = optax.tree.add(task.gradient, remain.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def er(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings()) -> Method:
    """The method; it only learns.

    >>> er(lambda *a, **k: None).kinds
    ('learn',)
    """
    return descent("er", apply_fn, settings, learn=direction)
