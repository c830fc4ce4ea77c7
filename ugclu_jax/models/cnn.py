"""A small strided convolutional network."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import Lowering, conv_general_dilated, head_product
from ugclu_jax.models.norm import BatchNorm
from ugclu_jax.types import Array


class CNN(nn.Module):
    """3x3 convolutions of stride 2 with ReLU, flatten, dense: 33,546 parameters for 28x28x1 and ten classes.

    Strides stand in for pooling, whose gradient is slow on XLA's CPU backend.

    Attributes:
        num_classes: C.
        widths: features of each convolution.
        batch_norm: BatchNorm (momentum 0.9) after each convolution, which then has no bias.
        lowering: how the convolutions are computed, see `conv_general_dilated`.
        norm_axis: mapped axis of devices over which BatchNorm takes the statistics of a batch in training.
        dtype: of the computation; parameters, the norms' statistics and the logits are float32.

    Example:
        >>> import jax
        >>> images = jnp.zeros((2, 28, 28, 1))
        >>> module = CNN(num_classes=10)
        >>> variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        33546
    """

    num_classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    batch_norm: bool = False
    lowering: Lowering = "auto"
    norm_axis: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]; with `train`, BatchNorm uses and records the batch's statistics."""
        convolution = functools.partial(conv_general_dilated, lowering=self.lowering)
        x = inputs
        for width in self.widths:
            x = nn.Conv(
                width,
                (3, 3),
                (2, 2),
                use_bias=not self.batch_norm,
                dtype=self.dtype,
                conv_general_dilated=convolution,
            )(x)
            if self.batch_norm:
                x = BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    dtype=self.dtype,
                    axis_name=self.norm_axis,
                    relu=True,
                    lowering=self.lowering,
                )(x)
            else:
                x = nn.relu(x)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=jnp.promote_types(self.dtype, jnp.float32))(
            x.reshape(x.shape[0], -1)
        )
