"""A distance between two distributions of models, by their outputs: one that smoothing outputs does not shorten.

KL(oracle ‖ model) can be won without unlearning: for oracles `p_i` with mean `p̄` and a fixed `q`, `mean_i KL(p_i‖q) =
mean_i KL(p_i‖p̄) + KL(p̄‖q)`, so that `q = p̄` is nearer than another oracle. Here a set of models is compared with a set
of oracles, pair by pair, and each set with itself.

References: the statistic is Székely and Rizzo's (2013), "Energy statistics"; its use on outputs of models is ours.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax

_CHUNK = 2**22  # numbers at a time: a pair of models for every example would not fit
_COLDEST, _HOTTEST = 1e-4, 1e4

Numbers = NDArray[np.float64]


class EnergyDistance(NamedTuple):
    """A distance, and how sure it is.

    Attributes:
        value: E, about 0 where the two distributions agree, and below 0 by chance alone.
        standard_error: of E over draws of models and of oracles, by the jackknife; NaN with two of either.
        per_example: [N] float64, the statistic of each input; `value` is their mean.
    """

    value: float
    standard_error: float
    per_example: Numbers


def energy_distance(models: ArrayLike, oracles: ArrayLike) -> EnergyDistance:
    """Energy distance of the outputs of two sets of models.

    `E = mean_x [2 mean_{m,o} d(m, o) − mean_{m≠m′} d(m, m′) − mean_{o≠o′} d(o, o′)]`, with the Hellinger distance
    `d(a, b) = ‖√p_a(x) − √p_b(x)‖ / √2` of output distributions. The means are over different models, so that E is
    unbiased: 0 in expectation exactly when the outputs of both sets have one distribution.

    Args:
        models: [M, N, C] logits of M ≥ 2 models of different seeds on N inputs.
        oracles: [O, N, C] logits of O ≥ 2 oracles on the same inputs.

    Returns:
        Value, standard error and the statistic of each input.

    Raises:
        ValueError: another number of axes, inputs or classes; fewer than two of either; logits that are not finite.

    Example:
        >>> sure = np.array([[[9.0, 0.0]], [[9.0, 0.0]]])  # two models, one input, two classes
        >>> round(energy_distance(sure, sure).value, 12), round(energy_distance(sure, -sure).value, 3)
        (0.0, 1.978)
    """
    first, second = _checked("models", models), _checked("oracles", oracles)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"models are {list(first.shape)} and oracles {list(second.shape)}: both must have logits of the same "
            "classes on the same inputs"
        )
    roots = [np.exp(log_softmax(logits, axis=2) / 2) for logits in (first, second)]
    across, within, among = (_distances(roots[a], roots[b]) for a, b in ((0, 1), (0, 0), (1, 1)))
    per_example = 2 * across.mean((1, 2)) - _mean_of_different(within) - _mean_of_different(among)
    pairs = [distances.mean(0) for distances in (across, within, among)]
    return EnergyDistance(float(per_example.mean()), _standard_error(*pairs), per_example)


def matched_energy_distance(
    models: ArrayLike, oracles: ArrayLike, test_models: ArrayLike, test_oracles: ArrayLike
) -> EnergyDistance:
    """Energy distance once each model is as sure of itself as the oracles are: what is left is not confidence.

    Each model's logits are divided by the temperature at which the mean entropy of its outputs on test inputs is that
    of the oracles' outputs; then `energy_distance`.

    Args:
        models: [M, N, C] logits of M ≥ 2 models on N inputs.
        oracles: [O, N, C] logits of O ≥ 2 oracles on them.
        test_models: [M, N', C] logits of the same models on test inputs.
        test_oracles: [O, N', C] logits of the same oracles on them.

    Returns:
        As `energy_distance`.

    Raises:
        ValueError: as `energy_distance`, or no temperature leads to that entropy.

    Example:
        >>> models, oracles = 3 * np.random.default_rng(0).normal(size=(2, 5, 400, 4))  # of one distribution
        >>> cool = models / 2
        >>> round(energy_distance(cool, oracles).value, 3)
        0.032
        >>> round(matched_energy_distance(cool, oracles, cool, oracles).value, 3)
        -0.004
    """
    first, temperatures = _checked("models", models), matching_temperatures(test_models, test_oracles)
    if len(first) != len(temperatures):
        raise ValueError(f"models are {len(first)} and test_models {len(temperatures)}: they must be the same models")
    return energy_distance(first / temperatures[:, None, None], oracles)


def matching_temperatures(test_models: ArrayLike, test_oracles: ArrayLike) -> Numbers:
    """The temperature of each model at which the mean entropy of its outputs is that of the oracles' outputs.

    Args:
        test_models: [M, N, C] logits on test inputs.
        test_oracles: [O, N, C] logits of oracles on them.

    Returns:
        [M] float64.

    Raises:
        ValueError: logits that are none, or no temperature leads to that entropy.

    Example:
        >>> oracles = np.random.default_rng(0).normal(size=(1, 50, 4))
        >>> matching_temperatures(3 * oracles, oracles).round(6).tolist()
        [3.0]
    """
    test, oracles = _checked("test_models", test_models, 1), _checked("test_oracles", test_oracles, 1)
    entropy = float(np.mean([_entropy(logits, 0.0) for logits in oracles]))
    return np.array([_temperature(number, logits, entropy) for number, logits in enumerate(test)])


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
    found = _checked("oracles", oracles, 4)
    if models < 2:
        raise ValueError(f"models is {models}: it must be 2 or more")
    number = len(found)
    roots = np.exp(log_softmax(found, axis=2) / 2)
    distances = _distances(roots, roots).mean(0)
    np.fill_diagonal(distances, 0.0)
    rows = distances.sum(1) / (number - 2)
    centred = distances - rows[:, None] - rows[None, :] + distances.sum() / ((number - 1) * (number - 2))
    np.fill_diagonal(centred, 0.0)
    variance = float((centred**2).sum()) / (number * (number - 3))
    pairs = 4 / (models * number) + 2 / (models * (models - 1)) + 2 / (number * (number - 1))
    return (variance * pairs) ** 0.5


def _checked(name: str, logits: ArrayLike, least: int = 2) -> Numbers:
    found = np.asarray(logits, np.float64)
    if found.ndim != 3 or len(found) < least or 0 in found.shape:
        some = {1: "one model", 2: "two models"}.get(least, f"{least} models")
        raise ValueError(
            f"{name} is of shape {list(found.shape)}: it must be [models, inputs, classes], {some} or more"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"{name}[{np.argwhere(~np.isfinite(found))[0][0]}] has logits that are not finite")
    return found


def _distances(first: Numbers, second: Numbers) -> Numbers:
    """Hellinger distances of all pairs on each input, [N, A, B], from roots of probabilities."""
    inputs = first.shape[1]
    found = np.empty((inputs, len(first), len(second)))
    size = max(1, _CHUNK // (len(first) * len(second) + 1))
    for start in range(0, inputs, size):
        some = slice(start, start + size)
        overlap = np.einsum("anc,bnc->nab", first[:, some], second[:, some])
        found[some] = np.sqrt(np.maximum(0.0, 1.0 - overlap))
    return found


def _mean_of_different(distances: Numbers) -> Numbers:
    """Mean over ordered pairs of different members, over the last two axes; the diagonal is 0 but for rounding."""
    number = distances.shape[-1]
    diagonal = np.trace(distances, axis1=-2, axis2=-1)
    return (distances.sum((-2, -1)) - diagonal) / (number * (number - 1))


def _standard_error(across: Numbers, within: Numbers, among: Numbers) -> float:
    """Jackknife over models and over oracles, from mean distances of pairs; NaN where one of two leaves no pair."""
    variance = 0.0
    for axis, own in ((0, within), (1, among)):
        number = across.shape[axis]
        if number < 3:
            return float("nan")
        left_out = []
        for one in range(number):
            kept = np.delete(np.arange(number), one)
            rest = 2 * np.delete(across, one, axis).mean() - _mean_of_different(own[np.ix_(kept, kept)])
            left_out.append(float(rest))
        variance += (number - 1) / number * float(np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    return variance**0.5


def _entropy(logits: Numbers, log_temperature: float) -> float:
    """Mean entropy of outputs at a temperature, nats."""
    logs = log_softmax(logits / np.exp(log_temperature), axis=1)
    return float(-(np.exp(logs) * logs).sum(1).mean())


def _temperature(number: int, logits: Numbers, entropy: float) -> float:
    """Where a model's mean entropy, which rises with the temperature, is the given one."""
    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    if not _entropy(logits, low) < entropy < _entropy(logits, high):
        raise ValueError(
            f"test_models[{number}] has mean entropy {_entropy(logits, 0.0):.3g} and the oracles {entropy:.3g}: no "
            f"temperature in {_COLDEST:g} … {_HOTTEST:g} makes them equal"
        )
    return float(np.exp(brentq(lambda log_temperature: _entropy(logits, log_temperature) - entropy, low, high)))
