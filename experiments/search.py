"""Choose hyperparameters: the same number of trials for every method, on seeds and data that nobody reports.

    python -m experiments.search --scenario class_wise --methods ug_clu salun --trials 8 --seeds 100
    python -m experiments.search --scenario class_wise --dataset fashion_mnist --trials 12 --seeds 100 --extras

A trial draws the ranges that the catalogue has for a method from a scrambled Sobol sequence, on a
logarithmic scale, and serves the stream up to its first unlearn request; the first trial is the settings file's own.
Its score is the distance to the oracle, KL on test inputs of what is retained plus KL on unlearned inputs, averaged
over the seeds. Test inputs are held out of the training split: the test split is never read. With `--extras`, weight
decay and the weight of distillation on remaining data are drawn too, for every method that has them.

The run folder gets trials.jsonl, a line a trial as it ends, and best.json. With `--write FILE …` the best also enter
these settings files, beside what they hold; so one search of learners can serve the files of several scenarios. The
same command takes up where it stopped. Without `--methods` all are searched; every other setting is that of
`experiments.compare`.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from ugclu_jax import metrics
from ugclu_jax.harness.catalogue import METHODS, entry_of, ranges_of, searched, split_name
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.config import ExperimentConfig, load_json, merge, nearest, parse
from ugclu_jax.harness.plan import RunFailed, load_dataset, prepare
from ugclu_jax.harness.run import Run, start
from ugclu_jax.harness.run_folder import write
from ugclu_jax.harness.scenarios import SCENARIOS, shortened
from ugclu_jax.learner import CLUState
from ugclu_jax.oracle import DamagedCacheError
from ugclu_jax.tuning import sobol
from ugclu_jax.types import PyTree, RequestKind

SOBOL_SEED = 0
"""Of the trials' points: the same for every method."""


class Search:
    """Scores of a plan's methods at other hyperparameters than their own."""

    def __init__(self, run: Run) -> None:
        self.run, self.plan = run, run.plan
        *self.learning, self.last = run.plan.steps
        self.situation = self.last.measured
        # Only what the score reads: a trial passes over no other training input.
        self.unlearned_inputs = run.data.placed(run.plan.scenario.dataset.train_inputs[self.situation.unlearned])
        self.learned: dict[tuple[str, int], CLUState] = {}

    def before_unlearning(self, method: str, seed: int, hyper: dict[RequestKind, PyTree], *, keep: bool) -> CLUState:
        """The state after all learn requests; kept where no trial changes how the method learns."""
        if (method, seed) in self.learned:
            return self.learned[method, seed]
        state = self.run.server.fresh_state(method, seed)
        for step in self.learning:
            state = self.run.server.apply(method, seed, step, state, hyper).state
        if keep:
            self.learned[method, seed] = state
        return state

    def score(self, method: str, kinds: tuple[RequestKind, ...], point: Mapping[str, float]) -> float:
        """Distance to the oracle of a method at a point, averaged over seeds; infinite where it diverged."""
        hyper = dict(self.plan.entries[method].hyper)
        hyper |= {kind: dataclasses.replace(hyper[kind], **point) for kind in kinds}
        distances = []
        for seed in self.plan.config.seeds:
            state = self.before_unlearning(method, seed, hyper, keep="learn" not in kinds)
            state = self.run.server.apply(method, seed, self.last, state, hyper).state
            distances.append(self.distance(state))
        return float(np.mean(distances))

    def distance(self, state: CLUState) -> float:
        """KL to the oracles on retained test inputs plus that on unlearned ones; infinite for outputs not finite."""
        oracles = self.run.oracles.after(self.last).logits
        total = 0.0
        for inputs, rows, theirs in (
            (self.run.data.test_inputs, self.situation.test, oracles.test),
            (self.unlearned_inputs, self.situation.unlearned, oracles.train),
        ):
            logits = np.asarray(self.run.predictions.predict(state.method.params, state.method.model_state, inputs))
            if not np.isfinite(logits).all():
                return math.inf
            own = logits[rows] if inputs is self.run.data.test_inputs else logits
            total += metrics.oracle_divergence(theirs[:, rows], own)
        return total


