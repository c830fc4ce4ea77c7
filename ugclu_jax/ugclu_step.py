"""One outer step of UG-CLU on explicit batches: the fast step on the task, then the inner steps on remaining data."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ugclu_jax.at import At
from ugclu_jax.bounded import bounded_coefficients
from ugclu_jax.coefficients import CoefficientFn, adaptive, remaining_shares
from ugclu_jax.components import Component, learning_gradient, modulate, unlearning_gradient
from ugclu_jax.decay import decay_budget
from ugclu_jax.euclidean import toward_both
from ugclu_jax.fast_slow import FastSlowStep, InnerSteps, RemainGradientFn, fast_step, preconditioned, slow_step
from ugclu_jax.optimizer import TINY
from ugclu_jax.output_budget import FIRST_RELATIVE_STEP, kl_budget_step, mean_divergence, mean_over
from ugclu_jax.stepping import Carry
from ugclu_jax.trees import clip, global_norm
from ugclu_jax.types import Array, Batch, ModelState, Params, RequestKind
from ugclu_jax.ugclu_settings import Preconditioner, UGCLUHyper, UGCLUSettings

PRECONDITIONERS: dict[Preconditioner, optax.GradientTransformation] = {
    "adam": optax.scale_by_adam(b1=0.9, b2=0.99, eps_root=TINY),
    "sgd": optax.identity(),
}
"""By the name in the settings; `ug_clu` takes any other of optax's as it is."""


class TaskAndRemain(NamedTuple):
    """What one outer step reads."""

    task: Batch | None  # [B] examples to learn or to unlearn, with targets where the loss asks; None without fast step
    remain: Batch  # [J, B], one batch an inner step


class Known(NamedTuple):
    """What is made once a request, before its first step; the mask apart, which is `At.mask`."""

    levels: Array | None = None  # [C] where the unlearning loss is "bounded", see `bounded.held_levels`
    shares: tuple[Array | float, Array | float] | None = None  # (p_R, p_Q) of the data, for a Euclidean step


class StepInfo(NamedTuple):
    """What one outer step reports."""

    task_loss: Array | None  # [] mean loss of the task batch at θ_k
    update: FastSlowStep  # without its params and model_state, which are the carry


def start(params: Params, settings: UGCLUSettings, preconditioner: optax.GradientTransformation | None = None) -> Carry:
    """Before the first step: a fresh preconditioner, and as `memory` the first relative step of `output_budget`.

    >>> start({}, UGCLUSettings()).memory.item() < 0.01
    True
    """
    chosen = preconditioner or PRECONDITIONERS[settings.preconditioner]
    return Carry(params, chosen.init(params), jnp.asarray(FIRST_RELATIVE_STEP, jnp.result_type(float)))


class _Task(NamedTuple):
    component: Component
    left: Array  # [] mean probability that the request still has to move, in [0, 1]


def _task(at: At, task: Batch, hyper: UGCLUHyper, kind: RequestKind, settings: UGCLUSettings, known: Known) -> _Task:
    decay = at.moment.remaining_share if settings.coefficient_decay else 1.0
    component = learning_gradient if kind == "learn" else unlearning_gradient
    coefficient_fn: CoefficientFn = adaptive(kind, hyper.loss_exponent, decay, axis_name=at.axis_name)
    levels: Array | float = 0.0
    if kind == "unlearn" and settings.unlearn_loss == "bounded":
        if settings.levels == "midpoint":
            if task.targets is None:
                raise ValueError("task must have targets for levels 'midpoint', got none: see midpoint_targets")
            levels = jnp.take_along_axis(task.targets, task.labels[:, None], axis=1)[:, 0]
            task = task._replace(targets=None)
        elif known.levels is None:
            raise ValueError("at.known must hold levels for unlearn_loss 'bounded', got none: see bounded.held_levels")
        else:
            levels = known.levels[task.labels]
        coefficient_fn = bounded_coefficients(levels, decay)
    if kind == "unlearn" and settings.unlearn_loss == "target":
        component, coefficient_fn = learning_gradient, adaptive(kind, 0.0, decay, axis_name=at.axis_name)
    found = component(
        at.apply_fn,
        at.params,
        at.model_state,
        task,
        coefficient_fn,
        rng_key=at.rng_key,
        axis_name=at.axis_name,
    )
    p = jax.nn.softmax(found.logits)
    p_y = jnp.take_along_axis(p, task.labels[:, None], axis=1)[:, 0]
    left = 1.0 - p_y if kind == "learn" else jnp.maximum(p_y - levels, 0.0)
    if kind == "unlearn" and settings.unlearn_loss == "target" and task.targets is not None:
        left = 0.5 * jnp.sum(jnp.abs(p - task.targets), axis=1)
    return _Task(found, mean_over(left, task.weights, axis_name=at.axis_name))


def _rate_factors(settings: UGCLUSettings, share: Array | float, number: int) -> tuple[Array | float, float]:
    """What each of J inner rates is multiplied by, and the sum of these over a request."""
    outer = settings.outer_steps
    if settings.inner_schedule == "constant":
        return jnp.ones(number), float(outer * number)
    if settings.inner_schedule == "outer":
        return jnp.broadcast_to(share, (number,)), number * (outer + 1) / 2
    total = outer * number
    return share - (1.0 - remaining_shares(number)) / outer, (total + 1) / 2


