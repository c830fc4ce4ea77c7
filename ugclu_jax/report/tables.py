"""The tables of a run's requests: for the terminal, for a pipe, and for a README."""

import math
from collections.abc import Iterable

from ugclu_jax.report.columns import (
    COMPILATION,
    FM,
    GRADIENT_EVALUATIONS,
    KL_RETAINED,
    KL_TEST,
    KL_UNLEARNED,
    LA,
    MIA,
    RTE,
    UA,
    Column,
)
from ugclu_jax.report.format import markdown_table, mean_text, number, statistic_text, std_text
from ugclu_jax.report.grid import Cell, Grid, Row
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.summaries import RequestSummary, by_request, methods_of, milestones, references, summarise
from ugclu_jax.report.visible import visible

COLUMNS = (LA, UA, FM, MIA, KL_RETAINED, KL_UNLEARNED, KL_TEST, RTE, COMPILATION, GRADIENT_EVALUATIONS)
HEADINGS = {COMPILATION: ("comp", "s"), GRADIENT_EVALUATIONS: ("grad.", "evals")}  # where the terminal has no room
AS_IT_HAPPENS = (LA, UA, MIA, KL_TEST, KL_UNLEARNED)
"""Columns of the line that a request leaves when it is measured."""
LEGEND = {
    "LA": "test accuracy over what is retained | the oracle's (retrained from scratch). High.",
    "UA": "accuracy on the unlearned | the oracle's. NEAR the oracle's: below is over-forgetting.",
    "FM": "best accuracy so far minus accuracy now, mean over what is retained. Low.",
    "MIA": "share of the unlearned an attacker calls members | the oracle's. NEAR the oracle's.",
    "KL": "KL(oracle ‖ model), nats | its noise floor, the KL between oracles of different seeds.",
    "RTE": "seconds of the request; compilation beside it, evaluation not counted.",
    "grad.": "gradient evaluations: passes over one batch | those of retraining.",
    "a→b": "before an unlearn request → after it, on the same examples.",
    "–": "undefined",
}


def title(summary: RequestSummary | Line) -> str:
    """A request as a person counts and calls it."""
    name = summary.name if summary.name.startswith(summary.kind) else f"{summary.kind} {summary.name}"
    return visible(f"{summary.request + 1} {name}")


def request_table(lines: Iterable[Line]) -> Grid:
    """The terminal's table: a row per request, per method where there are several; whole at any width.

    A cell reads `before→mean|reference`: what it was before the request where that unlearns, then after it, the
    reference being the oracle's value or the noise floor; below it, in a pipe behind it, the standard deviation over
    seeds of the mean where there are several seeds.
    """
    summaries = summarise(lines)
    several_methods = len(methods_of(summaries)) > 1
    rows = []
    for group in by_request(summaries).values():
        style = "bold" if group[0].kind == "unlearn" else ""
        if several_methods:
            rows.append(Row(title(group[0]), style=f"{style} underline".strip()))
        for summary in group:
            cells = [_cell(column, summary) for column in COLUMNS]
            rows.append(Row(visible(summary.method) if several_methods else title(summary), cells, style))
    return Grid("request", [HEADINGS.get(column, tuple(column.title.split())) for column in COLUMNS], rows)


def _cell(column: Column, summary: RequestSummary) -> Cell:
    statistic, reference = column.value(summary.statistics), column.reference(summary.statistics)
    before = column.before(summary.statistics)
    finite = statistic is None or math.isfinite(statistic.mean)  # "diverged" needs the room, and nothing beside it
    return Cell(
        (f"{mean_text(before)}→" if finite and before is not None else "") + mean_text(statistic, column.integer),
        "|" + mean_text(reference, column.integer) if finite and reference is not None else "",
        std_text(statistic, column.integer),
    )


def request_line(line: Line, requests: int) -> str:
    """A measured request in one plain line.

    Args:
        line: what was measured.
        requests: how many the stream has.

    >>> from ugclu_jax.report.metrics import from_json
    >>> numbers = {"model": {"LA": 0.5, "UA": 0.25}, "oracle": {"LA": 1.0, "UA": 0.0}, "before": {"UA": 0.75}}
    >>> head = {"method": "er", "seed": 0, "request": 1, "kind": "unlearn", "name": "U2"}
    >>> request_line(from_json(head | numbers | {"timing": {"RTE": 1.5}}), 7)
    'er  seed 0  request 2/7  unlearn U2  LA .500|1.00  UA .750→.250|.000  1.50 s'
    """
    words = [visible(line.method), f"seed {line.seed}", f"request {line.request + 1}/{requests}"]
    words.append(title(line).split(" ", 1)[1])
    for column in AS_IT_HAPPENS:
        value, reference, before = (read(line.numbers) for read in (column.value, column.reference, column.before))
        if value is not None:
            beside = "" if reference is None else f"|{number(reference)}"
            words.append(f"{column.title} {'' if before is None else f'{number(before)}→'}{number(value)}{beside}")
    return "  ".join([*words, f"{number(line.numbers.timing.RTE)} s"])


def request_markdown(lines: list[Line]) -> str:
    """Return a GitHub-markdown table for a README: each method at each unlearn request and at the last one.

    Mean ± standard deviation over seeds; a line under the table says how to read it.
    """
    rows = []
    for group in milestones(summarise(lines)).values():
        for row, summary in enumerate(group):
            cells = [statistic_text(column.value(summary.statistics), column.integer) for column in COLUMNS]
            rows.append([title(summary) if row == 0 else "", summary.method, *cells])
        shared = references(group).statistics
        cells = [statistic_text(column.reference(shared), column.integer) for column in COLUMNS]
        rows.append(["", "*oracle · noise floor*", *cells])
    table = markdown_table(["request", "method", *(column.title for column in COLUMNS)], rows, words=2)
    seeds = len({line.seed for line in lines})
    spread = f"Mean ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed. "
    return (
        f"{table}\n\n{spread}UA and MIA are to be near the oracle's; KL is to be read against the noise floor, the KL "
        "between oracles of different seeds; the oracle's gradient evaluations are those of retraining at that request."
    )
