"""How far a model is from its oracle: accuracy, KL, JS, LA, FM, ToW and relapse as functions of arrays and numbers.

Evaluation happens on the host, in float64 NumPy whatever the precision of the model; JAX arrays are accepted. UA, the
accuracy on unlearned examples, is plain `accuracy`. Membership inference is in `ugclu_jax.membership`.

A diverged model must be reported, not crash the report: rows with a non-finite *model* logit (NaN, +inf or -inf) count
as wrong and as infinitely far from the oracle. A non-finite *oracle* is no reference at all and raises.

Definitions follow arXiv 2505.15178 (evaluation metrics); what is our own choice says so.
"""

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike

Divergence = Callable[[ArrayLike, ArrayLike], np.ndarray]


def kl_divergence(oracle_logits: ArrayLike, model_logits: ArrayLike) -> np.ndarray:
    """Return `KL(p‖q) = Σ_c p_c (log p_c − log q_c)` of every input, `p` the oracle and `q` the model, in nats.

    Computed from log-softmax, without any epsilon. Rounding may leave −1e-16 where the exact value is 0: what is
    negative is clipped at 0. Identical logits give exactly 0.

    Args:
        oracle_logits: `[N, C]`, finite.
        model_logits: `[N, C]`; a row with a non-finite entry gives `+inf` (never NaN).

    Returns:
        `[N]` float64, in `[0, inf]`.

    Raises:
        ValueError: shapes differ or are not `[N, C]` with `N ≥ 1` and `C ≥ 2`, or the oracle is not finite.

    Example:
        >>> kl = kl_divergence([[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [float("nan"), 0.0]])
        >>> kl.tolist()
        [0.0, inf]

    References:
        arXiv 2505.15178: the objective and the direction of KL. Clipping and the treatment of non-finite rows are ours.
    """
    log_p, log_q, finite = _log_prob_pair(oracle_logits, model_logits)
    divergence = np.maximum(_expected_log_ratio(log_p, log_p, log_q), 0.0)
    return np.where(finite, divergence, np.inf)


def js_divergence(oracle_logits: ArrayLike, model_logits: ArrayLike) -> np.ndarray:
    """Return `½KL(p‖m) + ½KL(q‖m)`, `m = (p + q)/2`, of every input, in nats.

    Summed over classes, never averaged over them, and with the mixture as the second argument of both terms. Symmetric
    and at most `ln 2` on finite logits; rounding outside `[0, ln 2]` is clipped. Identical logits give exactly 0.

    Args:
        oracle_logits: `[N, C]`, finite.
        model_logits: `[N, C]`; a row with a non-finite entry gives `+inf` (never NaN), so that a diverged model is told
            apart from one that is merely opposite to the oracle.

    Returns:
        `[N]` float64, in `[0, ln 2]` or `+inf`.

    Raises:
        ValueError: as `kl_divergence`.

    Example:
        >>> js_divergence([[800.0, 0.0]], [[0.0, 800.0]]).round(6).tolist()
        [0.693147]

    References:
        Lin (1991), Divergence measures based on the Shannon entropy. The treatment of non-finite rows is ours.
    """
    log_p, log_q, finite = _log_prob_pair(oracle_logits, model_logits)
    # log(p/m) = ln 2 − log(1 + q/p): exactly 0 where p = q, which a difference of log p and log m is not.
    with np.errstate(invalid="ignore"):  # −inf minus −inf where p = q = 0; such terms are dropped below
        log_p_over_m = math.log(2.0) - np.logaddexp(0.0, log_q - log_p)
        log_q_over_m = math.log(2.0) - np.logaddexp(0.0, log_p - log_q)
    divergence = 0.5 * (_expected_log_ratio(log_p, log_p_over_m, 0.0) + _expected_log_ratio(log_q, log_q_over_m, 0.0))
    return np.where(finite, np.clip(divergence, 0.0, math.log(2.0)), np.inf)