def step(
    at: At,
    carry: Carry,
    batches: TaskAndRemain,
    hyper: UGCLUHyper,
    kind: RequestKind,
    settings: UGCLUSettings,
    preconditioner: optax.GradientTransformation | None = None,
) -> tuple[Carry, ModelState, StepInfo]:
    """One outer step of UG-CLU on explicit batches.

    Args:
        at: the model's mutable statistics, the moment, the mask, and as `at.known` a `Known` where one is needed;
            `at.params` are not read.
        carry: of the step before, or `start`.
        batches: what the step reads.
        hyper: continuous settings.
        kind: "learn" or "unlearn".
        settings: of the request; how many inner steps there are is read from the batches.
        preconditioner: of the inner steps, instead of the settings'.

    Returns:
        `(carry, model_state, StepInfo)`.

    Raises:
        ValueError: an unlearning loss that is bounded, and nothing known of what bounds it.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> no_inner = jax.tree.map(lambda x: x[None][:0], batch)
    >>> settings = UGCLUSettings(fast_step="rate")
    >>> at, batches = At(linear, jnp.zeros((1, 2)), {}), TaskAndRemain(batch, no_inner)
    >>> begun = start(at.params, settings)
    >>> step(at, begun, batches, UGCLUHyper(fast_learning_rate=1.0), "unlearn", settings)[0].params.tolist()
    [[-0.5, 0.5]]

    References: arXiv 2505.15178, fast-slow weight adaptation with adaptive coefficients and saliency; the budget and
    the preconditioner are ours.
    """
    known: Known = Known() if at.known is None else at.known
    at = at._replace(params=carry.params)
    for_fast, for_inner = at.split(2)
    task, left = None, jnp.zeros(())
    if batches.task is not None:
        task, left = _task(for_fast, batches.task, hyper, kind, settings, known)

    def remain_gradient(
        params: Params, model_state: ModelState, x: tuple[Batch, Array]
    ) -> tuple[Params, ModelState, Array]:
        batch, j = x
        key = None if for_inner.rng_key is None else jax.random.fold_in(for_inner.rng_key, j)
        remain = at._replace(params=params, model_state=model_state, rng_key=key).gradient(batch)
        gradient = jax.tree.map(lambda g, p: g + hyper.remain_weight_decay * p, remain.gradient, params)
        return clip(gradient, hyper.remain_clip_norm).gradient, remain.model_state, remain.loss

    number = batches.remain.labels.shape[0]
    factors, total = _rate_factors(settings, at.moment.remaining_share, number)
    inner = functools.partial(
        preconditioned,
        remain_inputs=(batches.remain, jnp.arange(number)),
        remain_learning_rate=hyper.remain_learning_rate,
        preconditioner=preconditioner or PRECONDITIONERS[settings.preconditioner],
        preconditioner_state=carry.optimizer,
        rate_factors=factors,
        decay_factors=decay_budget(hyper.kept_share, factors / max(total, 1.0)),
    )
    fast_params, norm, held, relative_step = _fast(for_fast, carry, batches.task, task, left, hyper, settings)
    inner_gradient: RemainGradientFn = remain_gradient
    if settings.manifold == "euclidean":
        assert task is not None and known.shares is not None
        along = clip(modulate(at.mask, task.gradient), hyper.clip_norm)
        inner_gradient = toward_both(remain_gradient, along.gradient, known.shares)
        norm, held = along.norm, along.active
    statistics = task.model_state if settings.keep_fast_statistics and task is not None else at.model_state
    ended: InnerSteps = inner(fast_params, statistics, inner_gradient)
    params = ended.params
    if settings.manifold == "fast_slow":
        params = slow_step(carry.params, ended.params, hyper.slow_step_size)
    moved = global_norm(optax.tree.sub(params, carry.params))
    told = FastSlowStep((), (), ended.losses, norm, held, moved)
    new = Carry(params, ended.preconditioner_state, relative_step)
    return new, ended.model_state, StepInfo(None if task is None else task.loss, told)


class _Fast(NamedTuple):
    params: Params
    norm: Array
    held: Array
    relative_step: Array


def _fast(
    at: At,
    carry: Carry,
    batch: Batch | None,
    task: Component | None,
    left: Array,
    hyper: UGCLUHyper,
    settings: UGCLUSettings,
) -> _Fast:
    """The fast step of the settings; none where they have none, or a Euclidean step takes its place."""
    zero = jnp.zeros((), jnp.result_type(float))
    if task is None or batch is None or settings.manifold == "euclidean":
        return _Fast(carry.params, zero, zero > 0, carry.memory)
    if settings.fast_step == "rate":
        fast = fast_step(
            carry.params,
            task.gradient,
            mask=at.mask,
            fast_learning_rate=hyper.fast_learning_rate,
            clip_norm=hyper.clip_norm,
        )
        return _Fast(fast.fast_params, fast.norm, fast.clipped, carry.memory)
    key = at.rng_key
    if key is not None and at.axis_name:
        key = jax.random.fold_in(key, lax.axis_index(at.axis_name))  # as the gradient's forward pass did

    def divergence(params: Params) -> Array:
        # In training mode and on the same rows, so that a step of length 0 is one of divergence 0.
        logits, _ = at.apply_fn(params, at.model_state, batch.inputs, train=True, rng_key=key)
        return mean_divergence(task.logits, logits, batch.weights, axis_name=at.axis_name)

    share = at.moment.remaining_share if settings.coefficient_decay else 1.0
    budgeted = kl_budget_step(
        carry.params,
        task.gradient,
        divergence,
        # What has no size of its own needs an end: a direction of length 1 is followed as far when nothing is left.
        output_budget=hyper.output_budget * share * left,
        relative_step=carry.memory,
        mask=at.mask,
    )
    return _Fast(budgeted.fast_params, budgeted.norm, budgeted.held, budgeted.relative_step)
