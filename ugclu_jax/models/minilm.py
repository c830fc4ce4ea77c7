"""MiniLM: BERT's encoder at six narrow layers, the mean over the tokens, dense."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import head_product
from ugclu_jax.models.transformer import (
    KERNEL_INIT,
    PADDING_ID,
    FeedForward,
    attend,
    check_tokens,
    mean_of_tokens,
    number_of_heads,
)
from ugclu_jax.types import Array

VOCABULARY_SIZE = 30_522
"""Of the lower-case WordPiece vocabulary of its weights."""


class Attention(nn.Module):
    """Multi-head self-attention with a layer for each of query, key and value, as BERT's weights are stored.

    Attributes:
        heads: their number, a divisor of D.
        dtype: of the computation; parameters are float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """[B, T, D], and [B, T] bool where False is a position that nobody attends, to [B, T, D]."""
        features = x.shape[-1]
        query, key, value = (
            nn.Dense(features, dtype=self.dtype, kernel_init=KERNEL_INIT, name=name)(x).reshape(
                *x.shape[:2], self.heads, -1
            )
            for name in ("query", "key", "value")
        )
        attended = attend(query, key, value, mask=mask[:, None, None, :]).reshape(x.shape)
        return nn.Dense(features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="out")(attended)


class Layer(nn.Module):
    """x ← norm(x + attention(x)), x ← norm(x + mlp(x)).

    Attributes:
        heads: of the attention.
        dtype: of the computation; parameters, and the norms' statistics, are float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        """[B, T, D], and a mask as `Attention` takes it, to [B, T, D]."""
        attention_norm, mlp_norm = (
            nn.LayerNorm(epsilon=1e-12, dtype=self.dtype, name=name) for name in ("attention_norm", "mlp_norm")
        )
        x = attention_norm(x + Attention(self.heads, self.dtype, name="attention")(x, mask))
        return mlp_norm(x + FeedForward(self.dtype, name="mlp")(x))


class MiniLM(nn.Module):
    """Embeddings of token, position and segment, BERT's layers, mean over what is not padding, dense.

    22,565,376 parameters below the head: all-MiniLM-L6-v2 without the pooler, which its sentence vectors do not use.
    They are scaled to length 1 there; the head sees the mean as it is.

    Attributes:
        num_classes: C.
        vocabulary_size: ids are below it; 0 is padding.
        positions: of the longest sequence.
        width: features of a token.
        depth: layers.
        head_size: features of an attention head; a smaller width has one head.
        dtype: of the computation; parameters, the norms' statistics, the mean and the logits are float32.
        remat: forget each layer's activations and compute them again in the backward pass.

    Raises:
        ValueError: if `width` is above `head_size` and not a multiple of it; on use, for inputs that are not integers
            [B, L] and for L above `positions`.

    Example:
        >>> import jax
        >>> module, tokens = MiniLM(num_classes=2), jnp.zeros((1, 16), int)
        >>> variables = jax.eval_shape(lambda: module.init(jax.random.key(0), tokens, train=False))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) - (384 + 1) * 2
        22565376

    References:
        Devlin et al., BERT, arXiv 1810.04805; Wang et al., MiniLM, arXiv 2002.10957; Reimers and Gurevych,
        Sentence-BERT, arXiv 1908.10084, for the mean.
    """

    num_classes: int
    vocabulary_size: int = VOCABULARY_SIZE
    positions: int = 512
    width: int = 384
    depth: int = 6
    head_size: int = 32
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        number_of_heads(self.width, self.head_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, L] integer ids to logits [B, C]; nothing depends on `train`."""
        check_tokens(inputs, self.positions)
        present = inputs != PADDING_ID
        x = nn.Embed(
            self.vocabulary_size, self.width, dtype=self.dtype, embedding_init=KERNEL_INIT, name="token_embedding"
        )(inputs)
        positions = self.param("position_embedding", KERNEL_INIT, (self.positions, self.width))
        segments = self.param("segment_embedding", KERNEL_INIT, (2, self.width))  # one text: all of the first
        x = x + positions[: inputs.shape[1]].astype(x.dtype) + segments[0].astype(x.dtype)
        x = nn.LayerNorm(epsilon=1e-12, dtype=self.dtype, name="norm")(x)
        layer = nn.remat(Layer) if self.remat else Layer
        heads = number_of_heads(self.width, self.head_size)
        for i in range(self.depth):
            x = layer(heads, self.dtype, name=f"layer{i}")(x, present)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        pooled = mean_of_tokens(x, present)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=wide, kernel_init=KERNEL_INIT, name="head")(
            pooled
        )
