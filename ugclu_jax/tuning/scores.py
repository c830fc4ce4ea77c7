"""What a point of a search is worth: the tables' measure of all its models, in double precision, always a number."""

import math
from collections.abc import Sequence

import numpy as np


def matched_score(models: Sequence[np.ndarray], oracles: Sequence[np.ndarray]) -> tuple[float, float]:
    """Matched energy distance over several sets of inputs, its mean; infinite where it is not defined.

    `evidence.matched_energy_distance` on each set. These are of the same models, so that the largest of their errors
    holds for the mean.

    Args:
        models: `[M, N, C]` logits of M ≥ 2 models on each set of inputs, the first of test inputs.
        oracles: `[O, N, C]` logits of O ≥ 2 oracles on them.

    Returns:
        The distance and its standard error (NaN of two models or oracles). Infinity and NaN where outputs are not
        finite, or where no temperature makes a model as sure as the oracles: it answers the same to everything.

    Raises:
        ValueError: fewer than two models or oracles, or shapes that do not fit.

    >>> oracles = np.array([[[2.0, 0.0]], [[2.0, 0.0]]])
    >>> models = np.array([[[1.0, 0.0]], [[3.0, 0.0]]])  # they differ from the oracles in confidence alone
    >>> abs(matched_score([models], [oracles])[0]) < 1e-9
    True
    >>> matched_score([0 * models], [oracles])  # as unsure of everything at any temperature
    (inf, nan)

    References: `evidence.matched_energy_distance`; the mean over sets and infinity are ours.
    """
    from ugclu_jax.evidence import NoTemperatureError, matched_energy_distance  # scipy, for which help need not wait

    if not all(np.isfinite(logits).all() for logits in models):
        return math.inf, math.nan
    try:
        found = [
            matched_energy_distance(mine, theirs, models[0], oracles[0])
            for mine, theirs in zip(models, oracles, strict=True)
        ]
    except NoTemperatureError:
        return math.inf, math.nan
    return float(np.mean([each.value for each in found])), max(each.standard_error for each in found)
