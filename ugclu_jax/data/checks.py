"""What every array of a data set must satisfy; each refusal names the value received, the rule and the fix."""

import numpy as np


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
    if not (np.isscalar(scale) and np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale!r}: it must be a finite number > 0; use the largest possible input")
    largest = max(int(inputs.max()) if inputs.dtype == np.uint8 else 0 for inputs in (train, test))
    if largest > scale:
        raise ValueError(f"inputs reach {largest} and scale is {scale}: it must not be below the largest input")
