"""What many models are together: a differentiable function of the ends of all problems, not of each by itself."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.learner import CLUState
from ugclu_jax.types import ApplyFn, Array, PyTree

COLDEST, HOTTEST = 1e-2, 1e2
"""Temperatures between which models are matched; `evidence.cool` looks further, from 1e-4 to 1e4."""
HALVINGS = 40
"""Of that interval on the logarithmic scale: 9.2 / 2^40 is below the resolution of single precision."""


class JointObjective(NamedTuple):
    """An objective that reads all models at once, each from its outputs.

    Attributes:
        outputs: `(state, reference) -> PyTree`, of one problem's end.
        value: `(outputs, reference) -> []`, of the outputs of all S problems, each leaf `[S, ...]`, and the reference
            of the first.
    """

    outputs: Callable[[CLUState, PyTree], PyTree]
    value: Callable[[PyTree, PyTree], Array]


def matched_energy(apply_fn: ApplyFn) -> JointObjective:
    """Energy distance between the models of S problems and O oracles at matched confidence, its mean over two sides.

    `E = mean_x [2 mean_{m,o} d(m, o) − mean_{m≠m′} d(m, m′) − mean_{o≠o′} d(o, o′)]` with the Hellinger distance
    `d(a, b) = ‖√p_a(x) − √p_b(x)‖ / √2`, once each model's logits are divided by the temperature at which the mean
    entropy of its outputs on the first side is that of the oracles: `evidence.matched_energy_distance`, with a
    derivative. The temperature's is that of an implicit function. The distance of two equal outputs has derivative 0.

    Args:
        apply_fn: the network, run in evaluation mode on all inputs at once.

    Returns:
        An objective whose reference is a sequence of `(inputs [N, ...], oracle logits [O, N, C])`, the first of test
        inputs; S and O are 2 or more. NaN where a model has the oracles' entropy at no temperature from .01 to 100.

    >>> from ugclu_jax.types import MethodState
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> states = [CLUState(MethodState(jnp.array([[z, 0.0]]), {}), None) for z in (1.0, 3.0)]
    >>> inputs = jnp.linspace(-1, 1, 9)[:, None]
    >>> oracles = jnp.stack([inputs @ jnp.array([[z, 0.0]]) for z in (2.0, 2.0)])
    >>> objective, reference = matched_energy(linear), ((inputs, oracles),)
    >>> outputs = jax.tree.map(lambda *each: jnp.stack(each), *(objective.outputs(each, reference) for each in states))
    >>> abs(float(objective.value(outputs, reference))) < 1e-6  # they differ from the oracles in confidence alone
    True

    References: Székely and Rizzo (2013), "Energy statistics"; its use here ours.
    """

    def outputs(state: CLUState, reference: PyTree) -> tuple[Array, ...]:
        network = state.method
        return tuple(
            apply_fn(network.params, network.model_state, inputs, train=False, rng_key=None)[0]
            for inputs, _ in reference
        )

    def value(outputs: tuple[Array, ...], reference: PyTree) -> Array:
        oracles = [logits.astype(jnp.result_type(float)) for _, logits in reference]
        entropy = jnp.mean(_entropy(oracles[0]))
        logs = jax.vmap(lambda logits: log_temperature(logits, entropy))(outputs[0])
        cooled = [logits / jnp.exp(logs)[:, None, None] for logits in outputs]
        return jnp.mean(jnp.stack([energy(mine, theirs) for mine, theirs in zip(cooled, oracles, strict=True)]))

    return JointObjective(outputs, value)


def energy(models: Array, oracles: Array) -> Array:
    """`evidence.energy_distance` of logits `[S, N, C]` and `[O, N, C]`, with a derivative.

    >>> sure = jnp.array([[[9.0, 0.0]], [[9.0, 0.0]]])
    >>> round(float(energy(sure, -sure)), 3)
    1.978
    """
    own, theirs = (jnp.exp(jax.nn.log_softmax(logits) / 2) for logits in (models, oracles))
    return 2 * jnp.mean(_distances(own, theirs)) - _of_different(own) - _of_different(theirs)


def log_temperature(logits: Array, entropy: Array) -> Array:
    """Logarithm of the temperature at which outputs `[N, C]` have a mean entropy, by bisection; NaN where none does.

    Its derivative is `dt = (dH_0 − ∂H/∂z · dz) / (∂H/∂t)`, of the equation `H(z / e^t) = H_0`: one step of Newton's
    from the root, which changes no digit of it.

    >>> logits = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    >>> round(float(log_temperature(2 * logits, jnp.mean(_entropy(logits))) / math.log(2)), 4)
    1.0
    """

    def excess(log: Array, logits: Array) -> Array:
        return jnp.mean(_entropy(logits / jnp.exp(log))) - entropy

    def halved(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = excess(middle, logits) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = (jnp.asarray(math.log(end), logits.dtype) for end in (COLDEST, HOTTEST))
    found = (excess(low, logits) < 0) & (excess(high, logits) > 0)
    root = lax.stop_gradient(sum(lax.fori_loop(0, HALVINGS, halved, (low, high))) / 2)
    slope = lax.stop_gradient(jax.grad(excess)(root, logits))
    return jnp.where(found, root - excess(root, logits) / jnp.where(found, slope, 1.0), jnp.nan)


def _entropy(logits: Array) -> Array:
    logs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(logs) * logs, axis=-1)


def _distances(first: Array, second: Array) -> Array:
    squares = jnp.sum((first[:, None] - second[None]) ** 2, axis=-1) / 2
    equal = squares == 0
    return jnp.where(equal, 0.0, jnp.sqrt(jnp.where(equal, 1.0, squares)))


def _of_different(roots: Array) -> Array:
    number = len(roots)
    return jnp.sum(jnp.mean(_distances(roots, roots), axis=-1)) / (number * (number - 1))
