"""From the logits of a model and its oracles to the metrics of one request. Definitions live in `ugclu_jax.metrics`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ugclu_jax import membership, metrics
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.requests import Stream


@dataclass(frozen=True)
class Logits:
    """Outputs on both splits: of one model `[N, C]`, or of S oracles `[S, N, C]`."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Situation:
    """What is retained, learned and unlearned after one request, as ids; None where there is nothing."""

    retained: np.ndarray
    learned: np.ndarray | None
    unlearned: np.ndarray | None  # all that is unlearned so far and was not learned again
    test: np.ndarray  # test examples of the retained groups
    unlearned_test: np.ndarray | None  # test examples of the groups of which nothing is retained any more
    groups: Mapping[str, np.ndarray]  # test examples of every group learned so far
    retained_groups: tuple[str, ...]
    learned_at: Mapping[str, int]  # latest learning of each group
    past_unlearned: Mapping[int, np.ndarray]  # what each unlearn request removed and is still removed


@dataclass(frozen=True)
class Groups:
    """The parts of the test split whose accuracies are averaged: tasks, or classes where no task is known."""

    classes: Mapping[str, tuple[int, ...]]

    def rows(self, name: str, labels: np.ndarray) -> np.ndarray:
        """Rows whose label is one of the group's classes."""
        return np.flatnonzero(np.isin(labels, self.classes[name]))


def situations(stream: Stream, dataset: Dataset, groups: Groups) -> list[Situation]:
    """Book-keeping of a valid stream: the situation after each request."""
    group_of_class = {c: name for name, classes in groups.classes.items() for c in classes}
    group_of = np.array([group_of_class.get(c, "") for c in range(dataset.num_classes)])[dataset.train_labels]
    rows = {name: groups.rows(name, dataset.test_labels) for name in groups.classes}
    retained = np.zeros(len(dataset.train_labels), bool)
    seen = np.zeros(len(dataset.train_labels), bool)
    learned_at: dict[str, int] = {}
    past: dict[int, np.ndarray] = {}
    found = []
    for index, request in enumerate(stream):
        before = set(group_of[retained])
        retained[request.ids] = request.kind == "learn"
        seen[request.ids] = True
        if request.kind == "learn":
            learned_at |= {name: index for name in set(group_of[request.ids]) - before}
            past = {t: left for t, ids in past.items() if (left := np.setdiff1d(ids, request.ids)).size}
        else:
            past[index] = request.ids
        present = set(group_of[retained])
        retained_groups = tuple(name for name in groups.classes if name in present)
        gone = [rows[name] for name in groups.classes if name in set(group_of[seen]) - present]
        unlearned = np.flatnonzero(seen & ~retained)
        found.append(
            Situation(
                retained=np.flatnonzero(retained),
                learned=request.ids if request.kind == "learn" else None,
                unlearned=unlearned if unlearned.size else None,
                test=np.concatenate([rows[name] for name in retained_groups] or [np.zeros(0, int)]),
                unlearned_test=np.concatenate(gone) if gone else None,
                groups={name: rows[name] for name in groups.classes if name in set(group_of[seen])},
                retained_groups=retained_groups,
                learned_at=dict(learned_at),
                past_unlearned=dict(past),
            )
        )
    return found


def drawn(found: Sequence[Situation], dataset: Dataset, limit: int) -> list[Situation]:
    """The situations as they are measured on random examples: `limit` of each training set, `limit` test rows in all.

    All examples stand in one random order and the first of each set are taken, so that two equal sets are measured on
    equal examples, and what changes from one request to the next is the model.

    Raises:
        ValueError: a group has test rows and none of them is drawn.
    """
    rng = np.random.default_rng(0)
    train_order, test_order = (rng.permutation(len(labels)) for labels in (dataset.train_labels, dataset.test_labels))

    def draw(ids: np.ndarray | None) -> np.ndarray | None:
        return None if ids is None else np.sort(ids[np.argsort(train_order[ids])[:limit]])

    def shared(rows: np.ndarray | None) -> np.ndarray | None:
        return None if rows is None else rows[test_order[rows] < limit]

    for each in found:
        for name, rows in each.groups.items():
            if len(rows) and not (test_order[rows] < limit).any():
                raise ValueError(f"evaluation_examples is {limit}: none of them is a test example of {name}; give more")
    return [
        dataclasses.replace(
            each,
            **{name: draw(getattr(each, name)) for name in ("retained", "learned", "unlearned")},
            **{name: shared(getattr(each, name)) for name in ("test", "unlearned_test")},
            groups={name: shared(rows) for name, rows in each.groups.items()},
            past_unlearned={t: draw(ids) for t, ids in each.past_unlearned.items()},
        )
        for each in found
    ]


def rows_of(situation: Situation) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and of the test split that a situation's metrics read."""
    sides = _sides(situation).values()
    train, test = ([ids for split, ids in sides if split == wanted and ids is not None] for wanted in ("train", "test"))
    return (
        np.unique(np.concatenate([*train, *situation.past_unlearned.values()])),
        np.unique(np.concatenate([*test, *situation.groups.values()])),
    )


def _sides(situation: Situation) -> dict[str, tuple[str, np.ndarray | None]]:
    return {
        "retained": ("train", situation.retained),
        "learned": ("train", situation.learned),
        "unlearned": ("train", situation.unlearned),
        "test": ("test", situation.test),
        "unlearned_test": ("test", situation.unlearned_test),
    }


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
        for name, (split, ids) in _sides(situation).items()
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
