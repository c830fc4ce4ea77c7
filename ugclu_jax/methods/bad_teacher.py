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

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Prepared, Report, descent
from ugclu_jax.losses import divergence, soft_cross_entropy
from ugclu_jax.ranges import POSITIVE
from ugclu_jax.stepping import DescentHyper, DescentSettings, check_reads
from ugclu_jax.types import (
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    Examples,
    InitFn,
    Method,
    ModelState,
    Params,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BadTeacherHyper(DescentHyper):
    """Continuous settings."""

    temperature: Annotated[Scalar, POSITIVE] = 1.0
    """T > 0, of the divergences."""


class Teachers(NamedTuple):
    """Parameters and mutable statistics of the two."""

    bad: tuple[Params, ModelState]
    good: tuple[Params, ModelState]


def direction(at: At, batches: Batches[Batch, Batch], hyper: BadTeacherHyper) -> Direction:
    """The gradient of one batch of both; `at.known` is `Teachers`.

    `Report.task_loss` is the loss of the whole batch.
    """
    task, remain = batches
    teachers: Teachers = at.known
    bad = at.logits(teachers.bad, task.inputs)
    # Logits, or the distributions of a distillation.
    good = at.logits(teachers.good, remain.inputs) if remain.targets is None else remain.targets
    size = task.labels.shape[0]

    def losses(logits: Array, batch: Batch) -> Array:
        to_remain = (
            divergence(logits[size:], good, hyper.temperature)
            if remain.targets is None
            else soft_cross_entropy(logits[size:], good)
        )
        return jnp.concatenate([divergence(logits[:size], bad, hyper.temperature), to_remain])

    both = Batch(*(jnp.concatenate(pair) for pair in zip(task[:3], remain[:3], strict=True)))
    found = at.gradient(both, losses_fn=losses)
    return Direction(found.gradient, found.model_state, Report(task_loss=found.loss))


def bad_teacher(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings(), *, init_fn: InitFn) -> Method:
    """The method; it only unlearns.

    Every example passes forward through one teacher, with `distillation` only those to unlearn.

    Args:
        apply_fn: the model.
        settings: static settings of an unlearn request.
        init_fn: `rng_key -> (params, model_state)`, makes the incompetent teacher of every request anew.

    >>> method = bad_teacher(lambda *a, **k: None, DescentSettings(steps=3), init_fn=lambda rng_key: ({}, {}))
    >>> method.cost("unlearn", 100, 64)
    8.0
    """
    check_reads("bad_teacher", settings, DescentSettings)

    def prepare(at: At, hyper: BadTeacherHyper, task: Examples, buffer: Buffer, rng_key: Array) -> Prepared:
        return Prepared(task, Teachers(init_fn(rng_key), (at.params, at.model_state)))

    taught = settings.task_batch_size + (0 if settings.distillation else settings.remain_batch_size)
    examples = settings.task_batch_size + settings.remain_batch_size
    return descent(
        "bad_teacher",
        apply_fn,
        settings,
        unlearn=direction,
        hyper=BadTeacherHyper(),
        prepare=prepare,
        prepare_keys=1,
        a_step=examples + FORWARD_COST * taught,
    )
