"""Whether a run reached its targets, and what a reader must not overlook."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ugclu_jax.report.columns import KL_RETAINED, KL_TEST, KL_UNLEARNED, LA, MIA, UA, Column
from ugclu_jax.report.format import count, number
from ugclu_jax.report.metrics import Line, Numbers
from ugclu_jax.report.summaries import Statistic, mean, milestones, named, summarise

# What a run has to reach; every limit is inclusive. The report, its warnings and its colours use these and no others.
UA_GAP_LIMIT = 0.05  # |UA − the oracle's|
LA_GAP_LIMIT = 0.04  # |LA − the oracle's|
MIA_GAP_LIMIT = 0.1  # |MIA − the oracle's|: an attacker is fitted anew on each model, and swings more than an accuracy
GUESS_AUC = 0.55  # an attacker below it on examples held out guesses, whatever share he calls members: he counts as .5
KL_RATIO_LIMITS = {KL_TEST: 2.5, KL_RETAINED: 2.5, KL_UNLEARNED: 3.0}  # KL over its noise floor, or the floor over KL
SMOOTH = 0.9  # KL over its noise floor below which a model is smoother than an oracle; a fresh oracle is near 1
COST_LIMIT = 0.25  # gradient evaluations over those of retraining at every request
DROP_LIMIT = 0.05  # fall of RA in one request, and rise of UA after the unlearning
STUCK_SHARE = 0.2  # UA "did not move" below this share of the way from the accuracy before to the oracle's


class Check(NamedTuple):
    """One target of the verdict."""

    title: str
    value: float | None  # None: undefined in this run
    limit: float
    unit: str  # points | times | percent
    least: float = -math.inf

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; a diverged value does not reach it."""
        return None if self.value is None else self.least <= self.value <= self.limit

    @property
    def target(self) -> str:
        """What is to be reached, in words."""
        most = f"at most {self.text(self.limit)}"
        return most if self.least == -math.inf else f"{self.text(self.least)} to {self.text(self.limit)}"

    def text(self, value: float | None) -> str:
        """Write a value of this check in its unit."""
        if value is None or not math.isfinite(value):
            return number(value)
        return {
            "points": f"{100 * value:.1f}".removesuffix(".0") + " points",
            "times": f"{value:.1f}×",
            "percent": f"{100 * value:.0f} %",
        }[self.unit]


def _worst(values: Iterable[float | None]) -> float | None:
    """Return the largest value, NaN if there is one, None if there is no value."""
    known = [value for value in values if value is not None]
    return next((value for value in known if math.isnan(value)), max(known, default=None))


def _farthest(ratios: Iterable[float | None]) -> float | None:
    """Return the ratio that is farthest from 1, on either side; NaN if there is one, None if there is none.

    >>> _farthest([0.25, None, 3.0]), _farthest([0.0, 9.0]), _farthest([])
    (0.25, 0.0, None)
    """
    known = [ratio for ratio in ratios if ratio is not None]
    if any(math.isnan(ratio) for ratio in known):
        return math.nan
    return max(known, key=lambda ratio: abs(math.log(ratio)) if ratio > 0 else math.inf, default=None)


def scorecard(lines: list[Line], method: str) -> list[Check]:
    """Hold a method against the targets, at its worst over unlearn requests and the last one.

    Gaps are absolute per seed, then averaged, so that seeds on both sides of the oracle do not cancel; for that of MIA
    see `mia_gap`; a KL ratio is mean KL over mean noise floor, best at 1 and read from both sides; the cost is that of
    all requests over that of retraining at all of them.

    Args:
        lines: of all methods.
        method: the one to judge.
    """
    own = [line for line in lines if line.method == method]
    groups = milestones(summarise(own))

    def gap(between: Callable[[Numbers[float]], float | None]) -> float | None:
        worst = []
        for request in groups:
            each = [between(line.numbers) for line in own if line.request == request]
            gaps = [value for value in each if value is not None]
            worst.append(mean(gaps) if gaps else None)
        return _worst(worst)

    def ratio(column: Column) -> float | None:
        return _farthest(kl_ratio(group[0].statistics, column) for group in groups.values())

    spent, retraining = (sum(each) for each in zip(*_costs(own).values(), strict=True)) if _costs(own) else (0.0, 0.0)
    return [
        Check("UA gap to the oracle", gap(lambda numbers: _apart(UA, numbers)), UA_GAP_LIMIT, "points"),
        Check("MIA gap to the oracle", gap(mia_gap), MIA_GAP_LIMIT, "points"),
        Check("LA gap to the oracle", gap(lambda numbers: _apart(LA, numbers)), LA_GAP_LIMIT, "points"),
        *(
            Check(f"KL / floor on {side}", ratio(column), limit, "times", 1 / limit)
            for side, column in (("test", KL_TEST), ("retained", KL_RETAINED), ("unlearned", KL_UNLEARNED))
            for limit in (KL_RATIO_LIMITS[column],)
        ),
        Check("cost / retraining", spent / retraining if retraining else None, COST_LIMIT, "percent"),
    ]


