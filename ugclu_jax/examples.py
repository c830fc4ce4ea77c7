"""Ids of examples: how those of one request are padded to a common size."""

import numpy as np

SMALLEST_BUCKET = 64
"""Requests of fewer ids share one program."""


def bucket_size(count: int) -> int:
    """The size that a request of `count` ids is padded to: the next power of two, at least 64.

    Requests of one bucket share one compiled program.

    Raises:
        ValueError: a negative count.

    >>> bucket_size(3), bucket_size(64), bucket_size(65)
    (64, 64, 128)
    """
    if count < 0:
        raise ValueError(f"count is {count}; it must not be negative: pass the number of ids, len(request.ids)")
    return max(SMALLEST_BUCKET, 1 << max(count - 1, 0).bit_length())


def pad_ids(ids: np.ndarray, size: int) -> np.ndarray:
    """Ids followed by -1, [size] int32.

    Raises:
        ValueError: more ids than `size`.

    >>> pad_ids([4, 2], 3)
    array([ 4,  2, -1], dtype=int32)
    """
    if len(ids) > size:
        raise ValueError(
            f"{len(ids)} ids do not fit in {size}; pad to bucket_size({len(ids)}) = {bucket_size(len(ids))}"
        )
    padded = np.full(size, -1, np.int32)
    padded[: len(ids)] = ids
    return padded
