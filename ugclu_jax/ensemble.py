"""Many models of one stream for little: the whole of it is one program, which serves a group of seeds at once.

What is measured of distributions of models (`evidence`) wants hundreds of them and of each its outputs alone. Here no
checkpoint is written and no state leaves the device: keys go in, logits come out.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.learner import CLUState, RequestCost, apply_request, check_request, check_task
from ugclu_jax.prediction import predict
from ugclu_jax.programs import Layout, compiled_once, filled_to, group_size, mapped
from ugclu_jax.types import AnyHyper, Array, Examples, InitFn, Method, RequestKind

Asked = tuple[RequestKind, Examples]
"""A request: its kind and its examples."""


class Answers(NamedTuple):
    """What models answer after a stream.

    Attributes:
        logits: [G, N, C] float32, NaN or infinite where a model diverged.
        gradient_evaluations: [G], of all requests, in units of `EVALUATION_EXAMPLES`.
        cost: of the program that made them; its compilation counts for the first group alone.
    """

    logits: np.ndarray
    gradient_evaluations: np.ndarray
    cost: RequestCost


def serve(
    rng_key: Array,
    tasks: Sequence[Examples],
    hyper: Mapping[RequestKind, AnyHyper],
    inputs: Array,
    *,
    method: Method,
    kinds: Sequence[RequestKind],
    init_fn: InitFn,
    capacity: int,
    batch_size: int = 100,
) -> tuple[Array, Array]:
    """One model from its first key to its outputs after the last request. Pure: jit and vmap it as you like.

    Args:
        rng_key: of the model; a fresh network and a buffer get its two halves, request t gets `fold_in(rng_key, t)`.
        tasks: T, what each request learns or unlearns.
        hyper: the method's traced settings, by kind.
        inputs: [N, ...] as stored, what the outputs are of.
        method: made for a model; static.
        kinds: T, of the requests; static.
        init_fn: of the model.
        capacity: M, of the buffer.
        batch_size: inputs that pass forward at a time.

    Returns:
        `(logits [N, C], gradient evaluations [])`.

    >>> from ugclu_jax.methods.er import er
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, 1]), jnp.array(2))
    >>> method = er(linear)
    >>> logits, spent = serve(jax.random.key(0), [task], method.hyper, jnp.eye(2), method=method, kinds=["learn"],
    ...                       init_fn=lambda key: (jnp.zeros((2, 2)), {}), capacity=2)
    >>> logits.argmax(axis=1).tolist(), bool(spent > 0)
    ([0, 1], True)
    """
    assert method.apply_fn is not None  # `ensemble` refuses it
    init_key, buffer_key = jax.random.split(rng_key)
    stored = tasks[0].inputs
    buffer = buffer_lib.init(capacity, stored.shape[1:], stored.dtype, buffer_key)
    state, spent = CLUState(method.init(*init_fn(init_key)), buffer), jnp.zeros(())
    for index, (kind, task) in enumerate(zip(kinds, tasks, strict=True)):
        key = jax.random.fold_in(rng_key, index)
        state, info = apply_request(method, kind, key, state, hyper[kind], task)
        spent += info.gradient_evaluations
    network = state.method
    return predict(method.apply_fn, network.params, network.model_state, inputs, batch_size=batch_size), spent


Serve = Callable[[Array, Sequence[Asked], Mapping[RequestKind, AnyHyper], Array], Answers]
"""`(rng_keys [G], stream, hyper, inputs [N, ...]) -> answers` of G models."""


def ensemble_program(method: Method, init_fn: InitFn, capacity: int, layout: Layout | None = None) -> Serve:
    """A whole stream for a group of models, compiled once for groups and requests of the same sizes.

    Args:
        method: made for a model.
        init_fn: of the model.
        capacity: M, of each buffer.
        layout: of a program whose first argument alone has an axis of models, such as `devices.spread` makes; None =
            `programs.mapped()`, all of a group under one `vmap` on one device.

    Returns:
        See `Serve`; it refuses what `ensemble` does.

    Raises:
        ValueError: a method made for no model.

    >>> from ugclu_jax.methods.er import er
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, 1]), jnp.array(2))
    >>> run = ensemble_program(er(linear), lambda key: (jax.random.normal(key, (2, 2)), {}), capacity=2)
    >>> run(jax.random.split(jax.random.key(0), 3), [("learn", task)], er(linear).hyper, jnp.eye(2)).logits.shape
    (3, 2, 2)
    """
    if method.apply_fn is None:
        raise ValueError(f"{method.name} was made for no model: combine it with a method that was")
    chosen = layout or mapped()
    find = compiled_once(chosen.compile)

    def run(rng_keys: Array, stream: Sequence[Asked], hyper: Mapping[RequestKind, AnyHyper], inputs: Array) -> Answers:
        check_stream(method, stream, hyper)
        kinds, tasks = tuple(kind for kind, _ in stream), [task for _, task in stream]
        # Python numbers become arrays of one type, so that 1 and 1.0 are one program.
        own = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), {kind: hyper[kind] for kind in set(kinds)})
        one = functools.partial(serve, method=method, kinds=kinds, init_fn=init_fn, capacity=capacity)
        arguments = chosen.place((rng_keys, tasks, own, inputs))
        start = time.perf_counter()
        program = find(kinds, one, *arguments)
        ready = time.perf_counter()
        found = chosen.collect(jax.block_until_ready(program(*arguments)))
        cost = RequestCost(time.perf_counter() - ready, ready - start)
        logits, spent = map(np.asarray, found)
        return Answers(logits, spent, cost)

    return run


def check_stream(method: Method, stream: Sequence[Asked], hyper: Mapping[RequestKind, AnyHyper]) -> None:
    """Refuse a stream that a method cannot serve.

    Raises:
        ValueError: no request, or one that `check_request` or `check_task` refuses.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> check_stream(do_nothing(), [], {})
    Traceback (most recent call last):
        ...
    ValueError: stream has no request: give one at least
    """
    if not stream:
        raise ValueError("stream has no request: give one at least")
    for kind, task in stream:
        check_request(method, kind, hyper.get(kind))
        check_task(task)


def ensemble(
    rng_keys: Array,
    method: Method,
    stream: Sequence[Asked],
    inputs: Array,
    *,
    init_fn: InitFn,
    capacity: int,
    hyper: Mapping[RequestKind, AnyHyper] | None = None,
    group: int = 32,
    layout: Layout | None = None,
) -> Iterator[Answers]:
    """The outputs of S models, a group of them in memory at a time.

    Args:
        rng_keys: [S], one a model, see `serve`.
        method: made for a model.
        stream: T requests.
        inputs: [N, ...] as stored, what the outputs are of.
        init_fn, capacity, layout: see `ensemble_program`.
        hyper: hyperparameters by kind of request; None = the method's own.
        group: models of one program at most: memory is that of so many states. All groups are of one size, as few and
            as even as can be, the last filled up with copies that are thrown away; one program serves them all.

    Yields:
        The answers of each group, in the order of the keys, as soon as they are there.

    Raises:
        ValueError: no request, a method made for no model, a group of nothing, or a request or hyperparameters that
            `check_request` or `check_task` refuses.

    >>> from ugclu_jax.methods.er import er
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, 1]), jnp.array(2))
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> found = ensemble(keys, er(linear), [("learn", task)], jnp.eye(2), capacity=2, group=2,
    ...                  init_fn=lambda key: (jax.random.normal(key, (2, 2)), {}))
    >>> [answers.logits.shape for answers in found]
    [(2, 2, 2), (1, 2, 2)]
    """
    run, size = ensemble_program(method, init_fn, capacity, layout), group_size(len(rng_keys), group)
    chosen = method.hyper if hyper is None else hyper
    check_stream(method, stream, chosen)

    def groups() -> Iterator[Answers]:
        for first in range(0, len(rng_keys), size):
            some = rng_keys[first : first + size]
            answers = run(filled_to(size, some), stream, chosen, inputs)
            logits, spent = answers.logits[: len(some)], answers.gradient_evaluations[: len(some)]
            yield Answers(logits, spent, answers.cost)

    return groups()
