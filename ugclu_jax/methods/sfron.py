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
every weight under both.

Differences: losses below `loss_floor` count as ℓ_min (ours); 0 is the published code, where an example whose loss is 0,
as that of a memorised one is in 32 bits, takes all the weight of its batch and has no gradient. Each Fisher reads
`saliency_batches` drawn batches, without augmentation, where the published code goes through all of the data; remaining
data are drawn from the bounded buffer, every batch with replacement. Clipping divides by the norm, not norm + 10⁻⁶.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.buffer import Buffer
from ugclu_jax.coefficients import LOSS_FLOOR, CoefficientFn
from ugclu_jax.components import modulate, preserving_gradient, unlearning_gradient
from ugclu_jax.descent import (
    Batches,
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    Schedule,
    check_settings,
    clip,
    cost,
    descend_request,
    pairs,
    rate,
    refuse,
    update,
)
from ugclu_jax.optimizer import MaskScope
from ugclu_jax.ranges import NORM_BOUND, Interval
from ugclu_jax.saliency import batch_fisher, density, hard_mask
from ugclu_jax.types import ApplyFn, Array, Batch, Examples, Info, Method, MethodState, ModelState, PyTree, Scalar

_TINY = 1e-15


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SfronHyper(DescentHyper):
    """Continuous settings of SFR-on, traced."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "clip_norm": NORM_BOUND}

    learning_rate: Scalar = 0.03
    """η ≥ 0, learning rate at the start of the request."""
    momentum: Scalar = 0.9
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
    clip_norm: Scalar = 0.5
    """> 0, largest global norm of the masked ascent; inf = no clipping."""


@dataclass(frozen=True)
class SfronSettings(DescentSettings):
    """Static settings of SFR-on.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> SfronSettings(forget_every=0)
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


def gradient_evaluations(settings: SfronSettings, capacity: int) -> float:
    """Cost of a request; the ascent counts in equal parts in every step, which is exact after whole rounds.

    >>> gradient_evaluations(SfronSettings(steps=10, forget_every=5, saliency_batches=8), capacity=100)
    28.0
    """
    saliency = 2 * settings.saliency_batches * settings.task_batch_size
    a_step = settings.task_batch_size / settings.forget_every + settings.remain_batch_size
    return cost(settings, capacity, a_step=a_step, once=saliency)


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
    rng_key: Array,
    state: MethodState,
    hyper: SfronHyper,
    task: Examples,
    buffer: Buffer,
    *,
    apply_fn: ApplyFn,
    settings: SfronSettings,
    axis_name: str | None = None,
) -> PyTree:
    """The mask of a request, from batches drawn from task and buffer at θ_0; a tree like params of 0 and 1."""
    task_key, remain_key = jax.random.split(rng_key)
    shape = (settings.saliency_batches, settings.task_batch_size)

    def statistic(batches: Batch) -> PyTree:
        fisher = batch_fisher(apply_fn, state.params, state.model_state, batches, axis_name=axis_name)
        return jax.tree.map(lambda f: f + _TINY, fisher)

    return hard_mask(
        statistic(from_task(task_key, task, shape, axis_name=axis_name)),
        statistic(from_buffer(remain_key, buffer, shape, axis_name=axis_name)),
        hyper.saliency_threshold,
    )


def forget_step(
    carry: Carry,
    model_state: ModelState,
    task_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: SfronHyper,
    *,
    apply_fn: ApplyFn,
    settings: SfronSettings,
    mask: PyTree | None = None,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """The ascent step on an explicit batch. No mask = ones.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper = SfronHyper(0.5, clip_norm=1.0)
    >>> at = {"apply_fn": linear, "settings": SfronSettings(), "mask": jnp.array([[0.0, 1.0]])}
    >>> forget_step(start, {}, batch, 1.0, None, hyper, **at)[0].params.tolist()  # clipped after the mask
    [[0.0, 0.5]]
    """
    scale = hyper.forget_weight * rate("cosine", remaining_share)
    task = unlearning_gradient(
        apply_fn,
        carry.params,
        model_state,
        task_batch,
        adaptive_weights(scale, hyper.loss_exponent, hyper.loss_floor, axis_name=axis_name),
        rng_key=rng_key,
        axis_name=axis_name,
    )
    ascent = clip(modulate(mask, task.gradient), hyper.clip_norm)
    # The gradient is masked already, as it must be before it is clipped; what is left to mask is the update.
    left = mask if settings.mask_applies_to == "update" else None
    carry = update(carry, ascent.gradient, hyper, settings, remaining_share, mask=left, mask_applies_to="update")
    return carry, task.model_state, Report(task_loss=task.loss, task_norm=ascent.norm, clipped=ascent.active)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: SfronHyper,
    *,
    apply_fn: ApplyFn,
    settings: SfronSettings,
    mask: PyTree | None = None,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One step of K on explicit batches: the ascent step where it is due, then the step on remaining data.

    Returns:
        `(carry, model_state, report)`; what the report tells of the task is 0 where no ascent was due.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batches = Batches(*(Batch(jnp.ones((1, 1)), jnp.array([y]), jnp.ones(1)) for y in (0, 1)))
    >>> start, hyper = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2)))), SfronHyper(weight_decay=0.0)
    >>> at = {"apply_fn": linear, "settings": SfronSettings(steps=10, forget_every=2)}
    >>> [bool(step(start, {}, batches, share, None, hyper, **at)[2].clipped) for share in (1.0, 0.9, 0.8)]
    [True, False, True]
    """
    forget_key, remain_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    at = {"apply_fn": apply_fn, "axis_name": axis_name}

    def forget(carry: Carry, model_state: ModelState) -> tuple[Carry, ModelState, Report]:
        return forget_step(
            carry, model_state, batches.task, remaining_share, forget_key, hyper, settings=settings, mask=mask, **at
        )

    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(forget, carry, model_state)[2])
    k = jnp.round((1.0 - remaining_share) * settings.steps).astype(jnp.int32)
    carry, model_state, report = lax.cond(
        k % settings.forget_every == 0, forget, lambda carry, state: (carry, state, nothing), carry, model_state
    )
    remain = preserving_gradient(
        params=carry.params, model_state=model_state, batch=batches.remain, rng_key=remain_key, **at
    )
    carry = update(carry, remain.gradient, hyper, settings, remaining_share)
    return carry, remain.model_state, report._replace(remain_loss=remain.loss)


def sfron(apply_fn: ApplyFn, settings: SfronSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it does not learn.

    In `Info`, what is told of the task is that of the last ascent step.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C; every factory takes it, this method has no use for it.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> sfron(lambda *a, **k: None, SfronSettings(), num_classes=2).learn()
    Traceback (most recent call last):
        ...
    ValueError: sfron does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def last(per_step: Array) -> Array:
        return jnp.repeat(per_step[:: settings.forget_every], settings.forget_every)[: settings.steps]

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: SfronHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        saliency_key, loop_key = jax.random.split(rng_key)
        at = {"apply_fn": apply_fn, "settings": settings, "axis_name": axis_name}
        mask = saliency_mask(saliency_key, state, hyper, task, buffer, **at)
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, axis_name=axis_name)
        bound = functools.partial(step, hyper=hyper, mask=mask, **at)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        new_state, info = descend_request(
            draw, bound, loop_key, state, settings, evaluations, mask_density=density(mask), on_step=on_step
        )
        told = {name: last(getattr(info, name)) for name in ("task_losses", "fast_norms", "clipped")}
        return new_state, info._replace(**told)

    return Method(MethodState, refuse("sfron", "learn"), unlearn)
