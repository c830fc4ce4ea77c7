"""What `experiments.trajectory` measured along a request, in a run's folder."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ugclu_jax import seals

NUMBERS = ("remaining_loss", "remaining_gradient", "task_loss", "task_gradient", "moved", "turn")
"""Of a trace: of each point; `moved` is the way from the point before, `turn` its cosine with the way before that."""
ORACLES = "trajectory/oracles.npz"
"""Outputs of the oracles."""


def write_arrays(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays in a file of the run's folder."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    seals.write(folder, name, content.getvalue())


def read_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of such a file.

    Raises:
        DamagedFileError, OSError: see `seals.read`.
    """
    with np.load(io.BytesIO(seals.read(folder, name)), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def file_of(method: str, seed: int) -> str:
    """Of a trace, in the run's folder.

    >>> file_of("ug_clu", 3)
    'trajectory/ug_clu-3.npz'
    """
    return f"trajectory/{method}-{seed}.npz"
