"""The request of an optimizer-based method: K steps on drawn batches. Knows no method's formula.

Every reference method is a `step` on explicit batches; this file draws for it, scans it and reports.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, get_args

import jax
import jax.numpy as jnp

from ugclu_jax import optimizer
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.buffer import Buffer
from ugclu_jax.distillation import remain_targets
from ugclu_jax.fast_slow import global_norm, request_loop
from ugclu_jax.optimizer import MaskScope, OptimizerKind, OptimizerState
from ugclu_jax.ranges import MOMENTUM, SHARE, Interval
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Examples,
    Info,
    MethodState,
    ModelState,
    Params,
    PyTree,
    RequestKind,
    Scalar,
)

Schedule = Literal["constant", "linear", "cosine"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DescentHyper:
    """Continuous settings that every optimizer-based method has, traced.

    Ranges are checked by `ugclu_jax.ranges.check_hyper`; a method states those of its own settings beside these.
    """

    ranges: ClassVar[Mapping[str, Interval]] = {"momentum": MOMENTUM, "distillation_weight": SHARE}

    learning_rate: Scalar = 0.05
    """η ≥ 0, learning rate at the start of the request."""
    momentum: Scalar = 0.0
    """μ in [0, 1)."""
    weight_decay: Scalar = 0.0
    """w ≥ 0, weight decay."""
    distillation_weight: Scalar = 0.5
    """δ in [0, 1], weight of the network at the start against the labels of remaining data; read where they distil."""


@dataclass(frozen=True)
class DescentSettings:
    """Static settings that every optimizer-based method has: a new value compiles a new program.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> DescentSettings(steps=-1)
    Traceback (most recent call last):
        ...
    ValueError: steps must be at least 0, got -1
    """

    steps: int = 100
    """Updates of a request."""
    task_batch_size: int = 64
    """Examples of the task in a step."""
    remain_batch_size: int = 64
    """Examples of the buffer in a step."""
    schedule: Schedule = "linear"
    """How the learning rate falls to 0 over the request."""
    optimizer: OptimizerKind = "sgd"
    """sgd or adamw; its state starts anew with every request."""
    distillation: bool = False
    """Whether the network at the start of the request teaches the steps on the buffer."""

    rematerialise: bool = False
    """Whether reverse-mode derivatives of a request compute steps again instead of keeping every activation."""

    def __post_init__(self) -> None:
        sizes = {"steps": 0, "task_batch_size": 1, "remain_batch_size": 1}
        check_settings(self, sizes, {"schedule": Schedule, "optimizer": OptimizerKind})


def check_settings(settings: DescentSettings, sizes: dict[str, int], choices: dict[str, Any]) -> None:
    """Refuse sizes below their least value, and values that are none of a `Literal`.

    Raises:
        ValueError: naming the setting, its rule and the value.

    >>> check_settings(DescentSettings(), {}, {"schedule": Literal["exponential"]})
    Traceback (most recent call last):
        ...
    ValueError: schedule must be one of exponential, got 'linear'
    """
    for name, least in sizes.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(settings, name)}")
    for name, kind in choices.items():
        if getattr(settings, name) not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(settings, name)!r}")


class Carry(NamedTuple):
    """What one step hands to the next, the model's mutable statistics apart."""

    params: Params
    optimizer: OptimizerState


class Batches(NamedTuple):
    """What one step reads."""

    task: Batch  # [B] examples of the request
    remain: Batch  # [B] examples of the buffer


class Report(NamedTuple):
    """What one step tells; None where a method has no such part."""

    task_loss: Array | None = None  # [] mean loss of the task batch
    remain_loss: Array | None = None  # [] mean loss of the batch of the buffer
    task_norm: Array | None = None  # [] global norm of the task's gradient, masked and unclipped
    clipped: Array | None = None  # [] bool, whether that gradient was clipped


Step = Callable[[Carry, ModelState, PyTree, Array, Array], tuple[Carry, ModelState, Report]]
"""`(carry, model_state, batches, remaining_share, rng_key) -> (carry, model_state, report)`."""


