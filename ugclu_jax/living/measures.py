"""What can be said of a request without an oracle: numbers with intervals, from outputs before and after.

- **unlearned**: accuracy and mean loss of what was unlearned;
- **attack**: how well a population attack, by the loss alone, tells the unlearned from held-out examples: the area
  under its curve, ½ where it cannot (Yeom et al., arXiv 1709.01604);
- **drift**: how far outputs moved on the buffer and on held-out examples, and how many predictions changed;
- **classes**: accuracy on the held-out examples of each class.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from ugclu_jax.evidence.operating import CONFIDENCE, roc
from ugclu_jax.living.held import Held, filled
from ugclu_jax.membership import feature_values
from ugclu_jax.metrics import kl_divergence

LEAST = 8
"""Examples a side below which an attack says nothing."""
_Z = 1.959963984540054  # of the normal distribution, 95 %


class Interval(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


def share(hits: ArrayLike) -> Interval:
    """A share of truth values, with the exact interval of Clopper and Pearson.

    >>> [round(x, 3) for x in share([True] * 9 + [False])]
    [0.9, 0.555, 0.997]
    """
    found = np.asarray(hits, bool)
    count, hit, tail = len(found), int(found.sum()), (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, hit, count - hit + 1)) if hit else 0.0
    high = float(beta.ppf(1 - tail, hit + 1, count - hit)) if hit < count else 1.0
    return Interval(hit / count, low, high)


def mean(values: ArrayLike) -> Interval:
    """A mean, with the normal interval of its standard error; as wide as the line where there is one value.

    >>> mean([1.0, 3.0]).value
    2.0
    """
    found = np.asarray(values, np.float64)
    middle = float(found.mean())
    half = _Z * float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else math.inf
    return Interval(middle, middle - half, middle + half)


def area(members: ArrayLike, non_members: ArrayLike) -> Interval:
    """Area under the curve of an attacker's scores, high for members, with the interval of Hanley and McNeil.

    `s² = [A(1−A) + (m−1)(Q₁−A²) + (n−1)(Q₂−A²)] / (m n)`, `Q₁ = A/(2−A)`, `Q₂ = 2A²/(1+A)`.

    Raises:
        ValueError: no score on a side, or NaN.

    >>> [round(x, 3) for x in area(np.arange(20) + 10, np.arange(20))]
    [0.875, 0.763, 0.987]

    References:
        Hanley and McNeil (1982), Radiology 143(1), equation 2.
    """
    curve = roc(members, non_members)
    a, m, n = curve.auc, curve.members, curve.non_members
    first, second = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (m - 1) * (first - a * a) + (n - 1) * (second - a * a)) / (m * n)
    half = _Z * math.sqrt(max(variance, 0.0))
    return Interval(a, max(0.0, a - half), min(1.0, a + half))


def of_request(before: Held, after: Held, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Everything above, as JSON values; what cannot be measured is left out.

    Args:
        before, after: the model; the samples are those of `after`.
        inputs, labels: of the unlearned examples; none where nothing was unlearned.
    """
    found: dict[str, Any] = {}
    names = after.described.classes
    for name, buffer in (("buffer", after.buffer), ("held_out", after.held_out)):
        sample, own, _ = filled(buffer)
        if len(own):
            found[name] = _drift(before, after, sample, own)
    sample, own, _ = filled(after.held_out)
    if len(own):
        logits = _both(before, after, sample)
        found["classes"] = {
            names[label]: [_plain(share(each[own == label].argmax(1) == label)) for each in logits]
            for label in np.unique(own).tolist()
        }
    if len(labels):
        logits = _both(before, after, inputs)
        found["unlearned"] = {
            "count": len(labels),
            "accuracy": [_plain(share(each.argmax(1) == labels)) for each in logits],
            "loss": [_plain(mean(feature_values(each, labels, "loss"))) for each in logits],
        }
        found |= _attack(before, after, logits, labels)
    return found


def _attack(before: Held, after: Held, logits: list[np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    sample, own, _ = filled(after.held_out)
    alike = np.isin(own, labels)  # examples of other classes would be told apart by their class
    rows = alike if alike.sum() >= LEAST else np.ones(len(own), bool)
    if rows.sum() < LEAST or len(labels) < LEAST:
        return {}
    others = _both(before, after, sample[rows])
    areas = [
        _plain(area(-feature_values(z, labels, "loss"), -feature_values(other, own[rows], "loss")))
        for z, other in zip(logits, others, strict=True)
    ]
    return {"attack": {"area": areas, "held_out": int(rows.sum()), "same_classes": bool(alike.sum() >= LEAST)}}


def _both(before: Held, after: Held, inputs: np.ndarray) -> list[np.ndarray]:
    """Outputs of both networks, for the classes that both have."""
    old, new = before.logits(inputs), after.logits(inputs)
    if old.shape[1] < new.shape[1]:  # a class that came: the old network gives it nothing
        old = np.concatenate([old, np.full((len(old), new.shape[1] - old.shape[1]), old.min() - 10.0)], axis=1)
    return [old, new]


def _drift(before: Held, after: Held, inputs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    old, new = _both(before, after, inputs)
    return {
        "count": len(labels),
        "accuracy": [_plain(share(each.argmax(1) == labels)) for each in (old, new)],
        "moved": _plain(mean(kl_divergence(old, new))),
        "changed": _plain(share(old.argmax(1) != new.argmax(1))),
    }


def _plain(interval: Interval) -> list[float | None]:
    """As JSON has it; null for what is infinite."""
    return [round(value, 6) if math.isfinite(value) else None for value in interval]


def verdict(kind: str, metrics: dict[str, Any]) -> str:
    """What the numbers of a request say, in a sentence.

    >>> verdict("learn", {})
    'Nothing could be measured: no example is held out.'
    """
    parts = []
    if "unlearned" in metrics:
        (old, *_), (new, *_) = metrics["unlearned"]["accuracy"]
        parts.append(f"accuracy on what was unlearned went from {old:.3g} to {new:.3g}")
    if "attack" in metrics:
        (old, *_), _ = metrics["attack"]["area"]
        parts.append(told_by_loss(metrics["attack"], f"{old:.3g} → "))
    elif kind == "unlearn":
        parts.append(f"fewer than {LEAST} examples a side: an attack would say nothing")
    if "held_out" in metrics:
        (old, *_), (new, *_) = metrics["held_out"]["accuracy"]
        went = f"is {new:.3g}" if kind == "init" else f"went from {old:.3g} to {new:.3g}"
        parts.append(f"accuracy on held-out examples {went}")
    if not parts:
        return "Nothing could be measured: no example is held out."
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def told_by_loss(attack: dict[str, Any], before: str = "") -> str:
    """What the population attack says, in a clause.

    >>> told_by_loss({"area": [[0.9, 0.8, 1.0], [0.52, 0.41, 0.63]], "same_classes": True})
    'by their loss the unlearned are not told from held-out examples (area 0.52, 0.41 … 0.63; 0.5 is a guess)'
    """
    _, (new, low, high) = attack["area"]
    others = "held-out examples" if attack["same_classes"] else "held-out examples, all of other classes,"
    judged = f"not told from {others}" if low <= 0.5 <= high else f"told from {others}"
    if high < 0.5:
        judged += " by being too unlikely"
    return f"by their loss the unlearned are {judged} (area {before}{new:.3g}, {low:.3g} … {high:.3g}; 0.5 is a guess)"
