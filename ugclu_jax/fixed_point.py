"""The sums of `ugclu_jax.analytic` in integers: nothing is rounded, so what leaves leaves no bit.

    q = round(2¹⁴ φ̃) in ±(2²¹ − 1),   G = 2⁻²⁸ Σ_i q_i q_iᵀ,   H = 2⁻¹⁴ Σ_i q_i y_iᵀ        in 64-bit integers

Floating-point sums depend on the order of their terms, and subtracting a term leaves a rounding error that depends on
it. Integers have neither: after any requests the sums are, bit for bit, those of the examples that are left. They lie
in two 32-bit words each, since JAX has no 64-bit numbers unless it is told to; the arithmetic within is 64-bit on the
device. Products are taken in float64, where sums of 2,048 of them (42 bits each) are integers below 2⁵³ and exact.

The price is a grid: features are used to 6·10⁻⁵, and beyond ±128 as ±128. It is the same for a refit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.analytic import Sums, with_constant
from ugclu_jax.types import Array

FRACTION_BITS = 14
"""Of a feature: its grid is 2⁻¹⁴."""
LARGEST = 2**21 - 1
"""Of a feature in units of the grid: ±128."""
MOST_EXAMPLES = 2**63 // LARGEST**2
"""Whose sums fit, were all their features as large: two million."""
EXACT_ROWS = 2**53 // 2**42
"""Examples that are summed at once, at most: 2,048."""


class Words(NamedTuple):
    """64-bit integers, two's complement: `2³² high + low`."""

    high: Array  # [...] int32
    low: Array  # [...] uint32


class FixedSums(NamedTuple):
    """`analytic.Sums` on the grid."""

    gram: Words  # [F + 1, F + 1], units of 2⁻²⁸
    cross: Words  # [F + 1, C], units of 2⁻¹⁴


def empty(num_features: int, num_classes: int) -> FixedSums:
    """The sums over no examples.

    >>> empty(2, 5).cross.high.shape
    (3, 5)
    """

    def zeros(*shape: int) -> Words:
        return Words(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.uint32))

    return FixedSums(zeros(num_features + 1, num_features + 1), zeros(num_features + 1, num_classes))


def on_grid(features: Array) -> Array:
    """Features in units of the grid, int32.

    >>> on_grid(jnp.array([1.0, -0.25, 1e6])).tolist()
    [16384, -4096, 2097151]
    """
    return jnp.clip(jnp.round(features * 2.0**FRACTION_BITS), -LARGEST, LARGEST).astype(jnp.int32)


def change(sums: FixedSums, features: Array, labels: Array, counts: Array) -> FixedSums:
    """Learn or unlearn: add the examples of count 1, subtract those of count −1, leave those of 0. Exact.

    Args:
        sums: so far.
        features: [B, F].
        labels: [B] integers in 0 … C−1.
        counts: [B] integers in {−1, 0, 1}.

    Raises:
        ValueError: more than 2,048 examples at once, whose products would be rounded.

    >>> rows = jnp.array([[0.1], [0.7]]), jnp.array([0, 1])
    >>> both = change(empty(1, 2), *rows, jnp.array([1, 1]))
    >>> one, left = change(empty(1, 2), *rows, jnp.array([0, 1])), change(both, *rows, jnp.array([-1, 0]))
    >>> jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, left))
    True
    """
    if len(features) > EXACT_ROWS:
        raise ValueError(
            f"{len(features)} examples at once; at most {EXACT_ROWS} are summed exactly: pass them in parts"
        )
    units = jnp.where(counts[:, None] != 0, on_grid(with_constant(features)), 0)  # padding may hold anything, NaN too
    signed, classes = units * counts[:, None].astype(jnp.int32), sums.cross.low.shape[-1]
    targets = jax.nn.one_hot(labels, classes, dtype=jnp.int32)
    return FixedSums(_plus(sums.gram, signed, units), _plus(sums.cross, signed, targets))


def as_floats(sums: FixedSums) -> Sums:
    """The sums in float64, whatever JAX's own precision; call it, and what reads the result, under `enable_x64`.

    >>> rows = jnp.array([[0.5]]), jnp.array([1]), jnp.array([1])
    >>> with jax.enable_x64(True):
    ...     as_floats(change(empty(1, 2), *rows)).gram.tolist()
    [[0.25, 0.5], [0.5, 1.0]]
    """
    with jax.enable_x64(True):
        gram, cross = (_joined(words).astype(jnp.float64) for words in sums)
        return Sums(gram * 2.0 ** (-2 * FRACTION_BITS), cross * 2.0**-FRACTION_BITS)


def _plus(words: Words, a: Array, b: Array) -> Words:
    """`words + aᵀ b`."""
    with jax.enable_x64(True):
        # Not `jnp.matmul`, see `analytic`.
        product = lax.dot(a.T.astype(jnp.float64), b.astype(jnp.float64), precision=lax.Precision.HIGHEST)
        total = _joined(words) + product.astype(jnp.int64)
        return Words((total >> 32).astype(jnp.int32), (total & 0xFFFFFFFF).astype(jnp.uint32))


def _joined(words: Words) -> Array:
    return (words.high.astype(jnp.int64) << 32) | words.low.astype(jnp.int64)
