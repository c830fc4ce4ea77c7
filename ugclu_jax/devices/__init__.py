"""Programs over many devices and hosts: the only folder that knows devices.

Two ways to use D of them:

    data parallel   one request; every device draws the same global batch and computes its share of the rows, and the
                    sums over examples are `psum`s under `AXIS`. State and buffer are whole on every device.
    spread          runs that need no communication (seeds, oracles, points of a sweep) along a mapped axis S, S / D of
                    them on a device under one `vmap`.

Both give what one device gives, to rounding. Training data may be whole on every device or divided over all of them
(`shard_rows`): then a host reads its share alone. What a program returns lies on the first device of each host,
uncommitted: nothing outside of this folder, a checkpoint least of all, depends on how many devices there were.
"""

from ugclu_jax.devices.hosts import HEARTBEAT_SECONDS, NotJoinedError, from_first, is_first, join, sum_over_processes
from ugclu_jax.devices.layouts import layout, predict_program, spread
from ugclu_jax.devices.placement import (
    AXIS,
    Devices,
    Parallel,
    check_batch_sizes,
    filled,
    gather,
    replicate,
    select,
    shard_rows,
)

__all__ = [
    "AXIS",
    "HEARTBEAT_SECONDS",
    "Devices",
    "NotJoinedError",
    "Parallel",
    "check_batch_sizes",
    "filled",
    "from_first",
    "gather",
    "is_first",
    "join",
    "layout",
    "predict_program",
    "replicate",
    "select",
    "shard_rows",
    "spread",
    "sum_over_processes",
]
