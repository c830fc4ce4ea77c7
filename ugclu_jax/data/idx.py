"""The idx file format, in which MNIST and its relatives are published."""

import gzip
import zlib
from pathlib import Path

import numpy as np

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
"""The names of the four files as published: images have 3 axes, labels 1."""


def read(path: Path, axes: int) -> np.ndarray:
    """Read one gzipped file: 0, 0, 8 (unsigned bytes), the number of axes; each length as big-endian int32; values.

    Args:
        path: of the file.
        axes: how many it must have.

    Returns:
        uint8 array, read-only.

    Raises:
        ValueError: if the file is truncated, or is not such a file; it is named.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not gzip ({error}): fetch the file again") from error
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != bytes((0, 0, 8, axes)):
        raise ValueError(
            f"{path} starts with {content[:4].hex()}: an idx file of {axes} axes of bytes starts with 000008{axes:02x};"
            " fetch the file again under its published name"
        )
    shape = tuple(np.frombuffer(content, ">i4", axes, offset=4).tolist())
    values = np.frombuffer(content, np.uint8, offset=header)
    if min(shape) < 0 or values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} holds {values.size} values and its header says {shape}: fetch the file again")
    return values.reshape(shape)
