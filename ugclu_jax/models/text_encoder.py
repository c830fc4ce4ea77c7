"""A transformer encoder that classifies token sequences."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import head_product
from ugclu_jax.models.transformer import (
    KERNEL_INIT,
    PADDING_ID,
    EncoderLayer,
    Norm,
    check_tokens,
    mean_of_tokens,
    number_of_heads,
)
from ugclu_jax.types import Array

Pooling = Literal["mean", "cls"]


class TextEncoder(nn.Module):
    """Token and position embedding, encoder layers, one vector a sequence, dense. The default size is BERT-mini's.

    Padding, id 0, is attended by nobody and left out of the mean. With "post", BERT's own order, the embeddings are
    normalised and each layer's output is; with "pre" the output of the last layer is.

    Attributes:
        num_classes: C.
        vocabulary_size: ids are below it.
        length: of the longest sequence.
        width: features of a token.
        depth: layers.
        norm: "pre" or "post", see `EncoderLayer`.
        pooling: "mean" over what is not padding (zeros for a sequence of padding alone), or "cls", position 0.
        head_size: features of an attention head; a smaller width has one head.
        dtype: of the computation; parameters, the norms' statistics, the mean and the logits are float32.
        remat: forget each layer's activations and compute them again in the backward pass.

    Raises:
        ValueError: if `width` is above `head_size` and not a multiple of it; on use, for inputs that are not integers
            [B, L] and for L above `length`.

    Example:
        >>> import jax
        >>> module = TextEncoder(num_classes=4, vocabulary_size=100, length=6, width=8, depth=1)
        >>> tokens = jnp.array([[7, 9, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
        >>> logits, _ = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), tokens, train=False))
        >>> logits.shape
        (2, 4)

    References:
        Devlin et al., BERT, arXiv 1810.04805.
    """

    num_classes: int
    vocabulary_size: int
    length: int
    width: int = 256
    depth: int = 4
    norm: Norm = "pre"
    pooling: Pooling = "mean"
    head_size: int = 64
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        number_of_heads(self.width, self.head_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, L] integer ids to logits [B, C]; nothing depends on `train`."""
        check_tokens(inputs, self.length)
        present = inputs != PADDING_ID
        x = nn.Embed(
            self.vocabulary_size, self.width, dtype=self.dtype, embedding_init=KERNEL_INIT, name="token_embedding"
        )(inputs)
        positions = self.param("position_embedding", KERNEL_INIT, (self.length, self.width))
        x = x + positions[: inputs.shape[1]].astype(x.dtype)
        norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")
        if self.norm == "post":
            x = norm(x)
        layer = nn.remat(EncoderLayer) if self.remat else EncoderLayer
        heads = number_of_heads(self.width, self.head_size)
        for i in range(self.depth):
            x = layer(heads, self.norm, self.dtype, name=f"layer{i}")(x, present)
        if self.norm == "pre":
            x = norm(x)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        pooled = x[:, 0] if self.pooling == "cls" else mean_of_tokens(x, present)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=wide, kernel_init=KERNEL_INIT, name="head")(
            pooled
        )
