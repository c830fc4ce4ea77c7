"""Choose hyperparameters: the same number of trials for every method, on seeds and data that nobody reports.

    python -m experiments.search --scenario class_wise --methods ug_clu salun --trials 8 --seeds 100
    python -m experiments.search --scenario class_wise --dataset fashion_mnist --trials 12 --seeds 100 --extras

A trial draws the ranges that the catalogue has for a method from a scrambled Sobol sequence, on a
logarithmic scale, and serves the stream up to its first unlearn request; the first trial is the settings file's own.
Its score is the temperature-matched energy distance of the seeds' models from the oracles, averaged over test inputs
of what is retained and unlearned inputs; of one seed, which is no distribution, KL(oracle ‖ model) on both. Test inputs
are held out of the training split: the test split is never read. With `--extras` every method takes its steps on
the buffer as UG-CLU's default does, by Adam and under a budget of decay, and the share that is kept and the weight of
distillation on remaining data are drawn too.

One setting for everything is chosen from several such searches, of other scenarios, regimes or networks:

    for model in cnn cnn_bn; do
        python -m experiments.search --scenario class_wise --regime joint --dataset fashion_mnist --model $model …
    done
    python -m experiments.one_default --method ug_clu --searches runs/search-…

The run folder gets trials.jsonl, a line a trial as it ends, and best.json. With `--write FILE …` the best also enter
these settings files, beside what they hold; so one search of learners can serve the files of several scenarios. The
same command takes up where it stopped. Without `--methods` all are searched; every other setting is that of
`experiments.compare`.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax import metrics
from ugclu_jax.files import write
from ugclu_jax.harness import trials
from ugclu_jax.harness.budget import given_for
from ugclu_jax.harness.catalogue import METHODS, PLAIN, VARIANTS, entry_of, equal_terms, ranges_of, searched, split_name
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.config import ExperimentConfig, merge
from ugclu_jax.harness.options import ScenarioName
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.run import Run, start
from ugclu_jax.harness.settings_file import load_json
from ugclu_jax.harness.signals import Stop
from ugclu_jax.learner import CLUState
from ugclu_jax.tuning import matched_score, sobol
from ugclu_jax.types import PyTree, RequestKind

MOST_TRIALS = 2**20
SOBOL_SEED = 0
"""Of the trials' points: the same for every method."""


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, and how long."""

    scenario: ScenarioName = "task_aware"
    """Whose stream is served; all other settings are those of this experiment."""
    trials: int = 8
    """Points of each method, the settings file's own included."""
    extras: bool = False
    """Search weight decay and the weight of distillation, too, for every method that has them."""
    write: tuple[Path, ...] = ()
    """Settings files that the best are written into, beside what they hold."""


class Score(NamedTuple):
    """What a trial is worth: the less, the better.

    Attributes:
        distance: what is compared, matched E or, of one seed, KL.
        KL: on retained test inputs plus that on unlearned ones.
        E, matched: energy distances, the mean of both sets of inputs; None of one seed.
    """

    distance: float
    KL: float
    E: float | None = None
    matched: float | None = None


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
        server = self.run.server
        for step in self.learning:  # once for all methods of one learner, where nothing of it is searched
            served = server.serve(method, seed, step, state) if keep else server.apply(method, seed, step, state, hyper)
            state = served.state
        if keep:
            self.learned[method, seed] = state
        return state

    def score(self, method: str, kinds: tuple[RequestKind, ...], point: Mapping[str, float]) -> Score:
        """What the models of all seeds are at a point; infinite where one diverged, or answers all inputs alike."""
        from ugclu_jax.evidence import energy_distance  # scipy, which `--help` need not wait for

        hyper: dict[RequestKind, PyTree] = dict(self.plan.entries[method].hyper)
        hyper |= {kind: dataclasses.replace(hyper[kind], **point) for kind in kinds}
        models = []
        for seed in self.plan.config.seeds:
            state = self.before_unlearning(method, seed, hyper, keep="learn" not in kinds)
            state = self.run.server.apply(method, seed, self.last, state, hyper).state
            models.append(self.outputs(state))
            if not all(np.isfinite(logits).all() for logits in models[-1]):
                return Score(*(math.inf,) * 4)
        oracles = self.oracles()
        own = [np.stack(each) for each in zip(*models, strict=True)]
        divergence = sum(
            float(np.mean([metrics.oracle_divergence(theirs, one) for one in mine]))
            for mine, theirs in zip(own, oracles, strict=True)
        )
        if len(models) == 1:
            return Score(divergence, divergence)
        energy = float(np.mean([energy_distance(*pair).value for pair in zip(own, oracles, strict=True)]))
        matched, _ = matched_score(own, oracles)
        return Score(matched, divergence, energy, matched)

    def outputs(self, state: CLUState) -> list[np.ndarray]:
        """Logits of a model on retained test inputs, and on unlearned ones."""
        network = state.method
        test, unlearned = (
            np.asarray(self.run.predictions.predict(network.params, network.model_state, inputs))
            for inputs in (self.run.data.test_inputs, self.unlearned_inputs)
        )
        return [test[self.situation.test], unlearned]

    def oracles(self) -> list[np.ndarray]:
        """Those of the oracles."""
        oracles = self.run.oracles.after(self.last)
        assert oracles is not None  # for an unlearn request always
        known = self.last.view.situation  # by places in what is known of the oracles
        return [oracles.logits.test[:, known.test], oracles.logits.train[:, known.unlearned]]