def oracle_divergence(
    oracle_logits: ArrayLike, model_logits: ArrayLike, divergence: Divergence = kl_divergence
) -> float:
    """Return the mean over oracles and inputs of `divergence(oracle, model)`.

    Args:
        oracle_logits: `[S, N, C]`, one slice an oracle seed.
        model_logits: `[N, C]`; one non-finite row makes the mean `+inf`.
        divergence: `kl_divergence` or `js_divergence`.

    Returns:
        The mean, in nats.

    Raises:
        ValueError: `oracle_logits` is not `[S, N, C]` with `S ≥ 1`, or `divergence` refuses a slice.

    Example:
        >>> oracle_divergence([[[0.0, 0.0]], [[0.0, 0.0]]], [[1.0, 1.0]])
        0.0

    References:
        arXiv 2505.15178 (KL to the oracle); the mean over oracle seeds is ours.
    """
    oracles = _checked_oracles(oracle_logits, minimum=1)
    return fmean(float(np.mean(divergence(oracle, model_logits))) for oracle in oracles)


def noise_floor(oracle_logits: ArrayLike, divergence: Divergence = kl_divergence) -> float:
    """Return the mean divergence between oracles of different seeds: the yardstick for `oracle_divergence`.

    `1/(S(S−1)) Σ_{a≠b} mean_n divergence(oracle_a, oracle_b)`, over ordered pairs, since KL is not symmetric. A model
    at this distance from the oracles cannot be told from a retrained one.

    Args:
        oracle_logits: `[S, N, C]` with `S ≥ 2`.
        divergence: the one given to `oracle_divergence`.

    Returns:
        The mean, in nats.

    Raises:
        ValueError: fewer than two oracles, or wrong shapes.

    Example:
        >>> noise_floor([[[0.0, 0.0]], [[0.0, 0.0]], [[3.0, 3.0]]])
        0.0

    References:
        Ours; the idea of an oracle-to-oracle yardstick is in CLPU (arXiv 2203.12817).
    """
    oracles = _checked_oracles(oracle_logits, minimum=2)
    return fmean(
        float(np.mean(divergence(first, second)))
        for i, first in enumerate(oracles)
        for j, second in enumerate(oracles)
        if i != j
    )


def accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of rows whose largest logit is the label's (the first of equally large ones decides).

    Args:
        logits: `[N, C]`; a row with a non-finite entry counts as wrong, whatever its largest entry.
        labels: `[N]` integers in `0 … C−1`.

    Returns:
        A share in `[0, 1]`. On the unlearned examples this is UA.

    Raises:
        ValueError: an empty set, wrong shapes, or a label outside the classes.

    Example:
        >>> accuracy([[2.0, 1.0], [0.0, 1.0], [float("nan"), 1.0], [1.0, 0.0]], [0, 1, 1, 1])
        0.5

    References:
        arXiv 2505.15178 (LA and UA); non-finite rows are our choice.
    """
    logits = checked_logits("logits", logits)
    labels = checked_labels("labels", labels, logits)
    finite = np.isfinite(logits).all(axis=1)
    predictions = np.where(finite[:, None], logits, 0.0).argmax(axis=1)
    return float(np.mean(finite & (predictions == labels)))


def learning_accuracy(group_accuracy: Mapping[str, float | None], retained: Collection[str]) -> float:
    """Return LA: the mean test accuracy over the retained groups (tasks, or classes where no task is known).

    Args:
        group_accuracy: test accuracy of each group after the request; groups that are not retained are ignored.
        retained: names of the retained groups; each counts once, whatever its size.

    Returns:
        A share in `[0, 1]`.

    Raises:
        ValueError: nothing is retained, a retained group has no accuracy, or an accuracy lies outside `[0, 1]`.

    Example:
        >>> learning_accuracy({"task 0": 0.5, "task 1": 1.0, "task 2": 0.0}, ["task 0", "task 1"])
        0.75

    References:
        arXiv 2505.15178 (LA).
    """
    _check_retained(retained)
    return fmean(_group_value(group_accuracy, group, "group_accuracy") for group in set(retained))


def forgetting_measure(
    history: Sequence[Mapping[str, float | None]], learned_at: Mapping[str, int], retained: Collection[str]
) -> float:
    """Return FM after the last request `t`: the mean over retained groups of `max_{s ≤ r < t} a_r − a_t`.

    `s` is the request at which the group was last learned: a group that was unlearned and learned again starts anew. A
    group learned at `t` itself has no past and is left out of the mean; where all retained groups are such (after the
    first request, say) nothing can have been forgotten yet and FM is 0. Negative values mean that accuracy has grown.

    Args:
        history: test accuracy of each group after requests `0 … t`; an entry may lack groups not yet learned then.
        learned_at: index into `history` of each group's latest learn request.
        retained: names of the groups retained after `t`; each counts once.

    Returns:
        The mean, in `[−1, 1]`.

    Raises:
        ValueError: no history, nothing retained, a retained group that was never learned, was learned after `t`, or
            lacks an accuracy since, or an accuracy outside `[0, 1]`.

    Example:
        >>> history = [{"a": 1.0}, {"a": 0.75, "b": 0.5}, {"a": 0.5, "b": 0.75, "c": 1.0}]
        >>> forgetting_measure(history, {"a": 0, "b": 1, "c": 2}, ["a", "b", "c"])  # (0.5 − 0.25) / 2
        0.125

    References:
        arXiv 2505.15178 (FM). Starting anew, and leaving out groups without a past, are ours.
    """
    if len(history) == 0:
        raise ValueError("history is empty: FM needs the accuracies after at least one request")
    _check_retained(retained)
    last = len(history) - 1
    drops = []
    for group in set(retained):
        if group not in learned_at:
            raise ValueError(f"learned_at lacks the retained group {group!r}{_nearest(group, learned_at)}")
        start = learned_at[group]
        if not 0 <= start <= last:
            raise ValueError(f"learned_at[{group!r}] is {start}: it must be an index into history, 0 … {last}")
        values = [_group_value(history[i], group, f"history[{i}]") for i in range(start, last + 1)]
        if start < last:
            drops.append(max(values[:-1]) - values[-1])
    return fmean(drops) if drops else 0.0


def tug_of_war(
    unlearned: float, retained: float, test: float, oracle_unlearned: float, oracle_retained: float, oracle_test: float
) -> float:
    """Return ToW: `(1 − |UA − UA*|)(1 − |RA − RA*|)(1 − |TA − TA*|)`, 1 where all three equal the oracle's.

    Args:
        unlearned: accuracy UA on the unlearned examples.
        retained: accuracy RA on the retained training examples.
        test: accuracy TA on the test examples.
        oracle_unlearned: UA of the oracle.
        oracle_retained: RA of the oracle.
        oracle_test: TA of the oracle.

    Returns:
        A number in `[0, 1]`.

    Raises:
        ValueError: an accuracy outside `[0, 1]` (percentages, NaN).

    Example:
        >>> tug_of_war(0.5, 1.0, 0.75, 0.0, 1.0, 0.75)
        0.5

    References:
        Zhao et al. (2024), What makes unlearning hard and what to do about it ("tug of war").
    """
    gaps = []
    for name, value, oracle in (
        ("unlearned", unlearned, oracle_unlearned),
        ("retained", retained, oracle_retained),
        ("test", test, oracle_test),
    ):
        gaps.append(abs(checked_accuracy(name, value) - checked_accuracy(f"oracle_{name}", oracle)))
    return math.prod(1.0 - gap for gap in gaps)


def relapse(unlearned_history: Sequence[float]) -> float:
    """Return the largest rise of UA above its value right after the unlearning, over later requests.

    `max_{s ≥ 0} UA_s − UA_0`; 0 where UA never rose, or where no request followed.

    Args:
        unlearned_history: UA of one unlearned set, first right after its unlearning, then after each later request.

    Returns:
        The rise, in `[0, 1]`.

    Raises:
        ValueError: an empty history or an accuracy outside `[0, 1]`.

    Example:
        >>> relapse([0.25, 0.0, 0.75, 0.5])
        0.5

    References:
        Ours, after the observation that unlearned accuracy returns with later learning.
    """
    if len(unlearned_history) == 0:
        raise ValueError("unlearned_history is empty: it needs UA right after the unlearning")
    values = [checked_accuracy(f"unlearned_history[{i}]", value) for i, value in enumerate(unlearned_history)]
    return max(values) - values[0]


def checked_logits(name: str, logits: ArrayLike) -> np.ndarray:
    """Return `logits` as float64 `[N, C]`, or raise a ValueError that names the array and the rule it breaks."""
    array = np.asarray(logits, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise ValueError(
            f"{name} has shape {array.shape}: it must be [N, C] with N ≥ 1 examples and C ≥ 2 classes; "
            "nothing can be measured on an empty set"
        )
    return array


def checked_labels(name: str, labels: ArrayLike, logits: np.ndarray) -> np.ndarray:
    """Return `labels` as int64 `[N]` within the classes of `logits [N, C]`, or raise a ValueError."""
    array = np.asarray(labels)
    if array.shape != logits.shape[:1]:
        raise ValueError(f"{name} has shape {array.shape}: it must be {logits.shape[:1]}, one label a row of logits")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {array.dtype}: labels must be integers")
    if array.min() < 0 or array.max() >= logits.shape[1]:
        raise ValueError(f"{name} spans {array.min()} … {array.max()}: it must lie in 0 … {logits.shape[1] - 1}")
    return array.astype(np.int64)


def finite_log_softmax(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log-softmax `[N, C]` and `finite [N]`; rows that are not finite get the uniform distribution.

    What such a row means is up to the caller, who has the flag; NaN never leaves this function.
    """
    from scipy.special import log_softmax  # a quarter of a second that the help of an experiment need not wait for

    finite = np.isfinite(logits).all(axis=1)
    with np.errstate(over="ignore"):  # a span beyond 1e308 gives log-probability −inf, as it should
        return log_softmax(np.where(finite[:, None], logits, 0.0), axis=1), finite


