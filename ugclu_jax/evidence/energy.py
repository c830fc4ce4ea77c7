"""A distance between two distributions of models, by their outputs: one that smoothing outputs does not shorten.

KL(oracle ‖ model) can be won without unlearning: for oracles `p_i` with mean `p̄` and a fixed `q`, `mean_i KL(p_i‖q) =
mean_i KL(p_i‖p̄) + KL(p̄‖q)`, so that `q = p̄` is nearer than another oracle. Here a set of models is compared with a set
of oracles, pair by pair, and each set with itself.

References: the statistic is Székely and Rizzo's (2013), "Energy statistics"; its use on outputs of models is ours.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax

from ugclu_jax.evidence.baselines import cool
from ugclu_jax.evidence.outputs import Numbers, check_same_inputs, checked_models

_CHUNK = 2**22  # numbers at a time: a pair of models for every example would not fit


class EnergyDistance(NamedTuple):
    """A distance, and how sure it is.

    Attributes:
        value: E, about 0 where the two distributions agree, and below 0 by chance alone.
        standard_error: of E over draws of models and of oracles, by the jackknife; NaN with two of either. With
            `same_seeds`, over draws of seeds. Too large rather than too small: about 1.5 times at E = 0, where the
            statistic is degenerate, 1.1 to 1.4 times (24 to 4 models) away from it.
        per_example: [N] float64, the statistic of each input; `value` is their mean.
    """

    value: float
    standard_error: float
    per_example: Numbers


def energy_distance(models: ArrayLike, oracles: ArrayLike, *, same_seeds: bool = False) -> EnergyDistance:
    """Energy distance of the outputs of two sets of models.

    `E = mean_x [2 mean_{m,o} d(m, o) − mean_{m≠m′} d(m, m′) − mean_{o≠o′} d(o, o′)]`, with the Hellinger distance
    `d(a, b) = ‖√p_a(x) − √p_b(x)‖ / √2` of output distributions. The means are over different models, so that E is
    unbiased: 0 in expectation exactly when the outputs of both sets have one distribution.

    That holds for pairs that are drawn independently. Where model i began from the seed of oracle i, the two resemble
    each other for that reason alone, and E falls below 0: `same_seeds` leaves these pairs out of the mean across, and
    the jackknife leaves a seed out, model and oracle together.

    Args:
        models: [M, N, C] logits of M ≥ 2 models of different seeds on N inputs.
        oracles: [O, N, C] logits of O ≥ 2 oracles on the same inputs.
        same_seeds: whether M = O and model i shares its seed with oracle i.

    Returns:
        Value, standard error and the statistic of each input.

    Raises:
        ValueError: another number of axes, inputs or classes; fewer than two of either; logits that are not finite;
            seeds that are the same of sets of two sizes.

    Example:
        >>> sure = np.array([[[9.0, 0.0]], [[9.0, 0.0]]])  # two models, one input, two classes
        >>> round(energy_distance(sure, sure).value, 12), round(energy_distance(sure, -sure).value, 3)
        (0.0, 1.978)
    """
    first, second = checked_models("models", models), checked_models("oracles", oracles)
    check_same_inputs(models=first, oracles=second)
    if same_seeds and len(first) != len(second):
        raise ValueError(f"same_seeds with {len(first)} models and {len(second)} oracles: there must be as many")
    mean = mean_of_different if same_seeds else _mean
    across, within, among = (hellinger_distances(a, b) for a, b in ((first, second), (first, first), (second, second)))
    per_example = 2 * mean(across) - mean_of_different(within) - mean_of_different(among)
    error = _standard_error_of_seeds if same_seeds else jackknife_error
    pairs = [distances.mean(0) for distances in (across, within, among)]
    return EnergyDistance(float(per_example.mean()), error(*pairs), per_example)


def matched_energy_distance(
    models: ArrayLike,
    oracles: ArrayLike,
    test_models: ArrayLike,
    test_oracles: ArrayLike,
    *,
    same_seeds: bool = False,
) -> EnergyDistance:
    """Energy distance once each model is as sure of itself as the oracles are: what is left is not confidence.

    Each model is cooled, or heated, to the mean entropy of the oracles on test inputs (see `cool`); then
    `energy_distance`. By design it does not see the temperature of a model.

    Args:
        models: [M, N, C] logits of M ≥ 2 models on N inputs.
        oracles: [O, N, C] logits of O ≥ 2 oracles on them.
        test_models: [M, N', C] logits of the same models on test inputs.
        test_oracles: [O, N', C] logits of the same oracles on them.
        same_seeds: as for `energy_distance`.

    Returns:
        As `energy_distance`.

    Raises:
        ValueError: as `energy_distance`.
        NoTemperatureError: no temperature leads to that entropy.

    Example:
        >>> models, oracles = 3 * np.random.default_rng(0).normal(size=(2, 5, 400, 4))  # of one distribution
        >>> cool = models / 2
        >>> round(energy_distance(cool, oracles).value, 3)
        0.032
        >>> round(matched_energy_distance(cool, oracles, cool, oracles).value, 3)
        -0.004
    """
    first = checked_models("models", models)
    return energy_distance(cool(first, test_models, test_oracles), oracles, same_seeds=same_seeds)


def fresh_standard_error(oracles: ArrayLike, models: int) -> float:
    """Standard error of the energy distance of so many fresh oracles from these: how far from 0 chance alone leads.

    Where both sets have one distribution, E is a sum over pairs of the doubly centred distance `h̃`, whose variance is
    `v (4 / (M O) + 2 / (M (M−1)) + 2 / (O (O−1)))`; `v = E h̃²` is estimated without bias from the oracles' mean
    distances by U-centring, `v = Σ_{i≠j} Ã_ij² / (O (O − 3))`.

    Args:
        oracles: [O, N, C] logits of O ≥ 4 oracles.
        models: M ≥ 2, how many are compared with them.

    Returns:
        The standard error.

    Raises:
        ValueError: as `energy_distance`, or fewer than 4 oracles.

    Example:
        >>> oracles = np.random.default_rng(0).normal(size=(12, 200, 3))
        >>> 0 < fresh_standard_error(oracles, 50) < fresh_standard_error(oracles, 5) < 0.02
        True

    References: Székely and Rizzo (2014), "Partial distance correlation with methods for dissimilarities", section 2.
    """
    found = checked_models("oracles", oracles, 4)
    if models < 2:
        raise ValueError(f"models is {models}: it must be 2 or more")
    number = len(found)
    distances = hellinger_distances(found, found).mean(0)
    np.fill_diagonal(distances, 0.0)
    rows = distances.sum(1) / (number - 2)
    centred = distances - rows[:, None] - rows[None, :] + distances.sum() / ((number - 1) * (number - 2))
    np.fill_diagonal(centred, 0.0)
    variance = float((centred**2).sum()) / (number * (number - 3))
    pairs = 4 / (models * number) + 2 / (models * (models - 1)) + 2 / (number * (number - 1))
    return (variance * pairs) ** 0.5


def hellinger_distances(first: Numbers, second: Numbers) -> Numbers:
    """`‖√p_a(x) − √p_b(x)‖ / √2` of all pairs on each input, [N, A, B], from logits [A, N, C] and [B, N, C].

    >>> hellinger_distances(np.zeros((1, 1, 2)), np.array([[[0.0, 0.0]], [[800.0, 0.0]]])).round(3).tolist()
    [[[0.0, 0.541]]]
    """
    inputs = first.shape[1]
    first, second = (np.exp(log_softmax(logits, axis=2) / 2) for logits in (first, second))
    found = np.empty((inputs, len(first), len(second)))
    size = max(1, _CHUNK // (len(first) * len(second) + 1))
    for start in range(0, inputs, size):
        some = slice(start, start + size)
        overlap = np.einsum("anc,bnc->nab", first[:, some], second[:, some])
        found[some] = np.sqrt(np.maximum(0.0, 1.0 - overlap))
    return found


def _mean(distances: Numbers) -> Numbers:
    """Mean over the last two axes."""
    return distances.mean((-2, -1))


def mean_of_different(distances: Numbers) -> Numbers:
    """Mean over ordered pairs of different numbers, over the last two axes."""
    number = distances.shape[-1]
    diagonal = np.trace(distances, axis1=-2, axis2=-1)
    return (distances.sum((-2, -1)) - diagonal) / (number * (number - 1))


def jackknife_error(across: Numbers, within: Numbers, among: Numbers) -> float:
    """Jackknife over models and over oracles, from mean distances of pairs; NaN where one of two leaves no pair."""
    variance = 0.0
    for axis, own in ((0, within), (1, among)):
        number = across.shape[axis]
        if number < 3:
            return float("nan")
        left_out = []
        for one in range(number):
            kept = np.delete(np.arange(number), one)
            rest = 2 * np.delete(across, one, axis).mean() - mean_of_different(own[np.ix_(kept, kept)])
            left_out.append(float(rest))
        variance += (number - 1) / number * float(np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    return variance**0.5


def _standard_error_of_seeds(across: Numbers, within: Numbers, among: Numbers) -> float:
    """Jackknife over seeds, each with its model and its oracle: these are what was drawn."""
    number = len(across)
    if number < 3:
        return float("nan")
    left_out = []
    for one in range(number):
        kept = np.ix_(*[np.delete(np.arange(number), one)] * 2)
        rest = [float(mean_of_different(distances[kept])) for distances in (across, within, among)]
        left_out.append(2 * rest[0] - rest[1] - rest[2])
    return ((number - 1) / number * float(np.sum((np.array(left_out) - np.mean(left_out)) ** 2))) ** 0.5
