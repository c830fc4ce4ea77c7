"""Convolutions of which every derivative, of any order and mode, is one that XLA's CPU backend runs fast in a loop.

The convolution C(x, k) is linear in each argument, and so is its weight gradient W(x, dy). The two are closed under
transposition, which is all that differentiation needs of bilinear functions:

    ⟨C(x, k), dy⟩ = ⟨x, C'(dy, flipped k)⟩ = ⟨k, W(x, dy)⟩        C' = C with other strides, pads and dilation

so both are primitives of JAX here, with each other as rules. XLA rewrites gradient convolutions to a layout that its
library serves outside of loops only; these rules have that layout from the start, or avoid the convolution.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ugclu_jax.models.lowering.chunks import map_chunks, sum_chunks
from ugclu_jax.models.lowering.patches import (
    Pads,
    Pair,
    image_size,
    kernel_size,
    output_size,
    patches,
    patches_matmul,
    spread_matmul,
)
from ugclu_jax.models.lowering.winograd import winograd, winograd_weight_gradient
from ugclu_jax.types import Array

WINOGRAD_CHANNELS = 64
"""With fewer, the transformations take longer than the multiplications they save."""
PRODUCT_CHANNELS = 16
"""From here on products of patches are faster than a convolution: for weight gradients and, of stride 2, forward."""
PATCH_BYTES = 2**22
"""Of the patches of a chunk of images."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_convolution = Primitive("fast_convolution")
_weight_gradient = Primitive("fast_convolution_weight_gradient")


def fast_conv(x: Array, kernel: Array, strides: Pair, pads: Pads, precision: lax.PrecisionLike = None) -> Array:
    """C(x, k)[b, y, x, o] = Σ_{i, j, c} padded[b, y·s₀ + i, x·s₁ + j, c] · k[i, j, c, o].

    Batched kernels (`jax.vmap` over weights) are taken one after the other, each as fast as alone.

    Args:
        x: [B, H, W, I].
        kernel: [k₀, k₁, I, O], of the same type.
        strides: (s₀, s₁).
        pads: ((low, high), (low, high)) in pixels.
        precision: of the products, as in `lax`.

    Returns:
        [B, H', W', O], not empty.

    Example:
        >>> image, kernel = jnp.arange(16.0).reshape(1, 4, 4, 1), jnp.ones((2, 2, 1, 1))
        >>> fast_conv(image, kernel, (2, 2), ((0, 0), (0, 0)))[0, :, :, 0].tolist()
        [[10.0, 18.0], [42.0, 50.0]]
    """
    return _convolution.bind(x, kernel, strides=strides, pads=pads, dilation=(1, 1), precision=precision)


def _is_winograd(x: Array, features: int, size: Pair, outputs: Pair, strides: Pair, dilation: Pair) -> bool:
    return (
        (*size, *strides, *dilation) == (3, 3, 1, 1, 1, 1)
        and outputs[0] % 2 == outputs[1] % 2 == 0
        and min(x.shape[3], features) >= WINOGRAD_CHANNELS
    )


def _outputs(x: Any, size: Pair, strides: Pair, pads: Pads, dilation: Pair) -> Pair:
    """Rows and columns of C of an image between whose pixels `dilation` − 1 zeros are put."""
    rows, columns = ((side - 1) * factor + 1 for side, factor in zip(x.shape[1:3], dilation, strict=True))
    return output_size((rows, columns), size, strides, pads)


def _images(outputs: Pair, columns: int) -> int:
    """How many images fill `PATCH_BYTES` with their patches."""
    return PATCH_BYTES // (4 * outputs[0] * outputs[1] * columns)


