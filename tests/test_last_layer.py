"""The last layer of networks of any library, its inputs, and what is no last layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import last_layer
from ugclu_jax.models import ModelOptions, create
from ugclu_jax.models.adapters import linen_apply_fn, linen_init, nnx_split, normalise

IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)), jnp.uint8)
CLASSES = 4


def linen(name, **options):
    module = create(name, CLASSES, input_shape=(8, 8, 1), options=ModelOptions(**options))
    preprocess = normalise((0.5,), (0.3,), 255.0)
    init = jax.jit(functools.partial(linen_init, module, preprocess, inputs=IMAGES))
    return linen_apply_fn(module, preprocess), *init(rng_key=jax.random.key(0))


def nnx_network():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.body, self.head = nnx.Linear(64, 5, rngs=rngs), nnx.Linear(5, CLASSES, rngs=rngs)

        def __call__(self, x):
            return self.head(jnp.tanh(self.body(x)))

    params, state, apply_fn = nnx_split(Net(nnx.Rngs(0)), lambda x: x.reshape(len(x), -1) / 255.0)
    return apply_fn, params, state


NETWORKS = {
    "mlp": functools.partial(linen, "mlp"),
    "cnn_bn": functools.partial(linen, "cnn_bn"),
    "nnx": nnx_network,
    "resnet18": functools.partial(linen, "resnet18", width=4, depth=1),
    "half": functools.partial(linen, "cnn", dtype="bfloat16"),
}
SLOW = ("resnet18", "half")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else []) for n in NETWORKS])
def test_features_times_the_kernel_are_the_outputs(name):
    apply_fn, params, state = NETWORKS[name]()
    layer = last_layer.find(params, CLASSES)
    last_layer.check(apply_fn, layer, params, state, IMAGES)
    found, logits = jax.jit(
        lambda: (
            last_layer.features(apply_fn, layer, params, state, IMAGES),
            apply_fn(params, state, IMAGES, train=False, rng_key=None)[0],
        )
    )()
    leaves = jax.tree.leaves(params)
    expected = np.asarray(found) @ np.asarray(leaves[layer.kernel]) + np.asarray(leaves[layer.bias])
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_features_are_those_of_a_loop(x64, mlp):
    """And the last layer's own values do not matter."""
    layer = last_layer.find(mlp.params, 3)
    inputs = np.random.default_rng(0).normal(size=(4, 3))
    other = last_layer.put(mlp.params, layer, jnp.full(mlp.params["kernel2"].shape, 7.0), jnp.zeros(3))
    read = jax.jit(functools.partial(last_layer.features, mlp.apply_fn, layer))
    expected = np.tanh(inputs @ mlp.params["kernel1"] + mlp.params["bias1"])
    np.testing.assert_allclose(read(mlp.params, {}, inputs), expected, rtol=1e-12)
    np.testing.assert_array_equal(read(other, {}, inputs), read(mlp.params, {}, inputs))


def test_without_a_bias_and_without_a_name():
    assert last_layer.find(jnp.zeros((5, 3)), 3) == last_layer.LastLayer("", 0, None)
    with pytest.raises(ValueError, match="no layer of the network has 7 outputs"):
        last_layer.find({"kernel": jnp.zeros((5, 3))}, 7)


def test_of_several_layers_one_is_named():
    layer = {"kernel": jnp.zeros((3, 3)), "bias": jnp.zeros(3)}
    params = {"block": {"a": layer}, "b": layer}
    assert last_layer.find(params, 3, "block/a") == last_layer.LastLayer("block/a", 3, 2)
    with pytest.raises(ValueError, match="have 3 outputs: b, block/a; say by layer=… which is the last"):
        last_layer.find(params, 3)
    with pytest.raises(ValueError, match="layer is 'c': no layer of that name has 3 outputs; these have: b, block/a"):
        last_layer.find(params, 3, "c")


def linear(params, state, x, *, train, rng_key):
    return x @ params["kernel"] + params["bias"], state


REFUSED = {
    "a temperature": lambda p, s, x, **k: (linear(p, s, x, **k)[0] / 3, s),
    "log-probabilities": lambda p, s, x, **k: (jax.nn.log_softmax(linear(p, s, x, **k)[0]), s),
    "a shortcut": lambda p, s, x, **k: (linear(p, s, x, **k)[0] + x.sum(), s),
    "a normalised kernel": lambda p, s, x, **k: (x @ (p["kernel"] / jnp.linalg.norm(p["kernel"])) + p["bias"], s),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_function_of_the_layer_is_refused_by_its_name(what):
    params = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
    layer, inputs = last_layer.find(params, 3), jax.ShapeDtypeStruct((2, 4), jnp.float32)
    last_layer.check(linear, layer, params, {}, inputs)
    message = r"the outputs of the network are not linear in its last layer \(the outermost one\)"
    with pytest.raises(ValueError, match=message):
        last_layer.check(REFUSED[what], layer, params, {}, inputs)
