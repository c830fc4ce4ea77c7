"""Vision transformers."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import conv_general_dilated, head_product
from ugclu_jax.models.transformer import KERNEL_INIT, EncoderLayer, number_of_heads
from ugclu_jax.types import Array

WIDTHS = {"vit_tiny": 192, "vit_small": 384, "vit_base": 768}
"""Features of a token; 12 layers and heads of 64 features in all of them."""


class Setting(NamedTuple):
    """What depends on the side of the image, in pixels."""

    patch: int


# 224 is the original's. Sixteen pixels would leave 4 patches of a 32 pixel image and 16 of 64; these patches leave 64,
# a grid of 8 x 8, on both, of the 196 that the original has.
SETTINGS = {32: Setting(patch=4), 64: Setting(patch=8), 224: Setting(patch=16)}


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, pre-norm layers: ViT-B/16 has 86,567,656 parameters at 1,000 classes.

    Attributes:
        num_classes: C.
        width: features of a token.
        depth: layers.
        patch: side of a patch in pixels; what it does not divide is cut off.
        head_size: features of an attention head; a smaller width has one head.
        dtype: of the computation; parameters, the norms' statistics and the logits are float32.
        remat: forget each layer's activations and compute them again in the backward pass.

    Raises:
        ValueError: if `width` is above `head_size` and not a multiple of it.

    Example:
        >>> import jax
        >>> module, images = VisionTransformer(num_classes=1000, width=768), jnp.zeros((1, 224, 224, 3))
        >>> variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        86567656

    References:
        Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929.
    """

    num_classes: int
    width: int = 192
    depth: int = 12
    patch: int = 16
    head_size: int = 64
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        number_of_heads(self.width, self.head_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]; nothing depends on `train`."""
        side = (self.patch, self.patch)
        x = nn.Conv(
            self.width,
            side,
            side,
            "VALID",
            dtype=self.dtype,
            conv_general_dilated=conv_general_dilated,
            name="patch_embedding",
        )(inputs)
        x = x.reshape(x.shape[0], -1, self.width)
        class_token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(class_token.astype(x.dtype), (x.shape[0], 1, self.width)), x], axis=1)
        x = x + self.param("position_embedding", KERNEL_INIT, (1, *x.shape[1:])).astype(x.dtype)
        layer = nn.remat(EncoderLayer) if self.remat else EncoderLayer
        heads = number_of_heads(self.width, self.head_size)
        for i in range(self.depth):
            x = layer(heads, "pre", self.dtype, name=f"layer{i}")(x)
        x = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm")(x[:, 0])
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=wide, kernel_init=KERNEL_INIT, name="head")(x)