def rate(schedule: Schedule, remaining_share: Array | float) -> Array | float:
    """What the learning rate is multiplied by when a share e of the request is left: 1, e, or ½(1 + cos π(1 − e)).

    >>> round(float(rate("cosine", 0.5)), 4), rate("linear", 0.25), rate("constant", 0.25)
    (0.5, 0.25, 1.0)
    """
    if schedule == "cosine":
        return 0.5 * (1 + jnp.cos(math.pi * (1 - jnp.asarray(remaining_share))))
    return remaining_share if schedule == "linear" else 1.0


def update(
    carry: Carry,
    gradient: Params,
    hyper: DescentHyper,
    settings: DescentSettings,
    remaining_share: Array | float,
    *,
    mask: PyTree | None = None,
    mask_applies_to: MaskScope = "gradient",
) -> Carry:
    """One update of the optimizer along a gradient, at the rate of the schedule.

    >>> import jax.numpy as jnp
    >>> carry = Carry(jnp.ones(1), optimizer.init("sgd", jnp.ones(1)))
    >>> update(carry, jnp.ones(1), DescentHyper(learning_rate=0.5), DescentSettings(), 0.5).params.tolist()
    [0.75]
    """
    params, state = optimizer.update(
        settings.optimizer,
        gradient,
        carry.optimizer,
        carry.params,
        learning_rate=hyper.learning_rate * rate(settings.schedule, remaining_share),
        momentum=hyper.momentum,
        weight_decay=hyper.weight_decay,
        mask=mask,
        mask_applies_to=mask_applies_to,
    )
    return Carry(params, state)


class Clipped(NamedTuple):
    """A gradient of bounded length."""

    gradient: Params
    norm: Array  # [] global norm before
    active: Array  # [] bool, whether it was longer than the bound


def clip(gradient: Params, clip_norm: Array | float) -> Clipped:
    """`g / max(1, ‖g‖ / c)`: the gradient, no longer than c in its global norm; c = ∞ leaves it as it is.

    >>> import jax.numpy as jnp
    >>> clip(jnp.array([3.0, 4.0]), 2.5).gradient.tolist()
    [1.5, 2.0]
    """
    norm = global_norm(gradient)
    excess = jnp.maximum(1.0, norm / clip_norm)
    return Clipped(jax.tree.map(lambda g: g / excess, gradient), norm, norm > clip_norm)


def teacher_targets(
    apply_fn: ApplyFn,
    state: MethodState,
    hyper: DescentHyper,
    settings: DescentSettings,
    task: Examples,
    buffer: Buffer,
) -> Array | None:
    """`[M, C]` targets of the buffer's rows where the settings distil, see `distillation.remain_targets`; else None."""
    if not settings.distillation:
        return None
    weight, size = hyper.distillation_weight, settings.remain_batch_size
    return remain_targets(apply_fn, state.params, state.model_state, task, buffer, weight, batch_size=size)


def draw_pair(
    rng_key: Array,
    task: Examples,
    buffer: Buffer,
    settings: DescentSettings,
    *,
    targets: Array | None = None,
    axis_name: str | None = None,
) -> Batches:
    """A batch of the task and one of the buffer, both uniform."""
    task_key, remain_key = jax.random.split(rng_key)
    return Batches(
        from_task(task_key, task, (settings.task_batch_size,), axis_name=axis_name),
        from_buffer(remain_key, buffer, (settings.remain_batch_size,), targets=targets, axis_name=axis_name),
    )


def pairs(
    apply_fn: ApplyFn,
    state: MethodState,
    hyper: DescentHyper,
    settings: DescentSettings,
    task: Examples,
    buffer: Buffer,
    *,
    relabelled: Examples | None = None,
    axis_name: str | None = None,
) -> Callable[[Array], Batches]:
    """The `draw` of `descend_request` for most methods: `draw_pair`, with a teacher's targets where they distil.

    Args:
        apply_fn: the model.
        state: at the start of the request.
        hyper, settings: of the request.
        task: its examples.
        buffer: what remains.
        relabelled: what task batches are drawn from, if not from the task itself.
        axis_name: mapped axis of devices.
    """
    targets = teacher_targets(apply_fn, state, hyper, settings, task, buffer)
    drawn = task if relabelled is None else relabelled
    return lambda key: draw_pair(key, drawn, buffer, settings, targets=targets, axis_name=axis_name)


