"""What the run of one cell measured of each method, as a study tables it. No training."""

from collections.abc import Mapping
from pathlib import Path

from ugclu_jax.report import evidence
from ugclu_jax.report.columns import GRADIENT_EVALUATIONS, LA, RTE, UA
from ugclu_jax.report.format import statistic_text
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.ranking import Row, energy_text, rank

HEAD = ("E", "E matched", "E counterfactual", "KL", "LA", "UA", "RTE s", "gradient evaluations", "seeds finished")
"""Of the texts of a row."""


def rows_of(run_dir: Path) -> Mapping[str, Row]:
    """Each method of a run, the nearest to the oracles first.

    Raises:
        ValueError: the folder is none of a run that has something to rank, or it is damaged.
    """
    return {row.method: row for row in rank(read_metrics(run_dir), evidence.read(run_dir))}


def texts(row: Row) -> list[str]:
    """What a table says of a method, under `HEAD`; distances ± standard error, all else ± deviation over seeds."""
    columns = [(column, column.value(row.statistics)) for column in (LA, UA, RTE, GRADIENT_EVALUATIONS)]
    return [
        *(energy_text(pair) for pair in (row.energy, row.matched, row.counterfactual)),
        statistic_text(row.distance),
        *(statistic_text(value, column.integer) for column, value in columns),
        f"{row.seeds - row.unfinished} of {row.seeds}",
    ]


def matched_text(row: Row | None) -> str:
    """The matched energy distance of a method and its standard error, with a warning of seeds that were lost."""
    if row is None:
        return "not measured"
    return energy_text(row.matched) + (f" ({row.unfinished} of {row.seeds} seeds lost)" if row.unfinished else "")
