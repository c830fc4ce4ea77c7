"""One Orbax checkpoint a request, with a digest of every leaf: Orbax alone misses most flipped bytes."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from ugclu_jax.extras import installed_by
from ugclu_jax.types import PyTree


class CorruptCheckpointError(RuntimeError):
    """A checkpoint whose content is not what was saved."""


class Restored(NamedTuple):
    """A checkpoint read back whole."""

    request: int
    state: PyTree
    metadata: dict[str, Any]


def _plain(leaf: Any) -> np.ndarray:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def digest(state: PyTree, metadata: dict[str, Any]) -> str:
    """SHA-256 over the bytes, shapes, types and paths of all leaves, and over the metadata.

    >>> import jax.numpy as jnp
    >>> digest({"a": jnp.zeros(2)}, {}) == digest({"a": jnp.ones(2)}, {})
    False
    """
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = _plain(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


class Saving(NamedTuple):
    """A checkpoint on its way to the disk."""

    path: Path
    response: Any  # Orbax's

    def wait(self) -> None:
        """Return when the checkpoint is complete.

        Raises:
            OSError: it could not be written; what was there before is as it was.
        """
        with _as_os_error(self.path):
            self.response.result()


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """Orbax reports a full disk, a lost folder and much else by errors of its own."""
    try:
        yield
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise OSError(f"checkpoint {path} cannot be written: {reason}") from error


def begin(directory: Path, request: int, state: PyTree, metadata: dict[str, Any]) -> Saving:
    """Start to write the checkpoint of a request, which becomes visible whole or not at all; see `save`."""
    with installed_by("run"):
        from orbax.checkpoint import v1 as ocp  # half a second that `--help` need not wait for

    # One call a checkpoint, not Orbax's `Checkpointer`: that one reads all the others, and fails where one is damaged.
    _delete(*directory.glob("*.orbax-checkpoint-tmp"))
    stored = {"digest": digest(state, metadata), "content": metadata}
    path = directory / str(request)
    with _as_os_error(path):
        return Saving(path, ocp.save_async(path, _shared(state), overwrite=True, custom_metadata=stored))


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
    begin(directory, request, state, metadata).wait()


def _delete(*folders: Path) -> None:
    """By one process; none goes on before it is done."""
    if jax.process_index() == 0:
        for folder in folders:
            shutil.rmtree(folder)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("deleted")


def keep_newest(directory: Path, number: int) -> None:
    """Delete all but the `number` newest checkpoints.

    >>> keep_newest(Path("/nonexistent"), 2)
    """
    _delete(*(directory / str(request) for request in requests(directory)[:-number]))


def purge(directory: Path, before: int, like: PyTree, forget: Callable[[PyTree], PyTree]) -> None:
    """Rewrite every checkpoint earlier than request `before`, which unlearns, without what is unlearned.

    Call it once the checkpoint of `before` has been read back whole. A checkpoint that cannot be read, and so not be
    rewritten, is deleted. One that was rewritten says so in its metadata, and is left alone when this is called again.

    Args:
        directory: absolute folder of the checkpoints.
        before: index of the unlearn request.
        like: a concrete state of the same structure.
        forget: from a state to one that holds nothing of the unlearned examples.

    Raises:
        OSError: the folder cannot be written.
    """
    for request in [request for request in requests(directory) if request < before]:
        try:
            restored = restore(directory, request, like)
        except CorruptCheckpointError:
            _delete(directory / str(request))
            continue
        purged = restored.metadata.get("purged", [])
        if before not in purged:
            metadata = {**restored.metadata, "purged": [*purged, before]}
            save(directory, request, forget(restored.state), metadata)


def restore(directory: Path, request: int, like: PyTree) -> Restored:
    """Read the checkpoint of a request and check it against its digest.

    Args:
        directory: absolute folder of the checkpoints.
        request: index of the request.
        like: a concrete state of the same structure, e.g. a freshly initialised one. What is not committed to a device
            there is not in the result either: a resumed run is the same compiled program.

    Raises:
        CorruptCheckpointError: unreadable, of another structure, or not what was saved; names the checkpoint.
    """
    with installed_by("run"):
        from orbax.checkpoint import v1 as ocp  # as in `begin`

    path = directory / str(request)
    try:
        stored = ocp.metadata(path).custom_metadata
        state = ocp.load(path, _shared(like))
        expected, metadata = stored["digest"], stored["content"]
    except Exception as error:  # Orbax raises many kinds here, some of them wrapping the one that matters
        raise CorruptCheckpointError(f"checkpoint {path} cannot be read: {error.__cause__ or error}") from error
    if digest(state, metadata) != expected:
        raise CorruptCheckpointError(f"checkpoint {path} is damaged: its digest does not match")
    return Restored(request, jax.tree.map(_uncommitted, state, like), metadata)


def _shared(state: PyTree) -> PyTree:
    """What Orbax takes where several processes hold the same arrays, each its own: one of them writes, all read."""
    return jax.tree.map(_plain, state) if jax.process_count() > 1 else state


def _uncommitted(leaf: Any, like: Any) -> Any:
    """Orbax commits every array to its device, which JAX compiles another program for."""
    if not isinstance(like, jax.Array) or like.committed:
        return leaf
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(_plain(leaf)), impl=jax.random.key_impl(like))
    return jnp.asarray(np.asarray(leaf))


def requests(directory: Path) -> list[int]:
    """Indices of the complete checkpoints in a folder, ascending; empty where there is no folder.

    >>> requests(Path("/nonexistent"))
    []
    """
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.is_dir() and path.name.isdigit())
