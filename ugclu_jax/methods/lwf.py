"""Learning without forgetting: on new data, the network at the start of the request teaches the classes seen before.

    L = mean_i [ ℓ_i − λ Σ_{c∈S} q_ic log p_ic ]      q = softmax_S(z⁰/T),  p = softmax_S(z/T)

over a batch of new data, `z⁰` the logits of the network at the start of the request and `softmax_S` that over the
classes S seen before. With S empty, as in the first request, it is fine-tuning.

References: Li and Hoiem, "Learning without Forgetting", TPAMI 2017, arXiv 1606.09282, equations 2 and 3, T = 2, λ = 1.

Differences to the paper:
- One head: `ℓ_i` is the cross-entropy over all classes; the paper has a head for each task, and a sum over them.
- No warm-up of the new head, and no retraining of the old.
- S is what the buffer holds an example of: its labels are read, its inputs are not. So a class that left is no longer
  taught. A small buffer may lack a class that is retained.
- The teacher is queried as batches are drawn, in evaluation mode, not once for all new data.
- As in the paper, no factor T² makes up for the gradient's 1/T.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.buffer import filled
from ugclu_jax.components import batch_losses
from ugclu_jax.descent import Batches, Direction, Prepared, Report, descent
from ugclu_jax.losses import soft_cross_entropy
from ugclu_jax.ranges import POSITIVE
from ugclu_jax.stepping import StepHyper, TaskSettings, check_reads
from ugclu_jax.types import FORWARD_COST, ApplyFn, Array, Batch, Buffer, Examples, Method, ModelState, Params, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LwFHyper(StepHyper):
    """Continuous settings of LwF, traced."""

    old_class_weight: Scalar = 1.0
    """λ ≥ 0, weight of the teacher's term."""
    temperature: Annotated[Scalar, POSITIVE] = 2.0
    """T > 0, divides the logits of both networks."""


class Past(NamedTuple):
    """What is known of it at the start of a request."""

    teacher: tuple[Params, ModelState]
    seen: Array  # [C] bool, S


def teacher_losses(logits: Array, teacher_logits: Array, seen: Array, temperature: Array | float) -> Array:
    """`−Σ_{c∈S} q_c log p_c` of each example, 0 where S is empty.

    Args:
        logits: [B, C] of the network that learns.
        teacher_logits: [B, C]; constants of the gradient.
        seen: [C] bool, S.
        temperature: T > 0.

    Returns:
        [B] losses.

    >>> z = jnp.array([[0.0, 0.0, 9.0]])
    >>> bool(jnp.allclose(teacher_losses(z, z, jnp.array([True, True, False]), 2.0), jnp.log(2.0)))
    True

    References: arXiv 1606.09282, equations 2 and 3.
    """

    def soften(z: Array) -> Array:
        # Finite, so that the softmax over no class at all is not NaN.
        return jnp.where(seen, z / temperature, jnp.finfo(z.dtype).min)

    losses = soft_cross_entropy(soften(logits), jax.nn.softmax(soften(teacher_logits)))
    return jnp.where(jnp.any(seen), losses, 0.0)


def direction(at: At, batches: Batches[Batch, None], hyper: LwFHyper) -> Direction:
    """The gradient of L on a batch of new data; `at.known` is a `Past`.

    The reported loss is the whole L.

    References: arXiv 1606.09282, Figure 3.
    """
    past: Past = at.known
    teacher_logits = at.logits(past.teacher, batches.task.inputs)

    def losses_fn(logits: Array, batch: Batch) -> Array:
        taught = teacher_losses(logits, teacher_logits, past.seen, hyper.temperature)
        return batch_losses(logits, batch) + hyper.old_class_weight * taught

    task = at.gradient(batches.task, losses_fn=losses_fn)
    return Direction(task.gradient, task.model_state, Report(task.loss))


def lwf(apply_fn: ApplyFn, settings: TaskSettings = TaskSettings(), *, num_classes: int) -> Method:
    """The method; it only learns.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C.

    >>> lwf(lambda *a, **k: None, num_classes=2).kinds
    ('learn',)
    """
    check_reads("lwf", settings, TaskSettings)

    def prepare(at: At, hyper: LwFHyper, task: Examples, buffer: Buffer) -> Prepared:
        seen = jnp.zeros(num_classes, bool).at[buffer.labels].max(filled(buffer))
        return Prepared(task, Past((at.params, at.model_state), seen))

    return descent(
        "lwf",
        apply_fn,
        settings,
        learn=direction,
        hyper=LwFHyper(),
        reads="task",
        prepare=prepare,
        num_classes=num_classes,
        a_step=settings.task_batch_size * (1 + FORWARD_COST),
    )
