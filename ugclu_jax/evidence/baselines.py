"""What may pass for unlearning without any: outputs removed, confidence adjusted, oracles averaged.

A measure that one of these wins does not measure unlearning; they stand beside every method that is judged.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp

from ugclu_jax.evidence.outputs import Numbers, checked_models

MASKED = 50.0  # nats below the largest logit that stays: a probability of 2e-22, and a logarithm of it that is finite
_COLDEST, _HOTTEST = 1e-4, 1e4


def mask_logits(logits: ArrayLike, removed: Sequence[int]) -> Numbers:
    """Take classes out of the outputs and leave the network as it is.

    A removed class gets the logit `max_{c stays} z_c − 50`: its probability is 0 to any measure, while divergences stay
    finite: KL(oracle ‖ masked), infinite for a probability of exactly 0, pays 50 nats times what the oracle gives to
    removed classes, the Hellinger distance at most 1.

    Args:
        logits: [..., C], finite.
        removed: class numbers, 0 … C−1.

    Returns:
        [..., C] float64.

    Raises:
        ValueError: logits that are not finite, a number that is no class, or no class that stays.

    Example:
        >>> mask_logits([[1.0, 3.0, 0.0]], [1]).tolist()
        [[1.0, -49.0, 0.0]]
    """
    found = np.array(logits, np.float64)
    if found.ndim < 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"logits of shape {list(found.shape)} must be [..., C], not empty and finite")
    classes = found.shape[-1]
    wrong = [c for c in removed if not 0 <= c < classes]
    if wrong:
        raise ValueError(f"removed has {wrong[0]}: classes are numbered 0 … {classes - 1}")
    stays = ~np.isin(np.arange(classes), np.asarray(removed, int))
    if not stays.any():
        raise ValueError(f"removed are all {classes} classes: one must stay")
    found[..., ~stays] = found[..., stays].max(axis=-1, keepdims=True) - MASKED
    return found


class NoTemperatureError(ValueError):
    """A model is as sure of itself as the oracles at no temperature: it answers the same to everything, for one."""


def cool(models: ArrayLike, test_models: ArrayLike, test_oracles: ArrayLike) -> Numbers:
    """Make each model as sure of itself as the oracles are.

    Its logits are divided by the temperature at which the mean entropy of its outputs on test inputs is that of the
    oracles' outputs, which are averaged over oracles.

    Args:
        models: [M, N, C] logits on any inputs.
        test_models: [M, N', C] logits of the same models on test inputs.
        test_oracles: [O, N', C] logits of oracles on test inputs.

    Returns:
        [M, N, C] float64.

    Raises:
        ValueError: another number of models or axes, or logits that are not finite.
        NoTemperatureError: no temperature leads to that entropy.

    Example:
        >>> models = np.random.default_rng(0).normal(size=(2, 30, 4))
        >>> np.abs(cool(models / 2, models / 2, models[:1]) - models)[0].max() < 1e-9  # as sure as model 0
        np.True_
    """
    found, test = checked_models("models", models, 1), checked_models("test_models", test_models, 1)
    entropy = np.mean([_entropy(logits, 0.0) for logits in checked_models("test_oracles", test_oracles, 1)])
    if len(found) != len(test):
        raise ValueError(f"models are {len(found)} and test_models {len(test)}: they must be the same models")
    temperatures = [_temperature(number, logits, float(entropy)) for number, logits in enumerate(test)]
    return found / np.array(temperatures)[:, None, None]


def mean_of_oracles(oracles: ArrayLike) -> Numbers:
    """One model that answers with the mean of the oracles' probabilities: `log (1/O) Σ_o softmax(z_o)`.

    For a mean `p̄` of oracles `p_i` and any `q`, `mean_i KL(p_i‖q) = mean_i KL(p_i‖p̄) + KL(p̄‖q)`: nothing is nearer to
    the oracles by KL, not even another oracle.

    Args:
        oracles: [O, N, C] logits.

    Returns:
        [N, C] float64, log-probabilities.

    Raises:
        ValueError: another number of axes, or logits that are not finite.

    Example:
        >>> np.exp(mean_of_oracles([[[9.0, 0.0]], [[0.0, 9.0]]])).round(3).tolist()
        [[0.5, 0.5]]
    """
    found = checked_models("oracles", oracles, 1)
    return logsumexp(log_softmax(found, axis=2), axis=0) - np.log(len(found))


def _entropy(logits: Numbers, log_temperature: float) -> float:
    """Mean entropy of outputs at a temperature, nats."""
    logs = log_softmax(logits / np.exp(log_temperature), axis=1)
    return float(-(np.exp(logs) * logs).sum(1).mean())


def _temperature(number: int, logits: Numbers, entropy: float) -> float:
    """Where a model's mean entropy, which rises with the temperature, is the given one."""
    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    if not _entropy(logits, low) < entropy < _entropy(logits, high):
        raise NoTemperatureError(
            f"test_models[{number}] has mean entropy {_entropy(logits, 0.0):.3g} and the oracles {entropy:.3g}: no "
            f"temperature in {_COLDEST:g} … {_HOTTEST:g} makes them equal"
        )
    return float(np.exp(brentq(lambda log_temperature: _entropy(logits, log_temperature) - entropy, low, high)))
