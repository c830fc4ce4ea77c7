"""From the logits of a model and its oracles to the metrics of one request. Definitions live in `ugclu_jax.metrics`.

Outputs and labels of whole splits go in; a `Situation` says which rows count as what. Everything that comes out is a
number, or None where it is undefined: nothing is retained, too few examples to fit an attacker, no oracle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax import membership, metrics
from ugclu_jax.requests.situations import Situation, sides


@dataclass(frozen=True)
class Logits:
    """Outputs on both splits: of one model `[N, C]`, or of S oracles `[S, N, C]`."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Labels:
    """Labels of both splits, `[N]` each."""

    train: np.ndarray
    test: np.ndarray


class Sides(NamedTuple):
    """One number for each set of inputs; None where the set is empty."""

    retained: float | None
    """On training examples that are retained."""
    learned: float | None
    """On those that this request learned."""
    unlearned: float | None
    """On those unlearned so far and not learned again."""
    test: float | None
    """On test examples of the retained groups."""
    unlearned_test: float | None
    """On test examples of the groups of which nothing is retained."""


class Accuracies(NamedTuple):
    """What is known of a network by itself: no history, no oracle. Shares in [0, 1]."""

    LA: float | None
    """`mean_g acc_test(g)` over the retained groups g that have a test example."""
    RA: float | None
    """Accuracy on retained training examples."""
    TA: float | None
    """Accuracy on test examples of the retained groups."""
    UA: float | None
    """Accuracy on unlearned training examples."""
    UA_test: float | None
    """Accuracy on test examples of the unlearned groups."""
    MIA: dict[str, float] | None
    """Share of the unlearned examples that an attacker calls members, by the attacked feature."""
    MIA_AUC: dict[str, float] | None
    """Area under the ROC curve of that attacker, on members and non-members held out."""
    group_accuracy: dict[str, float | None]
    """`acc_test(g)` of every group learned so far."""
    past_UA: dict[int, float | None]
    """Accuracy on what each unlearn request removed and is still removed, by the request's index."""


class Divergences(NamedTuple):
    """Distances between output distributions, in nats."""

    KL: Sides
    """`mean_x KL(p ‖ q)`."""
    JS: Sides
    """`mean_x ½ KL(p ‖ m) + ½ KL(q ‖ m)`, `m = (p + q) / 2`."""


class OracleMetrics(NamedTuple):
    """What the oracles of a request say of themselves."""

    oracle: Accuracies
    """Their own accuracies, averaged."""
    noise_floor: Divergences
    """Their mutual divergences: what retraining with another seed scores."""


class Before(NamedTuple):
    """The model before an unlearn request, on the examples and against the oracles of the model after it."""

    UA: float | None
    """Accuracy on the examples that are unlearned after the request."""
    MIA: dict[str, float] | None
    """Share of them that an attacker calls members, by the attacked feature."""
    KL: Sides | None
    """From the oracles after the request; None without them."""


class ModelMetrics(NamedTuple):
    """What is measured of a model after a request: its accuracies, its past, its distance to the oracles."""

    accuracies: Accuracies
    FM: float | None
    """`mean_g (max_{t' < t} acc_t'(g) − acc_t(g))` over retained groups, counted from a group's latest learning."""
    relapse: float | None
    """Largest rise of UA after the request that unlearned, over those whose examples are still removed."""
    divergences: Divergences | None
    """From the oracles (p) to the model (q), averaged over oracles; None without them."""
    ToW: float | None
    """`(1 − |ΔUA|) (1 − |ΔRA|) (1 − |ΔTA|)`, differences to the oracles."""

    @property
    def LA(self) -> float | None:
        """Of `accuracies`."""
        return self.accuracies.LA

    @property
    def RA(self) -> float | None:
        """Of `accuracies`."""
        return self.accuracies.RA

    @property
    def TA(self) -> float | None:
        """Of `accuracies`."""
        return self.accuracies.TA

    @property
    def UA(self) -> float | None:
        """Of `accuracies`."""
        return self.accuracies.UA

    @property
    def KL(self) -> Sides | None:
        """Of `divergences`; None where there was no oracle."""
        return None if self.divergences is None else self.divergences.KL

    def to_dict(self) -> dict[str, Any]:
        """As a line of metrics has it: one flat object, without what needs an oracle where there was none.

        >>> accuracies = Accuracies(1.0, 1.0, 1.0, None, None, None, None, {"task 1": 1.0}, {})
        >>> list(ModelMetrics(accuracies, 0.0, None, None, None).to_dict())[-4:]
        ['group_accuracy', 'past_UA', 'FM', 'relapse']
        """
        line = {**as_dict(self.accuracies), "FM": self.FM, "relapse": self.relapse}
        return line if self.divergences is None else {**line, **as_dict(self.divergences), "ToW": self.ToW}

    @classmethod
    def from_dict(cls, line: Mapping[str, Any]) -> "ModelMetrics":
        """What `to_dict` made, read back.

        >>> accuracies = Accuracies(1.0, 1.0, 1.0, 0.5, None, None, None, {"task 1": 1.0}, {2: 0.5})
        >>> divergences = Divergences(Sides(0.1, None, 0.2, 0.1, None), Sides(0.1, None, 0.1, 0.1, None))
        >>> whole = ModelMetrics(accuracies, 0.0, 0.25, divergences, 0.9)
        >>> ModelMetrics.from_dict(whole.to_dict()) == whole
        True
        """
        own = {name: line[name] for name in Accuracies._fields}
        own["past_UA"] = {int(request): value for request, value in line["past_UA"].items()}
        sides = [Sides(**line[name]) for name in Divergences._fields] if "KL" in line else None
        return cls(
            Accuracies(**own), line["FM"], line["relapse"], Divergences(*sides) if sides else None, line.get("ToW")
        )


