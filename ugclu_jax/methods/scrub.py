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

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.at import At
from ugclu_jax.components import batch_losses
from ugclu_jax.descent import Batches, OwnStep, Prepared, Report, StepFn, descent
from ugclu_jax.losses import divergence
from ugclu_jax.ranges import POSITIVE
from ugclu_jax.stepping import Carry, DescentHyper, DescentSettings, check_reads, update
from ugclu_jax.trees import global_norm
from ugclu_jax.types import FORWARD_COST, ApplyFn, Array, Batch, Buffer, Examples, Method, ModelState, Scalar


@dataclass(frozen=True, kw_only=True)
class SCRUBSettings(DescentSettings):
    """Static settings: those of every optimizer-based method, and how long the max steps last.

    Raises:
        ValueError: a setting out of its range.

    >>> SCRUBSettings(max_share=1.5)
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
class SCRUBHyper(DescentHyper):
    """Continuous settings; α, γ and T default to those of the published code."""

    remain_divergence_weight: Scalar = 0.001
    """α ≥ 0, weight of the divergence from the teacher on remaining data."""
    remain_label_weight: Scalar = 0.99
    """γ ≥ 0, weight of the cross-entropy on remaining data."""
    temperature: Annotated[Scalar, POSITIVE] = 4.0
    """T > 0, of the divergences."""


def step_with(settings: SCRUBSettings) -> StepFn:
    """A max step, if it is still time for one, and a min step; `at.known` is the teacher, `(params, model_state)`.

    The min step alone spends the decay to `kept_share`.

    >>> from ugclu_jax.stepping import start
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta, settings = jnp.zeros((1, 2)), SCRUBSettings()
    >>> at, hyper = At(linear, theta, {}, known=(theta, {})), SCRUBHyper(0.5, remain_label_weight=1.0)
    >>> moved, _, _ = step_with(settings)(at, start(theta, settings), Batches(batch, batch), hyper)
    >>> moved.params.tolist()  # at θ_0 the divergences have no gradient: the labels alone move it
    [[0.25, -0.25]]
    """

    def step(
        at: At, carry: Carry, batches: Batches[Batch, Batch], hyper: SCRUBHyper
    ) -> tuple[Carry, ModelState, Report]:
        for_max, for_min = at.split(2)
        share = at.moment.remaining_share

        def max_step(carry: Carry, model_state: ModelState) -> tuple[Carry, ModelState, Array, Array]:
            known = at.logits(at.known, batches.task.inputs)
            away = for_max.gradient(
                batches.task, losses_fn=lambda logits, batch: divergence(logits, known, hyper.temperature)
            )
            ascent = jax.tree.map(jnp.negative, away.gradient)
            carry = update(carry, ascent, hyper, settings, share, decays=False)
            return carry, away.model_state, away.loss, global_norm(ascent)

        def no_step(carry: Carry, model_state: ModelState) -> tuple[Carry, ModelState, Array, Array]:
            loss, norm = jax.eval_shape(max_step, carry, model_state)[2:]
            return carry, model_state, jnp.zeros((), loss.dtype), jnp.zeros((), norm.dtype)

        carry, model_state, task_loss, task_norm = lax.cond(
            1.0 - share < settings.max_share, max_step, no_step, carry, at.model_state
        )
        known = at.logits(at.known, batches.remain.inputs)

        def remain_losses(logits: Array, batch: Batch) -> Array:
            apart = divergence(logits, known, hyper.temperature)
            return hyper.remain_divergence_weight * apart + hyper.remain_label_weight * batch_losses(logits, batch)

        here = for_min._replace(params=carry.params, model_state=model_state)
        remain = here.gradient(batches.remain, losses_fn=remain_losses)
        carry = update(carry, remain.gradient, hyper, settings, share)
        return carry, remain.model_state, Report(task_loss, remain.loss, task_norm)

    return step


def _teacher(at: At, hyper: SCRUBHyper, task: Examples, buffer: Buffer) -> Prepared:
    return Prepared(task, (at.params, at.model_state))


def scrub(apply_fn: ApplyFn, settings: SCRUBSettings = SCRUBSettings()) -> Method:
    """The method; it only unlearns.

    Its cost is affine in `steps`: exact where `max_share · steps` is whole; else the last, begun max step counts in
    part.

    >>> scrub(lambda *a, **k: None, SCRUBSettings(steps=6, max_share=0.5)).cost("unlearn", 100, 64)
    12.0
    """
    check_reads("scrub", settings, SCRUBSettings)
    examples = settings.max_share * settings.task_batch_size + settings.remain_batch_size
    return descent(
        "scrub",
        apply_fn,
        settings,
        unlearn=OwnStep(step_with(settings)),
        hyper=SCRUBHyper(),
        prepare=_teacher,
        a_step=(1 + FORWARD_COST) * examples,
    )