def _apart(column: Column, numbers: Numbers[float]) -> float | None:
    model, oracle = column.value(numbers), column.reference(numbers)
    return None if model is None or oracle is None else abs(model - oracle)


def mia_gap(numbers: Numbers[float]) -> float | None:
    """Return |MIA − the oracle's| of the attack through the loss; None where both attackers guess, or there is none.

    One who guesses, of the two, counts as .5: what he calls members and what not says nothing.

    >>> from ugclu_jax.report.metrics import ModelMetrics, OracleMetrics
    >>> good, guess = ({"loss": 1.0}, {"loss": 0.9}), ({"loss": 0.0}, {"loss": 0.5})
    >>> [mia_gap(Numbers(model=ModelMetrics(MIA=model[0], MIA_AUC=model[1]), oracle=OracleMetrics(MIA=guess[0],
    ...  MIA_AUC=guess[1]))) for model in (good, guess)]
    [0.5, None]
    """
    shares, guessing = (MIA.value(numbers), MIA.reference(numbers)), []
    for measured in (numbers.model, numbers.oracle):
        auc = measured.MIA_AUC.get("loss")
        guessing.append(auc is not None and auc < GUESS_AUC)
    if None in shares or all(guessing):
        return None
    model, oracle = (0.5 if guesses else share for share, guesses in zip(shares, guessing, strict=True))
    return abs(model - oracle)


