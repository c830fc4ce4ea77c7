"""The configuration of an experiment, to and from JSON; its defaults from a settings file."""

import dataclasses
import difflib
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ugclu_jax.harness.options import (
    DataAndModelOptions,
    DeviceOptions,
    EvaluationOptions,
    Parts,
    PlaceOptions,
    RequestOptions,
    RunOptions,
    ScenarioName,
)

SETTINGS = Path(__file__).parent / "settings"
EXPERIMENTS: tuple[str, ...] = typing.get_args(ScenarioName)
T = TypeVar("T")


@dataclass(frozen=True)
class ExperimentConfig(
    Parts, PlaceOptions, DeviceOptions, EvaluationOptions, DataAndModelOptions, RequestOptions, RunOptions
):
    """Settings that every experiment has."""


def nearest(name: str, valid: typing.Iterable[str]) -> str:
    """The part of an error message that helps with a mistyped name.

    >>> nearest("ugclu", ["ug_clu", "do_nothing"])
    'did you mean ug_clu? Valid: do_nothing, ug_clu'
    """
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"Valid: {', '.join(valid)}"


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, nested dictionaries merged.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The configuration as JSON-compatible values; paths become text."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_dict(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """A dataclass from a (partial) dictionary of its settings.

    Raises:
        ValueError: an unknown key or a value of the wrong type, by its dotted name.

    >>> from_dict(PlaceOptions, {"kep": 3})
    Traceback (most recent call last):
        ...
    ValueError: unknown setting 'kep'; did you mean keep? Valid: cache_dir, keep
    """
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ValueError(f"unknown setting {where + key!r}; {nearest(key, hints)}")
    return kind(**{key: _convert(hints[key], value, where + key) for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"setting {where!r} must be an object of settings, got {value!r}")
        return from_dict(hint, value, where + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and isinstance(value, dict):
        return value  # read where it is used, by those who know its keys
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is Literal and value in arguments:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"setting {where!r} must be {expected}, got {value!r}")


def load_json(path: Path) -> dict[str, Any]:
    """What a settings file holds, as it stands there.

    Raises:
        ValueError: it is not a JSON object.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"settings file {path} is not JSON: {error}") from error
    _check_object(path, "the file", values)
    return values


def read_settings(path: Path, experiment: str, smoke: bool) -> dict[str, Any]:
    """Defaults from a settings file: its own, then those of the experiment, then those of the smoke size.

    Raises:
        ValueError: the file is not a JSON object of settings, or it has settings for an unknown experiment.
        OSError: it cannot be read.
    """
    values = load_json(path)
    by_experiment, by_size = values.pop("experiments", {}), values.pop("smoke", {})
    for where, part in (("'experiments'", by_experiment), ("'smoke'", by_size)):
        _check_object(path, where, part)
    for name, part in by_experiment.items():
        if name not in EXPERIMENTS:
            raise ValueError(f"settings file {path}: unknown experiment {name!r}; {nearest(name, EXPERIMENTS)}")
        _check_object(path, repr(name), part)
    values = merge(values, by_experiment.get(experiment, {}))
    return merge(values, by_size) if smoke else values


def _check_object(path: Path, where: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"settings file {path}: {where} must be a JSON object, got {type(value).__name__}")
