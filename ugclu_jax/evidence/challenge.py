"""Forgetting quality and score of the NeurIPS 2023 unlearning challenge, from many models and many oracles.

References: Triantafillou et al., "Are we making progress in unlearning?", arXiv 2406.09073; attackers and limits are
those of its published code, `metric.py` of google-deepmind/unlearning_evaluation.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ugclu_jax.evidence.klom import margins
from ugclu_jax.evidence.outputs import Numbers, check_same_inputs, checked_models
from ugclu_jax.metrics import checked_accuracy

CAP = 50.0
BUCKET = 0.5  # of ε, for which the points are halved
SLACK = 2.0  # nats by which an edge of a double threshold may move
PEAKED = 0.01  # a range by so much smaller than the other is told from it without an attacker

Places = NDArray[np.intp]


class ForgettingQuality(NamedTuple):
    """How well attackers tell models after unlearning from oracles.

    Attributes:
        value: F, the mean of the points, in [0, 1]; high is better.
        epsilon: [N] of the best attacker on each example, in [0, 50].
        points: [N] `2^{−⌊ε / ½⌋}`.
    """

    value: float
    epsilon: Numbers
    points: Numbers


def forgetting_quality(
    models: ArrayLike, oracles: ArrayLike, labels: ArrayLike, delta: float = 1e-5
) -> ForgettingQuality:
    """Forgetting quality F: an ε for each example by the best of many attackers, and points for a small one.

    An attacker sees `φ = log p_y − log(1 − p_y)` of one network on one example and says whether it was unlearned or
    retrained. With FPR and FNR his shares of errors on either side,
    `ε = max(ln(1 − δ − FPR) − ln FNR, ln(1 − δ − FNR) − ln FPR)`, at least 0 and at most 50, and F is the mean over
    examples of `2^{−⌊ε / ½⌋}` for the best attacker. Attackers, as in the challenge:

    - one threshold: φ at or above it speaks for the side of the larger median;
    - two thresholds: φ between them speaks for the side whose φ have the smaller range. Where that range is
      `low … high`, the thresholds are `low + s + u` and `high + s`, with s and u of at most 2 nats either way;
    - where a range is less than 1 % of the other, ε is 50.

    They are fitted to the very samples on which their errors are counted, so that fresh oracles do not reach F = 1:
    two samples of one standard normal have F = .16 at 16 models and oracles, .18 at 32, .19 at 64, .20 at 512. An
    attacker with one error rate of 0 alone is left out for too few samples; with both 0, ε is 50. So ε is either 50 or
    below the logarithm of the larger number of models.

    Ours: every different decision of these attackers is tried, where the code walks a grid of a hundredth of a nat; an
    example of which no attacker is left has ε = 0, where the code stops; an ε of `⌈ln(M − 1)⌉` and more earns its
    2^{…}, where the code gives 0; φ is clipped at ±100.

    Args:
        models: [M, N, C] logits of M ≥ 2 models after unlearning on the N unlearned examples; the challenge takes 512.
        oracles: [O, N, C] logits of O ≥ 2 oracles.
        labels: [N] integers.
        delta: δ, in [0, 1).

    Returns:
        F, ε and points.

    Raises:
        ValueError: as `energy_distance` and `margins`; or delta out of range.

    Example:
        >>> logits = np.random.default_rng(0).normal(size=(2, 100, 1, 3))
        >>> apart = forgetting_quality(logits[0] + [0, 20, 0], logits[1], [1])
        >>> apart.epsilon.tolist(), forgetting_quality(logits[0], logits[1], [1]).value
        ([50.0], 0.25)
    """
    first, second = checked_models("models", models), checked_models("oracles", oracles)
    check_same_inputs(models=first, oracles=second)
    if not 0 <= delta < 1:
        raise ValueError(f"delta is {delta}: it must be in [0, 1)")
    sides = (margins(first, labels), margins(second, labels))
    tables = [_epsilons(len(sides[own]), len(sides[1 - own]), delta) for own in (0, 1)]
    epsilon = np.array([_best(sides[0][:, x], sides[1][:, x], tables) for x in range(first.shape[1])])
    points = 2.0 ** -np.floor(epsilon / BUCKET)
    return ForgettingQuality(float(points.mean()), epsilon, points)


def challenge_score(quality: float, retained: float, test: float, oracle_retained: float, oracle_test: float) -> float:
    """The challenge's score `F · RA_U / RA_R · TA_U / TA_R`: forgetting quality, discounted by lost accuracy.

    Args:
        quality: F.
        retained: mean accuracy of the models on retained training examples.
        test: and on test examples.
        oracle_retained: the oracles'.
        oracle_test: the oracles'.

    Returns:
        The score; above F where the models are more accurate than the oracles.

    Raises:
        ValueError: a number outside [0, 1], or an oracle's accuracy of 0.

    Example:
        >>> challenge_score(0.5, 0.75, 0.5, 1.0, 0.5)
        0.375
    """
    named = {"quality": quality, "retained": retained, "test": test}
    oracle = {"oracle_retained": oracle_retained, "oracle_test": oracle_test}
    for name, value in (named | oracle).items():
        checked_accuracy(name, value)
    if not (oracle_retained and oracle_test):
        raise ValueError(f"oracle_retained is {oracle_retained} and oracle_test {oracle_test}: neither may be 0")
    return quality * retained / oracle_retained * test / oracle_test


def _epsilons(positives: int, negatives: int, delta: float) -> Numbers:
    """ε of an attacker who finds a of the positives and b of the negatives, at a · (negatives + 1) + b; flat.

    −∞ where one of his error rates is 0 alone.
    """
    false_negative = 1 - np.arange(positives + 1)[:, None] / positives
    false_positive = np.arange(negatives + 1)[None, :] / negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(1 - delta - false_positive) - np.log(false_negative)
        other = np.log(1 - delta - false_negative) - np.log(false_positive)
    found = np.fmax(one, other)
    found[:, 0] = found[positives, :] = -np.inf
    found[positives, 0] = CAP
    return found.ravel()


def _best(models: Numbers, oracles: Numbers, tables: list[Numbers]) -> float:
    """The largest ε of the attackers on one example; `tables[i]` is for side i as the positive one."""
    sides = (models, oracles)
    ranges = [float(np.ptp(side)) for side in sides]
    if min(ranges) < PEAKED * max(ranges):
        return CAP
    values = np.unique(np.concatenate(sides))
    # Of the positive side and of the other, how many are below each value, and at the end all: [V + 1].
    counts = [np.searchsorted(np.sort(side), np.r_[values, np.inf], "left") for side in sides]

    def at(positive: int) -> Places:
        return np.asarray(counts[positive] * (len(sides[1 - positive]) + 1) + counts[1 - positive], np.intp)

    higher = int(np.median(oracles) > np.median(models))
    place = at(higher)
    single = tables[higher][place[-1] - place].max()
    peaked = higher if ranges[higher] < ranges[1 - higher] else 1 - higher
    place, low, high, own = at(peaked), sides[peaked].min(), sides[peaked].max(), tables[peaked]
    # A right threshold is told by how many values are at or below it, a left one by how many are below it.
    below, above = np.r_[-np.inf, values], np.r_[values, np.inf]
    rights = np.flatnonzero((below <= high + SLACK) & (above > high - SLACK))
    lefts = np.arange(len(values) + 1)
    first = np.searchsorted(values, np.maximum(below[rights], high - SLACK) - (high - low) - SLACK, "left")
    last = np.searchsorted(values, np.minimum(above[rights], high + SLACK) - (high - low) + SLACK, "left")
    inside = (lefts >= first[:, None]) & (lefts <= np.minimum(last, rights)[:, None])
    spans = (place[rights][:, None] - place[None, :])[inside]
    double = own[spans].max() if len(spans) else -np.inf
    return float(np.clip(max(single, double), 0.0, CAP))
