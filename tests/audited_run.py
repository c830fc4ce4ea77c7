"""A finished run's folder of known networks, as the runner leaves it: nothing trains.

Three requests: learn, unlearn, learn. Every network gives the label of every example 1 nat more than the rest, with
noise of its own; `NOTHING` knows the unlearned examples by 5 nats more, before and after; `AGAIN` is as oracles.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ugclu_jax import seals
from ugclu_jax.report import outputs, shown
from ugclu_jax.report.shown import Shown

METHODS = {"ug_clu+do_nothing": 5.0, "ug_clu+retrain": 0.0}
"""Nats that a method's models know the unlearned by, after the request."""
NOTHING, AGAIN = METHODS
SIZES = {"unlearned": 30, "test": 120, "retained": 20}
CLASSES = 4
KINDS = ("learn", "unlearn", "learn")
UNLEARNING = 1
PNG = base64.b64encode(b"\x89PNG no picture, but bytes").decode()


def put(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """An archive under its digest."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    seals.write(folder, name, content.getvalue())


def line(method: str, seed: int, request: int) -> dict:
    """Of metrics, with numbers that depend on the seed."""
    low = 0.5 + seed / 32
    attacks = {"loss": 0.75, "confidence": 0.5}
    past = {} if request < UNLEARNING else {str(UNLEARNING): 0.25 * (request - UNLEARNING) + seed / 32}
    groups = {"a": 0.75} | ({"b": 0.5 if method == NOTHING else low} if request > UNLEARNING else {})
    model = {"UA": low, "RA": 0.75, "TA": 0.5, "MIA": attacks, "MIA_AUC": attacks, "past_UA": past, "LA": 0.75}
    return {
        "method": method,
        "seed": seed,
        "request": request,
        "kind": KINDS[request],
        "name": f"request <{request}>",
        "model": {**model, "group_accuracy": groups},
        "oracle": {"UA": 0.25, "RA": 1.0, "TA": 0.75, "MIA": {"loss": 0.5, "confidence": 0.25}, "LA": 0.75},
        "noise_floor": {"KL": {"test": 0.1}},
    }


def write_lines(folder: Path, lines: Sequence[Mapping]) -> None:
    """metrics.jsonl, as the runner writes it."""
    seals.write(folder, "metrics.jsonl", "".join(json.dumps(each) + "\n" for each in lines).encode())


def write_run(folder: Path, models: int = 5, oracles: int = 6, sizes: Mapping[str, int] = SIZES) -> Path:
    """The folder of a run, with some examples kept to be shown."""
    rng, folder = np.random.default_rng(0), Path(folder)
    labels = {name: np.arange(size) % CLASSES for name, size in sizes.items()}

    def drawn(number: int, name: str, known: float = 0.0) -> np.ndarray:
        """Logits of networks; what all of them share of an example is drawn from its number."""
        size = sizes[name]
        of_example = np.random.default_rng(size).normal(size=(size, CLASSES))
        logits = of_example + rng.normal(size=(number, size, CLASSES))
        logits[:, np.arange(size), labels[name]] += 1 + known * (name == "unlearned")
        return logits.astype(np.float32)

    config = {"experiment": "toy", "methods": [*METHODS], "seeds": [*range(models)]}
    folder.mkdir(parents=True, exist_ok=True)
    seals.write(folder, "config.json", json.dumps(config).encode())
    seals.write(folder, "stream.json", json.dumps([{kind: {"ids": [0]}} for kind in KINDS]).encode())
    write_lines(folder, [line(m, s, r) for m in METHODS for s in range(models) for r in range(3)])
    found = {name: drawn(oracles, name) for name in sizes}
    for name, size in sizes.items():
        found |= {outputs.LABELS + name: labels[name], outputs.ROWS + name: 3 * np.arange(size)}
    put(folder, outputs.oracle_file(UNLEARNING), found)
    before = {name: drawn(models, name, METHODS[NOTHING]) for name in sizes}
    for method, known in METHODS.items():
        after = before if method == NOTHING else {name: drawn(models, name, known) for name in sizes}
        for seed in range(models):
            own = {name: after[name][seed] for name in sizes}
            own |= {outputs.BEFORE + name: before[name][seed] for name in sizes}
            put(folder, outputs.model_file(method, seed, UNLEARNING), own)
    kept = [Shown(0, "a <b>", shown.PICTURE, PNG), Shown(6, "b", shown.TEXT, "a \x1b[2J<i>text</i>")]
    shown.write(folder, UNLEARNING, kept)
    return folder
