"""What a stream may ask: a ledger of what is retained and unlearned, which refuses the request that does not fit."""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from ugclu_jax.requests.request import Request
from ugclu_jax.types import REQUEST_KINDS

SHOWN = 5
"""Ids that an error message shows."""


def validate(stream: Sequence[Request], num_examples: int) -> None:
    """Refuse a stream that cannot be carried out, before any work.

    Args:
        stream: the requests.
        num_examples: N, so that ids are 0 … N−1.

    Raises:
        ValueError: an empty stream or request, an unknown kind, ids out of range or repeated, learning what is
            retained, unlearning what was never learned or is unlearned already. The message names the request, the
            ids, the rule and the fix.

    >>> validate([Request("learn", "first", [0, 1]), Request("unlearn", "second", [1, 2])], num_examples=3)
    Traceback (most recent call last):
        ...
    ValueError: request 2 ('second') unlearns ids 2 (1 in all) that were never learned; only retained examples can be \
unlearned: take them out, or learn them in an earlier request
    """
    if not stream:
        raise ValueError("the stream has 0 requests; it must have at least one: add a learn request")
    ledger = Ledger(num_examples)
    for request in stream:
        ledger.enter(request)


class Ledger:
    """Which examples are retained or unlearned while a stream is read; refuses a request that does not fit.

    Args:
        num_examples: N, so that ids are 0 … N−1.
        keys: [N] the key of each row, by which messages name examples; None = by row.

    >>> ledger = Ledger(3)
    >>> ledger.enter(Request("learn", "first", [0, 1]))
    >>> ledger.enter(Request("unlearn", "second", [1]))
    >>> ledger.retained().tolist(), ledger.unlearned().tolist(), ledger.seen().tolist()
    ([0], [1], [0, 1])
    """

    NEVER, RETAINED, UNLEARNED = range(3)

    def __init__(self, num_examples: int, keys: np.ndarray | None = None) -> None:
        self.status = np.full(num_examples, self.NEVER, np.int8)
        self.entered = 0
        self.keys = keys

    def some(self, rows: np.ndarray) -> str:
        return some(rows if self.keys is None else self.keys[rows])

    def retained(self) -> np.ndarray:
        """Sorted int32 ids of everything learned and not unlearned since."""
        return np.flatnonzero(self.status == self.RETAINED).astype(np.int32)

    def unlearned(self) -> np.ndarray:
        """Sorted int32 ids of everything unlearned and not learned again."""
        return np.flatnonzero(self.status == self.UNLEARNED).astype(np.int32)

    def seen(self) -> np.ndarray:
        """Sorted int32 ids of everything that was ever learned."""
        return np.flatnonzero(self.status != self.NEVER).astype(np.int32)

    def enter(self, request: Request) -> None:
        """Carry a request out; raises what `validate` does."""
        self.entered += 1
        where = f"request {self.entered} ({request.name!r})"
        ids = request.ids
        if request.kind not in REQUEST_KINDS:
            raise ValueError(
                f"{where} is of kind {request.kind!r}; a kind must be one of {list(REQUEST_KINDS)}: did you mean "
                f"{nearest(request.kind, REQUEST_KINDS)!r}?"
            )
        if ids.size == 0:
            raise ValueError(f"{where} has 0 ids; a request must have at least one: add ids, or leave the request out")
        outside = ids[(ids < 0) | (ids >= self.status.size)]
        if outside.size:
            raise ValueError(
                f"{where} has ids {some(outside)} that are not in the training split; an id must be from 0 to "
                f"{self.status.size - 1}: take them out"
            )
        repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
        if repeated.size:
            raise ValueError(
                f"{where} has ids {self.some(repeated)} more than once; each id must appear once: pass np.unique(ids)"
            )
        if request.kind == "learn":
            retained = ids[self.status[ids] == self.RETAINED]
            if retained.size:
                raise ValueError(
                    f"{where} learns ids {self.some(retained)} that are retained already; an example can be learned "
                    "again only after it was unlearned: take them out, or unlearn them in an earlier request"
                )
            self.status[ids] = self.RETAINED
        else:
            never, twice = (ids[self.status[ids] == status] for status in (self.NEVER, self.UNLEARNED))
            if never.size:
                raise ValueError(
                    f"{where} unlearns ids {self.some(never)} that were never learned; only retained examples can be "
                    "unlearned: take them out, or learn them in an earlier request"
                )
            if twice.size:
                raise ValueError(
                    f"{where} unlearns ids {self.some(twice)} that are unlearned already; nothing can be unlearned "
                    "twice: take them out, or learn them again before"
                )
            self.status[ids] = self.UNLEARNED


def some(ids: np.ndarray) -> str:
    """The first ids, and how many there are, for an error message."""
    return ", ".join(map(str, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "") + f" ({len(ids)} in all)"


def nearest(name: str, valid: Iterable[str]) -> str:
    """The valid name that is most like a mistyped one."""
    return difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.0)[0]
