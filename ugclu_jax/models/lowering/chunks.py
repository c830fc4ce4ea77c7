"""A function of many images applied to a few at a time, so that what it makes on the way stays in the cache."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.types import Array

Tree = TypeVar("Tree")


def _cut(size: int, x: Array) -> Array:
    """[B, ...] to [chunks, B', ...] of equal chunks of at most `size`, the last one filled up with zeros."""
    number = -(-len(x) // max(1, size))
    each = -(-len(x) // number)
    if number * each > len(x):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, number * each - len(x), 0), *[(0, 0, 0)] * (x.ndim - 1)])
    return x.reshape(number, each, *x.shape[1:])


def map_chunks(function: Callable[..., Array], size: int, *arrays: Array) -> Array:
    """function(*arrays) of a function that treats each image alone, `size` of them at a time.

    >>> map_chunks(lambda x: 2 * x, 2, jnp.arange(5)).tolist()
    [0, 2, 4, 6, 8]
    """
    number = len(arrays[0])
    if size >= number:
        return function(*arrays)
    y = lax.map(lambda chunk: function(*chunk), [_cut(size, array) for array in arrays])
    return y.reshape(-1, *y.shape[2:])[:number]


def sum_chunks(function: Callable[..., Tree], size: int, *arrays: Array) -> Tree:
    """function(*arrays) of a function that adds up over images and is zero for zeros, `size` of them at a time.

    >>> sum_chunks(lambda x, y: x @ y, 2, jnp.arange(5), jnp.ones(5, int)).item()
    10
    """
    if size >= len(arrays[0]):
        return function(*arrays)
    chunks = [_cut(size, array) for array in arrays]
    shapes = jax.eval_shape(function, *(chunk[0] for chunk in chunks))
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Tree, chunk: list[Array]) -> tuple[Tree, None]:
        return jax.tree.map(jnp.add, total, function(*chunk)), None

    return lax.scan(add, start, chunks)[0]
