"""Selective synaptic dampening: weights that matter far more for what is to go than for what stays are shrunk, once.

    I_U, I_R = mean_i (∇ℓ_i(θ))²  over examples of task and buffer         the diagonal Fisher, element by element
    θ_w ← β_w θ_w,   β_w = min(λ I_R,w / I_U,w, 1)   where I_U,w > α I_R,w,   else 1

No step is taken and no loss is descended; what is spent are the gradients of the importances.

Foster, Schoepf, Brintrup 2024 (Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening, arXiv
2308.07707, AAAI), equations of its section on the method; α and λ default to those of its ResNet.

Differences: the paper compares with all of the training data, that which is to go among it, whose importances are
computed once, when the data are still there; here it is the buffer, which what is to go has left, so that a weight is
selected somewhat earlier. Examples are drawn with replacement, `steps` batches of each. The importance is the mean over
examples of the squared gradient, as the paper defines it ("fisher"); the published code squares the mean gradient of
each batch ("batch_fisher"). Both in evaluation mode, and the model's statistics stay as they are.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.descent import Report
from ugclu_jax.loop import Moment, request_loop
from ugclu_jax.saliency import STATISTICS, density
from ugclu_jax.stepping import StepSettings, check_settings
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
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
    Params,
    PyTree,
    RequestKind,
    Scalar,
)

Importance = Literal["fisher", "batch_fisher"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SSDHyper:
    """Continuous settings of selective synaptic dampening, traced."""

    selection: Scalar = 10.0
    """α ≥ 0, how many times as important for what is to go as for what stays a weight must be to be dampened."""
    dampening: Scalar = 1.0
    """λ ≥ 0, how little it is dampened; 0 sets it to 0."""


@dataclass(frozen=True, kw_only=True)
class SSDSettings:
    """Static settings of selective synaptic dampening, which has no optimizer.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> SSDSettings(importance="gradient")
    Traceback (most recent call last):
        ...
    ValueError: importance must be one of fisher, batch_fisher, got 'gradient'
    """

    steps: int = 100
    """Batches of the task, and as many of the buffer, that the importances are means over."""
    task_batch_size: int = 64
    """Examples of a batch of the task."""
    remain_batch_size: int = 64
    """Examples of a batch of the buffer."""
    importance: Importance = "fisher"
    """Mean of squared gradients of examples, or of mini-batches; the former holds one gradient for each of a batch."""
    rematerialise: bool = False
    """Whether reverse-mode derivatives of a request compute gradients again instead of keeping every activation."""

    def __post_init__(self) -> None:
        sizes = {"steps": 0, "task_batch_size": 1, "remain_batch_size": 1}
        check_settings(self, sizes, {"importance": Importance})


class Importances(NamedTuple):
    """Trees like params, non-negative."""

    task: Params  # I_U
    remain: Params  # I_R


def importances(at: At, task: Batch, remain: Batch, importance: Importance) -> Importances:
    """`I_U, I_R` of one batch of each, in evaluation mode.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> one, three = (Batch(jnp.array([[x]]), jnp.array([0]), jnp.ones(1)) for x in (1.0, 3.0))
    >>> found = importances(At(linear, jnp.zeros((1, 2)), {}), three, one, "fisher")
    >>> found.task.tolist(), found.remain.tolist()
    ([[2.25, 2.25]], [[0.25, 0.25]])
    """

    def of(batch: Batch) -> Params:
        return STATISTICS[importance](*at[:3], jax.tree.map(lambda x: x[None], batch), axis_name=at.axis_name)

    return Importances(of(task), of(remain))


def dampening_factors(found: Importances, hyper: SSDHyper) -> PyTree:
    """`β`, a tree like params with values in [0, 1].

    >>> found = Importances(jnp.array([8.0, 4.0, 1.0, 0.0]), jnp.array([1.0, 1.0, 1.0, 0.0]))
    >>> dampening_factors(found, SSDHyper(selection=5.0, dampening=2.0)).tolist()
    [0.25, 1.0, 1.0, 1.0]
    """

    def factor(task: Array, remain: Array) -> Array:
        ratio = hyper.dampening * remain / jnp.where(task > 0, task, 1.0)
        return jnp.where(task > hyper.selection * remain, jnp.minimum(ratio, 1.0), 1.0)

    return jax.tree.map(factor, found.task, found.remain)


def ssd(apply_fn: ApplyFn, settings: SSDSettings = SSDSettings()) -> Method:
    """The method; it does not learn.

    In `Info`, the density of the mask is the share of weights that are dampened.

    Raises:
        ValueError: settings of a method that takes optimizer steps.

    >>> ssd(lambda *a, **k: None, SSDSettings(steps=10)).cost("unlearn", 100, 64)
    20.0
    """
    if not isinstance(settings, SSDSettings) or isinstance(settings, StepSettings):
        raise ValueError(
            f"settings of ssd must be SSDSettings, got {type(settings).__name__}: it takes no optimizer step"
        )

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        return settings.steps * (settings.task_batch_size + settings.remain_batch_size) / EVALUATION_EXAMPLES

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: SSDHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        at = At(apply_fn, state.params, state.model_state, axis_name=where.axis_name)

        def draw(key: Array) -> tuple[Batch, Batch]:
            task_key, remain_key = jax.random.split(key)
            return (
                from_task(task_key, task, (settings.task_batch_size,), axis_name=where.axis_name),
                from_buffer(remain_key, buffer, (settings.remain_batch_size,), axis_name=where.axis_name),
            )

        def add(
            key: Array, total: Importances, model_state: ModelState, batches: tuple[Batch, Batch], moment: Moment
        ) -> tuple[Importances, ModelState, tuple[Report]]:
            found = importances(at, *batches, settings.importance)
            # A mean over all batches of one size, so that neither the number nor a sum of it can overflow.
            mean = jax.tree.map(lambda t, f: t + f / settings.steps, total, found)
            return mean, model_state, (Report(),)

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        found, model_state, _ = request_loop(
            draw,
            add,
            Importances(zeros, zeros),
            state.model_state,
            rng_key,
            settings.steps,
            rematerialise=settings.rematerialise,
            on_step=where.on_step,
        )
        factors = dampening_factors(found, hyper)
        params = jax.tree.map(lambda p, f: (p * f).astype(p.dtype), state.params, factors)
        info = Info(
            mask_density=density(jax.tree.map(lambda f: (f < 1).astype(f.dtype), factors)),
            gradient_evaluations=jnp.asarray(cost("unlearn", 0, 0), jnp.float32),
        )
        return MethodState(params, model_state, state.extra), info

    return Method("ssd", None, unlearn, {"unlearn": SSDHyper()}, cost, (), apply_fn, ("unlearn",))