def part_of(method: str) -> tuple[str, RequestKind]:
    """What of a method is searched, and for which kind of request.

    Raises:
        ValueError: a method without hyperparameters.
    """
    found = searched(method)
    if found is None:
        raise ValueError(f"method {method!r} has no hyperparameters to search; leave it out")
    return found


def search(run: Run, options: SearchOptions, own: ExperimentConfig, stop: Stop) -> dict[str, Any]:
    """Score every trial that trials.jsonl does not hold yet, and return the best as a settings file has it.

    Args:
        run: the plan's parts.
        options: what is searched.
        own: the configuration before `for_search`, whose settings are the first trial.
        stop: asked before every trial.
    """
    plan, searching, folder = run.plan, Search(run), run.plan.folder.path
    count, extras = options.trials, options.extras
    known = trials.read(folder)
    found: dict[str, Any] = {}
    for method in plan.config.methods:
        part, kind = part_of(method)
        # What both learns and unlearns by one set of hyperparameters is searched as one.
        alike = entry_of(part) is not None and split_name(method) == (part, part)
        kinds: tuple[RequestKind, ...] = ("learn", "unlearn") if alike else (kind,)
        drawn = sobol(ranges_of(part, extras), count - 1, SOBOL_SEED)
        distils = "distillation_weight" in ranges_of(part, extras)
        # Of weight 0 it is switched off: what is searched is one program.
        first = {"distillation_weight": 0.0} if distils and not distilling(own, part, kind) else {}
        scored = []
        for trial, point in enumerate([first, *drawn]):
            if (method, trial) not in known:
                stop.check()
                score = searching.score(method, kinds, point)
                settings = as_settings(part, kind, point, extras)
                entry = {"method": method, "trial": trial, "point": point, **score._asdict(), "settings": settings}
                known[method, trial] = entry
                trials.write(folder, known.values())
            scored.append(known[method, trial])
        searching.learned.clear()
        best = min(scored, key=lambda entry: entry["distance"])
        as_given = scored[0]["distance"]
        plan.console.print(
            f"{method:20} {as_given:8.3f} as given, {best['distance']:8.3f} best of {count}: "
            + (", ".join(f"{name} {value:.4g}" for name, value in best["point"].items()) or "as given"),
            highlight=False,
            soft_wrap=True,
        )
        found = merge(found, best["settings"])
    return found


def as_settings(part: str, kind: RequestKind, point: Mapping[str, float], extras: bool) -> dict[str, Any]:
    """A point of a method's ranges as a settings file has it; distillation of weight 0 is none.

    >>> as_settings("ug_clu", "unlearn", {"kept_share": 0.9, "distillation_weight": 0.0}, extras=True)
    {'unlearn': {'hyper': {'kept_share': 0.9}}}
    >>> as_settings("er", "learn", {"distillation_weight": 0.5}, extras=True)["references"]["er"]["settings"]
    {'optimizer': 'adamw', 'distillation': True}
    """
    hyper = {name: value for name, value in point.items() if (name, value) != ("distillation_weight", 0.0)}
    chosen: dict[str, Any] = merge(equal_terms(part) if extras else {}, {"hyper": hyper})
    if "distillation_weight" in hyper:
        chosen = merge(chosen, {"settings": {"distillation": True}})
    if part == PLAIN:  # whose two kinds of request have settings of their own
        chosen = {kind: chosen}
    return {kind: chosen} if part == "ug_clu" else {"references": {part: chosen}}


def distilling(config: ExperimentConfig, part: str, kind: RequestKind) -> bool:
    """Whether a configuration's own settings of a method distil."""
    if part in VARIANTS:
        return bool(getattr(config, kind).settings.distillation)
    given = given_for(config.references, part, kind).get("settings", {})
    return bool(given.get("distillation", False))


def for_search(config: ExperimentConfig, extras: bool) -> ExperimentConfig:
    """The configuration on held-out data; with distillation switched on where it is searched."""
    references = dict(config.references)
    for name in config.methods if extras else ():
        part, _ = part_of(name)
        distils = {"settings": {"distillation": True}} if "distillation_weight" in ranges_of(part, extras) else {}
        if part == "ug_clu" and distils:
            unlearn = dataclasses.replace(config.unlearn.settings, distillation=True)
            config = dataclasses.replace(config, unlearn=dataclasses.replace(config.unlearn, settings=unlearn))
        elif part != "ug_clu":
            references[part] = merge(references.get(part, {}), merge(equal_terms(part), distils))
    return dataclasses.replace(config, evaluate_on="validation", references=references)


def job(options: SearchOptions, config: ExperimentConfig) -> Job:
    """Refuse what cannot be searched, and search the rest on held-out data."""
    if options.trials < 1:
        raise ValueError(f"trials must be at least 1, got {options.trials}")
    if options.trials > MOST_TRIALS:
        raise ValueError(f"trials must be at most {MOST_TRIALS}, got {options.trials}: they are drawn before the first")
    for name in config.methods:
        part_of(name)
    written = {path: load_json(path) for path in options.write}

    def work(plan: Plan, stop: Stop) -> None:
        with plan.progress, Clock() as clock:
            found = search(start(plan, clock), options, config, stop)
        write(plan.folder.path / "best.json", json.dumps(found, indent=2) + "\n")
        for path, settings in written.items():
            write(path, json.dumps(trials.entered(settings, found), indent=2) + "\n")
        plan.console.print(f"Best: {plan.folder.path / 'best.json'}", highlight=False, soft_wrap=True)

    return Job(f"search-{options.scenario}", for_search(config, options.extras), work, study=True)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    methods = tuple(name for name in METHODS if searched(name) is not None)
    return main("search", __doc__ or "", arguments, options=SearchOptions(), methods=methods, job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
