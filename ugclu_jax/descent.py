"""A method that is a direction: what every optimizer-based method has in common, said once.

Such a method is a header (formula, paper, differences), its hyperparameters, and a function of a few lines

    direction(at, batches, hyper) -> Direction(gradient, model_state, report)

`descent` makes a `Method` of it: draws, keys, the teacher's targets, schedule, optimizer, mask, cost, report, devices.

    θ_{k+1} = θ_k − η_k · optimizer(direction)          k = 0 … steps − 1
"""

import functools
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.components import check_num_classes
from ugclu_jax.distillation import remain_targets
from ugclu_jax.loop import Moment, request_loop
from ugclu_jax.optimizer import MaskScope
from ugclu_jax.saliency import density
from ugclu_jax.stepping import (
    BufferSettings,
    Carry,
    DescentHyper,
    DescentSettings,
    StepHyper,
    StepSettings,
    TaskSettings,
    check_reads,
    registered,
    start,
    update,
)
from ugclu_jax.trees import global_norm
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    FORWARD_COST,
    HERE,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    CheckFn,
    Examples,
    Execution,
    Info,
    Memory,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
    RequestKind,
    UpdateFn,
)

Reads = Literal["task", "buffer", "both"]


OfTask = TypeVar("OfTask", bound=Batch | None, covariant=True)
OfBuffer = TypeVar("OfBuffer", bound=Batch | None, covariant=True)


class Batches(NamedTuple, Generic[OfTask, OfBuffer]):
    """What one step reads; None where the method does not: `Batches[Batch, None]` is of one that reads the task."""

    task: OfTask  # [B] examples of the request
    remain: OfBuffer  # [B] examples of the buffer


AnyBatches = Batches[Batch | None, Batch | None]


class Report(NamedTuple):
    """What one step tells; None where a method has no such part."""

    task_loss: Array | None = None  # [] mean loss of the task batch
    remain_loss: Array | None = None  # [] mean loss of the batch of the buffer
    task_norm: Array | None = None  # [] global norm of the task's gradient, masked and unclipped
    clipped: Array | None = None  # [] bool, whether that gradient was clipped


class Direction(NamedTuple):
    """What a step descends, and what it tells."""

    gradient: Params
    model_state: ModelState
    report: Report = Report()


def follow_remaining(at: At, batches: Batches[None, Batch], hyper: StepHyper) -> Direction:
    """`g_R` of a batch of what remains: the direction of methods that differ in where they start or what they may move.

    Args:
        at: where the step stands.
        batches: `remain`, of the buffer or of all that is retained.
        hyper: not read.
    """
    remain = at.gradient(batches.remain)
    return Direction(remain.gradient, remain.model_state, Report(remain_loss=remain.loss))


DirectionFn = Callable[[At, Any, Any], Direction]
"""`(at, batches, hyper) -> direction`: the whole of a method without a memory that its steps change."""
StepFn = Callable[[At, Carry, Any, Any], tuple[Carry, ModelState, Report]]
"""`(at, carry, batches, hyper) -> (carry, model_state, report)`; `at` has the carry's parameters and memory."""


class OwnStep(NamedTuple):
    """Marks a `StepFn` where `descent` expects a direction: it updates as often as it likes."""

    step: StepFn


class Prepared(NamedTuple):
    """What a method makes once a request, before its first step."""

    task: Examples  # what task batches are drawn from
    known: Any = None  # `At.known`
    mask: PyTree | None = None  # `At.mask`
    params: Params | None = None  # where the steps begin; None = at the network at hand, which teaches in any case
    carried: PyTree = None  # `At.memory` of the first step, for a method that keeps nothing between requests


Prepare = Callable[..., Prepared]
"""`(at, hyper, task, buffer, *rng_keys) -> prepared`, `at` with the network at the start of the request."""
Draws = Callable[[At, Examples, Buffer, Array | None], Callable[[Array], Any]]
"""`(at, task, buffer, targets) -> (rng_key -> batches)`: how a method draws that reads more than task and buffer."""


def along(direction: DirectionFn, settings: StepSettings, mask_applies_to: MaskScope = "gradient") -> StepFn:
    """The step that takes one update along a direction, for explicit batches in a notebook or a test.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> plain = lambda at, batch, hyper: Direction(at.gradient(batch).gradient, at.model_state)
    >>> settings, theta = TaskSettings(), jnp.zeros((1, 2))
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> step = along(plain, settings)
    >>> step(At(linear, theta, {}), start(theta, settings), batch, StepHyper(0.5))[0].params.tolist()
    [[0.25, -0.25]]
    """

    def step(at: At, carry: Carry, batches: Any, hyper: Any) -> tuple[Carry, ModelState, Report]:
        found = direction(at, batches, hyper)
        share = at.moment.remaining_share
        carry = update(carry, found.gradient, hyper, settings, share, mask=at.mask, mask_applies_to=mask_applies_to)
        return carry, found.model_state, found.report

    return step


