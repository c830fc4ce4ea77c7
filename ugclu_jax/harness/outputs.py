"""What a run keeps of the outputs of its models and oracles: those that evidence is computed from."""

import io
from collections.abc import Mapping

import numpy as np

from ugclu_jax import devices, seals
from ugclu_jax.evaluation import Logits
from ugclu_jax.harness.plan import Plan, Step
from ugclu_jax.report import outputs


def is_milestone(step: Step, steps: int) -> bool:
    """Whether outputs are kept after a request: it unlearns, or is the last, and something is unlearned."""
    return step.situation.unlearned is not None and (step.request.kind == "unlearn" or step.index == steps - 1)


def taken(step: Step, logits: Logits, prefix: str = "") -> dict[str, np.ndarray]:
    """The outputs `[..., N, C]` of each set, by its name behind a prefix, from those of the request's view."""
    return {
        prefix + name: getattr(logits, split)[..., step.view.places(split, rows), :]
        for name, (split, rows) in step.kept.items()
    }


def write_model(plan: Plan, method: str, seed: int, step: Step, after: Logits, before: Logits | None) -> None:
    """Keep the outputs of a model after a request, and of the one that it found; the first process does."""
    if is_milestone(step, len(plan.steps)):
        found = taken(step, before, outputs.BEFORE) if before is not None else {}
        write(plan, outputs.model_file(method, seed, step.index), taken(step, after) | found)


def write_oracles(plan: Plan, step: Step, logits: Logits) -> None:
    """Keep the outputs of the oracles of a request, and which examples they are of."""
    if not is_milestone(step, len(plan.steps)):
        return
    dataset = plan.scenario.dataset
    labels = {"train": dataset.train_labels, "test": dataset.test_labels}
    found = taken(step, logits)
    for name, (split, rows) in step.kept.items():
        found |= {outputs.ROWS + name: rows, outputs.LABELS + name: labels[split][rows]}
    write(plan, outputs.oracle_file(step.index), found)


def write(plan: Plan, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays in a file of the run's folder; the first process does."""
    if devices.is_first():
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        seals.write(plan.folder.path, name, content.getvalue())
