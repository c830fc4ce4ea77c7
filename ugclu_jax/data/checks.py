"""What every array of a data set must satisfy; each refusal names the value received, the rule and the fix."""

import difflib
from collections.abc import Iterable
from typing import NoReturn

import numpy as np


def refuse_name(kind: str, name: str, valid: Iterable[str]) -> NoReturn:
    """Refuse a name that is none of `valid`, with those and the nearest of them."""
    valid = list(valid)
    nearest = difflib.get_close_matches(str(name), valid)
    hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
    raise ValueError(f"unknown {kind} {name!r}: it must be one of {', '.join(valid)}{hint}")


def check_inputs(key: str, inputs: np.ndarray) -> None:
    """Refuse `inputs` unless they are finite uint8 or float32 numbers of shape [N, ...], N ≥ 1."""
    if not isinstance(inputs, np.ndarray) or inputs.dtype not in (np.uint8, np.float32):
        kind = inputs.dtype if isinstance(inputs, np.ndarray) else type(inputs).__name__
        raise ValueError(f"{key} has type {kind}: it must be a uint8 or float32 NumPy array; convert it with .astype")
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise ValueError(
            f"{key} has shape {inputs.shape}: it must be [N, ...] with at least one example and no empty axis; "
            "add a feature axis, or give examples"
        )
    if inputs.dtype == np.float32 and not np.isfinite(inputs).all():
        row = int(np.argwhere(~np.isfinite(inputs))[0, 0])
        raise ValueError(f"{key}[{row}] holds NaN or infinity: inputs must be finite; repair or drop that example")


def check_tokens(key: str, inputs: np.ndarray, vocabulary_size: int) -> None:
    """Refuse `inputs` unless they are int32 tokens of shape [N, L] in [0, vocabulary_size), N and L ≥ 1."""
    if not isinstance(vocabulary_size, int) or isinstance(vocabulary_size, bool) or vocabulary_size < 2:
        raise ValueError(f"vocabulary_size is {vocabulary_size!r}: it must be an integer of at least 2, or None")
    if not isinstance(inputs, np.ndarray) or inputs.dtype != np.int32:
        kind = inputs.dtype if isinstance(inputs, np.ndarray) else type(inputs).__name__
        raise ValueError(
            f"{key} has type {kind}: with a vocabulary_size it must hold int32 tokens; use .astype(np.int32), or leave "
            "vocabulary_size out"
        )
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"{key} has shape {inputs.shape}: tokens must be [N, L], at least one example of one token")
    wrong = np.argwhere((inputs < 0) | (inputs >= vocabulary_size))
    if wrong.size:
        raise ValueError(
            f"{key}[{wrong[0, 0]}] holds token {inputs[tuple(wrong[0])]}: tokens lie in 0..{vocabulary_size - 1}; use "
            "the vocabulary that they were made with"
        )


def check_keys(key: str, keys: np.ndarray, examples: int) -> None:
    """Refuse `keys` unless they are different non-empty strings, one for each of `examples` inputs."""
    if not isinstance(keys, np.ndarray) or keys.dtype.kind != "U" or keys.shape != (examples,):
        kind = f"{keys.dtype}{list(keys.shape)}" if isinstance(keys, np.ndarray) else type(keys).__name__
        raise ValueError(f"{key} is {kind}: it must be an array of {examples} strings, one key an example")
    if (keys == "").any():
        raise ValueError(f"{key}[{np.flatnonzero(keys == '')[0]}] is empty: a key must name its example; see keys.py")
    values, counts = np.unique(keys, return_counts=True)
    if counts.max(initial=1) > 1:
        raise ValueError(f"{key} holds {str(values[counts > 1][0])!r} more than once: a key must name one example")


def check_labels(key: str, labels: np.ndarray, examples: int, num_classes: int) -> None:
    """Refuse `labels` unless they are integers 0..num_classes-1, one for each of `examples` inputs."""
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        kind = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise ValueError(f"{key} has type {kind}: labels must be integers in a NumPy array; use class numbers 0..C-1")
    if labels.shape != (examples,):
        raise ValueError(f"{key} has shape {labels.shape}: it must be ({examples},), one label an example")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise ValueError(
            f"{key}[{wrong[0]}] is {labels[wrong[0]]}: labels lie in 0..{num_classes - 1} ({num_classes} classes); "
            "correct the label or add its class to class_names"
        )


def check_scale(scale: float, train: np.ndarray, test: np.ndarray) -> None:
    """Refuse `scale` unless it is positive and no uint8 input exceeds it."""
    if not (isinstance(scale, int | float | np.number) and np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale!r}: it must be a finite number > 0; use the largest possible input")
    largest = max(int(inputs.max()) if inputs.dtype == np.uint8 else 0 for inputs in (train, test))
    if largest > scale:
        raise ValueError(f"inputs reach {largest} and scale is {scale}: it must not be below the largest input")
