"""Energy distances along a stream, and what they sum to with weights: a mean, a slope, a difference of two methods.

E is linear in the mean distances of pairs of networks, so that a weighted sum of the E of many requests is the E of the
weighted distances, and the jackknife over networks gives its standard error: models and oracles of one seed err
together at all requests, which errors of single requests do not show.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ugclu_jax.evidence.energy import hellinger_distances, jackknife_error, mean_of_different
from ugclu_jax.evidence.outputs import Numbers, check_same_inputs, checked_models


class Estimate(NamedTuple):
    """A number and its standard error; None where two networks of a kind have none."""

    value: float
    standard_error: float | None

    def beyond_noise(self, errors: float = 2.0) -> bool | None:
        """Whether it is further from 0 than so many standard errors; None without one.

        >>> Estimate(0.5, 0.1).beyond_noise(), Estimate(0.1, 0.1).beyond_noise(), Estimate(0.1, None).beyond_noise()
        (True, False, None)
        """
        return None if self.standard_error is None else abs(self.value) > errors * self.standard_error


class PairDistances(NamedTuple):
    """Mean Hellinger distances over inputs, of pairs of networks; sums and differences of them are some again.

    Attributes:
        across: [M, O] from models to oracles.
        within: [M, M] between models.
        among: [O, O] between oracles.
    """

    across: Numbers
    within: Numbers
    among: Numbers

    def plus(self, other: "PairDistances", times: float = 1.0) -> "PairDistances":
        """The sum with so many times another one, of the same networks or of others that share their seeds."""
        return PairDistances(*(own + times * more for own, more in zip(self, other, strict=True)))


def pair_distances(models: ArrayLike, oracles: ArrayLike) -> PairDistances:
    """Mean Hellinger distances of all pairs of networks.

    Args:
        models: [M, N, C] logits of M ≥ 2 models of different seeds on N inputs.
        oracles: [O, N, C] logits of O ≥ 2 oracles on the same inputs.

    Raises:
        ValueError: as `energy_distance`.

    >>> pair_distances(np.zeros((2, 1, 2)), np.zeros((3, 1, 2))).across.shape
    (2, 3)
    """
    first, second = checked_models("models", models), checked_models("oracles", oracles)
    check_same_inputs(models=first, oracles=second)
    pairs = ((first, second), (first, first), (second, second))
    return PairDistances(*(hellinger_distances(a, b).mean(0) for a, b in pairs))


def weighted_energy(distances: Sequence[PairDistances], weights: ArrayLike) -> Estimate:
    """`Σ_t w_t E_t` and its standard error by the jackknife over models and over oracles.

    Args:
        distances: of the same M models and O oracles, by seed, at T requests.
        weights: [T], such as `slope_weights`, or 1 / T each for the mean.

    Returns:
        The sum; its error is None with two models or two oracles.

    Raises:
        ValueError: no request, or as many weights as there are not requests.

    >>> same = pair_distances(np.zeros((3, 1, 2)), np.zeros((3, 1, 2)))
    >>> weighted_energy([same, same], [0.5, 0.5])
    Estimate(value=0.0, standard_error=0.0)
    """
    factors = np.asarray(weights, np.float64)
    if not len(distances) or factors.shape != (len(distances),):
        raise ValueError(f"weights have shape {factors.shape} for {len(distances)} requests: give one a request")
    across, within, among = (np.tensordot(factors, np.stack(each), 1) for each in zip(*distances, strict=True))
    value = float(2 * across.mean() - mean_of_different(within) - mean_of_different(among))
    error = jackknife_error(across, within, among)
    return Estimate(value, None if np.isnan(error) else error)


def slope_weights(times: ArrayLike) -> Numbers:
    """`w_t = (t − t̄) / Σ (t − t̄)²`: with them, `Σ_t w_t y_t` is the slope of the least-squares line through `y_t`.

    Args:
        times: [T], two different ones or more.

    Raises:
        ValueError: fewer.

    >>> float(slope_weights([1, 2, 3]) @ [5.0, 7.0, 9.0])
    2.0
    """
    found = np.asarray(times, np.float64)
    if found.ndim != 1 or len(np.unique(found)) < 2:
        raise ValueError(f"times are {found.tolist()}: a line has a slope through two different ones or more")
    centred = found - found.mean()
    return centred / float(centred @ centred)
