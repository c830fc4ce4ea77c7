"""Robust membership inference (RMIA): is an example likelier than others, by more than for networks without it?

References: Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks", arXiv 2312.03262.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, logsumexp

from ugclu_jax.evidence.klom import margins
from ugclu_jax.evidence.outputs import Numbers, check_same_inputs, checked_models


def rmia(
    models: ArrayLike,
    references: ArrayLike,
    labels: ArrayLike,
    population: ArrayLike,
    population_references: ArrayLike,
    population_labels: ArrayLike,
    *,
    a: float = 0.3,
    gamma: float = 1.0,
) -> Numbers:
    """Scores of offline RMIA, high for members; works from one reference that has not seen the examples.

    With p the probability of the label, `p̂(x) = (1+a)/2 · mean_r p_r(x) + (1−a)/2` stands for the mean over networks
    that have seen x and that have not, and the score of x is the share of the population z for which
    `[p(x) / p̂(x)] / [p(z) / p̂(z)] > γ`. References are oracles that have seen neither x nor z. Reported by `roc`: of
    models on the examples that they unlearned, against other oracles, which are no references, on the same examples.

    Args:
        models: [M, N, C] logits of the attacked networks, or [N, C] of one.
        references: [R, N, C] logits of R ≥ 1 oracles.
        labels: [N] integers.
        population: [M, Z, C], or [Z, C], logits of the attacked networks on Z examples that no network was trained on.
        population_references: [R, Z, C] of the references on them.
        population_labels: [Z] integers.
        a: in [0, 1]; how much likelier an example is to networks that have seen it: 1 not at all. The authors choose it
            with a pair of references; .3 is the default of their code.
        gamma: γ > 0.

    Returns:
        [M, N] scores in [0, 1], or [N] for one network.

    Raises:
        ValueError: shapes that do not fit, logits that are not finite, a or gamma out of range, or labels as `margins`.

    Example:
        >>> model = np.array([[3.0, 0.0], [1.0, 0.0]])  # the first is likelier than its reference says
        >>> rmia(model, [[[1.0, 0.0]] * 2], [0, 0], [[1.0, 0.0]], [[[1.0, 0.0]]], [0]).tolist()
        [1.0, 0.0]

    References:
        arXiv 2312.03262; strictly above γ as in the authors' code, privacytrustlab/ml_privacy_meter.
    """
    one = np.ndim(models) == 2
    sets = {"models": models, "population": population}
    attacked = {name: checked_models(name, np.asarray(z)[None] if one else z, 1) for name, z in sets.items()}
    known = (
        checked_models("references", references, 1),
        checked_models("population_references", population_references, 1),
    )
    check_same_inputs(models=attacked["models"], references=known[0])
    check_same_inputs(population=attacked["population"], population_references=known[1])
    for (name, first), (other, second) in (
        (("models", attacked["models"]), ("population", attacked["population"])),
        (("references", known[0]), ("population_references", known[1])),
    ):
        if len(first) != len(second):
            raise ValueError(f"{name} are {len(first)} and {other} of {len(second)}: they must be the same networks")
    if not 0 <= a <= 1:
        raise ValueError(f"a is {a}: it must be in [0, 1]")
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}: it must be positive")
    ratios = _log_ratios(attacked["models"], known[0], labels, a)
    others = np.sort(_log_ratios(attacked["population"], known[1], population_labels, a), axis=1)
    below = [np.searchsorted(z, x - np.log(gamma), "left") for x, z in zip(ratios, others, strict=True)]
    scores = np.array(below) / others.shape[1]
    return scores[0] if one else scores


def _log_ratios(models: Numbers, references: Numbers, labels: ArrayLike, a: float) -> Numbers:
    """`log p(x) − log p̂(x)`, [M, N]; in logarithms, where a probability may be too small for a float."""
    margins(models, labels)  # refuses labels that are none
    own, known = (log_softmax(z, axis=2)[:, np.arange(z.shape[1]), np.asarray(labels)] for z in (models, references))
    mean = logsumexp(known, axis=0) - np.log(len(known)) + np.log((1 + a) / 2)
    with np.errstate(divide="ignore"):
        return own - np.logaddexp(mean, np.log((1 - a) / 2))
