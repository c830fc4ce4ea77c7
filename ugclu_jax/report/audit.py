"""An audit of a finished run, from what it left on disk: every measure of `evidence` that its models suffice for.

What cannot be computed is said in words, with the number that it would need. No training, no data set, no cache.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.evidence import (
    ROC,
    Rates,
    RelativeTest,
    average_gap,
    forgetting_quality,
    gaussian_klom,
    klom,
    relative_test,
    tow,
    tow_mia,
    u_lira,
)
from ugclu_jax.report import evidence, outputs
from ugclu_jax.report.attacks import FALSE_POSITIVES, WHO, Operating, Scores, operating, rmia_scores
from ugclu_jax.report.evidence import Evidence
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.outputs import BEFORE, LABELS, Arrays, Stack
from ugclu_jax.report.summaries import Statistic, methods_of, statistic

SIDES = ("unlearned", "retained", "test")
LEAST = {"KLoM": 100, "Gaussian KLoM": 32, "U-LiRA": 16, "forgetting quality": 16, "the relative test": 4}
"""Models, and oracles, from which a measure says something; below, it is mostly its own bias or noise."""
LEVEL = 0.05
"""Of the relative test: p below it, and nearer to the oracles, is passed."""
PERCENTILE = 95.0


PARTS = {
    "matched": "matched E is undefined: no temperature makes a model as sure as the oracles",
    "before": "E of the models before is undefined: their outputs were not kept",
    "counterfactual": "E to the counterfactuals is undefined: the run made none, or their outputs are gone",
    "fresh": f"the error of fresh oracles needs {evidence.LEAST_FRESH} oracles, there are fewer",
}
"""Why a part of E may be missing."""


class Tail(NamedTuple):
    """A number over examples."""

    mean: float
    percentile: float  # the 95th


class Margins(NamedTuple):
    """A divergence of margins, and what two halves of the oracles have."""

    models: Tail
    halves: Tail


class Audit(NamedTuple):
    """What is known of a method's models after an unlearn request; None, or no entry, is undefined, and says why."""

    method: str
    request: int
    name: str
    evidence: Evidence
    klom: Mapping[str, Margins]  # by set
    gaussian_klom: Mapping[str, Margins]
    rmia: Mapping[str, Operating]  # by `attacks.WHO`
    u_lira: Operating | None
    forgetting_quality: float | None
    forgetting_halves: float | None  # of two halves of the oracles
    relative: RelativeTest | None
    control: RelativeTest | None  # half of the oracles in place of the models: an audit that fails it is broken
    average_gap: Statistic | None
    tow: Statistic | None
    tow_mia: Statistic | None
    curves: Mapping[str, ROC]  # of RMIA
    undefined: tuple[str, ...]

    @property
    def nearer(self) -> bool | None:
        """Whether the models pass the relative test; None where there is none, or an honest retraining fails it."""
        return passed(self.relative) if passed(self.control) else None


def passed(test: RelativeTest | None) -> bool:
    """Whether models are nearer to the oracles than to the models before, and not by chance.

    >>> passed(RelativeTest(0.1, 0.5, 0.01, True)), passed(RelativeTest(0.1, 0.5, 0.2, True)), passed(None)
    (True, False, False)
    """
    return test is not None and test.nearer and test.p_value < LEVEL


def gather(run_dir: Path, lines: Sequence[Line], learners: Mapping[str, str]) -> list[Audit]:
    """Audit every method at every unlearn request of a run.

    Args:
        run_dir: the run's folder.
        lines: of its metrics.
        learners: of each method.

    Raises:
        ValueError: a file of outputs is damaged.
        FileNotFoundError: there are no outputs of oracles after an unlearn request.
    """
    known = {(each.method, each.request): each for each in evidence.gather(run_dir, lines, learners)}
    found = []
    for request in dict.fromkeys(line.request for line in lines if line.kind == "unlearn"):
        oracles = outputs.read(run_dir, outputs.oracle_file(request))
        for method in methods_of(lines):
            own = [line for line in lines if (line.method, line.request) == (method, request)]
            if own:
                names = {line.seed: outputs.model_file(method, line.seed, request) for line in own}
                stack = outputs.stack(run_dir, names)
                found.append(_audit(own, known[method, request], stack, oracles))
    return found


