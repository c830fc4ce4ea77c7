"""From the logits of a model and its oracles to the metrics of one request. Definitions live in `ugclu_jax.metrics`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ugclu_jax import membership, metrics
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.requests.situations import Situation, sides


@dataclass(frozen=True)
class Logits:
    """Outputs on both splits: of one model `[N, C]`, or of S oracles `[S, N, C]`."""

    train: np.ndarray
    test: np.ndarray


def _accuracy(logits: Logits, dataset: Dataset, split: str, ids: np.ndarray | None) -> float | None:
    if ids is None or not len(ids):
        return None
    labels = dataset.train_labels if split == "train" else dataset.test_labels
    return metrics.accuracy(getattr(logits, split)[ids], labels[ids])


def _measure(logits: Logits, dataset: Dataset, situation: Situation, seed: int) -> dict[str, Any]:
    """Everything that needs no history and no oracle."""
    group_accuracy = {name: _accuracy(logits, dataset, "test", rows) for name, rows in situation.groups.items()}
    attacks = None
    if situation.unlearned is not None and min(len(situation.retained), len(situation.test)) >= MIA_LEAST:
        sets: list[np.ndarray] = []
        for split, ids in (("train", situation.retained), ("test", situation.test), ("train", situation.unlearned)):
            labels = dataset.train_labels if split == "train" else dataset.test_labels
            sets += [getattr(logits, split)[ids], labels[ids]]
        attacks = membership.attack_all(*sets, seed=seed)
    return {
        "LA": metrics.learning_accuracy(group_accuracy, situation.retained_groups)
        if situation.retained_groups
        else None,
        "RA": _accuracy(logits, dataset, "train", situation.retained),
        "TA": _accuracy(logits, dataset, "test", situation.test),
        "UA": _accuracy(logits, dataset, "train", situation.unlearned),
        "UA_test": _accuracy(logits, dataset, "test", situation.unlearned_test),
        "MIA": attacks and {name: result.member_share for name, result in attacks.items()},
        "MIA_AUC": attacks and {name: result.auc for name, result in attacks.items()},
        "group_accuracy": group_accuracy,
        "past_UA": {str(t): _accuracy(logits, dataset, "train", ids) for t, ids in situation.past_unlearned.items()},
    }


def _mean(values: Sequence[Any]) -> Any:
    """Mean of equally structured measurements; None stays None."""
    if isinstance(values[0], Mapping):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return None if values[0] is None else float(np.mean(values))


def _per_side(situation: Situation, value: Callable[[str, np.ndarray], float]) -> dict[str, float | None]:
    return {
        name: value(split, ids) if ids is not None and len(ids) else None
        for name, (split, ids) in sides(situation).items()
    }


MIA_LEAST = 8
"""Members and non-members below which no attacker is fitted; MIA is then undefined."""
DIVERGENCES = {"KL": metrics.kl_divergence, "JS": metrics.js_divergence}


def measure_oracles(oracles: Logits, dataset: Dataset, situation: Situation, seed: int) -> dict[str, Any]:
    """`{"oracle": the oracles' own metrics, averaged; "noise_floor": their mutual divergences}`."""
    own = [
        _measure(Logits(train, test), dataset, situation, seed)
        for train, test in zip(oracles.train, oracles.test, strict=True)
    ]
    floors = {
        name: _per_side(
            situation, lambda split, ids, d=divergence: metrics.noise_floor(getattr(oracles, split)[:, ids], d)
        )
        for name, divergence in DIVERGENCES.items()
    }
    return {"oracle": _mean(own), "noise_floor": floors}


def measure_model(
    logits: Logits,
    oracles: Logits | None,
    oracle: Mapping[str, Any] | None,
    dataset: Dataset,
    situation: Situation,
    history: Sequence[Mapping[str, Any]],
    seed: int,
) -> dict[str, Any]:
    """Metrics of a model after a request.

    Args:
        logits: of the model.
        oracles: of its oracles; None where there are none, and nothing is measured against them.
        oracle: their own metrics, from `measure_oracles`; None likewise.
        dataset, situation: what the logits are of, and how the examples stand.
        history: this function's results for the earlier requests of the same run.
        seed: of the membership attack.
    """
    own = _measure(logits, dataset, situation, seed)
    accuracies = [*(entry["group_accuracy"] for entry in history), own["group_accuracy"]]
    forgetting = None
    if situation.retained_groups:
        forgetting = metrics.forgetting_measure(accuracies, situation.learned_at, situation.retained_groups)
    rises = []
    for t in situation.past_unlearned:
        past = [entry["past_UA"].get(str(t)) for entry in history[t:]] + [own["past_UA"][str(t)]]
        rises.append(metrics.relapse([value for value in past if value is not None]))
    common = {**own, "FM": forgetting, "relapse": max(rises) if rises else None}
    if oracles is None or oracle is None:
        return common
    divergences = {
        name: _per_side(
            situation,
            lambda split, ids, d=divergence: metrics.oracle_divergence(
                getattr(oracles, split)[:, ids], getattr(logits, split)[ids], d
            ),
        )
        for name, divergence in DIVERGENCES.items()
    }
    parts = [(own[name], oracle[name]) for name in ("UA", "RA", "TA")]
    complete = all(mine is not None and theirs is not None for mine, theirs in parts)
    tow = metrics.tug_of_war(*(mine for mine, _ in parts), *(theirs for _, theirs in parts)) if complete else None
    return {**common, **divergences, "ToW": tow}
