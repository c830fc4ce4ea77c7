"""Which devices there are, and arrays on them: whole on every device, divided over all, or gathered again."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ugclu_jax.programs import filled_to
from ugclu_jax.streaming import ShardedArray
from ugclu_jax.types import Array, PyTree

AXIS = "device"
Parallel = Literal["pmap", "shard_map"]
WHOLE, PARTS = PartitionSpec(), PartitionSpec(AXIS)


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

    def rows_of(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None  # JAX asks without one only for what is no array of numbers
        (place,) = range(*index[0].indices(devices.count))
        rows = array[place * each : (place + 1) * each]
        return np.concatenate([rows, np.zeros((each - len(rows), *array.shape[1:]), array.dtype)])[None]

    shape = (devices.count, each, *array.shape[1:])
    local = jax.make_array_from_callback(shape, NamedSharding(devices.mesh, PARTS), rows_of)
    return ShardedArray(local, len(array), AXIS)


def replicate(tree: PyTree, devices: Devices) -> PyTree:
    """The tree whole on every device; what is there already, and what is divided over devices, stays as it is."""
    whole = NamedSharding(devices.mesh, WHOLE)

    def replicated(leaf: Any) -> Any:
        if isinstance(leaf, ShardedArray) or (isinstance(leaf, jax.Array) and leaf.sharding == whole):
            return leaf
        return put(leaf, whole)

    return jax.tree.map(replicated, tree, is_leaf=is_sharded)


def gather(tree: PyTree) -> PyTree:
    """Whole arrays on the first device of each host, uncommitted, whichever way they were laid out."""

    def whole(leaf: Array) -> Array:
        if leaf.is_fully_replicated:
            leaf = leaf.addressable_data(0)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.asarray(_to_host(leaf))
        data = _to_host(jax.jit(jax.random.key_data)(leaf))
        return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(leaf))

    return jax.tree.map(whole, tree)


def filled(tree: PyTree, devices: Devices) -> PyTree:
    """A tree with leading axis S, filled up to the next multiple of D with copies of the last entry.

    >>> import jax.numpy as jnp
    >>> filled(jnp.arange(3), select(1)).tolist()
    [0, 1, 2]
    """
    size = len(jax.tree.leaves(tree)[0])
    return filled_to(-(-size // devices.count) * devices.count, tree)


def _to_host(leaf: Array) -> np.ndarray:
    if leaf.is_fully_addressable:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def put(leaf: Any, sharding: NamedSharding) -> Array:
    """As `jax.device_put`, which cannot move a typed key to another host."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = put(jax.random.key_data(leaf), sharding)
        return jax.jit(functools.partial(jax.random.wrap_key_data, impl=str(jax.random.key_impl(leaf))))(data)
    array = np.asarray(leaf)
    # Every process has the same; device_put would ask them all whether it is.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def is_sharded(leaf: Any) -> bool:
    """Whether a leaf is divided over the devices."""
    return isinstance(leaf, ShardedArray)
