"""UG-CLU as a `Method`: draws batches, takes saliency, runs the fast-slow loop. No formula of its own."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ugclu_jax import midpoints
from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_mix, from_task, mixed_weights
from ugclu_jax.bounded import held_levels, task_targets
from ugclu_jax.components import check_num_classes
from ugclu_jax.distillation import departed_classes, targets_of
from ugclu_jax.euclidean import data_shares
from ugclu_jax.loop import Moment, request_loop
from ugclu_jax.midpoints import midpoint_targets
from ugclu_jax.prediction import predict
from ugclu_jax.saliency import STATISTICS, density, make_mask
from ugclu_jax.stepping import Carry
from ugclu_jax.streaming import take
from ugclu_jax.types import (
    HERE,
    ApplyFn,
    Array,
    Buffer,
    Examples,
    Execution,
    Info,
    Method,
    MethodState,
    ModelState,
    PyTree,
    RequestKind,
    UpdateFn,
)
from ugclu_jax.ugclu_settings import (
    LEARNING,
    LEARNING_HYPER,
    UNLEARNING,
    UNLEARNING_HYPER,
    UGCLUHyper,
    UGCLUSettings,
    gradient_evaluations,
)
from ugclu_jax.ugclu_step import Known, StepInfo, TaskAndRemain, start, step


def saliency_mask(
    rng_key: Array, at: At, hyper: UGCLUHyper, task: Examples, buffer: Buffer, settings: UGCLUSettings
) -> PyTree:
    """The mask of a request, from `saliency_batches` batches of the task and as many of the buffer at θ_0.

    Returns:
        A tree like params; ones where `settings.mask` is "none", where nothing is read.
    """
    if settings.mask == "none":
        return jax.tree.map(jnp.ones_like, at.params)
    task_key, remain_key = jax.random.split(rng_key)
    shape = (settings.saliency_batches, settings.task_batch_size)
    task_statistic, remain_statistic = (
        STATISTICS[settings.saliency](at.apply_fn, at.params, at.model_state, batches, axis_name=at.axis_name)
        for batches in (
            from_task(task_key, task, shape, axis_name=at.axis_name),
            from_buffer(remain_key, buffer, shape, axis_name=at.axis_name),
        )
    )
    return make_mask(settings.mask, task_statistic, remain_statistic, hyper.saliency_threshold, hyper.mask_temperature)


class _Start(NamedTuple):
    """What the network at the start of a request says of buffer and task, where the settings ask it."""

    targets: Array | None  # [M, C] that teach the inner steps
    unlearned: Array | None  # [P, C] that stand in for the labels of what is to be removed
    known: Known


def _ask_the_start(at: At, hyper: UGCLUHyper, task: Examples, buffer: Buffer, settings: UGCLUSettings) -> _Start:
    ask = functools.partial(predict, at.apply_fn, at.params, at.model_state)
    targets, levels, unlearned = None, None, None
    by_class = settings.levels == "class"
    if settings.distillation or (settings.unlearn_loss == "bounded" and by_class):
        logits = ask(buffer.inputs, batch_size=settings.remain_batch_size)
        if settings.distillation:
            targets = targets_of(logits, task, buffer, hyper.distillation_weight)
        if settings.unlearn_loss == "bounded" and by_class:
            levels = held_levels(logits, buffer)
    if settings.unlearn_loss == "target" and by_class:
        size = settings.task_batch_size
        unlearned = task_targets(ask(take(task.inputs, task.ids), batch_size=size), task, buffer, batch_size=size)
    shares = data_shares(buffer.count, task.count) if settings.manifold == "euclidean" else None
    return _Start(targets, unlearned, Known(levels, shares))


def _update(
    apply_fn: ApplyFn,
    num_classes: int,
    kind: RequestKind,
    settings: UGCLUSettings,
    preconditioner: optax.GradientTransformation | None,
) -> UpdateFn:
    """How UG-CLU serves one kind of request."""
    task_shape, inner_shape = (settings.task_batch_size,), (settings.inner_steps, settings.remain_batch_size)

    def serve(
        rng_key: Array,
        state: MethodState,
        hyper: UGCLUHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        check_num_classes(num_classes, apply_fn, state.params, state.model_state, task.inputs)
        saliency_key, loop_key = jax.random.split(rng_key)
        at = At(apply_fn, state.params, state.model_state, axis_name=where.axis_name)
        at = at._replace(mask=saliency_mask(saliency_key, at, hyper, task, buffer, settings))
        mixed = mixed_weights(task, buffer, num_classes) if settings.inner_data == "mixed" else None
        begun = _ask_the_start(at, hyper, task, buffer, settings)
        departed = departed_classes(task, buffer, num_classes) if settings.levels == "midpoint" else None

        def draw(task_key: Array, remain_key: Array) -> TaskAndRemain:
            axis, teacher = where.axis_name, begun.targets
            if mixed is None:
                remain = from_buffer(remain_key, buffer, inner_shape, targets=teacher, axis_name=axis)
            else:
                remain = from_mix(remain_key, task, buffer, mixed, inner_shape, targets=teacher, axis_name=axis)
            if settings.fast_step == "none":
                return TaskAndRemain(None, remain)
            drawn = from_task(task_key, task, task_shape, targets=begun.unlearned, axis_name=axis)
            return TaskAndRemain(drawn, remain)

        def outer_step(
            key: Array, carry: Carry, model_state: ModelState, batches: TaskAndRemain, moment: Moment
        ) -> tuple[Carry, ModelState, StepInfo]:
            here = at._replace(model_state=model_state, rng_key=key, moment=moment, known=begun.known)
            if departed is not None and batches.task is not None:
                ends = midpoint_targets(*at[:3], batches.task.inputs, buffer, departed)
                batches = batches._replace(task=batches.task._replace(targets=ends))
            return step(here, carry, batches, hyper, kind, settings, preconditioner)

        carry, model_state, steps = request_loop(
            draw,
            outer_step,
            start(state.params, settings, preconditioner),
            state.model_state,
            loop_key,
            settings.outer_steps,
            keys=3,
            rematerialise=settings.rematerialise,
            on_step=where.on_step,
            until=where.until,
        )
        spent = gradient_evaluations(settings, buffer.ids.shape[0], task.ids.shape[0])
        info = Info(
            remain_losses=steps.update.remain_losses,
            displacement_norms=steps.update.displacement_norm,
            mask_density=density(at.mask),
            gradient_evaluations=jnp.asarray(spent, jnp.float32),
        )
        if settings.fast_step != "none":
            told = steps.update
            info = info._replace(task_losses=steps.task_loss, fast_norms=told.fast_norm, clipped=told.clipped)
        return MethodState(carry.params, model_state, state.extra), info

    return serve


def ug_clu(
    apply_fn: ApplyFn,
    learn_settings: UGCLUSettings = LEARNING,
    unlearn_settings: UGCLUSettings = UNLEARNING,
    *,
    num_classes: int,
    preconditioner: optax.GradientTransformation | None = None,
) -> Method:
    """UG-CLU as a method: the same update for learning and unlearning, with static settings for each.

    Args:
        apply_fn: the model.
        learn_settings, unlearn_settings: static settings; `inner_data` of an unlearn request must be "buffer",
            `unlearn_loss` of a learn request "ascent".
        num_classes: C, for the class-balanced mix of `inner_data = "mixed"`.
        preconditioner: of the inner steps, any of optax's that gives what is subtracted, as its `scale_by_…` do; None =
            that of the settings.

    Raises:
        ValueError: `num_classes` below 2, inner steps of an unlearn request that would see what is to be removed, or
            an unlearning loss for a learn request.

    >>> ug_clu(lambda *a, **k: None, UGCLUSettings(), UGCLUSettings(inner_data="mixed"), num_classes=10)
    Traceback (most recent call last):
        ...
    ValueError: inner_data of an unlearn request must be 'buffer': 'mixed' would rehearse what is to be removed

    References: arXiv 2505.15178; budget, preconditioner and decay of the defaults are ours, the paper's own form is
    `ug_clu_plain`.
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
    settings: dict[RequestKind, UGCLUSettings] = {"learn": learn_settings, "unlearn": unlearn_settings}

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        return gradient_evaluations(settings[kind], capacity, task_rows)

    learn, unlearn = (_update(apply_fn, num_classes, kind, each, preconditioner) for kind, each in settings.items())
    hypers: dict[RequestKind, UGCLUHyper] = {"learn": LEARNING_HYPER, "unlearn": UNLEARNING_HYPER}
    steps_on_buffer = tuple(kind for kind, each in settings.items() if kind == "unlearn" and each.inner_steps > 0)
    method = Method("ug_clu", learn, unlearn, hypers, cost, apply_fn=apply_fn, rehearses=steps_on_buffer)
    return method._replace(check=midpoints.check) if unlearn_settings.levels == "midpoint" else method
