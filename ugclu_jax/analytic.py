"""Ridge regression on fixed features, which learns and unlearns exactly: two sums over examples, and a solve.

    G = Σ_i w_i φ̃_i φ̃_iᵀ,   H = Σ_i w_i φ̃_i y_iᵀ        φ̃ = (φ, 1), y one-hot; learning adds, unlearning subtracts
    (W, b) = argmin Σ_i w_i ‖Wᵀφ_i + b − y_i‖² + λ ‖W‖²    from G and H alone

The sums depend on which examples are there and on nothing else: not on the order in which they came, nor on those that
came and left. So a head after unlearning is the head of a refit on what is left, up to rounding. b is not penalised,
which centres features and targets; outputs then sum to 1 as the targets do, and without λ no class is preferred.

Why sums and a solve, and no factor that is up- and downdated: after a thousand requests both are as exact (see
`docs/analytic.md`), a sum is one matrix product for all rows of a request where a factor takes them one by one, and a
sum can be kept in integers, where nothing is rounded: `ugclu_jax.fixed_point`.

References: Hoerl & Kennard, "Ridge regression", Technometrics 1970; Cauwenberghs & Poggio, "Incremental and decremental
support vector machine learning", NeurIPS 2000, for decrements that equal a refit; Guo et al., "Certified data removal
from machine learning models", ICML 2020, arXiv 1911.03030, section 3, whose Newton step is exact for this loss.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from ugclu_jax.types import Array


class Sums(NamedTuple):
    """All that a head is solved from; the last feature is the constant 1, so `gram[-1, -1]` is the sum of weights."""

    gram: Array  # [F + 1, F + 1]
    cross: Array  # [F + 1, C]


class Head(NamedTuple):
    """An affine map from features to outputs: `features @ kernel + bias`."""

    kernel: Array  # [F, C]
    bias: Array  # [C]


def empty(num_features: int, num_classes: int, dtype: DTypeLike = jnp.float32) -> Sums:
    """The sums over no examples.

    Args:
        num_features: F, the constant not counted.
        num_classes: C.
        dtype: of the sums; float64 needs `jax.enable_x64`.

    Raises:
        ValueError: a number below 1.

    >>> empty(2, 3).gram.shape, empty(2, 3).cross.shape
    ((3, 3), (3, 3))
    """
    for name, value in (("num_features", num_features), ("num_classes", num_classes)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return Sums(jnp.zeros((num_features + 1,) * 2, dtype), jnp.zeros((num_features + 1, num_classes), dtype))


def with_constant(features: Array) -> Array:
    """`[..., F]` to `[..., F + 1]`: the constant 1 behind the features.

    >>> with_constant(jnp.array([[3, 4]])).tolist()
    [[3, 4, 1]]
    """
    return jnp.concatenate([features, jnp.ones_like(features[..., :1])], axis=-1)


def update(sums: Sums, features: Array, labels: Array, weights: Array) -> Sums:
    """Learn: `G + Σ w φ̃ φ̃ᵀ`, `H + Σ w φ̃ yᵀ`. Differentiable in everything but the labels.

    Which examples are there already the sums do not know: one that is learned twice counts twice.

    Args:
        sums: so far.
        features: [B, F].
        labels: [B] integers in 0 … C−1.
        weights: [B], 1 an example and 0 padding; others weigh it.

    Raises:
        ValueError: features of another number than the sums', or labels or weights of another length.

    >>> sums = update(empty(1, 2), jnp.array([[2.0], [5.0]]), jnp.array([1, 0]), jnp.array([1.0, 0.0]))
    >>> sums.gram.tolist(), sums.cross.tolist()
    ([[4.0, 2.0], [2.0, 1.0]], [[0.0, 2.0], [0.0, 1.0]])
    """
    added = _of(sums, features, labels, weights)
    return jax.tree.map(jnp.add, sums, added)


def downdate(sums: Sums, features: Array, labels: Array, weights: Array) -> Sums:
    """Unlearn: subtract what `update` added, arguments and errors as there.

    Sums do not know what they hold: where something is subtracted that was never added, G may have negative
    directions, and then `solve` returns NaN or a head that fits nothing. The method `analytic_head` keeps book, and
    subtracts nothing that is not there.

    >>> one = jnp.array([[2.0]]), jnp.array([1]), jnp.ones(1)
    >>> downdate(update(empty(1, 2), *one), *one).gram.tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    removed = _of(sums, features, labels, weights)
    return jax.tree.map(jnp.subtract, sums, removed)