def search(plan_run: Run, folder: Path, trials: int, extras: bool, console: Console) -> dict[str, Any]:
    """Score every trial that `folder/trials.jsonl` does not hold yet, and return the best as a settings file has it."""
    plan, searching, path = plan_run.plan, Search(plan_run), folder / "trials.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {(entry["method"], entry["trial"]): entry for entry in done}
    found: dict[str, Any] = {}
    for method in plan.config.methods:
        part, kind = searched(method)
        # What both learns and unlearns by one set of hyperparameters is searched as one.
        kinds = ("learn", "unlearn") if entry_of(part) is not None and split_name(method) == (part, part) else (kind,)
        drawn = sobol(ranges_of(part, extras), trials - 1, SOBOL_SEED)
        scored = []
        for trial, point in enumerate([{}, *drawn]):
            if (method, trial) not in known:
                distance = searching.score(method, kinds, point)
                entry = {"method": method, "trial": trial, "point": point, "distance": distance}
                known[method, trial] = entry
                with path.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
            scored.append(known[method, trial])
        searching.learned.clear()
        best = min(scored, key=lambda entry: entry["distance"])
        own = scored[0]["distance"]
        console.print(
            f"{method:20} {own:8.3f} as given, {best['distance']:8.3f} best of {trials}: "
            + (", ".join(f"{name} {value:.4g}" for name, value in best["point"].items()) or "as given"),
            highlight=False,
            soft_wrap=True,
        )
        chosen = {"hyper": best["point"]}
        if "distillation_weight" in ranges_of(part, extras):
            chosen["settings"] = {"distillation": True}
        found = merge(found, {kind: chosen} if part == "ug_clu" else {"references": {part: chosen}})
    return found


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--scenario", default="task_aware")
    first.add_argument("--trials", type=int, default=8)
    first.add_argument("--extras", action="store_true")
    first.add_argument("--write", type=Path, nargs="+", default=[])
    known, rest = first.parse_known_args(arguments)
    console, errors = Console(), Console(stderr=True)
    try:
        if known.scenario not in SCENARIOS:
            raise ValueError(f"unknown scenario {known.scenario!r}; {nearest(known.scenario, SCENARIOS)}")
        if known.trials < 1:
            raise ValueError(f"trials must be at least 1, got {known.trials}")
        written = {path: load_json(path) for path in known.write}
        kind, build_scenario = SCENARIOS[known.scenario]
        if "--methods" not in rest:
            rest += ["--methods", *(name for name in METHODS if searched(name) is not None)]
        program = f"search --scenario {known.scenario}"
        config = parse(kind, known.scenario, __doc__ or "", rest, program)
        for name in config.methods:
            split_name(name)
            if searched(name) is None:
                raise ValueError(f"method {name!r} has no hyperparameters to search; leave it out")
        config = for_search(config, known.extras)
        scenario = build_scenario(config, load_dataset(config))
        scenario = scenario._replace(stream=shortened(scenario.stream))
        command = f"python -m experiments.{program} --trials {known.trials}{' --extras' if known.extras else ''} …"
        plan = prepare(f"search-{known.scenario}", config, scenario, console, command)
    except (ValueError, OSError) as error:
        errors.print(f"[red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    try:
        with plan.lock or nullcontext(), plan.progress, Clock() as clock:
            found = search(start(plan, clock), plan.folder.path, known.trials, known.extras, console)
    except (RunFailed, DamagedCacheError, OSError) as error:
        errors.print(f"[red]Run failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    write(plan.folder.path / "best.json", json.dumps(found, indent=2) + "\n")
    for path, settings in written.items():
        write(path, json.dumps(merge(settings, found), indent=2) + "\n")
    console.print(f"Best: {plan.folder.path / 'best.json'}", highlight=False, soft_wrap=True)
    return 0


def for_search(config: ExperimentConfig, extras: bool) -> ExperimentConfig:
    """The configuration on held-out data; with distillation switched on where it is searched."""
    references = dict(config.references)
    for name in config.methods if extras else ():
        part = searched(name)[0]
        if "distillation_weight" not in ranges_of(part, extras):
            continue
        if part == "ug_clu":
            unlearn = dataclasses.replace(config.unlearn.settings, distillation=True)
            config = dataclasses.replace(config, unlearn=dataclasses.replace(config.unlearn, settings=unlearn))
        else:
            references[part] = merge(references.get(part, {}), {"settings": {"distillation": True}})
    return dataclasses.replace(config, evaluate_on="validation", references=references)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
