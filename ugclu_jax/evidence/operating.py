"""What an attacker's scores achieve at every false positive rate, and how sure that is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from ugclu_jax.evidence.outputs import Numbers

CONFIDENCE = 0.95


class ROC(NamedTuple):
    """The curve of an attacker who calls member whatever scores at or above a threshold.

    Attributes:
        fpr: [T] share of non-members called members, rising from 0 to 1.
        tpr: [T] share of members called members.
        thresholds: [T] falling from +∞ through the different scores.
        auc: P(a member scores higher than a non-member) + ½ P(they score the same).
        members: number of scores of members.
        non_members: number of scores of non-members.
    """

    fpr: Numbers
    tpr: Numbers
    thresholds: Numbers
    auc: float
    members: int
    non_members: int


class TruePositives(NamedTuple):
    """A true positive rate and its exact 95 % interval (Clopper and Pearson); NaN where it cannot be resolved."""

    rate: float
    low: float
    high: float


def roc(members: ArrayLike, non_members: ArrayLike) -> ROC:
    """ROC curve of scores; equal scores are one threshold, so that the area is Mann and Whitney's U / (m n).

    Args:
        members: scores of any shape, high for members.
        non_members: scores of any shape.

    Returns:
        The curve, its area and both numbers.

    Raises:
        ValueError: no score on a side, or NaN.

    Example:
        >>> roc([3.0, 1.0], [2.0, 1.0]).auc  # of four pairs two are won, and one tied
        0.625
    """
    found = [np.sort(np.asarray(scores, np.float64), axis=None) for scores in (members, non_members)]
    for name, scores in zip(("members", "non_members"), found, strict=True):
        if not len(scores) or np.isnan(scores).any():
            raise ValueError(f"{name} has {len(scores)} scores, {np.isnan(scores).sum()} of them NaN: give one or more")
    thresholds = np.r_[np.inf, np.unique(np.concatenate(found))[::-1]]
    # The first threshold is above every score, an infinite one included.
    tpr, fpr = (
        np.r_[0, len(scores) - np.searchsorted(scores, thresholds[1:], "left")] / float(len(scores)) for scores in found
    )
    return ROC(fpr, tpr, thresholds, float(np.trapezoid(tpr, fpr)), len(found[0]), len(found[1]))


def true_positives_at(curve: ROC, fpr: float) -> TruePositives:
    """The true positive rate at a false positive rate, usually .01 and .001, with its interval.

    The rate is the largest at a threshold with at most that share of false positives, nothing interpolated. With k of
    n members found, the interval is `Beta⁻¹(.025; k, n−k+1) … Beta⁻¹(.975; k+1, n−k)`. It takes the scores for
    independent; those of one model on many examples are not quite, and the threshold has an error of its own.

    Args:
        curve: from `roc`.
        fpr: in (0, 1).

    Returns:
        Rate, low and high; all NaN where there are fewer than 1 / fpr non-members: none of them may then be called
        member, and how often that happens is not known to this precision.

    Raises:
        ValueError: a rate outside (0, 1).

    Example:
        >>> curve = roc(np.arange(100) + 50, np.arange(100))
        >>> [round(value, 2) for value in true_positives_at(curve, 0.01)], true_positives_at(curve, 0.001).rate
        ([0.51, 0.41, 0.61], nan)

    References:
        Carlini et al., "Membership inference attacks from first principles", arXiv 2112.03570, for low rates.
    """
    if not 0 < fpr < 1:
        raise ValueError(f"fpr is {fpr}: it must be a rate in (0, 1)")
    if curve.non_members * fpr < 1 - 1e-9:
        return TruePositives(*[float("nan")] * 3)
    rate = float(curve.tpr[curve.fpr <= fpr + 1e-12].max())
    found, missed, tail = round(rate * curve.members), curve.members - round(rate * curve.members), (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, found, missed + 1)) if found else 0.0
    high = float(beta.ppf(1 - tail, found + 1, missed)) if missed else 1.0
    return TruePositives(rate, low, high)
