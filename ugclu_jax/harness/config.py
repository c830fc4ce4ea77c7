"""The configuration of an experiment, to and from JSON."""

import dataclasses
import difflib
import functools
import json
import math
import os
import re
import sys
import types
import typing
from collections.abc import Mapping
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


def hints_of(kind: Any) -> Mapping[str, Any]:
    """The types of the fields of a dataclass by name; evaluated once, which takes a millisecond."""
    return _hints_of(kind)


@functools.cache
def _hints_of(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


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


def from_dict(kind: type[T], values: dict[str, Any], where: str = "", base: T | None = None) -> T:
    """A dataclass from a (partial) dictionary of its settings.

    Args:
        kind: the dataclass.
        values: its settings; those of a part of it are a dictionary again.
        where: begins every dotted name in a message.
        base: has what `values` leave out; None = the defaults of `kind`, where a part has what this field of it has.

    Raises:
        ValueError: an unknown key, a value of the wrong type, or one that the class refuses, by its dotted name.

    >>> from_dict(PlaceOptions, {"kep": 3})
    Traceback (most recent call last):
        ...
    ValueError: unknown setting 'kep'; did you mean keep? Valid: cache_dir, keep
    >>> from_dict(ExperimentConfig, {"learn": {"settings": {"outer_steps": 0}}})
    Traceback (most recent call last):
        ...
    ValueError: learn.settings.outer_steps must be at least 1, got 0
    >>> from_dict(ExperimentConfig, {"learn": {"settings": {"outer_steps": 7}}}).learn.settings.inner_data
    'mixed'
    """
    hints = hints_of(kind)
    for key in values:
        if key not in hints:
            raise ValueError(f"unknown setting {where + key!r}; {nearest(key, hints)}")
    made = {key: _convert(hints[key], value, where + key, _default(kind, key, base)) for key, value in values.items()}
    try:
        return kind(**made) if base is None else dataclasses.replace(base, **made)  # type: ignore[type-var]
    except ValueError as error:  # which begins with the name of a field
        raise ValueError(f"{where}{error}") from error


def _default(kind: type[T], name: str, base: T | None) -> Any:
    """What a field holds where nothing is given; None: it must be given."""
    if base is not None:
        return getattr(base, name)
    made = kind.__dataclass_fields__[name].default_factory  # type: ignore[attr-defined]
    return None if made is dataclasses.MISSING else made()


def _convert(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"setting {where!r} must be an object of settings, got {shown(value)}")
        return from_dict(hint, value, where + ".", default)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and isinstance(value, dict):
        return value  # read where it is used, by those who know its keys
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        literal = next((a for a in arguments if typing.get_origin(a) is Literal), None)
        if literal is not None and value in typing.get_args(literal):
            return value
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and arguments[0] is int and isinstance(value, list | tuple):
        parts = [numbers_of(each, f"setting {where!r}") if isinstance(each, str) else [each] for each in value]
        return tuple(_convert(int, each, where) for part in parts for each in part)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], each, where) for each in value)
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if hint is Path and isinstance(value, str | Path):
        return path_of(str(value), f"setting {where!r}")
    if hint is float and value == "inf":  # which JSON has no number for
        return math.inf
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) > sys.float_info.max and not isinstance(value, float):
            raise ValueError(f"setting {where!r} must be a number that a float can hold, got {shown(value)}")
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"setting {where!r} must be {expected}, got {shown(value)}")


_RANGE = re.compile(r"([+-]?[0-9]{1,40}):([+-]?[0-9]{1,40})")
LONGEST_RANGE = 2**16
"""Numbers that one range may stand for: each is a run, whose checkpoints are a folder."""


def numbers_of(text: str, name: str) -> list[int]:
    """The whole number, or the half-open range of them, that a word stands for.

    Args:
        text: of digits, or START:STOP.
        name: of the option or setting that gave it.

    Raises:
        ValueError: neither of both, or a range of nothing, or of too many.

    >>> numbers_of("7", "--seeds"), numbers_of("2:5", "--seeds")
    ([7], [2, 3, 4])
    >>> numbers_of("5:2", "--seeds")
    Traceback (most recent call last):
        ...
    ValueError: --seeds is '5:2': a range ends above where it starts; give START:STOP, such as 2:5
    """
    if re.fullmatch(r"[+-]?[0-9]{1,40}", text):
        return [int(text)]
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{name} is {shown(text)}: it must be a whole number, or a range START:STOP such as 0:32")
    start, stop = int(found[1]), int(found[2])
    if stop <= start:
        example = f"{stop}:{start}" if stop < start else f"{start}:{start + 1}"
        rule = "a range ends above where it starts"
        raise ValueError(f"{name} is {shown(text)}: {rule}; give START:STOP, such as {shown(example)[1:-1]}")
    if stop - start > LONGEST_RANGE:
        raise ValueError(f"{name} is {shown(text)}: a range stands for {LONGEST_RANGE} numbers at most; give fewer")
    return list(range(start, stop))


def path_of(text: str, name: str) -> Path:
    """A path that a file system can have.

    Args:
        text: of the path.
        name: of the option or setting that gave it.

    Raises:
        ValueError: an empty text, or one with a character that no file system takes.

    >>> path_of("", "--run-dir")
    Traceback (most recent call last):
        ...
    ValueError: --run-dir is '': give a path, or leave it out
    """
    if not text:
        raise ValueError(f"{name} is '': give a path, or leave it out")
    try:
        fits = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} is {shown(text)}: no file can have this name; correct it")
    return Path(text)


def shown(value: Any) -> str:
    """A value in a message: never so long that it hides the rule.

    >>> shown("many"), shown(None), len(shown("x" * 1000))
    ("'many'", 'None', 83)
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a whole number of thousands of digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:40]}...{text[-40:]}"
