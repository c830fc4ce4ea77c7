"""NumPy loops that the tests trust: one example at a time, gradients derived by hand.

Imports neither jax nor ugclu_jax, so that an agreement means something. Parameters are dicts of arrays; a batch is
`(inputs [B, F], labels [B], weights [B])`, and a list of them where the library takes `[n, B]`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Tree = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
LOSS_FLOOR = 1e-4


class Network(NamedTuple):
    """One example in; the gradient is that of its cross-entropy."""

    logits: Callable[[Tree, np.ndarray], np.ndarray]
    gradient: Callable[[Tree, np.ndarray, int], Tree]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def cross_entropy(logits: np.ndarray, label: int) -> float:
    return float(logits.max() + np.log(np.exp(logits - logits.max()).sum()) - logits[label])


def _logit_gradient(logits: np.ndarray, label: int) -> np.ndarray:
    return softmax(logits) - np.eye(len(logits))[label]


def _regression_logits(params: Tree, x: np.ndarray) -> np.ndarray:
    return x @ params["kernel"] + params["bias"]


def _regression_gradient(params: Tree, x: np.ndarray, label: int) -> Tree:
    delta = _logit_gradient(_regression_logits(params, x), label)
    return {"kernel": np.outer(x, delta), "bias": delta}


def _mlp_logits(params: Tree, x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ params["kernel1"] + params["bias1"]) @ params["kernel2"] + params["bias2"]


def _mlp_gradient(params: Tree, x: np.ndarray, label: int) -> Tree:
    hidden = np.tanh(x @ params["kernel1"] + params["bias1"])
    delta = _logit_gradient(hidden @ params["kernel2"] + params["bias2"], label)
    back = params["kernel2"] @ delta * (1 - hidden**2)
    return {"kernel1": np.outer(x, back), "bias1": back, "kernel2": np.outer(hidden, delta), "bias2": delta}


REGRESSION = Network(_regression_logits, _regression_gradient)
MLP = Network(_mlp_logits, _mlp_gradient)


def losses(network: Network, params: Tree, batch: Batch) -> list[float]:
    return [cross_entropy(network.logits(params, x), y) for x, y in zip(batch[0], batch[1], strict=True)]


def mean_gradient(
    network: Network, params: Tree, batch: Batch, coefficients: Sequence[float] | None = None
) -> tuple[Tree, float]:
    """Mean of `ε_i ∇ℓ_i` over the examples that are not padding, and their mean loss; zeros where there are none."""
    total, loss, count = {name: np.zeros_like(p) for name, p in params.items()}, 0.0, 0
    for i, (x, y, weight) in enumerate(zip(*batch[:3], strict=True)):
        if weight == 0:
            continue
        count, loss = count + 1, loss + cross_entropy(network.logits(params, x), y)
        for name, g in network.gradient(params, x, y).items():
            total[name] += g * (1.0 if coefficients is None else coefficients[i])
    return {name: g / max(count, 1) for name, g in total.items()}, loss / max(count, 1)


def coefficients(
    kind: str, losses: Sequence[float], weights: Sequence[float], loss_exponent: float, remaining_share: float = 1.0
) -> list[float]:
    """`e · ℓ^±λ`, divided by the mean of `ℓ^±λ` over the examples that are not padding."""
    exponent = {"learn": loss_exponent, "unlearn": -loss_exponent}[kind]
    powers = [max(loss, LOSS_FLOOR) ** exponent * weight for loss, weight in zip(losses, weights, strict=True)]
    mean = sum(powers) / sum(weights)
    return [remaining_share * power / mean for power in powers]


def _examples(batches: Sequence[Batch]) -> list[Batch]:
    """Every example that is not padding, as a batch of its own."""
    return [
        (x[None], y[None], np.ones(1)) for batch in batches for x, y, weight in zip(*batch[:3], strict=True) if weight
    ]


def _mean(trees: Sequence[Tree]) -> Tree:
    return {name: sum(tree[name] for tree in trees) / len(trees) for name in trees[0]}


def gradient_statistic(network: Network, params: Tree, batches: Sequence[Batch]) -> Tree:
    gradients = [mean_gradient(network, params, example)[0] for example in _examples(batches)]
    return {name: np.abs(g) for name, g in _mean(gradients).items()}


def fisher(network: Network, params: Tree, batches: Sequence[Batch]) -> Tree:
    gradients = [mean_gradient(network, params, example)[0] for example in _examples(batches)]
    return _mean([{name: g * g for name, g in gradient.items()} for gradient in gradients])


def batch_fisher(network: Network, params: Tree, batches: Sequence[Batch]) -> Tree:
    gradients = [mean_gradient(network, params, batch)[0] for batch in batches if any(batch[2])]
    return _mean([{name: g * g for name, g in gradient.items()} for gradient in gradients])


def hard_mask(task: Tree, remain: Tree, threshold: float) -> Tree:
    mask = {name: np.zeros_like(q) for name, q in task.items()}
    for name, m in mask.items():
        for place in np.ndindex(m.shape):
            if not task[name][place] < threshold * remain[name][place]:
                m[place] = 1.0
    return mask


def soft_mask(task: Tree, remain: Tree, threshold: float, temperature: float) -> Tree:
    """`r / (1 + r)` with `r = (s_Q / (γ s_R))^{1/τ}`: the logistic function of a logarithm, without either."""
    ratios = {name: (q / (threshold * remain[name])) ** (1 / temperature) for name, q in task.items()}
    return {name: r / (1 + r) for name, r in ratios.items()}


def norm(tree: Tree) -> float:
    return float(np.sqrt(sum((x**2).sum() for x in tree.values())))


def step(
    network: Network,
    params: Tree,
    task_batch: Batch,
    remain_batches: Sequence[Batch],
    *,
    kind: str,
    mask: Tree,
    fast_learning_rate: float,
    remain_learning_rate: float,
    slow_step_size: float,
    loss_exponent: float,
    clip_norm: float,
    remain_weight_decay: float,
    coefficient_share: float = 1.0,
    remain_share: float = 1.0,
) -> tuple[Tree, dict[str, float | list[float]]]:
    """One outer step of UG-CLU; the two shares are `e_k` where the setting decays, else 1."""
    weights = coefficients(kind, losses(network, params, task_batch), task_batch[2], loss_exponent, coefficient_share)
    gradient, task_loss = mean_gradient(network, params, task_batch, weights)
    sign = {"learn": 1.0, "unlearn": -1.0}[kind]
    masked = {name: sign * mask[name] * g for name, g in gradient.items()}
    fast_norm = norm(masked)
    scale = min(1.0, clip_norm / fast_norm) if fast_norm > 0 else 1.0
    fast = {name: p - fast_learning_rate * scale * masked[name] for name, p in params.items()}
    remain_losses = []
    for batch in remain_batches:
        gradient, loss = mean_gradient(network, fast, batch)
        remain_losses.append(loss)
        fast = {
            name: p - remain_learning_rate * remain_share * (gradient[name] + remain_weight_decay * p)
            for name, p in fast.items()
        }
    new_params = {name: (1 - slow_step_size) * p + slow_step_size * fast[name] for name, p in params.items()}
    return new_params, {
        "task_loss": task_loss,
        "remain_losses": remain_losses,
        "fast_norm": fast_norm,
        "clipped": fast_norm > clip_norm,
        "displacement_norm": norm({name: new_params[name] - p for name, p in params.items()}),
    }


# --- unlearning: one optimizer, and the order of operations of the methods that use it -------------------------------


def weighted_sum(*terms: tuple[float, Tree]) -> Tree:
    return {name: sum(weight * tree[name] for weight, tree in terms) for name in terms[0][1]}


def clip(tree: Tree, bound: float) -> Tree:
    length = norm(tree)
    return {name: x * bound / length for name, x in tree.items()} if length > bound else tree


def soft_gradient(network: Network, params: Tree, x: np.ndarray, target: np.ndarray) -> Tree:
    """Of the cross-entropy to a distribution: the mean of those to single classes, for it is linear in its target."""
    return weighted_sum(*((share, network.gradient(params, x, label)) for label, share in enumerate(target)))


def largest(tree: Tree, share: float) -> Tree:
    """1 for a share of all elements, those of largest value; of equal ones, the first in the order of sorted names."""
    places = [(name, place) for name in sorted(tree) for place in np.ndindex(tree[name].shape)]
    ranked = sorted(places, key=lambda at: -tree[at[0]][at[1]])
    mask = {name: np.zeros_like(x) for name, x in tree.items()}
    for name, place in ranked[: round(share * len(ranked))]:
        mask[name][place] = 1.0
    return mask


class Optimizer:
    """Momentum SGD (decay in the gradient) or AdamW (decay beside it); a mask on the update holds weights in place."""

    def __init__(self, kind: str, momentum: float, weight_decay: float):
        self.kind, self.momentum, self.weight_decay = kind, momentum, weight_decay
        self.first, self.second, self.count = {}, {}, 0

    def __call__(self, params: Tree, gradient: Tree, learning_rate: float, update_mask: Tree | None = None) -> Tree:
        self.count += 1
        moved = {}
        for name, p in params.items():
            g, first, second = gradient[name], self.first.get(name, 0.0), self.second.get(name, 0.0)
            if self.kind == "sgd":
                first = self.momentum * first + g + self.weight_decay * p
                direction = first
            else:
                first = self.momentum * first + (1 - self.momentum) * g
                second = 0.999 * second + 0.001 * g * g
                corrected = np.sqrt(second / (1 - 0.999**self.count)) + 1e-8
                direction = first / (1 - self.momentum**self.count) / corrected + self.weight_decay * p
            self.first[name], self.second[name] = first, second
            moved[name] = p - learning_rate * direction * (1.0 if update_mask is None else update_mask[name])
        return moved


def sfron(
    network: Network,
    params: Tree,
    task_batches: Sequence[Batch],
    remain_batches: Sequence[Batch],
    *,
    optimizer: str,
    mask: Tree,
    mask_update: bool,
    forget_every: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    forget_weight: float,
    loss_exponent: float,
    loss_floor: float,
    clip_norm: float,
) -> tuple[Tree, list[float]]:
    """SFR-on in the order of its published code; also the norm of each masked ascent, before it is clipped."""
    steps, norms = len(remain_batches), []
    apply = Optimizer(optimizer, momentum, weight_decay)
    for k in range(steps):
        half_cosine = (1 + np.cos(np.pi * k / steps)) / 2
        if k % forget_every == 0:
            ascent = {name: np.zeros_like(p) for name, p in params.items()}
            kept = _examples([task_batches[k]])
            floored = [max(losses(network, params, one)[0], loss_floor) for one in kept]
            inverse = [1 / (loss**loss_exponent + 1e-15) for loss in floored]
            for (x, y, _), c in zip(kept, inverse, strict=True):
                for name, g in network.gradient(params, x[0], y[0]).items():
                    ascent[name] -= forget_weight * half_cosine * c / sum(inverse) * g
            masked = {name: mask[name] * g for name, g in ascent.items()}
            norms.append(norm(masked))
            params = apply(params, clip(masked, clip_norm), learning_rate * half_cosine, mask if mask_update else None)
        params = apply(params, mean_gradient(network, params, remain_batches[k])[0], learning_rate * half_cosine)
    return params, norms


# --- a linear network, by what its loss says to the logits ------------------------------------------------------------


def linear_gradient(inputs: np.ndarray, deltas: Sequence[np.ndarray], weights: Sequence[float]) -> Tree:
    """Mean gradient of the examples of weight 1; `deltas[i]` is the derivative of its loss by its logits."""
    total = {"kernel": np.zeros((inputs.shape[1], len(deltas[0]))), "bias": np.zeros(len(deltas[0]))}
    for x, delta, weight in zip(inputs, deltas, weights, strict=True):
        if weight:
            total["kernel"] += np.outer(x, delta)
            total["bias"] += delta
    return {name: g / max(np.count_nonzero(weights), 1) for name, g in total.items()}


def momentum_step(
    params: Tree, velocity: Tree, gradient: Tree, learning_rate: float, momentum: float, weight_decay: float
) -> tuple[Tree, Tree]:
    """`b ← μ b + g + w θ; θ ← θ − η b`."""
    velocity = {name: momentum * velocity[name] + gradient[name] + weight_decay * p for name, p in params.items()}
    return {name: p - learning_rate * velocity[name] for name, p in params.items()}, velocity


def distilled(logits: np.ndarray, label: int, weight: float, departed: Sequence[int] = ()) -> np.ndarray:
    """`(1 − δ) onehot + δ q`, q the softmax over the classes that stay."""
    stay = [c for c in range(len(logits)) if c not in departed]
    teacher = np.zeros(len(logits))
    teacher[stay] = softmax(logits[stay])
    return (1 - weight) * np.eye(len(logits))[label] + weight * teacher


def divergence_delta(logits: np.ndarray, teacher: np.ndarray, temperature: float) -> np.ndarray:
    """`∂/∂z T² KL(q ‖ p) = T (p − q)`."""
    return temperature * (softmax(logits / temperature) - softmax(teacher / temperature))


# --- evidence: models against oracles, one pair and one example at a time ---------------------------------------------


def hellinger(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.sqrt(np.sum((np.sqrt(softmax(first)) - np.sqrt(softmax(second))) ** 2) / 2))


def energy(first: np.ndarray, second: np.ndarray, same_seeds: bool = False) -> float:
    """`2 mean d(a, b) − mean d(a, a′) − mean d(b, b′)` of logits [A, N, C] and [B, N, C], mean over inputs."""

    def mean(left: np.ndarray, right: np.ndarray, skip: bool) -> float:
        places = [(i, j) for i in range(len(left)) for j in range(len(right)) if not (skip and i == j)]
        return sum(hellinger(left[i][x], right[j][x]) for i, j in places for x in range(left.shape[1])) / (
            len(places) * left.shape[1]
        )

    return 2 * mean(first, second, same_seeds) - mean(first, first, True) - mean(second, second, True)


def margin(logits: np.ndarray, label: int) -> float:
    """The logit of the probability of the label."""
    return float(logits[label] - np.log(sum(np.exp(z) for c, z in enumerate(logits) if c != label)))


def challenge_epsilon(unlearned: np.ndarray, retrained: np.ndarray, delta: float) -> float:
    """Of the best attacker on margins [M] and [O]: every pair of thresholds that decides differently is tried."""
    if min(np.ptp(unlearned), np.ptp(retrained)) < 0.01 * max(np.ptp(unlearned), np.ptp(retrained)):
        return 50.0
    high, low = (retrained, unlearned) if np.median(retrained) > np.median(unlearned) else (unlearned, retrained)
    everything, tiny = [*unlearned, *retrained], 1e-9

    def epsilon(inside: Callable[[float], bool], positive: np.ndarray, negative: np.ndarray) -> float:
        missed = sum(not inside(v) for v in positive) / len(positive)
        false = sum(inside(v) for v in negative) / len(negative)
        if missed == false == 0:
            return 50.0
        if missed == 0 or false == 0:
            return 0.0
        found = [0.0]
        for a, b in ((missed, false), (false, missed)):
            if 1 - delta - a > 0:
                found.append(np.log(1 - delta - a) - np.log(b))
        return max(found)

    best = [epsilon(lambda v, t=t: v >= t, high, low) for t in everything]
    narrow, wide = (low, high) if np.ptp(high) >= np.ptp(low) else (high, low)
    start, end = min(narrow), max(narrow)
    width = end - start
    rights = [end - 2, end + 2, *(v + shift for v in everything for shift in (0, -tiny))]
    for right in (r for r in rights if end - 2 <= r <= end + 2):
        limits = (right - width - 2, right - width + 2)
        lefts = [*limits, *(v + shift for v in everything for shift in (0, tiny))]
        for left in (one for one in lefts if limits[0] <= one <= limits[1]):
            best.append(epsilon(lambda v, ends=(left, right): ends[0] <= v <= ends[1], narrow, wide))
    return min(max(best), 50.0)


def rmia(
    model: np.ndarray,
    references: np.ndarray,
    labels: Sequence[int],
    population: np.ndarray,
    population_references: np.ndarray,
    population_labels: Sequence[int],
    a: float,
    gamma: float,
) -> list[float]:
    """Of one model [N, C] with references [R, N, C]."""

    def ratio(logits: np.ndarray, others: Sequence[np.ndarray], label: int) -> float:
        out = sum(softmax(other)[label] for other in others) / len(others)
        return softmax(logits)[label] / ((1 + a) / 2 * out + (1 - a) / 2)

    def ratios(logits: np.ndarray, others: np.ndarray, labels: Sequence[int]) -> list[float]:
        return [ratio(logits[x], [other[x] for other in others], label) for x, label in enumerate(labels)]

    of_population = ratios(population, population_references, population_labels)
    return [
        sum(own / other > gamma for other in of_population) / len(of_population)
        for own in ratios(model, references, labels)
    ]


def likelihood_ratio(value: float, unlearned: Sequence[float], never: Sequence[float]) -> float:
    """`log N(value; unlearned) − log N(value; never)`, normals fitted to samples."""

    def density(samples: Sequence[float]) -> float:
        mean = sum(samples) / len(samples)
        variance = sum((s - mean) ** 2 for s in samples) / (len(samples) - 1)
        return float(np.exp(-((value - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))

    return float(np.log(density(unlearned)) - np.log(density(never)))


# --- for the learning methods ----------------------------------------------------------------------------------------


def add(*terms: tuple[float, Tree]) -> Tree:
    """`Σ w t` of pairs `(w, t)`."""
    return {name: sum(weight * tree[name] for weight, tree in terms) for name in terms[0][1]}


def regression_logit_gradient(params: Tree, batch: Batch, delta: Callable[[np.ndarray, int], np.ndarray]) -> Tree:
    """Mean over a batch of the gradient of REGRESSION, where `delta(logits, i)` is that of a loss in the logits."""
    total, count = {name: np.zeros_like(p) for name, p in params.items()}, 0
    for i, (x, weight) in enumerate(zip(batch[0], batch[2], strict=True)):
        if weight:
            d = delta(_regression_logits(params, x), i)
            total, count = {"kernel": total["kernel"] + np.outer(x, d), "bias": total["bias"] + d}, count + 1
    return {name: g / max(count, 1) for name, g in total.items()}


def sgd(
    params: Tree,
    gradient: Callable[[Tree], Tree],
    steps: int,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Tree:
    """SGD whose rate falls linearly over the steps, the first step at the full rate."""
    velocity = {name: np.zeros_like(p) for name, p in params.items()}
    for k in range(steps):
        g = gradient(params)
        velocity = {name: momentum * v + g[name] + weight_decay * params[name] for name, v in velocity.items()}
        params = {name: p - learning_rate * (1 - k / steps) * velocity[name] for name, p in params.items()}
    return params
