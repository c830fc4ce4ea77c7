"""From words on a command line to configurations, and the two helps: `-h`, what people use; `--help`, everything.

A configuration inherits its fields from groups (see `options`). Tyro parses the groups side by side, so that each is a
heading, and every field of every group is an option and a line of `--help`: there is no other list of options.
"""

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ugclu_jax.harness.config import SETTINGS, ExperimentConfig, from_dict, nearest, read_settings
from ugclu_jax.harness.options import Parts, RunOptions

C = TypeVar("C", bound=ExperimentConfig)
SHORT, WHOLE = "-h", "--help"


@dataclass(frozen=True)
class FirstWords:
    """What decides the defaults of all else."""

    dataset: str = RunOptions.dataset
    settings: Path | None = None
    smoke: bool = False
    scenario: str | None = None


def first_words(arguments: Sequence[str], program: str) -> FirstWords:
    """Read what decides the defaults, and nothing else.

    Raises:
        SystemExit: with code 2, after a message, for an option without its value.
    """
    return tyro.cli(
        FirstWords,
        args=list(arguments),
        prog=f"python -m experiments.{program}",
        return_unknown_args=True,
        add_help=False,
    )[0]


def defaults(kind: type[C], experiment: str, first: FirstWords) -> C:
    """The configuration of the settings file that the first words name, or the dataset's own.

    Raises:
        ValueError: an unknown dataset, or a bad settings file.
        OSError: a settings file that cannot be read.
    """
    path = first.settings or SETTINGS / f"{first.dataset}.json"
    if first.settings is None and not path.is_file():
        names = (file.stem for file in SETTINGS.glob("*.json"))
        raise ValueError(f"unknown dataset {first.dataset!r}; {nearest(first.dataset, names)}")
    return from_dict(kind, read_settings(path, experiment, first.smoke))


def groups_of(kind: type) -> list[type]:
    """The classes that give a configuration its fields: its own first, then those that all have.

    >>> [group.__name__ for group in groups_of(ExperimentConfig)]
    ['RunOptions', 'RequestOptions', 'DataAndModelOptions', 'EvaluationOptions', 'DeviceOptions', 'PlaceOptions', \
'Parts']
    """
    giving = [base for base in kind.__mro__ if dataclasses.is_dataclass(base) and inspect.get_annotations(base)]
    common = [base for base in reversed(ExperimentConfig.__bases__) if base in giving]
    return [*(base for base in giving if base not in common), *common]


def parse(configurations: Sequence[Any], arguments: Sequence[str], program: str, description: str) -> list[Any]:
    """The configurations, with what the command line says in place of their own values.

    Args:
        configurations: instances of dataclasses, no two of which have a field of the same name.
        arguments: of the command line.
        program, description: of the help.

    Raises:
        SystemExit: with code 2, after a message, for a bad command line; with 0 for `-h` and `--help`.
    """
    values = {field.name: getattr(one, field.name) for one in configurations for field in dataclasses.fields(one)}
    groups = [group for one in configurations for group in groups_of(type(one))]
    if SHORT in arguments and WHOLE not in arguments:
        used = [group for group in groups if group is RunOptions or group not in ExperimentConfig.__bases__]
        about = [part for part in description.strip().split("\n\n")[:2] if not part.startswith("  ")]
        question = "\n\n".join([*about, "The options most used; --help shows all:"])
        _parse(used, values, [WHOLE], program, question)
    values |= _parse(groups, values, arguments, program, description)
    return [
        dataclasses.replace(one, **{f.name: values[f.name] for f in dataclasses.fields(one)}) for one in configurations
    ]


def _parse(
    groups: Sequence[type], values: Mapping[str, Any], arguments: Sequence[str], program: str, description: str
) -> dict[str, Any]:
    """Values of the fields of all groups, each group under its own heading."""
    headings: list[tuple[str, Any, Any]] = []
    for group in groups:
        own = group(**{field.name: values[field.name] for field in dataclasses.fields(group)})
        # Parts keep the names of their fields in front of their options, and have headings of their own.
        plain: Any = Annotated[group, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=heading(group))]
        kind: Any = Annotated[group, tyro.conf.arg(name="")] if group is Parts else plain
        headings.append((group.__name__, kind, dataclasses.field(default=own)))
    together = dataclasses.make_dataclass(program, headings, frozen=True)
    found: Any = tyro.cli(
        together, args=list(arguments), prog=f"python -m experiments.{program}", description=wrapped(description)
    )
    return {name: value for part in vars(found).values() for name, value in vars(part).items()}


def heading(group: type) -> str:
    """The name of a group as the help has it, where tyro adds "options" to it.

    >>> heading(RunOptions)
    'run'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", group.__name__.removesuffix("Options")).lower()


def wrapped(description: str) -> str:
    """A description at the width of the terminal, 80 in a pipe; what is indented stays as it is.

    Continued lines are indented: tyro would join them again.
    """
    width = shutil.get_terminal_size().columns
    return "\n\n".join(
        part if part.startswith("  ") else textwrap.fill(part, width, subsequent_indent="  ")
        for part in description.strip().split("\n\n")
    )
