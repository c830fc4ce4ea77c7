"""Gradient ascent on what is to be removed: unlearning by raising its loss, and nothing that holds the rest.

    g = −∇ mean_i ℓ_i(θ_k) over a batch of the task
    θ_{k+1} = θ_k − η_k (clip(g) + w θ_k)                (with momentum: see `ugclu_jax.optimizer`)

Golatkar et al. 2020 (arXiv 1911.04933, there "NegGrad") and Thudi et al. 2022 (Unrolling SGD, arXiv 2109.13398), "GA"
in the tables of the field. Unbounded by nature: few steps, a small rate, or a clip norm keep the network alive.

Differences: batches are drawn with replacement where the field goes through epochs. The forward pass is in evaluation
mode, as in the published experiments of arXiv 2409.19732: the model's statistics never see what is to be removed. The
buffer is not read, so `remain_batch_size` and `distillation` have no effect.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ugclu_jax.batches import from_task
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import weighted_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    clip,
    descend_request,
    refuse,
    update,
)
from ugclu_jax.ranges import NORM_BOUND, Interval
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    ApplyFn,
    Array,
    Batch,
    Examples,
    Info,
    Method,
    MethodState,
    ModelState,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GradientAscentHyper(DescentHyper):
    """Continuous settings of gradient ascent, traced."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "clip_norm": NORM_BOUND}

    learning_rate: Scalar = 0.01
    """η ≥ 0, learning rate at the start of the request."""
    clip_norm: Scalar = 1.0
    """> 0, largest global norm of the ascent; inf = no clipping."""


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request; nothing distils, for nothing is taken from the buffer.

    >>> gradient_evaluations(DescentSettings(steps=10, distillation=True), capacity=100)
    10.0
    """
    return settings.steps * settings.task_batch_size / EVALUATION_EXAMPLES


def step(
    carry: Carry,
    model_state: ModelState,
    task_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: GradientAscentHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update against the descent of an explicit batch; `rng_key` is not needed in evaluation mode.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper, settings = GradientAscentHyper(0.5, clip_norm=jnp.inf), DescentSettings()
    >>> step(start, {}, batch, 1.0, None, hyper, apply_fn=linear, settings=settings)[0].params.tolist()
    [[-0.25, 0.25]]
    """
    task = weighted_gradient(apply_fn, carry.params, model_state, task_batch, train=False, axis_name=axis_name)
    ascent = clip(jax.tree.map(jnp.negative, task.gradient), hyper.clip_norm)
    carry = update(carry, ascent.gradient, hyper, settings, remaining_share)
    return carry, model_state, Report(task_loss=task.loss, task_norm=ascent.norm, clipped=ascent.active)


def gradient_ascent(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C; every factory takes it, this method has no use for it.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> gradient_ascent(lambda *a, **k: None, DescentSettings(), num_classes=2).learn()
    Traceback (most recent call last):
        ...
    ValueError: gradient_ascent does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: GradientAscentHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        def draw(key: Array) -> Batch:
            return from_task(key, task, (settings.task_batch_size,), axis_name=axis_name)

        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, refuse("gradient_ascent", "learn"), unlearn)
