"""Programs over devices: `pmap` or `shard_map` of one function, by data parallelism or one run beside another."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from ugclu_jax import prediction
from ugclu_jax.devices.placement import AXIS, PARTS, WHOLE, Devices, gather, is_sharded, put, replicate
from ugclu_jax.programs import Layout, Program, over_first
from ugclu_jax.streaming import ShardedArray
from ugclu_jax.types import ApplyFn, Array, ModelState, Params, PyTree


def layout(devices: Devices) -> Layout:
    """How `learner.request_program` lays one request over the devices, data parallel.

    >>> from ugclu_jax.devices import select
    >>> layout(select(1)).axis_name
    'device'
    """

    def compile_for(function: Callable[..., PyTree], *arguments: PyTree) -> Program:
        return _map(function, devices, arguments, mapped=0, out_parts=False)

    return Layout(compile_for, lambda tree: replicate(tree, devices), gather, AXIS)


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
    >>> from ugclu_jax.devices import select
    >>> spread(select(1)).program(lambda x, y: x * y)(jnp.arange(3), jnp.array(2)).tolist()
    [0, 2, 4]
    """

    def compile_for(function: Callable[..., PyTree], *arguments: PyTree) -> Program:
        return _map(over_first(function, mapped, at_once), devices, arguments, mapped, out_parts=True)

    def place(arguments: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        over = NamedSharding(devices.mesh, PARTS)
        parts = jax.tree.map(
            lambda x: put(x.reshape(devices.count, len(x) // devices.count, *x.shape[1:]), over), arguments[:mapped]
        )
        return (*parts, *replicate(arguments[mapped:], devices))

    def collect(tree: PyTree) -> PyTree:
        # Sizes are said, since of an array without numbers none can be guessed.
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), gather(tree))

    return Layout(compile_for, place, collect)


def predict_program(
    apply_fn: ApplyFn, devices: Devices, batch_size: int = 100
) -> Callable[[Params, ModelState, ShardedArray], Array]:
    """`learner.predict_program` of divided inputs: each device passes over its own rows.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax.devices import select, shard_rows
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> inputs = shard_rows(np.array([[1., 2.], [3., 4.], [5., 6.]], np.float32), select(1))
    >>> predict_program(linear, select(1), batch_size=2)(jnp.eye(2), {}, inputs).tolist()
    [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    """

    def rows(params: Params, model_state: ModelState, inputs: ShardedArray) -> Array:
        return prediction.predict(apply_fn, params, model_state, inputs.local, batch_size=batch_size)

    def compile_for(function: Callable[..., PyTree], *arguments: PyTree) -> Program:
        return _map(function, devices, arguments, mapped=0, out_parts=True)

    program = Layout(compile_for, lambda tree: replicate(tree, devices), gather).program(rows)

    def predict(params: Params, model_state: ModelState, inputs: ShardedArray) -> Array:
        logits = program(params, model_state, inputs)
        return logits.reshape(-1, logits.shape[-1])[: inputs.length]

    return predict


def _map(
    function: Callable[..., PyTree], devices: Devices, arguments: tuple[PyTree, ...], mapped: int, out_parts: bool
) -> Program:
    """`function` on every device, compiled for arguments like these.

    Args:
        function: sees no axis of devices in its arguments.
        devices: D of them.
        arguments: placed.
        mapped: how many of them have a leading axis D; of the others, what is sharded has it.
        out_parts: whether the result has it too, or is the same on every device.
    """

    def inside(*arguments: PyTree) -> PyTree:
        return function(*jax.tree.map(_mark, arguments, is_leaf=is_sharded))

    def has_axis(number: int, argument: PyTree) -> PyTree:
        return jax.tree.map(lambda x: number < mapped or is_sharded(x), argument, is_leaf=is_sharded)

    axes = [has_axis(number, argument) for number, argument in enumerate(arguments)]
    if devices.parallel == "pmap":
        # One more argument, for pmap wants one that is mapped.
        places = put(np.arange(devices.count), NamedSharding(devices.mesh, PARTS))
        lowered = jax.pmap(
            lambda place, *arguments: inside(*arguments),
            axis_name=AXIS,
            in_axes=(0, *jax.tree.map(lambda divided: 0 if divided else None, axes)),
            out_axes=0 if out_parts else None,
            devices=devices.devices,
        ).lower(places, *arguments)
        return functools.partial(lowered.compile(), places)

    def alone(*arguments: PyTree) -> PyTree:
        """shard_map keeps the axis of devices, of length 1."""
        first = jax.tree.map(lambda divided, x: _without_axis(x) if divided else x, axes, list(arguments))
        result = inside(*first)
        return jax.tree.map(lambda x: x[None], result) if out_parts else result

    specs = tuple(jax.tree.map(lambda divided: PARTS if divided else WHOLE, axes))
    # check_vma would already sum gradients with respect to replicated parameters; with the components' own sums they
    # would be D times too large.
    lowered = jax.jit(
        jax.shard_map(
            alone, mesh=devices.mesh, in_specs=specs, out_specs=PARTS if out_parts else WHOLE, check_vma=False
        )
    ).lower(*arguments)
    return lowered.compile()


def _mark(leaf: Any) -> Any:
    return replace(leaf, mapped=True) if is_sharded(leaf) else leaf


def _without_axis(leaf: Any) -> Any:
    return replace(leaf, local=leaf.local[0]) if is_sharded(leaf) else leaf[0]
