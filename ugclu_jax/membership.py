"""Membership inference: how many unlearned examples an attacker still takes for training examples, and how good he is.

The attacker sees one number per example, learns from retained training examples (members) and test examples
(non-members) where to draw the line, and then judges the unlearned examples. A high share alone proves nothing: compare
it with the oracle's, and read the attacker's AUC beside it (0.5 = the attacker is guessing).

Every feature is bounded, so that a diverged model can be attacked too. See `feature_values`.
"""

import difflib
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from ugclu_jax.extras import installed_by
from ugclu_jax.metrics import checked_labels, checked_logits, finite_log_softmax

Feature = Literal["loss", "entropy", "confidence", "modified_entropy"]
FEATURES: tuple[Feature, ...] = get_args(Feature)

# exp(−100) is a probability that no classifier can be held to: beyond it, wrong is wrong. The bound keeps a handful of
# exploded losses from setting the scale on which all others look alike.
MAX_NATS = 100.0
ROUNDING = 1e-12  # of float64 features, with a margin
UNDECIDED = 1e-9  # log-odds nearer to zero than the regression is solved: neither member nor not
HELD_OUT_SHARE = 0.25
MIN_EXAMPLES = 8  # a side: six to fit on, two held out


class MembershipResult(NamedTuple):
    """What one attack found."""

    member_share: float  # share of the unlearned examples called member, in [0, 1]
    auc: float  # of the attacker on held-out members and non-members; below 0.5 he learned noise
    non_finite: bool  # whether any given logit was NaN or infinite: the model has diverged, read with care


def feature_values(logits: ArrayLike, labels: ArrayLike, feature: Feature) -> np.ndarray:
    """Return one number per example; `p` is the softmax and `y` the true class.

    - `loss`: `−log p_y`, clipped at 100 nats;
    - `entropy`: `−Σ_c p_c log p_c`, in `[0, ln C]`;
    - `confidence`: `p_y`;
    - `modified_entropy`: `−(1 − p_y) log p_y − Σ_{c≠y} p_c log(1 − p_c)`, clipped at 100 nats. `y` is the row's own
      label. 0 where the model is sure and right, large where it is sure and wrong, unlike the entropy.

    A row with a non-finite logit gets the end of the range that says "never seen": 100, `ln C`, 0 and 100.

    Args:
        logits: `[N, C]`.
        labels: `[N]` integers in `0 … C−1`.
        feature: one of `FEATURES`.

    Returns:
        `[N]` float64, finite.

    Raises:
        ValueError: an unknown feature, an empty set, wrong shapes, or a label outside the classes.

    Example:
        >>> feature_values([[0.0, 0.0]], [1], "loss").round(6).tolist()
        [0.693147]
        >>> feature_values([[9.0, float("nan")]], [0], "confidence").tolist()
        [0.0]

    References:
        Song and Mittal (2021), arXiv 2003.10595, for the modified entropy. The bound of 100 nats and the values of
        non-finite rows are ours.
    """
    _check_feature(feature)
    logits = checked_logits("logits", logits)
    labels = checked_labels("labels", labels, logits)
    return _features(logits, labels, [feature])[feature]


def attack(
    retained_logits: ArrayLike,
    retained_labels: ArrayLike,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    unlearned_logits: ArrayLike,
    unlearned_labels: ArrayLike,
    *,
    feature: Feature,
    seed: int,
    max_examples: int = 5000,
) -> MembershipResult:
    """Attack one model through one feature with a balanced logistic regression.

    Equally many members (retained training examples) and non-members (test examples) are drawn without replacement; a
    quarter of each is held out for the AUC and the rest fits the attacker, on the standardised feature. The value is
    the share of *all* unlearned examples that he calls member.

    What he cannot decide counts one half, never as forgotten: every example, where the feature is the same, to 1e-12,
    for all he is fitted on (his AUC is 0.5 too) or where he finds no line between the two sides; an example on the
    line; and an unlearned example whose logits are not finite.

    Args:
        retained_logits: `[N, C]` of retained training examples.
        retained_labels: `[N]`.
        test_logits: `[N, C]` of test examples, best of the retained classes only: others are told apart by class.
        test_labels: `[N]`.
        unlearned_logits: `[N, C]` of the unlearned training examples.
        unlearned_labels: `[N]`.
        feature: one of `FEATURES`.
        seed: of the sub-sample and the split, which are the same for every feature.
        max_examples: at most this many members, and as many non-members.

    Returns:
        The share, the AUC, and whether any logit was not finite.

    Raises:
        ValueError: an unknown feature, fewer than 8 members or non-members, no unlearned example, numbers of classes
            that differ, or what `feature_values` refuses.

    Example:
        >>> import numpy as np
        >>> sure, unsure = np.tile([9.0, 0.0], (40, 1)), np.tile([1.0, 0.0], (40, 1))
        >>> zeros = np.zeros(40, int)
        >>> attack(sure, zeros, unsure, zeros, unsure[:5], zeros[:5], feature="loss", seed=0)
        MembershipResult(member_share=0.0, auc=1.0, non_finite=False)

    References:
        arXiv 2409.19732 (SFR-on) for the attacker and the direction of the value. Equal numbers by sub-sampling, the
        standardised feature, the held-out AUC and the loss as a feature are ours.
    """
    sets = (retained_logits, retained_labels, test_logits, test_labels, unlearned_logits, unlearned_labels)
    _check_feature(feature)
    return _attack_features(sets, [feature], seed, max_examples)[feature]


