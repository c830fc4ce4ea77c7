"""A settings file: read whatever stands in it, checked as a whole, and the place of each setting in it.

A file holds settings for all experiments, and parts of its own for some: `experiments.NAME` and `smoke`. A slip in a
part that the run at hand does not use is refused as well: the run that does would find it after hours.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax.harness import json_file
from ugclu_jax.harness.budget import check_references
from ugclu_jax.harness.config import EXPERIMENTS, ExperimentConfig, from_dict, hints_of, merge, nearest
from ugclu_jax.harness.scenarios import SCENARIOS


class SettingsFile(NamedTuple):
    """What a file holds.

    Attributes:
        path: of the file.
        parts: each with the beginning of its keys, those that override the ones before them last.
    """

    path: Path
    parts: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def values(self) -> dict[str, Any]:
        """All settings together."""
        values: dict[str, Any] = {}
        for _, part in self.parts:
            values = merge(values, part)
        return values

    def place(self, key: str) -> str | None:
        """Where a setting stands, as a dotted key of the file; None: not there.

        >>> SettingsFile(Path("a.json"), (("", {"keep": 2}), ("smoke.", {"keep": 1}))).place("keep")
        'smoke.keep'
        """
        for start, part in reversed(self.parts):
            here: Any = part
            for name in key.split("."):
                here = here.get(name) if isinstance(here, dict) and name in here else _ABSENT
            if here is not _ABSENT:
                return start + key
        return None

    def placed(self, message: str) -> str:
        """A message that begins with a key, with its place in the file instead."""
        found = re.match(r"(?P<before>(?:unknown )?(?:setting |method )?'?)(?P<key>[^\s':]+)", message)
        key = found["key"] if found else ""
        place = self.place(key)
        if found is None or place is None:
            return message
        return f"{found['before']}{place}{message[found.end() :]}"


_ABSENT = object()


def load_json(path: Path) -> dict[str, Any]:
    """What a settings file holds, as it stands there, in UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: it is not a JSON object as the standard has it; see `strict_json.parse`.
        OSError: it cannot be read.
    """
    values = json_file.load(path, "settings file", "--settings")
    _check_object(path, "the file", values)
    return values


def read(path: Path, experiment: str, smoke: bool) -> SettingsFile:
    """Defaults from a settings file: its own, then those of the experiment, then those of the smoke size.

    Raises:
        ValueError: not a JSON object of settings, an unknown experiment, or a wrong setting in any part of it.
        OSError: it cannot be read.
    """
    values = load_json(path)
    by_experiment, by_size = values.pop("experiments", {}), values.pop("smoke", None)
    if smoke and by_size is None:
        raise ValueError(f"settings file {path} has no part 'smoke', so --smoke would change nothing: leave it out")
    by_size = {} if by_size is None else by_size
    for where, part in (("'experiments'", by_experiment), ("'smoke'", by_size)):
        _check_object(path, where, part)
    for name, part in by_experiment.items():
        if name not in EXPERIMENTS:
            raise ValueError(f"settings file {path}: unknown experiment {name!r}; {nearest(name, EXPERIMENTS)}")
        _check_object(path, repr(name), part)
    named = [(f"experiments.{name}.", part) for name, part in by_experiment.items()]
    for start, part in (("", values), ("smoke.", by_size), *named):
        for key in _OF_THE_COMMAND_LINE & part.keys():
            raise ValueError(f"settings file {path}: {start}{key} is of the command line alone; give --{key} there")

    def found(name: str, size: bool, of_all: dict[str, Any]) -> SettingsFile:
        own, small = by_experiment.get(name, {}), by_size if size else {}
        return SettingsFile(path, (("", of_all), (f"experiments.{name}.", own), ("smoke.", small)))

    for name in sorted(EXPERIMENTS, key=lambda name: name != experiment):  # the run's own first
        kind = SCENARIOS[name].config
        # What stands for all may be of the experiment at hand alone, or have other choices there.
        of_all = values if name == experiment else {k: v for k, v in values.items() if k in hints_of(ExperimentConfig)}
        for size in (smoke, not smoke):
            _check(found(name, size, of_all), kind, experiment)
    return found(experiment, smoke, values)


_OF_THE_COMMAND_LINE = {"settings", "preset"}


def _check(file: SettingsFile, kind: type[ExperimentConfig], experiment: str) -> None:
    for start, part in file.parts:  # by itself first: what overrides a wrong value must not hide it
        for key in part:
            others = [name for name, other in SCENARIOS.items() if key in hints_of(other.config)]
            if key not in hints_of(kind) and others:
                raise ValueError(
                    f"settings file {file.path}: {start}{key} is a setting of {' and '.join(others)}, not of "
                    f"{experiment}: move it to experiments.{others[0]}"
                )
    for parts in (file.parts[:1], file.parts[:2], file.parts):
        some = file._replace(parts=parts)
        try:
            check_references(from_dict(kind, some.values).references)
        except ValueError as error:
            raise ValueError(f"settings file {file.path}: {some.placed(str(error))}") from error


def _check_object(path: Path, where: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"settings file {path}: {where} must be a JSON object, got {type(value).__name__}")
