"""One request of a stream: its kind, its name, and the ids it is about. NumPy on the host, no images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ugclu_jax.types import RequestKind


@dataclass(frozen=True, eq=False)
class Request:
    """One request of a stream. Ids are a set: they are stored sorted, as a read-only int32 array.

    Raises:
        ValueError: ids that are not a flat list of 32-bit integers. Whether they make sense is asked by `validate`.

    >>> Request("learn", "L1", [2, 0]).ids
    array([0, 2], dtype=int32)
    """

    kind: RequestKind
    name: str
    ids: np.ndarray  # [n] int32, sorted; unique once validated

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids)
        if ids.size == 0:
            ids = ids.astype(np.int32)
        limits = np.iinfo(np.int32)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or np.any((ids < limits.min) | (ids > limits.max)):
            raise ValueError(
                f"ids of request {self.name!r} are {brief(self.ids)}; they must be one flat list of 32-bit integers: "
                "pass rows of the training split"
            )
        ids = np.sort(ids).astype(np.int32)
        ids.flags.writeable = False
        object.__setattr__(self, "ids", ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        return (self.kind, self.name) == (other.kind, other.name) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.ids.tobytes()))


Stream = tuple[Request, ...]


def brief(value: Any) -> str:
    """A value as an error message shows it: at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