def attack_all(
    retained_logits: ArrayLike,
    retained_labels: ArrayLike,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    unlearned_logits: ArrayLike,
    unlearned_labels: ArrayLike,
    *,
    seed: int,
    max_examples: int = 5000,
) -> dict[str, MembershipResult]:
    """Run `attack` with each of `FEATURES` on the same sub-sample; arguments and errors are those of `attack`.

    Returns:
        The result by feature name, equal to what `attack` gives with the same seed.

    Example:
        >>> import numpy as np
        >>> logits, labels = np.zeros((8, 3)), np.zeros(8, int)
        >>> attack_all(logits, labels, logits, labels, logits, labels, seed=0)["entropy"]
        MembershipResult(member_share=0.5, auc=0.5, non_finite=False)
    """
    sets = (retained_logits, retained_labels, test_logits, test_labels, unlearned_logits, unlearned_labels)
    return _attack_features(sets, FEATURES, seed, max_examples)


def _attack_features(
    sets: tuple[ArrayLike, ...], features: Sequence[Feature], seed: int, max_examples: int
) -> dict[str, MembershipResult]:
    names = ("retained", "test", "unlearned")
    logits = [checked_logits(f"{name}_logits", sets[2 * i]) for i, name in enumerate(names)]
    labels = [checked_labels(f"{name}_labels", sets[2 * i + 1], logits[i]) for i, name in enumerate(names)]
    classes = [array.shape[1] for array in logits]
    if len(set(classes)) != 1:
        raise ValueError(f"retained, test and unlearned logits have {classes} classes: they must be of one model")
    if max_examples < MIN_EXAMPLES:
        raise ValueError(f"max_examples is {max_examples}: it must be at least {MIN_EXAMPLES}")
    size = min(max_examples, len(labels[0]), len(labels[1]))
    if size < MIN_EXAMPLES:
        raise ValueError(
            f"{len(labels[0])} retained and {len(labels[1])} test examples are too few for an attack: "
            f"give at least {MIN_EXAMPLES} of each"
        )
    non_finite = not all(np.isfinite(array).all() for array in logits)
    rng = np.random.default_rng(seed)
    for side in (0, 1):
        rows = rng.choice(len(labels[side]), size, replace=False)  # in random order: any first rows are a fair split
        logits[side], labels[side] = logits[side][rows], labels[side][rows]
    members, others, unlearned = (_features(*side, features) for side in zip(logits, labels, strict=True))
    known = np.isfinite(logits[2]).all(axis=1)
    return {
        feature: MembershipResult(
            *_fit_and_judge(members[feature], others[feature], unlearned[feature], known), non_finite
        )
        for feature in features
    }


def _fit_and_judge(
    members: np.ndarray, others: np.ndarray, unlearned: np.ndarray, finite: np.ndarray
) -> tuple[float, float]:
    """Return the share of `unlearned` called member and the AUC on the held-out first rows of the two equal sides.

    A row of `unlearned` that is not `finite` says nothing of its example.
    """
    # Seconds that only those who judge a model need to spend.
    with installed_by("run"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score

    held_out = int(HELD_OUT_SHARE * len(members))
    known = np.concatenate([members[held_out:], others[held_out:]])
    if np.ptp(known) < ROUNDING:  # a regression would settle the tie by rounding errors, or overflow on the scale
        return 0.5, 0.5
    mean, scale = known.mean(), known.std()

    def standardise(values: np.ndarray) -> np.ndarray:
        return ((values - mean) / scale)[:, None]

    is_member = np.repeat([1, 0], [len(members) - held_out, len(others) - held_out])
    attacker = LogisticRegression().fit(standardise(known), is_member)
    unseen = np.concatenate([members[:held_out], others[:held_out]])
    auc = roc_auc_score(np.repeat([1, 0], held_out), attacker.decision_function(standardise(unseen)))
    log_odds = attacker.decision_function(standardise(unlearned))
    votes = np.where(finite & (np.abs(log_odds) > UNDECIDED), log_odds > 0, 0.5)
    return float(np.mean(votes)), float(auc)


def _features(logits: np.ndarray, labels: np.ndarray, features: Sequence[Feature]) -> dict[str, np.ndarray]:
    log_p, finite = finite_log_softmax(logits)
    p = np.exp(log_p)
    true_class = (np.arange(len(labels)), labels)

    def compute(feature: Feature) -> np.ndarray:
        match feature:
            case "loss":
                return np.where(finite, np.minimum(-log_p[true_class], MAX_NATS), MAX_NATS)
            case "entropy":
                # A non-finite row comes as the uniform distribution, whose entropy ln C is the value wanted for it.
                return -(p * np.where(p > 0, log_p, 0.0)).sum(axis=1)
            case "confidence":
                return np.where(finite, p[true_class], 0.0)
            case "modified_entropy":
                return np.where(finite, np.minimum(_modified_entropy(log_p, p, labels), MAX_NATS), MAX_NATS)

    return {feature: compute(feature) for feature in features}


def _modified_entropy(log_p: np.ndarray, p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    top = log_p.argmax(axis=1)
    below = p.copy()
    below[rows, top] = 0.0
    # 1 − p of the top class cancels to 0 long before the other probabilities do: there it is their sum.
    with np.errstate(divide="ignore"):
        log_rest = np.log1p(-below)
        log_rest[rows, top] = np.log(below.sum(axis=1))
    others = p * np.where(np.arange(log_p.shape[1]) == labels[:, None], 0.0, log_rest)
    return -np.exp(log_rest[rows, labels]) * log_p[rows, labels] - others.sum(axis=1)


def _check_feature(feature: str) -> None:
    if feature not in FEATURES:
        nearest = difflib.get_close_matches(str(feature), FEATURES) or FEATURES
        raise ValueError(f"unknown feature {feature!r}; nearest valid: {', '.join(nearest)}")