def as_dict(measured: Any) -> Any:
    """Named tuples as dictionaries, all the way down; keys as text, as JSON has them."""
    if hasattr(measured, "_asdict"):
        measured = measured._asdict()
    if isinstance(measured, Mapping):
        return {str(name): as_dict(value) for name, value in measured.items()}
    return measured


def _accuracy(logits: np.ndarray, labels: np.ndarray, rows: np.ndarray | None) -> float | None:
    if rows is None or not len(rows):
        return None
    return metrics.accuracy(logits[rows], labels[rows])


def _accuracies(logits: Logits, labels: Labels, situation: Situation, seed: int) -> Accuracies:
    """Everything that needs no history and no oracle."""
    train, test = (logits.train, labels.train), (logits.test, labels.test)
    group_accuracy = {name: _accuracy(*test, rows) for name, rows in situation.groups.items()}
    attacks = None
    if _attackable(situation):
        parts = (train, situation.retained), (test, situation.test), (train, situation.unlearned)
        attacks = membership.attack_all(*(array[rows] for split, rows in parts for array in split), seed=seed)
    tested = _tested_groups(situation)
    return Accuracies(
        LA=metrics.learning_accuracy(group_accuracy, tested) if tested else None,
        RA=_accuracy(*train, situation.retained),
        TA=_accuracy(*test, situation.test),
        UA=_accuracy(*train, situation.unlearned),
        UA_test=_accuracy(*test, situation.unlearned_test),
        MIA=None if attacks is None else {name: result.member_share for name, result in attacks.items()},
        MIA_AUC=None if attacks is None else {name: result.auc for name, result in attacks.items()},
        group_accuracy=group_accuracy,
        past_UA={t: _accuracy(*train, ids) for t, ids in situation.past_unlearned.items()},
    )


def _mean(values: Sequence[Any]) -> Any:
    """Mean of equally structured measurements; None stays None."""
    first = values[0]
    if isinstance(first, Accuracies):
        return Accuracies(*map(_mean, zip(*values, strict=True)))
    if isinstance(first, Mapping):
        return {key: _mean([value[key] for value in values]) for key in first}
    return None if first is None else float(np.mean(values))


def _divergences(situation: Situation, value: Callable[[str, np.ndarray, metrics.Divergence], float]) -> Divergences:
    """A value for each divergence and each set of inputs, from the name of its split and its rows."""
    sets = sides(situation)
    return Divergences(
        *(
            Sides(
                **{
                    name: value(split, rows, divergence) if rows is not None and len(rows) else None
                    for name, (split, rows) in sets.items()
                }
            )
            for divergence in (metrics.kl_divergence, metrics.js_divergence)
        )
    )


MIA_LEAST = membership.MIN_EXAMPLES
"""Members and non-members below which no attacker is fitted; MIA is then undefined."""


def _attackable(situation: Situation) -> bool:
    unlearned = situation.unlearned is not None and len(situation.unlearned) > 0
    return unlearned and min(len(situation.retained), len(situation.test)) >= MIA_LEAST


