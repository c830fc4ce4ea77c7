"""Experience replay: every step descends the loss of new data plus the loss of buffer data.

    θ_{k+1} = θ_k − η_k (∇L_L(θ_k) + ∇L_R(θ_k) + w θ_k)

References: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", arXiv 1902.10486, ER with a reservoir.

Differences to the paper:
- The two losses are added, each the mean over its own batch; the paper takes one mean over both. For batches of one
  size the direction is the same and the step twice as long; with an empty buffer the step is that of fine-tuning.
- Two forward passes, the task's first: BatchNorm normalises each batch by itself, and its statistics follow both.
- New examples enter the buffer after the request, not while it runs: the buffer stands for what was learned before it.
- With `distillation` the network at the start of the request stands in for a part of the labels of buffer data (ours);
  classes that the buffer lacks and the request brings are deleted from what it says.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ugclu_jax.buffer import Buffer
from ugclu_jax.components import learning_gradient, preserving_gradient
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
from ugclu_jax.types import ApplyFn, Array, Examples, Info, Method, MethodState, ModelState


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
    hyper: DescentHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along `g_L + g_R` of explicit batches.

    >>> from ugclu_jax import optimizer
    >>> from ugclu_jax.types import Batch
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> both, settings = Batches(batch, batch), DescentSettings()
    >>> step(start, {}, both, 1.0, None, DescentHyper(0.5), apply_fn=linear, settings=settings)[0].params.tolist()
    [[0.5, -0.5]]

    References: arXiv 1902.10486, Algorithm 1.
    """
    task_key, remain_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    task = learning_gradient(apply_fn, carry.params, model_state, batches.task, rng_key=task_key, axis_name=axis_name)
    remain = preserving_gradient(
        apply_fn, carry.params, task.model_state, batches.remain, rng_key=remain_key, axis_name=axis_name
    )
    gradient = jax.tree.map(jnp.add, task.gradient, remain.gradient)
    carry = update(carry, gradient, hyper, settings, remaining_share)
    return carry, remain.model_state, Report(task.loss, remain.loss)


def er(apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it only learns.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C, an argument of every factory; not read.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> method = er(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2)
    >>> method.init({"w": 1.0}, {}).params
    {'w': 1.0}
    """

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: DescentHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        draw = pairs(apply_fn, state, hyper, settings, task, buffer, axis_name=axis_name)
        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, learn, refuse("er", "unlearn"))