def _convolve(
    x: Array, kernel: Array, *, strides: Pair, pads: Pads, dilation: Pair, precision: lax.PrecisionLike
) -> Array:
    """C of an image between whose pixels `dilation` − 1 zeros are put."""
    size, (channels, features) = kernel_size(kernel), kernel.shape[2:]
    outputs = _outputs(x, size, strides, pads, dilation)
    if _is_winograd(x, features, size, outputs, strides, dilation):
        return winograd(x, kernel, pads, precision)
    skips = strides != (1, 1) and channels >= PRODUCT_CHANNELS
    if dilation == (1, 1) and (skips or size == (1, 1) or channels == 1):

        def of_chunk(x: Array) -> Array:
            return patches_matmul(x, kernel, strides, pads, precision)

        return map_chunks(of_chunk, _images(outputs, size[0] * size[1] * channels), x)
    if dilation != (1, 1) == strides:

        def spread_chunk(x: Array) -> Array:
            return spread_matmul(x, kernel, pads, dilation, outputs, precision)

        return map_chunks(spread_chunk, _images(image_size(x), size[0] * size[1] * features), x)
    return lax.conv_general_dilated(
        x, kernel, strides, pads, lhs_dilation=dilation, dimension_numbers=_LAYOUT, precision=precision
    )


def _differentiate(
    x: Array, dy: Array, *, size: Pair, strides: Pair, pads: Pads, dilation: Pair, precision: lax.PrecisionLike
) -> Array:
    """W(x, dy)[i, j, c, o] = Σ_{b, y, x} padded[b, y·s₀ + i, x·s₁ + j, c] · dy[b, y, x, o]."""
    channels, features = x.shape[3], dy.shape[3]
    if _is_winograd(x, features, size, image_size(dy), strides, dilation):
        return winograd_weight_gradient(x, dy, pads, precision)
    if dilation == (1, 1) and (size == (1, 1) or channels >= PRODUCT_CHANNELS):
        wide, columns = jnp.promote_types(x.dtype, jnp.float32), size[0] * size[1] * channels

        def of_chunk(x: Array, dy: Array) -> Array:
            seen = patches(x, size, strides, pads).reshape(-1, columns)
            return jnp.matmul(dy.reshape(-1, features).T, seen, precision=precision, preferred_element_type=wide)

        # Left to itself, XLA merges the transposition into the product, which then takes up to half as long again.
        gradient = lax.optimization_barrier(sum_chunks(of_chunk, _images(image_size(dy), columns), x, dy))
        return gradient.T.reshape(*size, channels, features).astype(x.dtype)
    # Channels take the place of examples, and examples that of channels.
    margins = []
    for axis in (0, 1):
        extent, spread = (x.shape[1 + axis] - 1) * dilation[axis] + 1, (dy.shape[1 + axis] - 1) * strides[axis] + 1
        low = pads[axis][0]
        margins.append((low, size[axis] - 1 + spread - extent - low))
    gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        margins,
        lhs_dilation=dilation,
        rhs_dilation=strides,
        dimension_numbers=_LAYOUT,
        precision=precision,
    )
    return gradient.transpose(1, 2, 0, 3)


def _input_gradient(
    kernel: Array, dy: Array, sides: Pair, *, strides: Pair, pads: Pads, dilation: Pair, precision: lax.PrecisionLike
) -> Array:
    """Of ⟨C(x, k), dy⟩ with respect to an x of these sides."""
    margins = []
    for axis in (0, 1):
        extent, spread = (sides[axis] - 1) * dilation[axis] + 1, (dy.shape[1 + axis] - 1) * strides[axis] + 1
        low = kernel.shape[axis] - 1 - pads[axis][0]
        margins.append((low, extent + kernel.shape[axis] - 1 - spread - low))
    flipped = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
    return _convolution.bind(dy, flipped, strides=dilation, pads=tuple(margins), dilation=strides, precision=precision)


def _convolution_shape(x: Any, kernel: Any, *, strides: Pair, pads: Pads, dilation: Pair, precision: Any) -> Any:
    rows, columns = _outputs(x, kernel_size(kernel), strides, pads, dilation)
    return jax.core.ShapedArray((x.shape[0], rows, columns, kernel.shape[3]), x.dtype)


