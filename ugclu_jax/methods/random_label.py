"""Random labels: descent on the task under wrong labels, and on remaining data under their own.

    g = ∇ mean_i CE(p(x_i; θ_k), y'_i) + α ∇L_R(θ_k),    y'_i uniform among the classes other than y_i
    θ_{k+1} = θ_k − η_k (g + w θ_k)                      (with momentum: see `ugclu_jax.optimizer`)

Golatkar et al. 2020 (arXiv 1911.04933) and Graves et al. 2021 (Amnesiac Machine Learning, arXiv 2010.10981), "RL" in
the tables of the field; the sum with weight α is that of SalUn (arXiv 2310.12508), which is this under a mask.

A wrong label is drawn once a request for each id and stays: no two steps pull an example to different classes.
Published code differs: some redraws at every batch, some may draw the true label.

Differences: remaining data are drawn from the bounded buffer, both batches with replacement, and a step sees one of
each where the field goes through the one and then the other, or shuffles their union. The head has no task: the wrong
label is any other of its C classes, be it not yet learned or also to be removed. Both forward passes are in training
mode, but only the remaining batch's statistics are kept. The task loss reported is that to the wrong labels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax

from ugclu_jax.batches import with_random_labels
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import Shares, euclidean_direction, learning_gradient, preserving_gradient
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
from ugclu_jax.types import ApplyFn, Array, Examples, Info, Method, MethodState, ModelState, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RandomLabelHyper(DescentHyper):
    """Continuous settings of random labels, traced."""

    remain_weight: Scalar = 3.0
    """α ≥ 0, weight of the descent on remaining data; the task under wrong labels has 1."""


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=100)
    20.0
    """
    return cost(settings, capacity, a_step=settings.task_batch_size + settings.remain_batch_size)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: RandomLabelHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update on explicit batches; the labels of the task batch are the wrong ones already.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> from ugclu_jax.types import Batch
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> task, remain = (Batch(jnp.ones((1, 1)), jnp.array([y]), jnp.ones(1)) for y in (0, 1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper, settings = RandomLabelHyper(0.5, remain_weight=3.0), DescentSettings()
    >>> step(start, {}, Batches(task, remain), 1.0, None, hyper, apply_fn=linear, settings=settings)[0].params.tolist()
    [[-0.5, 0.5]]
    """
    task_key, remain_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    at = (apply_fn, carry.params, model_state)
    task = learning_gradient(*at, batches.task, rng_key=task_key, axis_name=axis_name)
    remain = preserving_gradient(*at, batches.remain, rng_key=remain_key, axis_name=axis_name)
    shares = Shares(remain=hyper.remain_weight, learn=1.0)
    direction = euclidean_direction(shares, remain=remain.gradient, learn=task.gradient)
    carry = update(carry, direction, hyper, settings, remaining_share)
    return carry, remain.model_state, Report(task_loss=task.loss, remain_loss=remain.loss)


def random_label(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C ≥ 2, of the head.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> random_label(lambda *a, **k: None, DescentSettings(), num_classes=2).learn()
    Traceback (most recent call last):
        ...
    ValueError: random_label does not learn: combine it with a method that does, see ugclu_jax.learner.combine
    """

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: RandomLabelHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        label_key, loop_key = jax.random.split(rng_key)
        mislabelled = with_random_labels(label_key, task, num_classes)
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, relabelled=mislabelled, axis_name=axis_name)
        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, loop_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, refuse("random_label", "learn"), unlearn)
