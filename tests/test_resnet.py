"""A residual block against NumPy loops, max-pooling against `reduce_window`, and how the network is put together."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ugclu_jax.models import ResNet
from ugclu_jax.models.norm import BatchNorm
from ugclu_jax.models.resnet import Block, max_pool


def convolve(image, kernel, stride, pad):
    """NumPy loops over output pixels."""
    size = kernel.shape[0]
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = ((side - size) // stride + 1 for side in padded.shape[1:3])
    out = np.zeros((len(image), rows, columns, kernel.shape[3]))
    for y, x in np.ndindex(rows, columns):
        window = padded[:, y * stride : y * stride + size, x * stride : x * stride + size]
        out[:, y, x] = np.einsum("bijc,ijco->bo", window, kernel)
    return out


def normalise(x, params, statistics):
    return (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * params["scale"] + params["bias"]


def draw(tree):
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), tree)


@pytest.mark.parametrize(("stride", "features"), [(1, 2), (2, 2), (1, 3)], ids=["same", "stride", "wider"])
def test_block_against_numpy_loops(stride, features, x64):
    def conv(features, size, stride, name):
        sizes = {"kernel_size": (size, size), "strides": (stride, stride), "padding": size // 2}
        return nn.Conv(features, **sizes, use_bias=False, dtype=jnp.float64, name=name)

    norm = functools.partial(BatchNorm, use_running_average=True, epsilon=1e-5, dtype=jnp.float64)
    block = Block(features, stride, conv, norm)
    image = np.random.default_rng(1).normal(size=(2, 5, 4, 2))
    shapes = jax.eval_shape(block.init, jax.random.key(0), image)
    params, stats = draw(shapes["params"]), draw(shapes["batch_stats"])
    stats = {name: {"mean": layer["mean"], "var": 0.5 + layer["var"] ** 2} for name, layer in stats.items()}
    y = convolve(image, params["conv1"]["kernel"], stride, 1)
    y = np.maximum(normalise(y, params["norm1"], stats["norm1"]), 0)
    y = normalise(convolve(y, params["conv2"]["kernel"], 1, 1), params["norm2"], stats["norm2"])
    x = image
    assert ("shortcut_conv" in params) == (stride == 2 or features == 3)
    if "shortcut_conv" in params:
        x = convolve(image, params["shortcut_conv"]["kernel"], stride, 0)
        x = normalise(x, params["shortcut_norm"], stats["shortcut_norm"])
    expected = np.maximum(x + y, 0)
    assert 0.1 < (expected == 0).mean() < 0.9
    ours = block.apply({"params": params, "batch_stats": stats}, image)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 6, 7, 3), (1, 1, 4, 1), (1, 5, 5, 2)], ids=str)
def test_max_pool_and_its_gradient_are_those_of_reduce_window(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32) - 3  # a padding of zeros would show

    def reference(x):
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)

    np.testing.assert_array_equal(max_pool(x), reference(x))
    slopes = [jax.grad(lambda x, pool=pool: jnp.sum(pool(x) ** 2))(x) for pool in (max_pool, reference)]
    np.testing.assert_array_equal(*slopes)


def test_max_pool_shares_the_gradient_of_ties():
    slope = jax.grad(lambda x: max_pool(x).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_allclose(slope[0, :, :, 0], 0.25)


def test_batch_norm_has_the_constants_of_torch():
    module, images = ResNet(num_classes=3, width=2, depths=(1,)), np.random.default_rng(2).normal(size=(3, 4, 4, 1))
    variables = module.init(jax.random.key(0), images, train=False)
    out = convolve(images, np.asarray(variables["params"]["stem_conv"]["kernel"], np.float64), 1, 1)
    flat = out.reshape(-1, 2)
    trained = module.apply(variables, images, train=True, capture_intermediates=True, mutable=True)[1]
    statistics = trained["batch_stats"]["stem_norm"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * flat.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * flat.var(0), rtol=1e-5)
    small = {"mean": jnp.zeros(2), "var": jnp.full(2, 1e-5)}  # as large as ε, which then shows
    variables = {**variables, "batch_stats": {**variables["batch_stats"], "stem_norm": small}}
    _, captured = module.apply(variables, images, train=False, capture_intermediates=True, mutable=True)
    normed = captured["intermediates"]["stem_norm"]["__call__"][0]
    np.testing.assert_allclose(normed, np.maximum(out / np.sqrt(2e-5), 0), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("stem", "side", "last"), [("cifar", 32, 4), ("cifar", 64, 8), ("imagenet", 224, 7)])
def test_sizes_of_the_stages(stem, side, last):
    def run():
        module, images = ResNet(num_classes=3, width=2, stem=stem), jnp.zeros((1, side, side, 1))
        return module.init_with_output(
            jax.random.key(0), images, train=False, capture_intermediates=True, mutable=True
        )[1]["intermediates"]

    shapes = jax.eval_shape(run)
    stages = [shapes[f"stage{i}_block1"]["__call__"][0].shape for i in range(4)]
    assert stages == [(1, last * 2 ** (3 - i), last * 2 ** (3 - i), 2 * 2**i) for i in range(4)]
    kernel = shapes["stem_conv"]["__call__"][0].shape
    assert kernel[1] == (side if stem == "cifar" else side // 2)
