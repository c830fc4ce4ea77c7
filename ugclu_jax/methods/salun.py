"""SalUn: random labels for the task, under a mask of the weights that its gradient speaks of.

    m = 1 for the share κ of all weights with the largest |∇ mean_i ℓ_i(θ_0)| over the task, 0 for the others
    g = ∇ mean_i CE(p(x_i; θ_k), y'_i) + α ∇L_R(θ_k),    y'_i uniform among the classes other than y_i
    θ_{k+1} = θ_k − η_k m ⊙ (g + w θ_k)                  (with momentum: see `ugclu_jax.optimizer`)

Fan et al. 2024 (SalUn, arXiv 2310.12508, ICLR). There `θ = m ⊙ (θ_0 + Δθ) + (1 − m) ⊙ θ_0`: a masked-out weight does
not move, which is `mask_applies_to` "update". Code that was long in use multiplied the gradient alone, so that momentum
and weight decay still moved such weights: "gradient". κ = 1 is `random_label`.

Differences: the mask reads `saliency_batches` batches drawn from the task, in evaluation mode, where the paper reads
all of it. A wrong label is drawn once a request for each id and stays: never the true one, any other of the C classes
of the head. Remaining data are drawn from the bounded buffer, both batches with replacement, one of each in a step.
Both forward passes are in training mode, but only the remaining batch's statistics are kept. The task loss reported is
that to the wrong labels.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax

from ugclu_jax.batches import from_task, with_random_labels
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import Shares, euclidean_direction, learning_gradient, preserving_gradient
from ugclu_jax.descent import (
    Batches,
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    check_settings,
    cost,
    descend_request,
    pairs,
    refuse,
    update,
)
from ugclu_jax.optimizer import MaskScope
from ugclu_jax.ranges import SHARE, Interval
from ugclu_jax.saliency import density, gradient_statistic, top_share_mask
from ugclu_jax.types import ApplyFn, Array, Examples, Info, Method, MethodState, ModelState, PyTree, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SalunHyper(DescentHyper):
    """Continuous settings of SalUn, traced."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "keep_share": SHARE}

    remain_weight: Scalar = 3.0
    """α ≥ 0, weight of the descent on remaining data; the task under wrong labels has 1."""
    keep_share: Scalar = 0.5
    """κ in [0, 1], share of the weights that the mask leaves free."""


@dataclass(frozen=True)
class SalunSettings(DescentSettings):
    """Static settings of SalUn.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> SalunSettings(mask_applies_to="weights")
    Traceback (most recent call last):
        ...
    ValueError: mask_applies_to must be one of gradient, update, got 'weights'
    """

    saliency_batches: int = 8
    """Batches of the task that the mask reads."""
    mask_applies_to: MaskScope = "update"
    """Whether masked-out weights stay ("update"), or still move by momentum and weight decay ("gradient")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"saliency_batches": 1}, {"mask_applies_to": MaskScope})


def gradient_evaluations(settings: SalunSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(SalunSettings(steps=10, saliency_batches=8), capacity=100)
    28.0
    """
    saliency = settings.saliency_batches * settings.task_batch_size
    return cost(settings, capacity, a_step=settings.task_batch_size + settings.remain_batch_size, once=saliency)


def saliency_mask(
    rng_key: Array,
    state: MethodState,
    hyper: SalunHyper,
    task: Examples,
    *,
    apply_fn: ApplyFn,
    settings: SalunSettings,
    axis_name: str | None = None,
) -> PyTree:
    """The mask of a request, from batches drawn from the task at θ_0; a tree like params of 0 and 1."""
    shape = (settings.saliency_batches, settings.task_batch_size)
    batches = from_task(rng_key, task, shape, axis_name=axis_name)
    statistic = gradient_statistic(apply_fn, state.params, state.model_state, batches, axis_name=axis_name)
    return top_share_mask(statistic, hyper.keep_share)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: SalunHyper,
    *,
    apply_fn: ApplyFn,
    settings: SalunSettings,
    mask: PyTree | None = None,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update on explicit batches; the labels of the task batch are the wrong ones already. No mask = ones.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> from ugclu_jax.types import Batch
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> task, remain = (Batch(jnp.ones((1, 1)), jnp.array([y]), jnp.ones(1)) for y in (0, 1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper, settings = SalunHyper(0.5, remain_weight=3.0), SalunSettings()
    >>> batches, mask = Batches(task, remain), jnp.array([[0.0, 1.0]])
    >>> step(start, {}, batches, 1.0, None, hyper, apply_fn=linear, settings=settings, mask=mask)[0].params.tolist()
    [[0.0, 0.5]]
    """
    task_key, remain_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    at = (apply_fn, carry.params, model_state)
    task = learning_gradient(*at, batches.task, rng_key=task_key, axis_name=axis_name)
    remain = preserving_gradient(*at, batches.remain, rng_key=remain_key, axis_name=axis_name)
    shares = Shares(remain=hyper.remain_weight, learn=1.0)
    direction = euclidean_direction(shares, remain=remain.gradient, learn=task.gradient)
    scope = settings.mask_applies_to
    carry = update(carry, direction, hyper, settings, remaining_share, mask=mask, mask_applies_to=scope)
    return carry, remain.model_state, Report(task_loss=task.loss, remain_loss=remain.loss)


def salun(apply_fn: ApplyFn, settings: SalunSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C ≥ 2, of the head.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> salun(lambda *a, **k: None, SalunSettings(), num_classes=2).learn()
    Traceback (most recent call last):
        ...
    ValueError: salun does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: SalunHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        saliency_key, label_key, loop_key = jax.random.split(rng_key, 3)
        at = {"apply_fn": apply_fn, "settings": settings, "axis_name": axis_name}
        mask = saliency_mask(saliency_key, state, hyper, task, **at)
        mislabelled = with_random_labels(label_key, task, num_classes)
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, relabelled=mislabelled, axis_name=axis_name)
        bound = functools.partial(step, hyper=hyper, mask=mask, **at)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(
            draw, bound, loop_key, state, settings, evaluations, mask_density=density(mask), on_step=on_step
        )

    return Method(MethodState, refuse("salun", "learn"), unlearn)
