"""Residual networks of basic blocks."""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import Lowering, conv_general_dilated, head_product
from ugclu_jax.models.norm import BatchNorm
from ugclu_jax.types import Array

Stem = Literal["cifar", "imagenet"]
KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def max_pool(x: Array) -> Array:
    """Largest of each 3x3 window at stride 2, one pixel of padding; its gradient needs no `reduce_window`, slow on CPU.

    Args:
        x: [B, H, W, channels].

    Returns:
        [B, ⌈H / 2⌉, ⌈W / 2⌉, channels]; where values tie, they share the gradient.

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    for axis in (1, 2):
        margins = [(1, 1, 0) if i == axis else (0, 0, 0) for i in range(4)]
        padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), margins)
        size = x.shape[axis]
        slices = [lax.slice_in_dim(padded, i, i + size, 2, axis) for i in range(3)]
        x = functools.reduce(jnp.maximum, slices)
    return x


class Block(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + x), with a projection of x where its shape changes.

    Attributes:
        features: of the output.
        stride: of the first convolution.
        conv: makes a convolution from features, kernel size and stride.
        norm: makes a BatchNorm.
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, channels] to [B, ⌈H / stride⌉, ⌈W / stride⌉, features]."""
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = self.norm(relu=True, name="norm1")(y)
        y = self.norm(name="norm2")(self.conv(self.features, 3, 1, name="conv2")(y))
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self.norm(name="shortcut_norm")(self.conv(self.features, 1, self.stride, name="shortcut_conv")(x))
        return nn.relu(y + x)


class ResNet(nn.Module):
    """Stem, four stages of basic blocks, mean over pixels, dense: ResNet-18, 11,173,962 parameters at ten classes.

    Every image size will do. BatchNorm has torch's constants, ε 1e-5 and a new share of 0.1; the recorded variance is
    the biased one, torch's the unbiased.

    Attributes:
        num_classes: C.
        width: features of the first stage; each later stage has twice those before it.
        depths: blocks of each stage.
        stem: "cifar" = 3x3 convolution; "imagenet" = 7x7 of stride 2 and 3x3 max-pooling of stride 2, for large images.
        dtype: of the computation; parameters, the norms' statistics, the mean and the logits are float32.
        remat: forget each block's activations and compute them again in the backward pass.
        norm_axis: mapped axis of devices over which BatchNorm takes the statistics of a batch in training.
        lowering: how the convolutions are computed, see `conv_general_dilated`.

    Example:
        >>> import jax
        >>> module, images = ResNet(num_classes=10), jnp.zeros((1, 32, 32, 3))
        >>> variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        11173962

    References:
        He et al., Deep Residual Learning, arXiv 1512.03385, sections 4.1 (imagenet) and 4.2 (cifar).
    """

    num_classes: int
    width: int = 64
    depths: tuple[int, ...] = (2, 2, 2, 2)
    stem: Stem = "cifar"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    norm_axis: str | None = None
    lowering: Lowering = "auto"

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]; with `train`, BatchNorm uses and records the batch's statistics."""

        def conv(features: int, size: int, stride: int, name: str) -> nn.Module:
            return nn.Conv(
                features,
                (size, size),
                (stride, stride),
                size // 2,
                use_bias=False,
                dtype=self.dtype,
                kernel_init=KERNEL_INIT,
                conv_general_dilated=functools.partial(conv_general_dilated, lowering=self.lowering),
                name=name,
            )

        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.norm_axis,
            lowering=self.lowering,
        )
        size, stride = (3, 1) if self.stem == "cifar" else (7, 2)
        x = norm(relu=True, name="stem_norm")(conv(self.width, size, stride, name="stem_conv")(inputs))
        if self.stem == "imagenet":
            x = max_pool(x)
        block = nn.remat(Block) if self.remat else Block
        for stage, depth in enumerate(self.depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = block(self.width * 2**stage, stride, conv, norm, name=f"stage{stage}_block{i}")(x)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=wide, name="head")(x.mean((1, 2), dtype=wide))
