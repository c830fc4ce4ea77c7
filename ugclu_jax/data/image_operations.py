"""The 14 operations of RandAugment on one uint8 image `[H, W, C]`, values 0..255, C = 1 (gray) or 3 (red, green, blue).

Results are Pillow's. Geometry samples the nearest pixel, in 16.16 fixed point, so that every device takes the same one,
and fills with 0 what comes from outside. Tables and the two means are integer arithmetic; only the blends are float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.types import Array

STRONGEST_LEVEL = 30
"""Level at which an operation reaches the `strongest` amount of `OPERATIONS`; amounts grow linearly from level 0."""

Coefficients = tuple[Array | float, Array | float, Array | float]


def _warp(image: Array, across: Coefficients, down: Coefficients) -> Array:
    """`out[y, x] = image[⌊d·p⌋, ⌊a·p⌋]` at the centre `p = (x + ½, y + ½, 1)` of each pixel, 0 outside."""
    height, width, _ = image.shape
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None, :]

    def source(a: Array | float, b: Array | float, c: Array | float) -> Array:
        fixed = [jnp.round(jnp.asarray(v, jnp.float32) * 65536).astype(jnp.int32) for v in (a, b, c + 0.5 * (a + b))]
        return (fixed[0] * x + fixed[1] * y + fixed[2]) >> 16

    columns, rows = source(*across), source(*down)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    taken = image[jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)]
    return jnp.where(inside[..., None], taken, jnp.uint8(0))


def _blend(degenerate: Array, image: Array, change: Array) -> Array:
    """`degenerate + (1 + change)(image − degenerate)`, cut to 0..255 and truncated."""
    start = degenerate.astype(jnp.float32)
    blended = start + (1 + change) * (image.astype(jnp.float32) - start)
    return jnp.clip(blended, 0, 255).astype(jnp.uint8)


def _gray(image: Array) -> Array:
    """Luma (ITU-R 601-2) in 16 bits of fraction, `[H, W, 1]` int32; a gray image is its own."""
    pixels = image.astype(jnp.int32)
    if image.shape[-1] == 1:
        return pixels
    red, green, blue = pixels[..., :1], pixels[..., 1:2], pixels[..., 2:]
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def identity(image: Array, amount: Array) -> Array:
    """The image as it is."""
    return image


def shear_x(image: Array, amount: Array) -> Array:
    """Row y is shifted by `amount · y` pixels."""
    return _warp(image, (1.0, amount, 0.0), (0.0, 1.0, 0.0))


def shear_y(image: Array, amount: Array) -> Array:
    """Column x is shifted by `amount · x` pixels."""
    return _warp(image, (1.0, 0.0, 0.0), (amount, 1.0, 0.0))


def translate_x(image: Array, amount: Array) -> Array:
    """Shifted by that share of the width, truncated to whole pixels."""
    return _warp(image, (1.0, 0.0, jnp.trunc(amount * image.shape[1])), (0.0, 1.0, 0.0))


def translate_y(image: Array, amount: Array) -> Array:
    """Shifted by that share of the height, truncated to whole pixels."""
    return _warp(image, (1.0, 0.0, 0.0), (0.0, 1.0, jnp.trunc(amount * image.shape[0])))


def rotate(image: Array, amount: Array) -> Array:
    """Turned about its centre by `amount` degrees, counter-clockwise."""
    cosine, sine = jnp.cos(jnp.deg2rad(amount)), jnp.sin(jnp.deg2rad(amount))
    y, x = image.shape[0] / 2, image.shape[1] / 2
    return _warp(image, (cosine, -sine, x - cosine * x + sine * y), (sine, cosine, y - sine * x - cosine * y))


def brightness(image: Array, amount: Array) -> Array:
    """Away from black by the factor `1 + amount`."""
    return _blend(jnp.zeros_like(image), image, amount)


def color(image: Array, amount: Array) -> Array:
    """Away from its gray version by the factor `1 + amount`; a gray image stays as it is."""
    return _blend(_gray(image), image, amount)


def contrast(image: Array, amount: Array) -> Array:
    """Away from the rounded mean of its gray version by the factor `1 + amount`."""
    gray = _gray(image)
    return _blend((2 * jnp.sum(gray) + gray.size) // (2 * gray.size), image, amount)


def sharpness(image: Array, amount: Array) -> Array:
    """Away from its smoothed version, `(5·pixel + Σ 8 neighbours) / 13` off the border, by the factor `1 + amount`."""
    height, width, _ = image.shape
    pixels = image.astype(jnp.int32)
    around = sum(pixels[dy : height - 2 + dy, dx : width - 2 + dx] for dy in range(3) for dx in range(3))
    centre = pixels[1:-1, 1:-1]
    return _blend(pixels.at[1:-1, 1:-1].set((2 * (around + 4 * centre) + 13) // 26), image, amount)


def posterize(image: Array, amount: Array) -> Array:
    """The lowest `round(amount)` bits of every value become 0."""
    bits = jnp.round(amount).astype(jnp.uint8)
    return (image >> bits) << bits


def solarize(image: Array, amount: Array) -> Array:
    """Values from `255 − amount` on are inverted, `v ↦ 255 − v`."""
    return jnp.where(image < 255 - amount, image, 255 - image)


def autocontrast(image: Array, amount: Array) -> Array:
    """Each channel is stretched to 0..255, `⌊255 (v − min) / (max − min)⌋`; a constant channel stays as it is."""
    pixels = image.astype(jnp.int32)
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
    stretched = (pixels - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, pixels).astype(jnp.uint8)


def equalize(image: Array, amount: Array) -> Array:
    """Each channel's histogram becomes flat: `v ↦ ⌊(⌊s/2⌋ + #{pixels < v}) / s⌋`, `s = ⌊#{pixels < max} / 255⌋`.

    A channel with `s = 0` stays as it is.
    """

    def one(channel: Array) -> Array:
        counts = jnp.zeros(256, jnp.int32).at[channel].add(1)
        below = jnp.cumsum(counts) - counts
        step = below[jnp.max(channel)] // 255
        table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255).astype(jnp.uint8)
        return jnp.where(step > 0, table[channel], channel)

    return jax.vmap(one, in_axes=2, out_axes=2)(image)


class Operation(NamedTuple):
    """An operation with its amount at `STRONGEST_LEVEL`."""

    apply: Callable[[Array, Array], Array]
    strongest: float
    signed: bool  # whether the amount is negated half of the time


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(identity, 0.0, False),
    "shear_x": Operation(shear_x, 0.3, True),
    "shear_y": Operation(shear_y, 0.3, True),
    "translate_x": Operation(translate_x, 150 / 331, True),
    "translate_y": Operation(translate_y, 150 / 331, True),
    "rotate": Operation(rotate, 30.0, True),
    "brightness": Operation(brightness, 0.9, True),
    "color": Operation(color, 0.9, True),
    "contrast": Operation(contrast, 0.9, True),
    "sharpness": Operation(sharpness, 0.9, True),
    "posterize": Operation(posterize, 4.0, False),
    "solarize": Operation(solarize, 255.0, False),
    "autocontrast": Operation(autocontrast, 0.0, False),
    "equalize": Operation(equalize, 0.0, False),
}
