"""Oracles: the same architecture trained from scratch on what is retained, several seeds in one vmapped program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.typing import ArrayLike

from ugclu_jax.components import preserving_gradient
from ugclu_jax.optimizer import OptimizerKind
from ugclu_jax.streaming import chunk_of, read_ahead, take
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    ApplyFn,
    Array,
    Batch,
    Examples,
    InitFn,
    ModelState,
    Params,
    PyTree,
    Trace,
)

OnEpoch = Callable[[Trace, int], None]
"""`(epochs done, epochs)`, on the host: for a progress bar."""


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
    rng_key: Array,
    examples: Examples,
    *,
    apply_fn: ApplyFn,
    init_fn: InitFn,
    settings: OracleSettings,
    on_epoch: OnEpoch | None = None,
) -> tuple[Params, ModelState]:
    """Train one network on `examples` for `settings.epochs` shuffled passes. Pure: jit and vmap it as you like.

    The number of steps follows `examples.count`, which is traced: one program serves every retained set that fits the
    padded size.

    Args:
        rng_key: decides initialisation and order.
        examples: the retained examples.
        apply_fn, init_fn: the network.
        settings: static.
        on_epoch: host function called as each pass begins, for a progress bar. It makes the program leave the device;
            without it nothing does.

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

    def reported(index: int, carry: PyTree) -> PyTree:
        if on_epoch is not None:
            jax.debug.callback(on_epoch, index, settings.epochs)  # when it begins, so many are done
        return epoch(index, carry)

    carry = (params, model_state, optimizer.init(params))
    params, model_state, _ = lax.fori_loop(0, settings.epochs, reported, carry)
    return params, model_state


def oracle_program(
    apply_fn: ApplyFn, init_fn: InitFn, settings: OracleSettings, on_epoch: OnEpoch | None = None
) -> Callable[..., tuple[Params, ModelState]]:
    """`run(rng_keys [S], examples) -> (params, model_state)`, every leaf with a leading axis S; compiled once a shape.

    The seeds are one `vmap` of `train_from_scratch`: keys are mapped, the examples shared.

    Args:
        apply_fn, init_fn: the network.
        settings: static.
        on_epoch: see `train_from_scratch`; one call for all seeds.

    Example:
        >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
        >>> init_fn = lambda rng_key: (jnp.zeros((2, 2)), {})
        >>> run = oracle_program(linear, init_fn, OracleSettings(epochs=1, batch_size=2))
        >>> both = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, 1]), jnp.array(2))
        >>> run(jax.random.split(jax.random.key(0), 3), both)[0].shape
        (3, 2, 2)
    """

    def train(rng_key: Array, examples: Examples) -> tuple[Params, ModelState]:
        return train_from_scratch(
            rng_key, examples, apply_fn=apply_fn, init_fn=init_fn, settings=settings, on_epoch=on_epoch
        )

    return jax.jit(jax.vmap(train, in_axes=(0, None)))
