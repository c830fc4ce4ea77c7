"""One Orbax checkpoint a request, with a digest of every leaf: Orbax alone misses most flipped bytes."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from ugclu_jax import files
from ugclu_jax.extras import installed_by
from ugclu_jax.types import PyTree

SHARED_NUMBERS = 1000
"""Of open files that several processes name alike: a shell allows 1024."""
LONGEST_REASON = 300
"""Characters of an error of Orbax that are told; the whole of it is in the log."""
_UNFINISHED = ".orbax-checkpoint-tmp"
_NEW = ".new"  # ends the name of a checkpoint that is whole and replaces another
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")  # as `str` writes it: neither 07 nor ²


class CorruptCheckpointError(RuntimeError):
    """A checkpoint whose content is not what was saved."""


class ForeignCheckpointError(CorruptCheckpointError):
    """A checkpoint that belongs elsewhere: it was copied from another run, method or seed, or renamed."""


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


def _content(state: PyTree) -> str:
    """SHA-256 of the leaves in whatever order, for who has no state of the same structure."""
    arrays = [np.ascontiguousarray(_plain(leaf)) for leaf in jax.tree.leaves(state)]
    each = sorted(hashlib.sha256(f"{a.dtype} {a.shape} ".encode() + a.tobytes()).hexdigest() for a in arrays)
    return hashlib.sha256("".join(each).encode()).hexdigest()


class Saving(NamedTuple):
    """A checkpoint on its way to the disk."""

    path: Path
    response: Any  # Orbax's
    opened: contextlib.ExitStack  # what it writes through
    replaces: bool  # a checkpoint that is there

    def wait(self) -> None:
        """Return when the checkpoint is complete.

        Raises:
            OSError: it could not be written; what was there before is as it was.
        """
        with self.opened, _as_os_error(self.path):
            self.response.result()
            if self.replaces:
                sweep(self.path.parent)


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """Orbax reports a full disk, a lost folder and much else by errors of its own."""
    try:
        yield
    except Exception as error:
        causes = _causes(error)
        number = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), None)
        said = " ".join(map(str, causes))
        full = number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in said or "quota exceeded" in said
        reason = "the disk is full" if full else os.strerror(number) if number else _told(causes[-1], path.parent)
        raise OSError(f"checkpoint {path} cannot be written: {reason}") from error


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what led to it, which comes last."""
    found = [error]
    while found[-1].__cause__ is not None and found[-1].__cause__ not in found:
        found.append(found[-1].__cause__)
    return found


def _told(error: BaseException, directory: Path) -> str:
    """What an error of Orbax says, on one line, with the folder's own name in place of the one that Orbax had."""
    text = re.sub(r"/proc/self/fd/\d+", lambda _: str(directory), " ".join(str(error).split()))
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


@contextlib.contextmanager
def _plain_name(folder: Path) -> Iterator[Path]:
    """A name of a folder that is there, without any character that Orbax or TensorStore read as more than a name.

    They take `gs:/` for a bucket and `[x]` for a pattern, drop `\\`, and know nothing but UTF-8. Where there is no
    `/proc`, the name as it is.
    """
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if jax.process_count() > 1:
        # Orbax wants the same name in all processes, which save in step, and have nothing else open up there.
        low, number = number, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, SHARED_NUMBERS)
        os.close(low)
    try:
        opened = Path(f"/proc/self/fd/{number}")
        yield opened if opened.is_dir() else folder
    finally:
        os.close(number)


def begin(directory: Path, request: int, state: PyTree, metadata: dict[str, Any]) -> Saving:
    """Start to write the checkpoint of a request, which becomes visible whole or not at all; see `save`."""
    with installed_by("run"):
        from orbax.checkpoint import v1 as ocp  # half a second that `--help` need not wait for

    # One call a checkpoint, not Orbax's `Checkpointer`: that one reads all the others, and fails where one is damaged.
    sweep(directory)
    stored = {"digest": digest(state, metadata), "leaves": _content(state), "content": metadata}
    path = directory / str(request)
    with _as_os_error(path), contextlib.ExitStack() as opened:
        directory.mkdir(parents=True, exist_ok=True)
        # Beside the one that it replaces: Orbax would delete that first, and a kill would leave neither.
        replaces = os.path.lexists(path)
        plain = opened.enter_context(_plain_name(directory)) / f"{request}{_NEW if replaces else ''}"
        response = ocp.save_async(plain, _shared(state), custom_metadata=stored)
        return Saving(path, response, opened.pop_all(), replaces)


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


def _by_one_process(work: Callable[[], None]) -> None:
    """None goes on before it is done."""
    if jax.process_index() == 0:
        work()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("done")


def _delete(*paths: Path) -> None:
    def remove() -> None:
        for path in paths:
            # By another name first: a kill leaves no half of a checkpoint that looks like one.
            doomed = path.with_name(f"{path.name}{_UNFINISHED}")
            files.remove(doomed)
            path.rename(doomed)
            files.remove(doomed)

    _by_one_process(remove)


def sweep(directory: Path) -> None:
    """Delete what a killed process left of a checkpoint that it was writing; put one that is whole in its place.

    >>> sweep(Path("/nonexistent"))
    """
    _by_one_process(lambda: _sweep(directory))


def _sweep(directory: Path) -> None:
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        place = path.with_name(path.name.removesuffix(_NEW))
        if _UNFINISHED in path.name:
            files.remove(path)
        elif path.name.endswith(_NEW) and _NUMBER.fullmatch(place.name):
            files.remove(place)
            path.rename(place)


