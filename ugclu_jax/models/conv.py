"""The one place that decides how a convolution is lowered.

On XLA's CPU backend the gradient convolutions of `lax.conv_general_dilated` inside `lax.scan` reach no library kernel
and run 6 to 100 times slower than outside, and a request is one scan. Patches and a matrix product do not have that
fault, and differentiate in forward and reverse mode to any order.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.types import Array

Lowering = Literal["auto", "matmul", "native"]
LOWERINGS: tuple[Lowering, ...] = ("auto", "matmul", "native")
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
    *,
    lowering: Lowering = "auto",
) -> Array:
    """Two-dimensional convolution, for `nn.Conv(conv_general_dilated=...)`; same arguments as `lax`'s function.

        out[b, y, x, o] = Σ_{i, j, c} padded[b, y·s₀ + i, x·s₁ + j, c] · rhs[i, j, c, o]

    Args:
        lhs: [B, H, W, I] inputs.
        rhs: [k₀, k₁, I, O] kernel.
        window_strides: (s₀, s₁).
        padding: "SAME", "SAME_LOWER", "VALID", or ((low, high), (low, high)) in pixels, which may be negative.
        lhs_dilation: as in `lax`; only "native" dilates.
        rhs_dilation: as in `lax`; only "native" dilates.
        dimension_numbers: None or what `lax` takes for the layout NHWC, HWIO, NHWC.
        feature_group_count: as in `lax`; only "native" splits into groups.
        precision: of the products, as in `lax`.
        lowering: "matmul" = patches and one matrix product; "native" = `lax.conv_general_dilated`; "auto" = matmul on
            CPU, native on every other backend.

    Returns:
        [B, H', W', O].

    Raises:
        ValueError: for another layout or lowering, and for dilation or groups where matmul is used.

    Example:
        >>> import jax.numpy as jnp
        >>> image, kernel = jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.ones((2, 2, 1, 1))
        >>> conv_general_dilated(image, kernel, (2, 2), "VALID", lowering="matmul")[0, :, :, 0].tolist()
        [[10.0, 18.0], [42.0, 50.0]]

    References:
        Upstream report of the slow gradients: github.com/jax-ml/jax, issue 12868.
    """
    if lowering not in LOWERINGS:
        raise ValueError(f"lowering is {lowering!r}: it must be one of {', '.join(LOWERINGS)}")
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT)
    if dimension_numbers is not None and (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) != layout
    ):
        raise ValueError(
            f"dimension_numbers is {dimension_numbers}: the layout must be {_LAYOUT}; transpose the arrays"
        )
    if lowering == "native" or (lowering == "auto" and jax.default_backend() != "cpu"):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            layout,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    for key, value in (("lhs_dilation", lhs_dilation), ("rhs_dilation", rhs_dilation)):
        if value is not None and any(factor != 1 for factor in value):
            raise ValueError(f"{key} is {value}: the matmul lowering does not dilate; use lowering='native'")
    if feature_group_count != 1:
        raise ValueError(f"feature_group_count is {feature_group_count}: matmul has one group; use lowering='native'")
    if lhs.shape[3] != rhs.shape[2]:
        raise ValueError(f"lhs has {lhs.shape[3]} channels and rhs takes {rhs.shape[2]}: both must be the same number")
    return _patches_matmul(lhs, rhs, tuple(window_strides), padding, precision)


def _patches_matmul(
    lhs: Array,
    rhs: Array,
    strides: tuple[int, ...],
    padding: str | Sequence[tuple[int, int]],
    precision: lax.PrecisionLike,
) -> Array:
    """Each tap of the kernel is one strided slice; side by side on the channel axis they meet it as a matrix."""
    height, width, channels, features = rhs.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], (height, width), strides, padding)
    margins = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    padded = lax.pad(lhs, jnp.zeros((), lhs.dtype), margins)
    rows, columns = (
        max(0, (padded.shape[1 + axis] - size) // strides[axis] + 1) for axis, size in enumerate((height, width))
    )
    if rows == 0 or columns == 0:
        return jnp.zeros((lhs.shape[0], rows, columns, features), jnp.result_type(lhs, rhs))
    kernel = rhs.reshape(height * width * channels, features)
    if strides == (height, width):
        # Patches that do not overlap are a permutation: one transposition for a transformer's 256 taps of 16x16 pixels.
        tiles = padded[:, : rows * height, : columns * width].reshape(len(lhs), rows, height, columns, width, channels)
        return jnp.matmul(
            tiles.swapaxes(2, 3).reshape(len(lhs), rows, columns, len(kernel)), kernel, precision=precision
        )
    last_row, last_column = (rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1
    patches = [
        lax.slice(padded, (0, i, j, 0), (len(lhs), i + last_row, j + last_column, channels), (1, *strides, 1))
        for i in range(height)
        for j in range(width)
    ]
    return jnp.matmul(lax.concatenate(patches, 3), kernel, precision=precision)
