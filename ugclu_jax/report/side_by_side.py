"""Finished runs beside one another: a row a method, a column a run, and what their settings differ in. No training.

A cell is a distance of the method's models in that run, averaged over its milestones, and its standard error. Methods
stand in the order of the geometric mean over the runs. A method that lost a seed anywhere comes after all that lost
none, whatever the seeds that finished score, and one that some run does not have comes last.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ugclu_jax.report import evidence, grid
from ugclu_jax.report.auditable import read_config
from ugclu_jax.report.columns import GRADIENT_EVALUATIONS, RTE
from ugclu_jax.report.evidence import Energy, Pair
from ugclu_jax.report.format import count, markdown_table, number
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.ranking import Row, energy_text, rank
from ugclu_jax.report.visible import visible

By = Literal["matched", "E", "counterfactual", "KL"]
"""What runs are compared by: the energy distance to the oracles at their confidence, as it is, that to models of the
same learner which never saw what is unlearned, or KL(oracle ‖ model)."""
LEAST = 0.005
"""Distances below it are one: a tenth of it is chance, and its logarithm would decide alone."""
_TITLES: Mapping[By, str] = {
    "matched": "E at matched confidence",
    "E": "E",
    "counterfactual": "E to the counterfactual",
    "KL": "KL(oracle ‖ model)",
}
_LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "‖": r"$\Vert$", "–": "--",
}  # fmt: skip
NOT_SETTINGS = ("run", "made_of", "methods")
"""Parts of a run's configuration that are no choice of settings."""


def geometric_mean(distances: Sequence[float]) -> float:
    """Geometric mean of distances that are at least `LEAST`; infinite where one is.

    >>> [round(geometric_mean(found), 6) for found in ([0.02, 0.08], [-0.001], [0.1, math.inf])]
    [0.04, 0.005, inf]
    """
    return math.exp(math.fsum(math.log(max(each, LEAST)) for each in distances) / len(distances))


class Across(NamedTuple):
    """A method in several runs."""

    method: str
    cells: tuple[Energy | None, ...]  # one a run; None where the run does not have it, or no distance
    mean: float | None  # geometric, over all runs; None where a cell is missing
    finished: int  # seeds, of all runs
    seeds: int
    evaluations: float | None  # of an average milestone
    seconds: float | None

    @property
    def sort_key(self) -> tuple[bool, bool, float]:
        """Whole rows before those that lost seeds, these before those with gaps."""
        return (self.mean is None, self.finished < self.seeds, math.inf if self.mean is None else self.mean)

    def texts(self) -> list[str]:
        """What its row says after the name."""
        counts = [f"{self.finished} of {self.seeds}", count(self.evaluations), number(self.seconds)]
        return [number(self.mean), *map(energy_text, self.cells), *counts]


class Runs(NamedTuple):
    """Several runs beside one another."""

    names: tuple[str, ...]
    by: By
    rows: tuple[Across, ...]
    differences: Mapping[str, tuple[str, ...]]  # settings that are not the same in all runs, by their dotted names

    @property
    def head(self) -> list[str]:
        """The titles of the columns."""
        return ["method", "geometric mean", *self.names, "seeds finished", "gradient evaluations", "RTE s"]

    @property
    def title(self) -> str:
        """What the cells are."""
        return f"{_TITLES[self.by]}, smallest geometric mean first"


