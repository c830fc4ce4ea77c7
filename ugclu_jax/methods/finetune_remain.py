"""Fine-tuning on remaining data: descent on the buffer (unlearning), or on buffer and new data mixed (learning).

    θ_{k+1} = θ_k − η_k (∇L_R(θ_k) + w θ_k)          (with momentum: see `ugclu_jax.optimizer`)

The simplest unlearning baseline of the field ("finetune", FT): it hopes that what is not rehearsed is forgotten.
"""

import functools
from collections.abc import Callable

from ugclu_jax.batches import from_buffer, from_mix, mixed_weights
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import preserving_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    teacher_targets,
    update,
)
from ugclu_jax.types import ApplyFn, Array, Batch, Examples, Info, Method, MethodState, ModelState, RequestKind


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
    hyper: DescentHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along `g_R` of an explicit batch.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> settings = DescentSettings()
    >>> step(start, {}, batch, 1.0, None, DescentHyper(0.5), apply_fn=linear, settings=settings)[0].params.tolist()
    [[0.25, -0.25]]
    """
    remain = preserving_gradient(
        apply_fn, carry.params, model_state, remain_batch, rng_key=rng_key, axis_name=axis_name
    )
    carry = update(carry, remain.gradient, hyper, settings, remaining_share)
    return carry, remain.model_state, Report(remain_loss=remain.loss)


def finetune_remain(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; learning draws class-balanced batches from buffer and new data, unlearning from the buffer alone.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request; `distillation` acts on unlearning alone.
        num_classes: C, for the class-balanced draw.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> method = finetune_remain(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2)
    >>> method.init({"w": 1.0}, {}).params
    {'w': 1.0}
    """

    def request(
        kind: RequestKind,
        rng_key: Array,
        state: MethodState,
        hyper: DescentHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        learning, shape = kind == "learn", (settings.remain_batch_size,)
        cumulative = mixed_weights(task, buffer, num_classes) if learning else None
        targets = None if learning else teacher_targets(apply_fn, state, hyper, settings, task, buffer)

        def draw(key: Array) -> Batch:
            if learning:
                return from_mix(key, task, buffer, cumulative, shape, axis_name=axis_name)
            return from_buffer(key, buffer, shape, targets=targets, axis_name=axis_name)

        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, 0 if learning else buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, functools.partial(request, "learn"), functools.partial(request, "unlearn"))
