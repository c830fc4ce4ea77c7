"""How many bytes a memory buffer takes, for the data of a run; nothing is allocated."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ugclu_jax import buffer
from ugclu_jax.harness.config import from_dict
from ugclu_jax.harness.plan import load_dataset
from ugclu_jax.harness.scenarios import SCENARIOS
from ugclu_jax.report.auditable import read_config


def sizes_in_bytes(run_dir: Path, sizes: Sequence[int]) -> tuple[int, list[int]]:
    """Bytes of an example's input and label, and of buffers of some capacities for the data of a run.

    Raises:
        ValueError, OSError: see `read_config` and `load_dataset`.
    """
    config = read_config(run_dir)
    dataset = load_dataset(from_dict(SCENARIOS["class_wise"].config, {k: config[k] for k in ("dataset", "data")}))
    shape, dtype = dataset.train_inputs.shape[1:], dataset.train_inputs.dtype

    def own(size: int) -> int:
        shapes = jax.eval_shape(lambda key: buffer.init(size, shape, dtype, key), jax.random.key(0))
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    return math.prod(shape) * dtype.itemsize + np.dtype(np.int32).itemsize, [own(size) for size in sizes]
