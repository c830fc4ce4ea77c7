"""The report against numbers worked out by hand, on run folders made here: no training, no JAX."""

import io
import json
import math
import re
import statistics
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.report import comparison_markdown, main, read_metrics, request_table, summarise, write_html
from experiments.tables import count, kl_ratio, number, scorecard, verdict, warnings

FEATURES = ("loss", "entropy", "confidence", "modified_entropy")
STREAM = (
    ("learn", "learn task 1"),
    ("learn", "learn task 2"),
    ("learn", "learn task 3"),
    ("unlearn", "unlearn task 2"),
    ("learn", "learn task 4"),
    ("learn", "learn task 5"),
    ("unlearn", "unlearn task 4"),
)


def one_line(method="ug_clu", seed=0, request=1, kind="learn", name="learn task 1", **model):
    """A line with round numbers; keywords replace the model's."""
    numbers = {
        "LA": 0.9, "UA": None, "UA_test": None, "RA": 0.95, "TA": 0.9, "FM": 0.02,
        "MIA": dict.fromkeys(FEATURES, 0.5), "MIA_AUC": dict.fromkeys(FEATURES, 0.52),
        "KL": {"retained": 0.06, "learned": None, "unlearned": 0.4, "test": 0.08},
        "JS": {"retained": 0.02, "learned": None, "unlearned": 0.1, "test": 0.03},
        "ToW": 0.95, "relapse": None, "group_accuracy": {"task 1": 0.98},
    }  # fmt: skip
    oracle = {"LA": 0.92, "UA": None, "UA_test": None, "RA": 0.97, "TA": 0.92, "MIA": dict.fromkeys(FEATURES, 0.48),
              "MIA_AUC": dict.fromkeys(FEATURES, 0.5), "group_accuracy": {"task 1": 0.97}}  # fmt: skip
    floor = {"retained": 0.03, "learned": None, "unlearned": 0.2, "test": 0.04}
    line = {"method": method, "seed": seed, "request": request, "kind": kind, "name": name, "examples": 12000,
            "retained": 24000, "buffer": 5000, "model": numbers, "oracle": oracle,
            "noise_floor": {"KL": floor, "JS": floor},
            "cost": {"gradient_evaluations": 900, "oracle_gradient_evaluations": 7500},
            "timing": {"RTE": 3.14, "compile_seconds": 4.2, "evaluation_seconds": 1.0, "oracle_seconds": 12.0},
    }  # fmt: skip
    numbers.update(model)
    if kind == "unlearn":
        oracle["UA"] = 0.01
        numbers["UA"] = model.get("UA", 0.02)
    return line


def plausible_line(rng, method, offset, seed, request, kind, name):
    """A line as a run on five tasks might leave it."""
    learned = [1, 2, 3, 3, 4, 5, 5][request - 1]
    removed = {2} if request >= 4 else set()
    removed |= {4} if request >= 7 else set()
    tasks = {f"task {t}": t for t in range(1, 6)}
    line = one_line(method, seed, request, kind, name)

    def jitter(scale=0.006):
        return float(abs(rng.normal(0, scale)))

    for who, drop in (("model", 0.012 * offset * request), ("oracle", 0.0)):
        accuracy = {
            g: jitter() if t in removed or t > learned else 0.985 - drop * (0.4 + 0.3 * (learned - t)) - jitter()
            for g, t in tasks.items()
        }
        kept = [accuracy[g] for g, t in tasks.items() if t <= learned and t not in removed]
        line[who] |= {
            "group_accuracy": accuracy,
            "LA": float(np.mean(kept)),
            "RA": min(1.0, float(np.mean(kept)) + 0.01),
        }
        ua = (0.0 if who == "oracle" else 0.02 * offset) + jitter() if removed else None
        line[who] |= {"UA": ua, "UA_test": ua}
        line[who]["MIA"] = {f: 0.45 + 0.02 * offset + jitter(0.03) for f in FEATURES}
    floor = {"retained": 0.02, "learned": 0.02, "unlearned": 0.18 if removed else None, "test": 0.03}
    grow = offset * (1 + 0.25 * request)
    for key, value in floor.items():
        if value is not None:
            floor[key] = value * float(rng.uniform(0.9, 1.1))
            line["model"]["KL"][key] = value * grow * float(rng.uniform(0.9, 1.2))
        else:
            line["model"]["KL"][key] = None
    line["noise_floor"] = {"KL": floor, "JS": floor}
    line["model"]["FM"] = None if request == 1 else 0.006 * offset * request
    line["cost"] = {
        "gradient_evaluations": 310 if kind == "learn" else 155,
        "oracle_gradient_evaluations": 940 * request,
    }
    line["timing"] |= {"RTE": 3 + jitter(0.5), "compile_seconds": 4.1 if request in (1, 4) else 0.0}
    return line


def write_trace(folder, line, rng, steps=40):
    traces = folder / "runs" / line["method"] / f"seed-{line['seed']}" / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 1, steps)
    task = 2.3 * np.exp(-3 * ramp) if line["kind"] == "learn" else 0.1 + 3 * ramp
    np.savez(
        traces / f"{line['request']}.npz",
        task_losses=task + rng.uniform(0, 0.15, steps),
        remain_losses=0.2 + 0.1 * np.sin(6 * ramp)[:, None] + rng.uniform(0, 0.05, (steps, 2)),
        fast_norms=rng.uniform(0.5, 2, steps),
        clipped=rng.uniform(size=steps) < 0.4,
        displacement_norms=rng.uniform(0, 0.1, steps),
    )


def write_run(folder, lines, traces=True):
    """Write a run's folder as the runner leaves it."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "experiment": "task_aware", "dataset": "fashion_mnist", "model": "cnn", "seeds": [0, 1, 2], "smoke": False,
        "command": "python -m experiments.task_aware --dataset fashion_mnist", "run_dir": "runs/<script>&",
        "hyper": {"fast_learning_rate": 0.076, "clip_norm": math.inf, "saliency": {"kind": "fisher"}},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if traces:
        for line in lines:
            write_trace(folder, line, rng)
    return folder


def plausible_run(folder, methods=("ug_clu", "finetune_on_buffer"), seeds=(0, 1, 2)):
    rng = np.random.default_rng(0)
    lines = [
        plausible_line(rng, method, 1.0 + 1.2 * m, seed, request, *STREAM[request - 1])
        for m, method in enumerate(methods)
        for seed in seeds
        for request in range(1, 8)
    ]
    return write_run(folder, lines)


def rendered(lines, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(request_table(lines))
    return console.export_text()
