"""Methods on the same work: one stream, model, buffer, seeds, oracles and budget of gradient evaluations for all.

Question: whose models are distributed like oracles retrained from scratch, and at what cost?

    python -m experiments.compare --scenario class_wise --methods ug_clu salun sfron     # embedded digits
    python -m experiments.compare --scenario task_aware --dataset fashion_mnist          # every method
    python -m experiments.compare --list                                                 # names of the methods

A method is LEARNER+UNLEARNER or one name; without `--methods` all are compared. Hyperparameters come from the settings
file. The run folder gets comparison.md and comparison.png beside the report.
"""

import sys
from dataclasses import dataclass

from rich.console import Console

from ugclu_jax.harness.catalogue import METHODS, serves, split_name
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.execute import execute
from ugclu_jax.harness.options import ScenarioName
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.scenarios import Scenario
from ugclu_jax.report import evidence
from ugclu_jax.report.comparison import compared, write_comparison
from ugclu_jax.report.ending import say
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.ranking import NothingToRankError, ranking_table
from ugclu_jax.requests import situations


@dataclass(frozen=True)
class CompareOptions:
    """What is compared."""

    scenario: ScenarioName = "task_aware"
    """Whose stream is served; all other settings are those of this experiment."""
    counterfactuals: bool = True
    """With two seeds or more, also run each learner without ever seeing what is unlearned: how much of a method's
    distance to the oracles is its learner's."""
    counterfactuals_of_one_seed: bool = False
    """Run them with one seed, too: its numbers are put beside those of other seeds that ran elsewhere."""
    list: bool = False
    """Print the names that --methods takes, and run nothing."""

    def __post_init__(self) -> None:
        if self.counterfactuals_of_one_seed and not self.counterfactuals:
            raise ValueError("counterfactuals_of_one_seed needs counterfactuals: leave out --no-counterfactuals")


def conclude(plan: Plan, lines: list[Line]) -> None:
    """Print the ranking, and write it and its picture into the run's folder."""
    try:
        found = compared(plan.settings, lines, evidence.read(plan.folder.path))
    except NothingToRankError:  # the stream has requests to rank by: see `comparable`
        say(plan.console, "Nothing to rank: no method got as far as an unlearn request.", "yellow")
        return
    plan.console.print(ranking_table(found.rows, found.others), soft_wrap=True)
    for note in found.notes:
        say(plan.console, note, "yellow")
    say(plan.console, f"Comparison: {write_comparison(plan.folder.path, found)}")


def comparable(scenario: Scenario) -> None:
    """Refuse a stream after which there is nothing to rank methods by.

    Raises:
        ValueError: it unlearns nothing, or nothing of what it retains then has a test example.
    """
    dataset, stream = scenario.dataset, scenario.stream
    if all(request.kind == "learn" for request in stream):
        raise ValueError(
            "the stream unlearns nothing, so there is nothing to rank methods by: give one with an unlearn request, or "
            "use the program of the scenario"
        )
    after = situations(stream, dataset.train_labels, dataset.test_labels, dataset.num_classes, scenario.groups)
    ends = [each for i, each in enumerate(after) if stream[i].kind == "unlearn" or i == len(stream) - 1]
    if not any(len(each.test) and each.unlearned is not None for each in ends):
        raise ValueError(
            "after no unlearn request of the stream is there a test example of what is retained: there is nothing to "
            "rank methods by; retain classes that have test examples"
        )


def list_methods(console: Console) -> None:
    """Print the names that `--methods` takes, and what a name alone stands for."""
    for name in METHODS:
        learner, unlearner = split_name(name)
        console.print(f"{name:24} {' and '.join(serves(name)):18} alone: {learner}+{unlearner}", highlight=False)


def job(options: CompareOptions, config: ExperimentConfig) -> Job | None:
    """List the methods, or run those that were asked for."""
    if options.list:
        list_methods(Console())
        return None
    return Job(
        options.scenario,
        config,
        lambda plan, stop: execute(plan, conclude, stop),
        check=comparable,
        counterfactual=options.counterfactuals and (len(config.seeds) > 1 or options.counterfactuals_of_one_seed),
    )


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main("compare", __doc__ or "", arguments, options=CompareOptions(), methods=METHODS, job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
