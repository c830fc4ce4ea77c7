"""Hyperparameters of unlearning, tuned by gradients through whole requests, against a random search of the same cost.

Question: does descent on log-hyperparameters find settings that unlearn better on other seeds than random search does?

    python -m experiments.hypergradients                                               # embedded digits, 1 minute
    python -m experiments.hypergradients --settings ugclu_jax/harness/settings/compare/base.json
    python -m experiments.hypergradients --objective matched_energy --seeds 0:3 --tuning-seeds 100:103

The stream is served up to its first unlearn request once a seed. That request is then a function of its
hyperparameters; its objective is the distance to the oracle: KL on test inputs of what is retained plus KL on unlearned
inputs, or the matched energy distance between the models of all seeds and the oracles, its mean over both. Both arms
start at the settings file's hyperparameters, lower the objective on `--tuning-seeds`, and have the same seconds,
compilation apart, measured in the run. What each has found by then is scored on `--seeds`, and on inputs that no arm
has seen. Test inputs are held out of the training split: the test split is never read.

The run folder gets hypergradients.json, .md and .png, and report.html. The same command takes up where it stopped: each
arm is kept as it ends.
"""

import base64
import dataclasses
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugclu_jax import seals
from ugclu_jax.files import write
from ugclu_jax.harness.catalogue import DECAY_RANGE, UG_CLU_RANGES, Range
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.config import ExperimentConfig, nearest
from ugclu_jax.harness.options import ScenarioName, check_seeds
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.refusals import unread
from ugclu_jax.harness.run import Run, start
from ugclu_jax.harness.signals import Stop
from ugclu_jax.learner import CLUState
from ugclu_jax.programs import ONE_DEVICE
from ugclu_jax.report.format import markdown_table
from ugclu_jax.report.templates import render
from ugclu_jax.tuning import (
    JointObjective,
    Objective,
    Problem,
    TuningStep,
    at,
    kl_to_oracle,
    matched_energy,
    matched_score,
    over_problems,
    random,
    serve,
    tune,
)
from ugclu_jax.tuning.points import Point
from ugclu_jax.tuning.problem import Hypers, floats
from ugclu_jax.types import ApplyFn, Method, PyTree

RANGES: dict[str, Range] = {
    **UG_CLU_RANGES,
    "fast_learning_rate": (1e-3, 10.0),
    "clip_norm": (0.3, 10.0),
    "loss_exponent": (0.1, 2.0),
    "saliency_threshold": (0.1, 10.0),
    "mask_temperature": (0.1, 10.0),
    "slow_step_size": (0.3, 1.0),
    "remain_weight_decay": DECAY_RANGE,
}
"""Of the random search."""
DESCENT, RANDOM = "hypergradient descent", "random search"
SAMPLE = 1000
"""Inputs of each side that an arm sees, and as many others that score it."""
RANDOM_SEED = 0
MEASURES = {
    "kl": "KL on retained test inputs plus KL on unlearned inputs, in nats",
    "matched_energy": "the matched energy distance of all seeds' models, mean of retained test and unlearned inputs",
}
MOST_STEPS = 2**20


@dataclass(frozen=True)
class HypergradientOptions:
    """What is tuned, and how long."""

    scenario: ScenarioName = "class_wise"
    """Whose stream is served; all other settings are those of this experiment."""
    steps: int = 12
    """Steps of the descent; the random search gets the same seconds."""
    rate: float = 0.3
    """Learning rate of the descent, Adam's on the logarithms of the hyperparameters."""
    tuning_seeds: tuple[int, ...] = (100, 101, 102)
    """Seeds whose mean objective both arms lower; none of --seeds, which score what they found."""
    names: tuple[str, ...] = ("output_budget", "remain_learning_rate", "kept_share")
    """Hyperparameters to tune: fields of --unlearn.hyper."""
    objective: Literal["kl", "matched_energy"] = "kl"
    """What is lowered: KL(oracle ‖ model) of each seed, or the matched energy distance of all seeds' models."""


