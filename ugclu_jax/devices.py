"""Programs over many devices: `pmap` or `shard_map` of the same function. The only file that knows devices.

Two ways to use D of them:

    data parallel   one request; every device draws the same global batch and computes its share of the rows, and the
                    sums over examples are `psum`s under `AXIS`. State, buffer and data are whole on every device.
    spread          runs that need no communication (seeds, oracles, points of a sweep) along a mapped axis S, S / D of
                    them on a device under one `vmap`.

Both give what one device gives, to rounding. What a program returns lies on the first device, uncommitted: nothing
outside of this file, a checkpoint least of all, depends on how many there were.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ugclu_jax.learner import Layout
from ugclu_jax.types import Array, PyTree

AXIS = "device"
Parallel = Literal["pmap", "shard_map"]


@dataclass(frozen=True)
class Devices:
    """Devices of one kind, and how a function is mapped over them; `select` makes it."""

    devices: tuple[jax.Device, ...]
    parallel: Parallel

    @property
    def count(self) -> int:
        """D."""
        return len(self.devices)

    @functools.cached_property
    def mesh(self) -> Mesh:
        """All of them along `AXIS`."""
        return Mesh(np.array(self.devices), (AXIS,))


def select(number: int | Literal["all"] = "all", parallel: Parallel = "pmap") -> Devices:
    """The first `number` devices of this host.

    Raises:
        ValueError: more than there are, fewer than one, or an unknown way to map.

    >>> select(1).count
    1
    >>> select(10**6)
    Traceback (most recent call last):
        ...
    ValueError: devices is 1000000 and there ... give at most that, or all (JAX_NUM_CPU_DEVICES=1000000 splits a CPU)
    """
    if parallel not in get_args(Parallel):
        raise ValueError(f"parallel must be one of {', '.join(get_args(Parallel))}, got {parallel!r}")
    there = jax.local_devices()
    wanted = len(there) if number == "all" else number
    if wanted < 1:
        raise ValueError(f"devices must be at least 1 or all, got {number}")
    if wanted > len(there):
        cure = f" (JAX_NUM_CPU_DEVICES={wanted} splits a CPU)" if there[0].platform == "cpu" else ""
        verb = "is 1" if len(there) == 1 else f"are {len(there)}"
        raise ValueError(f"devices is {wanted} and there {verb}: give at most that, or all{cure}")
    return Devices(tuple(there[:wanted]), parallel)


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


def replicate(tree: PyTree, devices: Devices) -> PyTree:
    """The tree whole on every device; no copy where it is already."""
    return jax.device_put(tree, NamedSharding(devices.mesh, PartitionSpec()))


def _on_host(leaf: Array, shape: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> Array:
    """The whole leaf, uncommitted."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = shape(np.asarray(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(shape(np.asarray(leaf)))


class _Lowerable(NamedTuple):
    """What `Layout.wrap` returns."""

    lower: Callable[..., Any]


class _Pmapped:
    """`pmap` with arguments added that tell how many devices there are, for it wants one that is mapped."""

    def __init__(self, function: Callable, mapped: int, shared: int, out_axes: int | None, devices: Devices) -> None:
        self.places = jnp.arange(devices.count)
        self.function = jax.pmap(
            lambda place, *arguments: function(*arguments),
            axis_name=AXIS,
            in_axes=(0,) * (1 + mapped) + (None,) * shared,
            out_axes=out_axes,
            devices=devices.devices,
        )

    def lower(self, *arguments: PyTree) -> "_Pmapped":
        self.lowered = self.function.lower(self.places, *arguments)
        return self

    def compile(self) -> Callable:
        compiled = self.lowered.compile()
        return lambda *arguments: compiled(self.places, *arguments)


def layout(devices: Devices) -> Layout:
    """How `learner.request_program` lays one request over the devices, data parallel.

    >>> layout(select(1)).axis_name
    'device'
    """

    def wrap(function: Callable) -> Any:
        def lower(*arguments: PyTree) -> Any:
            if devices.parallel == "pmap":
                return _Pmapped(function, 0, len(arguments), None, devices).lower(*arguments)
            everywhere = PartitionSpec()
            # check_vma would already sum gradients with respect to replicated parameters; with the components' own sums
            # they would be D times too large.
            return jax.jit(
                jax.shard_map(function, mesh=devices.mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)
            ).lower(*arguments)

        return _Lowerable(lower)

    return Layout(wrap, lambda tree: replicate(tree, devices), lambda tree: jax.tree.map(_on_host, tree), AXIS)


def spread(devices: Devices, mapped: int = 1) -> Layout:
    """How a program lays runs that need no communication over the devices.

    Args:
        devices: D of them.
        mapped: the first so many arguments have a leading axis S, one entry a run, D times a whole number (`filled`
            sees to that). The others are shared by all runs.

    Returns:
        A layout whose program returns every leaf with the axis S.

    >>> import jax.numpy as jnp
    >>> spread(select(1)).program(lambda x, y: x * y)(jnp.arange(3), jnp.array(2)).tolist()
    [0, 2, 4]
    """

    def split(leaf: Array) -> Array:
        return leaf.reshape(devices.count, -1, *leaf.shape[1:])

    def wrap(function: Callable) -> Any:
        def lower(*arguments: PyTree) -> Any:
            shared = len(arguments) - mapped
            within = jax.vmap(function, in_axes=(0,) * mapped + (None,) * shared)
            if devices.parallel == "pmap":
                return _Pmapped(within, mapped, shared, 0, devices).lower(*arguments)

            def alone(*arguments: PyTree) -> PyTree:
                first = jax.tree.map(lambda x: x[0], arguments[:mapped])  # shard_map keeps the axis of devices
                return jax.tree.map(lambda x: x[None], within(*first, *arguments[mapped:]))

            parts = PartitionSpec(AXIS)
            specs = (parts,) * mapped + (PartitionSpec(),) * shared
            return jax.jit(
                jax.shard_map(alone, mesh=devices.mesh, in_specs=specs, out_specs=parts, check_vma=False)
            ).lower(*arguments)

        return _Lowerable(lower)

    def place(arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        parts = jax.tree.map(split, arguments[:mapped])
        over = NamedSharding(devices.mesh, PartitionSpec(AXIS))
        return (*jax.device_put(parts, over), *replicate(arguments[mapped:], devices))

    def collect(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: _on_host(leaf, lambda x: x.reshape(-1, *x.shape[2:])), tree)

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
