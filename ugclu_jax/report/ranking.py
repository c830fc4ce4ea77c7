"""Methods against each other: one row a method, ranked by how far its models are from oracles. No training.

Every number is averaged over the milestones of a run (its unlearn requests and its last request), then over seeds. What
ranks is the energy distance E between the models of all seeds and the oracles, on test inputs of what is retained plus
on unlearned training inputs: the two sides that a method trades against each other. `KL(oracle ‖ model)` on the same
two stands beside it, and its quotient to the noise floor, which is best at 1: a smooth answer is nearer to the oracles
by KL than they are to one another, and no nearer to being one of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ugclu_jax.report import grid
from ugclu_jax.report.checks import SMOOTH
from ugclu_jax.report.columns import (
    FM,
    GRADIENT_EVALUATIONS,
    JS_TEST,
    KL_RETAINED,
    KL_TEST,
    KL_UNLEARNED,
    LA,
    MIA,
    RELAPSE,
    RTE,
    TOW,
    UA,
    Column,
)
from ugclu_jax.report.evidence import COUNTERFACTUAL, Energy, Evidence, Pair, averaged
from ugclu_jax.report.format import markdown_table, mean_text, number, statistic_text
from ugclu_jax.report.metrics import Line, Numbers, Sides
from ugclu_jax.report.summaries import Statistic, combined, mean, methods_of, milestones, named, statistic, summarise
from ugclu_jax.report.visible import visible

COLUMNS = (KL_TEST, KL_UNLEARNED, KL_RETAINED, JS_TEST, LA, UA, FM, MIA, TOW, RELAPSE, RTE, GRADIENT_EVALUATIONS)
"""Beside the distance; the last column counts an average milestone, not the whole stream."""
SHOWN = (LA, UA, FM, MIA, RTE, GRADIENT_EVALUATIONS)
"""Columns of the terminal."""
ERRORS = 2.0
"""Standard errors of E above 0 up to which models may be fresh oracles."""
WITHOUT_SETTINGS = ("do_nothing", "retrain", "mask_logits", "cool", "mean_of_oracles")
"""Methods of which there is nothing to choose: the second trains as the oracles do."""


class NothingToRankError(ValueError):
    """No method of a run was measured against an oracle on retained test inputs and on unlearned inputs."""


class Row(NamedTuple):
    """One method over seeds."""

    method: str
    distance: Statistic | None  # by KL, over seeds
    floor: Statistic | None  # that of an oracle
    statistics: Numbers[Statistic]
    seeds: int
    unfinished: int  # seeds that did not reach the last request
    appearance: int  # among the methods of the run, from 0: it has one mark in all figures
    energy: Pair | None = None  # what ranks; None where there is no distribution of models
    matched: Pair | None = None
    counterfactual: Pair | None = None  # from models of the same learner that never saw what is unlearned
    fresh: Pair | None = None  # 0 with the error of as many fresh oracles

    @property
    def label(self) -> str:
        """The method, and how many seeds failed."""
        return self.method + (f" ({self.unfinished} of {self.seeds} seeds failed)" if self.unfinished else "")

    @property
    def quotient(self) -> float | None:
        """KL over its noise floor: 1 for a fresh oracle, less for what is smoother than one."""
        if self.distance is None or self.floor is None or self.floor.mean == 0:
            return None
        return self.distance.mean / self.floor.mean

    def sort_key(self, by_energy: bool) -> float:
        """What ranks, infinite where a run failed or has none."""
        kl = None if self.distance is None else self.distance.mean
        value = (None if self.energy is None else self.energy.value) if by_energy else kl
        return math.inf if self.unfinished or value is None or not math.isfinite(value) else value


def distance_of(kl: Sides[float]) -> float | None:
    """KL on test inputs of what is retained plus that on unlearned training inputs, where both are defined.

    >>> distance_of(Sides(test=0.25, unlearned=0.5))
    0.75
    """
    return None if kl.test is None or kl.unlearned is None else kl.test + kl.unlearned


def _over_seeds(values: Iterable[float | None]) -> Statistic | None:
    known = [value for value in values if value is not None]
    return statistic(known) if known else None


def by_energy(rows: Iterable[Row]) -> bool:
    """Whether rows are ranked by E; else by KL, which one seed has too."""
    return any(row.energy for row in rows)


def rank(lines: Iterable[Line], evidence: Sequence[Evidence] = ()) -> list[Row]:
    """Rank the methods of a run, nearest to the oracles first; a method without a finite distance comes last.

    Args:
        lines: of a run.
        evidence: of the same run; where there is none, KL ranks.

    Raises:
        NothingToRankError: no line has an oracle, or none is of unlearned inputs.
    """
    lines = list(lines)
    at_milestones = set(milestones(summarise(lines)))
    last = max(at_milestones)
    rows = []
    for appearance, method in enumerate(methods_of(lines)):
        own = [line for line in lines if line.method == method]
        seeds = {line.seed for line in own}
        reached = [
            [ln.numbers for ln in own if ln.seed == seed and ln.request in at_milestones] for seed in sorted(seeds)
        ]
        means = [combined(numbers, mean) for numbers in reached if numbers]
        done = {line.seed for line in own if line.request == last}
        statistics = combined(means, statistic) if means else Numbers()
        distance = _over_seeds(distance_of(each.model.KL) for each in means)
        floor = _over_seeds(distance_of(each.noise_floor.KL) for each in means)
        pairs = [_average(evidence, method, at_milestones, name) for name in OF_EVIDENCE]
        rows.append(Row(method, distance, floor, statistics, len(seeds), len(seeds - done), appearance, *pairs))
    if not any(row.floor for row in rows):
        raise NothingToRankError(
            "no request of this run has an oracle and unlearned inputs: there is nothing to compare with"
        )
    energies = by_energy(rows)
    return sorted(rows, key=lambda row: row.sort_key(energies))


OF_EVIDENCE = ("energy", "matched", "counterfactual", "fresh")


def _average(evidence: Sequence[Evidence], method: str, requests: set[int], name: str) -> Pair | None:
    """Over milestones; None where one of them has no such distance."""
    pairs = [getattr(each, name) for each in evidence if each.method == method and each.request in requests]
    return None if None in pairs else averaged(pairs)


def counterfactuals(lines: Iterable[Line], evidence: Sequence[Evidence]) -> dict[str, Pair]:
    """The distance of each learner's counterfactuals from the oracles, by what a table calls them."""
    at_milestones = set(milestones(summarise(lines)))
    names = dict.fromkeys(each.method for each in evidence if each.method.startswith(COUNTERFACTUAL))
    found = {name: _average(evidence, name, at_milestones, "energy") for name in names}
    return {name: pair for name, pair in found.items() if pair is not None}


