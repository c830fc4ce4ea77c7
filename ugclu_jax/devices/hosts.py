"""The processes of a run, one a host: they join, process 0 speaks for all, and sums go over them."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_SECONDS = 30
"""After which a host that has died ends the others."""


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
        where: dict[str, Any] = {}
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
