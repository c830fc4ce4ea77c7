"""The product of a classification head: values and derivatives, and its form on CPU alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax.models.lowering import head_product

BARRIER = "optimization_barrier"


def arrays(*shapes):
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("leading", [(5,), (2, 3)])
def test_as_plugged_into_linen_with_its_gradients_in_closed_form(x64, leading):
    inputs, kernel, bias, dy = arrays((*leading, 4), (4, 3), (3,), (*leading, 3))
    head = nn.Dense(3, param_dtype=jnp.float64, dot_general=head_product)

    def apply(kernel, inputs):
        return head.apply({"params": {"kernel": kernel, "bias": bias}}, inputs)

    outputs, pull_back = jax.vjp(jax.jit(apply), kernel, inputs)
    of_kernel, of_inputs = pull_back(jnp.asarray(dy))
    np.testing.assert_allclose(outputs, inputs @ kernel + bias, rtol=1e-12)
    np.testing.assert_allclose(of_kernel, inputs.reshape(-1, 4).T @ dy.reshape(-1, 3), rtol=1e-12)
    np.testing.assert_allclose(of_inputs, dy @ kernel.T, rtol=1e-12)


def test_second_derivatives_and_vmap_over_weights(x64):
    inputs, kernels, tangent = arrays((5, 4), (3, 4, 2), (4, 2))

    def energy(kernel, product):
        return jnp.sum(product(inputs, kernel, (((1,), (0,)), ((), ()))) ** 3)

    def everything(product):
        gradient = jax.grad(lambda kernel: energy(kernel, product))
        twice = jax.vmap(lambda kernel: jax.jvp(gradient, (kernel,), (jnp.asarray(tangent),)))(kernels)
        reverse = jax.vmap(jax.grad(lambda kernel: jnp.vdot(gradient(kernel), tangent)))(kernels)
        return twice, reverse

    ours = everything(head_product)
    plain = everything(jax.lax.dot_general)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), ours, plain)


def test_only_on_cpu(monkeypatch):
    inputs, kernel = arrays((5, 4), (4, 2))

    def primitives():
        run = functools.partial(head_product, dimension_numbers=(((1,), (0,)), ((), ())))
        return {equation.primitive.name for equation in jax.make_jaxpr(run)(inputs, kernel).eqns}

    assert BARRIER in primitives()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert BARRIER not in primitives()