class Arm(NamedTuple):
    """What one way of choosing led to."""

    points: list[Point]  # in order
    values: list[float]  # mean objective over the tuning seeds
    seconds: list[float]  # spent when each was known, compilation apart

    def best_so_far(self) -> list[int]:
        """The best of the first 1, 2, … points.

        >>> Arm([{}, {}, {}], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]).best_so_far()
        [0, 0, 2]
        """
        values = [value if math.isfinite(value) else math.inf for value in self.values]
        return [min(range(number), key=values.__getitem__) for number in range(1, len(values) + 1)]


class Spread(NamedTuple):
    """A value, infinite where one model diverged; and its spread, where there are enough to tell."""

    value: float
    spread: float | None


def objective_of(name: str, apply_fn: ApplyFn) -> Objective | JointObjective:
    """An objective by its name, of `(inputs, oracle logits)` of test inputs and of unlearned ones."""
    if name == "matched_energy":
        return matched_energy(apply_fn)
    kl = kl_to_oracle(apply_fn)
    return lambda state, reference: kl(state, reference[0]) + kl(state, reference[1])


class Study:
    """The unlearn request of a plan as a function of its hyperparameters."""

    def __init__(self, run: Run, objective: str) -> None:
        self.run, self.plan = run, run.plan
        *self.learning, self.last = run.plan.steps
        entry = run.plan.entries["ug_clu"]
        self.method: Method = entry.method
        self.hyper: Hypers = {"unlearn": entry.hyper["unlearn"]}
        situation, oracles = self.last.measured, run.oracles.after(self.last)
        assert situation.unlearned is not None and oracles is not None  # after an unlearn request
        self.tasks = (run.data.examples(self.last.request.ids),)
        self.objective = objective_of(objective, run.plan.network.apply_fn)
        dataset = run.plan.scenario.dataset
        rng = np.random.default_rng(0)
        sides: tuple[list[PyTree], list[PyTree]] = ([], [])
        known = self.last.view.situation  # by places in what is known of the oracles
        assert known.unlearned is not None
        for inputs, rows, logits in (
            (dataset.test_inputs, situation.test, oracles.logits.test[:, known.test]),
            (dataset.train_inputs, situation.unlearned, oracles.logits.train[:, known.unlearned]),
        ):
            shuffled = rng.permutation(len(rows))
            half = min(SAMPLE, len(rows) // 2)
            for side, chosen in zip(sides, (shuffled[:half], shuffled[half : 2 * half]), strict=True):
                side.append((jnp.asarray(inputs[rows[chosen]]), jnp.asarray(logits[:, chosen])))
        self.seen, self.unseen = (tuple(side) for side in sides)
        of_one = self.objective.outputs if isinstance(self.objective, JointObjective) else self.objective
        self.served = ONE_DEVICE.program(
            lambda hyper, problem: of_one(serve(self.method, ["unlearn"], problem, hyper), problem.reference)
        )

    def problems(self, seeds: Sequence[int], reference: PyTree) -> list[Problem]:
        """One a seed: the state after all learn requests."""
        found = []
        for seed in seeds:
            state: CLUState = self.run.server.fresh_state("ug_clu", seed)
            for step in self.learning:
                state = self.run.server.apply("ug_clu", seed, step, state).state
            key = jax.random.fold_in(jax.random.key(seed), self.last.index)
            found.append(Problem(state, key[None], self.tasks, reference))
        return found

    def descend(
        self, problems: list[Problem], names: list[str], steps: int, rate: float, say: Callable[[str], None]
    ) -> Arm:
        """Tuning by hypergradients; the first step compiles, so its seconds count as the median of the others."""
        moments = [time.perf_counter()]

        def on_step(step: TuningStep) -> None:
            moments.append(time.perf_counter())
            say(f"step {len(moments) - 1}/{steps}: {step.values.mean():.4f}  {in_words(step.point)}")

        tuned = tune(
            self.objective,
            self.method,
            ["unlearn"],
            problems,
            self.hyper,
            names,
            steps=steps,
            optimizer=optax.adam(rate),
            on_step=on_step,
        )
        each = np.diff(moments).tolist()
        each[0] = statistics.median(each[1:]) if len(each) > 1 else each[0]
        values = [float(step.values.mean()) for step in tuned.steps]
        return Arm([step.point for step in tuned.steps], values, np.cumsum(each).tolist())

    def request_seconds(self, problems: list[Problem]) -> float:
        """Seconds of one request and its objective for all problems, compiled before."""
        self.values(problems, {})
        spent = []
        for _ in range(3):
            start = time.perf_counter()
            self.values(problems, {})
            spent.append(time.perf_counter() - start)
        return statistics.median(spent)

    def values(self, problems: list[Problem], point: Point) -> Spread:
        """The objective at a point: of single seeds their mean, and how far they are apart; of all, and how sure."""
        hyper, objective = floats(at(self.hyper, point)), self.objective
        ends = jax.block_until_ready([self.served(hyper, problem) for problem in problems])
        if isinstance(objective, JointObjective):
            own = [np.stack([np.asarray(side) for side in sides]) for sides in zip(*ends, strict=True)]
            value, error = matched_score(own, [np.asarray(logits) for _, logits in problems[0].reference])
            return Spread(value, error if math.isfinite(error) else None)
        found = np.array(ends)
        if not np.isfinite(found).all():
            return Spread(math.inf, None)
        return Spread(float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None)

    def search(self, problems: list[Problem], names: list[str], trials: int, seconds: float) -> Arm:
        """Random search: the start, then draws."""
        ranges = {name: RANGES[name.split(".")[1]] for name in names}
        start = {name: float(getattr(self.hyper["unlearn"], name.split(".")[1])) for name in names}
        points = [start, *random(ranges, trials - 1, RANDOM_SEED)]
        values = [self.values(problems, point).value for point in points]
        return Arm(points, values, [seconds * number for number in range(1, trials + 1)])

    def slopes(self, problems: list[Problem]) -> dict[str, float]:
        """`d objective / d log h` of every hyperparameter at the start."""
        gradient = over_problems(self.objective, self.method, ["unlearn"])(self.hyper, problems).gradient["unlearn"]
        own = self.hyper["unlearn"]
        start = {f.name: float(getattr(own, f.name)) for f in dataclasses.fields(own)}
        # No logarithm of what bounds nothing.
        return {name: float(getattr(gradient, name)) * value for name, value in start.items() if math.isfinite(value)}


def in_words(point: Point) -> str:
    """A point on one line.

    >>> in_words({"unlearn.clip_norm": 0.51234})
    'clip_norm 0.5123'
    """
    return ", ".join(f"{name.split('.')[1]} {value:.4g}" for name, value in point.items())


def conduct(run: Run, options: HypergradientOptions, stop: Stop) -> dict[str, Any]:
    """Both arms and their scores, each kept in the run folder as it ends."""
    plan, study = run.plan, Study(run, options.objective)
    names, tuning_seeds, steps = [f"unlearn.{name}" for name in options.names], options.tuning_seeds, options.steps

    def say(text: str) -> None:
        stop.check()
        plan.console.print(text, highlight=False, soft_wrap=True)

    def kept(name: str, compute: Callable[[], Any]) -> Any:
        path = plan.folder.path / f"{name}.json"
        if not path.exists():
            seals.write(path.parent, path.name, (json.dumps(compute()) + "\n").encode())
        return json.loads(seals.read(path.parent, path.name))

    say(f"learning, seeds {', '.join(map(str, (*tuning_seeds, *plan.config.seeds)))}")
    problems = study.problems(tuning_seeds, study.seen)
    held_out = study.problems(plan.config.seeds, study.unseen)
    say(f"{DESCENT}: {steps} steps over {len(problems)} seeds")
    descent = Arm(*kept("descent", lambda: study.descend(problems, names, steps, options.rate, say)))
    one = kept("request", lambda: study.request_seconds(problems))
    trials = max(1, int(descent.seconds[-1] / one))
    say(f"{RANDOM}: {trials} trials, which cost the same")
    searched = Arm(*kept("random", lambda: study.search(problems, names, trials, one)))
    arms = {DESCENT: descent, RANDOM: searched}
    wanted = [(name, place) for name, arm in arms.items() for place in dict.fromkeys(arm.best_so_far())]
    say(f"{len(wanted)} settings on held-out seeds and inputs")
    scores = kept("scores", lambda: [study.values(held_out, arms[name].points[place]) for name, place in wanted])
    slopes = kept("slopes", lambda: study.slopes(problems))
    return {
        "objective": options.objective,
        "names": names,
        "tuning_seeds": list(tuning_seeds),
        "seeds": list(plan.config.seeds),
        "request_seconds": one,
        "slopes": slopes,
        "arms": {
            name: {
                **arm._asdict(),
                "held_out": {str(p): s for (n, p), s in zip(wanted, scores, strict=True) if n == name},
            }
            for name, arm in arms.items()
        },
    }


def table(found: dict[str, Any]) -> list[list[str]]:
    """Header and rows: the start, and what each arm chose."""

    def score(found: tuple[float, float | None]) -> str:
        value, spread = found
        return f"{value:.3f}" + ("" if spread is None else f" ±{spread:.3f}")

    rows = [["chosen by", "tuning seeds", "held-out seeds and inputs", "cost, requests", "hyperparameters"]]
    for name, arm in found["arms"].items():
        best = Arm(arm["points"], arm["values"], arm["seconds"]).best_so_far()[-1]
        cost = arm["seconds"][-1] / found["request_seconds"]
        if name == DESCENT:
            held = score(arm["held_out"]["0"])
            rows.append(["the start", f"{arm['values'][0]:.3f}", held, "–", in_words(arm["points"][0])])
        held = score(arm["held_out"][str(best)])
        rows.append([name, f"{arm['values'][best]:.3f}", held, f"{cost:.0f}", in_words(arm["points"][best])])
    return rows


def picture(found: dict[str, Any], path: Path) -> None:
    """The curve: distance to the oracle of the best so far against cost; and the slopes at the start."""
    from matplotlib.figure import Figure  # help need not wait for it

    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    curve, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    for (name, arm), colour in zip(found["arms"].items(), ("#d55e00", "#0072b2"), strict=True):
        best = Arm(arm["points"], arm["values"], arm["seconds"]).best_so_far()
        cost = np.array(arm["seconds"]) / found["request_seconds"]
        held = [arm["held_out"][str(place)][0] for place in best]
        curve.plot(cost, held, drawstyle="steps-post", color=colour, label=f"{name}, held-out seeds")
        curve.plot(
            cost, [arm["values"][place] for place in best], drawstyle="steps-post", color=colour, ls=":", lw=1,
            label=f"{name}, tuning seeds",
        )  # fmt: skip
    curve.set(xlabel="cost, in unlearn requests of all tuning seeds", ylabel="distance to the oracle")
    if found["objective"] == "kl":  # an energy distance may be below 0, by chance
        curve.set(yscale="log")
        curve.yaxis.set_major_formatter("{x:.2g}")
        curve.yaxis.set_minor_formatter("{x:.2g}")
    curve.legend(frameon=False, fontsize=8)
    curve.set_title("Best so far", loc="left", fontsize=10)
    slopes = dict(sorted(found["slopes"].items(), key=lambda item: abs(item[1])))
    values = [value if math.isfinite(value) else 0.0 for value in slopes.values()]
    bars.barh(list(slopes), values, color="#009e73")
    bars.set(xlabel="d distance / d log h")
    bars.set_title("Slopes at the start", loc="left", fontsize=10)
    for axes in (curve, bars):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.5)
    figure.savefig(path, dpi=150)


