"""How well the evidence that a model's folder can give without an oracle predicts the distance to retraining.

    python -m experiments.oracle_free --requests 50
    python -m experiments.oracle_free --smoke

One network is trained, and then asked `--requests` times, each time from that same state: another share of random
examples, or of one class, is unlearned by another method and number of steps, from nothing at all to far too much.
After each request stand what an audit says without an oracle (the population attack, RMIA against small networks that
were trained on the buffer, accuracy and loss on what was unlearned, drift), and the true distance: the mean Hellinger
distance on the unlearned inputs to networks retrained without them, over that of these among themselves. The table is
Spearman's rank correlation of each estimate with it, with a bootstrap interval over requests; below it stand the
misses: requests that an attack passes (its interval holds ½) while the model is more than twice the floor away.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from scipy.stats import spearmanr

from ugclu_jax import data, files
from ugclu_jax.data.cuts import subset
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.living import audit, measures, serving
from ugclu_jax.living.held import Held, filled, fresh_buffers, inserted
from ugclu_jax.living.network import Described

METHODS = ("ug_clu", "finetune_remain", "gradient_ascent", "neg_grad_plus", "salun", "do_nothing")
STEPS = (2, 10, 40)
ESTIMATES = ("attack", "rmia", "accuracy", "loss", "drift_held_out", "drift_buffer")
FAR = 2.0
"""Times the floor beyond which a pass is a miss."""


class Request(NamedTuple):
    """One request of the study."""

    method: str
    steps: int
    rows: np.ndarray
    of: str  # random, or class


class Found(NamedTuple):
    """What was measured after it."""

    request: Request
    estimates: dict[str, float]
    passed: dict[str, bool]  # of the attacks: whether the interval holds ½
    distance: float  # to the oracles
    floor: float  # among them


def requests(labels: np.ndarray, number: int, seed: int) -> list[Request]:
    """Requests of every method, size and strength in turn, on examples that are drawn anew for each."""
    draw, made = np.random.default_rng(seed), []
    for each in range(number):
        method, steps = METHODS[each % len(METHODS)], STEPS[(each // len(METHODS)) % len(STEPS)]
        if each % 2:
            rows, of = np.flatnonzero(labels == draw.integers(labels.max() + 1)), "class"
            rows = draw.choice(rows, max(len(rows) // 2, 8), replace=False)
        else:
            rows, of = draw.choice(len(labels), max(len(labels) // 20, 16), replace=False), "random"
        made.append(Request(method, steps, np.sort(rows), of))
    return made


def study(dataset: data.Dataset, model: str, number: int, smoke: bool) -> list[Found]:
    """Serve every request from the same state, and measure."""
    capacity, epochs = (60, 2) if smoke else (500, 12)

    def described(steps: int) -> Described:
        kind = {"settings": {"outer_steps": steps, "inner_steps": 5}}
        settings = {
            "model": model,
            "capacity": capacity,
            "oracle": {"epochs": epochs, "batch_size": 32},
            "learn": kind,
            "unlearn": kind,
        }
        shape, held_out = dataset.train_inputs.shape[1:], min(len(dataset.test_labels), 1000)
        return Described(
            dataset.class_names, "arrays", shape, str(dataset.train_inputs.dtype), dataset.scale, dataset.mean,
            dataset.std, settings=settings, held_out=held_out,
        )  # fmt: skip

    base = described(STEPS[0])
    inputs, labels = dataset.train_inputs, dataset.train_labels
    everything = serving.examples(inputs, labels.tolist(), base)
    buffers = fresh_buffers(base, jax.random.key(1))
    rows = np.arange(len(labels))
    test = rows[: min(len(dataset.test_labels), base.held_out)] + len(labels)
    tested = serving.examples(dataset.test_inputs[: len(test)], dataset.test_labels[: len(test)].tolist(), base)
    blank = jax.tree.map(lambda x: x[0], serving.training(base)(jax.random.key(0)[None], everything))
    held = Held(base, blank[0], blank[1], inserted(buffers[0], everything, rows), inserted(buffers[1], tested, test))
    return [
        _served(held._replace(described=described(asked.steps)), asked, inputs, labels, place)
        for place, asked in enumerate(requests(labels, number, seed=0))
    ]


def _served(held: Held, asked: Request, inputs: np.ndarray, labels: np.ndarray, place: int) -> Found:
    key = jax.random.fold_in(jax.random.key(2), place)
    gone, own = inputs[asked.rows], labels[asked.rows]
    task = serving.examples(gone, own.tolist(), held.described)
    after = serving.serve(key, held, asked.method, "unlearn", task, asked.rows, asked.rows).held
    metrics = measures.of_request(held, after, gone, own)
    sample, known, _ = filled(after.buffer)
    # Programs are those of the first strength: what is trained from scratch is the same for all.
    same = held._replace(described=held.described)
    small = serving.examples(sample, known.tolist(), same.described)
    references = _networks(same.described, small, 4, 3)
    against = audit.against_references(after, references, audit.Gone(gone, own, len(own)))
    staying = np.setdiff1d(np.arange(len(labels)), asked.rows)
    oracles = _networks(
        held.described, serving.examples(inputs[staying], labels[staying].tolist(), held.described), audit.ORACLES, 4
    )
    true = audit.distances(after, oracles, gone)
    attack = metrics["attack"]["area"][1]
    area = [0.5, 0.0, 1.0] if against is None else against["area"]
    estimates = {
        "attack": abs(attack[0] - 0.5),
        "rmia": abs(area[0] - 0.5),
        "accuracy": metrics["unlearned"]["accuracy"][1][0],
        "loss": metrics["unlearned"]["loss"][1][0],
        "drift_held_out": metrics["held_out"]["moved"][0],
        "drift_buffer": metrics["buffer"]["moved"][0],
    }
    passed = {"attack": attack[1] <= 0.5 <= attack[2], "rmia": area[1] <= 0.5 <= area[2]}
    return Found(asked, estimates, passed, true["hellinger"], true["hellinger_floor"])


def _networks(described: Described, task: Any, number: int, seed: int) -> list[Any]:
    keys = jax.random.split(jax.random.key(seed), number)
    trees = serving.training(described)(keys, task)
    return [jax.tree.map(lambda x, s=s: x[s], trees) for s in range(number)]


def correlation(estimate: Sequence[float], distance: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's rank correlation and its 95 % bootstrap interval over requests.

    >>> correlation([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 5.0, 9.0])[0]
    1.0
    """
    x, y, draw = np.asarray(estimate), np.asarray(distance), np.random.default_rng(0)
    values = []
    for _ in range(500):
        rows = draw.integers(len(x), size=len(x))
        if len(set(x[rows])) > 1 and len(set(y[rows])) > 1:
            values.append(spearmanr(x[rows], y[rows]).statistic)
    low, high = np.quantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
    whole = spearmanr(x, y).statistic if len(set(x.tolist())) > 1 else np.nan
    return float(whole), float(low), float(high)


