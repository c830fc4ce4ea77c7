"""The comparison of the methods of a run, as it stands in comparison.md: the same text whoever gathers the numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax.files import write
from ugclu_jax.report.evidence import Evidence, Pair
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.picture import ranking_picture
from ugclu_jax.report.ranking import Row, counterfactuals, rank, ranking_markdown, readings, reservations
from ugclu_jax.report.summaries import methods_of

FILE, PICTURE = "comparison.md", "comparison.png"


class Comparison(NamedTuple):
    """Methods against each other.

    Attributes:
        rows: a method each, in their order.
        others: distances of counterfactuals, by what a table calls them.
        notes: on what not to read in it.
    """

    rows: list[Row]
    others: Mapping[str, Pair]
    notes: list[str]


def compared(settings: Mapping[str, Any], lines: Sequence[Line], known: Sequence[Evidence]) -> Comparison:
    """Rank the methods of a run.

    Args:
        settings: of the run, as its folder has them.
        lines: of its metrics.
        known: its evidence.

    Raises:
        NothingToRankError: see `rank`.
    """
    rows = rank(lines, known)
    notes = [*readings(rows), *reservations(settings, methods_of(lines))]
    return Comparison(rows, counterfactuals(lines, known), notes)


def write_comparison(folder: Path, found: Comparison) -> Path:
    """Write the table and its picture into a folder, and return the table's path.

    Raises:
        OSError: they cannot be written.
    """
    path = folder / FILE
    write(path, ranking_markdown(found.rows, found.notes, found.others) + "\n")
    ranking_picture(found.rows, found.notes, folder / PICTURE)
    return path
