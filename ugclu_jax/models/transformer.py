"""What the transformers share: tokens and their mean, attention, the feed-forward part, one encoder layer."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ugclu_jax.types import Array

Norm = Literal["pre", "post"]
KERNEL_INIT = nn.initializers.truncated_normal(0.02)


PADDING_ID = 0
"""Of tokens: attended by nobody, and left out of the mean."""


def check_tokens(inputs: Array, length: int) -> None:
    """Refuse what is no batch of token ids.

    Raises:
        ValueError: no integers [B, L] with L at most `length`.

    Example:
        >>> check_tokens(jnp.zeros((2, 3), jnp.int32), 3)
    """
    if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer) or inputs.shape[1] > length:
        raise ValueError(
            f"inputs are {inputs.dtype} {inputs.shape}: they must be integer token ids [B, L] with L at most "
            f"{length}; pass them without preprocessing, cut to that length"
        )


def mean_of_tokens(x: Array, present: Array) -> Array:
    """The mean of [B, L, D] over the tokens that `present`, [B, L] bool, names: [B, D], in float32 or wider.

    Example:
        >>> mean_of_tokens(jnp.array([[[1.0], [3.0], [9.0]]]), jnp.array([[True, True, False]])).tolist()
        [[2.0]]
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    total = jnp.sum(x.astype(wide), axis=1, where=present[..., None])
    return total / jnp.maximum(1, jnp.sum(present, axis=1, keepdims=True))


def number_of_heads(features: int, head_size: int) -> int:
    """max(1, features / head_size): heads follow the width at a constant size.

    Raises:
        ValueError: if `features` is above `head_size` and not a multiple of it.

    Example:
        >>> number_of_heads(768, 64), number_of_heads(8, 64)
        (12, 1)
    """
    if features > head_size and features % head_size:
        raise ValueError(
            f"width gives a layer of {features} features: it must be a multiple of {head_size}, the size of an "
            f"attention head, or smaller than that; the next lower one is {features // head_size * head_size}"
        )
    return max(1, features // head_size)


def attend(
    query: Array, key: Array, value: Array, bias: Array | None = None, mask: Array | np.ndarray | None = None
) -> Array:
    """softmax(query · keyᵀ / √size + bias) · value for each head; the softmax is float32 or wider.

    Args:
        query: [..., T, heads, size].
        key: [..., S, heads, size].
        value: [..., S, heads, size].
        bias: broadcastable to [..., heads, T, S], added to the scores; None = 0.
        mask: likewise, bool; False = may not be attended. A row without any True attends everything alike.

    Returns:
        [..., T, heads, size] in `value`'s type.

    Example:
        >>> query, mask = jnp.ones((2, 1, 4)), jnp.array([True, False])
        >>> attend(query, query, jnp.array([3.0, 5.0]).reshape(2, 1, 1), mask=mask).ravel().tolist()
        [3.0, 3.0]
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("...thd,...shd->...hts", query, key, preferred_element_type=wide)
    scores = scores * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(wide).min)
    return jnp.einsum("...hts,...shd->...thd", jax.nn.softmax(scores).astype(value.dtype), value)


class FeedForward(nn.Module):
    """Dense, exact GELU, dense, with a hidden layer four times as wide.

    Attributes:
        dtype: of the computation; parameters are float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., D] to [..., D]."""
        features = x.shape[-1]
        hidden = nn.Dense(4 * features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="hidden")(x)
        return nn.Dense(features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="out")(
            nn.gelu(hidden, approximate=False)
        )


class SelfAttention(nn.Module):
    """Multi-head self-attention over a sequence.

    Attributes:
        heads: their number, a divisor of D.
        dtype: of the computation; parameters are float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """[B, T, D], and [B, T] bool where False is a position that nobody attends, to [B, T, D]."""
        features = x.shape[-1]
        qkv = nn.Dense(3 * features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
        attended = attend(query, key, value, mask=None if mask is None else mask[:, None, None, :])
        return nn.Dense(features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="out")(attended.reshape(x.shape))


class EncoderLayer(nn.Module):
    """Attention and feed-forward part, each with a residual connection and a LayerNorm before it or after the sum.

        pre:   x ← x + f(norm(x))
        post:  x ← norm(x + f(x))

    Attributes:
        heads: of the attention.
        norm: "pre" or "post".
        dtype: of the computation; parameters, and the norms' statistics, are float32.
    """

    heads: int
    norm: Norm = "pre"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """[B, T, D], and a mask as `SelfAttention` takes it, to [B, T, D]."""
        attention = SelfAttention(self.heads, self.dtype, name="attention")
        attention_norm, mlp_norm = (
            nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name) for name in ("attention_norm", "mlp_norm")
        )
        mlp = FeedForward(self.dtype, name="mlp")
        if self.norm == "pre":
            x = x + attention(attention_norm(x), mask)
            return x + mlp(mlp_norm(x))
        x = attention_norm(x + attention(x, mask))
        return mlp_norm(x + mlp(x))
