"""UniCLUN: one student of two teachers, one for continual learning and one for unlearning.

    learn     L = CE(y, z)_L + L_R                            on new data and on the buffer
    unlearn   L = γ L_R + (1 − γ) KL(p(θ_bad) ‖ p(θ))_U       on the buffer and on the data to remove
              L_R = mean_R [ ω CE(y, z) + ρ q_y · mean_c (z_c − z^T_c)² ]
              θ^T ← m θ^T + (1 − m) θ  with probability π after a step,  m = min(1 − 1/(n + 1), m_max)

z are the student's logits, z^T those of the learning teacher θ^T, a slow average of the student over all its n steps;
q_y is that teacher's probability of the true label, so that it is followed where it is right. The unlearning teacher
θ_bad is freshly initialised for the request.

Chatterjee, Chundawat, Tarun, Mali, Mandal, "A Unified Framework for Continual Learning and Unlearning", arXiv
2408.11374, whose learning part is that of Li et al., "Learning from Students: Online Contrastive Distillation Network
for General Continual Learning", IJCAI 2022. Differences to the paper:
- Its two contrastive losses and its rotation task are left out: they need features and a projection head, where a
  model here is a function to logits, and augmentation, which belongs to the data here.
- In the paper γ weighs learning and unlearning of one mixed batch; a request here is either, so γ is read when
  unlearning alone, and a learn request has weight 1.
- The teacher θ^T also averages BatchNorm statistics and runs in evaluation mode.
The teacher that the method keeps learned what is later to be unlearned, and follows the student away from it only at
its own pace; nothing of single examples is kept. With `distillation` CE on the buffer is to the targets of
`ugclu_jax.distillation`.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.combination import combine
from ugclu_jax.components import batch_losses
from ugclu_jax.descent import Batches, OwnStep, Prepared, Report, StepFn, descent
from ugclu_jax.losses import divergence
from ugclu_jax.ranges import SHARE
from ugclu_jax.stepping import Carry, DescentHyper, DescentSettings, check_reads, update
from ugclu_jax.types import (
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    Examples,
    InitFn,
    Memory,
    Method,
    ModelState,
    Params,
    Scalar,
)

NAME = "uniclun"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniCLUNHyper(DescentHyper):
    """Continuous settings; the defaults are those of the published code."""

    replay_weight: Scalar = 1.0
    """ω ≥ 0, weight of the cross-entropy on the buffer."""
    output_weight: Scalar = 0.1
    """ρ ≥ 0, weight of the distance to the learning teacher's logits."""
    retention: Annotated[Scalar, SHARE] = 0.5
    """γ in [0, 1], weight of the buffer against the unlearning teacher."""
    update_probability: Annotated[Scalar, SHARE] = 0.7
    """π in [0, 1], how often the learning teacher follows the student."""
    largest_momentum: Annotated[Scalar, SHARE] = 0.999
    """m_max in [0, 1], how slowly it follows at most."""


class Teacher(NamedTuple):
    """The learning teacher; kept between requests."""

    params: Params
    model_state: ModelState
    steps: Array  # [] int32, n


def follow(
    rng_key: Array | None, teacher: Teacher, params: Params, model_state: ModelState, hyper: UniCLUNHyper
) -> Teacher:
    """`θ^T ← m θ^T + (1 − m) θ` with probability π; without a key always.

    >>> import jax.numpy as jnp
    >>> follow(None, Teacher(jnp.zeros(1), {}, jnp.array(0)), jnp.ones(1), {}, UniCLUNHyper()).params.tolist()
    [0.5]
    """
    steps = teacher.steps + 1
    momentum = jnp.minimum(1 - 1 / (steps.astype(jnp.result_type(float)) + 1), hyper.largest_momentum)
    if rng_key is not None:
        momentum = jnp.where(jax.random.bernoulli(rng_key, hyper.update_probability), momentum, 1.0)

    def average(old: Array, new: Array) -> Array:
        return (momentum * old + (1 - momentum) * new).astype(old.dtype)

    old, new = (teacher.params, teacher.model_state), (params, model_state)
    followed, followed_state = jax.tree.map(average, old, new)
    return Teacher(followed, followed_state, steps)


