"""The one place that decides how a convolution is lowered.

On XLA's CPU backend the gradient convolutions of `lax.conv_general_dilated` inside `lax.scan` reach no library kernel
and run 6 to 100 times slower than outside, and a request is one scan. Neither `fast_conv` nor patches and a matrix
product have that fault.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.models.lowering.depthwise import depthwise
from ugclu_jax.models.lowering.fast_conv import fast_conv
from ugclu_jax.models.lowering.patches import image_size, kernel_size, output_size, patches_matmul
from ugclu_jax.types import Array

Lowering = Literal["auto", "fast", "matmul", "native"]
LOWERINGS: tuple[Lowering, ...] = get_args(Lowering)
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def resolve(lowering: Lowering) -> Lowering:
    """What "auto" stands for: "fast" on CPU and "native" on every other backend; the others for themselves.

    Raises:
        ValueError: for another word.

    >>> resolve("matmul")
    'matmul'
    """
    if lowering not in LOWERINGS:
        raise ValueError(f"lowering is {lowering!r}: it must be one of {', '.join(LOWERINGS)}")
    if lowering != "auto":
        return lowering
    return "fast" if jax.default_backend() == "cpu" else "native"


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
        feature_group_count: as in `lax`; but for "native" there is one group, or one a channel (`depthwise`).
        precision: of the products, as in `lax`.
        lowering: "fast" = what runs fastest in a loop on CPU, `fast_conv`; "matmul" = patches and one matrix product;
            "native" = `lax.conv_general_dilated`; "auto" = fast on CPU, native on every other backend. All of them
            differentiate in every mode and order.

    Returns:
        [B, H', W', O].

    Raises:
        ValueError: for another layout or lowering, and for dilation or other groups where native is not used.

    Example:
        >>> import jax.numpy as jnp
        >>> image, kernel = jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.ones((2, 2, 1, 1))
        >>> conv_general_dilated(image, kernel, (2, 2), "VALID", lowering="matmul")[0, :, :, 0].tolist()
        [[10.0, 18.0], [42.0, 50.0]]

    References:
        Upstream report of the slow gradients: github.com/jax-ml/jax, issue 12868.
    """
    lowering = resolve(lowering)
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT)
    if dimension_numbers is not None and (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) != layout
    ):
        raise ValueError(
            f"dimension_numbers is {dimension_numbers}: the layout must be {_LAYOUT}; transpose the arrays"
        )
    if lowering == "native":
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
            raise ValueError(f"{key} is {value}: the {lowering} lowering does not dilate; use lowering='native'")
    alone = feature_group_count == lhs.shape[3] == rhs.shape[3] > 1 == rhs.shape[2]
    if feature_group_count != 1 and not alone:
        raise ValueError(
            f"feature_group_count is {feature_group_count}: {lowering} has one group, or one for each of "
            f"{lhs.shape[3]} channels; use lowering='native'"
        )
    if not alone and lhs.shape[3] != rhs.shape[2]:
        raise ValueError(f"lhs has {lhs.shape[3]} channels and rhs takes {rhs.shape[2]}: both must be the same number")
    (down, across), size = window_strides, kernel_size(rhs)
    strides = down, across
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(image_size(lhs), size, strides, padding)
    (top, bottom), (left, right) = padding
    pads = (top, bottom), (left, right)
    if alone:
        return depthwise(lhs, rhs, strides, pads)
    # Patches that do not overlap are a permutation of the image; then, the product and its derivatives are fastest.
    overlap, empty = strides != size, len(lhs) == 0 or 0 in output_size(image_size(lhs), size, strides, pads)
    if lowering == "fast" and overlap and not empty:
        dtype = jnp.result_type(lhs, rhs)
        return fast_conv(jnp.asarray(lhs, dtype), jnp.asarray(rhs, dtype), strides, pads, precision)
    return patches_matmul(lhs, rhs, strides, pads, precision)
