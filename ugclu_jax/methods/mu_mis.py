"""MU-Mis: what was learned of an example shows in how its label's logit follows its input, and is taken back there.

    L   = mean_U [ ‖∇_x z_c(x)‖² − ‖∇_x z_c'(x)‖² ]           c its label, c' another class, drawn anew in every step
    θ_{k+1} = θ_k − η_k (clip(∇_θ L) + w θ_k)                 (with momentum: see `ugclu_jax.optimizer`)

    r_k = ‖∇_x z_c'(θ_k)‖ / ‖∇_x z_c'(θ_0)‖                   over one batch of U, with classes c' drawn for the request
    no step any more from the first k on with r_k > δ and r_k > min_{j<k} r_j

z are logits, ‖·‖ of r is over the whole batch. Training makes the label's logit follow the input more than others;
a network that never saw the example shows less of that. The stopping rule waits until the other classes' logits, which
first lose, have back what they had.

Cheng, Huang, Zhou, He, Yang, Wu, Huang (Remaining-data-free Machine Unlearning by Suppressing Sample Contribution, ICLR
2026, arXiv 2402.15109, at first without its first word), the loss (equation 3) and the stopping rule (algorithm 1).

Differences: r is watched on one batch of the task at every step, where the paper asks all that is to go; the request
goes on to its end without moving. Steps after the stop are counted in the cost, for they are paid before anyone
knows. The gradient is clipped (ours), for L has no lower bound; inf is the paper. Batches are drawn with replacement.
The network is in evaluation mode, so that no example's logits depend on another's input; its statistics stay. Pixels
of uint8 count as shares of 255, floats as they are stored. The task loss reported is L. The buffer is not read.

Integers other than uint8, as token ids are, have no gradient: they are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.at import At
from ugclu_jax.batches import from_task, share
from ugclu_jax.components import number_of_classes
from ugclu_jax.descent import Direction, OwnStep, Prepared, Report, StepFn, along, descent
from ugclu_jax.ranges import NORM_BOUND
from ugclu_jax.stepping import Carry, StepHyper, TaskSettings, check_reads
from ugclu_jax.trees import clip
from ugclu_jax.types import (
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    Examples,
    Method,
    ModelState,
    Params,
    Rows,
    Scalar,
)

PIXEL_RANGE = 255.0
"""What pixels of uint8 are divided by, so that their gradients are of the size of those of floats."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MUMisHyper(StepHyper):
    """Continuous settings of MU-Mis, traced."""

    learning_rate: Scalar = 0.01
    """η ≥ 0, learning rate at the start of the request."""
    clip_norm: Annotated[Scalar, NORM_BOUND] = 1.0
    """> 0, largest global norm of the gradient; inf = no clipping."""
    stop_ratio: Annotated[Scalar, NORM_BOUND] = 1.0
    """δ > 0, share of the other classes' first sensitivity at which the steps end; inf = at the last one."""


class MUMisBatch(NamedTuple):
    """Examples to unlearn, each with another class than its label."""

    task: Batch  # [B]
    others: Array  # [B] int32


class Watched(NamedTuple):
    """What the stopping rule asks."""

    batch: MUMisBatch
    first: Array  # [] ‖∇_x z_c'(θ_0)‖


class Stop(NamedTuple):
    """What it remembers."""

    moving: Array  # [] bool
    lowest: Array  # [] min_{j<k} r_j


def check(params: Params, model_state: ModelState, inputs: Rows) -> None:
    """Refuse inputs that have no gradient.

    Raises:
        ValueError: naming their type.

    >>> check({}, {}, jnp.zeros((1, 4), jnp.int32))
    Traceback (most recent call last):
        ...
    ValueError: mu_mis follows the gradient of logits by the inputs, and inputs of int32, as token ids...
    """
    if inputs.dtype != jnp.uint8 and not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            f"mu_mis follows the gradient of logits by the inputs, and inputs of {inputs.dtype}, as token ids are, "
            "have none: give uint8 or floats, or take another method"
        )


def sensitivities(at: At, inputs: Array, *classes: Array) -> list[Array]:
    """`‖∇_x z_c(x)‖²` of each example, for one class an example or several.

    Args:
        at: the network.
        inputs: `[B, ...]` as stored, uint8 or floats.
        classes: each `[B]` int32.

    Returns:
        `[B]` for each of `classes`.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> theta = jnp.array([[1.0, 2.0], [0.0, 2.0]])
    >>> [s.tolist() for s in sensitivities(At(linear, theta, {}), jnp.ones((1, 2)), jnp.array([0]), jnp.array([1]))]
    [[1.0], [8.0]]
    """
    scale = PIXEL_RANGE if inputs.dtype == jnp.uint8 else 1.0
    x = inputs.astype(jnp.float32) / scale if inputs.dtype == jnp.uint8 else inputs

    def logits_of(x: Array) -> Array:
        return at.apply_fn(at.params, at.model_state, x * scale, train=False, rng_key=None)[0]

    logits, pull_back = jax.vjp(logits_of, x)
    gradients = (pull_back(jax.nn.one_hot(c, logits.shape[1], dtype=logits.dtype))[0] for c in classes)
    return [jnp.sum(jnp.square(g), axis=tuple(range(1, g.ndim))) for g in gradients]