class _Notes:
    """Runs measures, and remembers why some have no value."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def enough(self, name: str, **there: int) -> bool:
        """Whether there are as many of each as a measure needs."""
        least = LEAST[name]
        if all(number >= least for number in there.values()):
            return True
        needed, numbers = " and ".join(f"{least} {kind}" for kind in there), " and ".join(map(str, there.values()))
        self.sentences.append(f"{name} needs {needed}, there are {numbers}")
        return False

    def resolved(self, scores: Mapping[str, Scores]) -> None:
        """Say which false positive rates non-members are too few for."""
        for rate in FALSE_POSITIVES if scores else ():
            least, there = round(1 / rate), next(iter(scores.values())).non_members.shape[1]
            if there < least:
                rule = f"true positives at {100 * rate:g} % false positives need {least} non-members"
                self.sentences.append(f"{rule}, there are {there}")

    def tried(self, name: str, measure: Callable[[], Any]) -> Any:
        """Its value; None where it refuses, and why."""
        try:
            return measure()
        except ValueError as error:
            self.sentences.append(f"{name} is undefined: {error}")
            return None


def _audit(own: Sequence[Line], known: Evidence, stack: Stack, oracles: Arrays) -> Audit:
    notes, models = _Notes(), stack.sets
    if known.undefined:
        notes.sentences.append(f"E is undefined: {known.undefined}")
    else:
        notes.sentences += [sentence for part, sentence in PARTS.items() if getattr(known, part) is None]
    complete = bool(stack.members) and not stack.missing
    complete = complete and all(name in each for name in ("unlearned", "test") for each in (models, oracles))
    scores: Mapping[str, Scores] = {}
    if complete:
        scores = notes.tried("RMIA", lambda: rmia_scores(models, oracles)) or {}
        notes.resolved(scores)
        notes.sentences += [f"RMIA on {name} is undefined: outputs were not kept" for name in _absent(scores)]
    else:
        notes.sentences.append(
            "KLoM, RMIA, U-LiRA, forgetting quality and the relative test are undefined: outputs are not complete"
        )
    average, product, product_mia = (
        _over_seeds(own, feature, measure)
        for feature, measure in (("loss", average_gap), ("loss", tow), ("confidence", tow_mia))
    )
    gaps = {"average gap": average, "ToW": product, "ToW-MIA": product_mia}
    notes.sentences += [
        f"{name} is undefined: metrics.jsonl lacks an accuracy or an attack, of the model or of the oracle"
        for name, value in gaps.items()
        if value is None
    ]
    models = models if complete else {}
    quality, halves = _forgetting(notes, models, oracles)
    relative, control = _relative(notes, models, oracles)
    return Audit(
        own[0].method,
        own[0].request,
        own[0].name,
        known,
        _margins(notes, "KLoM", klom, models, oracles),
        _margins(notes, "Gaussian KLoM", gaussian_klom, models, oracles),
        {who: operating(each) for who, each in scores.items()},
        _lira(notes, models, oracles),
        quality,
        halves,
        relative,
        control,
        average,
        product,
        product_mia,
        curves={who: each.curve for who, each in scores.items()},
        undefined=tuple(notes.sentences),
    )


def _absent(scores: Mapping[str, Scores]) -> list[str]:
    """Whom RMIA was not on, though it was on others."""
    return [name for who, name in WHO.items() if scores and who not in scores]


def _counts(models: Arrays, oracles: Arrays) -> dict[str, int]:
    return {"models": len(models["unlearned"]), "oracles": len(oracles["unlearned"])}


Divergence = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _margins(notes: _Notes, name: str, measure: Divergence, models: Arrays, oracles: Arrays) -> dict[str, Margins]:
    if not models or not notes.enough(name, **_counts(models, oracles)):
        return {}

    def of(side: str) -> Margins:
        labels, half = oracles[LABELS + side], len(oracles[side]) // 2
        both = (models[side], oracles[side]), (oracles[side][:half], oracles[side][half : 2 * half])
        return Margins(*(_tail(measure(one, other, labels)) for one, other in both))

    for side in SIDES:
        if side not in models:
            notes.sentences.append(f"{name} on {side} examples is undefined: there are no outputs on them")
    found = {side: notes.tried(name, functools.partial(of, side)) for side in SIDES if side in models}
    return {side: margins for side, margins in found.items() if margins is not None}


def _tail(values: np.ndarray) -> Tail:
    return Tail(float(np.mean(values)), float(np.percentile(values, PERCENTILE)))


def _lira(notes: _Notes, models: Arrays, oracles: Arrays) -> Operating | None:
    if not models or not notes.enough("U-LiRA", **_counts(models, oracles)):
        return None
    labels = oracles[LABELS + "unlearned"]
    found = notes.tried("U-LiRA", lambda: u_lira(models["unlearned"], oracles["unlearned"], labels))
    return None if found is None else operating(Scores(found.members, found.non_members))


def _forgetting(notes: _Notes, models: Arrays, oracles: Arrays) -> tuple[float | None, float | None]:
    name = "forgetting quality"
    if not models or not notes.enough(name, **_counts(models, oracles)):
        return None, None
    labels, half = oracles[LABELS + "unlearned"], len(oracles["unlearned"]) // 2
    first, second = oracles["unlearned"][:half], oracles["unlearned"][half : 2 * half]
    sets = (models["unlearned"], oracles["unlearned"]), (first, second)
    found = [notes.tried(name, functools.partial(forgetting_quality, *pair, labels)) for pair in sets]
    values = [None if each is None else each.value for each in found]
    return values[0], values[1]


def _relative(notes: _Notes, models: Arrays, oracles: Arrays) -> tuple[RelativeTest | None, RelativeTest | None]:
    if not models:
        return None, None
    name, before = "the relative test", models.get(BEFORE + "unlearned")
    if before is None:
        notes.sentences.append(f"{name} is undefined: outputs of the models before the request were not kept")
        return None, None
    if not notes.enough(name, **_counts(models, oracles)):
        return None, None
    known = oracles["unlearned"]
    half = (len(known) + 1) // 2  # the larger one as the candidate: it has more permutations
    pairs = (models["unlearned"], known), (known[:half], known[half:])
    found = [notes.tried(name, functools.partial(relative_test, *pair, before, seed=0)) for pair in pairs]
    if found[1] is not None and not passed(found[1]):
        notes.sentences.append(
            f"{name} says nothing: half of the oracles, in place of the models, fails it (p {found[1].p_value:.3f})"
        )
    return found[0], found[1]


def _over_seeds(own: Iterable[Line], feature: str, measure: Callable[[Rates, Rates], float]) -> Statistic | None:
    values = []
    for line in own:
        rates = _rates(line.numbers.model, feature), _rates(line.numbers.oracle, feature)
        if rates[0] is None or rates[1] is None:
            return None
        try:
            values.append(measure(rates[0], rates[1]))
        except ValueError:  # an accuracy of a diverged model
            return None
    return statistic(values)


def _rates(of: Any, feature: str) -> Rates | None:
    values = (of.UA, of.RA, of.TA, of.MIA.get(feature))
    return None if None in values else Rates(*values)
