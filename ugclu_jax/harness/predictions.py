"""Outputs of networks on the data of a plan."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ugclu_jax import devices
from ugclu_jax.evaluation import Logits
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.plan import Plan
from ugclu_jax.learner import predict_program
from ugclu_jax.types import Array, ModelState, Params

BATCHES_GATHERED = 4
"""Prediction batches whose inputs are copied together for an evaluation that does not read all of them."""


def prediction_batch(example_shape: tuple[int, ...]) -> int:
    """Examples that pass forward at a time in evaluation: about a million numbers, 100 examples at most.

    On a CPU larger batches leave its caches: 60,000 images took the small CNN three times as long by 500 as by 100.

    >>> prediction_batch((28, 28, 1)), prediction_batch((64, 64, 3))
    (100, 85)
    """
    return max(1, min(100, 2**20 // math.prod(example_shape)))


class Predictions:
    """One compiled forward pass, for all networks of a plan."""

    def __init__(self, plan: Plan, data: DeviceData) -> None:
        self.plan, self.data = plan, data
        self.batch = prediction_batch(data.dataset.train_inputs.shape[1:])
        # Of inputs that lie as the data do.
        self.predict: Callable[[Params, ModelState, Any], Array] = (
            devices.predict_program(plan.network.apply_fn, plan.devices, self.batch)
            if data.divided
            else predict_program(plan.network.apply_fn, self.batch)
        )

    def logits(self, params: Params, model_state: ModelState) -> Logits:
        """Outputs of one network on both splits."""
        predict = self.predict
        return Logits(
            np.asarray(predict(params, model_state, self.data.train_inputs)),
            np.asarray(predict(params, model_state, self.data.test_inputs)),
        )

    def measured_logits(self, index: int, params: Params, model_state: ModelState) -> Logits:
        """Outputs of one network on what the evaluation of a request looks at."""
        dataset, view, outputs = self.data.dataset, self.plan.steps[index].view, []
        # Divided inputs are passed over where they lie: to gather rows would move them between devices.
        if self.data.divided and self.plan.config.evaluation_examples is None:
            return view.of(self.logits(params, model_state))
        for side in ("train", "test"):
            inputs, resident = getattr(dataset, f"{side}_inputs"), getattr(self.data, f"{side}_inputs")
            read = getattr(view, side)
            found = np.empty((len(read), dataset.num_classes), np.float32)
            # Of one size for all requests, so that the program is compiled once.
            size = min(BATCHES_GATHERED * self.batch, max(len(getattr(step.view, side)) for step in self.plan.steps))
            for start in range(0, len(read), size):
                rows = read[start : start + size]
                padded = np.resize(rows, size)
                chosen = resident[padded] if isinstance(resident, jax.Array) else self.data.placed(inputs[padded])
                found[start : start + size] = np.asarray(self.predict(params, model_state, chosen))[: len(rows)]
            outputs.append(found)
        return Logits(*outputs)