def keep_newest(directory: Path, number: int, newest: int) -> None:
    """Delete all but the `number` newest checkpoints, counted from `newest` back; what is later stays, uncounted.

    >>> keep_newest(Path("/nonexistent"), 2, 7)
    """
    _delete(*(directory / str(request) for request in [r for r in requests(directory) if r <= newest][:-number]))


def purge(
    directory: Path,
    before: int,
    like: PyTree,
    forget: Callable[[PyTree], PyTree],
    identity: Callable[[int], Mapping[str, Any]] | None = None,
) -> None:
    """Rewrite every checkpoint earlier than request `before`, which unlearns, without what is unlearned.

    Call it once the checkpoint of `before` has been read back whole. A checkpoint that cannot be read or that belongs
    elsewhere, and so cannot be rewritten, is deleted. One that was rewritten says so in its metadata, and is left alone
    when this is called again.

    Args:
        directory: absolute folder of the checkpoints.
        before: index of the unlearn request.
        like: a concrete state of the same structure.
        forget: from a state to one that holds nothing of the unlearned examples.
        identity: what the checkpoint of a request must say of itself, see `restore`; None: it is not asked.

    Raises:
        OSError: the folder cannot be written.
    """
    for request in [request for request in requests(directory) if request < before]:
        try:
            restored = restore(directory, request, like, identity(request) if identity else None)
        except CorruptCheckpointError:
            _delete(directory / str(request))
            continue
        purged = restored.metadata.get("purged", [])
        if before not in purged:
            metadata = {**restored.metadata, "purged": [*purged, before]}
            save(directory, request, forget(restored.state), metadata)


def restore(directory: Path, request: int, like: PyTree, identity: Mapping[str, Any] | None = None) -> Restored:
    """Read the checkpoint of a request and check it against its digest.

    Args:
        directory: absolute folder of the checkpoints.
        request: index of the request.
        like: a concrete state of the same structure, e.g. a freshly initialised one. What is not committed to a device
            there is not in the result either: a resumed run is the same compiled program.
        identity: what its metadata must have under "identity": the run, method, seed and request that it belongs to.
            None: it is not asked.

    Raises:
        ForeignCheckpointError: it belongs elsewhere; says what differs.
        CorruptCheckpointError: unreadable, of another structure, or not what was saved; names the checkpoint.
    """
    with installed_by("run"):
        from orbax.checkpoint import v1 as ocp  # as in `begin`

    path = directory / str(request)
    try:
        with _plain_name(directory) as plain:
            stored = ocp.metadata(plain / str(request)).custom_metadata
            expected, metadata = str(stored["digest"]), dict(stored["content"])
            # Before the state, whose structure may be another's: the reason is told, not its effect.
            _check_identity(path, metadata.get("identity"), identity)
            state = ocp.load(plain / str(request), _shared(like))
    except ForeignCheckpointError:
        raise
    except Exception as error:  # Orbax raises many kinds here, some of them wrapping the one that matters
        reason = _told(_causes(error)[-1], directory)
        raise CorruptCheckpointError(f"checkpoint {path} cannot be read: {reason}") from error
    if digest(state, metadata) != expected:
        raise CorruptCheckpointError(f"checkpoint {path} is damaged: its digest does not match")
    return Restored(request, jax.tree.map(_uncommitted, state, like), metadata)


def read(directory: Path, request: int, identity: Mapping[str, Any]) -> list[np.ndarray]:
    """The arrays of a checkpoint, for who only looks: the state's structure is not needed, nor kept.

    Args:
        directory, request, identity: as in `restore`.

    Raises:
        CorruptCheckpointError: as in `restore`.
    """
    with installed_by("run"):
        from orbax.checkpoint import v1 as ocp  # as in `begin`

    path = directory / str(request)
    try:
        with _plain_name(directory) as plain:
            stored = ocp.metadata(plain / str(request)).custom_metadata
            _check_identity(path, stored["content"].get("identity"), identity)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sharding info not provided")  # on one device, as it was written
                arrays = [_plain(leaf) for leaf in jax.tree.leaves(ocp.load(plain / str(request)))]
    except ForeignCheckpointError:
        raise
    except Exception as error:  # as in `restore`
        reason = _told(_causes(error)[-1], directory)
        raise CorruptCheckpointError(f"checkpoint {path} cannot be read: {reason}") from error
    if _content(arrays) != stored["leaves"]:
        raise CorruptCheckpointError(f"checkpoint {path} is damaged: its digest does not match")
    return arrays


def delete(directory: Path, request: int) -> None:
    """Delete the checkpoint of a request.

    Raises:
        OSError: it is not there or cannot be deleted.
    """
    _delete(directory / str(request))


def _check_identity(path: Path, there: Any, here: Mapping[str, Any] | None) -> None:
    said = there if isinstance(there, Mapping) else {}
    differing = [(key, value) for key, value in (here or {}).items() if said.get(key) != value]
    different = [f"{key} {said.get(key)!r} there, {value!r} here" for key, value in differing]
    if different:
        raise ForeignCheckpointError(f"checkpoint {path} belongs elsewhere ({'; '.join(different)})")


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
    return sorted(int(path.name) for path in directory.iterdir() if path.is_dir() and _NUMBER.fullmatch(path.name))
