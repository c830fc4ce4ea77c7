"""What many requests do to a model: from accuracies after each, in the order of the stream."""

from collections.abc import Sequence
from statistics import fmean

from ugclu_jax.metrics import checked_accuracy, relapse


def erosion(before: Sequence[float], after: Sequence[float]) -> float:
    """Fall of accuracy on retained data by an unlearn request: `mean_t (a_{t−1}(R_t) − a_t(R_t))`, t unlearning.

    Both accuracies of a request are on the same data, those that are retained after it; below 0 it helped them.

    Args:
        before: one for each unlearn request of the stream, of the model that the request found.
        after: one for each, of the model that it left.

    Returns:
        The mean, in [−1, 1].

    Raises:
        ValueError: no request, two lengths, or an accuracy outside [0, 1].

    Example:
        >>> erosion([0.75, 0.75], [0.5, 0.75])
        0.125
    """
    return -_mean_difference("after", after, "before", before)


def reversal(unlearned: Sequence[float]) -> float:
    """Largest rise of UA above its value right after the unlearning, over later requests: `metrics.relapse`.

    Args:
        unlearned: UA of one unlearned set, first right after its unlearning, then after each later request.

    Returns:
        The rise, in [0, 1].

    Raises:
        ValueError: an empty history, or an accuracy outside [0, 1].

    Example:
        >>> reversal([0.25, 0.0, 0.75])
        0.5
    """
    return relapse(unlearned)


def plasticity(learned: Sequence[float], never_unlearned: Sequence[float]) -> float:
    """What unlearning left of the ability to learn: `mean_t (a_t(L_t) − b_t(L_t))`, t learning after an unlearning.

    Args:
        learned: one for each such request, accuracy on the test examples of the task that it learned, right after it.
        never_unlearned: the same of a model that was served the learn requests of the stream alone.

    Returns:
        The mean, in [−1, 1]; below 0 the model that unlearned learns worse.

    Raises:
        ValueError: no request, two lengths, or an accuracy outside [0, 1].

    Example:
        >>> plasticity([0.5, 0.75], [0.75, 0.75])
        -0.125
    """
    return _mean_difference("learned", learned, "never_unlearned", never_unlearned)


def _mean_difference(name: str, values: Sequence[float], other: str, others: Sequence[float]) -> float:
    if not len(values) or len(values) != len(others):
        raise ValueError(
            f"{name} has {len(values)} accuracies and {other} {len(others)}: they must be as many, one a request, and "
            "one at least"
        )
    return fmean(
        checked_accuracy(f"{name}[{i}]", value) - checked_accuracy(f"{other}[{i}]", against)
        for i, (value, against) in enumerate(zip(values, others, strict=True))
    )
