"""Transformers for pictures of 28 pixels and less: padded to the 32 that their patches and windows are made for.

Models of one's own to the library, `ugclu_jax.models.padded:SmallViT`: small enough to learn on a CPU.
"""

import flax.linen as nn
import jax.numpy as jnp

from ugclu_jax.models import swin, vit
from ugclu_jax.models.swin import SwinTransformer
from ugclu_jax.models.vit import VisionTransformer
from ugclu_jax.types import Array

SIDE = 32


def padded(inputs: Array) -> Array:
    """[B, H, W, channels] in the middle of [B, 32, 32, channels], zeros around: the mean, once it is normalised.

    Raises:
        ValueError: pictures are larger, or are none.

    >>> padded(jnp.ones((1, 28, 28, 1))).shape
    (1, 32, 32, 1)
    """
    if inputs.ndim != 4 or max(inputs.shape[1:3]) > SIDE:
        raise ValueError(f"inputs are of shape {inputs.shape}: they must be pictures of at most {SIDE} pixels a side")
    before = [(SIDE - side) // 2 for side in inputs.shape[1:3]]
    around = [(margin, SIDE - side - margin) for margin, side in zip(before, inputs.shape[1:3], strict=True)]
    return jnp.pad(inputs, ((0, 0), *around, (0, 0)))


class SmallViT(nn.Module):
    """`VisionTransformer` of 2 layers of 64 features.

    Attributes:
        num_classes: C.
    """

    num_classes: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]."""
        network = VisionTransformer(self.num_classes, width=64, depth=2, **vit.SETTINGS[SIDE]._asdict())
        return network(padded(inputs), train=train)


class SmallSwin(nn.Module):
    """`SwinTransformer` of one layer a stage, 16 features in the first.

    Attributes:
        num_classes: C.
    """

    num_classes: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]."""
        network = SwinTransformer(self.num_classes, width=16, depths=(1, 1, 1, 1), **swin.SETTINGS[SIDE]._asdict())
        return network(padded(inputs), train=train)
