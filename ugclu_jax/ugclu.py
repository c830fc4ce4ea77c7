"""UG-CLU as a `Method`: draws batches, takes saliency, runs the fast-slow loop. No formula of its own."""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_mix, from_task, mixed_weights
from ugclu_jax.bounded import bounded_coefficients, held_levels, task_targets
from ugclu_jax.coefficients import adaptive
from ugclu_jax.components import check_num_classes, learning_gradient, unlearning_gradient
from ugclu_jax.distillation import targets_of
from ugclu_jax.euclidean import data_shares, euclidean_step
from ugclu_jax.fast_slow import FastSlowStep, fast_slow_step
from ugclu_jax.loop import Moment, request_loop
from ugclu_jax.prediction import predict
from ugclu_jax.ranges import NORM_BOUND, POSITIVE, SHARE
from ugclu_jax.saliency import STATISTICS, MaskKind, SaliencyKind, density, make_mask
from ugclu_jax.stepping import check_settings
from ugclu_jax.streaming import take
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    FORWARD_COST,
    HERE,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    Examples,
    Execution,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
    RequestKind,
    Scalar,
    UpdateFn,
)

InnerData = Literal["buffer", "mixed"]
UnlearnLoss = Literal["ascent", "bounded", "target"]
Manifold = Literal["fast_slow", "euclidean"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UGCLUHyper:
    """Every continuous setting of UG-CLU as a tree of scalars: traced, so one compiled program serves all values.

    A range stands beside a field where it is not [0, ∞); under a trace every field holds an array.
    """

    fast_learning_rate: Scalar = 0.03
    """β_Q ≥ 0, step size of the fast step on the task; in code also a tree, one a layer, see `trees.Rates`."""
    remain_learning_rate: Scalar = 0.15
    """β_R ≥ 0, step size of the inner steps on remaining data; likewise."""
    slow_step_size: Annotated[Scalar, SHARE] = 1.0
    """α in [0, 1], how far the parameters follow the inner steps."""
    loss_exponent: Scalar = 0.5
    """λ ≥ 0, how much the coefficients depend on the loss; 0 = not at all."""
    saliency_threshold: Scalar = 1.0
    """γ ≥ 0, threshold of the mask; 0 frees every weight."""
    mask_temperature: Annotated[Scalar, POSITIVE] = 1.0
    """τ > 0, of the soft and the straight-through mask."""
    clip_norm: Annotated[Scalar, NORM_BOUND] = 1.0
    """> 0, largest global norm of the masked task gradient; inf = no clipping."""
    remain_weight_decay: Scalar = 0.0
    """≥ 0, weight decay added to the remaining gradient."""
    distillation_weight: Annotated[Scalar, SHARE] = 0.5
    """δ in [0, 1], weight of the teacher against the labels in the inner steps; read where they distil."""


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
        sizes = {"outer_steps": 1, "inner_steps": 0, "task_batch_size": 1, "remain_batch_size": 1}
        choices = {"inner_data": InnerData, "mask": MaskKind, "saliency": SaliencyKind}
        more_choices = {"unlearn_loss": UnlearnLoss, "manifold": Manifold}
        check_settings(self, {**sizes, "saliency_batches": 1}, {**choices, **more_choices})
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


class TaskAndRemain(NamedTuple):
    """What one outer step reads."""

    task: Batch  # [B] examples to learn or to unlearn; with targets where the unlearning loss is "target"
    remain: Batch  # [J, B], one batch an inner step


class Known(NamedTuple):
    """What is made once a request, before its first step; the mask apart, which is `At.mask`."""

    levels: Array | None = None  # [C] where the unlearning loss is "bounded", see `bounded.held_levels`
    shares: tuple[Array | float, Array | float] | None = None  # (p_R, p_Q) of the data, for a Euclidean step


class StepInfo(NamedTuple):
    """What one outer step reports."""

    task_loss: Array  # [] mean loss of the task batch at θ_k
    update: FastSlowStep  # without its params and model_state, which are the carry


def step(
    at: At, batches: TaskAndRemain, hyper: UGCLUHyper, kind: RequestKind, settings: UGCLUSettings
) -> tuple[Params, ModelState, StepInfo]:
    """One outer step of UG-CLU on explicit batches.

    Args:
        at: θ_k, the model's mutable statistics, the moment, the mask, and as `at.known` a `Known` where one is needed.
        batches: what the step reads.
        hyper: continuous settings.
        kind: "learn" or "unlearn".
        settings: of the request; how many inner steps there are is read from the batches.

    Returns:
        `(params, model_state, StepInfo)`.

    Raises:
        ValueError: an unlearning loss that is bounded, and nothing known of what bounds it.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> no_inner = jax.tree.map(lambda x: x[None][:0], batch)
    >>> hyper = UGCLUHyper(fast_learning_rate=1.0, clip_norm=jnp.inf)
    >>> at, batches = At(linear, jnp.zeros((1, 2)), {}), TaskAndRemain(batch, no_inner)
    >>> step(at, batches, hyper, "unlearn", UGCLUSettings())[0].tolist()
    [[-0.5, 0.5]]

    References: arXiv 2505.15178, fast-slow weight adaptation with adaptive coefficients and saliency.
    """
    known: Known = Known() if at.known is None else at.known
    for_fast, for_inner = at.split(2)
    share, axis_name = at.moment.remaining_share, at.axis_name
    component = learning_gradient if kind == "learn" else unlearning_gradient
    decay = share if settings.coefficient_decay else 1.0
    coefficient_fn = adaptive(kind, hyper.loss_exponent, decay, axis_name=axis_name)
    if kind == "unlearn" and settings.unlearn_loss == "bounded":
        if known.levels is None:
            raise ValueError("at.known must hold levels for unlearn_loss 'bounded', got none: see bounded.held_levels")
        coefficient_fn = bounded_coefficients(known.levels[batches.task.labels], decay)
    if kind == "unlearn" and settings.unlearn_loss == "target":
        component, coefficient_fn = learning_gradient, adaptive(kind, 0.0, decay, axis_name=axis_name)
    task = component(
        at.apply_fn,
        at.params,
        at.model_state,
        batches.task,
        coefficient_fn,
        rng_key=for_fast.rng_key,
        axis_name=axis_name,
    )

    def remain_gradient(
        params: Params, model_state: ModelState, x: tuple[Batch, Array]
    ) -> tuple[Params, ModelState, Array]:
        batch, j = x
        key = None if for_inner.rng_key is None else jax.random.fold_in(for_inner.rng_key, j)
        remain = at._replace(params=params, model_state=model_state, rng_key=key).gradient(batch)
        gradient = jax.tree.map(lambda g, p: g + hyper.remain_weight_decay * p, remain.gradient, params)
        return gradient, remain.model_state, remain.loss

    remain_decay = share if settings.remain_decay else 1.0
    remain_learning_rate = jax.tree.map(lambda rate: rate * remain_decay, hyper.remain_learning_rate)
    if known.shares is None:
        move = functools.partial(
            fast_slow_step,
            fast_learning_rate=hyper.fast_learning_rate,
            remain_learning_rate=remain_learning_rate,
            slow_step_size=hyper.slow_step_size,
        )
    else:
        move = functools.partial(euclidean_step, shares=known.shares, learning_rate=remain_learning_rate)
    update = move(
        at.params,
        task.model_state if settings.keep_fast_statistics else at.model_state,
        task.gradient,
        remain_gradient,
        (batches.remain, jnp.arange(batches.remain.labels.shape[0])),
        mask=at.mask,
        clip_norm=hyper.clip_norm,
    )
    return update.params, update.model_state, StepInfo(task.loss, update._replace(params=(), model_state=()))


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
    if settings.distillation or settings.unlearn_loss == "bounded":
        logits = ask(buffer.inputs, batch_size=settings.remain_batch_size)
        if settings.distillation:
            targets = targets_of(logits, task, buffer, hyper.distillation_weight)
        if settings.unlearn_loss == "bounded":
            levels = held_levels(logits, buffer)
    if settings.unlearn_loss == "target":
        size = settings.task_batch_size
        unlearned = task_targets(ask(take(task.inputs, task.ids), batch_size=size), task, buffer, batch_size=size)
    shares = data_shares(buffer.count, task.count) if settings.manifold == "euclidean" else None
    return _Start(targets, unlearned, Known(levels, shares))


def _update(apply_fn: ApplyFn, num_classes: int, kind: RequestKind, settings: UGCLUSettings) -> UpdateFn:
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
        start = _ask_the_start(at, hyper, task, buffer, settings)

        def draw(task_key: Array, remain_key: Array) -> TaskAndRemain:
            if mixed is None:
                remain = from_buffer(remain_key, buffer, inner_shape, targets=start.targets, axis_name=where.axis_name)
            else:
                remain = from_mix(remain_key, task, buffer, mixed, inner_shape, axis_name=where.axis_name)
            drawn = from_task(task_key, task, task_shape, targets=start.unlearned, axis_name=where.axis_name)
            return TaskAndRemain(drawn, remain)

        def outer_step(
            key: Array, params: Params, model_state: ModelState, batches: TaskAndRemain, moment: Moment
        ) -> tuple[Params, ModelState, StepInfo]:
            here = at._replace(params=params, model_state=model_state, rng_key=key, moment=moment, known=start.known)
            return step(here, batches, hyper, kind, settings)

        params, model_state, steps = request_loop(
            draw,
            outer_step,
            state.params,
            state.model_state,
            loop_key,
            settings.outer_steps,
            keys=3,
            rematerialise=settings.rematerialise,
            on_step=where.on_step,
        )
        spent = gradient_evaluations(settings, buffer.ids.shape[0], task.ids.shape[0])
        info = Info(
            task_losses=steps.task_loss,
            remain_losses=steps.update.remain_losses,
            fast_norms=steps.update.fast_norm,
            clipped=steps.update.clipped,
            displacement_norms=steps.update.displacement_norm,
            mask_density=density(at.mask),
            gradient_evaluations=jnp.asarray(spent, jnp.float32),
        )
        return MethodState(params, model_state, state.extra), info

    return serve


def ug_clu(
    apply_fn: ApplyFn,
    learn_settings: UGCLUSettings = UGCLUSettings(),
    unlearn_settings: UGCLUSettings = UGCLUSettings(),
    *,
    num_classes: int,
) -> Method:
    """UG-CLU as a method: the same update for learning and unlearning, with static settings for each.

    Args:
        apply_fn: the model.
        learn_settings, unlearn_settings: static settings; `inner_data` of an unlearn request must be "buffer",
            `unlearn_loss` of a learn request "ascent".
        num_classes: C, for the class-balanced mix of `inner_data = "mixed"`.

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
    settings: dict[RequestKind, UGCLUSettings] = {"learn": learn_settings, "unlearn": unlearn_settings}

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        return gradient_evaluations(settings[kind], capacity, task_rows)

    learn, unlearn = (_update(apply_fn, num_classes, kind, each) for kind, each in settings.items())
    hypers = {kind: UGCLUHyper() for kind in settings}
    steps_on_buffer = tuple(kind for kind, each in settings.items() if kind == "unlearn" and each.inner_steps > 0)
    return Method("ug_clu", learn, unlearn, hypers, cost, apply_fn=apply_fn, rehearses=steps_on_buffer)
