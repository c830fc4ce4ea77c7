"""Oracles: the same architecture trained from scratch on what is retained, several seeds in one vmapped program."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from ugclu_jax import files
from ugclu_jax.components import preserving_gradient
from ugclu_jax.optimizer import OptimizerKind
from ugclu_jax.streaming import chunk_of, read_ahead, take
from ugclu_jax.types import EVALUATION_EXAMPLES, ApplyFn, Array, Batch, Examples, InitFn, ModelState, Params, PyTree
from ugclu_jax.version import __version__


class DamagedCacheError(RuntimeError):
    """A file of the oracle cache that does not hold what was stored."""


@dataclass(frozen=True)
class OracleSettings:
    """How an oracle is trained: SGD with Nesterov momentum, or AdamW; cosine learning rate, shuffled epochs.

    Raises:
        ValueError: a value out of its range.

    >>> OracleSettings(epochs=0)
    Traceback (most recent call last):
        ...
    ValueError: epochs must be at least 1, got 0
    """

    epochs: int = 10
    """Passes over the retained examples."""
    batch_size: int = 64
    """Examples a step; the last, smaller batch of an epoch is kept."""
    learning_rate: float = 0.05
    """Peak learning rate; it falls to 0 along half a cosine."""
    optimizer: OptimizerKind = "sgd"
    """sgd or adamw."""
    momentum: float = 0.9
    """Nesterov momentum of SGD; decay of AdamW's first moment."""
    weight_decay: float = 5e-4
    """Of every parameter: added to the gradient of SGD, decoupled from it in AdamW."""

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(OptimizerKind):
            raise ValueError(f"optimizer must be one of {', '.join(get_args(OptimizerKind))}, got {self.optimizer!r}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, highest in (("learning_rate", np.inf), ("momentum", 1.0), ("weight_decay", np.inf)):
            if not 0 <= getattr(self, name) < highest:
                raise ValueError(f"{name} must be in [0, {highest:g}), got {getattr(self, name):g}")


Count = TypeVar("Count", float, Array)


def gradient_evaluations(count: Count, settings: OracleSettings) -> Count:
    """Cost of training on `count` examples, in units of `EVALUATION_EXAMPLES`.

    >>> gradient_evaluations(128, OracleSettings(epochs=3))
    6.0
    """
    return settings.epochs * count / EVALUATION_EXAMPLES


def train_from_scratch(
    rng_key: Array, examples: Examples, *, apply_fn: ApplyFn, init_fn: InitFn, settings: OracleSettings
) -> tuple[Params, ModelState]:
    """Train one network on `examples` for `settings.epochs` shuffled passes. Pure: jit and vmap it as you like.

    The number of steps follows `examples.count`, which is traced: one program serves every retained set that fits the
    padded size.

    Args:
        rng_key: decides initialisation and order.
        examples: the retained examples.
        apply_fn, init_fn: the network.
        settings: static.

    Returns:
        `(params, model_state)` after the last step.

    Example:
        >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
        >>> init_fn = lambda rng_key: (jnp.zeros((2, 2)), {})
        >>> both = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, 1]), jnp.array(2))
        >>> params, _ = train_from_scratch(
        ...     jax.random.key(0), both, apply_fn=linear, init_fn=init_fn, settings=OracleSettings(batch_size=2)
        ... )
        >>> params.argmax(axis=1).tolist()  # each of the two inputs has its label
        [0, 1]
    """
    init_key, data_key, model_key = jax.random.split(rng_key, 3)
    params, model_state = init_fn(init_key)
    padded = examples.ids.shape[0]
    steps_per_epoch = (examples.count + settings.batch_size - 1) // settings.batch_size
    total = jnp.maximum(settings.epochs * steps_per_epoch, 1)

    def learning_rate(t: ArrayLike) -> Array:
        return settings.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * t / total))

    if settings.optimizer == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(settings.weight_decay),
            optax.sgd(learning_rate, momentum=settings.momentum, nesterov=True),
        )
    else:
        optimizer = optax.adamw(learning_rate, b1=settings.momentum, weight_decay=settings.weight_decay)

    def epoch(index: int, carry: PyTree) -> PyTree:
        # Valid rows in random order, padding behind them.
        noise = jax.random.uniform(jax.random.fold_in(data_key, index), (padded,))
        order = jnp.argsort(jnp.where(jnp.arange(padded) < examples.count, noise, jnp.inf))

        def draw(t: Array) -> Batch:
            positions = t * settings.batch_size + jnp.arange(settings.batch_size)
            # The last batch is filled up from the start of the order, at weight 0: BatchNorm looks at every row.
            rows = examples.ids[order[positions % examples.count]]
            weights = (positions < examples.count).astype(jnp.float32)
            return Batch(take(examples.inputs, rows), examples.labels[rows], weights)

        def step(t: Array, carry: PyTree, batch: Batch) -> PyTree:
            params, model_state, optimizer_state = carry
            key = jax.random.fold_in(model_key, index * steps_per_epoch + t)
            component = preserving_gradient(apply_fn, params, model_state, batch, rng_key=key)
            updates, optimizer_state = optimizer.update(component.gradient, optimizer_state, params)
            return optax.apply_updates(params, updates), component.model_state, optimizer_state

        chunk = chunk_of(draw, jnp.int32(0))
        if chunk is None:
            return lax.fori_loop(0, steps_per_epoch, lambda t, carry: step(t, carry, draw(t)), carry)

        def chunk_of_steps(index: Array, carry: PyTree) -> PyTree:
            first = index * chunk
            drawn = read_ahead(draw, first + jnp.arange(chunk))  # what lies beyond the epoch is read and left
            return lax.fori_loop(
                first,
                jnp.minimum(first + chunk, steps_per_epoch),
                lambda t, carry: step(t, carry, drawn(t - first, t)),
                carry,
            )

        return lax.fori_loop(0, (steps_per_epoch + chunk - 1) // chunk, chunk_of_steps, carry)

    carry = (params, model_state, optimizer.init(params))
    params, model_state, _ = lax.fori_loop(0, settings.epochs, epoch, carry)
    return params, model_state


def oracle_program(
    apply_fn: ApplyFn, init_fn: InitFn, settings: OracleSettings
) -> Callable[..., tuple[Params, ModelState]]:
    """`run(rng_keys [S], examples) -> (params, model_state)`, every leaf with a leading axis S; compiled once a shape.

    The seeds are one `vmap` of `train_from_scratch`: keys are mapped, the examples shared.

    Args:
        apply_fn, init_fn: the network.
        settings: static.

    Example:
        >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
        >>> init_fn = lambda rng_key: (jnp.zeros((2, 2)), {})
        >>> run = oracle_program(linear, init_fn, OracleSettings(epochs=1, batch_size=2))
        >>> both = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, 1]), jnp.array(2))
        >>> run(jax.random.split(jax.random.key(0), 3), both)[0].shape
        (3, 2, 2)
    """

    def train(rng_key: Array, examples: Examples) -> tuple[Params, ModelState]:
        return train_from_scratch(rng_key, examples, apply_fn=apply_fn, init_fn=init_fn, settings=settings)

    return jax.jit(jax.vmap(train, in_axes=(0, None)))


def content_hash(*, data: str, ids: np.ndarray, model: str, settings: OracleSettings, seeds: tuple[int, ...]) -> str:
    """Name of an oracle in the cache: a hash of everything that determines it.

    Args:
        data: fingerprint of the dataset, inputs and labels.
        ids: retained examples; their order does not matter.
        model: description of architecture and preprocessing.
        settings: training settings.
        seeds: one a network.

    Returns:
        64 hexadecimal digits. The versions of this library, JAX and optax and the platform count too: they decide the
        rounding.

    >>> import numpy as np
    >>> key = lambda ids: content_hash(data="d", ids=np.array(ids), model="mlp",
    ...                                settings=OracleSettings(), seeds=(0,))
    >>> key([1, 2]) == key([2, 1]), key([1, 2]) == key([1, 3])
    (True, False)
    """
    description = {
        "format": 3,
        "version": __version__,
        "data": data,
        "model": model,
        "settings": asdict(settings),
        "seeds": list(seeds),
        "jax": jax.__version__,
        "optax": optax.__version__,
        "platform": jax.default_backend(),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    digest.update(np.sort(np.asarray(ids, dtype=np.int64)).tobytes())
    return digest.hexdigest()


def cached(
    path: Path, like: PyTree, compute: Callable[[], PyTree], *, there: bool | None = None, keep: bool = True
) -> tuple[PyTree, bool]:
    """The tree stored at `path`, or `compute()` stored there first.

    The file appears whole or not at all, so a process killed while writing leaves nothing half-done. It holds the name
    that it was made for and a digest of its content, and is believed only where both are right: neither a flipped byte
    nor another oracle's file under its name passes for the oracle.

    Args:
        path: an `.npz` file named by `content_hash`.
        like: a tree of the same structure, shapes and types (arrays or `ShapeDtypeStruct`s).
        compute: makes the tree.
        there: whether the file is there; None = look.
        keep: whether to store what was computed.

    Returns:
        `(tree of NumPy arrays, whether it came from the cache)`.

    Raises:
        DamagedCacheError: the file is damaged, was made for another name or holds another tree; it names the file to
            delete.
        OSError: it cannot be written.
    """
    leaves, structure = jax.tree.flatten(like)
    if path.exists() if there is None else there:
        return jax.tree.unflatten(structure, _read(path, leaves)), True
    tree = jax.tree.map(np.asarray, compute())
    if keep:
        _store(path, tree)
    return tree, False


def _store(path: Path, tree: PyTree) -> None:
    leaves = jax.tree.leaves(tree)
    with files.replacing(path) as file:
        np.savez(file, *leaves, made_for=np.array(path.stem), digest=np.array(_digest(path.stem, leaves)))


def _digest(made_for: str, leaves: list[np.ndarray]) -> str:
    sha = hashlib.sha256(made_for.encode())
    for leaf in leaves:
        sha.update(f" {leaf.dtype} {leaf.shape} ".encode())
        sha.update(np.ascontiguousarray(leaf).tobytes())
    return sha.hexdigest()


def _read(path: Path, leaves: list[Any]) -> list[np.ndarray]:
    def damaged(why: object) -> DamagedCacheError:
        return DamagedCacheError(f"oracle cache file {path} {why}; delete it to train the oracle anew")

    try:
        # Opened here, because NumPy leaves a damaged file open.
        with files.open_plain(path) as file, np.load(file, allow_pickle=False) as stored:
            made_for, digest = str(stored["made_for"]), str(stored["digest"])
            arrays = [stored[name] for name in stored.files if name not in ("made_for", "digest")]
    except Exception as error:  # zipfile, zlib, OSError and ValueError all mean the same here
        raise damaged(f"is damaged ({error})") from error
    if made_for != path.stem:
        raise damaged(f"was made for another oracle, {made_for}")
    if digest != _digest(made_for, arrays):
        raise damaged("is damaged (its digest does not match)")
    same = len(arrays) == len(leaves) and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(arrays, leaves, strict=True)
    )
    if not same:
        raise damaged("holds another network")
    return arrays
