"""Curvature of a loss on explicit data as products with vectors, and what is solved by them: no matrix is made.

    Hessian          H v = d/dt ∇L(θ + t v) at t = 0
    Gauss-Newton     G v = Jᵀ (diag(p) − p pᵀ) J v / B,      J = ∂ logits / ∂θ,  p = softmax(logits)

G is positive semidefinite; H = G + the curvature of the network itself, which may be negative. A loss of Gaussian
outputs, or a network that is linear in θ, has H = G.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ugclu_jax.components import weighted_gradient
from ugclu_jax.types import ApplyFn, Array, Batch, ModelState, Params

Product = Callable[[Params], Params]
"""`v -> A v` of a symmetric A, on trees like params."""


def hessian_product(apply_fn: ApplyFn, params: Params, model_state: ModelState, batch: Batch) -> Product:
    """`v -> H v` of the mean loss of a batch, in training mode as the inner steps are.

    Args:
        apply_fn: the model; it must need no key.
        params: θ.
        model_state: mutable statistics; what the pass makes of them is dropped.
        batch: [B] examples.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> hessian_product(linear, jnp.zeros((1, 2)), {}, batch)(jnp.array([[1.0, 0.0]])).tolist()
    [[0.25, -0.25]]

    References: Pearlmutter (1994), "Fast exact multiplication by the Hessian".
    """

    def gradient(p: Params) -> Params:
        return weighted_gradient(apply_fn, p, model_state, batch).gradient

    return lambda vector: jax.jvp(gradient, (params,), (vector,))[1]


def gauss_newton_product(apply_fn: ApplyFn, params: Params, model_state: ModelState, batch: Batch) -> Product:
    """`v -> G v` of the mean cross-entropy of a batch; arguments as in `hessian_product`.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> gauss_newton_product(linear, jnp.zeros((1, 2)), {}, batch)(jnp.array([[1.0, 0.0]])).tolist()
    [[0.25, -0.25]]

    References: Schraudolph (2002), "Fast curvature matrix-vector products"; for a softmax G is the Fisher matrix.
    """

    def logits(p: Params) -> Array:
        return apply_fn(p, model_state, batch.inputs, train=True, rng_key=None)[0]

    def product(vector: Params) -> Params:
        z, tangent = jax.jvp(logits, (params,), (vector,))
        p, weights = jax.nn.softmax(z), batch.weights / jnp.maximum(jnp.sum(batch.weights), 1.0)
        curved = weights[:, None] * p * (tangent - jnp.sum(p * tangent, axis=1, keepdims=True))
        return jax.vjp(logits, params)[1](curved.astype(z.dtype))[0]

    return product


class Solved(NamedTuple):
    """A solution, and how far it can be believed."""

    solution: Params
    residual: Array  # [] ‖b − (A + λI) x‖ / ‖b‖
    steps: Array  # [] int32, products that were made
    least_curvature: Array  # [] smallest pᵀ(A + λI)p / pᵀp met: where it is not positive, x is of no use


def conjugate_gradients(
    product: Product, vector: Params, damping: Array | float, *, steps: int, tolerance: float = 0.0
) -> Solved:
    """`(A + λI) x = b`, by conjugate gradients from 0, ended where a direction of no positive curvature is met.

    Args:
        product: of A, symmetric.
        vector: b.
        damping: λ ≥ 0.
        steps: products at most.
        tolerance: relative residual that ends it earlier.

    >>> import jax.numpy as jnp
    >>> found = conjugate_gradients(lambda v: jnp.array([1.0, 3.0]) * v, jnp.array([2.0, 4.0]), 1.0, steps=2)
    >>> found.solution.round(5).tolist(), float(found.least_curvature) > 0
    ([1.0, 1.0], True)
    >>> float(conjugate_gradients(lambda v: -v, jnp.ones(1), 0.5, steps=9).least_curvature)
    -0.5

    References: Hestenes and Stiefel (1952); the stop at negative curvature is Steihaug's (1983).
    """
    add_scale, size = optax.tree.add_scale, _dot(vector, vector)

    def wanted(carry: tuple[Params, Params, Params, Array, Array, Array]) -> Array:
        _, _, _, left, done, least = carry
        return (done < steps) & (least > 0) & (left > tolerance**2 * size)

    def step(
        carry: tuple[Params, Params, Params, Array, Array, Array],
    ) -> tuple[Params, Params, Params, Array, Array, Array]:
        x, r, p, left, done, least = carry
        a = add_scale(product(p), damping, p)
        curved = _dot(p, a)
        good = curved > 0
        length = jnp.where(good, left / jnp.where(good, curved, 1.0), 0.0)
        x, r = add_scale(x, length, p), add_scale(r, -length, a)
        now = _dot(r, r)
        p = add_scale(r, now / left, p)
        return x, r, p, now, done + 1, jnp.minimum(least, curved / _dot(carry[2], carry[2]))

    begun = (optax.tree.zeros_like(vector), vector, vector, size, jnp.int32(0), jnp.full_like(size, jnp.inf))
    x, _, _, left, done, least = lax.while_loop(wanted, step, begun)
    return Solved(x, jnp.sqrt(left / jnp.where(size > 0, size, 1.0)), done, least)


def largest_curvature(product: Product, start: Params, *, steps: int = 20) -> Array:
    """The largest eigenvalue of a positive semidefinite A, from below, by the power method.

    Args:
        product: of A.
        start: a vector that is not orthogonal to the eigenvector, such as a random one.
        steps: products.

    >>> import jax.numpy as jnp
    >>> round(float(largest_curvature(lambda v: jnp.array([1.0, 3.0]) * v, jnp.ones(2))), 4)
    3.0
    """

    def step(vector: Params, _: None) -> tuple[Params, Array]:
        unit = optax.tree.scale(1 / optax.tree.norm(vector), vector)
        turned = product(unit)
        return turned, _dot(unit, turned)

    return lax.scan(step, start, None, length=steps)[1][-1]


def _dot(first: Params, second: Params) -> Array:
    return jnp.asarray(optax.tree.vdot(first, second))


def cosine(first: Params, second: Params) -> Array:
    """Cosine of the angle between two trees; 0 where one of them is 0.

    >>> import jax.numpy as jnp
    >>> float(cosine(jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0]))), float(cosine(jnp.zeros(1), jnp.ones(1)))
    (1.0, 0.0)
    """
    size = optax.tree.norm(first) * optax.tree.norm(second)
    return jnp.where(size > 0, _dot(first, second) / jnp.where(size > 0, size, 1.0), 0.0)