def _tested_groups(situation: Situation) -> tuple[str, ...]:
    """The retained groups that have a test example: those that LA and FM are means over."""
    return tuple(name for name in situation.retained_groups if len(situation.groups[name]))


def undefined(situation: Situation) -> list[str]:
    """What cannot be measured after a request, and why: a sentence each, none where everything can be.

    >>> nothing = np.zeros(0, int)
    >>> undefined(Situation(np.arange(9), None, None, nothing, None, {"cat": nothing}, ("cat",), {"cat": 0}, {}))
    ['no test example of cat: LA, FM and TA are undefined']
    """
    found, tested = [], _tested_groups(situation)
    untested = [name for name in situation.retained_groups if name not in tested]
    if untested:
        rest = "LA, FM and TA leave it out" if len(untested) == 1 else "LA, FM and TA leave them out"
        found.append(f"no test example of {', '.join(untested)}: {rest if tested else 'LA, FM and TA are undefined'}")
    if not len(situation.retained):
        found.append("nothing is retained: LA, RA, TA, FM and MIA are undefined")
    elif situation.unlearned is not None and not _attackable(situation):
        found.append(
            f"MIA is undefined: an attacker is fitted on {MIA_LEAST} retained and {MIA_LEAST} test examples or more, "
            f"and there are {len(situation.retained)} and {len(situation.test)}"
        )
    return found


def _from_oracles(logits: Logits, situation: Situation, oracles: Logits) -> Divergences:
    return _divergences(
        situation,
        lambda split, rows, divergence: metrics.oracle_divergence(
            getattr(oracles, split)[:, rows], getattr(logits, split)[rows], divergence
        ),
    )


def measure_before(
    logits: Logits, labels: Labels, situation: Situation, seed: int, oracles: Logits | None = None
) -> Before:
    """Metrics of the model that an unlearn request found, measured as `measure_model` measures the one that it left.

    Args:
        logits: of the model before the request.
        labels, situation, seed, oracles: those of the request, as `measure_model` has them.
    """
    own = _accuracies(logits, labels, situation, seed)
    return Before(own.UA, own.MIA, None if oracles is None else _from_oracles(logits, situation, oracles).KL)


def measure_oracles(oracles: Logits, labels: Labels, situation: Situation, seed: int) -> OracleMetrics:
    """The oracles' own accuracies, averaged, and their mutual divergences.

    Args:
        oracles: outputs of S oracles, 2 or more.
        labels, situation: what the outputs are of, and how the examples stand.
        seed: of the membership attack.
    """
    own = [
        _accuracies(Logits(train, test), labels, situation, seed)
        for train, test in zip(oracles.train, oracles.test, strict=True)
    ]
    floor = _divergences(
        situation, lambda split, rows, divergence: metrics.noise_floor(getattr(oracles, split)[:, rows], divergence)
    )
    return OracleMetrics(_mean(own), floor)


def measure_model(
    logits: Logits,
    labels: Labels,
    situation: Situation,
    history: Sequence[ModelMetrics],
    seed: int,
    oracles: Logits | None = None,
    oracle: Accuracies | None = None,
) -> ModelMetrics:
    """Metrics of a model after a request.

    Args:
        logits: of the model.
        labels, situation: what the outputs are of, and how the examples stand.
        history: this function's results for the earlier requests of the same run.
        seed: of the membership attack.
        oracles: outputs of its oracles; None where there are none, and nothing is measured against them.
        oracle: their accuracies, from `measure_oracles`; None likewise.
    """
    own = _accuracies(logits, labels, situation, seed)
    forgetting, tested = None, _tested_groups(situation)
    if tested:
        accuracies = [*(entry.accuracies.group_accuracy for entry in history), own.group_accuracy]
        forgetting = metrics.forgetting_measure(accuracies, situation.learned_at, tested)
    rises = []
    for t in situation.past_unlearned:
        past = [*(entry.accuracies.past_UA.get(t) for entry in history[t:]), own.past_UA[t]]
        known = [value for value in past if value is not None]
        rises += [metrics.relapse(known)] if known else []
    relapse = max(rises) if rises else None
    if oracles is None or oracle is None:
        return ModelMetrics(own, forgetting, relapse, None, None)
    divergences = _from_oracles(logits, situation, oracles)
    pairs = (own.UA, own.RA, own.TA, oracle.UA, oracle.RA, oracle.TA)
    defined = [value for value in pairs if value is not None]
    tow = metrics.tug_of_war(*defined) if len(defined) == len(pairs) else None
    return ModelMetrics(own, forgetting, relapse, divergences, tow)
