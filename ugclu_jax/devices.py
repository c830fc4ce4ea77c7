"""Programs over many devices and hosts: `pmap` or `shard_map` of the same function. The only file that knows devices.

Two ways to use D of them:

    data parallel   one request; every device draws the same global batch and computes its share of the rows, and the
                    sums over examples are `psum`s under `AXIS`. State and buffer are whole on every device.
    spread          runs that need no communication (seeds, oracles, points of a sweep) along a mapped axis S, S / D of
                    them on a device under one `vmap`.

Both give what one device gives, to rounding. Training data may be whole on every device or divided over all of them
(`shard_rows`): then a host reads its share alone. What a program returns lies on the first device of each host,
uncommitted: nothing outside of this file, a checkpoint least of all, depends on how many devices there were.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ugclu_jax import learner
from ugclu_jax.learner import Layout
from ugclu_jax.streaming import ShardedArray
from ugclu_jax.types import ApplyFn, Array, ModelState, Params, PyTree

AXIS = "device"
Parallel = Literal["pmap", "shard_map"]
HEARTBEAT_SECONDS = 30
"""After which a host that has died ends the others."""
_WHOLE, _PARTS = PartitionSpec(), PartitionSpec(AXIS)


@dataclass(frozen=True)
class Devices:
    """Devices of one kind, as many of every host, and how a function is mapped over them; `select` makes it."""

    devices: tuple[jax.Device, ...]
    parallel: Parallel

    @property
    def count(self) -> int:
        """D, of all hosts."""
        return len(self.devices)

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All of them along `AXIS`."""
        return Mesh(np.array(self.devices), (AXIS,))


class NotJoinedError(RuntimeError):
    """The processes of a run did not come together."""


