"""Many models and many oracles for little: outputs of hundreds of them, and what evidence says of the two sets.

Question: are models after unlearning distributed like models that never saw the data? Measures that answer it want 100
models and as many oracles, and of each its outputs alone.

    python -m experiments.many_models --tasks 1 --seeds 0:512 --oracle-seeds 512          # embedded digits
    python -m experiments.many_models --dataset fashion_mnist --tasks 1 --seeds 0:32 --oracle-seeds 32

With JAX_NUM_CPU_DEVICES=2 and --devices 2 --over seeds a group of models is served on each of two cores.

The stream up to its first unlearn request is one program, which serves a group of seeds at once: no checkpoint, no
metrics of single models. The run folder gets models/METHOD/SEED.npz, the outputs of each model on the examples that the
last request is measured on, and measures.json. Oracles enter their bank, which all programs share. The same command
takes up what a kill left, and trains what is missing where it asks for more seeds. Every other setting is that of the
scenario; `--evaluation-examples` bounds what is kept of a large data set.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import bank, devices, oracle
from ugclu_jax.ensemble import ensemble_program
from ugclu_jax.files import write
from ugclu_jax.harness.answers import ANSWERS
from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.clock import Clock, peak_bytes
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.options import ScenarioName
from ugclu_jax.harness.oracles import ORACLE_KEY
from ugclu_jax.harness.plan import Plan, RunFailed
from ugclu_jax.harness.run import Run, start
from ugclu_jax.harness.scenarios import Scenario
from ugclu_jax.harness.signals import Stop
from ugclu_jax.harness.stream_run import resumable
from ugclu_jax.harness.terminal import say
from ugclu_jax.programs import filled_to, mapped
from ugclu_jax.report import grid
from ugclu_jax.report.visible import visible
from ugclu_jax.types import PyTree

MOST_IN_A_GROUP = 64
"""Models of one program at most: a kill loses so many."""
LEAST = 3
"""Models of a set that U-LiRA can compare."""
MOST_MEASURED = 200
"""Unlearned examples that the measures read: they compare all pairs of models on each."""


@dataclass(frozen=True)
class ManyOptions:
    """What is served."""

    scenario: ScenarioName = "random_sample"
    """Whose stream is served; all other settings are those of this experiment."""


class Spent:
    """What models and oracles cost."""

    def __init__(self) -> None:
        self.seconds, self.compile_seconds, self.gradient_evaluations, self.models = 0.0, 0.0, 0.0, 0


def models(run: Run, method: str, rows: np.ndarray, stop: Stop, spent: Spent) -> np.ndarray:
    """Logits `[S, R, C]` of the models of a method on some training rows of the view, from the run's folder or served.

    Raises:
        RunFailed: a model diverged.
    """
    plan, data, view, server = run.plan, run.data, run.plan.steps[-1].view, run.server
    entry, dataset = plan.entries[method], plan.scenario.dataset
    inputs = jnp.asarray(np.concatenate([dataset.train_inputs[view.train], dataset.test_inputs[view.test]]))
    stream = [(step.request.kind, data.examples(step.request.ids)) for step in plan.steps]
    lanes = server.group.lanes
    layout = devices.spread(plan.devices, 1, lanes) if server.devices > 1 else mapped(1, lanes)
    serve = ensemble_program(entry.method, plan.network.init_fn, plan.config.capacity, layout)

    def train(some: tuple[int, ...], size: int) -> Iterator[PyTree]:
        stop.check(f"models {some[0]} … {some[-1]} of {method}")
        fit = -(-size // (lanes * server.devices)) * lanes * server.devices  # whole `vmap`s on each device
        keys = jax.vmap(jax.random.key)(jnp.array(some, jnp.uint32))
        answers = serve(filled_to(fit, keys), stream, entry.hyper, inputs)
        spent.seconds += answers.cost.seconds
        spent.compile_seconds += answers.cost.compile_seconds
        spent.gradient_evaluations += float(answers.gradient_evaluations[: len(some)].sum())
        spent.models += len(some)
        yield from ({"logits": logits} for logits in answers.logits[: len(some)])

    like = {"logits": jax.ShapeDtypeStruct((len(inputs), dataset.num_classes), jnp.float32)}
    folder, at_once = plan.folder.path / "models" / method, min(server.group_size, MOST_IN_A_GROUP)
    kept: dict[int, np.ndarray] = {}
    for seed, tree in bank.members(folder, plan.config.seeds, like, train, at_once=at_once):
        if not np.isfinite(tree["logits"]).all():
            raise RunFailed(
                f"{method}, seed {seed}: its outputs are not finite. Lower the learning rates and start a new "
                f"--run-dir; this one resumes with:\n  {plan.resume_command}"
            )
        kept[seed] = tree["logits"][rows]  # training rows stand first
    return np.stack([kept[seed] for seed in plan.config.seeds])


def oracles(run: Run, rows: np.ndarray, stop: Stop) -> np.ndarray:
    """Logits `[O, R, C]` of the oracles on some training rows of the view, from their bank."""
    plan, step, kept = run.plan, run.plan.steps[-1], dict[int, np.ndarray]()
    seeds = tuple(range(plan.config.oracle_seeds))
    for seed, one in run.oracles.trained(step.situation.retained, seeds, ORACLE_KEY):
        stop.check(f"oracle {len(kept) + 1} of {len(seeds)}")
        kept[seed] = one.logits.train[step.view.train[rows]]
    return np.stack([kept[seed] for seed in seeds])


def halves(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of a set of models: what a measure finds between them is what it finds where there is nothing."""
    half = len(logits) // 2
    return logits[:half], logits[half : 2 * half]


