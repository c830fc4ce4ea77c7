"""From words on a command line to configurations; the two helps: `-h`, what people use; `--help`, everything.

A configuration inherits its fields from groups (see `options`). Tyro lays the groups side by side, so that each is a
heading, and every field of every group is an option and a line of `--help`: there is no other list of options.
"""

import dataclasses
import inspect
import os
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, NoReturn, TypeVar

import tyro

from ugclu_jax.data import DATASETS
from ugclu_jax.harness import settings_file, words
from ugclu_jax.harness.config import SETTINGS, ExperimentConfig, from_dict, merge, nearest, to_dict
from ugclu_jax.harness.options import Parts, RunOptions
from ugclu_jax.harness.scenarios import SCENARIOS
from ugclu_jax.harness.settings_file import SettingsFile

C = TypeVar("C", bound=ExperimentConfig)
PRESETS = SETTINGS / "presets"
SHORT, WHOLE = "-h", "--help"


@dataclass(frozen=True)
class Origin:
    """Where the settings of a run come from, so that a message can name each as it was given."""

    given: words.Words
    options: tuple[words.Option, ...]
    file: SettingsFile | None = None

    def named(self, key: str) -> str:
        """A setting as the user gave it, or would give it."""
        if key in self.given.typed:
            return self.given.typed[key]
        place = None if self.file is None else self.file.place(key)
        if place is not None and self.file is not None and self.file.path.parent != SETTINGS:
            return f"{place} (settings file {self.file.path})"
        return "--" + key.replace("_", "-")

    def told_of(self, error: BaseException) -> str:
        """The message of an error; of a file that a setting named, with that name."""
        if not isinstance(error, OSError) or error.filename is None:
            return self.told(str(error))
        path = Path(os.fsdecode(error.filename))
        there = [path.absolute(), *path.absolute().parents]
        paths = {key: value for key, value in self.given.values.items() if isinstance(value, str)}
        typed = [self.given.typed[key] for key, value in paths.items() if value and Path(value).absolute() in there]
        return f"{f'{typed[0]} is ' if typed else ''}{path}: {error.strerror}"

    def told(self, message: str) -> str:
        """A message that begins with the key of a setting, with the name that the user gave it."""
        found = re.match(r"(?:option )?(?!settings file)(?P<key>[\w.]+)", message)
        keys = {option.key for option in self.options}
        if found is None:
            return message
        ending = [key for key in keys if key == found["key"] or key.endswith("." + found["key"])]
        # Of two settings of one name, such as cache_dir and data.cache_dir, an "option" is that of a part.
        parts = [key for key in ending if "." in key] if message.startswith("option ") else []
        same = parts or [key for key in ending if key == found["key"]] or ending
        return self.named(same[0]) + message[found.end() :] if len(same) == 1 else message


class Asked(NamedTuple):
    """What a command line asks for."""

    configurations: list[Any]
    origin: Origin


@dataclass(frozen=True)
class FirstWords:
    """What decides the defaults of all else."""

    dataset: str = RunOptions.dataset
    settings: Path | None = None
    preset: str | None = None
    smoke: bool = False
    scenario: str | None = None


def first_words(arguments: Sequence[str]) -> FirstWords:
    """Read what decides the defaults, and judge nothing else.

    Raises:
        ValueError: an option without its value, or with one that it cannot have.

    >>> first_words(["--capacity", "5", "--smoke", "--dataset=text"])
    FirstWords(dataset='text', settings=None, preset=None, smoke=True, scenario=None)
    """
    options = words.options_of([FirstWords])
    own: list[str] = []
    for place, word in enumerate(arguments):
        if word.partition("=")[0] not in options:
            continue
        takes_next = options[word.partition("=")[0]].hint is not bool and "=" not in word
        own += arguments[place : place + 1 + takes_next]
    found = words.read(own, options, {}).values
    return from_dict(FirstWords, dict(found))


def presets() -> list[str]:
    """The names that `--preset` takes.

    >>> presets()
    ['cifar10-resnet18', 'tiny-imagenet-swin-t']
    """
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def defaults(
    kind: type[C], experiment: str, first: FirstWords, over: Mapping[str, Any] = MappingProxyType({})
) -> tuple[C, SettingsFile]:
    """The configuration of the settings file or preset that the first words name, or the dataset's own; and that file.

    Args:
        kind: of the experiment.
        experiment: its name.
        first: see `first_words`.
        over: settings of the program in place of the file's.

    Raises:
        ValueError: an unknown dataset or preset, both a preset and a settings file, or a bad settings file.
        OSError: a settings file that cannot be read.
    """
    if first.preset is not None:
        names = presets()
        if first.preset not in names:
            raise ValueError(f"unknown preset {first.preset!r}; {nearest(first.preset, names)}")
        if first.settings is not None:
            raise ValueError(f"--preset {first.preset} and --settings {first.settings} are given; leave one out")
    own = SETTINGS / f"{first.dataset}.json" if first.preset is None else PRESETS / f"{first.preset}.json"
    path = first.settings or own
    if first.settings is None and first.preset is None and first.dataset not in DATASETS:
        raise ValueError(f"unknown dataset {first.dataset!r}; {nearest(first.dataset, DATASETS)}")
    file = settings_file.read(path, experiment, first.smoke)
    return from_dict(kind, merge(file.values, dict(over))), file


