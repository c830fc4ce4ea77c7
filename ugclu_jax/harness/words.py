"""The words of a command line as values: which options there are, what each takes, and as what it was typed.

A word is read by the type of its field alone; what the value may be, the field's class says, as for a settings file.
Tyro, which makes the helps of the same fields, does not read the words: it takes the last of an option that is given
twice without a word, and fills a box where one sentence, by the option as it was typed, is asked for.
"""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ugclu_jax.harness.config import hints_of, numbers_of, path_of, shown


class Option(NamedTuple):
    """An option of the command line."""

    key: str  # dotted: of the field in its configuration
    hint: Any
    off: bool = False  # whether it says no to a flag

    @property
    def metavar(self) -> str:
        """What the help has after its name."""
        choices = choices_of(self.hint)
        if choices:
            return "{" + ",".join(choices) + "}"
        return "" if self.hint is bool else scalar_of(self.hint).__name__.upper()


@dataclass(frozen=True)
class Words:
    """What stands on a command line.

    Attributes:
        values: by dotted key, as JSON has them.
        typed: the option of each as it was typed.
    """

    values: Mapping[str, Any]
    typed: Mapping[str, str]


def options_of(kinds: Iterable[type], prefix: str = "") -> dict[str, Option]:
    """The options of dataclasses, by their names; a field that is one itself stands in front of the options it has.

    >>> from ugclu_jax.harness.options import DeviceOptions
    >>> sorted(options_of([DeviceOptions]))[:3]
    ['--coordinator', '--device-budget-mb', '--devices']
    """
    found: dict[str, Option] = {}
    for kind in kinds:
        for name, hint in hints_of(kind).items():
            key = prefix + name
            if dataclasses.is_dataclass(hint):
                found |= options_of([typing.cast(type, hint)], f"{key}.")
            elif typing.get_origin(hint) is not dict:  # of the settings file alone
                found[_spelled(key)] = Option(key, hint)
                if hint is bool:
                    found[_spelled(f"{prefix}no_{name}")] = Option(key, hint, off=True)
    return found


def read(arguments: Sequence[str], options: Mapping[str, Option], elsewhere: Mapping[str, str]) -> Words:
    """The values of a command line.

    Args:
        arguments: its words.
        options: all that the program has.
        elsewhere: options of other programs, with the words that say where they belong.

    Raises:
        ValueError: an unknown or repeated option, or a value that it cannot have; the first of them.

    >>> from ugclu_jax.harness.options import DeviceOptions
    >>> dict(read(["--devices", "2", "--over=seeds"], options_of([DeviceOptions]), {}).values)
    {'devices': 2, 'over': 'seeds'}
    """
    values: dict[str, Any] = {}
    typed: dict[str, str] = {}
    place = 0
    while place < len(arguments):
        word, equals, attached = arguments[place].partition("=")
        place += 1
        if not word.startswith("--") or word == "--":
            raise ValueError(f"{shown(arguments[place - 1])} belongs to no option; see --help")
        option = options.get(_spelled(word[2:]))
        if option is None:
            raise ValueError(_unknown(word, options, elsewhere))
        if option.key in typed:
            raise ValueError(f"{typed[option.key]} and {word} are the same option: give it once")
        given = [attached] if equals else []
        many, flag = typing.get_origin(option.hint) is tuple, option.hint is bool
        while not equals and not flag and place < len(arguments) and not arguments[place].startswith("--"):
            if given and not many:
                raise ValueError(f"{word} takes one value, got {shown(given[0])} and {shown(arguments[place])}")
            given.append(arguments[place])
            place += 1
        if flag and given:
            raise ValueError(f"{word} takes no value, got {shown(attached)}")
        if many and not given:
            raise ValueError(f"{word} must be one or more different values, got none")
        if not flag and not given:
            raise ValueError(f"{word} needs a value: {word} {option.metavar}")
        typed[option.key] = word
        if flag:
            values[option.key] = not option.off
        elif many:
            (kind, _) = typing.get_args(option.hint)
            parts = [numbers_of(each, word) if kind is int else [_value(each, kind, word)] for each in given]
            values[option.key] = [value for part in parts for value in part]
        else:
            values[option.key] = _value(given[0], option.hint, word)
    return Words(values, typed)


def scalar_of(hint: Any) -> type:
    """The type of one value: of one of many, or of one that may be left out.

    >>> scalar_of(tuple[int, ...]), scalar_of(Path | None)
    (<class 'int'>, <class 'pathlib.Path'>)
    """
    parts = [part for part in typing.get_args(hint) if isinstance(part, type) and part is not type(None)]
    return parts[0] if parts else hint


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words that a value may be, where these are all.

    >>> choices_of(Literal["a", "b"]), choices_of(int | Literal["all"])
    (('a', 'b'), ())
    """
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys as the objects of a settings file.

    >>> nested({"a.b": 1, "a.c": 2, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        *parts, last = key.split(".")
        here = found
        for part in parts:
            here = here.setdefault(part, {})
        here[last] = value
    return found


_FLOAT = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?inf|nan"


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")


def _value(word: str, hint: Any, option: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        if word == "None" and type(None) in parts:
            return None
        words = [choice for part in parts for choice in choices_of(part)]
        if word in words:
            return word
        return _number(word, scalar_of(hint), option, words)
    choices = choices_of(hint)
    if choices:
        if word not in choices:
            close = difflib.get_close_matches(word, choices, n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"{option} is {shown(word)}: it must be one of {', '.join(choices)}{guess}")
        return word
    return _number(word, hint, option, [])


def _number(word: str, kind: type, option: str, words: Sequence[str]) -> Any:
    if kind is Path:
        return str(path_of(word, option))
    if kind is str:
        return word
    if kind is int and re.fullmatch(r"[+-]?[0-9]{1,40}", word):
        return int(word)
    if kind is float and re.fullmatch(_FLOAT, word, re.IGNORECASE):
        if float(word) in (float("inf"), -float("inf")) and "inf" not in word.lower():
            raise ValueError(f"{option} is {shown(word)}: it is more than a float can hold; give a smaller number")
        return float(word)
    rule = " or ".join(["a whole number" if kind is int else "a number", *words])
    raise ValueError(f"{option} is {shown(word)}: it must be {rule}")


def _unknown(word: str, options: Mapping[str, Option], elsewhere: Mapping[str, str]) -> str:
    spelled = _spelled(word[2:])
    if spelled in elsewhere:
        return f"Unrecognized options: {word}; it is an option of {elsewhere[spelled]}"
    close = difflib.get_close_matches(spelled, options, n=1) or difflib.get_close_matches(
        spelled.rsplit(".", 1)[-1], [name.rsplit(".", 1)[-1] for name in options], n=1
    )
    if not close:
        return f"Unrecognized options: {word}; see --help"
    name = next(name for name in options if name.endswith(close[0]))
    return f"Unrecognized options: {word}; did you mean {name} {options[name].metavar}".rstrip() + "?"
