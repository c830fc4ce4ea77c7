"""The networks of the cases in plain PyTorch, their parts named as in Flax, and tensors from Flax's trees."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ugclu_jax.types import ModelState, Params, PyTree


class MLP(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.Dense_0 = nn.Linear(inputs, 64)
        self.Dense_1 = nn.Linear(64, 64)
        self.Dense_2 = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Dense_2(F.relu(self.Dense_1(F.relu(self.Dense_0(x.flatten(1))))))


class CNN(nn.Module):
    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.Conv_0 = nn.Conv2d(channels, 16, 3, 2)
        self.Conv_1 = nn.Conv2d(16, 32, 3, 2)
        self.Conv_2 = nn.Conv2d(32, 64, 3, 2)
        self.Dense_0 = nn.Linear(64 * (-(-side // 8)) ** 2, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in (self.Conv_0, self.Conv_1, self.Conv_2):
            # "SAME" at stride 2: one pixel on each side of an odd image, on the far side of an even one.
            near = x.shape[-1] % 2
            x = F.relu(convolution(F.pad(x, (near, 1, near, 1))))
        return self.Dense_0(x.flatten(1))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.shortcut_conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + (self.shortcut_norm(self.shortcut_conv(x)) if self.projects else x))


class ResNet(nn.Module):
    def __init__(self, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.stem_conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks, inputs = [], width
        for stage in range(4):
            for i in range(depth):
                self.blocks.append(f"stage{stage}_block{i}")
                block = Block(inputs, width * 2**stage, 2 if stage > 0 and i == 0 else 1)
                self.add_module(self.blocks[-1], block)
                inputs = width * 2**stage
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_norm(self.stem_conv(x)))
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def tensors(params: Params, model_state: ModelState) -> dict[str, torch.Tensor]:
    """Flax's trees as a state dict of the networks above."""
    found: dict[str, torch.Tensor] = {}

    def visit(tree: PyTree, path: tuple[str, ...], channels: int | None) -> None:
        for name, value in tree.items():
            if isinstance(value, dict):
                visit(value, (*path, name), channels)
                continue
            array = np.asarray(value)
            if array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            elif array.ndim == 2:
                if channels is not None and path == ("Dense_0",):
                    # What it reads was flattened with channels last; torch's are first.
                    side = round((len(array) / channels) ** 0.5)
                    grid = array.reshape(side, side, channels, -1)
                    array = grid.transpose(2, 0, 1, 3).reshape(len(array), -1)
                array = array.T
            found[".".join((*path, NAMES.get(name, name)))] = torch.from_numpy(array.copy())

    channels = params["Conv_2"]["kernel"].shape[-1] if "Conv_2" in params else None
    visit(params, (), channels)
    visit(model_state.get("batch_stats", {}), (), channels)
    return found


def make(model: str, params: Params, model_state: ModelState, input_shape: tuple[int, ...]) -> nn.Module:
    """The network with the weights of Flax's.

    Raises:
        ValueError: a model that has no counterpart here.
    """
    filled = tensors(params, model_state)
    if model == "mlp":
        module: nn.Module = MLP(filled["Dense_0.weight"].shape[1], len(filled["Dense_2.bias"]))
    elif model == "cnn":
        module = CNN(input_shape[-1], input_shape[0], len(filled["Dense_0.bias"]))
    elif model == "resnet18":
        depth = sum(name.startswith("stage0_block") and name.endswith("conv1.weight") for name in filled)
        module = ResNet(len(filled["stem_conv.weight"]), depth, len(filled["head.bias"]))
    else:
        raise ValueError(f"model is {model!r}: it must be one of mlp, cnn, resnet18, which have a counterpart here")
    module = module.to(filled[next(iter(filled))].dtype)
    counters = {name: value for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
    module.load_state_dict({**filled, **counters})
    return module
