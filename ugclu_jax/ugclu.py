"""UG-CLU as a `Method`: draws batches, takes saliency, runs the fast-slow loop. No formula of its own."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from ugclu_jax.batches import from_buffer, from_mix, from_task, mixed_weights
from ugclu_jax.bounded import bounded_coefficients, held_levels, task_targets
from ugclu_jax.buffer import Buffer
from ugclu_jax.coefficients import adaptive
from ugclu_jax.components import learning_gradient, preserving_gradient, unlearning_gradient
from ugclu_jax.distillation import evaluation_logits, targets_of
from ugclu_jax.euclidean import data_shares, euclidean_step
from ugclu_jax.fast_slow import FastSlowStep, fast_slow_step, request_loop
from ugclu_jax.saliency import STATISTICS, MaskKind, SaliencyKind, density, make_mask
from ugclu_jax.streaming import take
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Examples,
    Hyper,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
    RequestKind,
)

InnerData = Literal["buffer", "mixed"]
UnlearnLoss = Literal["ascent", "bounded", "target"]
Manifold = Literal["fast_slow", "euclidean"]


@dataclass(frozen=True)
class UGCLUSettings:
    """Static settings of one kind of request: a new value compiles a new program.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> UGCLUSettings(outer_steps=0)
    Traceback (most recent call last):
        ...
    ValueError: outer_steps must be at least 1, got 0
    """

    outer_steps: int = 100
    """K, outer steps of a request."""
    inner_steps: int = 2
    """K_in, inner steps on remaining data in each outer step."""
    task_batch_size: int = 64
    """Examples of the task in a fast step."""
    remain_batch_size: int = 64
    """Examples of an inner step."""
    inner_data: InnerData = "buffer"
    """Inner steps see the buffer alone, or a class-balanced mix of buffer and task (learning only)."""
    mask: MaskKind = "hard"
    """Saliency mask of the fast step."""
    saliency: SaliencyKind = "fisher"
    """Statistic behind the mask."""
    saliency_batches: int = 8
    """Batches of the task, and as many of the buffer, that the statistic reads."""
    coefficient_decay: bool = True
    """Whether the coefficients of the fast step fall with the share of the request that is left."""
    remain_decay: bool = True
    """Whether the learning rate of the inner steps falls with the share of the request that is left."""
    distillation: bool = False
    """Whether the network at the start of the request teaches the inner steps; they must see the buffer alone."""
    keep_fast_statistics: bool = False
    """Whether BatchNorm statistics of the fast step are kept; they are of one task only."""
    unlearn_loss: UnlearnLoss = "ascent"
    """The task's component when unlearning: the paper's ascent, or one with an end, see `bounded`; these read no λ."""
    manifold: Manifold = "fast_slow"
    """The fast-slow update, or K_in steps along the Euclidean direction, see `euclidean`; these read no β_Q, no α."""

    rematerialise: bool = False
    """Whether reverse-mode derivatives of a request compute steps again instead of keeping every activation."""

    def __post_init__(self) -> None:
        bounds = {"outer_steps": 1, "inner_steps": 0, "task_batch_size": 1, "remain_batch_size": 1}
        for name, least in {**bounds, "saliency_batches": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        choices = {"inner_data": InnerData, "mask": MaskKind, "saliency": SaliencyKind}
        for name, kind in {**choices, "unlearn_loss": UnlearnLoss, "manifold": Manifold}.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if self.distillation and self.inner_data != "buffer":
            raise ValueError(
                f"distillation needs inner_data 'buffer', got {self.inner_data!r}: the network at the start of the "
                "request knows nothing of the new data"
            )
        if self.manifold == "euclidean" and self.inner_steps == 0:
            raise ValueError("manifold 'euclidean' needs inner_steps of at least 1, got 0: it has no other steps")


def gradient_evaluations(settings: UGCLUSettings, capacity: int, task_rows: int = 0) -> float:
    """Cost of one request in units of `EVALUATION_EXAMPLES`, saliency and forward passes of θ_0 included.

    Args:
        settings: of the request.
        capacity: M; distillation and `unlearn_loss = "bounded"` share one forward pass over it.
        task_rows: P, padding included; `unlearn_loss = "target"` passes over them once.

    >>> gradient_evaluations(UGCLUSettings(outer_steps=1, inner_steps=2, mask="none"), capacity=0)
    3.0
    """
    saliency = 0 if settings.mask == "none" else 2 * settings.saliency_batches * settings.task_batch_size
    rows = capacity if settings.distillation or settings.unlearn_loss == "bounded" else 0
    rows += task_rows if settings.unlearn_loss == "target" else 0
    steps = settings.outer_steps * (settings.task_batch_size + settings.inner_steps * settings.remain_batch_size)
    return (saliency + FORWARD_COST * rows + steps) / EVALUATION_EXAMPLES


class StepInfo(NamedTuple):
    """What one outer step reports."""

    task_loss: Array  # [] mean loss of the task batch at θ_k
    update: FastSlowStep  # without its params and model_state, which are the carry


def step(
    params: Params,
    model_state: ModelState,
    task_batch: Batch,
    remain_batches: Batch,
    hyper: Hyper,
    *,
    kind: RequestKind,
    apply_fn: ApplyFn,
    mask: PyTree | None = None,
    remaining_share: Array | float = 1.0,
    coefficient_decay: bool = True,
    remain_decay: bool = True,
    keep_fast_statistics: bool = False,
    unlearn_loss: UnlearnLoss = "ascent",
    levels: Array | None = None,
    shares: tuple[Array | float, Array | float] | None = None,
    rng_key: Array | None = None,
    axis_name: str | None = None,
) -> tuple[Params, ModelState, StepInfo]:
    """One outer step of UG-CLU on explicit batches.

    Args:
        params, model_state: θ_k and the model's mutable statistics.
        task_batch: `[B]` examples to learn or to unlearn; with targets where the unlearning loss is "target".
        remain_batches: `[J, B]`, one batch an inner step.
        hyper: continuous settings.
        kind: "learn" or "unlearn".
        apply_fn: the model.
        mask: saliency mask, a tree like params, or None for ones.
        remaining_share: `e_k` in [0, 1].
        coefficient_decay, remain_decay: whether `e_k` scales the coefficients, and β_R.
        keep_fast_statistics: whether the statistics of the fast step's forward pass are kept.
        unlearn_loss: the component of an unlearn request.
        levels: `[C]` where the unlearning loss is "bounded", see `bounded.held_levels`.
        shares: `(p_R, p_Q)` of the data, for a Euclidean step; None for the fast-slow step.
        rng_key: for the model's own randomness, or None.
        axis_name: mapped axis that splits the batches.

    Returns:
        `(params, model_state, StepInfo)`.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> no_inner = jax.tree.map(lambda x: x[None][:0], batch)
    >>> hyper = Hyper(fast_learning_rate=1.0, clip_norm=jnp.inf)
    >>> step(jnp.zeros((1, 2)), {}, batch, no_inner, hyper, kind="unlearn", apply_fn=linear)[0].tolist()
    [[-0.5, 0.5]]

    References: arXiv 2505.15178, fast-slow weight adaptation with adaptive coefficients and saliency.
    """
    fast_key, inner_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    component = learning_gradient if kind == "learn" else unlearning_gradient
    decay = remaining_share if coefficient_decay else 1.0
    coefficient_fn = adaptive(kind, hyper.loss_exponent, decay, axis_name=axis_name)
    if kind == "unlearn" and unlearn_loss == "bounded":
        coefficient_fn = bounded_coefficients(levels[task_batch.labels], decay)
    if kind == "unlearn" and unlearn_loss == "target":
        component, coefficient_fn = learning_gradient, adaptive(kind, 0.0, decay, axis_name=axis_name)
    task = component(apply_fn, params, model_state, task_batch, coefficient_fn, rng_key=fast_key, axis_name=axis_name)

    def remain_gradient(
        params: Params, model_state: ModelState, x: tuple[Batch, Array]
    ) -> tuple[Params, ModelState, Array]:
        batch, j = x
        key = None if inner_key is None else jax.random.fold_in(inner_key, j)
        remain = preserving_gradient(apply_fn, params, model_state, batch, rng_key=key, axis_name=axis_name)
        gradient = jax.tree.map(lambda g, p: g + hyper.remain_weight_decay * p, remain.gradient, params)
        return gradient, remain.model_state, remain.loss

    share = remaining_share if remain_decay else 1.0
    remain_learning_rate = jax.tree.map(lambda rate: rate * share, hyper.remain_learning_rate)
    if shares is None:
        move = functools.partial(
            fast_slow_step,
            fast_learning_rate=hyper.fast_learning_rate,
            remain_learning_rate=remain_learning_rate,
            slow_step_size=hyper.slow_step_size,
        )
    else:
        move = functools.partial(euclidean_step, shares=shares, learning_rate=remain_learning_rate)
    update = move(
        params,
        task.model_state if keep_fast_statistics else model_state,
        task.gradient,
        remain_gradient,
        (remain_batches, jnp.arange(remain_batches.labels.shape[0])),
        mask=mask,
        clip_norm=hyper.clip_norm,
    )
    return update.params, update.model_state, StepInfo(task.loss, update._replace(params=(), model_state=()))


def saliency_mask(
    rng_key: Array,
    params: Params,
    model_state: ModelState,
    hyper: Hyper,
    task: Examples,
    buffer: Buffer,
    *,
    apply_fn: ApplyFn,
    settings: UGCLUSettings,
    axis_name: str | None = None,
) -> PyTree:
    """The mask of a request, from `saliency_batches` batches of the task and as many of the buffer at θ_0.

    Returns:
        A tree like params; ones where `settings.mask` is "none", where nothing is read.
    """
    if settings.mask == "none":
        return jax.tree.map(jnp.ones_like, params)
    task_key, remain_key = jax.random.split(rng_key)
    shape = (settings.saliency_batches, settings.task_batch_size)
    statistic = STATISTICS[settings.saliency]
    task_statistic, remain_statistic = (
        statistic(apply_fn, params, model_state, batches, axis_name=axis_name)
        for batches in (
            from_task(task_key, task, shape, axis_name=axis_name),
            from_buffer(remain_key, buffer, shape, axis_name=axis_name),
        )
    )
    return make_mask(settings.mask, task_statistic, remain_statistic, hyper.saliency_threshold, hyper.mask_temperature)


def ug_clu(
    apply_fn: ApplyFn,
    learn_settings: UGCLUSettings,
    unlearn_settings: UGCLUSettings,
    *,
    num_classes: int,
    on_step: Callable[[Array, int, PyTree], None] | None = None,
) -> Method:
    """UG-CLU as a method: the same update for learning and unlearning, with static settings for each.

    Args:
        apply_fn: the model.
        learn_settings, unlearn_settings: static settings; `inner_data` of an unlearn request must be "buffer",
            `unlearn_loss` of a learn request "ascent".
        num_classes: C, for the class-balanced mix of `inner_data = "mixed"`.
        on_step: progress function called with `(steps done, K, StepInfo)`, see `fast_slow.request_loop`.

    Raises:
        ValueError: `num_classes` below 2, inner steps of an unlearn request that would see what is to be removed, or
            an unlearning loss for a learn request.

    >>> ug_clu(lambda *a, **k: None, UGCLUSettings(), UGCLUSettings(inner_data="mixed"), num_classes=10)
    Traceback (most recent call last):
        ...
    ValueError: inner_data of an unlearn request must be 'buffer': 'mixed' would rehearse what is to be removed

    References: arXiv 2505.15178.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if unlearn_settings.inner_data != "buffer":
        raise ValueError(
            "inner_data of an unlearn request must be 'buffer': 'mixed' would rehearse what is to be removed"
        )
    if learn_settings.unlearn_loss != "ascent":
        raise ValueError(
            f"unlearn_loss of a learn request must be 'ascent', got {learn_settings.unlearn_loss!r}: "
            "learning does not read it"
        )

    def request(
        kind: RequestKind,
        settings: UGCLUSettings,
        rng_key: Array,
        state: MethodState,
        hyper: Hyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        saliency_key, loop_key = jax.random.split(rng_key)
        mask = saliency_mask(
            saliency_key,
            state.params,
            state.model_state,
            hyper,
            task,
            buffer,
            apply_fn=apply_fn,
            settings=settings,
            axis_name=axis_name,
        )
        mixed = mixed_weights(task, buffer, num_classes) if settings.inner_data == "mixed" else None
        start = functools.partial(evaluation_logits, apply_fn, state.params, state.model_state)
        targets, levels, unlearned = None, None, None
        if settings.distillation or settings.unlearn_loss == "bounded":
            logits = start(buffer.inputs, batch_size=settings.remain_batch_size)
            if settings.distillation:
                targets = targets_of(logits, task, buffer, hyper.distillation_weight)
            if settings.unlearn_loss == "bounded":
                levels = held_levels(logits, buffer)
        if settings.unlearn_loss == "target":
            size = settings.task_batch_size
            unlearned = task_targets(start(take(task.inputs, task.ids), batch_size=size), task, buffer, batch_size=size)
        shares = data_shares(buffer.count, task.count) if settings.manifold == "euclidean" else None
        inner_shape = (settings.inner_steps, settings.remain_batch_size)

        def draw(key: Array) -> tuple[Batch, Batch]:
            task_key, remain_key, _ = jax.random.split(key, 3)
            if mixed is None:
                remain_batches = from_buffer(remain_key, buffer, inner_shape, targets=targets, axis_name=axis_name)
            else:
                remain_batches = from_mix(remain_key, task, buffer, mixed, inner_shape, axis_name=axis_name)
            shape = (settings.task_batch_size,)
            return from_task(task_key, task, shape, targets=unlearned, axis_name=axis_name), remain_batches

        def outer_step(
            key: Array, params: Params, model_state: ModelState, batches: tuple[Batch, Batch], remaining_share: Array
        ) -> tuple[Params, ModelState, StepInfo]:
            _, _, model_key = jax.random.split(key, 3)
            return step(
                params,
                model_state,
                *batches,
                hyper,
                kind=kind,
                apply_fn=apply_fn,
                mask=mask,
                remaining_share=remaining_share,
                coefficient_decay=settings.coefficient_decay,
                remain_decay=settings.remain_decay,
                keep_fast_statistics=settings.keep_fast_statistics,
                unlearn_loss=settings.unlearn_loss,
                levels=levels,
                shares=shares,
                rng_key=model_key,
                axis_name=axis_name,
            )

        params, model_state, steps = request_loop(
            draw,
            outer_step,
            state.params,
            state.model_state,
            loop_key,
            settings.outer_steps,
            rematerialise=settings.rematerialise,
            on_step=on_step,
        )
        info = Info(
            task_losses=steps.task_loss,
            remain_losses=steps.update.remain_losses,
            fast_norms=steps.update.fast_norm,
            clipped=steps.update.clipped,
            displacement_norms=steps.update.displacement_norm,
            mask_density=density(mask),
            gradient_evaluations=jnp.asarray(
                gradient_evaluations(settings, buffer.ids.shape[0], task.ids.shape[0]), jnp.float32
            ),
        )
        return MethodState(params, model_state, state.extra), info

    return Method(
        MethodState,
        functools.partial(request, "learn", learn_settings),
        functools.partial(request, "unlearn", unlearn_settings),
    )