def _costs(own: list[Line]) -> dict[int, tuple[float, float]]:
    """Gradient evaluations of each request of a method, and those of retraining instead: means over seeds.

    A request learned by training from scratch has nothing to save and is left out.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    for line in own:
        spent, retraining = line.numbers.cost
        if spent is not None and retraining is not None and not (line.kind == "learn" and spent == retraining):
            found.setdefault(line.request, []).append((spent, retraining))
    return {
        request: (mean([spent for spent, _ in each]), mean([retraining for _, retraining in each]))
        for request, each in found.items()
    }


def cheaper_retraining(lines: list[Line], method: str) -> str | None:
    """Say where retraining from scratch would have cost less than a method did; None where it nowhere would.

    >>> from ugclu_jax.report.metrics import Cost
    >>> spent = Numbers(cost=Cost(616.0, 261.0))
    >>> cheaper_retraining([Line("er", 0, 0, "learn", "L1", spent)], "er")
    'retraining is cheaper here (616 against 261 gradient evaluations)'
    """
    costs = _costs([line for line in lines if line.method == method])
    dearer = {request: pair for request, pair in costs.items() if pair[0] > pair[1]}
    if not dearer:
        return None
    spent, retraining = (sum(each) for each in zip(*dearer.values(), strict=True))
    where = "here" if len(dearer) == len(costs) else f"at request{'s' if len(dearer) > 1 else ''} {_ranges(dearer)}"
    return f"retraining is cheaper {where} ({count(spent)} against {count(retraining)} gradient evaluations)"


def _ranges(requests: Iterable[int]) -> str:
    """Requests as a person counts them, neighbours as a range.

    >>> _ranges([0, 1, 2, 5])
    '1–3, 6'
    """
    runs: list[list[int]] = []
    for request in sorted(requests):
        if runs and request == runs[-1][1] + 1:
            runs[-1][1] = request
        else:
            runs.append([request, request])
    return ", ".join(f"{first + 1}–{last + 1}" if last > first else f"{first + 1}" for first, last in runs)


def undefined(lines: list[Line]) -> list[str]:
    """What could not be measured and why, once for all methods and seeds, with the requests that it is true of.

    >>> undefined([Line("er", 0, request, "learn", "L", Numbers(), ("no test example of cat",)) for request in (0, 1)])
    ['no test example of cat (requests 1–2)']
    """
    where: dict[str, set[int]] = {}
    for line in lines:
        for sentence in line.undefined:
            where.setdefault(sentence, set()).add(line.request)
    return [f"{sentence} (request{'s' if len(at) > 1 else ''} {_ranges(at)})" for sentence, at in where.items()]


def kl_ratio(statistics: Numbers[Statistic], column: Column) -> float | None:
    """Return mean KL over mean noise floor, None where either is undefined; `column` is one of the KLs."""
    kl, floor = column.value(statistics), column.reference(statistics)
    if kl is None or floor is None:
        return None
    if floor.mean == 0:
        return 1.0 if kl.mean == 0 else math.inf
    return kl.mean / floor.mean


def verdict(lines: list[Line], method: str) -> str:
    """Say in a sentence or two how a method did against the targets."""
    ua, mia, la, test, retained, unlearned, cost = checks = scorecard(lines, method)
    known = [check for check in checks if check.passed is not None]
    missed = [check.title for check in known if not check.passed]
    if ua.value is None:
        opening = "Nothing was unlearned. "
    else:
        within = "within" if ua.passed else "NOT within"
        opening = f"UA is {within} {ua.text(ua.limit)} of the oracle's (at worst {ua.text(ua.value)} away). "
        if mia.value is None:
            opening += "MIA says nothing: there is no attacker, or none better than a guess. "
        else:
            opening += f"MIA is {mia.text(mia.value)} from the oracle's at worst. "
    cheaper = cheaper_retraining(lines, method)
    closing = f"Missed: {'; '.join(missed)}." if missed else f"All {len(known)} targets met."
    return (
        f"{opening}KL to the oracle over its noise floor is {_ratio_text(test)} on test inputs, "
        f"{_ratio_text(retained)} on retained and {_ratio_text(unlearned)} on unlearned ones; LA is "
        f"{la.text(la.value)} from the oracle's; the cost is {cost.text(cost.value)} of the gradient evaluations of "
        f"retraining at every request{f': {cheaper}' if cheaper else ''}. {closing}"
    )


def _ratio_text(check: Check) -> str:
    smooth = check.value is not None and check.value < SMOOTH
    return f"{check.text(check.value)}{' (smoother than an oracle)' if smooth else ''}"


DIVERGED = "diverged"


def warnings(lines: list[Line]) -> list[str]:
    """Return what a reader must not overlook: divergence, UA that did not move or left the oracle's, falls of RA, gaps.

    Args:
        lines: of all methods and seeds.

    Returns:
        One sentence per rule, method and request, naming the seeds; divergence first.
    """
    previous = {(line.method, line.seed, line.request): line for line in lines}
    found: dict[tuple[str, int, str, str], list[tuple[int, str]]] = {}
    for line in lines:
        before = previous.get((line.method, line.seed, line.request - 1))
        for rule, detail in _rules(line, before):
            found.setdefault((line.method, line.request, line.name, rule), []).append((line.seed, detail))
    sentences = []
    for method, request, name, rule in sorted(found, key=lambda key: key[3] != DIVERGED):
        details = "; ".join(f"seed {seed}: {detail}" for seed, detail in found[method, request, name, rule])
        sentences.append(f"{method}, request {request + 1} ({name}): {rule}: {details}")
    every_seed = {line.seed for line in lines}
    for summary in summarise(lines):
        missing = sorted(every_seed - set(summary.seeds))
        if missing:
            sentences.append(f"{summary.method}, request {summary.request + 1}: no result yet for seeds {missing}")
    return sentences


def _rules(line: Line, before: Line | None) -> Iterator[tuple[str, str]]:
    model, oracle_ua = line.numbers.model, line.numbers.oracle.UA
    diverged = [name for name, value in named(model) if not math.isfinite(value)]
    if diverged:
        yield DIVERGED, "not finite: " + ", ".join(diverged)
    ua, ra = model.UA, model.RA
    ra_before = before.numbers.model.RA if before else None
    if ua is not None and oracle_ua is not None and line.kind == "unlearn":
        detail = f"{number(ua)}, oracle {number(oracle_ua)}"
        way = (ra_before or 0.0) - oracle_ua  # what is now unlearned was retained before this request
        if way > UA_GAP_LIMIT and (ra_before or 0.0) - ua < STUCK_SHARE * way:
            yield "UA did not move", detail
        elif ua - oracle_ua > UA_GAP_LIMIT:
            yield "UA above the oracle's, unlearning is incomplete", detail
        elif oracle_ua - ua > UA_GAP_LIMIT:
            yield "UA below the oracle's, over-forgetting", detail
    if ra is not None and ra_before is not None and ra_before - ra > DROP_LIMIT:
        yield "RA dropped", f"{number(ra_before)} to {number(ra)}"
    if model.relapse is not None and model.relapse > DROP_LIMIT:
        yield "relapse, UA rose after the unlearning", number(model.relapse)
