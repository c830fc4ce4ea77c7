"""Products with curvature against exact matrices, the solver against NumPy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from ugclu_jax import curvature
from ugclu_jax.types import Batch

RNG = np.random.default_rng(0)
INPUTS, LABELS = RNG.normal(size=(7, 3)), RNG.integers(0, 3, 7)
WEIGHTS = np.array([1, 1, 1, 0, 1, 1, 1.0])


def batch():
    return Batch(jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.asarray(WEIGHTS))


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def made(product, params):
    flat, unravel = ravel_pytree(params)
    return np.stack([ravel_pytree(product(unravel(v)))[0] for v in jnp.eye(flat.size)])


def test_the_hessian_is_that_of_finite_differences(x64, mlp):
    params = jax.tree.map(jnp.asarray, mlp.params)
    flat, unravel = ravel_pytree(params)

    def loss(vector):
        p = jax.tree.map(np.asarray, unravel(jnp.asarray(vector)))
        z = np.tanh(INPUTS @ p["kernel1"] + p["bias1"]) @ p["kernel2"] + p["bias2"]
        losses = np.array([-np.log(softmax(row)[y]) for row, y in zip(z, LABELS, strict=True)])
        return (WEIGHTS * losses).sum() / WEIGHTS.sum()

    found = made(curvature.hessian_product(mlp.apply_fn, params, {}, batch()), params)
    x, h, unit = np.asarray(flat), 1e-4, np.eye(flat.size)
    for i, j in [(0, 0), (0, 5), (3, 17), (12, 20), (20, 20), (7, 30)]:
        own = sum(a * b * loss(x + h * (a * unit[i] + b * unit[j])) for a in (1, -1) for b in (1, -1)) / (4 * h * h)
        assert found[i, j] == pytest.approx(own, abs=2e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-12)


def test_gauss_newton_is_the_sum_of_its_outer_products(x64, mlp):
    params = jax.tree.map(jnp.asarray, mlp.params)
    flat, unravel = ravel_pytree(params)
    jacobian = np.asarray(jax.jacfwd(lambda v: mlp.apply_fn(unravel(v), {}, INPUTS, train=True, rng_key=None)[0])(flat))
    logits = np.asarray(mlp.apply_fn(params, {}, INPUTS, train=True, rng_key=None)[0])
    expected = np.zeros((flat.size, flat.size))
    for z, j, weight in zip(logits, jacobian, WEIGHTS, strict=True):
        p = softmax(z)
        expected += weight * j.T @ (np.diag(p) - np.outer(p, p)) @ j / WEIGHTS.sum()
    found = made(curvature.gauss_newton_product(mlp.apply_fn, params, {}, batch()), params)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.linalg.eigvalsh(found)[0] > -1e-12


def test_both_are_one_where_the_network_is_linear(x64, regression):
    params = jax.tree.map(jnp.asarray, regression.params)
    products = (curvature.hessian_product, curvature.gauss_newton_product)
    first, second = (made(each(regression.apply_fn, params, {}, batch()), params) for each in products)
    np.testing.assert_allclose(first, second, atol=1e-12)


def test_a_solution_is_numpy_s_and_its_residual_is_what_it_says(x64):
    factor = RNG.normal(size=(6, 6))
    matrix, vector = jnp.asarray(factor @ factor.T), jnp.asarray(RNG.normal(size=6))
    whole = curvature.conjugate_gradients(lambda v: matrix @ v, vector, 0.1, steps=30, tolerance=1e-12)
    np.testing.assert_allclose(whole.solution, np.linalg.solve(matrix + 0.1 * np.eye(6), vector), rtol=1e-9)
    assert int(whole.steps) < 30 and float(whole.least_curvature) > 0
    some = curvature.conjugate_gradients(lambda v: matrix @ v, vector, 0.1, steps=2)
    left = vector - (matrix + 0.1 * np.eye(6)) @ some.solution
    assert float(some.residual) == pytest.approx(float(jnp.linalg.norm(left) / jnp.linalg.norm(vector)), rel=1e-9)
    assert int(some.steps) == 2


def test_negative_curvature_is_told_and_nothing_to_solve_is_nothing(x64):
    found = curvature.conjugate_gradients(lambda v: jnp.array([1.0, -2.0]) * v, jnp.ones(2), 0.5, steps=9)
    assert float(found.least_curvature) <= 0
    nothing = curvature.conjugate_gradients(lambda v: v, jnp.zeros(2), 0.5, steps=9)
    assert nothing.solution.tolist() == [0, 0] and int(nothing.steps) == 0 and float(nothing.residual) == 0


def test_the_largest_curvature_is_the_largest_eigenvalue(x64):
    factor = RNG.normal(size=(6, 6))
    matrix = jnp.asarray(factor @ factor.T)
    found = curvature.largest_curvature(lambda v: {"a": matrix @ v["a"]}, {"a": jnp.ones(6)}, steps=300)
    assert float(found) == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-8)


def test_the_cosine_is_that_of_all_leaves(x64):
    first, second = (
        {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)},
        {"a": jnp.array([0.0, 1.0]), "b": jnp.array(-1.0)},
    )
    assert float(curvature.cosine(first, second)) == pytest.approx(-1 / (14 * 2) ** 0.5)
    assert float(curvature.cosine(first, optax.tree.zeros_like(first))) == 0
