"""Differentiable functions of the state after a request: how far it is from the oracle, how sure it is of labels."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ugclu_jax.learner import CLUState
from ugclu_jax.types import ApplyFn, Array, PyTree

Objective = Callable[[CLUState, PyTree], Array]
"""`(state, reference) -> []`, differentiable; the reference is the problem's."""


def kl_to_oracle(apply_fn: ApplyFn) -> Objective:
    """`mean_{s,n} KL(p_s(·|x_n) ‖ p(·|x_n))`, in nats: the distance to oracles, as `metrics.oracle_divergence` has it.

    Args:
        apply_fn: the network, run in evaluation mode on all inputs at once.

    Returns:
        An objective whose reference is `(inputs [N, ...], oracle logits [S, N, C])`.

    >>> from ugclu_jax.types import MethodState
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> state = CLUState(MethodState(jnp.zeros((1, 2)), {}), None)
    >>> round(float(kl_to_oracle(linear)(state, (jnp.ones((1, 1)), jnp.array([[[40.0, 0.0]]])))), 4)  # ln 2
    0.6931

    References: arXiv 2505.15178, the objective; mean over oracles ours.
    """

    def objective(state: CLUState, reference: tuple[Array, Array]) -> Array:
        inputs, oracle_logits = reference
        log_p = jax.nn.log_softmax(oracle_logits.astype(jnp.result_type(float)))
        log_q = jax.nn.log_softmax(_logits(apply_fn, state, inputs))
        return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))

    return objective


def expected_accuracy(apply_fn: ApplyFn) -> Objective:
    """`mean_n p(y_n | x_n)`: the accuracy of a network that draws its answers, a smooth stand-in for accuracy.

    Args:
        apply_fn: the network, run in evaluation mode on all inputs at once.

    Returns:
        An objective whose reference is `(inputs [N, ...], labels [N])`.

    >>> from ugclu_jax.types import MethodState
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> state = CLUState(MethodState(jnp.zeros((1, 4)), {}), None)
    >>> float(expected_accuracy(linear)(state, (jnp.ones((1, 1)), jnp.array([3]))))
    0.25
    """

    def objective(state: CLUState, reference: tuple[Array, Array]) -> Array:
        inputs, labels = reference
        probabilities = jax.nn.softmax(_logits(apply_fn, state, inputs))
        return jnp.mean(jnp.take_along_axis(probabilities, labels[:, None], axis=1))

    return objective


def _logits(apply_fn: ApplyFn, state: CLUState, inputs: Array) -> Array:
    return apply_fn(state.method.params, state.method.model_state, inputs, train=False, rng_key=None)[0]
