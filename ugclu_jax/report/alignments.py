"""What `experiments.alignment` measured, in a run's folder."""

import json
from pathlib import Path
from typing import Any

FORMS = ("fast", "every")
"""Where the task's gradient stands: in the fast step alone, as in the paper, or in every inner step."""


def file_of(run_dir: Path, seed: int, epochs: int) -> Path:
    """Where a point lies in a run's folder."""
    return run_dir / "alignment" / f"{seed}-{epochs}.json"


def read(run_dir: Path) -> list[dict[str, Any]]:
    """Every point of a run's folder, by epochs and seed.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    paths = list((run_dir / "alignment").glob("*.json"))
    if not paths:
        raise ValueError(f"{run_dir} has no alignment/SEED-EPOCHS.json: run experiments.alignment there")
    return sorted((json.loads(path.read_text()) for path in paths), key=lambda each: (each["epochs"], each["seed"]))
