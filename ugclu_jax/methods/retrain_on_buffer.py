"""Training from scratch on the memory buffer: what the buffer and the budget alone would give.

    θ_0 = θ_init,   θ_{k+1} = θ_k − η_k (∇L_R(θ_k) + w θ_k)          (with momentum: see `ugclu_jax.optimizer`)

A reference: it has forgotten exactly, and kept nothing that is not in the buffer. What is better than it has used what
the network knew; what is worse would have done better to throw the network away.
"""

import jax

from ugclu_jax.descent import descent, follow_remaining
from ugclu_jax.stepping import BufferSettings, StepHyper
from ugclu_jax.types import (
    HERE,
    ApplyFn,
    Array,
    Buffer,
    Examples,
    Execution,
    Info,
    InitFn,
    Method,
    MethodState,
)


def retrain_on_buffer(apply_fn: ApplyFn, settings: BufferSettings = BufferSettings(), *, init_fn: InitFn) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static.
        init_fn: `rng_key -> (params, model_state)`, a fresh network.

    >>> retrain_on_buffer(lambda *a, **k: None, init_fn=lambda key: ({}, {})).kinds
    ('unlearn',)
    """
    # Nothing is distilled: the network at the start of the steps is the fresh one, which knows nothing.
    steps = descent(
        "retrain_on_buffer",
        apply_fn,
        settings,
        unlearn=follow_remaining,
        hyper=StepHyper(),
        reads="buffer",
        distils=False,
    )

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: StepHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        init_key, steps_key = jax.random.split(rng_key)
        params, model_state = init_fn(init_key)
        fresh = MethodState(params, model_state, state.extra)
        return steps.update("unlearn")(steps_key, fresh, hyper, task, buffer, where=where)

    return steps._replace(unlearn=unlearn)
