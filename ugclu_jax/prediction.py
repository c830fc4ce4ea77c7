"""Outputs of a network in evaluation mode, a batch in memory at a time."""

import jax.numpy as jnp
from jax import lax

from ugclu_jax.streaming import HostArray, Referred, take
from ugclu_jax.types import ApplyFn, Array, ModelState, Params, Rows


def predict(apply_fn: ApplyFn, params: Params, model_state: ModelState, inputs: Rows, *, batch_size: int = 64) -> Array:
    """Logits `[R, C]` of `inputs [R, ...]`, pure; `learner.predict_program` compiles it.

    Args:
        apply_fn: the model.
        params, model_state: the network.
        inputs: on the device, or in host memory, of which a batch is read at a time.
        batch_size: rows that pass forward at a time, 1 or more; memory grows with it.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> predict(linear, jnp.eye(2), {}, jnp.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0]]
    """

    def logits_of(x: Array) -> Array:
        return apply_fn(params, model_state, x[None], train=False, rng_key=None)[0][0]

    if isinstance(inputs, HostArray | Referred):
        return lax.map(lambda row: logits_of(take(inputs, row)), jnp.arange(inputs.shape[0]), batch_size=batch_size)
    return lax.map(logits_of, inputs, batch_size=batch_size)
