"""One request on a model that stands: by a method of the library, or by training from scratch."""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import api, oracle
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.harness.progress import Progress
from ugclu_jax.learner import CLUState, RequestCost
from ugclu_jax.living.held import Held, inserted, removed
from ugclu_jax.living.network import Described, served
from ugclu_jax.programs import compiled, compiled_once
from ugclu_jax.types import Array, Examples, ModelState, Params, RequestKind

RETRAIN = "retrain"
"""The method that reads the source data."""
FREE = RequestCost(0.0, 0.0)
Training = Callable[[Array, Examples], tuple[tuple[Params, ModelState], RequestCost]]


class DivergedError(ValueError):
    """A request's numbers are not finite."""


class Outcome(NamedTuple):
    """The model after a request, and what it cost."""

    held: Held
    evaluations: float
    cost: RequestCost


def examples(inputs: Sequence[np.ndarray] | np.ndarray, labels: Sequence[int], like: Described) -> Examples:
    """Inputs and labels as a request takes them, in arrays of a bucket's size: few sizes, few programs."""
    size = bucket_size(len(labels))
    rows = np.zeros((size, *like.shape), like.dtype)
    numbers = np.zeros(size, np.int32)
    if len(labels):
        rows[: len(labels)], numbers[: len(labels)] = np.stack(list(inputs)), labels
    ids = jnp.asarray(pad_ids(np.arange(len(labels)), size))
    return Examples(jnp.asarray(rows), jnp.asarray(numbers), ids, jnp.int32(len(labels)))


def check_method(described: Described, method: str, kind: RequestKind) -> None:
    """Refuse a method that cannot serve a model's folder.

    Raises:
        ValueError: an unknown one, or one that keeps memories of its own between requests.
    """
    if method == RETRAIN:
        return
    made = served(described, method).entry.method
    made.update(kind)
    if made.memories:
        raise ValueError(
            f"method {method!r} keeps {', '.join(each.name for each in made.memories)} between requests, and a model's "
            "folder holds network and buffer alone: choose a method without"
        )


def cost(described: Described, method: str, kind: RequestKind, count: int, retained: int) -> float:
    """Gradient evaluations of a request of so many examples, where so many are retained after it."""
    config = described.config()
    if method == RETRAIN:
        return float(oracle.gradient_evaluations(float(retained), config.oracle))
    return served(described, method).entry.method.cost(kind, config.capacity, bucket_size(count))


def bar(progress: Progress | None, words: str) -> contextlib.AbstractContextManager[None]:
    """A bar with some words for as long as a program runs, or nothing where nobody looks."""
    return contextlib.nullcontext() if progress is None else progress.request(words)


def serve(
    rng_key: Array,
    held: Held,
    method: str,
    kind: RequestKind,
    task: Examples,
    numbers: np.ndarray,
    leaving: np.ndarray,
    progress: Progress | None = None,
) -> Outcome:
    """Serve a request by a method that reads the task and the buffer.

    Args:
        rng_key: of the request.
        held: the model.
        method: its name.
        kind: of the request.
        task: examples to learn or to unlearn, in rows of their own.
        numbers: of them in the ledger.
        leaving: numbers of all examples that leave, held-out ones too; none where it learns.
        progress: bars of a terminal; None: there is none.

    Raises:
        ValueError: the method cannot serve it; DivergedError where its numbers are not finite.
    """
    made = served(held.described, method).entry
    buffer, held_out = (removed(each, leaving) if len(leaving) else each for each in (held.buffer, held.held_out))
    # Within the program the task is known by its rows: no number of the buffer may be one.
    apart = buffer._replace(ids=-2 - buffer.ids)
    state = CLUState(made.method.init(held.params, held.model_state), apart)
    with bar(progress, f"{kind} by {method}"):
        on_step = None if progress is None else progress.on_step
        state, info, spent = api.serve(kind, rng_key, made.method, state, task, made.hyper[kind], on_step)
    if kind == "learn":
        buffer = inserted(buffer, task, numbers)
    after = held._replace(
        params=state.method.params, model_state=state.method.model_state, buffer=buffer, held_out=held_out
    )
    return _finite(after, float(np.asarray(info.gradient_evaluations)), spent, method)


@functools.lru_cache(maxsize=8)
def training(described: Described, on_epoch: oracle.OnEpoch | None = None) -> Training:
    """`(keys [S], examples) -> (params, model_state), cost` of S networks trained from scratch, one program.

    Args:
        described: the network.
        on_epoch: progress function.
    """
    made = served(described, "ug_clu")
    train = oracle.oracle_program(made.network.apply_fn, made.network.init_fn, made.config.oracle, on_epoch)
    find = compiled_once(compiled)

    def run(rng_keys: Array, task: Examples) -> tuple[tuple[Params, ModelState], RequestCost]:
        start = time.perf_counter()
        program = find("train", train, rng_keys, task)
        ready = time.perf_counter()
        trees = jax.block_until_ready(program(rng_keys, task))
        return trees, RequestCost(time.perf_counter() - ready, ready - start)

    return run


def trained(
    rng_keys: Array, described: Described, task: Examples, words: str, progress: Progress | None
) -> tuple[list[tuple[Params, ModelState]], RequestCost]:
    """Networks trained from scratch on a task, one for each key, and what they cost together.

    Args:
        rng_keys: [S].
        described: the network.
        task: what they are trained on.
        words: beside the bar.
        progress: bars of a terminal; None: there is none.
    """
    with bar(progress, words):
        trees, cost = training(described, None if progress is None else progress.on_epoch)(rng_keys, task)
    return [jax.tree.map(lambda x, s=s: x[s], trees) for s in range(len(rng_keys))], cost


def retrain(rng_key: Array, held: Held, task: Examples, progress: Progress | None = None) -> Outcome:
    """Train from scratch on a task; the samples stay as they are."""
    ((params, model_state),), cost = trained(rng_key[None], held.described, task, "train from scratch", progress)
    evaluations = oracle.gradient_evaluations(float(task.count), held.described.config().oracle)
    return _finite(held._replace(params=params, model_state=model_state), evaluations, cost, RETRAIN)


def _finite(held: Held, evaluations: float, cost: RequestCost, method: str) -> Outcome:
    for leaf in jax.tree.leaves((held.params, held.model_state)):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise DivergedError(f"{method} led to numbers that are not finite: lower its rates in the model's settings")
    return Outcome(held, evaluations, cost)
