"""UG-CLU's unlearn request as a plain PyTorch program: one batch after another, no code of the library.

It gets every batch at hand: what a loader would cost is not in its time.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

LOSS_FLOOR = 1e-4
Batch = tuple[torch.Tensor, torch.Tensor]


class Normalise(NamedTuple):
    """`(x / scale − mean) / std` per channel, `[channels, 1, 1]`."""

    mean: torch.Tensor
    std: torch.Tensor
    scale: float

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return (images.to(self.mean.dtype) / self.scale - self.mean) / self.std


class Request(NamedTuple):
    """The batches, `[B, channels, H, W]` as stored, and the settings."""

    mask_task: list[Batch]
    mask_remain: list[Batch]
    task: list[Batch]
    remain: list[list[Batch]]
    normalise: Normalise
    saliency: str  # "fisher" or "batch_fisher"
    fast_learning_rate: float
    remain_learning_rate: float
    slow_step_size: float
    loss_exponent: float
    saliency_threshold: float
    clip_norm: float
    remain_weight_decay: float


def batches(inputs: np.ndarray, labels: np.ndarray, channels_last: bool) -> list[Batch]:
    """`[n, B, H, W, channels]` and `[n, B]` as pairs of tensors, channels first."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.from_numpy(np.moveaxis(inputs, -1, 2).copy())
    return [
        (image.contiguous(memory_format=layout), label)
        for image, label in zip(images, torch.from_numpy(labels.astype(np.int64)), strict=True)
    ]


def statistic(
    model: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor], request: Request, of: Iterable[Batch]
) -> list[torch.Tensor]:
    """Mean square of the gradients of examples ("fisher") or of batches ("batch_fisher"), in evaluation mode."""
    model.eval()
    params = list(model.parameters())
    total, count = [torch.zeros_like(p) for p in params], 0
    values = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(model, {**values, **buffers}, (x[None],)), y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    for images, labels in of:
        x = request.normalise(images)
        if request.saliency == "fisher":
            squares = [g.square().sum(0) for g in each(values, x, labels).values()]
            count += len(labels)
        else:
            squares = [g.square() for g in torch.autograd.grad(F.cross_entropy(forward(x), labels), params)]
            count += 1
        for t, s in zip(total, squares, strict=True):
            t += s
    return [t / count for t in total]


def unlearn(
    model: nn.Module, request: Request, forward: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> list[float]:
    """Serve the request: the parameters of `model` are changed in place.

    Args:
        model: whose parameters and statistics they are.
        request: its batches and settings.
        forward: `model`, compiled; None = as it is.

    Returns:
        Mean loss of each task batch at the start of its outer step.
    """
    forward = model if forward is None else forward
    params = list(model.parameters())
    task_statistic, remain_statistic = (
        statistic(model, forward, request, of) for of in (request.mask_task, request.mask_remain)
    )
    mask = [
        (q >= request.saliency_threshold * r).to(q.dtype) for q, r in zip(task_statistic, remain_statistic, strict=True)
    ]
    model.train()
    steps, task_losses = len(request.task), []
    for k, ((images, labels), remain) in enumerate(zip(request.task, request.remain, strict=True)):
        share = 1 - k / steps
        start = [p.detach().clone() for p in params]
        statistics = [b.clone() for b in model.buffers()]
        losses = F.cross_entropy(forward(request.normalise(images)), labels, reduction="none")
        with torch.no_grad():
            weights = losses.clamp(min=LOSS_FLOOR) ** -request.loss_exponent
            coefficients = share * weights / weights.mean()
        task_losses.append(losses.detach().mean())
        gradient = torch.autograd.grad(-(coefficients * losses).mean(), params)
        with torch.no_grad():
            for b, s in zip(model.buffers(), statistics, strict=True):
                b.copy_(s)  # statistics of what is to go are not kept
            masked = [m * g for m, g in zip(mask, gradient, strict=True)]
            norm = torch.sqrt(sum(g.square().sum() for g in masked))
            step = request.fast_learning_rate / (norm / request.clip_norm).clamp(min=1)
            for p, g in zip(params, masked, strict=True):
                p -= step * g
        for images, labels in remain:
            loss = F.cross_entropy(forward(request.normalise(images)), labels)
            gradient = torch.autograd.grad(loss, params)
            with torch.no_grad():
                for p, g in zip(params, gradient, strict=True):
                    p -= request.remain_learning_rate * share * (g + request.remain_weight_decay * p)
        with torch.no_grad():
            for p, s in zip(params, start, strict=True):
                p.copy_(s - request.slow_step_size * (s - p))
    return [float(loss) for loss in task_losses]
