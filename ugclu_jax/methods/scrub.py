"""SCRUB: away from the teacher on what is to go, towards it on what stays; the teacher is the network at the start.

    max step   θ ← θ + η ∇ mean_U T² KL(p(θ_0) ‖ p(θ))                              while k/K < s
    min step   θ ← θ − η ∇ mean_R [ α T² KL(p(θ_0) ‖ p(θ)) + γ CE(y, p(θ)) ]        every k

with all softmaxes of the divergence at temperature T, and one optimizer for both. Weight decay acts in both steps.

Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning", NeurIPS 2023, arXiv 2302.09880.
Differences to the paper: the min steps see the buffer, for the remaining data are not kept; a max step and a min step
alternate batch by batch, where the paper alternates epochs (its `msteps` is the share s of the request here); the
learning rate falls by the schedule of every method here, not in stairs. BatchNorm statistics move in both steps, as in
the published code. The rewinding of SCRUB+R, which picks a checkpoint by the error on held-out data, is not part of it.
With `distillation` the cross-entropy of the min step is to the targets of `ugclu_jax.distillation`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

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
    refuse,
    update,
)
from ugclu_jax.fast_slow import global_norm
from ugclu_jax.losses import divergence
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


@dataclass(frozen=True)
class ScrubSettings(DescentSettings):
    """Static settings: those of every optimizer-based method, and how long the max steps last.

    Raises:
        ValueError: a setting out of its range.

    >>> ScrubSettings(max_share=1.5)
    Traceback (most recent call last):
        ...
    ValueError: max_share must be in [0, 1], got 1.5
    """

    max_share: float = 0.5
    """s, the first share of the request in which a max step precedes the min step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"max_share must be in [0, 1], got {self.max_share:g}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ScrubHyper(DescentHyper):
    """Continuous settings; α, γ and T default to those of the published code."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "temperature": POSITIVE}

    remain_divergence_weight: Scalar = 0.001
    """α ≥ 0, weight of the divergence from the teacher on remaining data."""
    remain_label_weight: Scalar = 0.99
    """γ ≥ 0, weight of the cross-entropy on remaining data."""
    temperature: Scalar = 4.0
    """T > 0, of the divergences."""


def gradient_evaluations(settings: ScrubSettings, capacity: int) -> float:
    """Cost of a request, the teacher's forward passes included.

    Affine in `steps`: exact where `max_share · steps` is whole; else the last, begun max step counts in part.

    >>> gradient_evaluations(ScrubSettings(steps=6, max_share=0.5), capacity=100)
    12.0
    """
    examples = settings.max_share * settings.task_batch_size + settings.remain_batch_size
    return cost(settings, capacity, a_step=(1 + FORWARD_COST) * examples)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: ScrubHyper,
    teacher: tuple[Params, ModelState],
    *,
    apply_fn: ApplyFn,
    settings: ScrubSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """A max step, if it is still time for one, and a min step on explicit batches.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta = jnp.zeros((1, 2))
    >>> start, hyper = Carry(theta, optimizer.init("sgd", theta)), ScrubHyper(0.5, remain_label_weight=1.0)
    >>> moved, _, _ = step(start, {}, Batches(batch, batch), 1.0, None, hyper, (theta, {}), apply_fn=linear,
    ...                    settings=ScrubSettings())
    >>> moved.params.tolist()  # at θ_0 the divergences have no gradient: the labels alone move it
    [[0.25, -0.25]]
    """
    max_key, min_key = (None, None) if rng_key is None else jax.random.split(rng_key)

    def teach(inputs: Array) -> Array:
        return apply_fn(*teacher, inputs, train=False, rng_key=None)[0]

    def max_step(carry: Carry, model_state: ModelState) -> tuple[Carry, ModelState, Array, Array]:
        known = teach(batches.task.inputs)
        away = weighted_gradient(
            apply_fn,
            carry.params,
            model_state,
            batches.task,
            losses_fn=lambda logits, batch: divergence(logits, known, hyper.temperature),
            rng_key=max_key,
            axis_name=axis_name,
        )
        ascent = jax.tree.map(jnp.negative, away.gradient)
        moved = update(carry, ascent, hyper, settings, remaining_share)
        return moved, away.model_state, away.loss, global_norm(ascent)

    def no_step(carry: Carry, model_state: ModelState) -> tuple[Carry, ModelState, Array, Array]:
        loss, norm = jax.eval_shape(max_step, carry, model_state)[2:]
        return carry, model_state, jnp.zeros((), loss.dtype), jnp.zeros((), norm.dtype)

    carry, model_state, task_loss, task_norm = lax.cond(
        1.0 - remaining_share < settings.max_share, max_step, no_step, carry, model_state
    )
    known = teach(batches.remain.inputs)

    def remain_losses(logits: Array, batch: Batch) -> Array:
        apart = divergence(logits, known, hyper.temperature)
        return hyper.remain_divergence_weight * apart + hyper.remain_label_weight * batch_losses(logits, batch)

    remain = weighted_gradient(
        apply_fn,
        carry.params,
        model_state,
        batches.remain,
        losses_fn=remain_losses,
        rng_key=min_key,
        axis_name=axis_name,
    )
    carry = update(carry, remain.gradient, hyper, settings, remaining_share)
    return carry, remain.model_state, Report(task_loss, remain.loss, task_norm)


def scrub(apply_fn: ApplyFn, settings: ScrubSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it only unlearns.

    Args:
        apply_fn: the model.
        settings: static settings of an unlearn request.
        num_classes: C; every factory takes it, this method has no use for it.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> scrub(lambda *a, **k: None, ScrubSettings(steps=1), num_classes=2).init({"w": 1.0}, {}).params
    {'w': 1.0}
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: ScrubHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, axis_name=axis_name)
        bound = functools.partial(
            step,
            hyper=hyper,
            teacher=(state.params, state.model_state),
            apply_fn=apply_fn,
            settings=settings,
            axis_name=axis_name,
        )
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, refuse("scrub", "learn"), unlearn)
