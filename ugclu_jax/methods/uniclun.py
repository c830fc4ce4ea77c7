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

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.buffer import Buffer
from ugclu_jax.components import batch_losses, weighted_gradient
from ugclu_jax.descent import (
    Batches,
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    pairs,
    update,
)
from ugclu_jax.losses import divergence
from ugclu_jax.oracle import InitFn
from ugclu_jax.ranges import SHARE, Interval
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
    RequestKind,
    Scalar,
)

NAME = "uniclun"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UniclunHyper(DescentHyper):
    """Continuous settings; the defaults are those of the published code."""

    ranges: ClassVar[Mapping[str, Interval]] = {
        **DescentHyper.ranges,
        "retention": SHARE,
        "update_probability": SHARE,
        "largest_momentum": SHARE,
    }

    replay_weight: Scalar = 1.0
    """ω ≥ 0, weight of the cross-entropy on the buffer."""
    output_weight: Scalar = 0.1
    """ρ ≥ 0, weight of the distance to the learning teacher's logits."""
    retention: Scalar = 0.5
    """γ in [0, 1], weight of the buffer against the unlearning teacher."""
    update_probability: Scalar = 0.7
    """π in [0, 1], how often the learning teacher follows the student."""
    largest_momentum: Scalar = 0.999
    """m_max in [0, 1], how slowly it follows at most."""


class Teacher(NamedTuple):
    """The learning teacher; kept between requests."""

    params: Params
    model_state: ModelState
    steps: Array  # [] int32, n


def follow(
    rng_key: Array | None, teacher: Teacher, params: Params, model_state: ModelState, hyper: UniclunHyper
) -> Teacher:
    """`θ^T ← m θ^T + (1 − m) θ` with probability π; without a key always.

    >>> import jax.numpy as jnp
    >>> follow(None, Teacher(jnp.zeros(1), {}, jnp.array(0)), jnp.ones(1), {}, UniclunHyper()).params.tolist()
    [0.5]
    """
    steps = teacher.steps + 1
    momentum = jnp.minimum(1 - 1 / (steps.astype(jnp.result_type(float)) + 1), hyper.largest_momentum)
    if rng_key is not None:
        momentum = jnp.where(jax.random.bernoulli(rng_key, hyper.update_probability), momentum, 1.0)

    def average(old: Array, new: Array) -> Array:
        return (momentum * old + (1 - momentum) * new).astype(old.dtype)

    return Teacher(*jax.tree.map(average, (teacher.params, teacher.model_state), (params, model_state)), steps)


def gradient_evaluations(settings: DescentSettings, capacity: int, kind: RequestKind = "unlearn") -> float:
    """Cost of a request, the teachers' forward passes included.

    >>> [gradient_evaluations(DescentSettings(steps=3), 100, kind) for kind in ("learn", "unlearn")]
    [7.0, 8.0]
    """
    taught = settings.remain_batch_size + (settings.task_batch_size if kind == "unlearn" else 0)
    examples = settings.task_batch_size + settings.remain_batch_size
    return cost(settings, capacity, a_step=examples + FORWARD_COST * taught)


def step(
    carry: Carry,
    model_state: ModelState,
    teacher: Teacher,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: UniclunHyper,
    bad_teacher: tuple[Params, ModelState] | None,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Teacher, Report]:
    """One update of the student, and of its learning teacher, on explicit batches.

    Args:
        bad_teacher: the unlearning teacher, or None for a step that learns.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta = jnp.zeros((1, 2))
    >>> carry, _, teacher, _ = step(Carry(theta, optimizer.init("sgd", theta)), {}, Teacher(theta, {}, jnp.array(0)),
    ...                             Batches(batch, batch), 1.0, None, UniclunHyper(0.5), None, apply_fn=linear,
    ...                             settings=DescentSettings())
    >>> carry.params.tolist(), teacher.params.tolist()
    ([[0.5, -0.5]], [[0.25, -0.25]])
    """
    task_key, remain_key, teacher_key = (None,) * 3 if rng_key is None else jax.random.split(rng_key, 3)
    task, remain = batches
    task_losses, task_weight, remain_weight = batch_losses, 1.0, 1.0
    if bad_teacher is not None:
        ignorant, _ = apply_fn(*bad_teacher, task.inputs, train=False, rng_key=None)
        task_losses = lambda logits, batch: divergence(logits, ignorant)  # noqa: E731, one of two losses
        task_weight, remain_weight = 1.0 - hyper.retention, hyper.retention
    known, _ = apply_fn(teacher.params, teacher.model_state, remain.inputs, train=False, rng_key=None)
    trust = jnp.take_along_axis(jax.nn.softmax(known), remain.labels[:, None], axis=1)[:, 0]

    def remain_losses(logits: Array, batch: Batch) -> Array:
        distance = jnp.mean(jnp.square(logits - known), axis=1)
        return hyper.replay_weight * batch_losses(logits, batch) + hyper.output_weight * trust * distance

    on_task = weighted_gradient(
        apply_fn, carry.params, model_state, task, losses_fn=task_losses, rng_key=task_key, axis_name=axis_name
    )
    on_remain = weighted_gradient(
        apply_fn,
        carry.params,
        on_task.model_state,
        remain,
        losses_fn=remain_losses,
        rng_key=remain_key,
        axis_name=axis_name,
    )
    gradient = jax.tree.map(lambda a, b: task_weight * a + remain_weight * b, on_task.gradient, on_remain.gradient)
    carry = update(carry, gradient, hyper, settings, remaining_share)
    model_state = on_remain.model_state
    teacher = follow(teacher_key, teacher, carry.params, model_state, hyper)
    return carry, model_state, teacher, Report(on_task.loss, on_remain.loss)


def uniclun(
    apply_fn: ApplyFn,
    settings: DescentSettings,
    *,
    num_classes: int,
    init_fn: InitFn,
    on_step: Callable | None = None,
) -> Method:
    """The method.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request.
        num_classes: C; every factory takes it, this method has no use for it.
        init_fn: `rng_key -> (params, model_state)`, makes the unlearning teacher of every request anew.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> method = uniclun(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2, init_fn=lambda key: ({}, {}))
    >>> method.init({"w": 1.0}, {}).extra["uniclun"].params
    {'w': 1.0}
    """

    def init(params: Params, model_state: ModelState) -> MethodState:
        return MethodState(params, model_state, {NAME: Teacher(params, model_state, jnp.int32(0))})

    def request(
        kind: RequestKind,
        rng_key: Array,
        state: MethodState,
        hyper: UniclunHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        teacher_key, loop_key = jax.random.split(rng_key)
        bad = None if kind == "learn" else init_fn(teacher_key)
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, axis_name=axis_name)

        def bound(
            carry: Carry, states: tuple[ModelState, Teacher], batches: Batches, share: Array, key: Array
        ) -> tuple[Carry, tuple[ModelState, Teacher], Report]:
            carry, *states, report = step(
                carry,
                *states,
                batches,
                share,
                key,
                hyper,
                bad,
                apply_fn=apply_fn,
                settings=settings,
                axis_name=axis_name,
            )
            return carry, tuple(states), report

        # The teacher rides with the mutable statistics: updated by every step, without a gradient.
        start = state._replace(model_state=(state.model_state, state.extra[NAME]))
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0], kind)
        end, info = descend_request(draw, bound, loop_key, start, settings, evaluations, on_step=on_step)
        model_state, teacher = end.model_state
        return MethodState(end.params, model_state, state.extra | {NAME: teacher}), info

    return Method(init, functools.partial(request, "learn"), functools.partial(request, "unlearn"))
