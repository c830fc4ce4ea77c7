"""Sequential fine-tuning: descent on the new data alone. The lower bound of continual learning: nothing is rehearsed.

    θ_{k+1} = θ_k − η_k (∇L_L(θ_k) + w θ_k)          (with momentum: see `ugclu_jax.optimizer`)

Differences to the literature: none; the buffer is not read.
"""

import functools
from collections.abc import Callable

from ugclu_jax.batches import from_task
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import learning_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    refuse,
    refuse_distillation,
    update,
)
from ugclu_jax.types import ApplyFn, Array, Batch, Examples, Info, Method, MethodState, ModelState


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=100)
    10.0
    """
    return cost(settings, capacity, a_step=settings.task_batch_size)


def step(
    carry: Carry,
    model_state: ModelState,
    task_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: DescentHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along `g_L` of an explicit batch.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> settings = DescentSettings()
    >>> step(start, {}, batch, 1.0, None, DescentHyper(0.5), apply_fn=linear, settings=settings)[0].params.tolist()
    [[0.25, -0.25]]
    """
    task = learning_gradient(apply_fn, carry.params, model_state, task_batch, rng_key=rng_key, axis_name=axis_name)
    return update(carry, task.gradient, hyper, settings, remaining_share), task.model_state, Report(task.loss)


def finetune(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, on_step: Callable | None = None
) -> Method:
    """The method; it only learns.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C, an argument of every factory; not read.
        on_step: progress function, see `fast_slow.request_loop`.

    Raises:
        ValueError: `settings.distillation`, for no step is taken on the buffer.

    >>> method = finetune(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2)
    >>> method.init({"w": 1.0}, {}).params
    {'w': 1.0}
    """
    refuse_distillation("finetune", settings)

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: DescentHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        def draw(key: Array) -> Batch:
            return from_task(key, task, (settings.task_batch_size,), axis_name=axis_name)

        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(MethodState, learn, refuse("finetune", "unlearn"))
