"""The state of a continual learner and the one jitted program of a request."""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.buffer import Buffer
from ugclu_jax.programs import ONE_DEVICE, Layout, compiled_once
from ugclu_jax.streaming import HostArray, take
from ugclu_jax.types import (
    ApplyFn,
    Array,
    Examples,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
    RequestKind,
)


class CLUState(NamedTuple):
    """All that survives from one request to the next."""

    method: MethodState
    buffer: Buffer


class RequestCost(NamedTuple):
    """Wall-clock cost of a request."""

    seconds: float  # mask, loop and buffer
    compile_seconds: float  # 0 where the program was compiled before


def combine(*, learn: Method, unlearn: Method) -> Method:
    """A method that learns with one and unlearns with another; each keeps its own `extra`.

    Args:
        learn: whose `learn` serves learn requests.
        unlearn: whose `unlearn` serves unlearn requests. Both are asked to `init` and to `track`.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> nothing = do_nothing()
    >>> combine(learn=nothing, unlearn=nothing).learn is nothing.learn
    True
    """

    def init(params: Params, model_state: ModelState) -> MethodState:
        return MethodState(
            params, model_state, learn.init(params, model_state).extra | unlearn.init(params, model_state).extra
        )

    def track(kind: RequestKind, extra: dict[str, PyTree], task: Examples) -> dict[str, PyTree]:
        return unlearn.track(kind, learn.track(kind, extra, task), task)

    # What one method does twice it does to the same entry, to the same end: tracking is idempotent.
    return Method(init, learn.learn, unlearn.unlearn, track)


def apply_request(
    method: Method,
    kind: RequestKind,
    rng_key: Array,
    state: CLUState,
    hyper: PyTree,
    task: Examples,
    *,
    axis_name: str | None = None,
) -> tuple[CLUState, Info]:
    """Serve one request: the method's update, and the buffer's.

    Learning: update first, then the new examples enter the buffer. Unlearning: the examples leave the buffer *first*,
    so that no remaining batch can hold one.

    Args:
        method: the method, static.
        kind: "learn" or "unlearn", static.
        rng_key: key of this request, consumed.
        state: what the request before left.
        hyper: the method's traced settings for this kind of request.
        task: examples to learn or unlearn.
        axis_name: mapped axis of devices.

    Returns:
        `(new state, Info)`.

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
    before = state.method._replace(extra=method.track(kind, state.method.extra, task))
    if kind == "learn":
        method_state, info = method.learn(rng_key, before, hyper, task, state.buffer, axis_name=axis_name)
        return CLUState(method_state, buffer_lib.insert(state.buffer, task)), info
    buffer = buffer_lib.remove(state.buffer, task.ids)
    method_state, info = method.unlearn(rng_key, before, hyper, task, buffer, axis_name=axis_name)
    return CLUState(method_state, buffer), info


RequestProgram = Callable[[Method, RequestKind, Array, CLUState, PyTree, Examples], tuple[CLUState, Info, RequestCost]]


def request_program(layout: Layout = ONE_DEVICE) -> RequestProgram:
    """Compile `apply_request` once for each update function and bucket size, and time it apart from its compilation.

    Args:
        layout: of the program on devices.

    Returns:
        `run(method, kind, rng_key, state, hyper, task) -> (state, info, cost)`. Another key, another value in `hyper`,
        another task of the same bucket: the same program. Methods that share a `learn` or an `unlearn` share its
        program. The result is ready on the device when `run` returns.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> run = request_program()
    >>> buffer = buffer_lib.init(2, (1,), jnp.uint8, jax.random.key(0))
    >>> task = Examples(jnp.zeros((4, 1), jnp.uint8), jnp.zeros(4, int), jnp.array([1, -1]), jnp.array(1))
    >>> state = CLUState(MethodState({}, {}), buffer)
    >>> int(run(do_nothing(), "learn", jax.random.key(1), state, (), task)[0].buffer.count)
    1
    """
    find = compiled_once(layout.compile)

    def run(
        method: Method, kind: RequestKind, rng_key: Array, state: CLUState, hyper: PyTree, task: Examples
    ) -> tuple[CLUState, Info, RequestCost]:
        # Python numbers become arrays of one type, so that 1 and 1.0 are one program.
        hyper = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), hyper)
        arguments = layout.place((rng_key, state, hyper, task))
        update = method.learn if kind == "learn" else method.unlearn
        serve = functools.partial(apply_request, method, kind, axis_name=layout.axis_name)
        start = time.perf_counter()
        program = find((kind, update), serve, *arguments)
        ready = time.perf_counter()
        new_state, info = layout.collect(jax.block_until_ready(program(*arguments)))
        return new_state, info, RequestCost(time.perf_counter() - ready, ready - start)

    return run


def predict(
    apply_fn: ApplyFn, params: Params, model_state: ModelState, inputs: Array | HostArray, *, batch_size: int
) -> Array:
    """Logits `[N, C]` in evaluation mode, `batch_size` examples in memory at a time; pure, see `predict_program`."""

    def logits_of(x: Array) -> Array:
        return apply_fn(params, model_state, x[None], train=False, rng_key=None)[0][0]

    if isinstance(inputs, HostArray):
        rows = jnp.arange(inputs.shape[0])
        return lax.map(lambda row: logits_of(take(inputs, row)), rows, batch_size=batch_size)
    return lax.map(logits_of, inputs, batch_size=batch_size)


def predict_program(
    apply_fn: ApplyFn, batch_size: int = 100
) -> Callable[[Params, ModelState, Array | HostArray], Array]:
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
