"""U-LiRA: for every example an attacker of its own, who knows both distributions of its margin.

References: Hayes et al., "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy",
arXiv 2403.01218; the likelihood ratio is that of Carlini et al., arXiv 2112.03570.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ugclu_jax.evidence.klom import margins
from ugclu_jax.evidence.outputs import Numbers, check_same_inputs, checked_models

_NARROWEST = 1e-6  # a spread of margins, nats: models that all say the same have a density all the same


class Attack(NamedTuple):
    """Scores of an attack, high for members; `roc(*attack)` is its curve.

    Attributes:
        members: [M, N] of every model after unlearning on every unlearned example.
        non_members: [O, N] of every oracle on the same examples.
    """

    members: Numbers
    non_members: Numbers


def u_lira(models: ArrayLike, oracles: ArrayLike, labels: ArrayLike) -> Attack:
    """Log-likelihood ratio of each network's margin under "trained, then unlearned" against "never seen".

    `log N(φ; μ_u, σ_u) − log N(φ; μ_o, σ_o)` with `φ = log p_y − log(1 − p_y)`: for each example one normal is fitted
    to the margins of the models after unlearning, one to those of the oracles. The network that is scored is left out
    of its normal, and that of its number (modulo) on the other side out of the other: so both are fitted to as many, a
    seed that both sides share is out of both, and where the two sets are drawn alike the area under the curve is ½ on
    average.

    The paper takes 64 to 256 networks a side. A spread needs two others, so that fewer than 3 are refused. With few,
    the ratio is mostly the noise of the fits, and an attack that fails proves nothing: of two normals one σ apart,
    where an area of .760 is possible, it has .64 with 4 networks a side, .70 with 8, .74 with 16, .756 with 64. Leaving
    out, the divisor n − 1 and a spread of at least 10⁻⁶ nats are ours.

    Args:
        models: [M, N, C] logits of M ≥ 3 models that were trained on the examples and then unlearned them.
        oracles: [O, N, C] logits of O ≥ 3 oracles.
        labels: [N] integers.

    Returns:
        Scores of both sides.

    Raises:
        ValueError: fewer than 3 of either; another number of axes, inputs or classes; logits that are not finite;
            labels as `margins`.

    Example:
        >>> logits = np.random.default_rng(0).normal(size=(2, 40, 5, 3))
        >>> attack = u_lira(logits[0] + [2, 0, 0], logits[1], [0] * 5)
        >>> attack.members.shape, bool(attack.members.mean() > 1 > -1 > attack.non_members.mean())
        ((40, 5), True)
    """
    first, second = checked_models("models", models, 3), checked_models("oracles", oracles, 3)
    check_same_inputs(models=first, oracles=second)
    unlearned, never = margins(first, labels), margins(second, labels)
    return Attack(_ratios(unlearned, never), -_ratios(never, unlearned))


def _ratios(own: Numbers, other: Numbers) -> Numbers:
    """Log-likelihood under a network's own side against the other, [own, N]."""
    found = np.empty_like(own)
    for i, margin in enumerate(own):
        here, there = (_log_density(margin, np.delete(side, i % len(side), 0)) for side in (own, other))
        found[i] = here - there
    return found


def _log_density(values: Numbers, samples: Numbers) -> Numbers:
    """Of a normal fitted to each column, but for the constant."""
    spread = np.maximum(samples.std(0, ddof=1), _NARROWEST)
    return -np.log(spread) - 0.5 * ((values - samples.mean(0)) / spread) ** 2
