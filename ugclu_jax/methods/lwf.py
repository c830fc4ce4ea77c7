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

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ugclu_jax.batches import from_task
from ugclu_jax.buffer import Buffer, filled
from ugclu_jax.components import batch_losses, weighted_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    refuse,
    refuse_distillation,
    update,
)
from ugclu_jax.losses import soft_cross_entropy
from ugclu_jax.ranges import POSITIVE, Interval
from ugclu_jax.types import (
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Examples,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LwFHyper(DescentHyper):
    """Continuous settings of LwF, traced."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "temperature": POSITIVE}

    old_class_weight: Scalar = 1.0
    """λ ≥ 0, weight of the teacher's term."""
    temperature: Scalar = 2.0
    """T > 0, divides the logits of both networks."""


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request; the teacher passes forward on every batch.

    >>> round(gradient_evaluations(DescentSettings(steps=10), capacity=100), 4)
    13.3333
    """
    return cost(settings, capacity, a_step=settings.task_batch_size * (1 + FORWARD_COST))


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


def step(
    carry: Carry,
    model_state: ModelState,
    task_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: LwFHyper,
    *,
    teacher: tuple[Params, ModelState],
    seen: Array,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update on an explicit batch; `teacher` is the network at the start and `seen [C]` the classes it knows.

    The reported loss is the whole L.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta, seen = jnp.zeros((1, 2)), jnp.array([True, True])
    >>> start, hyper = Carry(theta, optimizer.init("sgd", theta)), LwFHyper(0.5, temperature=1.0)
    >>> bound = functools.partial(step, teacher=(jnp.array([[-1e3, 1e3]]), {}), seen=seen, apply_fn=linear)
    >>> bound(start, {}, batch, 1.0, None, hyper, settings=DescentSettings())[0].params.tolist()  # it says the opposite
    [[0.0, 0.0]]

    References: arXiv 1606.09282, Figure 3.
    """
    teacher_logits, _ = apply_fn(*teacher, task_batch.inputs, train=False, rng_key=None)

    def losses_fn(logits: Array, batch: Batch) -> Array:
        taught = teacher_losses(logits, teacher_logits, seen, hyper.temperature)
        return batch_losses(logits, batch) + hyper.old_class_weight * taught

    task = weighted_gradient(
        apply_fn, carry.params, model_state, task_batch, losses_fn=losses_fn, rng_key=rng_key, axis_name=axis_name
    )
    return update(carry, task.gradient, hyper, settings, remaining_share), task.model_state, Report(task.loss)


def lwf(apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it only learns.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C.
        on_step: progress function, see `fast_slow.request_loop`.

    Raises:
        ValueError: `settings.distillation`, for no step is taken on the buffer.

    >>> method = lwf(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2)
    >>> method.init({"w": 1.0}, {}).params
    {'w': 1.0}
    """
    refuse_distillation("lwf", settings)

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: LwFHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        seen = jnp.zeros(num_classes, bool).at[buffer.labels].max(filled(buffer))

        def draw(key: Array) -> Batch:
            return from_task(key, task, (settings.task_batch_size,), axis_name=axis_name)

        bound = functools.partial(
            step,
            hyper=hyper,
            teacher=(state.params, state.model_state),
            seen=seen,
            apply_fn=apply_fn,
            settings=settings,
            axis_name=axis_name,
        )
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, learn, refuse("lwf", "unlearn"))
