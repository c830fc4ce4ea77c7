"""Bad teacher: on what is to go the student follows a network that knows nothing, on what stays the one it was.

    θ ← θ − η ∇ mean_{i ∈ U ∪ R} T² KL(q_i ‖ p_i(θ)),     q_i = p_i(θ_bad) for i ∈ U,  p_i(θ_0) for i ∈ R

with softmaxes at temperature T, `θ_bad` freshly initialised for the request and `θ_0` the network at its start.

Chundawat, Tarun, Mandal, Kankanhalli, "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using an
Incompetent Teacher", AAAI 2023, arXiv 2205.08096. Differences to the paper: R is the buffer; a batch is
`task_batch_size` examples of U and `remain_batch_size` of R, where the paper shuffles U with a part of the remaining
data; the factor T², which the published code leaves out, is in (its T is 1). As in the paper one forward pass serves
both halves of a batch, so BatchNorm sees them together, the labels are not read, and both teachers run in evaluation
mode. With `distillation` the good teacher is that of `ugclu_jax.distillation`: at temperature 1, together with the
labels, and without the classes that leave.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.buffer import Buffer
from ugclu_jax.components import weighted_gradient
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
from ugclu_jax.losses import divergence, soft_cross_entropy
from ugclu_jax.oracle import InitFn
from ugclu_jax.ranges import POSITIVE, Interval
from ugclu_jax.types import (
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Examples,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BadTeacherHyper(DescentHyper):
    """Continuous settings."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "temperature": POSITIVE}

    temperature: Scalar = 1.0
    """T > 0, of the divergences."""


class Teachers(NamedTuple):
    """Parameters and mutable statistics of the two."""

    bad: tuple[Params, ModelState]
    good: tuple[Params, ModelState]


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request; every example passes forward through one teacher, with `distillation` only those to unlearn.

    >>> gradient_evaluations(DescentSettings(steps=3), capacity=100)
    8.0
    """
    taught = settings.task_batch_size + (0 if settings.distillation else settings.remain_batch_size)
    examples = settings.task_batch_size + settings.remain_batch_size
    return cost(settings, capacity, a_step=examples + FORWARD_COST * taught)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: BadTeacherHyper,
    teachers: Teachers,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update on explicit batches.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta, one_sided = jnp.zeros((1, 2)), jnp.array([[9e9, 0.0]])
    >>> start, teachers = Carry(theta, optimizer.init("sgd", theta)), Teachers((one_sided, {}), (theta, {}))
    >>> moved, _, _ = step(start, {}, Batches(batch, batch), 1.0, None, BadTeacherHyper(0.5), teachers,
    ...                    apply_fn=linear, settings=DescentSettings())
    >>> moved.params.tolist()
    [[0.125, -0.125]]
    """
    task, remain = batches

    def teach(teacher: tuple[Params, ModelState], inputs: Array) -> Array:
        return apply_fn(*teacher, inputs, train=False, rng_key=None)[0]

    bad = teach(teachers.bad, task.inputs)
    good = None if settings.distillation else teach(teachers.good, remain.inputs)
    size = task.labels.shape[0]

    def losses(logits: Array, batch: Batch) -> Array:
        to_remain = (
            divergence(logits[size:], good, hyper.temperature)
            if remain.targets is None
            else soft_cross_entropy(logits[size:], remain.targets)
        )
        return jnp.concatenate([divergence(logits[:size], bad, hyper.temperature), to_remain])

    both = Batch(*(jnp.concatenate(pair) for pair in zip(task[:3], remain[:3], strict=True)))
    component = weighted_gradient(
        apply_fn, carry.params, model_state, both, losses_fn=losses, rng_key=rng_key, axis_name=axis_name
    )
    carry = update(carry, component.gradient, hyper, settings, remaining_share)
    return carry, component.model_state, Report(task_loss=component.loss)


def bad_teacher(
    apply_fn: ApplyFn,
    settings: DescentSettings,
    *,
    num_classes: int,
    init_fn: InitFn,
    on_step: Callable | None = None,
) -> Method:
    """The method; it only unlearns.

    Args:
        apply_fn: the model.
        settings: static settings of an unlearn request.
        num_classes: C; every factory takes it, this method has no use for it.
        init_fn: `rng_key -> (params, model_state)`, makes the incompetent teacher of every request anew.
        on_step: progress function, see `fast_slow.request_loop`.

    `Info.task_losses` holds the loss of whole batches.

    >>> fresh = lambda rng_key: ({}, {})
    >>> method = bad_teacher(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2, init_fn=fresh)
    >>> method.init({"w": 1.0}, {}).params
    {'w': 1.0}
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: BadTeacherHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        teacher_key, loop_key = jax.random.split(rng_key)
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, axis_name=axis_name)
        bound = functools.partial(
            step,
            hyper=hyper,
            teachers=Teachers(init_fn(teacher_key), (state.params, state.model_state)),
            apply_fn=apply_fn,
            settings=settings,
            axis_name=axis_name,
        )
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, loop_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, refuse("bad_teacher", "learn"), unlearn)
