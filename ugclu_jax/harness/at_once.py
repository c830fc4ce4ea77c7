"""How many seeds one program serves, and how many of them under one `vmap`: by a measured table, within the memory.

`python -m benchmarks.many_at_once` measures it (docs/benchmarks.md). A dense layer under `vmap` is one product of
matrices for all seeds; a convolution becomes a grouped one. What is not in the table was not measured to gain.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from ugclu_jax.data.dataset import Dataset
from ugclu_jax.harness.budget import forms_of_ug_clu
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.estimate import device_bytes, in_bytes
from ugclu_jax.harness.network import Network
from ugclu_jax.programs import group_size
from ugclu_jax.types import PyTree

SHARE = 0.25
"""Of a device's memory that what is served at once may take: inputs, compiler and evaluation need room, too."""
LANES: Mapping[str, int] = {"mlp": 32}
"""Seeds under one `vmap` by network, where that was measured to be faster than one after another on a CPU."""
OTHERS = 1
"""Of the networks that are not in the table: one after another."""
LEAST_ORACLES = 3
"""Trained by one program whatever the network: it is compiled once for the seeds that a run has by default."""
COPIES = 5
"""Of a network in training: parameters, gradient, update, two moments or fast weights and the mask."""


class Grouping(NamedTuple):
    """How the seeds of a run are served on each device.

    Attributes:
        size: seeds of one program; 1 = a program for each.
        lanes: of them, under one `vmap`; the others one after another within the program.
        bytes: what such a program holds, estimated from above.
    """

    size: int
    lanes: int
    bytes: int

    def told(self, wanted: int) -> str:
        """In words, for who asked for so many seeds of one program.

        >>> Grouping(16, 8, 5 * 10**8).told(64)
        '16 of a method in one program, 8 of them under one vmap, about 500 MB; more than 16 of 64 do not fit'
        """
        by = "under one vmap" if self.lanes == self.size else f"{self.lanes} of them under one vmap"
        by = "one after another" if self.lanes == 1 else by
        less = f"; more than {self.size} of {wanted} do not fit" if self.size < wanted else ""
        return f"{self.size} of a method in one program, {by}, about {in_bytes(self.bytes)}{less}"


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all leaves.

    >>> tree_bytes({"a": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.uint8)})
    26
    """
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def activation_bytes(network: Network, example: np.ndarray) -> int:
    """What one example leads to on its way through a network: every intermediate array counts, though some are fused.

    Args:
        network: whose `apply_fn` is traced, not run.
        example: [...] inputs of one example.
    """
    params, model_state = jax.eval_shape(network.init_fn, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((8, *example.shape), example.dtype)

    def forward(params: PyTree, model_state: PyTree, inputs: PyTree, rng_key: PyTree) -> PyTree:
        return network.apply_fn(params, model_state, inputs, train=True, rng_key=rng_key)

    traced = jax.make_jaxpr(forward)(params, model_state, inputs, jax.random.key(0))
    return _outputs(traced.jaxpr) // 8


def _outputs(jaxpr: Any) -> int:
    """Bytes of the results of all equations; of one that has equations inside, those inside are counted."""
    total = 0
    for equation in jaxpr.eqns:
        inner = list(jaxprs_in_params(equation.params))
        total += sum(map(_outputs, inner)) if inner else tree_bytes([out.aval for out in equation.outvars])
    return total


def lanes_of(config: ExperimentConfig) -> int:
    """Seeds under one `vmap`, by the measured table.

    >>> lanes_of(ExperimentConfig(model="mlp")), lanes_of(ExperimentConfig(model="resnet18"))
    (32, 1)
    """
    return LANES.get(config.model, OTHERS)


def oracles_at_once(config: ExperimentConfig, network: Network, dataset: Dataset, devices: int = 1) -> int:
    """Networks trained from scratch by one program, at most: what the table says, and no more than fit.

    Args:
        config: names model, batch size and oracles.
        network: of the configuration.
        dataset: whose examples it takes.
        devices: that share the networks.
    """
    params = tree_bytes(jax.eval_shape(network.init_fn, jax.random.key(0)))
    passing = 2 * config.oracle.batch_size * activation_bytes(network, dataset.train_inputs[0])
    fit = int(SHARE * device_bytes() / (COPIES * params + passing))
    wanted = max(LEAST_ORACLES, lanes_of(config))
    return devices * max(1, min(wanted, fit))


def wanted(config: ExperimentConfig, devices: int = 1) -> int:
    """Seeds that one program of a device would serve, whatever fits.

    >>> wanted(ExperimentConfig(model="mlp", seeds=tuple(range(9))), devices=2)
    5
    >>> wanted(ExperimentConfig(model="resnet18", seeds=(0, 1))), wanted(ExperimentConfig(seeds_at_once=4))
    (1, 1)
    """
    each = -(-len(config.seeds) // devices)
    if config.seeds_at_once != "auto":
        return min(each, config.seeds_at_once)
    return each if lanes_of(config) > 1 else 1


def grouping(
    config: ExperimentConfig, network: Network, dataset: Dataset, state_bytes: int, devices: int = 1
) -> Grouping:
    """How the seeds of a run are served, the same for all its methods.

    Args:
        config: names model, seeds and settings.
        network: of the configuration.
        dataset: whose examples it takes.
        state_bytes: of one seed, of the method that keeps most.
        devices: that share the seeds.

    Returns:
        Groups as few and as even as fit, so that one program serves them all.
    """
    params = tree_bytes(jax.eval_shape(network.init_fn, jax.random.key(0)))
    all_forms = (config.learn.settings, config.unlearn.settings, *forms_of_ug_clu(config))
    batch = max(size for own in all_forms for size in (own.task_batch_size, own.remain_batch_size))
    # The mask's statistic is of the gradient of each example.
    each = params if any(own.mask != "none" and own.saliency == "fisher" for own in all_forms) else 0
    passing = COPIES * params + batch * (2 * activation_bytes(network, dataset.train_inputs[0]) + each)
    held = 3 * state_bytes  # found, left, and on its way
    room, most = SHARE * device_bytes(), wanted(config, devices)
    lanes = max(1, min(most, lanes_of(config), int(room / (held + passing))))
    most = max(1, min(most, int((room - lanes * passing) / held)))
    size = group_size(-(-len(config.seeds) // devices), most)
    lanes = group_size(size, lanes)
    size = -(-size // lanes) * lanes  # `lax.map` would compile what is left over apart
    return Grouping(size, lanes, size * held + lanes * passing)