def descend_request(
    at: At,
    step: StepFn,
    draw: Callable[[Array], Any],
    rng_key: Array,
    hyper: Any,
    settings: StepSettings,
    gradient_evaluations: float,
    where: Execution = HERE,
) -> tuple[Carry, ModelState, Info]:
    """`settings.steps` steps from the network of `at`, with a fresh optimizer.

    Args:
        at: the network at the start, the method's memory, and what was prepared.
        step: see `StepFn`.
        draw: `rng_key -> batches`.
        rng_key: of the steps, consumed.
        hyper: handed to the steps.
        settings: static.
        gradient_evaluations: of the whole request, see `evaluations`.
        where: progress function; `at` has the axis.

    Returns:
        `(carry, model_state, info)`.

    >>> import jax, jax.numpy as jnp
    >>> def halve(at, carry, batches, hyper):
    ...     return carry._replace(params=carry.params / 2), at.model_state, Report()
    >>> at = At(lambda *a, **k: None, jnp.ones(1), {})
    >>> settings = StepSettings(steps=3)
    >>> descend_request(at, halve, lambda key: (), jax.random.key(0), (), settings, 0.0)[0].params.tolist()
    [0.125]
    """

    def outer_step(
        key: Array, carry: Carry, model_state: ModelState, batches: Any, moment: Moment
    ) -> tuple[Carry, ModelState, tuple[Report, Array]]:
        here = at._replace(
            params=carry.params, model_state=model_state, rng_key=key, moment=moment, memory=carry.memory
        )
        new, model_state, report = step(here, carry, batches, hyper)
        return new, model_state, (report, global_norm(optax.tree.sub(new.params, carry.params)))

    carry, model_state, (report, moved) = request_loop(
        draw,
        outer_step,
        start(at.params, settings, at.memory),
        at.model_state,
        rng_key,
        settings.steps,
        rematerialise=settings.rematerialise,
        on_step=where.on_step,
        until=where.until,
    )
    told = {"task_losses": report.task_loss, "fast_norms": report.task_norm, "clipped": report.clipped}
    if report.remain_loss is not None:
        told["remain_losses"] = report.remain_loss[:, None]
    info = Info(
        **{name: value for name, value in told.items() if value is not None},
        displacement_norms=moved,
        mask_density=jax.tree.map(lambda _: jnp.ones(()), at.params) if at.mask is None else density(at.mask),
        gradient_evaluations=jnp.asarray(gradient_evaluations, jnp.float32),
    )
    return carry, model_state, info


def evaluations(settings: StepSettings, capacity: int, *, a_step: float, once: float = 0.0) -> float:
    """Cost of a request in units of `EVALUATION_EXAMPLES`, the teacher's forward passes over the buffer included.

    Args:
        settings: of the request.
        capacity: M.
        a_step: examples that pass forward and backward in a step; one that only passes forward counts `FORWARD_COST`.
        once: examples that pass once a request, likewise.

    >>> evaluations(DescentSettings(steps=2, distillation=True), 192, a_step=128)
    5.0
    """
    teacher = FORWARD_COST * capacity if _distils(settings) else 0.0
    return (once + teacher + settings.steps * a_step) / EVALUATION_EXAMPLES


def _distils(settings: StepSettings) -> bool:
    return isinstance(settings, BufferSettings) and settings.distillation


