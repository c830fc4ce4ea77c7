"""Swin transformers: attention in windows, which shift by half in every other block."""

from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import conv_general_dilated, head_product
from ugclu_jax.models.transformer import KERNEL_INIT, FeedForward, attend, number_of_heads
from ugclu_jax.types import Array

Grid = TypeVar("Grid", Array, np.ndarray)


class Setting(NamedTuple):
    """What depends on the side of the image, in pixels."""

    patch: int
    window: int


# 224 is the original's: stages of 56, 28, 14 and 7 patches a side, all divided by the window, the last being one
# window. The others keep that: 32, 16, 8 and 4 patches in windows of 4. The original's patch of 4 would end in stages
# smaller than any useful window, of 2 patches a side for 64 pixels and 1 for 32.
SETTINGS = {32: Setting(patch=1, window=4), 64: Setting(patch=2, window=4), 224: Setting(patch=4, window=7)}


def relative_positions(window: int) -> np.ndarray:
    """Row of the bias table for each pair of positions of a window: (Δy + w − 1)(2w − 1) + Δx + w − 1.

    Args:
        window: w, its side.

    Returns:
        [w², w²] integers in 0 … (2w − 1)² − 1, query first.

    Example:
        >>> relative_positions(2)[0].tolist()
        [4, 3, 1, 0]
    """
    grid = np.stack(np.divmod(np.arange(window**2), window), axis=-1)
    difference = grid[:, None] - grid[None] + window - 1
    return difference[..., 0] * (2 * window - 1) + difference[..., 1]


def partition(x: Grid, window: int) -> Grid:
    """[B, H, W, D] to [B, windows, w², D], windows and their positions row by row; w divides H and W."""
    batch, height, width, features = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, features)
    return x.swapaxes(2, 3).reshape(batch, -1, window**2, features)