def _log_prob_pair(oracle_logits: ArrayLike, model_logits: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    oracle = checked_logits("oracle_logits", oracle_logits)
    model = checked_logits("model_logits", model_logits)
    if oracle.shape != model.shape:
        raise ValueError(f"oracle_logits {oracle.shape} and model_logits {model.shape} must have the same shape")
    log_p, oracle_finite = finite_log_softmax(oracle)
    if not oracle_finite.all():
        rows = np.flatnonzero(~oracle_finite)
        raise ValueError(
            f"oracle_logits has {rows.size} non-finite rows (first: {rows[0]}): a diverged oracle is no reference; "
            "train it again, e.g. with a smaller learning rate"
        )
    log_q, model_finite = finite_log_softmax(model)
    return log_p, log_q, model_finite


def _expected_log_ratio(log_p: np.ndarray, log_a: np.ndarray, log_b: np.ndarray | float) -> np.ndarray:
    """`Σ_c p_c (log a_c − log b_c)` with `0 · anything = 0`."""
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        return np.where(p > 0, p * (log_a - log_b), 0.0).sum(axis=1)


def _checked_oracles(oracle_logits: ArrayLike, minimum: int) -> np.ndarray:
    oracles = np.asarray(oracle_logits, dtype=np.float64)
    if oracles.ndim != 3 or oracles.shape[0] < minimum:
        raise ValueError(f"oracle_logits has shape {oracles.shape}: it must be [S, N, C] with S ≥ {minimum} oracles")
    return oracles


def checked_accuracy(name: str, value: float) -> float:
    """Return an accuracy as a float in [0, 1], or raise a ValueError that names it."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}: an accuracy must be a share in [0, 1], not a percentage or NaN")
    return float(value)


def _check_retained(retained: Collection[str]) -> None:
    if isinstance(retained, str):
        raise ValueError(f"retained is the string {retained!r}: it must be a collection of group names")
    if len(retained) == 0:
        raise ValueError("retained is empty: LA and FM are undefined where nothing is retained")


def _group_value(accuracies: Mapping[str, float | None], group: str, name: str) -> float:
    known = {each: value for each, value in accuracies.items() if value is not None}
    if group not in known:
        raise ValueError(f"{name} lacks the retained group {group!r}{_nearest(group, known)}")
    return checked_accuracy(f"{name}[{group!r}]", known[group])


def _nearest(group: str, known: Mapping[str, object]) -> str:
    names = difflib.get_close_matches(str(group), map(str, known)) or sorted(map(str, known))
    return f"; nearest known: {', '.join(names)}" if names else "; it is empty"
