"""Settings of the bundled models."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from ugclu_jax.models.lowering import Lowering
from ugclu_jax.models.resnet import Stem
from ugclu_jax.models.text_encoder import Pooling
from ugclu_jax.models.transformer import Norm

Compute = Literal["float32", "bfloat16"]
Train = Literal["whole", "head", "lora"]


WITHOUT_HEAD = frozenset({"minilm"})
"""Models whose files of weights have no classifier."""


@dataclass(frozen=True)
class ModelOptions:
    """Settings of the bundled models; one that the chosen model lacks must keep its default."""

    dtype: Compute = "float32"
    """Type of the computation; parameters, statistics of norms, and logits are float32."""
    remat: bool = False
    """Recompute each block's activations in the backward pass, for memory (all but mlp, cnn and cnn_bn). On CPU
    only swin_t and vit gain, and only under XLA_FLAGS=--xla_cpu_enable_concurrency_optimized_scheduler=false."""
    width: int | None = None
    """Features: of the first stage (resnet18: 64, swin_t: 96), of a token (vit: 192, 384, 768; text_encoder: 256)."""
    depth: int | None = None
    """Blocks a stage (resnet18: 2, swin_t: 2, 2, 6, 2), or layers (vit: 12, text_encoder: 4)."""
    stem: Stem = "cifar"
    """First layers of resnet18: cifar for small images, imagenet = 7x7 of stride 2 and max-pooling for large ones."""
    lowering: Lowering = "auto"
    """How convolutions are computed (cnn, cnn_bn, resnet18, efficientnet_lite0): fast in a loop on CPU, as patches and
    a matmul, or by native XLA; auto = fast on CPU, native elsewhere."""
    norm: Norm = "pre"
    """LayerNorm of text_encoder: before each part of a layer, or after the sum with its residual (as in BERT)."""
    pooling: Pooling = "mean"
    """What of a sequence text_encoder classifies: the mean over its tokens, or the first one."""
    stochastic_depth: float = 0.0
    """Rate in [0, 1) at which swin_t drops its last block in training; it grows evenly from the first block on."""
    pretrained: Path | None = None
    """State dict as .safetensors: of torchvision or timm (resnet18, swin_t, vit), or what `make weights-lite0` and
    `make weights-minilm` write. swin_t then has the patch and window of 224 pixels at every image size."""
    new_head: bool = False
    """Leave out the classifier of `pretrained`, for another number of classes; minilm's file has none."""
    train: Train = "whole"
    """What is trained of a `pretrained` network: the whole, its head alone, or its head and LoRA, low-rank updates of
    the layers of attention (swin_t, vit, minilm) or of the pointwise convolutions (efficientnet_lite0)."""
    lora_rank: int = 8
    """Rank r of these updates, (lora_alpha / r) A B."""
    lora_alpha: float = 8.0
    """Their scale, positive: what a unit of A B counts at rank 1."""

    def __post_init__(self) -> None:
        for name, kind in {
            "dtype": Compute,
            "stem": Stem,
            "lowering": Lowering,
            "norm": Norm,
            "pooling": Pooling,
            "train": Train,
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
        if self.train != "whole" and self.pretrained is None:
            raise ValueError(
                f"train is {self.train!r} without pretrained: what is not trained would stay random; name a file, or "
                "train the whole"
            )
        if self.train != "whole" and self.stochastic_depth:
            raise ValueError(
                f"stochastic_depth is {self.stochastic_depth} with train {self.train!r}: blocks that are not trained "
                "are not dropped; leave it at 0"
            )
        if self.lora_rank < 1:
            raise ValueError(f"lora_rank is {self.lora_rank}: it must be at least 1")
        if not 0 < self.lora_alpha < math.inf:
            raise ValueError(f"lora_alpha is {self.lora_alpha}: it must be positive and finite")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("lora_") and value != field.default and self.train != "lora":
                raise ValueError(
                    f"{field.name} is {value} with train {self.train!r}: only train 'lora' has such updates; leave it "
                    f"at {field.default}"
                )

    def fresh_head(self, name: str) -> bool:
        """Whether the head of a model by this name is drawn afresh: `new_head`, or a file that has none.

        >>> ModelOptions().fresh_head("resnet18"), ModelOptions().fresh_head("minilm")
        (False, True)
        """
        return self.new_head or name in WITHOUT_HEAD