def solve(sums: Sums, ridge: ArrayLike, *, bias: bool = True) -> Head:
    """The head, by one Cholesky factorisation of `G_c + λ I`, where c means centred. Differentiable.

        with bias:     W = (G − s sᵀ/n + λ I)⁻¹ (H − s tᵀ/n),   b = (t − Wᵀs)/n      s = Σ w φ, t = Σ w y, n = Σ w
        without:       W = (G + λ I)⁻¹ H,                       b = 0

    Of no examples, n = 0, the head is zero.

    Args:
        sums: over examples.
        ridge: λ > 0, in units of the sum over examples, not of their mean: scikit-learn's alpha.
        bias: whether the head has one; else b is zero.

    >>> sums = update(empty(1, 2), jnp.array([[0.0], [2.0]]), jnp.array([0, 1]), jnp.ones(2))
    >>> head = solve(sums, 2.0)  # centred features −1 and 1: W = ±1 / (2 + 2)
    >>> head.kernel.tolist(), head.bias.tolist()
    ([[-0.25, 0.25]], [0.75, 0.25])
    """
    gram, cross = sums.gram[:-1, :-1], sums.cross[:-1]
    total, targets, count = sums.gram[:-1, -1], sums.cross[-1], sums.gram[-1, -1]
    inverse = jnp.where(count > 0, 1 / jnp.where(count > 0, count, 1), 0)
    if bias:
        gram = gram - inverse * jnp.outer(total, total)
        cross = cross - inverse * jnp.outer(total, targets)
    penalised = gram + jnp.asarray(ridge, gram.dtype) * jnp.eye(len(gram), dtype=gram.dtype)
    kernel = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(penalised), True), cross)
    offset = inverse * (targets - _product(kernel.T, total)) if bias else jnp.zeros_like(targets)
    return Head(kernel, offset)


def refit(
    features: Array,
    labels: Array,
    ridge: ArrayLike,
    *,
    num_classes: int,
    weights: Array | None = None,
    bias: bool = True,
) -> Head:
    """The head of these examples alone: what learning and unlearning must end in.

    Args:
        features: [N, F].
        labels: [N] integers in 0 … C−1.
        ridge, bias: see `solve`.
        num_classes: C.
        weights: [N]; None = ones.

    >>> head = refit(jnp.array([[0.0], [2.0]]), jnp.array([0, 1]), 2.0, num_classes=2)
    >>> head.kernel.tolist()
    [[-0.25, 0.25]]
    """
    sums = empty(features.shape[-1], num_classes, features.dtype)
    weights = jnp.ones(len(features), features.dtype) if weights is None else weights
    return solve(update(sums, features, labels, weights), ridge, bias=bias)


def _of(sums: Sums, features: Array, labels: Array, weights: Array) -> Sums:
    """The sums over these examples alone."""
    size, classes = sums.cross.shape[-2:]
    if features.ndim != 2 or features.shape[1] != size - 1:
        raise ValueError(f"features have shape {features.shape}; they must be [B, {size - 1}], as the sums were made")
    if labels.shape != features.shape[:1] or weights.shape != features.shape[:1]:
        raise ValueError(
            f"labels and weights have shapes {labels.shape} and {weights.shape}; they must be {features.shape[:1]}, "
            "one an example"
        )
    full = with_constant(features).astype(sums.gram.dtype)
    # Padding may hold anything, also what 0 times would not make 0.
    full = jnp.where(weights[:, None] != 0, full, 0)
    weighted = full * weights[:, None].astype(full.dtype)
    return Sums(_product(weighted.T, full), _product(weighted.T, jax.nn.one_hot(labels, classes, dtype=full.dtype)))


def _product(a: Array, b: Array) -> Array:
    # The default of some accelerators keeps ten bits. And not `jnp.matmul`, which names the type of its result: a
    # program that is mapped later, where 64 bits are not enabled, would then get another one.
    return lax.dot(a, b, precision=lax.Precision.HIGHEST)
