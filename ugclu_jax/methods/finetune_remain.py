"""Fine-tuning on remaining data: plain SGD on the buffer (unlearning), or on buffer and new data mixed (learning).

    θ_{k+1} = θ_k − η_k (∇L_R(θ_k) + w θ_k),   η_k = η · e_k where the rate decays

The simplest unlearning baseline of the field ("finetune", FT): it hopes that what is not rehearsed is forgotten.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ugclu_jax.batches import from_buffer, from_mix, mixed_weights
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import preserving_gradient
from ugclu_jax.fast_slow import descend, global_norm, request_loop
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
    Params,
    RequestKind,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FinetuneHyper:
    """Continuous settings, traced."""

    remain_learning_rate: Scalar = 0.05
    """η ≥ 0, learning rate."""
    remain_weight_decay: Scalar = 0.0
    """w ≥ 0, weight decay."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Static settings: a new value compiles a new program."""

    steps: int = 100
    batch_size: int = 64
    decay: bool = True  # η falls linearly to 0 over the request


def step(
    params: Params,
    model_state: ModelState,
    remain_batch: Batch,
    hyper: FinetuneHyper,
    *,
    apply_fn: ApplyFn,
    remaining_share: Array | float = 1.0,
    rng_key: Array | None = None,
    axis_name: str | None = None,
) -> tuple[Params, ModelState, Array]:
    """One step `θ − η e (g_R + w θ)` on an explicit batch; returns `(params, model_state, loss)`.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> step(jnp.zeros((1, 2)), {}, batch, FinetuneHyper(0.5), apply_fn=linear)[0].tolist()
    [[0.25, -0.25]]
    """
    remain = preserving_gradient(apply_fn, params, model_state, remain_batch, rng_key=rng_key, axis_name=axis_name)
    gradient = jax.tree.map(lambda g, p: g + hyper.remain_weight_decay * p, remain.gradient, params)
    new_params = descend(params, gradient, hyper.remain_learning_rate * remaining_share)
    return new_params, remain.model_state, remain.loss


def finetune_remain(
    apply_fn: ApplyFn, settings: FinetuneSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; learning draws class-balanced batches from buffer and new data, unlearning from the buffer alone.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request.
        num_classes: C, for the class-balanced draw.
        on_step: progress function, see `fast_slow.request_loop`.

    Raises:
        ValueError: `steps` below 0 or `batch_size` below 1.

    >>> finetune_remain(lambda *a, **k: None, FinetuneSettings(steps=-1), num_classes=2)
    Traceback (most recent call last):
        ...
    ValueError: steps must be at least 0, got -1
    """
    if settings.steps < 0:
        raise ValueError(f"steps must be at least 0, got {settings.steps}")
    if settings.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {settings.batch_size}")

    def request(
        kind: RequestKind,
        rng_key: Array,
        state: MethodState,
        hyper: FinetuneHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        cumulative = mixed_weights(task, buffer, num_classes) if kind == "learn" else None

        def outer_step(key: Array, params: Params, model_state: ModelState, share: Array) -> tuple:
            data_key, model_key = jax.random.split(key)
            shape = (settings.batch_size,)
            if cumulative is None:
                batch = from_buffer(data_key, buffer, shape, axis_name=axis_name)
            else:
                batch = from_mix(data_key, task, buffer, cumulative, shape, axis_name=axis_name)
            new_params, model_state, loss = step(
                params,
                model_state,
                batch,
                hyper,
                apply_fn=apply_fn,
                remaining_share=share if settings.decay else 1.0,
                rng_key=model_key,
                axis_name=axis_name,
            )
            return new_params, model_state, (loss, global_norm(jax.tree.map(jnp.subtract, new_params, params)))

        params, model_state, (losses, moved) = request_loop(
            outer_step, state.params, state.model_state, rng_key, settings.steps, on_step=on_step
        )
        empty = jnp.zeros((0,))
        density = jax.tree.map(lambda _: jnp.ones(()), params)
        evaluations = jnp.asarray(settings.steps * settings.batch_size / EVALUATION_EXAMPLES)
        info = Info(empty, losses[:, None], empty, empty > 0, moved, density, evaluations)
        return MethodState(params, model_state, state.extra), info

    return Method(MethodState, functools.partial(request, "learn"), functools.partial(request, "unlearn"))