def _mean(values: Array, weights: Array, axis_name: str | None) -> Array:
    total, count = jnp.sum(values * weights), jnp.sum(weights)
    if axis_name:
        total, count = lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1.0)


def other_sensitivity(at: At, batch: MUMisBatch) -> Array:
    """`‖∇_x z_c'‖ / √B` of a batch."""
    (others,) = sensitivities(at, batch.task.inputs, batch.others)
    return jnp.sqrt(_mean(others, batch.task.weights, at.axis_name))


def direction(at: At, batches: MUMisBatch, hyper: MUMisHyper) -> Direction:
    """`clip(∇_θ L)` of a batch to unlearn, in evaluation mode."""
    task, count = batches.task, jnp.sum(batches.task.weights)
    if at.axis_name:
        count = lax.psum(count, at.axis_name)

    def share_of_loss(params: Params) -> Array:
        own, others = sensitivities(at._replace(params=params), task.inputs, task.labels, batches.others)
        return jnp.sum((own - others) * task.weights) / jnp.maximum(count, 1.0)

    loss, gradient = jax.value_and_grad(share_of_loss)(at.params)
    if at.axis_name:
        loss, gradient = lax.psum((loss, gradient), at.axis_name)
    found = clip(gradient, hyper.clip_norm)
    report = Report(task_loss=loss, task_norm=found.norm, clipped=found.active)
    return Direction(found.gradient, at.model_state, report)


def step_with(settings: TaskSettings) -> StepFn:
    """One step, or none once the rule has said stop; `at.known` is `Watched`, the carry's memory `Stop`.

    What its report tells is 0 where no step is taken.
    """
    advance = along(direction, settings)

    def step(at: At, carry: Carry, batches: MUMisBatch, hyper: MUMisHyper) -> tuple[Carry, ModelState, Report]:
        watched: Watched = at.known
        stop: Stop = carry.memory
        ratio = other_sensitivity(at, watched.batch) / jnp.where(watched.first > 0, watched.first, 1.0)
        over = (ratio > hyper.stop_ratio) & (ratio > stop.lowest)
        moving = stop.moving & ~over
        carry = carry._replace(memory=Stop(moving, jnp.minimum(stop.lowest, ratio)))

        def move(carry: Carry) -> tuple[Carry, Report]:
            carry, _, report = advance(at, carry, batches, hyper)
            return carry, report

        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(move, carry)[1])
        carry, report = lax.cond(moving, move, lambda carry: (carry, nothing), carry)
        return carry, at.model_state, report

    return step


STEP_COST = 3.0
"""Gradient evaluations an example of a step: a forward pass and two backward to the input, and the reverse of all.

XLA counts 2.2 to 3.4 times the operations of a gradient for the bundled CNN and MLP.
"""
WATCH_COST = 2 * FORWARD_COST
"""Of an example watched: forward, and backward to the input alone."""


def _draw_others(rng_key: Array, at: At, task: Examples, size: int) -> MUMisBatch:
    """A batch of the task, each example with a class drawn uniformly among those that are not its label."""
    draw_key, class_key = jax.random.split(rng_key)
    batch = from_task(draw_key, task, (size,), axis_name=at.axis_name)
    classes = number_of_classes(at.apply_fn, at.params, at.model_state, task.inputs)
    shift = share(jax.random.randint(class_key, (size,), 1, classes, batch.labels.dtype), at.axis_name)
    return MUMisBatch(batch, (batch.labels + shift) % classes)


def mu_mis(apply_fn: ApplyFn, settings: TaskSettings = TaskSettings()) -> Method:
    """The method; it does not learn.

    >>> mu_mis(lambda *a, **k: None, TaskSettings(steps=3, task_batch_size=48)).cost("unlearn", 100, 64)
    8.75
    """
    check_reads("mu_mis", settings, TaskSettings)
    size = settings.task_batch_size

    def draws(at: At, task: Examples, buffer: Buffer, targets: Array | None) -> Callable[[Array], MUMisBatch]:
        return lambda key: _draw_others(key, at, task, size)

    def watch(at: At, hyper: MUMisHyper, task: Examples, buffer: Buffer, rng_key: Array) -> Prepared:
        batch = _draw_others(rng_key, at, task, size)
        first = other_sensitivity(at, batch)
        return Prepared(task, Watched(batch, first), carried=Stop(jnp.array(True), jnp.full_like(first, jnp.inf)))

    return descent(
        "mu_mis",
        apply_fn,
        settings,
        unlearn=OwnStep(step_with(settings)),
        hyper=MUMisHyper(),
        reads="task",
        draws=draws,
        prepare=watch,
        prepare_keys=1,
        a_step=(STEP_COST + WATCH_COST) * size,
        once=WATCH_COST * size,
        check=check,
    )
