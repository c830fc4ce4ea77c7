"""Answers without training, which every evaluation of unlearning has to see: they show what a number cannot.

`mask_logits` no longer names what was removed and has forgotten nothing, `cool` is as unsure as the oracles and has
forgotten nothing, `mean_of_oracles` is nearer to every oracle by KL than oracles are to one another.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from ugclu_jax.evidence.energy import matching_temperatures

Numbers = NDArray[np.float64]
MASKED = -50.0
"""Log-probability of a class that was masked: 2e-22, nothing to any measure, and a divergence from it is finite."""


def mask_logits(logits: ArrayLike, removed: ArrayLike) -> Numbers:
    """The outputs of removed classes deleted, the rest renormalised: `p_c / Σ_{c′ kept} p_c′`, and 0 for removed.

    Args:
        logits: [..., C].
        removed: class numbers; none leaves every probability as it is.

    Returns:
        [..., C] float64, logarithms of probabilities, `MASKED` for what is removed.

    Raises:
        ValueError: a number that is no class, or all classes are removed.

    Example:
        >>> np.exp(mask_logits(np.log([[0.5, 0.3, 0.2]]), [0])).round(3).tolist()
        [[0.0, 0.6, 0.4]]
    """
    found, classes = log_softmax(np.asarray(logits, np.float64), axis=-1), np.asarray(removed, np.int64)
    number = found.shape[-1]
    if classes.size and not (classes.min() >= 0 and classes.max() < number):
        raise ValueError(f"removed has {classes.min()} … {classes.max()}: classes are 0 … {number - 1}")
    gone = np.isin(np.arange(number), classes)
    if gone.all():
        raise ValueError(f"removed has all {number} classes: nothing is left to answer")
    return np.where(gone, MASKED, found - logsumexp(found[..., ~gone], axis=-1, keepdims=True))


def cool(logits: ArrayLike, test_logits: ArrayLike, test_oracles: ArrayLike) -> Numbers:
    """A model's own outputs at the temperature at which it is as unsure on test inputs as the oracles are.

    `z / T` with `T` such that the mean entropy of `softmax(z′ / T)` on test inputs is the oracles' mean.

    Args:
        logits: [N, C] of the model.
        test_logits: [N', C] of the same model on test inputs.
        test_oracles: [O, N', C] of the oracles on them.

    Returns:
        [N, C] float64.

    Raises:
        ValueError: no temperature leads to that entropy.

    Example:
        >>> oracle = np.random.default_rng(0).normal(size=(500, 4))
        >>> bool(np.allclose(cool(4 * oracle, 4 * oracle, [oracle]), oracle))
        True
    """
    test = np.asarray(test_logits, np.float64)
    return np.asarray(logits, np.float64) / float(matching_temperatures(test[None], test_oracles)[0])


def mean_of_oracles(oracles: ArrayLike) -> Numbers:
    """Logarithms of the oracles' mean probabilities: the fixed answer that is nearest to all of them by KL.

    `q = p̄` minimises `mean_i KL(p_i ‖ q)`.

    Args:
        oracles: [O, ..., C] logits.

    Returns:
        [..., C] float64.

    Example:
        >>> np.exp(mean_of_oracles(np.log([[[0.9, 0.1]], [[0.5, 0.5]]]))).round(3).tolist()
        [[0.7, 0.3]]
    """
    logs = log_softmax(np.asarray(oracles, np.float64), axis=-1)
    return np.asarray(logsumexp(logs, axis=0) - np.log(len(logs)))
