"""SFR-on: ascent on the task now and then, under a mask, and descent on remaining data, through one optimizer.

    m    = 1[ F_U + 10⁻¹⁵ ≥ γ (F_R + 10⁻¹⁵) ]            F = `batch_fisher` at θ_0, once a request
    k mod forget_every = 0:
      g  = −α_k ∇ Σ_i w_i ℓ_i(θ_k),  w_i ∝ 1/(max(ℓ_i, ℓ_min)^λ + 10⁻¹⁵),  Σ_i w_i = 1,  α_k = α · ½(1 + cos πk/K)
      θ, b ← U(clip(m ⊙ g), θ_k, b)
    always:
      θ_{k+1}, b ← U(∇L_R(θ), θ, b)                      neither mask nor clip

`U` is the one update of `ugclu_jax.optimizer`, momentum SGD or AdamW, with weight decay, at the rate
η · ½(1 + cos πk/K) in both: the momentum `b` of the ascent lingers in the steps on remaining data that follow. The
weights `w` are held constant: an example that is forgotten already (high loss) counts less. Both forward passes are in
training mode and leave their statistics in the model. This is the order of operations of the published code.

Huang et al. 2024 (SFR-on, arXiv 2409.19732, NeurIPS), "Unified Gradient-Based Machine Unlearning with Remain Geometry
Enhancement".

`mask_applies_to` "gradient" is the published code: in an ascent step, momentum and weight decay still move masked-out
weights. With "update" they stay in it, and their momentum takes no ascent either. The steps on remaining data move
every weight under both, and they alone spend the decay to `kept_share`.

Differences: losses below `loss_floor` count as ℓ_min (ours); 0 is the published code, where an example whose loss is 0,
as that of a memorised one is in 32 bits, takes all the weight of its batch and has no gradient. Each Fisher reads
`saliency_batches` drawn batches, without augmentation, where the published code goes through all of the data; remaining
data are drawn from the bounded buffer, every batch with replacement. Clipping divides by the norm, not norm + 10⁻⁶.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.coefficients import LOSS_FLOOR, CoefficientFn
from ugclu_jax.components import modulate
from ugclu_jax.descent import Batches, OwnStep, Prepared, Report, StepFn, descent
from ugclu_jax.optimizer import MaskScope
from ugclu_jax.ranges import MOMENTUM, NORM_BOUND
from ugclu_jax.saliency import batch_fisher, hard_mask
from ugclu_jax.stepping import (
    Carry,
    DescentHyper,
    DescentSettings,
    Schedule,
    check_reads,
    check_settings,
    schedule_factor,
    update,
)
from ugclu_jax.trees import clip
from ugclu_jax.types import (
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
    PyTree,
    Scalar,
    Trace,
    UpdateFn,
)

_TINY = 1e-15


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SFRonHyper(DescentHyper):
    """Continuous settings of SFR-on, traced."""

    learning_rate: Scalar = 0.03
    """η ≥ 0, learning rate at the start of the request."""
    momentum: Annotated[Scalar, MOMENTUM] = 0.9
    """μ in [0, 1)."""
    weight_decay: Scalar = 5e-4
    """w ≥ 0, weight decay of both steps."""
    forget_weight: Scalar = 25.0
    """α ≥ 0, weight of the ascent at the start of the request."""
    loss_exponent: Scalar = 0.5
    """λ ≥ 0, how much the weights of examples depend on their loss; 0 = not at all."""
    loss_floor: Scalar = LOSS_FLOOR
    """ℓ_min ≥ 0, smallest loss that still tells examples apart; 0 is the published code."""
    saliency_threshold: Scalar = 1.0
    """γ ≥ 0, threshold of the mask; 0 frees every weight."""
    clip_norm: Annotated[Scalar, NORM_BOUND] = 0.5
    """> 0, largest global norm of the masked ascent; inf = no clipping."""


@dataclass(frozen=True, kw_only=True)
class SFRonSettings(DescentSettings):
    """Static settings of SFR-on.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> SFRonSettings(forget_every=0)
    Traceback (most recent call last):
        ...
    ValueError: forget_every must be at least 1, got 0
    """

    schedule: Schedule = "cosine"
    """How the learning rate falls to 0 over the request."""
    forget_every: int = 5
    """Steps on remaining data for each ascent step, which comes before the first of them."""
    saliency_batches: int = 8
    """Batches of the task, and as many of the buffer, that the mask reads."""
    mask_applies_to: MaskScope = "gradient"
    """Whether masked-out weights stay in an ascent step ("update"), or move by momentum and decay ("gradient")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"forget_every": 1, "saliency_batches": 1}, {"mask_applies_to": MaskScope})


def adaptive_weights(
    forget_weight: Array | float,
    loss_exponent: Array | float,
    loss_floor: Array | float,
    *,
    axis_name: str | None = None,
) -> CoefficientFn:
    """`ε_i = α_k n w_i`, with `w` as at the top of this file: the mean of `ε_i ℓ_i` over n examples is `α_k Σ w_i ℓ_i`.

    >>> adaptive_weights(1.0, 1.0, 0.0)(jnp.array([1.0, 3.0]), jnp.ones(2)).tolist()
    [1.5, 0.5]
    """

    def coefficients(losses: Array, weights: Array) -> Array:
        w = weights / (jnp.maximum(losses, loss_floor) ** loss_exponent + _TINY)
        total, count = jnp.sum(w), jnp.sum(weights)
        if axis_name:
            total, count = lax.psum((total, count), axis_name)
        return forget_weight * count * w / jnp.where(total > 0, total, 1.0)

    return coefficients


