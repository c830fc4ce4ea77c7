"""One Orbax checkpoint a request, with a digest of every leaf: Orbax alone misses most flipped bytes."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from ugclu_jax.types import PyTree


class CorruptCheckpointError(RuntimeError):
    """A checkpoint whose content is not what was saved."""


class Restored(NamedTuple):
    """A checkpoint read back whole."""

    request: int
    state: PyTree
    metadata: dict[str, Any]


def digest(state: PyTree, metadata: dict[str, Any]) -> str:
    """SHA-256 over the bytes, shapes, types and paths of all leaves, and over the metadata.

    >>> import jax.numpy as jnp
    >>> digest({"a": jnp.zeros(2)}, {}) == digest({"a": jnp.ones(2)}, {})
    False
    """
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def save(directory: Path, request: int, state: PyTree, metadata: dict[str, Any]) -> None:
    """Write the checkpoint of a request: complete when this returns, and never half visible.

    Args:
        directory: absolute folder of the checkpoints; made where it is missing.
        request: index of the request, the checkpoint's name. An existing one of that index is replaced.
        state: tree of arrays.
        metadata: JSON-compatible.

    Raises:
        OSError: the folder cannot be written.
    """
    with ocp.training.Checkpointer(directory, cleanup_tmp_directories=True) as checkpointer:
        # One of that index is there where a damaged checkpoint made the run fall back to an earlier request. `force`
        # because Orbax otherwise skips, silently, any index below the newest.
        checkpointer.save(
            request,
            state,
            force=True,
            overwrite=request in requests(directory),
            custom_metadata={"digest": digest(state, metadata), "content": metadata},
        )


def restore(directory: Path, request: int, like: PyTree) -> Restored:
    """Read the checkpoint of a request and check it against its digest.

    Args:
        directory: absolute folder of the checkpoints.
        request: index of the request.
        like: a concrete state of the same structure, e.g. a freshly initialised one.

    Raises:
        CorruptCheckpointError: unreadable, of another structure, or not what was saved; names the checkpoint.
    """
    with ocp.training.Checkpointer(directory) as checkpointer:
        try:
            stored = checkpointer.metadata(request).custom_metadata
            state = checkpointer.load(request, like)
            expected, metadata = stored["digest"], stored["content"]
        except Exception as error:  # Orbax raises many kinds here, most of them wrapping the one that matters
            reason = error.__cause__ or error
            raise CorruptCheckpointError(f"checkpoint {directory / str(request)} cannot be read: {reason}") from error
    if digest(state, metadata) != expected:
        raise CorruptCheckpointError(f"checkpoint {directory / str(request)} is damaged: its digest does not match")
    return Restored(request, state, metadata)


def requests(directory: Path) -> list[int]:
    """Indices of the complete checkpoints in a folder, ascending; empty where there is no folder.

    >>> requests(Path("/nonexistent"))
    []
    """
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.is_dir() and path.name.isdigit())