def refuse(name: str, kind: RequestKind) -> Callable[..., Any]:
    """The `learn` of a method that only unlearns, or the reverse.

    >>> refuse("salun", "learn")()
    Traceback (most recent call last):
        ...
    ValueError: salun does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def refusal(*args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(f"{name} does not {kind}: combine it with a method that does, see ugclu_jax.learner.combine")

    return refusal


def descend_request(
    draw: Callable[[Array], PyTree],
    step: Step,
    rng_key: Array,
    state: MethodState,
    settings: DescentSettings,
    gradient_evaluations: float,
    *,
    mask_density: PyTree | None = None,
    on_step: Callable | None = None,
) -> tuple[MethodState, Info]:
    """`settings.steps` steps from `state`, with a fresh optimizer.

    Args:
        draw: `rng_key -> batches`.
        step: see `Step`.
        rng_key: of the request, consumed.
        state: at the start; its `extra` is handed on.
        settings: static.
        gradient_evaluations: of the whole request, see `cost`.
        mask_density: share of weights that may change, one scalar a leaf; None = all.
        on_step: progress function, see `fast_slow.request_loop`.

    Returns:
        `(state, Info)`.

    >>> import jax, jax.numpy as jnp
    >>> def halve(carry, model_state, batches, share, key):
    ...     return carry._replace(params=carry.params / 2), model_state, Report()
    >>> start = MethodState(jnp.ones(1), {})
    >>> end, _ = descend_request(lambda key: (), halve, jax.random.key(0), start, DescentSettings(steps=3), 0.0)
    >>> end.params.tolist()
    [0.125]
    """

    def draw_batches(key: Array) -> PyTree:
        data_key, _ = jax.random.split(key)
        return draw(data_key)

    def outer_step(
        key: Array, carry: Carry, model_state: ModelState, batches: PyTree, share: Array
    ) -> tuple[Carry, ModelState, tuple[Report, Array]]:
        _, model_key = jax.random.split(key)
        new, model_state, report = step(carry, model_state, batches, share, model_key)
        return new, model_state, (report, global_norm(jax.tree.map(jnp.subtract, new.params, carry.params)))

    carry = Carry(state.params, optimizer.init(settings.optimizer, state.params))
    carry, model_state, (report, moved) = request_loop(
        draw_batches,
        outer_step,
        carry,
        state.model_state,
        rng_key,
        settings.steps,
        rematerialise=settings.rematerialise,
        on_step=on_step,
    )
    density = jax.tree.map(lambda _: jnp.ones(()), state.params) if mask_density is None else mask_density

    nothing = jnp.zeros((0,))
    info = Info(
        task_losses=nothing if report.task_loss is None else report.task_loss,
        remain_losses=jnp.zeros((0, 0)) if report.remain_loss is None else report.remain_loss[:, None],
        fast_norms=nothing if report.task_norm is None else report.task_norm,
        clipped=nothing > 0 if report.clipped is None else report.clipped,
        displacement_norms=moved,
        mask_density=density,
        gradient_evaluations=jnp.asarray(gradient_evaluations, jnp.float32),
    )
    return MethodState(carry.params, model_state, state.extra), info


def cost(settings: DescentSettings, capacity: int, *, a_step: float, once: float = 0.0) -> float:
    """Cost of a request in units of `EVALUATION_EXAMPLES`, the teacher's forward passes over the buffer included.

    Args:
        settings: of the request.
        capacity: M.
        a_step: examples that pass forward and backward in a step; one that only passes forward counts `FORWARD_COST`.
        once: examples that pass once a request, likewise.

    >>> cost(DescentSettings(steps=2, distillation=True), 192, a_step=128)
    5.0
    """
    teacher = FORWARD_COST * capacity if settings.distillation else 0.0
    return (once + teacher + settings.steps * a_step) / EVALUATION_EXAMPLES


def refuse_distillation(name: str, settings: DescentSettings) -> None:
    """Refuse the setting where a method has no labels of buffer data in its loss that a teacher could replace.

    Raises:
        ValueError: `settings.distillation` is on.

    >>> refuse_distillation("ewc", DescentSettings(distillation=True))
    Traceback (most recent call last):
        ...
    ValueError: distillation must be False for ewc, got True: no label of the buffer enters its loss
    """
    if settings.distillation:
        raise ValueError(f"distillation must be False for {name}, got True: no label of the buffer enters its loss")