def step_with(settings: DescentSettings) -> StepFn:
    """One update of the student, and of its learning teacher, the carry's memory.

    `at.known` is the unlearning teacher, `(params, model_state)`, or None for a step that learns.

    >>> from ugclu_jax.stepping import start
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta, settings = jnp.zeros((1, 2)), DescentSettings()
    >>> teacher = Teacher(theta, {}, jnp.array(0))
    >>> at, carry = At(linear, theta, {}, memory=teacher), start(theta, settings, teacher)
    >>> carry, _, _ = step_with(settings)(at, carry, Batches(batch, batch), UniCLUNHyper(0.5))
    >>> carry.params.tolist(), carry.memory.params.tolist()
    ([[0.5, -0.5]], [[0.25, -0.25]])
    """

    def step(
        at: At, carry: Carry, batches: Batches[Batch, Batch], hyper: UniCLUNHyper
    ) -> tuple[Carry, ModelState, Report]:
        for_task, for_remain, for_teacher = at.split(3)
        task, remain = batches
        task_losses, task_weight, remain_weight = batch_losses, 1.0, 1.0
        if at.known is not None:
            ignorant = at.logits(at.known, task.inputs)

            def task_losses(logits: Array, batch: Batch) -> Array:
                return divergence(logits, ignorant)

            task_weight, remain_weight = 1.0 - hyper.retention, hyper.retention
        teacher: Teacher = carry.memory
        known = at.logits((teacher.params, teacher.model_state), remain.inputs)
        trust = jnp.take_along_axis(jax.nn.softmax(known), remain.labels[:, None], axis=1)[:, 0]

        def remain_losses(logits: Array, batch: Batch) -> Array:
            distance = jnp.mean(jnp.square(logits - known), axis=1)
            return hyper.replay_weight * batch_losses(logits, batch) + hyper.output_weight * trust * distance

        on_task = for_task.gradient(task, losses_fn=task_losses)
        here = for_remain._replace(model_state=on_task.model_state)
        on_remain = here.gradient(remain, losses_fn=remain_losses)
        gradient = jax.tree.map(lambda a, b: task_weight * a + remain_weight * b, on_task.gradient, on_remain.gradient)
        carry = update(carry, gradient, hyper, settings, at.moment.remaining_share)
        teacher = follow(for_teacher.rng_key, teacher, carry.params, on_remain.model_state, hyper)
        return carry._replace(memory=teacher), on_remain.model_state, Report(on_task.loss, on_remain.loss)

    return step


def uniclun(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings(), *, init_fn: InitFn) -> Method:
    """The method.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request.
        init_fn: `rng_key -> (params, model_state)`, makes the unlearning teacher of every request anew.

    >>> method = uniclun(lambda *a, **k: None, DescentSettings(steps=3), init_fn=lambda key: ({}, {}))
    >>> [method.cost(kind, 100, 64) for kind in ("learn", "unlearn")]
    [7.0, 8.0]
    """
    check_reads(NAME, settings, DescentSettings)
    both = settings.task_batch_size + settings.remain_batch_size
    step = OwnStep(step_with(settings))
    memory = Memory(NAME, lambda params, model_state: Teacher(params, model_state, jnp.int32(0)))

    def ignorance(at: At, hyper: UniCLUNHyper, task: Examples, buffer: Buffer, rng_key: Array) -> Prepared:
        return Prepared(task, init_fn(rng_key))

    def none(at: At, hyper: UniCLUNHyper, task: Examples, buffer: Buffer, rng_key: Array) -> Prepared:
        return Prepared(task)

    learns = descent(
        NAME,
        apply_fn,
        settings,
        learn=step,
        hyper=UniCLUNHyper(),
        prepare=none,
        prepare_keys=1,
        memory=memory,
        a_step=both + FORWARD_COST * settings.remain_batch_size,
    )
    unlearns = descent(
        NAME,
        apply_fn,
        settings,
        unlearn=step,
        hyper=UniCLUNHyper(),
        prepare=ignorance,
        prepare_keys=1,
        memory=memory,
        a_step=both + FORWARD_COST * both,
    )
    return combine(learn=learns, unlearn=unlearns)
