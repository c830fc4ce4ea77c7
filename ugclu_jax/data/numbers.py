"""Inputs of any type of number to what a data set stores: uint8, or float32, with channels last."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_CHANNELS = (1, 2, 3, 4)


class Stored(NamedTuple):
    """Inputs as a data set stores them.

    Attributes:
        parts: of each split, uint8 or floats.
        scale: what `from_arrays` divides them by; None for its own choice.
        notes: what was done to them.
    """

    parts: list[np.ndarray]
    scale: float | None
    notes: list[str]


def stored(names: Sequence[str], parts: Sequence[np.ndarray]) -> Stored:
    """Bring inputs into a type and an order of axes that models take.

    uint8 and floats stay as they are, booleans become 0 and 1. Integers of 8 and 16 bits are divided by the largest of
    their type. Wider ones have no range of their own: within 0..255 they are uint8, within 16 bits divided as those.
    Pictures `[N, height, width]` get one channel.

    Args:
        names: what messages call the parts.
        parts: of each split, with the examples first.

    Raises:
        ValueError: NaN or infinity, splits of different types or shapes, wide integers beyond 16 bits, no axis but that
            of the examples, or channels that stand first.

    Example:
        >>> stored(["x"], [np.array([[0, 65535]], np.uint16)])
        Stored(parts=[array([[0., 1.]], dtype=float32)], scale=None, notes=['x is uint16: divided by 65535'])
    """
    for name, part in zip(names, parts, strict=True):
        _check(name, part)
    kinds = [str(part.dtype.newbyteorder("=")) for part in parts]
    if len(set(kinds)) > 1 or len({part.shape[1:] for part in parts}) > 1:
        found = " and ".join(
            f"{name} is {kind}{list(part.shape)}" for name, kind, part in zip(names, kinds, parts, strict=True)
        )
        raise ValueError(f"{found}: type and shape of an example must agree; prepare both splits in the same way")
    x, notes = names[0].removesuffix("_train"), []
    if parts[0].ndim == 3 and min(parts[0].shape[1:]) > max(_CHANNELS):
        notes.append(f"{x} is [N, {parts[0].shape[1]}, {parts[0].shape[2]}]: read as pictures of one channel")
        parts = [part[..., None] for part in parts]
    dtype = parts[0].dtype
    if dtype.kind == "b":
        return Stored([part.astype(np.uint8) for part in parts], 1.0, [*notes, f"{x} is boolean: read as 0 and 1"])
    if dtype.kind == "f" or dtype == np.uint8:
        return Stored(list(parts), None, notes)
    divisor = _divisor(x, parts)
    if divisor is None:
        notes.append(f"{x} is {kinds[0]} within 0..255: read as uint8")
        return Stored([part.astype(np.uint8) for part in parts], None, notes)
    notes.append(f"{x} is {kinds[0]}: divided by {divisor}")
    return Stored([part.astype(np.float32) / np.float32(divisor) for part in parts], None, notes)


def _check(name: str, part: np.ndarray) -> None:
    """Refuse what no model takes: no features, channels that stand first, numbers that are none."""
    if part.ndim < 2 or 0 in part.shape:
        raise ValueError(
            f"{name} has shape {list(part.shape)}: it must be [N, ...] with at least one example and no empty axis; "
            f"of one feature, use {name}[:, None]"
        )
    # Nothing has so many channels and so little height.
    if part.ndim == 4 and part.shape[1] in _CHANNELS and part.shape[3] not in _CHANNELS:
        raise ValueError(
            f"{name} has shape {list(part.shape)}: channels must be last, and {part.shape[3]} are none; use "
            f"np.moveaxis({name}, 1, -1)"
        )
    if part.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(part.astype(np.float32))
        if not finite.all():
            row = int(np.argwhere(~finite)[0, 0])
            raise ValueError(f"{name}[{row}] holds NaN, infinity or more than float32 can: repair or drop that example")


def _divisor(name: str, parts: Sequence[np.ndarray]) -> int | None:
    """The largest number of integers' type, or of 16 bits where they are wider; None where wider ones fit in 8 bits."""
    dtype = parts[0].dtype
    if dtype.itemsize <= 2:
        return int(np.iinfo(dtype).max)
    least, most = min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)
    if least >= 0 and most <= 255:
        return None
    for largest, smallest in ((65535, 0), (32767, -32768)):
        if smallest <= least and most <= largest:
            return largest
    raise ValueError(
        f"{name} is {dtype} from {least} to {most}: nobody knows the range of such integers; divide them by their "
        "largest possible value and give floats"
    )
