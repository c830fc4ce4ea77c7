"""The state of a continual learner and the one jitted program of a request."""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.prediction import predict
from ugclu_jax.programs import ONE_DEVICE, Layout, compiled_once
from ugclu_jax.ranges import check_hyper
from ugclu_jax.types import (
    HERE,
    AnyHyper,
    ApplyFn,
    Array,
    Buffer,
    Examples,
    Execution,
    Info,
    Method,
    MethodState,
    ModelState,
    OnStep,
    Params,
    RequestKind,
    Rows,
    UpdateFn,
)


class CLUState(NamedTuple):
    """All that survives from one request to the next."""

    method: MethodState
    buffer: Buffer


class RequestCost(NamedTuple):
    """Wall-clock cost of a request."""

    seconds: float  # mask, loop and buffer
    compile_seconds: float  # 0 where the program was compiled before


def apply_request(
    method: Method,
    kind: RequestKind,
    rng_key: Array,
    state: CLUState,
    hyper: AnyHyper,
    task: Examples,
    *,
    where: Execution = HERE,
) -> tuple[CLUState, Info]:
    """Serve one request: the method's update, the buffer's, and what the method's memories note of both.

    Learning: update first, then the new examples enter the buffer. Unlearning: the examples leave the buffer *first*,
    so that no remaining batch can hold one.

    Args:
        method: the method, static.
        kind: "learn" or "unlearn", static.
        rng_key: key of this request, consumed.
        state: what the request before left.
        hyper: the method's traced settings for this kind of request.
        task: examples to learn or unlearn.
        where: mapped axis of devices, and progress function.

    Returns:
        `(new state, Info)`.

    Raises:
        ValueError: another word than these, or a kind of request that the method does not serve.

    Example:
        >>> from ugclu_jax import buffer
        >>> from ugclu_jax.methods.do_nothing import do_nothing
        >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([1, -1]), jnp.array(1))
        >>> empty = buffer.init(2, (2,), jnp.float32, jax.random.key(0))
        >>> state = CLUState(MethodState(jnp.ones(2), {}), empty)
        >>> state, _ = apply_request(do_nothing(), "learn", jax.random.key(1), state, (), task)
        >>> int(state.buffer.count), state.buffer.ids.max().item()
        (1, 1)

    References: arXiv 2505.15178, the continual learning-unlearning stream.
    """
    update = method.update(kind)
    before = state.method._replace(extra=method.track(kind, state.method.extra, task))
    buffer = state.buffer if kind == "learn" else buffer_lib.remove(state.buffer, task.ids)
    method_state, info = update(rng_key, before, hyper, task, buffer, where=where)
    if kind == "learn":
        network = method_state.params, method_state.model_state
        ranks = None if method.ranks is None else method.ranks(*network, task, buffer.hash_key)
        buffer = buffer_lib.insert(buffer, task, ranks)
    return CLUState(method.store(kind, method_state, buffer, task), buffer), info


RequestProgram = Callable[
    [Method, RequestKind, Array, CLUState, AnyHyper, Examples], tuple[CLUState, Info, RequestCost]
]


def request_program(layout: Layout = ONE_DEVICE, on_step: OnStep | None = None) -> RequestProgram:
    """Compile `apply_request` once for each update function and bucket size, and time it apart from its compilation.

    Args:
        layout: of the program on devices.
        on_step: progress function, see `loop.request_loop`.

    Returns:
        `run(method, kind, rng_key, state, hyper, task) -> (state, info, cost)`. Another key, another value in `hyper`,
        another task of the same bucket: the same program. Methods that share a `learn` or an `unlearn` share its
        program. The result is ready on the device when `run` returns. It refuses what `check_request` and `check_task`
        refuse.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> run = request_program()
    >>> buffer = buffer_lib.init(2, (1,), jnp.uint8, jax.random.key(0))
    >>> task = Examples(jnp.zeros((4, 1), jnp.uint8), jnp.zeros(4, int), jnp.array([1, -1]), jnp.array(1))
    >>> state = CLUState(MethodState({}, {}), buffer)
    >>> int(run(do_nothing(), "learn", jax.random.key(1), state, (), task)[0].buffer.count)
    1
    """
    find = compiled_once(layout.compile)
    where = Execution(layout.axis_name, on_step)

    def run(
        method: Method, kind: RequestKind, rng_key: Array, state: CLUState, hyper: AnyHyper, task: Examples
    ) -> tuple[CLUState, Info, RequestCost]:
        update = check_request(method, kind, hyper)
        check_task(task)
        # Python numbers become arrays of one type, so that 1 and 1.0 are one program.
        hyper = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), hyper)
        arguments = layout.place((rng_key, state, hyper, task))
        serve = functools.partial(apply_request, method, kind, where=where)
        start = time.perf_counter()
        program = find((kind, update, method.memories, method.ranks), serve, *arguments)
        ready = time.perf_counter()
        new_state, info = layout.collect(jax.block_until_ready(program(*arguments)))
        return new_state, info, RequestCost(time.perf_counter() - ready, ready - start)

    return run


def check_task(task: Examples) -> None:
    """Refuse ids that are no rows of the task's arrays: inside of a program they would read other rows.

    Raises:
        ValueError: naming them.

    >>> check_task(Examples(jnp.zeros((4, 1)), jnp.zeros(4, int), jnp.array([1, 7, -1]), jnp.array(2)))
    Traceback (most recent call last):
        ...
    ValueError: ids [7] are not rows of the data, which are 0 … 3
    """
    rows, ids = task.labels.shape[0], np.asarray(task.ids)[: int(task.count)]
    outside = ids[(ids < 0) | (ids >= rows)]
    if outside.size:
        shown = ", ".join(map(str, outside[:5])) + (", …" if outside.size > 5 else "")
        raise ValueError(f"ids [{shown}] are not rows of the data, which are 0 … {rows - 1}")


def check_request(method: Method, kind: RequestKind, hyper: AnyHyper) -> UpdateFn:
    """Refuse a kind of request that a method does not serve, and hyperparameters that are not its own.

    Returns:
        The method's update for this kind.

    Raises:
        ValueError: another word than learn and unlearn, a kind that the method does not serve, another method's
            hyperparameters, or a value out of its range.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> check_request(do_nothing(), "forget", ())
    Traceback (most recent call last):
        ...
    ValueError: kind must be one of learn, unlearn, got 'forget'
    """
    update, own = method.update(kind), type(method.hyper[kind])
    if not isinstance(hyper, own):
        wanted = "()" if own is tuple else f"a {own.__name__}"
        raise ValueError(f"hyper of {method.name} to {kind} must be {wanted}, got {type(hyper).__name__}")
    check_hyper(hyper)
    return update


insert = jax.jit(buffer_lib.insert)
"""`buffer.insert`, compiled."""


def predict_program(apply_fn: ApplyFn, batch_size: int = 100) -> Callable[[Params, ModelState, Rows], Array]:
    """`predict(params, model_state, inputs [N, ...]) -> logits [N, C]` in evaluation mode, a batch in memory at a time.

    Inputs in host memory are read a batch at a time, too.

    Args:
        apply_fn: the network.
        batch_size: examples that pass forward at a time, 1 or more; memory grows with it.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> predict_program(linear, batch_size=2)(jnp.eye(2), {}, jnp.array([[1., 2.], [3., 4.], [5., 6.]])).tolist()
    [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """

    return jax.jit(functools.partial(predict, apply_fn, batch_size=batch_size))