def descent(
    name: str,
    apply_fn: ApplyFn,
    settings: StepSettings,
    *,
    learn: DirectionFn | OwnStep | None = None,
    unlearn: DirectionFn | OwnStep | None = None,
    hyper: Any = None,
    reads: Reads = "both",
    draws: Draws | None = None,
    prepare: Prepare | None = None,
    prepare_keys: int = 0,
    finish: Callable[[At, Examples, Any, Array], PyTree] | None = None,
    memory: Memory | None = None,
    distils: bool = True,
    a_step: float | None = None,
    once: float = 0.0,
    mask_applies_to: MaskScope = "gradient",
    num_classes: int | None = None,
    check: CheckFn | None = None,
) -> Method:
    """A method that takes `settings.steps` optimizer steps along a direction.

    Args:
        name: of the method.
        apply_fn: the model.
        settings: static; `TaskSettings` where only the task is read, `BufferSettings` where only the buffer is.
        learn, unlearn: the direction of each kind of request; None where the method does not serve it.
        hyper: the default hyperparameters, of the method's own class; None = `DescentHyper()`, or `StepHyper()` where
            nothing can be distilled.
        reads: whether a step reads a batch of the task, of the buffer, or of both; both are drawn uniformly.
        draws: how batches are drawn where this is not enough; see `Draws`.
        prepare: what is made once a request; see `Prepare`. It gets the first `prepare_keys` parts of the key.
        prepare_keys: how many.
        finish: `(at, task, hyper, rng_key) -> memory` after the last step.
        memory: what the method keeps between requests. Its steps find it as `at.memory`; an `OwnStep` may change it.
        distils: whether labels of the buffer enter the loss, so that a teacher can stand in for a part of them.
        a_step: examples that pass forward and backward in a step, see `evaluations`; None = what is read.
        once: the same, once a request.
        mask_applies_to: what `Prepared.mask` multiplies, see `ugclu_jax.optimizer`.
        num_classes: C, where the method was made for it; compared with the model's.
        check: what the method demands of network and inputs; see `CheckFn`.

    Raises:
        ValueError: settings of what is not read, or `distillation` where no label of the buffer enters the loss; when a
            request is traced, a model of another number of classes.

    >>> import jax, jax.numpy as jnp
    >>> def follow_the_task(at, batches, hyper):
    ...     task = at.gradient(batches.task)
    ...     return Direction(task.gradient, task.model_state, Report(task.loss))
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> method = descent("mine", linear, TaskSettings(steps=10), learn=follow_the_task, reads="task")
    >>> method.kinds, method.hyper["learn"].learning_rate, method.cost("learn", 100, 64)
    (('learn',), 0.05, 10.0)
    """
    buffer_labels = distils and reads != "task"
    check_reads(name, settings, {"task": TaskSettings, "buffer": BufferSettings, "both": DescentSettings}[reads])
    if _distils(settings) and not distils:
        raise ValueError(f"distillation must be False for {name}, got True: no label of the buffer enters its loss")
    default = registered(hyper) if hyper is not None else DescentHyper() if buffer_labels else StepHyper()
    sizes = {"task": getattr(settings, "task_batch_size", 0), "buffer": getattr(settings, "remain_batch_size", 0)}
    examples_a_step = a_step if a_step is not None else sum(sizes.values()) if reads == "both" else sizes[reads]

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        return evaluations(settings, capacity, a_step=examples_a_step, once=once)

    def request(
        kind: RequestKind,
        step: StepFn,
        rng_key: Array,
        state: MethodState,
        hyper: Any,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        if check is not None:
            check(state.params, state.model_state, task.inputs)
        if num_classes is not None:
            check_num_classes(num_classes, apply_fn, state.params, state.model_state, task.inputs)
        own = state.extra[memory.name] if memory is not None else None
        at = At(apply_fn, state.params, state.model_state, memory=own, axis_name=where.axis_name)
        keys, loop_key, finish_key = [], rng_key, rng_key
        if prepare_keys:
            *keys, loop_key = jax.random.split(rng_key, prepare_keys + 1)
        elif finish is not None:
            loop_key, finish_key = jax.random.split(rng_key)
        prepared = Prepared(task) if prepare is None else prepare(at, hyper, task, buffer, *keys)
        targets = None
        if _distils(settings):
            weight, size = hyper.distillation_weight, sizes["buffer"]
            targets = remain_targets(*at[:3], task, buffer, weight, batch_size=size)
        at = at._replace(known=prepared.known, mask=prepared.mask)
        if prepared.params is not None:
            at = at._replace(params=prepared.params)
        if memory is None:
            at = at._replace(memory=prepared.carried)
        draw = (draws or _uniform(reads, sizes))(at, prepared.task, buffer, targets)
        spent = cost(kind, buffer.ids.shape[0], task.ids.shape[0])
        carry, model_state, info = descend_request(at, step, draw, loop_key, hyper, settings, spent, where)
        extra = state.extra
        if memory is not None:
            end = at._replace(params=carry.params, model_state=model_state)
            kept = carry.memory if finish is None else finish(end, task, hyper, finish_key)
            extra = {**extra, memory.name: kept}
        return MethodState(carry.params, model_state, extra), info

    def of(kind: RequestKind, direction: DirectionFn | OwnStep | None) -> UpdateFn | None:
        if direction is None:
            return None
        step = direction.step if isinstance(direction, OwnStep) else along(direction, settings, mask_applies_to)
        return functools.partial(request, kind, step)

    serves: dict[RequestKind, Any] = {"learn": learn, "unlearn": unlearn}
    hypers = {kind: default for kind, direction in serves.items() if direction is not None}
    memories = () if memory is None else (memory,)
    rehearses: tuple[RequestKind, ...] = (
        ("unlearn",) if unlearn is not None and reads != "task" and draws is None else ()
    )
    return Method(name, of("learn", learn), of("unlearn", unlearn), hypers, cost, memories, apply_fn, rehearses, check)


def _uniform(reads: Reads, sizes: dict[str, int]) -> Draws:
    """Uniform batches of what is read; a key of its own for each where both are."""

    def draws(at: At, task: Examples, buffer: Buffer, targets: Array | None) -> Callable[[Array], AnyBatches]:
        def draw(key: Array) -> AnyBatches:
            task_key, remain_key = jax.random.split(key) if reads == "both" else (key, key)
            return Batches(
                None if reads == "buffer" else from_task(task_key, task, (sizes["task"],), axis_name=at.axis_name),
                None
                if reads == "task"
                else from_buffer(remain_key, buffer, (sizes["buffer"],), targets=targets, axis_name=at.axis_name),
            )

        return draw

    return draws