def conclude(plan: Plan, found: dict[str, Any]) -> None:
    """Write table, picture and report section, and print the table."""
    folder, rows = plan.folder.path, table(found)
    write(folder / "hypergradients.json", json.dumps(found, indent=2) + "\n")
    markdown = markdown_table(rows[0], rows[1:], words=len(rows[0]))
    write(folder / "hypergradients.md", markdown + "\n")
    picture(found, folder / "hypergradients.png")
    image = base64.b64encode((folder / "hypergradients.png").read_bytes()).decode()
    chosen, scored = (", ".join(map(str, found[name])) for name in ("tuning_seeds", "seeds"))
    lead = (
        f"Distance to the oracle after the first unlearn request: {MEASURES[found['objective']]}. Chosen on seeds "
        f"{chosen}; scored on seeds {scored} and on other inputs. Both arms had the same seconds, compilation apart; a "
        "request is one for each tuning seed."
    )
    page = render(
        "study.html",
        title="Hypergradients",
        lead=lead,
        head=rows[0],
        rows=rows[1:],
        image=image,
        caption="curves and slopes",
    )
    write(folder / "report.html", page)
    plan.console.print(markdown, highlight=False, soft_wrap=True)
    plan.console.print(f"Report:     {folder / 'report.html'}", highlight=False, soft_wrap=True)


