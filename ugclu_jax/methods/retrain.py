"""Retraining: every request ends in a network trained from scratch on all that is retained. Exact, and the dearest.

    θ = train(θ_init, R_t)          see `ugclu_jax.oracle.train_from_scratch`

It is the reference of quality and of cost, and no competitor: it reads every retained example, where the others have a
bounded buffer, and its budget is that of its epochs. What it keeps of single examples is whether they are retained.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ugclu_jax import oracle
from ugclu_jax.buffer import Buffer
from ugclu_jax.oracle import InitFn, OracleSettings
from ugclu_jax.types import (
    ApplyFn,
    Array,
    Examples,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
    RequestKind,
)

NAME = "retrain"


def track(kind: RequestKind, extra: dict[str, PyTree], task: Examples) -> dict[str, PyTree]:
    """Which examples are retained after the request: `extra["retrain"]`, `[N]` bool.

    >>> import jax.numpy as jnp
    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([2, -1]), jnp.array(1))
    >>> track("learn", {"retrain": jnp.zeros(3, bool)}, task)["retrain"].tolist()
    [False, False, True]
    """
    if NAME not in extra:
        return extra
    retained = extra[NAME]
    # Padding is sent past the end, where it is dropped; -1 would be the last row.
    rows = jnp.where(jnp.arange(task.ids.shape[0]) < task.count, task.ids, retained.shape[0])
    return extra | {NAME: retained.at[rows].set(kind == "learn", mode="drop")}


def retained_examples(retained: Array, task: Examples) -> Examples:
    """The retained examples as ids, padded to all N rows.

    >>> import jax.numpy as jnp
    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([2, -1]), jnp.array(1))
    >>> examples = retained_examples(jnp.array([False, True, True]), task)
    >>> examples.ids.tolist(), int(examples.count)
    ([1, 2, -1], 2)
    """
    (ids,) = jnp.nonzero(retained, size=retained.shape[0], fill_value=-1)
    return Examples(task.inputs, task.labels, ids.astype(jnp.int32), jnp.sum(retained, dtype=jnp.int32))


def gradient_evaluations(count: Array | int, settings: OracleSettings) -> Array | float:
    """Cost of a request after which `count` examples are retained.

    >>> gradient_evaluations(128, OracleSettings(epochs=3))
    6.0
    """
    return oracle.gradient_evaluations(count, settings)


def retrain(
    apply_fn: ApplyFn,
    settings: OracleSettings,
    *,
    num_classes: int,
    init_fn: InitFn,
    num_examples: int,
    on_step: Callable | None = None,
) -> Method:
    """The method. It has no continuous settings: `hyper` is `()`.

    Args:
        apply_fn: the model.
        settings: how a network is trained.
        num_classes: C; every factory takes it, this method has no use for it.
        init_fn: `rng_key -> (params, model_state)`, a fresh network.
        num_examples: N, rows of the training arrays.
        on_step: every factory takes it; this method reports no progress.

    Under a mapped axis every device trains the same network on its own.

    Raises:
        ValueError: from `learn` and `unlearn`, where the task's arrays do not have N rows.

    >>> method = retrain(lambda *a, **k: None, OracleSettings(), num_classes=2, init_fn=lambda key: ({}, {}),
    ...                  num_examples=3)
    >>> method.init({}, {}).extra["retrain"].tolist()
    [False, False, False]
    """

    def init(params: Params, model_state: ModelState) -> MethodState:
        return MethodState(params, model_state, {NAME: jnp.zeros(num_examples, bool)})

    def request(
        kind: RequestKind,
        rng_key: Array,
        state: MethodState,
        hyper: PyTree,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        if task.labels.shape[0] != num_examples:
            raise ValueError(
                f"num_examples is {num_examples}, and the training arrays have {task.labels.shape[0]} rows: give "
                "retrain the number of rows"
            )
        extra = track(kind, state.extra, task)
        examples = retained_examples(extra[NAME], task)
        params, model_state = oracle.train_from_scratch(
            rng_key, examples, apply_fn=apply_fn, init_fn=init_fn, settings=settings
        )
        empty = jnp.zeros((0,))
        density = jax.tree.map(lambda _: jnp.ones(()), params)
        evaluations = jnp.asarray(gradient_evaluations(examples.count, settings), jnp.float32)
        info = Info(empty, jnp.zeros((0, 0)), empty, empty > 0, empty, density, evaluations)
        return MethodState(params, model_state, extra), info

    return Method(init, functools.partial(request, "learn"), functools.partial(request, "unlearn"), track)
