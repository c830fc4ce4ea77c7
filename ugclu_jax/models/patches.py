"""A convolution as patches and one matrix product (im2col)."""

import jax.numpy as jnp
from jax import lax

from ugclu_jax.types import Array

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def output_size(size: Pair, kernel: Pair, strides: Pair, pads: Pads) -> Pair:
    """Rows and columns of the result; 0 where the kernel is larger than the padded image.

    >>> output_size((7, 2), (3, 3), (2, 1), ((1, 1), (0, 0)))
    (4, 0)
    """
    rows, columns = (
        max(0, (size[axis] + sum(pads[axis]) - kernel[axis]) // strides[axis] + 1) for axis in range(len(size))
    )
    return rows, columns


def pad_image(x: Array, pads: Pads) -> Array:
    """Zeros around the rows and columns of [B, H, W, channels]; negative pads cut off."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])


def taps(padded: Array, kernel: Pair, strides: Pair, size: Pair) -> list[list[Array]]:
    """What each tap of a kernel sees, as one strided slice.

        taps[i][j][b, y, x, c] = padded[b, y·s₀ + i, x·s₁ + j, c]

    Args:
        padded: [B, H, W, channels].
        kernel: rows and columns of taps.
        strides: (s₀, s₁).
        size: rows and columns of each slice.

    >>> taps(jnp.arange(16).reshape(1, 4, 4, 1), (2, 2), (2, 2), (2, 2))[0][1][0, :, :, 0].tolist()
    [[1, 3], [9, 11]]
    """
    examples, _, _, channels = padded.shape
    rows, columns = ((count - 1) * stride + 1 for count, stride in zip(size, strides, strict=True))
    return [
        [
            lax.slice(padded, (0, i, j, 0), (examples, i + rows, j + columns, channels), (1, *strides, 1))
            for j in range(kernel[1])
        ]
        for i in range(kernel[0])
    ]


def patches(x: Array, kernel: Pair, strides: Pair, pads: Pads) -> Array:
    """The patches under a kernel, [B, H', W', k₀·k₁·channels], in the order of the kernel's first three axes."""
    size = output_size(x.shape[1:3], kernel, strides, pads)
    return lax.concatenate([tap for row in taps(pad_image(x, pads), kernel, strides, size) for tap in row], 3)


def patches_matmul(x: Array, kernel: Array, strides: Pair, pads: Pads, precision: lax.PrecisionLike) -> Array:
    """Each tap of the kernel is one strided slice; side by side on the channel axis they meet it as a matrix.

    Args:
        x: [B, H, W, I].
        kernel: [k₀, k₁, I, O].
        strides: (s₀, s₁).
        pads: ((low, high), (low, high)) in pixels.
        precision: of the product.

    Returns:
        [B, H', W', O].
    """
    height, width, channels, features = kernel.shape
    rows, columns = output_size(x.shape[1:3], (height, width), strides, pads)
    if rows == 0 or columns == 0:
        return jnp.zeros((len(x), rows, columns, features), jnp.result_type(x, kernel))
    matrix = kernel.reshape(height * width * channels, features)
    if strides == (height, width):
        # Patches that do not overlap are a permutation: one transposition for a transformer's 256 taps of 16x16 pixels.
        padded = pad_image(x, pads)[:, : rows * height, : columns * width]
        tiles = padded.reshape(len(x), rows, height, columns, width, channels).swapaxes(2, 3)
        return jnp.matmul(tiles.reshape(len(x), rows, columns, len(matrix)), matrix, precision=precision)
    return jnp.matmul(patches(x, (height, width), strides, pads), matrix, precision=precision)