def side_by_side(folders: Sequence[Path], by: By = "matched") -> Runs:
    """Read runs, and order their methods.

    Args:
        folders: of runs; a run that has not finished is read as far as it got.
        by: the distance of the cells.

    Raises:
        ValueError: a folder is none of a run, one is damaged, has nothing to rank, or stands there twice.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("a run stands there twice; give each once")
    ranked = [{row.method: row for row in rank(read_metrics(folder), evidence.read(folder))} for folder in folders]
    methods = dict.fromkeys(method for rows in ranked for method in rows)
    across = [_across(method, [rows.get(method) for rows in ranked], by) for method in methods]
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    differing = _differences([read_config(folder) for folder in folders])
    return Runs(tuple(names), by, tuple(sorted(across, key=lambda row: row.sort_key)), differing)


def _across(method: str, rows: Sequence[Row | None], by: By) -> Across:
    cells = tuple(None if row is None else _cell(row, by) for row in rows)
    known = [cell.value for cell in cells if cell is not None and not math.isnan(cell.value)]
    there = [row for row in rows if row is not None]

    def average(of: Callable[[Row], float | None]) -> float | None:
        values = [value for value in map(of, there) if value is not None]
        return math.fsum(values) / len(values) if values else None

    def mean_of(row: Row, column: Any) -> float | None:
        found = column.value(row.statistics)
        return None if found is None else float(found.mean)

    return Across(
        method,
        cells,
        geometric_mean(known) if len(known) == len(rows) else None,
        sum(row.seeds - row.unfinished for row in there),
        sum(row.seeds for row in there),
        average(lambda row: mean_of(row, GRADIENT_EVALUATIONS)),
        average(lambda row: mean_of(row, RTE)),
    )


def _cell(row: Row, by: By) -> Energy | None:
    if by == "KL":
        return None if row.distance is None else Energy(row.distance.mean, row.distance.std)
    pair: Pair | None = {"matched": row.matched, "E": row.energy, "counterfactual": row.counterfactual}[by]
    return None if pair is None else Energy(pair.value, pair.standard_error)


def _differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Settings that differ; one that a run does not have is a dash.

    >>> short, long = {"capacity": 5, "oracle": {"epochs": 8}}, {"capacity": 5, "oracle": {"epochs": 9}}
    >>> _differences([short, long | {"regime": "joint"}])
    {'oracle.epochs': ('8', '9'), 'regime': ('–', 'joint')}
    """
    flat = [_flat({k: v for k, v in config.items() if k not in NOT_SETTINGS}) for config in configs]
    names = dict.fromkeys(name for each in flat for name in each)
    found = {name: tuple(each.get(name, "–") for each in flat) for name in names}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: _word(value)}
    return found


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_word, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(runs: Runs) -> grid.Grid:
    """For the terminal; whole at any width."""
    rows = [grid.Row(visible(row.method), [grid.Cell(cell) for cell in row.texts()]) for row in runs.rows]
    heads = [tuple(visible(title).split()) or (title,) for title in runs.head[1:]]
    return grid.Grid("method", heads, rows, right=True)


def difference_sentences(runs: Runs) -> list[str]:
    """One a setting."""
    return [f"{name} {' | '.join(values)}" for name, values in runs.differences.items()]


def as_markdown(runs: Runs) -> str:
    """A GitHub-markdown table, what it is, and what the settings differ in."""
    body = [[row.method, *row.texts()] for row in runs.rows]
    differing = "".join(f"\n- {sentence}" for sentence in difference_sentences(runs))
    error = "standard deviation" if runs.by == "KL" else "standard error"
    return (
        markdown_table(runs.head, body, words=1)
        + f"\n\n{runs.title}, ± its {error}; in the mean a distance counts as {LEAST} at least. A method that "
        "lost a seed stands behind all that lost none."
        + (f"\n\nThe runs differ in\n{differing}" if differing else "")
        + "\n"
    )


def as_csv(runs: Runs) -> str:
    """Numbers as they are, and the error of each beside it; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [head for name in runs.names for head in (name, f"{name} error")]
    writer.writerow(["method", "geometric mean", *heads, "finished", "seeds", "gradient evaluations", "RTE s"])
    for row in runs.rows:
        cells = [n for cell in row.cells for n in ((None, None) if cell is None else (cell.value, cell.standard_error))]
        writer.writerow([row.method, row.mean, *cells, row.finished, row.seeds, row.evaluations, row.seconds])
    return text.getvalue()


def as_latex(runs: Runs) -> str:
    """A `tabular` of the booktabs package."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(sign, sign) for sign in cell) for cell in cells) + r" \\"

    body = [line([row.method, *row.texts()]) for row in runs.rows]
    rules = [rf"\begin{{tabular}}{{l{'r' * (len(runs.head) - 1)}}}", r"\toprule", line(runs.head), r"\midrule"]
    return "\n".join([f"% {runs.title}", *rules, *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


FORMATS: Mapping[str, Callable[[Runs], str]] = {".md": as_markdown, ".csv": as_csv, ".tex": as_latex}
"""By the ending of a file's name."""
