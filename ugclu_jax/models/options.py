"""Settings of the bundled models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ugclu_jax.models.lowering import Lowering
from ugclu_jax.models.resnet import Stem
from ugclu_jax.models.text_encoder import Pooling
from ugclu_jax.models.transformer import Norm

Compute = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ModelOptions:
    """Settings of the bundled models; one that the chosen model lacks must keep its default."""

    dtype: Compute = "float32"
    """Type of the computation; parameters, statistics of norms, and logits are float32."""
    remat: bool = False
    """Recompute each block's activations in the backward pass, for memory (resnet18, swin_t, vit, text_encoder). On CPU
    only swin_t and vit gain, and only under XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false."""
    width: int | None = None
    """Features: of the first stage (resnet18: 64, swin_t: 96), of a token (vit: 192, 384, 768; text_encoder: 256)."""
    depth: int | None = None
    """Blocks a stage (resnet18: 2, swin_t: 2, 2, 6, 2), or layers (vit: 12, text_encoder: 4)."""
    stem: Stem = "cifar"
    """First layers of resnet18: cifar for small images, imagenet = 7x7 of stride 2 and max-pooling for large ones."""
    lowering: Lowering = "auto"
    """How convolutions are computed (cnn, cnn_bn, resnet18): fast in a loop on CPU, as patches and a matmul, or by
    native XLA; auto = fast on CPU, native elsewhere."""
    norm: Norm = "pre"
    """LayerNorm of text_encoder: before each part of a layer, or after the sum with its residual (as in BERT)."""
    pooling: Pooling = "mean"
    """What of a sequence text_encoder classifies: the mean over its tokens, or the first one."""
    stochastic_depth: float = 0.0
    """Rate in [0, 1) at which swin_t drops its last block in training; it grows evenly from the first block on."""
    pretrained: Path | None = None
    """State dict of torchvision or timm as .safetensors (resnet18, swin_t, vit). swin_t then has the patch and
    window of 224 pixels at every image size."""
    new_head: bool = False
    """Leave out the classifier of `pretrained`, for another number of classes."""

    def __post_init__(self) -> None:
        for name, kind in {
            "dtype": Compute,
            "stem": Stem,
            "lowering": Lowering,
            "norm": Norm,
            "pooling": Pooling,
        }.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(get_args(kind))}")
        for name in ("width", "depth"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: it must be at least 1; leave it out for the architecture's own")
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(f"stochastic_depth is {self.stochastic_depth}: it must be in [0, 1); 0 switches it off")
        if self.new_head and self.pretrained is None:
            raise ValueError(
                "new_head is True without pretrained: there is no head to leave out; drop it or name a file"
            )
