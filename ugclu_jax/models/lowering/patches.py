"""A convolution as patches and one matrix product (im2col)."""

import jax.numpy as jnp
from jax import lax

from ugclu_jax.types import Array

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def image_size(x: Array) -> Pair:
    """Rows and columns of images [B, H, W, channels].

    >>> image_size(jnp.zeros((1, 4, 2, 3)))
    (4, 2)
    """
    _, rows, columns, _ = x.shape
    return rows, columns


def kernel_size(kernel: Array) -> Pair:
    """Rows and columns of a kernel [k₀, k₁, I, O].

    >>> kernel_size(jnp.zeros((4, 2, 3, 1)))
    (4, 2)
    """
    rows, columns, _, _ = kernel.shape
    return rows, columns


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
    """The patches under a kernel, [B, H', W', k₀·k₁·channels], in the order of the kernel's first three axes.

    What its columns see side by side, then of that what its rows see: k₀ + k₁ slices and not k₀ · k₁, each of which
    XLA compiles.
    """
    seen, size = pad_image(x, pads), output_size(image_size(x), kernel, strides, pads)
    for axis in (2, 1):
        stride = strides[axis - 1]
        span = (size[axis - 1] - 1) * stride + 1
        seen = lax.concatenate(
            [lax.slice_in_dim(seen, tap, tap + span, stride, axis) for tap in range(kernel[axis - 1])], 3
        )
    return seen


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
    rows, columns = output_size(image_size(x), (height, width), strides, pads)
    if rows == 0 or columns == 0:
        return jnp.zeros((len(x), rows, columns, features), jnp.result_type(x, kernel))
    matrix = kernel.reshape(height * width * channels, features)
    if strides == (height, width):
        # Patches that do not overlap are a permutation: one transposition for a transformer's 256 taps of 16x16 pixels.
        padded = pad_image(x, pads)[:, : rows * height, : columns * width]
        tiles = padded.reshape(len(x), rows, height, columns, width, channels).swapaxes(2, 3)
        return jnp.matmul(tiles.reshape(len(x), rows, columns, len(matrix)), matrix, precision=precision)
    return jnp.matmul(patches(x, (height, width), strides, pads), matrix, precision=precision)


def spread_matmul(
    x: Array, kernel: Array, pads: Pads, dilation: Pair, size: Pair, precision: lax.PrecisionLike
) -> Array:
    """Convolution of stride 1 of an image between whose pixels `dilation` − 1 zeros are put, without these zeros.

        out[b, y, z, o] = Σ_{i, j, c} x[b, (y − low₀ + i) / d₀, (z − low₁ + j) / d₁, c] · k[i, j, c, o]

    over the taps (i, j) for which both divisions leave no remainder and stay within x. One matrix product meets the
    image with all taps. Pixels of the same phase, (y mod d₀, z mod d₁), have the same taps: they are a sum of shifted
    products, and the phases are interleaved at the end.

    Args:
        x: [B, H, W, I].
        kernel: [k₀, k₁, I, O].
        pads: ((low₀, high₀), (low₁, high₁)) in pixels of the image with its zeros; `size` follows from them.
        dilation: (d₀, d₁).
        size: (H', W'), rows and columns of the result.
        precision: of the product.

    Returns:
        [B, H', W', O].

    >>> image, kernel = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1), jnp.array([1.0, 10.0]).reshape(1, 2, 1, 1)
    >>> spread_matmul(image, kernel, ((0, 0), (1, 1)), (1, 2), (1, 4), None).ravel().tolist()
    [10.0, 1.0, 20.0, 2.0]
    """
    height, width, channels, features = kernel.shape
    matrix = kernel.transpose(2, 0, 1, 3).reshape(channels, height * width * features)
    wide = jnp.promote_types(x.dtype, jnp.float32)  # of half precision, taps are rounded once, when they are added up
    spread = jnp.matmul(x, matrix, precision=precision, preferred_element_type=wide)
    for axis in (1, 2):  # first the kernel's rows, each with all its columns
        spread = _spread_axis(
            spread, axis, kernel.shape[axis - 1], pads[axis - 1][0], dilation[axis - 1], size[axis - 1]
        )
    return spread.astype(x.dtype)


def _spread_axis(products: Array, axis: int, taps: int, low: int, dilation: int, size: int) -> Array:
    """[..., taps · features] to [..., features], `size` long on an axis: sums over the taps of a phase."""
    sides, features = products.shape, products.shape[3] // taps
    count, zero = -(-size // dilation), jnp.zeros((), products.dtype)
    phases = []
    for phase in range(dilation):
        total = jnp.zeros((*sides[:axis], count, *sides[axis + 1 : 3], features), products.dtype)
        for tap in range((low - phase) % dilation, taps, dilation):
            shift, margins = (low - phase - tap) // dilation, [(0, 0, 0)] * 4
            margins[axis] = (shift, count - sides[axis] - shift, 0)
            seen = lax.slice_in_dim(products, tap * features, (tap + 1) * features, axis=3)
            total = total + lax.pad(seen, zero, margins)
        phases.append(total)
    whole = lax.collapse(jnp.stack(phases, axis + 1), axis, axis + 2)
    return lax.slice_in_dim(whole, 0, size, axis=axis)