def shared_references(rows: list[Row]) -> Row:
    """The row that holds the oracle and the noise floor: all methods share them."""
    return max(rows, key=lambda row: (row.seeds - row.unfinished, len(list(named(row.statistics)))))


DISTANCES = ("E", "E unlearned", "E test", "E matched", "E counterfactual", "KL", "KL / floor", "place by KL")
"""Heads of the distances, before those of the columns."""


def energy_text(energy: Pair | Energy | None) -> str:
    """An energy distance and its standard error.

    >>> energy_text(Energy(0.25, 0.0125)), energy_text(None)
    ('.250 ±.013', '–')
    """
    if energy is None:
        return "–"
    error = energy.standard_error
    return number(energy.value) + ("" if error is None else f" ±{number(error)}")


def _distances(row: Row) -> list[str]:
    parts = [None, None] if row.energy is None else [row.energy.unlearned.value, row.energy.test.value]
    others = [None if pair is None else pair.value for pair in (row.matched, row.counterfactual)]
    kl = [statistic_text(row.distance), number(row.quotient)]
    return [energy_text(row.energy), *map(number, (*parts, *others)), *kl]


def _cells(row: Row, places: Mapping[str, str], columns: Iterable[Column]) -> list[str]:
    return [
        *_distances(row),
        places[row.method],
        *(statistic_text(column.value(row.statistics), column.integer) for column in columns),
    ]


def places_by_kl(rows: Iterable[Row]) -> dict[str, str]:
    """What place each method would have if KL ranked: what smoothing wins stands in front there."""
    ordered = sorted(rows, key=lambda row: row.sort_key(by_energy=False))
    known = {row.method: math.isfinite(row.sort_key(by_energy=False)) for row in ordered}
    return {row.method: str(place) if known[row.method] else "–" for place, row in enumerate(ordered, start=1)}


def _reference_cells(rows: list[Row], columns: Iterable[Column]) -> list[str]:
    shared, energies = shared_references(rows), by_energy(rows)
    own = [mean_text(column.reference(shared.statistics), column.integer) for column in columns]
    fresh = [energy_text(shared.fresh or (Energy(0.0, None) if energies else None))]
    zeros = [number(0.0 if energies else None)] * 3
    return [*fresh, *zeros, number(None), mean_text(shared.floor), number(1.0), number(None), *own]


def smoother(rows: Iterable[Row]) -> str | None:
    """A sentence on methods nearer to the oracles by KL than oracles are to one another; None where there is none."""
    names = [row.method for row in rows if row.quotient is not None and row.quotient < SMOOTH and not _fresh(row)]
    if not names:
        return None
    be = "are" if len(names) > 1 else "is"
    return (
        f"{', '.join(names)} {be} smoother than an oracle (KL below its floor, at 1 a fresh oracle): by KL that looks "
        "like unlearning, and is none."
    )