def saliency_mask(
    rng_key: Array, at: At, hyper: SFRonHyper, task: Examples, buffer: Buffer, settings: SFRonSettings
) -> PyTree:
    """The mask of a request, from batches drawn from task and buffer at θ_0; a tree like params of 0 and 1."""
    task_key, remain_key = jax.random.split(rng_key)
    shape, axis_name = (settings.saliency_batches, settings.task_batch_size), at.axis_name

    def statistic(batches: Batch) -> PyTree:
        fisher = batch_fisher(at.apply_fn, at.params, at.model_state, batches, axis_name=axis_name)
        return jax.tree.map(lambda f: f + _TINY, fisher)

    return hard_mask(
        statistic(from_task(task_key, task, shape, axis_name=axis_name)),
        statistic(from_buffer(remain_key, buffer, shape, axis_name=axis_name)),
        hyper.saliency_threshold,
    )


def forget_step_with(settings: SFRonSettings) -> StepFn:
    """The ascent step, on the task batch alone.

    >>> from ugclu_jax.stepping import start
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> theta, settings = jnp.zeros((1, 2)), SFRonSettings()
    >>> at = At(linear, theta, {}, mask=jnp.array([[0.0, 1.0]]))
    >>> hyper, step = SFRonHyper(0.5, clip_norm=1.0), forget_step_with(settings)
    >>> step(at, start(theta, settings), Batches(batch, None), hyper)[0].params.tolist()  # clipped after the mask
    [[0.0, 0.5]]
    """

    def step(
        at: At, carry: Carry, batches: Batches[Batch, None], hyper: SFRonHyper
    ) -> tuple[Carry, ModelState, Report]:
        share = at.moment.remaining_share
        scale = hyper.forget_weight * schedule_factor("cosine", share)
        weights = adaptive_weights(scale, hyper.loss_exponent, hyper.loss_floor, axis_name=at.axis_name)
        task = at.gradient(batches.task, weights)
        ascent = clip(modulate(at.mask, jax.tree.map(jnp.negative, task.gradient)), hyper.clip_norm)
        # The gradient is masked already, as it must be before it is clipped; what is left to mask is the update.
        left = at.mask if settings.mask_applies_to == "update" else None
        carry = update(
            carry, ascent.gradient, hyper, settings, share, mask=left, mask_applies_to="update", decays=False
        )
        return carry, task.model_state, Report(task_loss=task.loss, task_norm=ascent.norm, clipped=ascent.active)

    return step


def step_with(settings: SFRonSettings) -> StepFn:
    """One step of K: the ascent step where it is due, then the step on remaining data.

    What its report tells of the task is 0 where no ascent was due.

    >>> from ugclu_jax.loop import Moment
    >>> from ugclu_jax.stepping import start
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batches = Batches(*(Batch(jnp.ones((1, 1)), jnp.array([y]), jnp.ones(1)) for y in (0, 1)))
    >>> theta, settings = jnp.zeros((1, 2)), SFRonSettings(steps=10, forget_every=2)
    >>> ats = [At(linear, theta, {}, moment=Moment(jnp.array(k), 1 - k / 10)) for k in range(3)]
    >>> [bool(step_with(settings)(at, start(theta, settings), batches, SFRonHyper())[2].clipped) for at in ats]
    [True, False, True]
    """
    forget_step = forget_step_with(settings)

    def step(
        at: At, carry: Carry, batches: Batches[Batch, Batch], hyper: SFRonHyper
    ) -> tuple[Carry, ModelState, Report]:
        for_forget, for_remain = at.split(2)

        def forget(carry: Carry) -> tuple[Carry, ModelState, Report]:
            return forget_step(for_forget, carry, batches, hyper)

        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(forget, carry)[2])
        carry, model_state, report = lax.cond(
            at.moment.k % settings.forget_every == 0, forget, lambda carry: (carry, at.model_state, nothing), carry
        )
        remain = for_remain._replace(params=carry.params, model_state=model_state).gradient(batches.remain)
        carry = update(carry, remain.gradient, hyper, settings, at.moment.remaining_share)
        return carry, remain.model_state, report._replace(remain_loss=remain.loss)

    return step


def sfron(apply_fn: ApplyFn, settings: SFRonSettings = SFRonSettings()) -> Method:
    """The method; it does not learn.

    In `Info`, what is told of the task is that of the last ascent step. The ascent counts in equal parts in the cost of
    every step, which is exact after whole rounds.

    >>> sfron(lambda *a, **k: None, SFRonSettings(steps=10, forget_every=5)).cost("unlearn", 100, 64)
    28.0
    """
    check_reads("sfron", settings, SFRonSettings)

    def prepare(at: At, hyper: SFRonHyper, task: Examples, buffer: Buffer, rng_key: Array) -> Prepared:
        return Prepared(task, mask=saliency_mask(rng_key, at, hyper, task, buffer, settings))

    method = descent(
        "sfron",
        apply_fn,
        settings,
        unlearn=OwnStep(step_with(settings)),
        hyper=SFRonHyper(),
        prepare=prepare,
        prepare_keys=1,
        a_step=settings.task_batch_size / settings.forget_every + settings.remain_batch_size,
        once=2 * settings.saliency_batches * settings.task_batch_size,
    )
    return method._replace(unlearn=_telling_the_last(method.update("unlearn"), settings))


def _telling_the_last(unlearn: UpdateFn, settings: SFRonSettings) -> UpdateFn:
    def last(per_step: Trace) -> Array:
        return jnp.repeat(per_step[:: settings.forget_every], settings.forget_every)[: settings.steps]

    def told(
        rng_key: Array,
        state: MethodState,
        hyper: SFRonHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        state, info = unlearn(rng_key, state, hyper, task, buffer, where=where)
        return state, info._replace(
            task_losses=last(info.task_losses), fast_norms=last(info.fast_norms), clipped=last(info.clipped)
        )

    return told
