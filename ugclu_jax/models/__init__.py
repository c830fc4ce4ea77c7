"""Bundled models by name, all Flax Linen modules called as `module.apply(variables, inputs, train=...)`."""

import difflib
import functools
from collections.abc import Callable

import flax.linen as nn

from ugclu_jax.models.cnn import CNN
from ugclu_jax.models.mlp import MLP

__all__ = ["CNN", "MLP", "MODELS", "create"]

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "cnn_bn": functools.partial(CNN, batch_norm=True),
}


def create(name: str, num_classes: int) -> nn.Module:
    """Make a bundled model by name.

    Args:
        name: a key of `MODELS`.
        num_classes: C.

    Raises:
        ValueError: if the name is unknown (the nearest valid names are given) or `num_classes` is below 2.

    Example:
        >>> create("mlp", 10).features
        (64, 64)
        >>> create("cnn-bn", 10)
        Traceback (most recent call last):
        ...
        ValueError: unknown model 'cnn-bn': it must be one of mlp, cnn, cnn_bn; did you mean cnn_bn or cnn?
    """
    if name not in MODELS:
        nearest = difflib.get_close_matches(str(name), MODELS)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
        raise ValueError(f"unknown model {name!r}: it must be one of {', '.join(MODELS)}{hint}")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}: it must be at least 2, one output a class")
    return MODELS[name](num_classes)
