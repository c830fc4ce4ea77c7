"""Doing nothing: the model stays as it is, whatever is asked. What every unlearning method has to beat."""

import jax
import jax.numpy as jnp

from ugclu_jax.buffer import Buffer
from ugclu_jax.types import Array, Examples, Info, Method, MethodState, PyTree


def do_nothing() -> Method:
    """A method whose `learn` and `unlearn` return their state unchanged, at a cost of 0 gradient evaluations.

    >>> import jax
    >>> method = do_nothing()
    >>> state, info = method.unlearn(jax.random.key(0), method.init({"w": 1.0}, {}), None, None, None)
    >>> state.params, float(info.gradient_evaluations)
    ({'w': 1.0}, 0.0)
    """

    def request(
        rng_key: Array,
        state: MethodState,
        hyper: PyTree,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        empty = jnp.zeros((0,))
        density = jax.tree.map(lambda _: jnp.zeros(()), state.params)
        return state, Info(empty, jnp.zeros((0, 0)), empty, empty > 0, empty, density, jnp.zeros(()))

    return Method(MethodState, request, request)
