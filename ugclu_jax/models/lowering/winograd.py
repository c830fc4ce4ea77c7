"""Winograd's F(2x2, 3x3): a 3x3 convolution of stride 1 with 16 multiplications for each 2x2 of outputs, not 36.

For a 4x4 tile d of the image, a kernel g and a 2x2 tile y of the result,

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A      and by transposition      dg = Gᵀ [Σ_tiles (Bᵀ d B) ⊙ (A dy Aᵀ)] G

where each of the 16 entries of ⊙ is a matrix product over channels. Images pass by chunks that stay in the cache. As
terms cancel, a gradient that is exactly 0 in the plain sum may be rounding here: a saliency mask, which compares
statistics of gradients, may then open or close the weights that no example reaches.

References: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308, section 4.1.
"""

import functools
import operator
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
from jax import lax

from ugclu_jax.models.lowering.chunks import map_chunks, sum_chunks
from ugclu_jax.models.lowering.patches import Pads, image_size, output_size, pad_image, taps
from ugclu_jax.types import Array

Matrix = tuple[tuple[float, ...], ...]
Grid = Iterable[Iterable[Array]]
G: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
B_T: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
A_T: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))
IMAGE_BYTES = 2**20
"""Of the wider side of a chunk of images: more leaves the second-level cache, fewer make small products."""


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _combine(row: Sequence[float], arrays: Sequence[Array]) -> Array:
    """Σ_i row[i] · arrays[i] without the terms of coefficient 0 and the products by 1."""
    terms = [array if weight == 1 else weight * array for weight, array in zip(row, arrays, strict=True) if weight != 0]
    return functools.reduce(operator.add, terms)


def _sandwich(matrix: Matrix, grid: Grid) -> list[Array]:
    """M · grid · Mᵀ, row by row, the entries of the grid being arrays of equal shape."""
    columns = [[_combine(row, column) for row in matrix] for column in zip(*grid, strict=True)]
    return [_combine(row, line) for line in zip(*columns, strict=True) for row in matrix]


def _square(entries: Sequence[Array], side: int) -> Grid:
    return [entries[i : i + side] for i in range(0, len(entries), side)]


def _flat(arrays: Sequence[Array]) -> list[Array]:
    return [array.reshape(-1, array.shape[-1]) for array in arrays]


def _input_tiles(x: Array, pads: Pads) -> list[Array]:
    """Bᵀ d B of every tile: 16 arrays [tiles, I]."""
    rows, columns = output_size(image_size(x), (3, 3), (1, 1), pads)
    return _flat(_sandwich(B_T, taps(pad_image(x, pads), (4, 4), (2, 2), (rows // 2, columns // 2))))


def winograd(x: Array, kernel: Array, pads: Pads, precision: lax.PrecisionLike) -> Array:
    """The convolution of stride 1.

    Args:
        x: [B, H, W, I].
        kernel: [3, 3, I, O].
        pads: ((low, high), (low, high)) in pixels, such that H' and W' are even.
        precision: of the products.

    Returns:
        [B, H', W', O].
    """
    wide, features = jnp.promote_types(x.dtype, jnp.float32), kernel.shape[3]
    rows, columns = output_size(image_size(x), (3, 3), (1, 1), pads)
    weights = _sandwich(G, kernel.astype(wide))

    def of_chunk(x: Array) -> Array:
        tiles = _input_tiles(x.astype(wide), pads)
        products = [jnp.matmul(tile, weight, precision=precision) for tile, weight in zip(tiles, weights, strict=True)]
        shape = len(x), rows // 2, columns // 2, features
        a, b, c, d = (entry.reshape(shape) for entry in _sandwich(A_T, _square(products, 4)))
        interleaved = jnp.stack([jnp.stack([a, b], 3), jnp.stack([c, d], 3)], 2)
        return interleaved.reshape(len(x), rows, columns, features).astype(kernel.dtype)

    return map_chunks(of_chunk, _images(x, features), x)


def winograd_weight_gradient(x: Array, dy: Array, pads: Pads, precision: lax.PrecisionLike) -> Array:
    """Of the sum of result · dy with respect to the kernel.

    Args:
        x: [B, H, W, I].
        dy: [B, H', W', O], H' and W' even.
        pads: as for `winograd`.
        precision: of the products.

    Returns:
        [3, 3, I, O].
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def of_chunk(x: Array, dy: Array) -> list[Array]:
        half = dy.shape[1] // 2, dy.shape[2] // 2
        outputs = _flat(_sandwich(_transposed(A_T), taps(dy.astype(wide), (2, 2), (2, 2), half)))
        inputs = _input_tiles(x.astype(wide), pads)
        return [jnp.matmul(i.T, o, precision=precision) for i, o in zip(inputs, outputs, strict=True)]

    total = sum_chunks(of_chunk, _images(x, dy.shape[3]), x, dy)
    entries = _sandwich(_transposed(G), _square(total, 4))
    return jnp.stack(entries).reshape(3, 3, x.shape[3], dy.shape[3]).astype(x.dtype)


def _images(x: Array, features: int) -> int:
    """How many make a chunk."""
    return IMAGE_BYTES // (4 * x.shape[1] * x.shape[2] * max(x.shape[3], features))
