"""One optimizer step of a request: its settings, its schedule, its update. Knows no loss and no data."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from ugclu_jax import optimizer
from ugclu_jax.decay import decay_budget
from ugclu_jax.optimizer import SECOND_MOMENTUM, MaskScope, OptimizerKind
from ugclu_jax.ranges import KEPT_SHARE, MOMENTUM, NORM_BOUND, SHARE
from ugclu_jax.types import Array, Params, PyTree, Scalar

Schedule = Literal["constant", "linear", "cosine"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepHyper:
    """Continuous settings of every optimizer step, traced; a range stands beside a field where it is not [0, ∞).

    `kept_share` ρ decays beside the optimizer, θ ← ρ^s θ − η u, with s the step's part of the sum of the rates of the
    request, also at a rate of 0: see `ugclu_jax.decay`. A step that a method does not take decays nothing.
    """

    learning_rate: Scalar = 0.05
    """η ≥ 0, learning rate at the start of the request."""
    momentum: Annotated[Scalar, MOMENTUM] = 0.0
    """μ in [0, 1)."""
    weight_decay: Scalar = 0.0
    """w ≥ 0, weight decay."""
    second_momentum: Annotated[Scalar, MOMENTUM] = SECOND_MOMENTUM
    """ν in [0, 1), decay of the second moment; read where the optimizer is adamw."""
    step_clip_norm: Annotated[Scalar, NORM_BOUND] = math.inf
    """> 0, largest global norm of the gradient that the optimizer gets, after a mask on it; inf = no clipping."""
    kept_share: Annotated[Scalar, KEPT_SHARE] = 1.0
    """ρ in (0, 1], what a request leaves of a weight that no gradient touches, whatever its rates; 1 = all of it."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DescentHyper(StepHyper):
    """Continuous settings of a method in whose loss labels of the buffer stand, traced."""

    distillation_weight: Annotated[Scalar, SHARE] = 0.5
    """δ in [0, 1], weight of the network at the start against the labels of remaining data; read where they distil."""


def registered(hyper: Any) -> Any:
    """Hyperparameters that JAX knows for a tree of scalars, whether their author registered the class or not.

    >>> @dataclass(frozen=True)
    ... class MineHyper(DescentHyper):
    ...     task_weight: float = 0.1
    >>> len(jax.tree.leaves(registered(MineHyper())))
    8
    """
    if dataclasses.is_dataclass(hyper) and jax.tree.leaves(hyper) == [hyper]:
        jax.tree_util.register_dataclass(type(hyper))
    return hyper


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Static settings of every optimizer-based method: a new value compiles a new program.

    Raises:
        ValueError: a size below its bound, or an unknown choice.
    """

    steps: int = 100
    """Updates of a request."""
    schedule: Schedule = "linear"
    """How the learning rate falls to 0 over the request."""
    optimizer: OptimizerKind = "sgd"
    """sgd or adamw; its state starts anew with every request."""

    rematerialise: bool = False
    """Whether reverse-mode derivatives of a request compute steps again instead of keeping every activation."""

    def __post_init__(self) -> None:
        check_settings(self, {"steps": 0}, {"schedule": Schedule, "optimizer": OptimizerKind})


@dataclass(frozen=True, kw_only=True)
class TaskSettings(StepSettings):
    """Static settings of a method that reads the task and no buffer.

    >>> TaskSettings(task_batch_size=0)
    Traceback (most recent call last):
        ...
    ValueError: task_batch_size must be at least 1, got 0
    """

    task_batch_size: int = 64
    """Examples of the task in a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"task_batch_size": 1}, {})


