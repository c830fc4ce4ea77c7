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

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax

from ugclu_jax.buffer import Buffer
from ugclu_jax.components import Shares, euclidean_direction, preserving_gradient, unlearning_gradient
from ugclu_jax.descent import (
    Batches,
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    pairs,
    refuse,
    update,
)
from ugclu_jax.ranges import SHARE, Interval
from ugclu_jax.types import ApplyFn, Array, Examples, Info, Method, MethodState, ModelState, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NegGradPlusHyper(DescentHyper):
    """Continuous settings of NegGrad+, traced."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "remain_weight": SHARE}

    remain_weight: Scalar = 0.92
    """α in [0, 1], weight of the descent on remaining data; the ascent on the task has 1 − α."""


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=100)
    20.0
    """
    return cost(settings, capacity, a_step=settings.task_batch_size + settings.remain_batch_size)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: NegGradPlusHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along `α g_R + (1 − α) g_U` of explicit batches, `g_U` being the ascent.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> from ugclu_jax.types import Batch
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> task, remain = (Batch(jnp.ones((1, 1)), jnp.array([y]), jnp.ones(1)) for y in (0, 1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper, settings = NegGradPlusHyper(0.5, remain_weight=0.75), DescentSettings()
    >>> step(start, {}, Batches(task, remain), 1.0, None, hyper, apply_fn=linear, settings=settings)[0].params.tolist()
    [[-0.25, 0.25]]
    """
    task_key, remain_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    at = (apply_fn, carry.params, model_state)
    task = unlearning_gradient(*at, batches.task, rng_key=task_key, axis_name=axis_name)
    remain = preserving_gradient(*at, batches.remain, rng_key=remain_key, axis_name=axis_name)
    shares = Shares(remain=hyper.remain_weight, unlearn=1.0 - hyper.remain_weight)
    direction = euclidean_direction(shares, remain=remain.gradient, unlearn=task.gradient)
    carry = update(carry, direction, hyper, settings, remaining_share)
    return carry, remain.model_state, Report(task_loss=task.loss, remain_loss=remain.loss)


def neg_grad_plus(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C; every factory takes it, this method has no use for it.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> neg_grad_plus(lambda *a, **k: None, DescentSettings(), num_classes=2).learn()
    Traceback (most recent call last):
        ...
    ValueError: neg_grad_plus does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: NegGradPlusHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, axis_name=axis_name)
        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, refuse("neg_grad_plus", "learn"), unlearn)