def unpartition(windows: Array, height: int, width: int) -> Array:
    """The inverse of `partition`."""
    batch, _, area, features = windows.shape
    window = round(area**0.5)
    x = windows.reshape(batch, height // window, width // window, window, window, features)
    return x.swapaxes(2, 3).reshape(batch, height, width, features)


def same_region(height: int, width: int, window: int, shifts: tuple[int, int]) -> np.ndarray:
    """Which pairs of a window lay side by side before the cyclic shift: [windows, w², w²] bool."""
    regions = np.zeros((1, height, width, 1), np.int32)
    for axis, (size, shift) in enumerate(zip((height, width), shifts, strict=True), start=1):
        if shift:
            places = np.arange(size)
            label = (places >= size - window).astype(np.int32) + (places >= size - shift)
            regions = 3 * regions + np.expand_dims(label, tuple({0, 1, 2, 3} - {axis}))
    labels = np.asarray(partition(regions, window))[0, :, :, 0]
    return labels[:, :, None] == labels[:, None, :]


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a learned bias for each relative position.

    Where the window does not divide a side, zeros are appended, which are attended like any other pixel, as in the
    original. A side that fits into one window is not shifted.

    Attributes:
        heads: their number, a divisor of D.
        window: side of a window.
        shifted: shift by half a window, and mask what was not together before.
        dtype: of the computation; parameters are float32.
    """

    heads: int
    window: int
    shifted: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, D] to [B, H, W, D]."""
        _, height, width, features = x.shape
        x = jnp.pad(x, ((0, 0), (0, -height % self.window), (0, -width % self.window), (0, 0)))
        _, rows, columns, _ = x.shape
        down, across = (self.window // 2 if self.shifted and side > self.window else 0 for side in (rows, columns))
        x = partition(jnp.roll(x, (-down, -across), (1, 2)), self.window)
        qkv = nn.Dense(3 * features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="qkv")(x)
        query, key, value = jnp.moveaxis(qkv.reshape(*x.shape[:3], 3, self.heads, -1), 3, 0)
        table = self.param("relative_position_bias", KERNEL_INIT, ((2 * self.window - 1) ** 2, self.heads))
        bias = jnp.moveaxis(table[relative_positions(self.window)], -1, 0)
        mask = same_region(rows, columns, self.window, (down, across))[:, None] if down or across else None
        attended = attend(query, key, value, bias, mask).reshape(x.shape)
        x = nn.Dense(features, dtype=self.dtype, kernel_init=KERNEL_INIT, name="out")(attended)
        return jnp.roll(unpartition(x, rows, columns), (down, across), (1, 2))[:, :height, :width]


class SwinBlock(nn.Module):
    """x ← x + attention(norm(x)); x ← x + mlp(norm(x)); in training, each branch may be dropped for a whole example.

    Attributes:
        heads: of the attention.
        window: side of a window.
        shifted: see `WindowAttention`.
        drop_rate: probability that a branch is dropped; the others are divided by its complement.
        train: whether branches are dropped, by the random stream "dropout".
        dtype: of the computation; parameters, and the norms' statistics, are float32.
    """

    heads: int
    window: int
    shifted: bool
    drop_rate: float
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, D] to [B, H, W, D]."""
        attention = WindowAttention(self.heads, self.window, self.shifted, self.dtype, name="attention")
        for norm, branch in (("attention_norm", attention), ("mlp_norm", FeedForward(self.dtype, name="mlp"))):
            y = branch(nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=norm)(x))
            x = x + nn.Dropout(self.drop_rate, broadcast_dims=(1, 2, 3), deterministic=not self.train)(y)
        return x


def merge(x: Array) -> Array:
    """[B, H, W, D] to [B, ⌈H / 2⌉, ⌈W / 2⌉, 4 D]: each 2x2 square, column by column; zeros at odd ends."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    return jnp.concatenate([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], axis=-1)


class SwinTransformer(nn.Module):
    """Patches, four stages of blocks, patches merged between them: Swin-T has 28,288,354 parameters at 1,000 classes.

    Attributes:
        num_classes: C.
        width: features of a patch in the first stage; each later stage has twice those before it.
        depths: blocks of each stage.
        patch: side of a patch in pixels; what it does not divide is cut off.
        window: side of a window in patches.
        head_size: features of an attention head; a smaller width has one head.
        stochastic_depth: rate of the last block, see `SwinBlock`; from 0 at the first block it grows evenly. The
            default is 0, not the original's 0.2 for 300 epochs of ImageNet, so that training needs no random key.
        dtype: of the computation; parameters, the norms' statistics, the mean and the logits are float32.
        remat: forget each block's activations and compute them again in the backward pass.

    Raises:
        ValueError: if a stage's features are above `head_size` and not a multiple of it.

    Example:
        >>> import jax
        >>> module, images = SwinTransformer(num_classes=1000), jnp.zeros((1, 224, 224, 3))
        >>> variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
        >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        28288354

    References:
        Liu et al., Swin Transformer, arXiv 2103.14030.
    """

    num_classes: int
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    patch: int = 4
    window: int = 7
    head_size: int = 32
    stochastic_depth: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        for stage in range(len(self.depths)):
            number_of_heads(self.width * 2**stage, self.head_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]; with `train`, `stochastic_depth` applies."""

        def norm(name: str) -> nn.Module:
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)

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
        x = norm("patch_norm")(x)
        block = nn.remat(SwinBlock) if self.remat else SwinBlock
        rates = iter(np.linspace(0, self.stochastic_depth, sum(self.depths)).tolist())
        for stage, depth in enumerate(self.depths):
            if stage > 0:
                x = norm(f"merge{stage}_norm")(merge(x))
                x = nn.Dense(
                    x.shape[-1] // 2,
                    use_bias=False,
                    dtype=self.dtype,
                    kernel_init=KERNEL_INIT,
                    name=f"merge{stage}_reduction",
                )(x)
            heads = number_of_heads(x.shape[-1], self.head_size)
            for i in range(depth):
                name = f"stage{stage}_block{i}"
                x = block(heads, self.window, i % 2 == 1, next(rates), train, self.dtype, name=name)(x)
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = norm("norm")(x).mean((1, 2), dtype=wide)
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=wide, kernel_init=KERNEL_INIT, name="head")(x)