def join(coordinator: str, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Join the processes of a run, before anything asks for a device.

    If one dies, the others are ended with a message within about `HEARTBEAT_SECONDS`.

    Args:
        coordinator: HOST:PORT of process 0, or "auto": all three from the cluster's environment (SLURM, TPU pods, …).
        num_processes: how many.
        process_id: this one, from 0.

    Raises:
        ValueError: a part is missing or out of range.
        NotJoinedError: the others did not come, or nothing is known of a cluster.
    """
    if coordinator == "auto":
        where = {}
    elif num_processes is None or process_id is None:
        missing = "num_processes" if num_processes is None else "process_id"
        raise ValueError(f"{missing} is missing: with a coordinator other than auto it must be given")
    elif not 0 <= process_id < num_processes:
        raise ValueError(f"process_id must be in 0 … {num_processes - 1}, got {process_id}")
    else:
        where = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
    try:
        jax.distributed.initialize(**where, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise NotJoinedError(f"cannot join the run at coordinator {coordinator}: {error}") from error


def is_first() -> bool:
    """Whether this is the process that writes tables and reports: process 0."""
    return jax.process_index() == 0


def from_first(value: bool) -> bool:
    """What process 0 says, for all: they must go the same way, since programs wait for one another.

    >>> from_first(True)
    True
    """
    return value if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def sum_over_processes(array: np.ndarray) -> np.ndarray:
    """The sum of an array over all processes.

    >>> sum_over_processes(np.arange(3)).tolist()
    [0, 1, 2]
    """
    if jax.process_count() == 1:
        return array
    return multihost_utils.process_allgather(array).sum(axis=0, dtype=array.dtype)


def select(number: int | Literal["all"] = "all", parallel: Parallel = "pmap") -> Devices:
    """The first `number` devices of every host.

    Raises:
        ValueError: more than there are, fewer than one, an unknown way to map, or pmap with several processes.

    >>> select(1).count
    1
    >>> select(10**6)
    Traceback (most recent call last):
        ...
    ValueError: devices is 1000000 and there ... give at most that, or all (JAX_NUM_CPU_DEVICES=1000000 splits a CPU)
    """
    if parallel not in get_args(Parallel):
        raise ValueError(f"parallel must be one of {', '.join(get_args(Parallel))}, got {parallel!r}")
    if parallel == "pmap" and jax.process_count() > 1:
        # Lowered ahead of time, pmap takes arrays of one host alone, and would divide the data anew at every call.
        raise ValueError("parallel is pmap, which serves one process; several need shard_map")
    there = jax.local_devices()
    wanted = len(there) if number == "all" else number
    if wanted < 1:
        raise ValueError(f"devices must be at least 1 or all, got {number}")
    if wanted > len(there):
        cure = f" (JAX_NUM_CPU_DEVICES={wanted} splits a CPU)" if there[0].platform == "cpu" else ""
        verb = "is 1" if len(there) == 1 else f"are {len(there)}"
        raise ValueError(f"devices is {wanted} and there {verb}: give at most that, or all{cure}")
    by_host: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_host.setdefault(device.process_index, []).append(device)
    return Devices(tuple(device for host in sorted(by_host) for device in by_host[host][:wanted]), parallel)


def check_batch_sizes(sizes: Mapping[str, int], count: int) -> None:
    """Refuse batch sizes that `count` devices cannot share evenly.

    Raises:
        ValueError: naming the setting, and the nearest sizes that can be shared.

    >>> check_batch_sizes({"task_batch_size": 64}, 6)
    Traceback (most recent call last):
        ...
    ValueError: task_batch_size is 64, which 6 devices cannot share evenly; the nearest sizes are 60 and 66
    """
    for name, size in sizes.items():
        if size % count:
            below = size // count * count
            nearest = f"sizes are {below} and {below + count}" if below else f"size is {count}"
            raise ValueError(f"{name} is {size}, which {count} devices cannot share evenly; the nearest {nearest}")


def shard_rows(array: np.ndarray, devices: Devices) -> ShardedArray:
    """An array of examples divided over all devices; a host reads the rows of its own devices, and no other.

    >>> shard_rows(np.arange(6).reshape(3, 2), select(1)).shape
    (3, 2)
    """
    each = -(-len(array) // devices.count)

    def rows_of(index: tuple[slice, ...]) -> np.ndarray:
        (place,) = range(*index[0].indices(devices.count))
        rows = array[place * each : (place + 1) * each]
        return np.concatenate([rows, np.zeros((each - len(rows), *array.shape[1:]), array.dtype)])[None]

    shape = (devices.count, each, *array.shape[1:])
    local = jax.make_array_from_callback(shape, NamedSharding(devices.mesh, _PARTS), rows_of)
    return ShardedArray(local, len(array), AXIS)


def replicate(tree: PyTree, devices: Devices) -> PyTree:
    """The tree whole on every device; what is there already, and what is divided over devices, stays as it is."""
    whole = NamedSharding(devices.mesh, _WHOLE)

    def put(leaf: Any) -> Any:
        if isinstance(leaf, ShardedArray) or (isinstance(leaf, jax.Array) and leaf.sharding == whole):
            return leaf
        return _put(leaf, whole)

    return jax.tree.map(put, tree, is_leaf=_is_sharded)


def gather(tree: PyTree) -> PyTree:
    """Whole arrays on the first device of each host, uncommitted, whichever way they were laid out."""

    def whole(leaf: Array) -> Array:
        if leaf.is_fully_replicated:
            leaf = leaf.addressable_data(0)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.asarray(_to_host(leaf))
        data = _to_host(jax.jit(jax.random.key_data)(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))

    return jax.tree.map(whole, tree)


def _to_host(leaf: Array) -> np.ndarray:
    if leaf.is_fully_addressable:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def _put(leaf: Any, sharding: NamedSharding) -> Array:
    """As `jax.device_put`, which cannot move a typed key to another host."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.jit(functools.partial(jax.random.wrap_key_data, impl=str(jax.random.key_impl(leaf))))(data)
    array = np.asarray(leaf)
    # Every process has the same; device_put would ask them all whether it is.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _is_sharded(leaf: Any) -> bool:
    return isinstance(leaf, ShardedArray)


class _Lowerable(NamedTuple):
    """What `Layout.wrap` returns."""

    lower: Callable[..., Any]


class _Compilable(NamedTuple):
    """What its `lower` returns."""

    compile: Callable[[], Callable]


def _map(
    function: Callable, devices: Devices, arguments: tuple[PyTree, ...], mapped: int, out_parts: bool
) -> _Compilable:
    """`function` on every device, lowered for arguments like these.

    Args:
        function: sees no axis of devices in its arguments.
        devices: D of them.
        arguments: placed.
        mapped: how many of them have a leading axis D; of the others, what is sharded has it.
        out_parts: whether the result has it too, or is the same on every device.
    """

    def inside(*arguments: PyTree) -> PyTree:
        return function(*jax.tree.map(_mark, arguments, is_leaf=_is_sharded))

    def has_axis(number: int, argument: PyTree) -> PyTree:
        return jax.tree.map(lambda x: number < mapped or _is_sharded(x), argument, is_leaf=_is_sharded)

    axes = [has_axis(number, argument) for number, argument in enumerate(arguments)]
    if devices.parallel == "pmap":
        # One more argument, for pmap wants one that is mapped.
        places = _put(np.arange(devices.count), NamedSharding(devices.mesh, _PARTS))
        lowered = jax.pmap(
            lambda place, *arguments: inside(*arguments),
            axis_name=AXIS,
            in_axes=(0, *jax.tree.map(lambda divided: 0 if divided else None, axes)),
            out_axes=0 if out_parts else None,
            devices=devices.devices,
        ).lower(places, *arguments)
        return _Compilable(lambda: functools.partial(lowered.compile(), places))

    def alone(*arguments: PyTree) -> PyTree:
        """shard_map keeps the axis of devices, of length 1."""
        first = jax.tree.map(lambda divided, x: _without_axis(x) if divided else x, axes, list(arguments))
        result = inside(*first)
        return jax.tree.map(lambda x: x[None], result) if out_parts else result

    specs = tuple(jax.tree.map(lambda divided: _PARTS if divided else _WHOLE, axes))
    # check_vma would already sum gradients with respect to replicated parameters; with the components' own sums they
    # would be D times too large.
    lowered = jax.jit(
        jax.shard_map(
            alone, mesh=devices.mesh, in_specs=specs, out_specs=_PARTS if out_parts else _WHOLE, check_vma=False
        )
    ).lower(*arguments)
    return _Compilable(lowered.compile)


def _mark(leaf: Any) -> Any:
    return replace(leaf, mapped=True) if _is_sharded(leaf) else leaf


def _without_axis(leaf: Any) -> Any:
    return replace(leaf, local=leaf.local[0]) if _is_sharded(leaf) else leaf[0]


def layout(devices: Devices) -> Layout:
    """How `learner.request_program` lays one request over the devices, data parallel.

    >>> layout(select(1)).axis_name
    'device'
    """

    def wrap(function: Callable) -> _Lowerable:
        return _Lowerable(lambda *arguments: _map(function, devices, arguments, mapped=0, out_parts=False))

    return Layout(wrap, lambda tree: replicate(tree, devices), gather, AXIS)


def spread(devices: Devices, mapped: int = 1, at_once: int | None = None) -> Layout:
    """How a program lays runs that need no communication over the devices.

    Args:
        devices: D of them.
        mapped: the first so many arguments have a leading axis S, one entry a run, D times a whole number (`filled`
            sees to that). The others are shared by all runs.
        at_once: runs under one `vmap` on a device, the others one after another; None = all.

    Returns:
        A layout whose program returns every leaf with the axis S.

    >>> import jax.numpy as jnp
    >>> spread(select(1)).program(lambda x, y: x * y)(jnp.arange(3), jnp.array(2)).tolist()
    [0, 2, 4]
    """

    def wrap(function: Callable) -> _Lowerable:
        def lower(*arguments: PyTree) -> _Compilable:
            def within(*arguments: PyTree) -> PyTree:
                shared = arguments[mapped:]
                return lax.map(lambda own: function(*own, *shared), arguments[:mapped], batch_size=at_once)

            if at_once is None:
                within = jax.vmap(function, in_axes=(0,) * mapped + (None,) * (len(arguments) - mapped))
            return _map(within, devices, arguments, mapped, out_parts=True)

        return _Lowerable(lower)

    def place(arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        over = NamedSharding(devices.mesh, _PARTS)
        parts = jax.tree.map(lambda x: _put(x.reshape(devices.count, -1, *x.shape[1:]), over), arguments[:mapped])
        return (*parts, *replicate(arguments[mapped:], devices))

    def collect(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), gather(tree))

    return Layout(wrap, place, collect)


def filled(tree: PyTree, devices: Devices) -> PyTree:
    """A tree with leading axis S, filled up to the next multiple of D with copies of the last entry.

    >>> import jax.numpy as jnp
    >>> filled(jnp.arange(3), select(1)).tolist()
    [0, 1, 2]
    """
    size = len(jax.tree.leaves(tree)[0])
    rows = np.minimum(np.arange(-(-size // devices.count) * devices.count), size - 1)
    return jax.tree.map(lambda x: x[rows], tree)


def predict_program(
    apply_fn: ApplyFn, devices: Devices, batch_size: int = 100
) -> Callable[[Params, ModelState, ShardedArray], Array]:
    """`learner.predict_program` of divided inputs: each device passes over its own rows.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> inputs = shard_rows(np.array([[1., 2.], [3., 4.], [5., 6.]], np.float32), select(1))
    >>> predict_program(linear, select(1), batch_size=2)(jnp.eye(2), {}, inputs).tolist()
    [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """

    def rows(params: Params, model_state: ModelState, inputs: ShardedArray) -> Array:
        return learner.predict(apply_fn, params, model_state, inputs.local, batch_size=batch_size)

    def wrap(function: Callable) -> _Lowerable:
        return _Lowerable(lambda *arguments: _map(function, devices, arguments, mapped=0, out_parts=True))

    program = Layout(wrap, lambda tree: replicate(tree, devices), gather).program(rows)

    def predict(params: Params, model_state: ModelState, inputs: ShardedArray) -> Array:
        logits = program(params, model_state, inputs)
        return logits.reshape(-1, logits.shape[-1])[: inputs.length]

    return predict
