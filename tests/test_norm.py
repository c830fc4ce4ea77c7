"""Our BatchNorm against Linen's: values, statistics, derivatives of both modes and orders, trees, devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax.models.norm import BatchNorm

SHAPE = (4, 3, 2, 5)


def draws():
    rng = np.random.default_rng(0)
    x, scale, bias = rng.normal(size=SHAPE) * 2 + 1, rng.normal(size=5), rng.normal(size=5)
    variables = {
        "params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)},
        "batch_stats": {"mean": jnp.asarray(rng.normal(size=5)), "var": jnp.asarray(rng.uniform(1, 2, size=5))},
    }
    return jnp.asarray(x), variables


def theirs(relu, train):
    module = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=jnp.float64, param_dtype=jnp.float64)

    def run(variables, x):
        y, state = module.apply(variables, x, mutable=["batch_stats"])
        return (nn.relu(y) if relu else y), state["batch_stats"]

    return run


def ours(relu, train, lowering="fast"):
    module = BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=jnp.float64, relu=relu, lowering=lowering
    )

    def run(variables, x):
        y, state = module.apply(variables, x, mutable=["batch_stats"])
        return y, state["batch_stats"]

    return run


@pytest.mark.parametrize("lowering", ["fast", "matmul"])
@pytest.mark.parametrize("relu", [False, True])
def test_values_statistics_and_every_derivative_are_linens(x64, relu, lowering):
    x, variables = draws()
    weights = jnp.asarray(np.random.default_rng(1).normal(size=SHAPE))
    tangents = jax.tree.map(lambda a: jnp.cos(3 * a), (variables["params"], x))

    def everything(run):
        def value(primals):
            y, state = run({**variables, "params": primals[0]}, primals[1])
            # Statistics are part of the loss, too: their derivatives are checked with it.
            return jnp.sum(weights * y**3) + jnp.sum(state["mean"] ** 2) + jnp.sum(state["var"] ** 2)

        primals = (variables["params"], x)
        gradient = jax.grad(value)
        along = lambda p: sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient(p), tangents)))  # noqa: E731
        return (
            run(variables, x),
            gradient(primals),
            jax.jvp(value, (primals,), (tangents,))[1],
            jax.jvp(gradient, (primals,), (tangents,))[1],
            jax.grad(along)(primals),
        )

    found = jax.jit(lambda: everything(ours(relu, True, lowering)))()
    expected = jax.jit(lambda: everything(theirs(relu, True)))()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), found, expected)


def test_evaluation_takes_the_recorded_statistics_and_leaves_them(x64):
    x, variables = draws()
    found, expected = (make(True, False)(variables, x) for make in (ours, theirs))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10), found, expected)
    jax.tree.map(np.testing.assert_array_equal, found[1], variables["batch_stats"])


def test_same_tree_as_linens():
    x = jnp.ones((2, 3))
    trees = [
        jax.tree.map(lambda a: (a.shape, a.dtype.name), dict(module.init(jax.random.key(0), x)))
        for module in (BatchNorm(use_running_average=False), nn.BatchNorm(use_running_average=False))
    ]
    assert trees[0] == trees[1]


@pytest.mark.parametrize("lowering", ["fast", "matmul"])
def test_over_a_mapped_axis_it_is_that_of_the_whole_batch(x64, lowering):
    x, variables = draws()
    module = BatchNorm(
        use_running_average=False, momentum=0.9, dtype=jnp.float64, axis_name="d", relu=True, lowering=lowering
    )
    run = jax.vmap(lambda x: module.apply(variables, x, mutable=["batch_stats"]), axis_name="d")
    y, state = run(x.reshape(2, 2, *SHAPE[1:]))
    expected, statistics = theirs(True, True)(variables, x)
    np.testing.assert_allclose(y.reshape(SHAPE), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(state["batch_stats"]["var"][0], statistics["var"], rtol=1e-9)

    def loss(run, primals, weights):
        return jnp.sum(weights * run({**variables, "params": primals[0]}, primals[1])[0] ** 3)

    def share(x, weights):
        """What `components` does: a device's own loss, gradients of shared parameters summed over the devices."""
        apply = functools.partial(module.apply, mutable=["batch_stats"])
        params, inputs = jax.grad(lambda primals: loss(apply, primals, weights))((variables["params"], x))
        return jax.lax.psum(params, "d"), inputs

    weights = jnp.asarray(np.random.default_rng(1).normal(size=SHAPE))
    parts = [array.reshape(2, 2, *SHAPE[1:]) for array in (x, weights)]
    params, inputs = jax.vmap(share, axis_name="d")(*parts)
    whole = jax.grad(lambda primals: loss(theirs(True, True), primals, weights))((variables["params"], x))
    np.testing.assert_allclose(inputs.reshape(SHAPE), whole[1], rtol=1e-9, atol=1e-9)
    jax.tree.map(lambda found, all_: np.testing.assert_allclose(found[0], all_, rtol=1e-9), params, whole[0])


def test_half_precision_keeps_its_statistics_in_full():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(64, 3)) + 10, jnp.bfloat16)
    module = BatchNorm(use_running_average=False, dtype=jnp.bfloat16, momentum=0.0)
    y, variables = module.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16 and variables["batch_stats"]["mean"].dtype == jnp.float32
    _, state = module.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(state["batch_stats"]["mean"], np.asarray(x, np.float64).mean(0), rtol=1e-5)
