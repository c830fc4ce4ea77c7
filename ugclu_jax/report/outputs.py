"""Outputs that a run left: logits of every model and oracle on the same examples, from which evidence is computed.

A file is an `.npz` of the sets of `SETS`, each `[N, C]` for a model and `[O, N, C]` for the oracles. That of a model
has `before_unlearned`, `before_test` … too, of the model that the request found; that of the oracles `rows_unlearned`,
`labels_unlearned` …: which rows of its split a set is made of, and their classes.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax import seals

SETS = ("unlearned", "test", "retained", "unlearned_test")
"""As in `requests.sides`; a set is absent where it has no examples."""
BEFORE, ROWS, LABELS = "before_", "rows_", "labels_"

Arrays = Mapping[str, np.ndarray]


def model_file(method: str, seed: int, request: int) -> str:
    """Outputs of one method and seed after a request, within the run's folder."""
    return f"runs/{method}/seed-{seed}/outputs/{request}.npz"


def oracle_file(request: int) -> str:
    """Outputs of the oracles of a request, within the run's folder."""
    return f"oracles/{request}.npz"


def counterfactual_file(learner: str, replay: bool, seed: int, request: int) -> str:
    """Outputs of the model of a learner and seed that never saw what is unlearned after a request."""
    return f"counterfactuals/{learner}/{'with-replay' if replay else 'learning-alone'}/seed-{seed}/{request}.npz"


class Stack(NamedTuple):
    """Outputs of several models on the same examples."""

    members: tuple[int, ...]  # seeds
    sets: Arrays  # [M, N, C] by set
    missing: tuple[int, ...]  # seeds whose file is gone


def read(run_dir: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of a file, checked against its digest.

    Raises:
        ValueError: it is damaged.
        FileNotFoundError: it is not there.
    """
    try:
        with np.load(io.BytesIO(seals.read(run_dir, name)), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(run_dir / name)!r} is not readable ({error}); delete it to go on without it") from error


def stack(run_dir: Path, names: Mapping[int, str]) -> Stack:
    """The outputs of several seeds, one above the other.

    Args:
        run_dir: the run's folder.
        names: of each seed's file.

    Returns:
        Those that are there; a seed whose file is gone is named.

    Raises:
        ValueError: one is damaged.
    """
    found: dict[int, dict[str, np.ndarray]] = {}
    for seed, name in names.items():
        try:
            found[seed] = read(run_dir, name)
        except FileNotFoundError:
            continue
    shared: Sequence[str] = [key for key in next(iter(found.values()), {}) if all(key in one for one in found.values())]
    sets = {key: np.stack([one[key] for one in found.values()]) for key in shared}
    return Stack(tuple(found), sets, tuple(seed for seed in names if seed not in found))
