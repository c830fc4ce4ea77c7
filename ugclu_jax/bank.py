"""A bank of networks trained from scratch: a folder named by all that determines them but the seed, a file a seed.

It grows: asked for 32 networks where 8 are there, it trains 24. They are made some at a time and each file appears
whole as soon as its network is there, so that a kill loses what was in hand and no more.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from ugclu_jax import files
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.programs import group_size
from ugclu_jax.types import PyTree
from ugclu_jax.version import __version__

FORMAT = 4
"""Of the files: 3 held all seeds of a request."""


class DamagedCacheError(RuntimeError):
    """A file of a bank that does not hold what was stored."""


def made_by() -> dict[str, str]:
    """What decides the rounding of a network beside its data and settings: library, JAX, optax, and the platform."""
    return {
        "version": __version__,
        "jax": jax.__version__,
        "optax": optax.__version__,
        "platform": jax.default_backend(),
    }


def content_hash(*, data: str, ids: np.ndarray, model: str, settings: OracleSettings, purpose: int) -> str:
    """Name of a bank: a hash of everything that determines its networks, but for the seed.

    Args:
        data: fingerprint of the dataset, inputs and labels.
        ids: retained examples; their order does not matter.
        model: description of architecture and preprocessing.
        settings: training settings.
        purpose: what goes into the keys beside the seed.

    Returns:
        64 hexadecimal digits; what `made_by` names counts too.

    >>> import numpy as np
    >>> key = lambda ids: content_hash(data="d", ids=np.array(ids), model="mlp",
    ...                                settings=OracleSettings(), purpose=0)
    >>> key([1, 2]) == key([2, 1]), key([1, 2]) == key([1, 3])
    (True, False)
    """
    description = {
        "format": FORMAT,
        "data": data,
        "model": model,
        "settings": asdict(settings),
        "purpose": purpose,
        **made_by(),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    digest.update(np.sort(np.asarray(ids, dtype=np.int64)).tobytes())
    return digest.hexdigest()


def file_of(folder: Path, seed: int) -> Path:
    """Where the network of a seed lies in a bank.

    >>> file_of(Path("bank"), 7).name
    '7.npz'
    """
    return folder / f"{seed}.npz"


def seeds_in(folder: Path, seeds: Iterable[int]) -> set[int]:
    """Which of some seeds a bank has; what lies in a file's place counts, whatever it is.

    >>> seeds_in(Path("/nonexistent"), [0, 1])
    set()
    """
    return {seed for seed in seeds if file_of(folder, seed).exists()}


def members(
    folder: Path,
    seeds: Sequence[int],
    like: PyTree,
    train: Callable[[tuple[int, ...], int], Iterable[PyTree]],
    *,
    at_once: int,
    there: Collection[int] | None = None,
    keep: bool = True,
) -> Iterator[tuple[int, PyTree]]:
    """The networks of some seeds, one after another: first those that the bank has, then those that it gets.

    Args:
        folder: of the bank, named by `content_hash`.
        seeds: different ones.
        like: a tree of the structure, shapes and types of one of them (arrays or `ShapeDtypeStruct`s).
        train: `(seeds, size) -> trees`, in the order of the seeds, by a program of `size` seeds, of which these are the
            first. Every call has the same size: missing seeds are divided as evenly as `at_once` allows.
        at_once: seeds of one call at most, 1 or more.
        there: which of them the bank has; None = look.
        keep: whether to store what is trained.

    Yields:
        `(seed, tree of NumPy arrays)`; what was trained, once its file is written. Who keeps none holds one at a time.

    Raises:
        DamagedCacheError: see `read`; nothing was trained before.
        OSError: a file cannot be written.

    >>> import tempfile
    >>> def train(seeds, size):
    ...     print("trains", seeds)
    ...     return [np.full(2, seed) for seed in seeds]
    >>> with tempfile.TemporaryDirectory() as bank:
    ...     for wanted in ([0, 1], range(5)):
    ...         [seed for seed, _ in members(Path(bank), wanted, np.zeros(2, int), train, at_once=2)]
    trains (0, 1)
    [0, 1]
    trains (2, 3)
    trains (4,)
    [0, 1, 2, 3, 4]
    """
    there = seeds_in(folder, seeds) if there is None else there
    for seed in (seed for seed in seeds if seed in there):
        yield seed, read(file_of(folder, seed), like)
    missing = [seed for seed in seeds if seed not in there]
    size = group_size(len(missing), at_once)
    for first in range(0, len(missing), size):
        some = tuple(missing[first : first + size])
        for seed, tree in zip(some, train(some, size), strict=True):
            tree = jax.tree.map(np.asarray, tree)
            if keep:
                write(file_of(folder, seed), tree)
            yield seed, tree


def write(path: Path, tree: PyTree) -> None:
    """Store a network, whole or not at all, with the name that it was made for and a digest of its content.

    Args:
        path: of `file_of`.
        tree: of arrays.

    Raises:
        OSError: it cannot be written.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    name = _name(path)
    with files.replacing(path) as file:
        np.savez(file, *leaves, made_for=np.array(name), digest=np.array(_digest(name, leaves)))


def read(path: Path, like: PyTree) -> PyTree:
    """The network stored at a path: believed only where its name and its digest are right.

    Neither a flipped byte nor another seed's or another bank's file under this name passes for the network.

    Args:
        path: of `file_of`.
        like: a tree of the same structure, shapes and types (arrays or `ShapeDtypeStruct`s).

    Returns:
        A tree of NumPy arrays.

    Raises:
        DamagedCacheError: the file is damaged, was made for another name or holds another tree; it names the file to
            delete.
    """
    expected, structure = jax.tree.flatten(like)

    def damaged(why: object) -> DamagedCacheError:
        return DamagedCacheError(f"oracle cache file {path} {why}; delete it to train the oracle anew")

    try:
        # Opened here, because NumPy leaves a damaged file open.
        with files.open_plain(path) as file, np.load(file, allow_pickle=False) as stored:
            made_for, digest = str(stored["made_for"]), str(stored["digest"])
            arrays = [stored[name] for name in stored.files if name not in ("made_for", "digest")]
    except Exception as error:  # zipfile, zlib, OSError and ValueError all mean the same here
        raise damaged(f"is damaged ({error})") from error
    if made_for != _name(path):
        raise damaged(f"was made for another oracle, {made_for}")
    if digest != _digest(made_for, arrays):
        raise damaged("is damaged (its digest does not match)")
    if not _alike(arrays, expected):
        raise damaged("holds another network")
    return jax.tree.unflatten(structure, arrays)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _digest(made_for: str, leaves: list[np.ndarray]) -> str:
    sha = hashlib.sha256(made_for.encode())
    for leaf in leaves:
        sha.update(f" {leaf.dtype} {leaf.shape} ".encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


def _alike(arrays: list[np.ndarray], expected: list[Any]) -> bool:
    return len(arrays) == len(expected) and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(arrays, expected, strict=True)
    )
