"""What a run measured, line by line. This file alone knows the keys of `metrics.jsonl`; they are the fields' names.

A *line* is one request of one seed of one method. Its numbers form a tree of named tuples, and so do their means over
seeds (`summaries`): `Value` is `float` in a line and `Statistic` there. None, or an empty mapping, is "undefined".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from ugclu_jax import seals

Value = TypeVar("Value")
EMPTY: Mapping[str, Any] = MappingProxyType({})


class Sides(NamedTuple, Generic[Value]):
    """A divergence on each set of inputs."""

    retained: Value | None = None
    learned: Value | None = None
    unlearned: Value | None = None
    test: Value | None = None
    unlearned_test: Value | None = None


class ModelMetrics(NamedTuple, Generic[Value]):
    """Of the model after the request."""

    LA: Value | None = None
    RA: Value | None = None
    TA: Value | None = None
    UA: Value | None = None
    UA_test: Value | None = None
    MIA: Mapping[str, Value] = EMPTY  # by the attacker's feature
    MIA_AUC: Mapping[str, Value] = EMPTY
    group_accuracy: Mapping[str, Value] = EMPTY  # by task or class
    past_UA: Mapping[str, Value] = EMPTY  # by unlearn request, from 0
    FM: Value | None = None
    relapse: Value | None = None
    KL: Sides[Value] = Sides()
    JS: Sides[Value] = Sides()
    ToW: Value | None = None


class Before(NamedTuple, Generic[Value]):
    """Of the model before an unlearn request, on the examples of the model after it."""

    UA: Value | None = None
    MIA: Mapping[str, Value] = EMPTY
    KL: Sides[Value] = Sides()


class OracleMetrics(NamedTuple, Generic[Value]):
    """Of the oracles, averaged."""

    LA: Value | None = None
    RA: Value | None = None
    TA: Value | None = None
    UA: Value | None = None
    UA_test: Value | None = None
    MIA: Mapping[str, Value] = EMPTY
    MIA_AUC: Mapping[str, Value] = EMPTY
    group_accuracy: Mapping[str, Value] = EMPTY
    past_UA: Mapping[str, Value] = EMPTY


class NoiseFloor(NamedTuple, Generic[Value]):
    """Divergences between oracles of different seeds."""

    KL: Sides[Value] = Sides()
    JS: Sides[Value] = Sides()


class Cost(NamedTuple, Generic[Value]):
    """Forward-backward passes over one batch: of the request, and of retraining instead."""

    gradient_evaluations: Value | None = None
    oracle_gradient_evaluations: Value | None = None


class Timing(NamedTuple, Generic[Value]):
    """Seconds."""

    RTE: Value | None = None
    compile_seconds: Value | None = None
    evaluation_seconds: Value | None = None
    oracle_seconds: Value | None = None


class Numbers(NamedTuple, Generic[Value]):
    """Every number of a line."""

    examples: Value | None = None  # of the request
    retained: Value | None = None  # examples after it
    buffer: Value | None = None  # examples in it
    before: Before[Value] = Before()
    model: ModelMetrics[Value] = ModelMetrics()
    oracle: OracleMetrics[Value] = OracleMetrics()
    noise_floor: NoiseFloor[Value] = NoiseFloor()
    cost: Cost[Value] = Cost()
    mask_density: Mapping[str, Value] = EMPTY  # by parameter
    timing: Timing[Value] = Timing()


class Line(NamedTuple):
    """One request of one seed of one method. Requests count from 0 on disk and from 1 wherever a person reads."""

    method: str
    seed: int
    request: int
    kind: str
    name: str
    numbers: Numbers[float]
    undefined: tuple[str, ...] = ()  # what could not be measured, and why


HEAD = ("method", "seed", "request", "kind", "name")
"""Of a line, what names it."""


def from_json(line: Mapping[str, Any]) -> Line:
    """Read one JSON object of `metrics.jsonl`; what is null or absent is undefined.

    Raises:
        KeyError: the method, seed, request, kind or name is absent.
        TypeError: a number is not one.
        ValueError: a key that no line has.

    >>> line = {"method": "er", "seed": 0, "request": 1, "kind": "learn", "name": "L2", "model": {"KL": {"test": 0.25}}}
    >>> from_json(line).numbers.model.KL.test
    0.25
    """
    method, seed, request, kind, name = (line[each] for each in HEAD)
    numbers = {each: part for each, part in line.items() if each not in (*HEAD, "undefined")}
    undefined = line.get("undefined", [])
    if not isinstance(undefined, list) or not all(isinstance(sentence, str) for sentence in undefined):
        raise TypeError(f"undefined is {undefined!r}, not a list of sentences")
    return Line(method, seed, request, kind, name, _filled(Numbers(), numbers), tuple(undefined))


def _filled(empty: Any, tree: Any, path: str = "") -> Any:
    """`empty`, a part of `Numbers`, with what JSON has for it."""
    if tree is None:
        return empty
    if empty is None:
        return float(tree)
    if isinstance(empty, Mapping):
        return {name: float(value) for name, value in tree.items() if value is not None}
    unknown = [path + name for name in tree if name not in empty._fields]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(path + name for name in empty._fields)}")
    return empty._replace(
        **{name: _filled(getattr(empty, name), part, f"{path}{name}.") for name, part in tree.items()}
    )


def read_metrics(run_dir: Path | str) -> list[Line]:
    """Read a run's `metrics.jsonl`.

    Args:
        run_dir: the run's folder.

    Returns:
        One line a line, in the file's order.

    Raises:
        ValueError: no such file, no line in it, a line that is not one request's metrics, or one request written twice.
    """
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist; give the folder of a run that finished at least one request")
    lines: list[Line] = []
    seen: dict[tuple[str, int, int], int] = {}
    try:
        whole = seals.read(path.parent, path.name).decode("utf-8")
    except (ValueError, OSError) as error:
        raise ValueError(f"{error}; resume the run, which writes it again") from error
    for row, text in enumerate(whole.splitlines(), start=1):
        try:
            line = from_json(json.loads(text))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{str(path)!r} line {row} is {text[:60]!r}, not one request's metrics ({error!r}); "
                "resume the run, which writes an unfinished request again, or delete the line"
            ) from error
        except ValueError as error:
            raise ValueError(f"{str(path)!r} line {row}: {error}; another version wrote it") from error
        key = (line.method, line.seed, line.request)
        if key in seen:
            raise ValueError(
                f"{str(path)!r} line {row} repeats line {seen[key]}: method {key[0]!r}, seed {key[1]}, request "
                f"{key[2]}; a request is measured once, delete one of the two"
            )
        seen[key] = row
        lines.append(line)
    if not lines:
        raise ValueError(f"{str(path)!r} is empty; no request has finished yet")
    return lines
