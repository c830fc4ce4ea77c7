"""The tables of a run's requests: for the terminal, and for a README."""

import math
from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

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
from ugclu_jax.report.format import markdown_table, mean_text, statistic_text, std_text
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.summaries import RequestSummary, by_request, methods_of, milestones, references, summarise

COLUMNS = (LA, UA, FM, MIA, KL_RETAINED, KL_UNLEARNED, KL_TEST, RTE, COMPILATION, GRADIENT_EVALUATIONS)
HEADINGS = {COMPILATION: "comp\ns", GRADIENT_EVALUATIONS: "grad.\nevals"}  # where the terminal has no room
LEGEND = (
    "LA     test accuracy over what is retained | the oracle's (retrained from scratch). High.\n"
    "UA     accuracy on the unlearned | the oracle's. NEAR the oracle's: below is over-forgetting.\n"
    "FM     best accuracy so far minus accuracy now, mean over what is retained. Low.\n"
    "MIA    share of the unlearned an attacker calls members | the oracle's. NEAR the oracle's.\n"
    "KL     KL(oracle ‖ model), nats | its noise floor, the KL between oracles of different seeds.\n"
    "RTE    seconds of the request; compilation beside it, evaluation not counted.\n"
    "grad.  gradient evaluations: passes over one batch | those of retraining.    – undefined"
)


def _title(summary: RequestSummary) -> str:
    name = summary.name if summary.name.startswith(summary.kind) else f"{summary.kind} {summary.name}"
    return f"{summary.request + 1} {name}"


TABLE_WIDTH = 100
"""Columns of a terminal that the table of requests fits."""


def request_table(lines: Iterable[Line]) -> Table:
    """Return the terminal's table: a row per request, per method where there are several; fits `TABLE_WIDTH`.

    A cell reads `mean|reference`, the reference being the oracle's value or the noise floor, and below it the standard
    deviation over seeds of the mean where there are several seeds.
    """
    summaries = summarise(lines)
    several_methods = len(methods_of(summaries)) > 1
    table = Table(
        box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, caption=LEGEND, caption_justify="left"
    )
    table.add_column("request", min_width=9, overflow="fold")
    for column in COLUMNS:
        table.add_column(HEADINGS.get(column, column.title.replace(" ", "\n")), no_wrap=True)
    for group in by_request(summaries).values():
        style = "bold" if group[0].kind == "unlearn" else ""
        if several_methods:
            table.add_row(Text(_title(group[0]), style=f"{style} underline"))
        for summary in group:
            label = Text(summary.method) if several_methods else Text(_title(summary), style=style)
            table.add_row(label, *(_terminal_cell(column, summary) for column in COLUMNS))
        if several_methods:
            table.add_section()
    return table


def _terminal_cell(column: Column, summary: RequestSummary) -> Text:
    statistic, reference = column.value(summary.statistics), column.reference(summary.statistics)
    cell = Text(mean_text(statistic, column.integer))
    finite = statistic is None or math.isfinite(statistic.mean)  # "diverged" needs the room, and nothing beside it
    if finite and reference is not None:
        cell.append("|" + mean_text(reference, column.integer), style="dim")
    spread = std_text(statistic, column.integer)
    if spread:
        cell.append("\n" + spread, style="dim")
    return cell


def request_markdown(lines: list[Line]) -> str:
    """Return a GitHub-markdown table for a README: each method at each unlearn request and at the last one.

    Mean ± standard deviation over seeds; a line under the table says how to read it.
    """
    rows = []
    for group in milestones(summarise(lines)).values():
        for row, summary in enumerate(group):
            cells = [statistic_text(column.value(summary.statistics), column.integer) for column in COLUMNS]
            rows.append([_title(summary) if row == 0 else "", summary.method, *cells])
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
