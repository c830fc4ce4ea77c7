"""ResNet-18, Swin-T, ViT-B/16 in plain torch, with torchvision's parameter names; shares no code with the library."""

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    def __init__(self, num_classes: int, stem: str, width: int = 64) -> None:
        super().__init__()
        self.stem = stem
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for stage in range(1, 5):
            first = BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            second = BasicBlock(widths[stage], widths[stage], 1)
            setattr(self, f"layer{stage}", nn.Sequential(first, second))
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def feed_forward(features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, 4 * features), nn.GELU(), nn.Identity(), nn.Linear(4 * features, features), nn.Identity()
    )


class ViTAttention(nn.Module):
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * features, features))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * features))
        self.out_proj = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]
        return self.out_proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class ViTLayer(nn.Module):
    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(features, eps=1e-6)
        self.self_attention = ViTAttention(features, heads)
        self.ln_2 = nn.LayerNorm(features, eps=1e-6)
        self.mlp = feed_forward(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class ViTEncoder(nn.Module):
    def __init__(self, tokens: int, features: int, heads: int, depth: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, features))
        self.layers = nn.Sequential()
        for i in range(depth):
            self.layers.add_module(f"encoder_layer_{i}", ViTLayer(features, heads))
        self.ln = nn.LayerNorm(features, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ln(self.layers(x + self.pos_embedding))


class ViT(nn.Module):
    def __init__(self, num_classes: int, side: int, patch: int, features: int, heads: int, depth: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, features))
        self.conv_proj = nn.Conv2d(3, features, patch, patch)
        self.encoder = ViTEncoder((side // patch) ** 2 + 1, features, heads, depth)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(features, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)
        return self.heads(self.encoder(x)[:, 0])


class SwinAttention(nn.Module):
    """Every window, pixel pair by pixel pair, from places on the image: no index arithmetic in common with the library.

    torch.roll brings the pixel (y + s, x + s) mod size to (y, x); pairs whose rows, or columns, come from different
    ends of the image within the last window are not attended.
    """

    def __init__(self, features: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        places = [(y, x) for y in range(window) for x in range(window)]
        index = [
            (y0 - y1 + window - 1) * (2 * window - 1) + x0 - x1 + window - 1 for y0, x0 in places for y1, x1 in places
        ]
        self.register_buffer("relative_position_index", torch.tensor(index))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, features = x.shape
        w, area = self.window, self.window**2
        x = F.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1:3]
        row_shift, column_shift = (w // 2 if self.shifted and size > w else 0 for size in (rows, columns))
        x = torch.roll(x, (-row_shift, -column_shift), (1, 2))
        out = torch.empty_like(x)
        bias = self.relative_position_bias_table[self.relative_position_index].view(area, area, self.heads)
        for top in range(0, rows, w):
            for left in range(0, columns, w):
                tokens = x[:, top : top + w, left : left + w].reshape(batch, area, features)
                query, key, value = self.qkv(tokens).view(batch, area, 3, self.heads, -1).unbind(2)
                scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * (features // self.heads) ** -0.5
                scores = scores + bias.permute(2, 0, 1)
                wrapped = [
                    (top + y >= rows - row_shift, left + x >= columns - column_shift)
                    for y in range(w)
                    for x in range(w)
                ]
                apart = torch.tensor([[one != other for other in wrapped] for one in wrapped])
                scores = scores.masked_fill(apart, -torch.inf)
                mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value).reshape(batch, w, w, features)
                out[:, top : top + w, left : left + w] = self.proj(mixed)
        return torch.roll(out, (row_shift, column_shift), (1, 2))[:, :height, :width]


class SwinBlock(nn.Module):
    def __init__(self, features: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features)
        self.attn = SwinAttention(features, heads, window, shifted)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = feed_forward(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * features)
        self.reduction = nn.Linear(4 * features, 2 * features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        squares = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(squares.flatten(3)))


class Swin(nn.Module):
    def __init__(
        self, num_classes: int, patch: int, window: int, features: int, head_size: int, depths: tuple[int, ...]
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(3, features, patch, patch)
        self.features = nn.Sequential(nn.Sequential(convolution, nn.Identity(), nn.LayerNorm(features)))
        for stage, depth in enumerate(depths):
            if stage > 0:
                self.features.append(PatchMerging(features))
                features *= 2
            blocks = [SwinBlock(features, features // head_size, window, bool(i % 2)) for i in range(depth)]
            self.features.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding, *stages = self.features
        x = embedding[2](embedding[0](x).permute(0, 2, 3, 1))
        for stage in stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))


def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Random weights, and BatchNorm statistics, of a size that keeps activations near one; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            draw = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.ndim == 1 and name.endswith("weight"):
                tensor.copy_(1 + 0.2 * draw)
            elif tensor.ndim == 1 or name.endswith(("running_mean", "table", "embed", "embedding", "token")):
                tensor.copy_(0.2 * draw)
            else:
                tensor.copy_(draw * (1.5 / tensor[0].numel()) ** 0.5)
    return module.eval()
