"""Methods on the same work: one stream, model, buffer, seeds, oracles and budget of gradient evaluations for all.

Question: which method ends nearest to an oracle retrained from scratch, and at what cost?

    python -m experiments.compare --scenario class_wise --methods ug_clu salun sfron     # embedded digits
    python -m experiments.compare --scenario task_aware --dataset fashion_mnist          # every method
    python -m experiments.compare --list                                                 # names of the methods

A method is LEARNER+UNLEARNER or one name; without `--methods` all are compared. Hyperparameters come from the settings
file. The run folder gets comparison.md and comparison.png beside the report.
"""

import sys
from dataclasses import dataclass

from rich.console import Console

from ugclu_jax.files import write
from ugclu_jax.harness.catalogue import METHODS, serves, split_name
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.execute import execute
from ugclu_jax.harness.options import ScenarioName
from ugclu_jax.harness.plan import Plan
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.ranking import rank, ranking_markdown, ranking_picture, ranking_table


@dataclass(frozen=True)
class CompareOptions:
    """What is compared."""

    scenario: ScenarioName = "task_aware"
    """Whose stream is served; all other settings are those of this experiment."""
    list: bool = False
    """Print the names that --methods takes, and run nothing."""


def conclude(plan: Plan, lines: list[Line]) -> None:
    """Print the ranking, and write it and its picture into the run's folder."""
    rows = rank(lines)
    wide = Console(file=plan.console.file, width=max(plan.console.width, 150))
    wide.print(ranking_table(rows))
    write(plan.folder.path / "comparison.md", ranking_markdown(rows) + "\n")
    ranking_picture(rows, plan.folder.path / "comparison.png")
    plan.console.print(f"Comparison: {plan.folder.path / 'comparison.md'}", highlight=False, soft_wrap=True)


def list_methods(console: Console) -> None:
    """Print the names that `--methods` takes, and what a name alone stands for."""
    for name in METHODS:
        learner, unlearner = split_name(name)
        console.print(f"{name:20} {' and '.join(serves(name)):18} alone: {learner}+{unlearner}", highlight=False)


def job(options: CompareOptions, config: ExperimentConfig) -> Job | None:
    """List the methods, or run those that were asked for."""
    if options.list:
        list_methods(Console())
        return None
    return Job(options.scenario, config, lambda plan, stop: execute(plan, conclude, stop))


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main("compare", __doc__ or "", arguments, options=CompareOptions(), methods=METHODS, job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