def _weight_gradient_shape(x: Any, dy: Any, *, size: Pair, **_: Any) -> Any:
    return jax.core.ShapedArray((*size, x.shape[3], dy.shape[3]), x.dtype)


def _one_by_one(
    primitive: Primitive, arrays: tuple[Array, ...], axes: tuple[int | None, ...], params: dict[str, Any]
) -> Array:
    """A loop over the mapped axis: the library has no batched convolution but a grouped one, which is slow."""
    mapped = [jnp.moveaxis(array, axis, 0) for array, axis in zip(arrays, axes, strict=True) if axis is not None]

    def one(lane: list[Array]) -> Array:
        lanes = iter(lane)
        return primitive.bind(
            *(array if axis is None else next(lanes) for array, axis in zip(arrays, axes, strict=True)), **params
        )

    return lax.map(one, mapped)


def _batch_convolution(
    arrays: tuple[Array, Array], axes: tuple[int | None, int | None], **params: Any
) -> tuple[Array, int]:
    (x, kernel), (x_axis, kernel_axis) = arrays, axes
    if x_axis is None or kernel_axis is not None:
        return _one_by_one(_convolution, arrays, axes, params), 0
    x = jnp.moveaxis(x, x_axis, 0)
    y = _convolution.bind(x.reshape(-1, *x.shape[2:]), kernel, **params)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


def _batch_weight_gradient(
    arrays: tuple[Array, Array], axes: tuple[int | None, int | None], **params: Any
) -> tuple[Array, int]:
    """Of each example by itself, in `jax.vmap(jax.grad(...))`, lanes are many and small: one batched product."""
    (x, dy), (x_axis, dy_axis) = arrays, axes
    if x_axis is None or dy_axis is None:
        return _one_by_one(_weight_gradient, arrays, axes, params), 0
    x, dy = jnp.moveaxis(x, x_axis, 0), jnp.moveaxis(dy, dy_axis, 0)
    size, strides, pads, dilation = (params[name] for name in ("size", "strides", "pads", "dilation"))
    (channels, features), outputs = (x.shape[4], dy.shape[4]), (dy.shape[2], dy.shape[3])
    columns = size[0] * size[1] * channels
    lanes = _images(outputs, columns) // x.shape[1]
    if lanes == 0 or dilation != (1, 1) or _is_winograd(x[0], features, size, outputs, strides, dilation):
        return _one_by_one(_weight_gradient, (x, dy), (0, 0), params), 0
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def of_lanes(x: Array, dy: Array) -> Array:
        seen = patches(x.reshape(-1, *x.shape[2:]), size, strides, pads).reshape(len(x), -1, columns)
        dy = dy.reshape(len(x), -1, features)
        return jnp.einsum("lmk,lmo->lko", seen, dy, precision=params["precision"], preferred_element_type=wide)

    gradient = map_chunks(of_lanes, lanes, x, dy)
    return gradient.reshape(len(x), *size, channels, features).astype(x.dtype), 0


for _primitive, _function, _shape, _batch in (
    (_convolution, _convolve, _convolution_shape, _batch_convolution),
    (_weight_gradient, _differentiate, _weight_gradient_shape, _batch_weight_gradient),
):
    _primitive.def_impl(_function)
    _primitive.def_abstract_eval(_shape)
    batching.primitive_batchers[_primitive] = _batch
    mlir.register_lowering(_primitive, mlir.lower_fun(_function, multiple_results=False))
ad.defbilinear(
    _convolution,
    lambda dy, x, kernel, **params: _input_gradient(kernel, dy, x.aval.shape[1:3], **params),
    lambda dy, x, kernel, **params: _weight_gradient.bind(x, dy, size=kernel.aval.shape[:2], **params),
)
ad.defbilinear(
    _weight_gradient,
    lambda kernel, x, dy, size, **params: _input_gradient(kernel, dy, x.aval.shape[1:3], **params),
    lambda kernel, x, dy, size, **params: _convolution.bind(x, kernel, **params),
)
