"""What a run says when it ends: its table, its verdict, and what a reader must not overlook. The page says the same."""

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from ugclu_jax.report.checks import undefined, verdict, warnings
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.summaries import methods_of
from ugclu_jax.report.tables import LEGEND, request_table
from ugclu_jax.report.visible import visible

WARNINGS_SHOWN = 5
"""The page has them all."""
NARROWEST = 24
"""Columns below which text is not wrapped any narrower."""


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence: on a terminal wrapped between words, under its own beginning; in a pipe one line."""
    if console.is_terminal:
        indent = text[: len(text) - len(text.lstrip(" "))] or "  "
        for line in textwrap.wrap(visible(text), max(console.width, NARROWEST), subsequent_indent=indent):
            console.print(Text(line, style), soft_wrap=True)
    else:
        console.out(visible(text), highlight=False)


def space(console: Console) -> None:
    """Print an empty line between two parts, on a terminal."""
    if console.is_terminal:
        console.print()


def legend(width: int, entries: Sequence[str] = tuple(LEGEND)) -> list[str]:
    """How to read the table, wrapped under its own beginnings.

    >>> print(*legend(30, ["FM"]), sep="\\n")
    FM     best accuracy so far
           minus accuracy now,
           mean over what is
           retained. Low.
    """
    return [
        line
        for name in entries
        for line in textwrap.wrap(f"{name:7}{LEGEND[name]}", max(width, NARROWEST), subsequent_indent=" " * 7)
    ]


def say_requests(console: Console, lines: list[Line]) -> None:
    """Print the table of requests, and on a terminal how to read it."""
    console.print(request_table(lines), soft_wrap=True)
    space(console)
    if console.is_terminal:
        for line in legend(console.width):
            console.print(Text(line, "dim"), soft_wrap=True)
    space(console)


def say_verdicts(console: Console, lines: list[Line]) -> None:
    """Print each method's verdict, what could not be measured, and the first warnings."""
    for method in methods_of(lines):
        say(console, f"{method}: {verdict(lines, method)}")
    for sentence in undefined(lines):
        say(console, f"Undefined: {sentence}", "yellow")
    found = warnings(lines)
    for sentence in found[:WARNINGS_SHOWN]:
        say(console, f"Look at: {sentence}", "yellow")
    if len(found) > WARNINGS_SHOWN:
        say(console, f"and at {len(found) - WARNINGS_SHOWN} more, which the report lists", "yellow")
    space(console)
