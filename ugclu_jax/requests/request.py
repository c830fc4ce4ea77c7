"""One request of a stream: its kind, its name, and the ids it is about. NumPy on the host, no images."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ugclu_jax.types import RequestKind


@dataclass(frozen=True, eq=False)
class Request:
    """One request of a stream. Ids are a set: they are stored sorted, as a read-only int32 array.

    Attributes:
        kind: to learn or to unlearn.
        name: what tables and messages call it.
        ids: [n] int32, sorted rows of the training split; unique once validated.
        held_out: [m] int32, sorted rows of test examples that were named with them: nothing ever learns these.
        asked: the words that were resolved to the ids, as JSON, where it was not the ids themselves.

    Raises:
        ValueError: ids that are not a flat list of 32-bit integers. Whether they make sense is asked by `validate`.

    >>> Request("learn", "L1", [2, 0]).ids
    array([0, 2], dtype=int32)
    """

    kind: RequestKind
    name: str
    ids: np.ndarray
    held_out: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32), repr=False)
    asked: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", self._rows(self.ids))
        object.__setattr__(self, "held_out", self._rows(self.held_out))

    def _rows(self, given: np.ndarray) -> np.ndarray:
        ids = np.asarray(given)
        if ids.size == 0:
            ids = ids.astype(np.int32)
        limits = np.iinfo(np.int32)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or np.any((ids < limits.min) | (ids > limits.max)):
            raise ValueError(
                f"ids of request {self.name!r} are {brief(given)}; they must be one flat list of 32-bit integers: "
                "pass rows of the training split"
            )
        ids = np.sort(ids).astype(np.int32)
        ids.flags.writeable = False
        return ids

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Request):
            return NotImplemented
        same = (self.kind, self.name, self.asked) == (other.kind, other.name, other.asked)
        return same and np.array_equal(self.ids, other.ids) and np.array_equal(self.held_out, other.held_out)

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.ids.tobytes()))


Stream = tuple[Request, ...]


def brief(value: Any) -> str:
    """A value as an error message shows it: at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