def lines(found: Sequence[Found]) -> list[str]:
    """The table and the misses, as Markdown."""
    excess = [each.distance / each.floor for each in found]
    said = ["| estimate | rank correlation with the distance to the oracles | 95 % |", "| --- | ---: | --- |"]
    for name in ESTIMATES:
        whole, low, high = correlation([each.estimates[name] for each in found], excess)
        said.append(f"| {name} | {whole:.2f} | {low:.2f} … {high:.2f} |")
    for name in ("attack", "rmia"):
        passes = [(each, far) for each, far in zip(found, excess, strict=True) if each.passed[name]]
        misses = [f"{each.request.method} ({each.request.of}, {far:.1f}×)" for each, far in passes if far > FAR]
        said.append("")
        said.append(
            f"{name} passes {len(passes)} of {len(found)} requests; of these {len(misses)} are more than {FAR:g} times "
            f"the floor from the oracles: {', '.join(misses) or 'none'}."
        )
    return said


def main(
    dataset: str = "fashion_mnist",
    directory: Path | None = None,
    model: str = "mlp",
    per_class: int = 200,
    requests: int = 50,
    out: Path | None = None,
    smoke: bool = False,
) -> int:
    """Study the estimates that a model's folder gives without an oracle.

    Args:
        dataset: by name.
        directory: of its files.
        model: network.
        per_class: training examples of each class.
        requests: to unlearn.
        out: JSON file of every request's numbers.
        smoke: the smallest size that takes every step.
    """
    console, errors = consoles()
    try:
        options = data.DataOptions() if directory is None else data.DataOptions(directory=directory)
        loaded = data.load("digits" if smoke else dataset, data.DataOptions() if smoke else options)
        cut = subset(loaded, 20 if smoke else per_class, seed=0)
        found = study(cut, model, len(METHODS) if smoke else requests, smoke)
    except (ValueError, OSError) as error:
        say(errors, "Error:", str(error))
        return 2
    for line in lines(found):
        say(console, "", line)
    if out is not None:
        rows = [
            {
                "method": each.request.method,
                "steps": each.request.steps,
                "of": each.request.of,
                "examples": len(each.request.rows),
                **each.estimates,
                "distance": each.distance,
                "floor": each.floor,
            }
            for each in found
        ]
        files.write(out, json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(ended(lambda: tyro.cli(main, prog="python -m experiments.oracle_free")))
