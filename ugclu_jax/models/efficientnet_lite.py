"""EfficientNet-Lite0: inverted residuals of depthwise convolutions, without squeeze-and-excitation."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import Lowering, conv_general_dilated, head_product
from ugclu_jax.models.norm import BatchNorm
from ugclu_jax.types import Array

MEAN, STD = 127 / 255, 128 / 255
"""Of every channel, by which its weights were trained: (pixel − 127) / 128."""


class Stage(NamedTuple):
    """Blocks of one width: the first has the stride, and widens; the others keep the shape."""

    depth: int
    kernel: int
    stride: int
    expansion: int
    features: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def enlarged(images: Array, least: int) -> Array:
    """Square pictures of a side below `least` at that side, bilinearly; others, and `least` 0, as they are.

    Args:
        images: [B, H, W, channels] floats.
        least: pixels of the shorter side; the proportions stay, to a pixel.

    Example:
        >>> [enlarged(jnp.zeros((1, *size, 3)), 96).shape[1:3] for size in ((32, 32), (32, 64), (224, 224))]
        [(96, 96), (96, 192), (224, 224)]
    """
    height, width = images.shape[1:3]
    shorter = min(height, width)
    if shorter >= least:
        return images
    size = (round(height * least / shorter), round(width * least / shorter))
    return jax.image.resize(images, (images.shape[0], *size, images.shape[3]), "bilinear")


class InvertedResidual(nn.Module):
    """Pointwise to a wider space, depthwise, pointwise back; a residual connection where the shape stays.

    Attributes:
        stage: whose block it is.
        stride: of the depthwise convolution.
        train: whether BatchNorm uses and records the batch's statistics.
        dtype, norm_axis, lowering: see `EfficientNetLite`.
    """

    stage: Stage
    stride: int
    train: bool
    dtype: DTypeLike
    norm_axis: str | None
    lowering: Lowering

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, channels] to [B, ⌈H / stride⌉, ⌈W / stride⌉, features]."""
        layer = functools.partial(
            conv_and_norm,
            train=self.train,
            dtype=self.dtype,
            norm_axis=self.norm_axis,
            lowering=self.lowering,
        )
        y, inner = x, x.shape[-1] * self.stage.expansion
        if self.stage.expansion != 1:
            y = relu6(layer(y, inner, 1, 1, "expand"))
        y = relu6(layer(y, inner, self.stage.kernel, self.stride, "depthwise", groups=inner))
        y = layer(y, self.stage.features, 1, 1, "project")
        return y + x if self.stride == 1 and x.shape[-1] == self.stage.features else y


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6).

    Example:
        >>> relu6(jnp.array([-1.0, 2.0, 7.0])).tolist()
        [0.0, 2.0, 6.0]
    """
    return jnp.minimum(nn.relu(x), 6)


def conv_and_norm(
    x: Array,
    features: int,
    size: int,
    stride: int,
    name: str,
    *,
    train: bool,
    dtype: DTypeLike,
    norm_axis: str | None,
    lowering: Lowering,
    groups: int = 1,
) -> Array:
    """A convolution without bias and a BatchNorm; in the module that calls it, names end in `_conv` and `_norm`."""
    y = nn.Conv(
        features,
        (size, size),
        (stride, stride),
        "SAME",
        feature_group_count=groups,
        use_bias=False,
        dtype=dtype,
        kernel_init=KERNEL_INIT,
        conv_general_dilated=functools.partial(conv_general_dilated, lowering=lowering),
        name=f"{name}_conv",
    )(x)
    return BatchNorm(
        use_running_average=not train,
        momentum=0.99,
        epsilon=1e-3,
        dtype=dtype,
        axis_name=norm_axis,
        lowering=lowering,
        name=f"{name}_norm",
    )(y)


class EfficientNetLite(nn.Module):
    """Stem, inverted residuals, 1x1 convolution, mean over pixels, dense: Lite0, 4,652,008 parameters at 1,000 classes.

    It halves a picture five times, and its weights were trained at 224 pixels: of a picture of 32 a single position
    would be left, of 64 four. Smaller pictures are therefore enlarged to `least_side` inside the model. Gray ones are
    given three equal channels. BatchNorm has TensorFlow's constants, ε 1e-3 and a new share of 0.01.

    Attributes:
        num_classes: C.
        stages: of the blocks.
        stem: features of the first convolution.
        features: of the last one, which the head sees.
        least_side: see `enlarged`; 0 = every picture as it is.
        dtype: of the computation; parameters, the norms' statistics, the mean and the logits are float32.
        remat: forget each block's activations and compute them again in the backward pass.
        norm_axis: mapped axis of devices over which BatchNorm takes the statistics of a batch in training.
        lowering: how the convolutions are computed, see `conv_general_dilated`.

    Raises:
        ValueError: on use, for images of another number of channels than 1 and 3.

    Example:
        >>> module, images = EfficientNetLite(num_classes=1000), jnp.zeros((1, 64, 64, 3))
        >>> variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        4652008

    References:
        Tan and Le, EfficientNet, arXiv 1905.11946; Lite: github.com/tensorflow/tpu, models/official/efficientnet/lite.
    """

    num_classes: int
    stages: tuple[Stage, ...] = LITE0
    stem: int = 32
    features: int = 1280
    least_side: int = 96
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    norm_axis: str | None = None
    lowering: Lowering = "auto"

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, 1 or 3] to logits [B, C]; with `train`, BatchNorm uses and records the batch's statistics."""
        if inputs.ndim != 4 or inputs.shape[-1] not in (1, 3):
            raise ValueError(f"inputs are {inputs.shape}: they must be images [B, H, W, 3], or gray ones [B, H, W, 1]")
        # Enlarged in float32, whatever computes: it is a mean of pixels.
        x = enlarged(inputs, self.least_side)
        x = jnp.broadcast_to(x, (*x.shape[:3], 3))
        layer = functools.partial(
            conv_and_norm, train=train, dtype=self.dtype, norm_axis=self.norm_axis, lowering=self.lowering
        )
        x = relu6(layer(x, self.stem, 3, 2, "stem"))
        block = nn.remat(InvertedResidual) if self.remat else InvertedResidual
        number = 0
        for stage in self.stages:
            for i in range(stage.depth):
                stride = stage.stride if i == 0 else 1
                x = block(stage, stride, train, self.dtype, self.norm_axis, self.lowering, name=f"block{number}")(x)
                number += 1
        x = relu6(layer(x, self.features, 1, 1, "last"))
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=wide, name="head")(x.mean((1, 2), dtype=wide))
