"""Retraining: every request ends in a network trained from scratch on all that is retained. Exact, and the dearest.

    θ = train(θ_init, R_t)          see `ugclu_jax.oracle.train_from_scratch`

It is the reference of quality and of cost, and no competitor: it reads every retained example, where the others have a
bounded buffer, and its budget is that of its epochs. What it keeps of single examples is whether they are retained.
"""

import jax
import jax.numpy as jnp

from ugclu_jax import oracle, retained
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.types import (
    HERE,
    AnyHyper,
    ApplyFn,
    Array,
    Buffer,
    Examples,
    Execution,
    Info,
    InitFn,
    Method,
    MethodState,
    RequestKind,
)

NAME = "retrain"


def retrain(
    apply_fn: ApplyFn, settings: OracleSettings = OracleSettings(), *, init_fn: InitFn, num_examples: int
) -> Method:
    """The method. It has no continuous settings: `hyper` is `()`; and it reports no progress.

    Args:
        apply_fn: the model.
        settings: how a network is trained.
        init_fn: `rng_key -> (params, model_state)`, a fresh network.
        num_examples: N, rows of the training arrays.

    Under a mapped axis every device trains the same network on its own.

    >>> method = retrain(lambda *a, **k: None, OracleSettings(), init_fn=lambda key: ({}, {}), num_examples=3)
    >>> method.init({}, {}).extra["retrain"].tolist()
    [False, False, False]
    """

    def request(
        rng_key: Array,
        state: MethodState,
        hyper: AnyHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        examples = retained.retained_examples(state.extra[NAME], task)
        params, model_state = oracle.train_from_scratch(
            rng_key, examples, apply_fn=apply_fn, init_fn=init_fn, settings=settings
        )
        density = jax.tree.map(lambda _: jnp.ones(()), params)
        spent = jnp.asarray(oracle.gradient_evaluations(examples.count, settings), jnp.float32)
        return MethodState(params, model_state, state.extra), Info(mask_density=density, gradient_evaluations=spent)

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        """At most: as if all examples were retained."""
        return float(oracle.gradient_evaluations(num_examples, settings))

    memory = retained.memory(NAME, num_examples)
    return Method(NAME, request, request, {"learn": (), "unlearn": ()}, cost, (memory,), apply_fn)
