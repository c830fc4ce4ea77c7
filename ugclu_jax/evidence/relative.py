"""Is a set of models nearer to the oracles than to the models before the request, by more than chance?

An audit must pass a retrained model and fail one to which nothing was done; thresholds on a distance alone do neither.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ugclu_jax.evidence.energy import hellinger_distances
from ugclu_jax.evidence.outputs import Numbers, check_same_inputs, checked_models

_TIE = 1e-12  # between two ways to sum the same distances


class RelativeTest(NamedTuple):
    """Both distances, and the test between them. Passed is `nearer` with a p-value below the level chosen beforehand.

    Attributes:
        to_oracles: energy distance to the oracles.
        to_before: energy distance to the models before the request.
        p_value: of the null that the request changed nothing, in (0, 1].
        nearer: whether `to_oracles < to_before`.
    """

    to_oracles: float
    to_before: float
    p_value: float
    nearer: bool


def relative_test(
    models: ArrayLike, oracles: ArrayLike, before: ArrayLike, *, permutations: int = 999, seed: int
) -> RelativeTest:
    """Permutation test on `T = E(models, before) − E(models, oracles)`, E as in `energy_distance`.

    **Null**: models after the request and models before it are draws from one distribution of outputs, i.e. doing
    nothing. Under it the labels "after" and "before" may be exchanged, with the oracles held fixed, and
    `p = (1 + #{T_π ≥ T}) / (1 + permutations)` is exact: it is at most α with probability at most α. **Alternative**:
    the models have moved away from where they were and towards the oracles.

    A small p alone does not say that they arrived, or came more than half of the way: that is `nearer`, which has no
    test of its own, and how far they still are is `energy_distance` with its standard error. Fresh oracles pass, with p
    near 1 / C(M+B, M) where the models before are far from them. Where model i came from model i before (one seed), it
    resembles it, which makes T smaller: p is then too large rather than too small.

    Args:
        models: [M, N, C] logits of M ≥ 2 models after the request on N inputs; a test needs 4 + 4 for p < .05.
        oracles: [O, N, C] logits of O ≥ 2 oracles.
        before: [B, N, C] logits of B ≥ 2 models before the request.
        permutations: how many exchanges of labels are drawn.
        seed: of the draw.

    Returns:
        Both distances and the test.

    Raises:
        ValueError: as `energy_distance`, or no permutation.

    Example:
        >>> models, oracles, before = np.random.default_rng(0).normal(size=(3, 6, 20, 3))
        >>> relative_test(models, oracles, before + [3, 0, 0], seed=0).p_value < 0.01
        True
        >>> relative_test(models + [3, 0, 0], oracles, before + [3, 0, 0], seed=0).nearer
        False

    References:
        The statistic is Székely and Rizzo's (2013), "Energy statistics"; a relative test of two samples against a third
        is Bounliphone et al., arXiv 1511.04581 (with a kernel and a normal approximation). This null is ours.
    """
    sets = {"models": models, "oracles": oracles, "before": before}
    checked = {name: checked_models(name, logits) for name, logits in sets.items()}
    check_same_inputs(**checked)
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}: it must be at least 1")
    number = len(checked["models"])
    pool = np.concatenate([checked["models"], checked["before"]])
    own, to_oracles, among = (
        hellinger_distances(a, b).mean(0)
        for a, b in ((pool, pool), (pool, checked["oracles"]), (checked["oracles"], checked["oracles"]))
    )
    np.fill_diagonal(own, 0.0)
    np.fill_diagonal(among, 0.0)
    rng = np.random.default_rng(seed)
    after = np.zeros((permutations + 1, len(pool)))
    after[0, :number] = 1.0
    after[1:] = rng.permuted(np.tile(after[0], (permutations, 1)), axis=1)
    oracle_spread = among.sum() / (len(among) * (len(among) - 1))
    near, far = _energies(own, to_oracles.mean(1), oracle_spread, after)
    exceeded = int(np.sum((far - near)[1:] >= (far - near)[0] - _TIE))
    p_value = (1 + exceeded) / (1 + permutations)
    return RelativeTest(float(near[0]), float(far[0]), p_value, bool(near[0] < far[0]))


def _energies(own: Numbers, to_oracles: Numbers, oracle_spread: float, after: Numbers) -> tuple[Numbers, Numbers]:
    """Energy distances to the oracles and to the rest, of each row's choice `after` of the pool."""
    before = 1 - after
    numbers = after.sum(1), before.sum(1)
    spread, rest = (
        ((chosen @ own) * chosen).sum(1) / (n * (n - 1)) for chosen, n in zip((after, before), numbers, strict=True)
    )
    across = ((after @ own) * before).sum(1) / (numbers[0] * numbers[1])
    return 2 * (after @ to_oracles) / numbers[0] - spread - oracle_spread, 2 * across - spread - rest
