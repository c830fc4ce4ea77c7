"""Doing nothing: the model stays as it is, whatever is asked. What every unlearning method has to beat."""

import jax
import jax.numpy as jnp

from ugclu_jax.types import (
    HERE,
    AnyHyper,
    Array,
    Buffer,
    Examples,
    Execution,
    Info,
    Method,
    MethodState,
)


def _request(
    rng_key: Array,
    state: MethodState,
    hyper: AnyHyper,
    task: Examples,
    buffer: Buffer,
    *,
    where: Execution = HERE,
) -> tuple[MethodState, Info]:
    return state, Info(mask_density=jax.tree.map(lambda _: jnp.zeros(()), state.params))


def do_nothing() -> Method:
    """A method whose `learn` and `unlearn` return their state unchanged, at a cost of 0 gradient evaluations.

    >>> import jax
    >>> method = do_nothing()
    >>> state, info = method.unlearn(jax.random.key(0), method.init({"w": 1.0}, {}), (), None, None)
    >>> state.params, float(info.gradient_evaluations)
    ({'w': 1.0}, 0.0)
    """
    return Method("do_nothing", _request, _request, {"learn": (), "unlearn": ()}, lambda kind, capacity, task_rows: 0.0)