def measures(found: np.ndarray, known: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What evidence says of two sets of models `[M, N, C]` and `[O, N, C]` on the same examples."""
    from ugclu_jax import evidence  # it stands on scipy, which `--help` need not wait for

    distance, normal = evidence.energy_distance(found, known), evidence.gaussian_klom(found, known, labels)
    single, curve = evidence.klom(found, known, labels), evidence.roc(*evidence.u_lira(found, known, labels))
    return {
        "accuracy": float(np.mean(found.argmax(2) == labels)),
        "energy distance": distance.value,
        "its standard error": distance.standard_error,
        "KLoM, mean": float(single.mean()),
        "KLoM, 95th percentile": float(np.quantile(single, 0.95)),
        "Gaussian KLoM, mean": float(normal.mean()),
        "forgetting quality": evidence.forgetting_quality(found, known, labels).value,
        "U-LiRA, area": curve.auc,
        "U-LiRA, TPR at FPR .01": evidence.true_positives_at(curve, 0.01).rate,
    }


def work(plan: Plan, stop: Stop) -> None:
    """Serve every method, train the oracles, and say what was found and what it cost."""
    step, results = plan.steps[-1], dict[str, dict[str, float]]()
    unlearned = step.view.situation.unlearned
    assert unlearned is not None  # the stream ends with a request that unlearns
    rows = (
        unlearned
        if len(unlearned) <= MOST_MEASURED
        else np.random.default_rng(0).permutation(unlearned)[:MOST_MEASURED]
    )
    labels, began = step.view.labels.train[rows], time.perf_counter()
    with Clock() as clock, resumable(plan), plan.progress:
        run = start(plan, clock)
        with clock.spending("oracles"):
            known = oracles(run, rows, stop)
        results["oracles, halves"] = measures(*halves(known), labels)
        for method in plan.config.methods:
            spent = Spent()
            results[method] = measures(models(run, method, rows, stop, spent), known, labels)
            say(plan.console, "", cost_of(method, spent))
    spent_on_oracles = oracle.gradient_evaluations(len(step.situation.retained), plan.config.oracle)
    say(
        plan.console,
        "",
        f"oracles: {len(known)}, in {clock.spent['oracles']:.1f} seconds besides compilation, "
        f"{spent_on_oracles:,.0f} gradient evaluations each",
    )
    heads = [measure.replace(",", "").split() for measure in results["oracles, halves"]]
    found = [
        grid.Row(visible(name), [grid.Cell(f"{value:.3g}") for value in row.values()]) for name, row in results.items()
    ]
    plan.console.print(grid.Grid("method", heads, found, right=True), soft_wrap=True)
    about = {"models": len(plan.config.seeds), "oracles": len(known), "examples": len(rows), "measures": results}
    write(plan.folder.path / "measures.json", json.dumps(about, indent=2) + "\n")
    peak = peak_bytes() / 2**30
    said = f"In all {time.perf_counter() - began:.1f} seconds, {peak:.2f} GiB at most; {plan.folder.path}"
    say(plan.console, "", said)


def cost_of(method: str, spent: Spent) -> str:
    """What the models of a method cost, in words.

    >>> cost_of("er", Spent())
    'er: all models were there'
    """
    if not spent.models:
        return f"{method}: all models were there"
    return (
        f"{method}: {spent.models} models in {spent.seconds:.1f} seconds besides {spent.compile_seconds:.1f} of "
        f"compilation, {1000 * spent.seconds / spent.models:.1f} ms and "
        f"{spent.gradient_evaluations / spent.models:,.0f} gradient evaluations each"
    )


def job(options: ManyOptions, config: ExperimentConfig) -> Job:
    """Refuse what has no models of its own, too few to compare, and what no one program serves."""
    for method in config.methods:
        if split_name(method)[1] in ANSWERS:
            raise ValueError(f"methods has {method}, which changes answers and makes no models: leave it out")
    if len(config.seeds) < LEAST:
        raise ValueError(
            f"seeds are {len(config.seeds)}: distributions are compared, give {LEAST} or more, such as 0:32"
        )
    if config.oracle_seeds < 2 * LEAST:
        raise ValueError(
            f"oracle_seeds must be at least {2 * LEAST}, got {config.oracle_seeds}: their halves are compared"
        )
    if config.devices != 1 and config.over == "batch":
        raise ValueError("devices share batches: give --over seeds, for models are served beside one another")

    def check(scenario: Scenario) -> None:
        if scenario.first_from_scratch:
            raise ValueError("regime trains its first request from scratch: give --regime continual, and --tasks 1")

    return Job(f"many_models-{options.scenario}", config, work, study=True, check=check)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main("many_models", __doc__ or "", arguments, options=ManyOptions(), job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
