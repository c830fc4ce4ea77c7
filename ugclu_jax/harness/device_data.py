"""A plan's data where its programs want them: whole on a device, divided over several, or in host memory."""

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import devices
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.harness.plan import Plan, RunFailed
from ugclu_jax.streaming import HostArray, ShardedArray
from ugclu_jax.types import Array, Examples


def training_inputs(plan: Plan, divided: bool) -> Array | HostArray | ShardedArray:
    """Where the training inputs lie: divided over the devices, whole on each, or in host memory where they do not fit.

    Raises:
        RunFailed: the share of a device does not fit.
    """
    inputs, budget = plan.scenario.dataset.train_inputs, plan.config.device_budget_mb * 2**20
    if not divided:
        return jnp.asarray(inputs) if inputs.nbytes <= budget else HostArray(inputs)
    if inputs.nbytes > budget * plan.devices.count:
        raise RunFailed(
            f"training inputs of {inputs.nbytes / 2**20:.0f} MiB, divided over {plan.devices.count} devices, are above "
            "--device-budget-mb: raise it, or use more devices"
        )
    return devices.shard_rows(inputs, plan.devices)


class DeviceData:
    """Inputs and labels of a plan, and the fingerprint that names what was trained on them."""

    def __init__(self, plan: Plan) -> None:
        self.dataset, self.devices = plan.scenario.dataset, plan.devices
        # Whole where each seed has a device of its own.
        self.divided = plan.devices.count > 1 and plan.config.over != "seeds"
        self.train_inputs = training_inputs(plan, self.divided)
        self.train_labels = jnp.asarray(self.dataset.train_labels)
        self.test_inputs = self.placed(self.dataset.test_inputs)
        read_here = self.dataset.digests(jax.process_index(), jax.process_count())
        self.fingerprint = self.dataset.fingerprint(devices.sum_over_processes(read_here))

    def placed(self, inputs: np.ndarray) -> Array | ShardedArray:
        """Inputs to predict on, divided as the training inputs are."""
        return devices.shard_rows(inputs, self.devices) if self.divided else jnp.asarray(inputs)

    def examples(self, ids: np.ndarray, size: int | None = None) -> Examples:
        """Ids as the compiled programs take them."""
        padded = pad_ids(ids, size or bucket_size(len(ids)))
        return Examples(self.train_inputs, self.train_labels, jnp.asarray(padded), jnp.asarray(len(ids), jnp.int32))
