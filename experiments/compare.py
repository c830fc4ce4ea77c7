"""Methods on the same work: one stream, model, buffer, seeds, oracles and budget of gradient evaluations for all.

Question: which method ends nearest to an oracle retrained from scratch, and at what cost?

    python -m experiments.compare --scenario class_wise --methods ug_clu salun sfron     # embedded digits
    python -m experiments.compare --scenario task_aware --dataset fashion_mnist          # every method
    python -m experiments.compare --list                                                 # names of the methods

`--scenario` is task_aware (the default), class_wise or random_sample; every other setting is that experiment's. A
method is LEARNER+UNLEARNER or one name; without `--methods` all are compared. Hyperparameters come from the settings
file. The run folder gets comparison.md and comparison.png beside the report.
"""

import argparse
import sys

from rich.console import Console
from rich.markup import escape

from experiments import class_wise, random_sample, task_aware
from experiments.config import EXPERIMENTS, nearest
from experiments.folder import write
from experiments.plan import Plan
from experiments.registry import METHODS, serves, split_name
from experiments.runner import main
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.ranking import rank, ranking_markdown, ranking_picture, ranking_table

SCENARIOS = {
    "task_aware": (task_aware.TaskAwareConfig, task_aware.build_scenario),
    "class_wise": (class_wise.ClassWiseConfig, class_wise.build_scenario),
    "random_sample": (random_sample.RandomSampleConfig, random_sample.build_scenario),
}
assert set(SCENARIOS) == set(EXPERIMENTS)


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


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--scenario", default="task_aware")
    first.add_argument("--list", action="store_true")
    known, rest = first.parse_known_args(arguments)
    if known.list:
        list_methods(Console())
        return 0
    if known.scenario not in SCENARIOS:
        message = f"unknown scenario {known.scenario!r}; {nearest(known.scenario, SCENARIOS)}"
        Console(stderr=True).print(f"[red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
        return 2
    kind, build_scenario = SCENARIOS[known.scenario]
    if "--methods" not in rest:
        rest += ["--methods", *METHODS]
    return main(
        kind,
        known.scenario,
        __doc__ or "",
        build_scenario,
        rest,
        program=f"compare --scenario {known.scenario}",
        conclude=conclude,
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