@dataclass(frozen=True, kw_only=True)
class BufferSettings(StepSettings):
    """Static settings of a method that reads the buffer and no task."""

    remain_batch_size: int = 64
    """Examples of the buffer in a step."""
    distillation: bool = False
    """Whether the network at the start of the request teaches the steps on the buffer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"remain_batch_size": 1}, {})


@dataclass(frozen=True, kw_only=True)
class DescentSettings(TaskSettings, BufferSettings):
    """Static settings of a method that reads task and buffer.

    >>> DescentSettings(steps=-1)
    Traceback (most recent call last):
        ...
    ValueError: steps must be at least 0, got -1
    """


def check_settings(settings: Any, sizes: dict[str, int], choices: dict[str, Any]) -> None:
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


def check_reads(name: str, settings: Any, own: type[StepSettings]) -> None:
    """Refuse settings that lack what a method reads, and those of what it does not: ignored, they would mislead.

    Args:
        name: of the method.
        settings: that it was given.
        own: the class of settings that it reads.

    Raises:
        ValueError: naming both classes, and what a step reads.

    >>> check_reads("finetune", DescentSettings(), TaskSettings)
    Traceback (most recent call last):
        ...
    ValueError: settings of finetune must be TaskSettings, got DescentSettings: a step reads the task alone
    """
    task, buffer = (issubclass(own, part) for part in (TaskSettings, BufferSettings))
    there = isinstance(settings, TaskSettings), isinstance(settings, BufferSettings)
    if not isinstance(settings, own) or there != (task, buffer):
        read = "task and buffer" if task and buffer else "the task alone" if task else "the buffer alone"
        raise ValueError(
            f"settings of {name} must be {own.__name__}, got {type(settings).__name__}: a step reads {read}"
        )


class Carry(NamedTuple):
    """What one step hands to the next, the model's mutable statistics apart."""

    params: Params
    optimizer: optax.OptState
    memory: PyTree = None  # the method's own


def schedule_factor(schedule: Schedule, remaining_share: Array | float) -> Array | float:
    """What the learning rate is multiplied by when a share e of the request is left: 1, e, or ½(1 + cos π(1 − e)).

    >>> round(float(schedule_factor("cosine", 0.5)), 4), schedule_factor("linear", 0.25)
    (0.5, 0.25)
    >>> schedule_factor("constant", 0.25)
    1.0
    """
    if schedule == "cosine":
        return 0.5 * (1 + jnp.cos(math.pi * (1 - jnp.asarray(remaining_share))))
    return remaining_share if schedule == "linear" else 1.0


def rate_share(schedule: Schedule, steps: int, remaining_share: Array | float) -> Array | float:
    """The part of one step in the sum of all rates of a request of K steps, when a share e of it is left.

        s(e) / Σ_k s(1 − k/K)          s = `schedule_factor`; the sum is K if it is constant, and (K + 1)/2 if it falls

    >>> [rate_share("linear", 3, 1 - k / 3) for k in range(3)]
    [0.5, 0.33..., 0.16...]
    """
    total = steps if schedule == "constant" else (steps + 1) / 2
    return schedule_factor(schedule, remaining_share) / max(total, 1)  # a request of no steps is traced all the same


def start(params: Params, settings: StepSettings, memory: PyTree = None) -> Carry:
    """Before the first step: a fresh optimizer."""
    return Carry(params, optimizer.transformation(settings.optimizer).init(params), memory)


def update(
    carry: Carry,
    gradient: Params,
    hyper: Any,
    settings: StepSettings,
    remaining_share: Array | float,
    *,
    mask: PyTree | None = None,
    mask_applies_to: MaskScope = "gradient",
    decays: bool = True,
) -> Carry:
    """One update of the optimizer along a gradient, at the rate of the schedule.

    Args:
        carry: of the step before.
        gradient: a tree like params.
        hyper: with the fields of `StepHyper`.
        settings: static.
        remaining_share: `e_k` in [0, 1].
        mask, mask_applies_to: see `ugclu_jax.optimizer`.
        decays: whether this update spends the step's part of the decay to `kept_share`: one update of each step does.

    >>> import jax.numpy as jnp
    >>> settings = DescentSettings(steps=1)
    >>> carry = start(jnp.ones(1), settings)
    >>> update(carry, jnp.ones(1), DescentHyper(learning_rate=0.5), settings, 0.5).params.tolist()
    [0.75]
    >>> update(carry, jnp.zeros(1), DescentHyper(kept_share=0.25), settings, 1.0).params.tolist()
    [0.25]
    """
    share = rate_share(settings.schedule, settings.steps, remaining_share)
    params, state = optimizer.update(
        settings.optimizer,
        gradient,
        carry.optimizer,
        carry.params,
        learning_rate=hyper.learning_rate * schedule_factor(settings.schedule, remaining_share),
        momentum=hyper.momentum,
        weight_decay=hyper.weight_decay,
        second_momentum=hyper.second_momentum,
        clip_norm=hyper.step_clip_norm,
        factor=decay_budget(hyper.kept_share, share) if decays else 1.0,
        mask=mask,
        mask_applies_to=mask_applies_to,
    )
    return carry._replace(params=params, optimizer=state)
