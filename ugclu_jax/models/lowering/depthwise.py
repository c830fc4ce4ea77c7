"""A depthwise convolution, one kernel a channel, as a sum of shifted products: no XLA convolution, no grouped one."""

import functools
import operator

import jax.numpy as jnp
from jax import lax

from ugclu_jax.models.lowering.patches import Pads, Pair, image_size, kernel_size, output_size, pad_image, taps
from ugclu_jax.types import Array


def depthwise(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    """Convolve each channel with a kernel of its own.

        out[b, y, x, c] = Σ_{i, j} padded[b, y·s₀ + i, x·s₁ + j, c] · kernel[i, j, 0, c]

    Each tap is a slice and a product, which XLA fuses into one pass; the derivatives are of the same kind.

    Args:
        x: [B, H, W, C].
        kernel: [k₀, k₁, 1, C].
        strides: (s₀, s₁).
        pads: pixels before and after, of rows and of columns.

    Returns:
        [B, H', W', C] in the type of both; the sum is float32 or wider.

    Example:
        >>> image, kernel = jnp.ones((1, 3, 3, 2)), jnp.stack([jnp.ones((3, 3, 1)), jnp.zeros((3, 3, 1))], -1)
        >>> depthwise(image, kernel, (1, 1), ((1, 1), (1, 1)))[0, 0, :, 0].tolist()
        [4.0, 6.0, 4.0]
    """
    size = kernel_size(kernel)
    dtype = jnp.result_type(x, kernel)
    x, kernel = _widened(x), _widened(kernel)
    seen = taps(pad_image(x, pads), size, strides, output_size(image_size(x), size, strides, pads))
    products = [seen[i][j] * kernel[i, j, 0] for i in range(size[0]) for j in range(size[1])]
    return functools.reduce(operator.add, products).astype(dtype)


def _widened(x: Array) -> Array:
    """In float32 or wider, and still rounded to its own type: XLA drops a conversion that another one undoes."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    kept = jnp.finfo(x.dtype)
    return x if wide == x.dtype else lax.reduce_precision(x.astype(wide), kept.nexp, kept.nmant)
