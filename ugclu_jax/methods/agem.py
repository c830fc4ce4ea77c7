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

import jax
import jax.numpy as jnp
import optax

from ugclu_jax.at import At
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.stepping import DescentHyper, DescentSettings
from ugclu_jax.types import ApplyFn, Batch, Method, Params


def project(gradient: Params, reference: Params) -> Params:
    """The nearest tree to `gradient` whose scalar product with `reference` is not negative.

    >>> project(jnp.array([1.0, -1.0]), jnp.array([0.0, 2.0])).tolist()
    [1.0, 0.0]
    >>> project(jnp.array([1.0, 1.0]), jnp.array([0.0, 2.0])).tolist()
    [1.0, 1.0]

    References: arXiv 1812.00420, equation 11.
    """
    product, squared = (jnp.asarray(optax.tree.vdot(each, reference)) for each in (gradient, reference))
    share = jnp.where(product < 0, product / jnp.where(squared > 0, squared, 1.0), 0.0)
    return jax.tree.map(lambda g, r: g - (share * r).astype(g.dtype), gradient, reference)


def direction(at: At, batches: Batches[Batch, Batch], hyper: DescentHyper) -> Direction:
    """`g_L`, projected by `g_R`."""
    for_task, for_remain = at.split(2)
    task = for_task.gradient(batches.task)
    remain = for_remain._replace(model_state=task.model_state).gradient(batches.remain)
    gradient = project(task.gradient, remain.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def agem(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings()) -> Method:
    """The method; it only learns.

    >>> agem(lambda *a, **k: None).kinds
    ('learn',)
    """
    return descent("agem", apply_fn, settings, learn=direction)
