"""The numbers of a run over seeds: one mean and standard deviation where a line has a number."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ugclu_jax.report.metrics import Line, ModelMetrics, Numbers, Value


class Statistic(NamedTuple):
    """A number over seeds."""

    mean: float  # NaN or infinite as soon as one seed's is: a diverged seed is not averaged away
    std: float | None  # ddof = 1; None for fewer than two values
    values: int  # how many seeds have a value


class RequestSummary(NamedTuple):
    """One request of one method over seeds."""

    method: str
    request: int
    kind: str
    name: str
    seeds: tuple[int, ...]
    statistics: Numbers[Statistic]  # None where a number is undefined for every seed


def mean(values: list[float]) -> float:
    """Mean of one or more values."""
    return sum(values) / len(values)


def statistic(values: list[float]) -> Statistic:
    """Mean and standard deviation of one or more values, see `Statistic`.

    >>> statistic([0.5, 0.75, 1.0])
    Statistic(mean=0.75, std=0.25, values=3)
    """
    middle = mean(values)
    if len(values) < 2:
        return Statistic(middle, None, len(values))
    squares = sum((value - middle) * (value - middle) for value in values)  # a product overflows to inf, ** would raise
    return Statistic(middle, math.sqrt(squares / (len(values) - 1)), len(values))


def combined(trees: Sequence[Numbers[float]], combine: Callable[[list[float]], Value]) -> Numbers[Value]:
    """Combine each number over several trees, where it is defined at all.

    >>> from ugclu_jax.report.metrics import ModelMetrics
    >>> combined([Numbers(model=ModelMetrics(LA=v)) for v in (0.5, 1.0, None)], mean).model.LA
    0.75
    """
    return _combined(trees, combine)


def _combined(parts: Sequence[Any], combine: Callable[[list[float]], Value]) -> Any:
    if isinstance(parts[0], Mapping):
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: _combined([part.get(name) for part in parts], combine) for name in names}
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(_combined(fields, combine) for fields in zip(*parts, strict=True)))
    known = [value for value in parts if value is not None]
    return combine(known) if known else None


def named(tree: Numbers[Value] | ModelMetrics[Value]) -> Iterator[tuple[str, Value]]:
    """The numbers that are defined in a tree, or in a part of it, with their dotted names.

    >>> from ugclu_jax.report.metrics import Sides
    >>> list(named(ModelMetrics(LA=0.5, KL=Sides(test=0.25))))
    [('LA', 0.5), ('KL.test', 0.25)]
    """
    return _named(tree, "")


def _named(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, part in tree.items() if isinstance(tree, Mapping) else tree._asdict().items():
        if isinstance(part, float | Statistic):
            yield prefix + name, part
        elif part is not None:
            yield from _named(part, f"{prefix}{name}.")


def summarise(lines: Iterable[Line]) -> list[RequestSummary]:
    """Average every number over seeds.

    Args:
        lines: as `read_metrics` returns them.

    Returns:
        One summary per request and method, ordered by request, then by the method's first appearance.

    Raises:
        ValueError: two seeds disagree about a request's kind.

    >>> from ugclu_jax.report.metrics import from_json
    >>> rows = [{"method": "a", "seed": s, "request": 1, "kind": "learn", "name": "t", "model": {"LA": v}}
    ...         for s, v in ((0, 0.5), (1, 0.75))]
    >>> summarise(map(from_json, rows))[0].statistics.model.LA.mean
    0.625
    """
    groups: dict[tuple[int, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.request, line.method), []).append(line)
    methods = list(dict.fromkeys(method for _, method in groups))
    summaries = []
    for request, method in sorted(groups, key=lambda key: (key[0], methods.index(key[1]))):
        group = groups[request, method]
        kinds, names = {line.kind for line in group}, {line.name for line in group}
        if len(kinds) > 1:
            raise ValueError(
                f"request {request + 1} of {method!r} is of kinds {sorted(kinds)} in different seeds; "
                "only runs of one request stream can be averaged"
            )
        kind = kinds.pop()
        # Where seeds shuffle tasks or classes, a request has one kind but no common name.
        name = names.pop() if len(names) == 1 else f"{kind}, differs by seed"
        statistics = combined([line.numbers for line in group], statistic)
        summaries.append(RequestSummary(method, request, kind, name, tuple(line.seed for line in group), statistics))
    return summaries


def methods_of(rows: Iterable[Line | RequestSummary]) -> list[str]:
    """The methods, by first appearance."""
    return list(dict.fromkeys(row.method for row in rows))


def by_request(summaries: list[RequestSummary]) -> dict[int, list[RequestSummary]]:
    """Group summaries by request, keeping their order."""
    groups: dict[int, list[RequestSummary]] = {}
    for summary in summaries:
        groups.setdefault(summary.request, []).append(summary)
    return groups


def milestones(summaries: list[RequestSummary]) -> dict[int, list[RequestSummary]]:
    """Keep the requests a comparison is about: every unlearn request, and the last request."""
    groups = by_request(summaries)
    last = max(groups)
    return {r: group for r, group in groups.items() if r == last or group[0].kind == "unlearn"}


def references(group: list[RequestSummary]) -> RequestSummary:
    """The summary that holds the oracle and the noise floor of a request: all methods share them."""
    return max(group, key=lambda summary: len(summary.seeds))