def groups_of(kind: type) -> list[type]:
    """The classes that give a configuration its fields: its own first, then those that all have.

    >>> [group.__name__ for group in groups_of(ExperimentConfig)]
    ['RunOptions', 'RequestOptions', 'DataAndModelOptions', 'EvaluationOptions', 'DeviceOptions', 'PlaceOptions', \
'Parts']
    """
    giving = [base for base in kind.__mro__ if dataclasses.is_dataclass(base) and inspect.get_annotations(base)]
    common = [base for base in reversed(ExperimentConfig.__bases__) if base in giving]
    return [*(base for base in giving if base not in common), *common]


def parse(
    configurations: Sequence[Any],
    arguments: Sequence[str],
    program: str,
    description: str,
    file: SettingsFile | None = None,
) -> Asked:
    """The configurations, with what the command line says in place of their own values.

    Args:
        configurations: instances of dataclasses, no two of which have a field of the same name; or classes, all of
            whose fields without a default must be given.
        arguments: of the command line.
        program, description: of the help.
        file: where the values of the configurations stand.

    Raises:
        ValueError: a bad command line: the first thing in it that is wrong, by the option as it was typed.
        SystemExit: with code 0, after `-h` and `--help`.
    """
    kinds = [one if isinstance(one, type) else type(one) for one in configurations]
    if SHORT in arguments or WHOLE in arguments:
        show_help(configurations, kinds, WHOLE if WHOLE in arguments else SHORT, program, description)
    options = words.options_of(kinds)
    origin = Origin(words.read(arguments, options, elsewhere(options)), tuple(options.values()), file)
    made: list[Any] = []
    for one, kind in zip(configurations, kinds, strict=True):
        names = {field.name for field in dataclasses.fields(kind)}
        own = {key: value for key, value in origin.given.values.items() if key.split(".")[0] in names}
        for field in dataclasses.fields(kind) if one is kind else ():
            name, default = f"--{field.name.replace('_', '-')}", (field.default, field.default_factory)
            if field.name not in own and default == (dataclasses.MISSING, dataclasses.MISSING):
                raise ValueError(f"{name} is missing: give {name} {options[name].metavar}")
        there = {} if one is kind else to_dict(one)
        try:
            made.append(from_dict(kind, merge(there, words.nested(own))))
        except ValueError as error:
            raise ValueError(origin.told(str(error))) from error
    return Asked(made, origin)


def elsewhere(options: Mapping[str, words.Option]) -> dict[str, str]:
    """Options that some experiments have and these have not, and where they belong."""
    found: dict[str, list[str]] = {}
    for name, scenario in SCENARIOS.items():
        for option in words.options_of([scenario.config]):
            if option not in options:
                found.setdefault(option, []).append(name)
    chooses = "--scenario" in options
    return {
        option: " or ".join(f"--scenario {name}" if chooses else f"experiments.{name}" for name in names)
        for option, names in found.items()
    }


def show_help(
    configurations: Sequence[Any], kinds: Sequence[type], which: str, program: str, description: str
) -> NoReturn:
    """Print a help with the values of the configurations as defaults.

    Raises:
        SystemExit: with code 0.
    """
    groups = [group for kind in kinds for group in groups_of(kind)]
    if which == SHORT:
        groups = [group for group in groups if group is RunOptions or group not in ExperimentConfig.__bases__]
        about = [part for part in description.strip().split("\n\n")[:2] if not part.startswith("  ")]
        description = "\n\n".join([*about, "The options most used; --help shows all:"])
    values = {
        field.name: getattr(one, field.name, tyro.MISSING)
        for one, kind in zip(configurations, kinds, strict=True)
        for field in dataclasses.fields(kind)
    }
    headings: list[tuple[str, Any, Any]] = []
    for group in groups:
        own = group(**{field.name: values[field.name] for field in dataclasses.fields(group)})
        # Parts keep the names of their fields in front of their options, and have headings of their own.
        plain: Any = Annotated[group, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=heading(group))]
        kind: Any = Annotated[group, tyro.conf.arg(name="")] if group is Parts else plain
        headings.append((group.__name__, kind, dataclasses.field(default=own)))
    together = dataclasses.make_dataclass(program, headings, frozen=True)
    tyro.cli(together, args=[WHOLE], prog=f"python -m experiments.{program}", description=wrapped(description))
    raise AssertionError("a help ends the program")


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