def _other_cells(pair: Pair, columns: Sequence[Column]) -> list[str]:
    """Of models that are no method's: their distance from the oracles, and nothing else."""
    distances = [energy_text(pair), number(pair.unlearned.value), number(pair.test.value)]
    return distances + [number(None)] * (len(DISTANCES) + len(columns) - len(distances))


def ranking_table(rows: list[Row], others: Mapping[str, Pair] = MappingProxyType({})) -> grid.Grid:
    """The terminal's table: `SHOWN` columns, the oracle and the counterfactuals last; whole at any width."""
    heads = [tuple(title.split()) for title in (*DISTANCES, *(column.title for column in SHOWN))]
    places = places_by_kl(rows)
    found = [grid.Row(visible(row.label), [grid.Cell(cell) for cell in _cells(row, places, SHOWN)]) for row in rows]
    references = [grid.Cell(cell) for cell in _reference_cells(rows, SHOWN)]
    found.append(grid.Row("oracle, noise floor", references, "dim"))
    for name, pair in others.items():
        found.append(grid.Row(visible(name), [grid.Cell(cell) for cell in _other_cells(pair, SHOWN)], "dim"))
    return grid.Grid("method", heads, found, right=True)


def ranking_markdown(
    rows: list[Row], notes: Iterable[str] = (), others: Mapping[str, Pair] = MappingProxyType({})
) -> str:
    """A GitHub-markdown table of all columns, a line that says how to read it, and notes on what not to read in it."""
    head = ["method", *DISTANCES, *(column.title for column in COLUMNS)]
    places = places_by_kl(rows)
    body = [[row.label, *_cells(row, places, COLUMNS)] for row in rows]
    body.append(["*oracle · noise floor*", *_reference_cells(rows, COLUMNS)])
    body += [[f"*{name}*", *_other_cells(pair, COLUMNS)] for name, pair in others.items()]
    seeds = max(row.seeds for row in rows)
    how = (
        "ranked by E = E test + E unlearned ± its standard error, 0 where models and oracles are one distribution"
        if by_energy(rows)
        else "ranked by KL, for want of two seeds and two oracles"
    )
    return (
        markdown_table(head, body, words=1)
        + f"\n\nMean{' ± standard deviation' if seeds > 1 else ''} over {seeds} seed{'s' if seeds > 1 else ''}, each "
        f"averaged over the unlearn requests and the last request; {how}. KL = KL test + KL unlearned, in nats; its "
        "quotient to the floor is best at 1, and below it a model is smoother than an oracle."
        + (COUNTERFACTUALS if others else "")
        + "".join(f"\n\n{note}" for note in notes)
    )


COUNTERFACTUALS = (
    " E counterfactual is the distance from models of the same learner, replay included, that were never asked to "
    "learn what is unlearned: the unlearner's own; how far these are themselves from the oracles stands last."
)


def _fresh(row: Row) -> bool:
    """Whether a method's models lie where fresh oracles do, as far as their number tells."""
    return row.energy is not None and row.energy.value <= ERRORS * (row.energy.standard_error or 0.0)


def readings(rows: Sequence[Row]) -> list[str]:
    """What must be said of a ranking: how it may be misread."""
    found = [sentence for sentence in [smoother(rows)] if sentence]
    if not by_energy(rows):
        found.append(
            "One seed is no distribution of models: ranked by KL, which smoothing can win. Give two or more --seeds."
        )
    return found


def reservations(config: Mapping[str, Any], methods: Iterable[str]) -> list[str]:
    """What a ranking may not be read for: a size that only tries the program, and settings that nobody chose.

    Args:
        config: of the run, as its folder has it.
        methods: that are ranked.

    >>> chosen = {"er": {"hyper": {"learning_rate": 0.1}}}
    >>> print(*reservations({"smoke": True, "references": chosen}, ["er", "er+salun", "ug_clu"]), sep="\\n")
    The size is that of a smoke test (--smoke): it tries the program, and says nothing of the methods.
    Nobody chose the settings of salun for these data: they are defaults, and others may rank it elsewhere.
    """
    found = []
    if config.get("smoke"):
        found.append(
            "The size is that of a smoke test (--smoke): it tries the program, and says nothing of the methods."
        )
    parts = dict.fromkeys(part for method in methods for part in method.split("+"))
    chosen = config.get("references") or {}
    unchosen = [
        part
        for part in parts
        if part not in chosen and part not in WITHOUT_SETTINGS
        # UG-CLU has its own settings, and ablations of the paper's form begin with those of that form.
        if not part.startswith("ug_clu") or (part.startswith("ug_clu_plain") and "ug_clu_plain" not in chosen)
    ]
    if unchosen:
        them = "it" if len(unchosen) == 1 else "them"
        found.append(
            f"Nobody chose the settings of {', '.join(unchosen)} for these data: they are defaults, and others may "
            f"rank {them} elsewhere."
        )
    return found
