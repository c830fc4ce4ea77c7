"""RMIA on the outputs that a run left: on the models before and after a request, and on an oracle held out of it.

Members are the unlearned examples. Non-members were never seen and are of the same kind: test examples of the unlearned
classes where there are such, else of the retained ones. The oracles are the references, all test examples are the
population: against those of retained classes alone every example of a class that is gone, seen or not, scores the same.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ugclu_jax.evidence import ROC, TruePositives, rmia, roc, true_positives_at
from ugclu_jax.report.outputs import BEFORE, LABELS, Arrays

WHO = {"before": "models before", "after": "models after", "oracle": "an oracle held out"}
"""Whom the attack is on; what an honest retraining scores is the last."""
FALSE_POSITIVES = (0.01, 0.001)


class Scores(NamedTuple):
    """Of an attack, high for members."""

    members: np.ndarray  # [M, N]
    non_members: np.ndarray  # [M, K], or [O, K] where these are of other networks

    @property
    def curve(self) -> ROC:
        """Of all networks together."""
        return roc(self.members, self.non_members)


class Operating(NamedTuple):
    """What an attack achieves."""

    auc: float
    spread: float | None  # standard deviation of the area over networks; None for one
    tails: tuple[TruePositives, ...]  # at `FALSE_POSITIVES`
    networks: int
    members: int  # examples
    non_members: int


def non_members(oracles: Arrays) -> str:
    """The set of the examples that nobody was trained on.

    >>> non_members({"test": np.zeros(1)}), non_members({"test": np.zeros(1), "unlearned_test": np.zeros(1)})
    ('test', 'unlearned_test')
    """
    return "unlearned_test" if "unlearned_test" in oracles else "test"


def operating(scores: Scores) -> Operating:
    """Area, and true positives with intervals, of networks taken together.

    Scores of one example by several networks are no independent draws: intervals, and what is too few for a false
    positive rate, count each example once.

    >>> found = operating(Scores(np.array([[3.0, 1.0]] * 2), np.array([[2.0, 1.0]] * 2)))
    >>> found.auc, found.spread, found.members, found.non_members
    (0.625, 0.0, 2, 2)
    """
    curve, (networks, members) = scores.curve, scores.members.shape
    others = scores.non_members.shape[1]
    once = curve._replace(members=members, non_members=others)
    areas = [roc(*pair).auc for pair in zip(*scores, strict=True)] if len(scores.non_members) == networks else []
    spread = float(np.std(areas, ddof=1)) if len(areas) > 1 else None
    tails = tuple(true_positives_at(once, rate) for rate in FALSE_POSITIVES)
    return Operating(curve.auc, spread, tails, networks, members, others)


def rmia_scores(own: Arrays, oracles: Arrays) -> Mapping[str, Scores]:
    """Scores of RMIA on each of `WHO` whose outputs are there.

    Every network is attacked with all oracles but one: an oracle with the others, the i-th model without the oracle of
    its number (modulo). So all three attackers know equally many references.

    Args:
        own: outputs of models, [M, N, C] by set.
        oracles: outputs of O ≥ 2 oracles, with the labels of each set.

    Raises:
        ValueError: as `rmia`: one oracle, no labels that fit, or outputs that are not finite.
    """
    others = non_members(oracles)
    sets = ("unlearned", others, *dict.fromkeys(("test", others)))
    if len(oracles["test"]) < 2:
        raise ValueError("RMIA needs 2 oracles, of which one is held out; there is 1")
    networks: dict[str, Mapping[str, np.ndarray | None]] = {
        "before": {name: own.get(BEFORE + name) for name in sets},
        "after": own,
        "oracle": oracles,
    }
    known, labels = _three(oracles, sets, 1), _three({name: oracles[LABELS + name] for name in sets}, sets, 0)
    return {
        who: _scores(_three(logits, sets, 1), known, labels)
        for who, logits in networks.items()
        if all(logits.get(name) is not None for name in sets)
    }


def _three(arrays: Mapping[str, np.ndarray | None], sets: Sequence[str], axis: int) -> list[np.ndarray]:
    """Those of members, of non-members, and of the population, which is the rest of the sets together."""
    found = [np.asarray(arrays[name]) for name in sets]
    return [*found[:2], np.concatenate(found[2:], axis=axis)]


def _scores(logits: list[np.ndarray], references: list[np.ndarray], labels: list[np.ndarray]) -> Scores:
    members, found = len(labels[0]), []
    for one in range(len(logits[0])):
        known = [np.delete(each, one % len(each), 0) for each in references]
        found.append(
            rmia(
                np.concatenate([logits[0][one], logits[1][one]]),
                np.concatenate(known[:2], axis=1),
                np.concatenate(labels[:2]),
                logits[2][one],
                known[2],
                labels[2],
            )
        )
    scores = np.stack(found)
    return Scores(scores[:, :members], scores[:, members:])
