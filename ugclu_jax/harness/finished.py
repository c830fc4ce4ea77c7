"""A run that is finished: what it left is read back on the host, and nothing is placed on a device or compiled."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ugclu_jax import checkpoints
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.server import first_state
from ugclu_jax.types import PyTree

Lines = dict[tuple[str, int], list[dict[str, Any]]]
"""Of each method and seed."""


def finished_lines(plan: Plan) -> Lines | None:
    """The lines of a run of whose methods and seeds all have finished; None where something is left to do.

    Each method's and seed's last checkpoint is read back whole, and those before it must hold nothing of what was
    unlearned after them. Whatever is amiss is left to the run itself, which names and mends it.
    """
    if jax.process_count() > 1:
        return None
    found: Lines = {}
    for method in plan.config.methods:
        like = _like(plan, method)
        for seed in plan.config.seeds:
            lines = _lines(plan, method, seed, like)
            if lines is None:
                return None
            found[method, seed] = lines
    return found


def _like(plan: Plan, method: str) -> PyTree:
    """A state of zeros in host memory, of the structure of a method's own."""
    dtype = jax.dtypes.canonicalize_dtype(plan.scenario.dataset.train_inputs.dtype)
    shapes = jax.eval_shape(functools.partial(first_state, plan, plan.entries[method], 0, dtype))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _lines(plan: Plan, method: str, seed: int, like: PyTree) -> list[dict[str, Any]] | None:
    folder, last = plan.folder.checkpoints(method, seed), len(plan.steps) - 1
    there = checkpoints.requests(folder)
    if not there or there[-1] != last or len(there) > plan.config.keep or _left_by_a_kill(folder):
        return None
    # Of the run's first start: what was unlearned since may be gone.
    whose = plan.folder.identity(method, seed, plan.settings["made_of"]["data"]["fingerprint"])
    lines: list[dict[str, Any]] | None = None
    for request in there:
        try:
            metadata = checkpoints.restore(folder, request, like, {**whose, "request": request}).metadata
        except checkpoints.CorruptCheckpointError:
            return None
        after = {step.index for step in plan.steps[request + 1 :] if step.request.kind == "unlearn"}
        if not after <= set(metadata.get("purged", [])):
            return None
        lines = metadata["lines"]
    return lines


def _left_by_a_kill(folder: Path) -> bool:
    return any(not path.name.isdigit() for path in folder.iterdir())
