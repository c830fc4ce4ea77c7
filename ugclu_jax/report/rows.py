"""The tables of the page, row by row: numbers as text, and whether they miss their target."""

import math
from typing import NamedTuple

from ugclu_jax.report.checks import KL_RATIO_LIMITS, UA_GAP_LIMIT, kl_ratio
from ugclu_jax.report.columns import KL_RETAINED, KL_TEST, KL_UNLEARNED, UA, Column
from ugclu_jax.report.format import mean_text, number, std_text
from ugclu_jax.report.glossary import GLOSSARY
from ugclu_jax.report.summaries import RequestSummary, Statistic, named, references
from ugclu_jax.report.tables import COLUMNS


class Cell(NamedTuple):
    """A number of the page."""

    mean: str
    std: str
    off: bool = False  # misses its target
    before: str = ""  # what it was before an unlearn request


class Heading(NamedTuple):
    """The head of a column."""

    words: list[str]  # one below the other
    meaning: str


class Request(NamedTuple):
    """The rows of one request: the methods, and what to compare them with."""

    rows: list[tuple[RequestSummary, list[Cell]]]
    reference: list[Cell]


class Shade(NamedTuple):
    """An accuracy of the matrix."""

    mean: str
    oracle: str  # empty where there is none
    share: float  # of the full colour, percent


def _cell(statistic: Statistic | None, integer: bool, off: bool = False) -> Cell:
    return Cell(mean_text(statistic, integer), std_text(statistic, integer), off)


def _request_cell(column: Column, summary: RequestSummary) -> Cell:
    cell = _cell(column.value(summary.statistics), column.integer, _off_target(column, summary))
    before = column.before(summary.statistics)
    return cell if before is None else cell._replace(before=mean_text(before, column.integer))


def _off_target(column: Column, summary: RequestSummary) -> bool:
    own, other = column.value(summary.statistics), column.reference(summary.statistics)
    if own is None or other is None:
        return False
    if column == UA:
        return not abs(own.mean - other.mean) <= UA_GAP_LIMIT
    if column in (KL_RETAINED, KL_TEST, KL_UNLEARNED):
        ratio = kl_ratio(summary.statistics, column)
        limit = KL_RATIO_LIMITS.get(column, math.inf)
        return ratio is not None and not 1 / limit <= ratio <= limit
    return not math.isfinite(own.mean)


def heading(column: Column) -> Heading:
    """What stands above a column of requests."""
    words = column.title.split()
    return Heading(words, GLOSSARY[column.title if column.title in GLOSSARY else words[0]][0])


def request_rows(group: list[RequestSummary]) -> Request:
    """The rows of one request, from its summaries, one a method."""
    rows = [(summary, [_request_cell(column, summary) for column in COLUMNS]) for summary in group]
    shared = references(group).statistics
    return Request(rows, [_cell(column.reference(shared), column.integer) for column in COLUMNS])


def accuracy_matrix(own: list[RequestSummary]) -> dict[str, list[Shade]]:
    """The accuracy matrix of a method: groups down, requests across."""
    groups = dict.fromkeys(group for summary in own for group in summary.statistics.model.group_accuracy)
    return {group: [_shade(summary, group) for summary in own] for group in groups}


def _shade(summary: RequestSummary, group: str) -> Shade:
    statistic = summary.statistics.model.group_accuracy.get(group)
    oracle = summary.statistics.oracle.group_accuracy.get(group)
    mean = statistic.mean if statistic else None
    share = 100 * min(max(mean, 0.0), 1.0) if mean is not None and math.isfinite(mean) else 0.0
    return Shade(number(mean), number(oracle.mean) if oracle else "", share)


def every_number(own: list[RequestSummary]) -> dict[str, list[Cell]]:
    """All that is known of a method, by dotted name: one cell a request."""
    found = [dict(named(summary.statistics)) for summary in own]
    names = dict.fromkeys(name for numbers in found for name in numbers)
    return {
        name: [_cell(numbers.get(name), name.startswith("cost.") or "." not in name) for numbers in found]
        for name in names
    }
