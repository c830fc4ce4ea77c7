"""A-GEM: the gradient of new data, projected so that to first order it does not raise the loss of buffer data.

    g = g_L                                          where g_L · g_R ≥ 0
    g = g_L − (g_L · g_R / g_R · g_R) g_R            elsewhere;  then g · g_R = 0
    θ_{k+1} = θ_k − η_k (g + w θ_k)

The nearest direction to `g_L` in the half space of `g_R`. With an empty buffer `g_R = 0` and the step is plain.

References: Chaudhry et al., "Efficient Lifelong Learning with A-GEM", ICLR 2019, arXiv 1812.00420, equation 11.

Differences to the paper:
- One reservoir over all that is retained, not a fixed share for every task; there is no task descriptor.
- The projection is that of the gradients: momentum and weight decay come after it, and may leave the half space.
- Two forward passes, the task's first: BatchNorm normalises each batch by itself, and its statistics follow both.
- New examples enter the buffer after the request, not while it runs.
- With `distillation` the network at the start of the request stands in for a part of the labels behind `g_R` (ours).
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
from ugclu_jax.types import ApplyFn, Array, Examples, Info, Method, MethodState, ModelState, Params


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=100)
    20.0
    """
    return cost(settings, capacity, a_step=settings.task_batch_size + settings.remain_batch_size)


def project(gradient: Params, reference: Params) -> Params:
    """The nearest tree to `gradient` whose scalar product with `reference` is not negative.

    >>> project(jnp.array([1.0, -1.0]), jnp.array([0.0, 2.0])).tolist()
    [1.0, 0.0]
    >>> project(jnp.array([1.0, 1.0]), jnp.array([0.0, 2.0])).tolist()
    [1.0, 1.0]

    References: arXiv 1812.00420, equation 11.
    """

    def dot(a: Params, b: Params) -> Array:
        return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    product, squared = dot(gradient, reference), dot(reference, reference)
    share = jnp.where(product < 0, product / jnp.where(squared > 0, squared, 1.0), 0.0)
    return jax.tree.map(lambda g, r: g - (share * r).astype(g.dtype), gradient, reference)


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
    """One update along the projected `g_L` of explicit batches.

    >>> from ugclu_jax import optimizer
    >>> from ugclu_jax.types import Batch
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> new, kept = (Batch(jnp.ones((1, 1)), jnp.array([label]), jnp.ones(1)) for label in (0, 1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> both, settings = Batches(new, kept), DescentSettings()  # opposite gradients: nothing is left
    >>> step(start, {}, both, 1.0, None, DescentHyper(0.5), apply_fn=linear, settings=settings)[0].params.tolist()
    [[0.0, 0.0]]

    References: arXiv 1812.00420, Algorithm 2.
    """
    task_key, remain_key = (None, None) if rng_key is None else jax.random.split(rng_key)
    task = learning_gradient(apply_fn, carry.params, model_state, batches.task, rng_key=task_key, axis_name=axis_name)
    remain = preserving_gradient(
        apply_fn, carry.params, task.model_state, batches.remain, rng_key=remain_key, axis_name=axis_name
    )
    carry = update(carry, project(task.gradient, remain.gradient), hyper, settings, remaining_share)
    return carry, remain.model_state, Report(task.loss, remain.loss)


def agem(apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it only learns.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C, an argument of every factory; not read.
        on_step: progress function, see `fast_slow.request_loop`.

    >>> method = agem(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2)
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

    return Method(MethodState, learn, refuse("agem", "unlearn"))
