"""`-h` and `--help` of every program: what they show, at which width, and what they wait for."""

import dataclasses
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from experiments import (
    ablation,
    alignment,
    architectures,
    compare,
    grid,
    hypergradients,
    long_stream,
    many_models,
    multimodal,
    one_default,
    oracle_free,
    paper_tables,
    people,
    regimes,
    saliency_threshold,
    search,
    text,
    trajectory,
)
from ugclu_jax.harness.scenarios import SCENARIOS

HEAVY = {"sklearn", "scipy", "matplotlib", "orbax", "tensorflow_datasets", "torch"}
CONFIGURATIONS = {
    **{name: (scenario.config,) for name, scenario in SCENARIOS.items()},
    "alignment": (alignment.AlignmentOptions, SCENARIOS["random_sample"].config),
    "compare": (compare.CompareOptions, SCENARIOS["task_aware"].config),
    "many_models": (many_models.ManyOptions, SCENARIOS["random_sample"].config),
    "trajectory": (trajectory.TrajectoryOptions, SCENARIOS["random_sample"].config),
    "search": (search.SearchOptions, SCENARIOS["task_aware"].config),
    "hypergradients": (hypergradients.HypergradientOptions, SCENARIOS["class_wise"].config),
    "one_default": (one_default.OneDefaultOptions,),
    "architectures": (architectures.ArchitecturesConfig,),
    "people": (people.PeopleConfig,),
    "text": (text.TextConfig,),
    "multimodal": (multimodal.MultimodalConfig,),
    "oracle_free": (oracle_free.OracleFreeConfig,),
    "long_stream": (long_stream.LongStreamConfig,),
    "ablation": (ablation.AblationConfig,),
    "paper_tables": (paper_tables.PaperTablesConfig,),
    "regimes": (regimes.RegimesConfig,),
    "saliency_threshold": (saliency_threshold.SaliencyThresholdConfig,),
    "grid": (grid.GridConfig,),
}
NOT_OPTIONS = {"--references"}  # of the settings file alone


def options_of(kind: type, prefix: str = "") -> set[str]:
    hints, found = typing.get_type_hints(kind), set()
    for field in dataclasses.fields(kind):
        name = f"{prefix}{field.name}"
        part = dataclasses.is_dataclass(hints[field.name])
        found |= options_of(hints[field.name], f"{name}.") if part else {"--" + name.replace("_", "-")}
    return found - NOT_OPTIONS


def shown_by(program: str, argument: str, *python: str) -> subprocess.CompletedProcess[str]:
    """What a program prints into a pipe where the terminal has 80 columns."""
    return subprocess.run(
        [sys.executable, *python, "-m", f"experiments.{program}", argument],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )


@pytest.mark.parametrize("program", CONFIGURATIONS)
def test_help_shows_every_field_and_imports_nothing_heavy(program):
    done = shown_by(program, "--help", "-X", "importtime")
    packages = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert {"jax", "tyro"} <= packages, "the list of imports was read"
    assert not packages & HEAVY
    wanted = set().union(*map(options_of, CONFIGURATIONS[program]))
    found = re.findall(r"^│ (--[a-z0-9.-]+)", done.stdout, flags=re.MULTILINE)
    assert len(found) == len(set(found)), "each once"
    assert wanted <= set(found), wanted - set(found)
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("program", ["report", "purge", "privacy_audit"])
def test_help_of_what_reads_a_run_waits_for_nothing(program):
    done = shown_by(program, "--help", "-X", "importtime")
    packages = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "tyro" in packages and not packages & HEAVY
    assert f"usage: python -m experiments.{program}" in done.stdout and "RUN_DIR" in done.stdout


@pytest.mark.parametrize("program", CONFIGURATIONS)
def test_the_short_help_fits_a_page(program):
    short = shown_by(program, "-h").stdout
    assert max(map(len, short.splitlines())) <= 80
    assert "--help shows all" in short and f"usage: python -m experiments.{program} [-h]" in short
    found = set(re.findall(r"^│ (--[a-z0-9.-]+)", short, flags=re.MULTILINE))
    own, *common = CONFIGURATIONS[program] if program not in SCENARIOS else [None, *CONFIGURATIONS[program]]
    assert own is None or options_of(own) <= found
    assert not common or {"--dataset", "--model", "--methods", "--seeds", "--run-dir", "--smoke"} <= found
    assert len(found) <= 17


def test_choices_are_spelled_out_and_groups_have_names():
    whole = shown_by("search", "--help").stdout
    assert "--scenario {task_aware,class_wise,random_sample}" in whole
    assert "package.module:factory" in " ".join(whole.replace("│", " ").split())
    for group in ("search", "task", "run", "data and model", "evaluation", "device", "place", "learn.settings"):
        assert f"╭─ {group} options ─" in whole
