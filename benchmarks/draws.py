"""The batches that a request of the library draws, as arrays for another program to run on."""

from typing import NamedTuple

import jax
import numpy as np

from benchmarks.cases import Case
from ugclu_jax import buffer as buffer_lib
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.types import Array, Batch, PyTree


class Draws(NamedTuple):
    """Every batch of one unlearn request, inputs as stored, `[..., B, H, W, channels]`."""

    mask_task: Batch  # [n, B]
    mask_remain: Batch  # [n, B]
    task: Batch  # [K, B]
    remain: Batch  # [K, J, B]


def draws(case: Case) -> Draws:
    """The draws of `ugclu.ug_clu` for the case's key; its keys are split here as they are there."""
    settings = case.settings
    buffer = buffer_lib.remove(case.state.buffer, case.task.ids)
    mask_key, loop_key = jax.random.split(case.rng_key)
    mask_task_key, mask_remain_key = jax.random.split(mask_key)
    mask_shape = (settings.saliency_batches, settings.task_batch_size)

    def step(key: Array) -> tuple[Batch, Batch]:
        task_key, remain_key, _ = jax.random.split(key, 3)
        return (
            from_task(task_key, case.task, (settings.task_batch_size,)),
            from_buffer(remain_key, buffer, (settings.inner_steps, settings.remain_batch_size)),
        )

    drawn: PyTree = Draws(
        from_task(mask_task_key, case.task, mask_shape),
        from_buffer(mask_remain_key, buffer, mask_shape),
        *jax.vmap(step)(jax.random.split(loop_key, settings.outer_steps)),
    )
    return jax.tree.map(np.asarray, drawn)