def for_study(config: ExperimentConfig) -> ExperimentConfig:
    """The configuration on held-out data, UG-CLU alone, with a mask and a loop made to be differentiated."""
    settings = dataclasses.replace(config.unlearn.settings, rematerialise=True)
    if settings.mask == "hard":  # the same mask, with a derivative
        settings = dataclasses.replace(settings, mask="straight_through")
    unlearn = dataclasses.replace(config.unlearn, settings=settings)
    return dataclasses.replace(config, evaluate_on="validation", unlearn=unlearn, methods=("ug_clu",))


def job(options: HypergradientOptions, config: ExperimentConfig) -> Job:
    """Refuse what cannot be tuned, and study the rest."""
    if not 0 < options.rate < math.inf:
        raise ValueError(f"rate must be positive and finite, got {options.rate:g}")
    if options.steps < 2:
        raise ValueError(f"steps must be at least 2, got {options.steps}: the first alone changes nothing")
    if options.steps > MOST_STEPS:
        raise ValueError(f"steps must be at most {MOST_STEPS}, got {options.steps}: each is a request and its gradient")
    check_seeds("tuning_seeds", options.tuning_seeds)
    for name, values in (("tuning_seeds", options.tuning_seeds), ("names", options.names)):
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name} must be one or more different values, got {values}")
    if options.objective == "matched_energy":
        for name, number in (("tuning-seeds", len(options.tuning_seeds)), ("seeds", len(config.seeds))):
            if number < 2:
                raise ValueError(f"{name} has one seed, and the energy distance is of two models or more: give more")
    config = for_study(config)
    for name in options.names:
        if name not in RANGES:
            raise ValueError(f"unknown name {name!r}; {nearest(name, RANGES)}")
        why = unread(config.unlearn.settings, "unlearn", f"hyper.{name}")
        if why is not None:
            raise ValueError(f"names has {name!r}, which {why}")
        value = float(getattr(config.unlearn.hyper, name))
        if not 0 < value < math.inf:
            raise ValueError(f"unlearn.hyper.{name} must be positive and finite to be tuned, got {value:g}")
    shared = set(options.tuning_seeds) & set(config.seeds)
    if shared:
        raise ValueError(f"tuning-seeds and seeds must differ, both have {', '.join(map(str, sorted(shared)))}")
    # In the name, so that a folder is taken up by the same study only.
    seeds, names = " ".join(map(str, options.tuning_seeds)), " ".join(options.names)
    own = f"--objective {options.objective} --steps {options.steps} --rate {options.rate:g}"
    own += f" --tuning-seeds {seeds} --names {names}"

    def work(plan: Plan, stop: Stop) -> None:
        with plan.progress, Clock() as clock:
            found = conduct(start(plan, clock), options, stop)
        conclude(plan, found)

    return Job(f"hypergradients-{options.scenario} {own}", config, work, study=True)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main("hypergradients", __doc__ or "", arguments, options=HypergradientOptions(), job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
