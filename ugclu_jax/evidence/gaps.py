"""How far four accuracies are from the oracle's: one number, as a mean or as a product.

They see means over examples only: a model that errs on other examples than the oracle, as often, has no gap.
"""

from statistics import fmean
from typing import NamedTuple

from ugclu_jax.metrics import checked_accuracy, tug_of_war


class Rates(NamedTuple):
    """What is compared with the oracle's; shares in [0, 1]."""

    unlearned: float
    """UA, accuracy on the unlearned examples."""
    retained: float
    """RA, accuracy on the retained training examples."""
    test: float
    """TA, accuracy on the test examples."""
    attacked: float
    """MIA, share of the unlearned examples that an attacker calls members, or non-members: of both models the same."""


def average_gap(model: Rates, oracle: Rates) -> float:
    """`(|ΔUA| + |ΔRA| + |ΔTA| + |ΔMIA|) / 4`, 0 where all four equal the oracle's.

    Raises:
        ValueError: a share outside [0, 1].

    Example:
        >>> average_gap(Rates(0.5, 1.0, 0.75, 0.25), Rates(0.0, 1.0, 0.75, 0.0))
        0.1875

    References:
        Fan et al., "SalUn", arXiv 2310.12508, section 6 ("average gap").
    """
    for name, rates in (("model", model), ("oracle", oracle)):
        for field, value in zip(Rates._fields, rates, strict=True):
            checked_accuracy(f"{name}.{field}", value)
    return fmean(abs(own - theirs) for own, theirs in zip(model, oracle, strict=True))


def tow(model: Rates, oracle: Rates) -> float:
    """`(1 − |ΔUA|) (1 − |ΔRA|) (1 − |ΔTA|)`: `metrics.tug_of_war`, 1 where all three equal the oracle's.

    Raises:
        ValueError: a share outside [0, 1].

    Example:
        >>> tow(Rates(0.5, 1.0, 0.75, 0.25), Rates(0.0, 1.0, 0.75, 0.0))
        0.5

    References:
        Zhao et al., "What makes unlearning hard and what to do about it", arXiv 2406.01257.
    """
    return tug_of_war(*model[:3], *oracle[:3])


def tow_mia(model: Rates, oracle: Rates) -> float:
    """`(1 − |ΔMIA|) (1 − |ΔRA|) (1 − |ΔTA|)`: an attack on the unlearned examples stands in for their accuracy.

    The paper's attack is on the confidence, `membership.attack(…, feature="confidence")`.

    Raises:
        ValueError: a share outside [0, 1].

    Example:
        >>> tow_mia(Rates(0.5, 1.0, 0.75, 0.25), Rates(0.0, 1.0, 0.75, 0.0))
        0.75

    References:
        Zhao et al., "What makes unlearning hard and what to do about it", arXiv 2406.01257 ("ToW-MIA").
    """
    return tug_of_war(model.attacked, *model[1:3], oracle.attacked, *oracle[1:3])
