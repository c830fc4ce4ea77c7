"""EfficientNet-Lite0 and MiniLM in plain torch, with the names of their packages; shares no code with the library."""

import torch
import torch.nn.functional as F
from torch import nn

LITE0 = [  # blocks, kernel, stride, expansion, features
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
]


class SameConv(nn.Conv2d):
    """TensorFlow's padding: the odd pixel lies behind."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = []
        for axis in (3, 2):
            size, stride, kernel = x.shape[axis], self.stride[axis - 2], self.kernel_size[axis - 2]
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


def norm(features: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(features, eps=1e-3, momentum=0.01)


class MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.same = stride == 1 and inputs == outputs
        self._expand_conv = None
        if expansion != 1:
            self._expand_conv, self._bn0 = SameConv(inputs, inner, 1, bias=False), norm(inner)
        self._depthwise_conv, self._bn1 = SameConv(inner, inner, kernel, stride, groups=inner, bias=False), norm(inner)
        self._project_conv, self._bn2 = SameConv(inner, outputs, 1, bias=False), norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self._expand_conv is None else F.relu6(self._bn0(self._expand_conv(x)))
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return y + x if self.same else y


class Lite0(nn.Module):
    def __init__(self, classes: int, blocks=LITE0, stem: int = 32, features: int = 1280) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, stem, 3, 2, bias=False), norm(stem)
        made, width = [], stem
        for depth, kernel, stride, expansion, outputs in blocks:
            for i in range(depth):
                made.append(MBConv(width, outputs, kernel, stride if i == 0 else 1, expansion))
                width = outputs
        self._blocks = nn.ModuleList(made)
        self._conv_head, self._bn1 = SameConv(width, features, 1, bias=False), norm(features)
        self._fc = nn.Linear(features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


class Embeddings(nn.Module):
    def __init__(self, vocabulary: int, positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1])
        kinds = torch.zeros_like(tokens)
        words, places = self.word_embeddings(tokens), self.position_embeddings(places)
        return self.LayerNorm(words + places + self.token_type_embeddings(kinds))


class Output(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(inputs, width), nn.LayerNorm(width, eps=1e-12)

    def forward(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(y) + x)


class BertLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        own = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": own, "output": Output(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = Output(4 * width, width)

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        size = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        q, k, v = (self.attention["self"][n](x).reshape(size).transpose(1, 2) for n in ("query", "key", "value"))
        mask = present[:, None, None, :].expand(-1, -1, x.shape[1], -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x.shape)
        x = self.attention["output"](mixed, x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class Encoder(nn.Module):
    """Without a head: the mean over what is not padding."""

    def __init__(self, vocabulary: int, positions: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocabulary, positions, width)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([BertLayer(width, heads) for _ in range(depth)])})

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        present = tokens != 0
        x = self.embeddings(tokens)
        for layer in self.encoder["layer"]:
            x = layer(x, present)
        weights = present[..., None].to(x.dtype)
        return (x * weights).sum(1) / weights.sum(1)
