"""Two ways of doing something on the same seeds and oracles: the difference of their distances, and whether it is one.

    d = E(a) − E(b)        error: the jackknife over seeds and over oracles, each left out of both at once
    d_s = KL_s(a) − KL_s(b)  for each seed s; their mean, and its error from their spread

What a seed or an oracle adds to both cancels, which an error of either alone does not know.

References: Efron and Stein (1981) for the jackknife; Holm (1979), "A simple sequentially rejective multiple test
procedure".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax.report import evidence, outputs
from ugclu_jax.report.metrics import read_metrics

LEAST_SEEDS = 3
"""Seeds, and oracles, below which a difference has no error."""


class Outputs(NamedTuple):
    """Logits of a method's models and of the oracles after the last request that has them."""

    models: outputs.Arrays  # [S, N, C] by set
    oracles: outputs.Arrays  # [O, N, C] by set

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.models["test"])


class Difference(NamedTuple):
    """A difference, its standard error, and how probable one as large is where there is none."""

    value: float
    standard_error: float | None  # None: too few seeds
    probability: float | None  # two-sided, by Student's t of S − 1 degrees of freedom


def read_outputs(run_dir: Path, method: str) -> Outputs | None:
    """The outputs of a method that finished every seed; None of one that did not.

    Raises:
        ValueError: the folder has none, or a file is damaged.
        OSError: it cannot be read.
    """
    lines = read_metrics(run_dir)
    requests = evidence.requests_of(run_dir, lines)
    if not requests:
        raise ValueError(f"{run_dir} has no outputs of oracles: its stream unlearns nothing")
    everyone = {line.seed for line in lines if line.method == method}
    seeds = sorted(line.seed for line in lines if (line.method, line.request) == (method, requests[-1]))
    if not seeds or set(seeds) != everyone:
        return None
    stack = outputs.stack(run_dir, {seed: outputs.model_file(method, seed, requests[-1]) for seed in seeds})
    finite = all(np.isfinite(array).all() for array in stack.sets.values())
    return (
        None
        if stack.missing or not finite
        else Outputs(stack.sets, outputs.read(run_dir, outputs.oracle_file(requests[-1])))
    )


def energy_difference(first: Outputs, second: Outputs, *, matched: bool = True) -> Difference:
    """`E(first) − E(second)`, on unlearned and retained test inputs together.

    Args:
        first, second: of the same seeds, and the same oracles.
        matched: whether models are first made as sure of themselves as the oracles are.

    Raises:
        ValueError: they have another number of seeds or of oracles.
    """
    tables = [_distances(each, matched) for each in (first, second)]
    seeds, oracles = tables[0].across.shape
    if tables[1].across.shape != (seeds, oracles):
        raise ValueError(f"seeds and oracles must be as many, got {(seeds, oracles)} and {tables[1].across.shape}")
    everyone = np.arange(seeds), np.arange(oracles)

    def gap(some: np.ndarray, known: np.ndarray) -> float:
        return tables[0].energy(some, known) - tables[1].energy(some, known)

    value = gap(*everyone)
    if min(seeds, oracles) < LEAST_SEEDS:
        return Difference(value, None, None)
    variance = 0.0
    for axis, number in enumerate((seeds, oracles)):
        left_out = []
        for one in range(number):
            kept = list(everyone)
            kept[axis] = np.delete(kept[axis], one)
            left_out.append(gap(kept[0], kept[1]))
        variance += (number - 1) / number * float(np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    return _judged(value, variance**0.5, seeds)


def divergence_difference(first: Outputs, second: Outputs) -> Difference:
    """`KL(oracle ‖ first) − KL(oracle ‖ second)`, mean over seeds, on the same inputs.

    Raises:
        ValueError: they have another number of seeds.
    """
    if first.seeds != second.seeds:
        raise ValueError(f"seeds must be as many, got {first.seeds} and {second.seeds}")
    gaps = _divergences(first) - _divergences(second)
    if len(gaps) < LEAST_SEEDS:
        return Difference(float(gaps.mean()), None, None)
    return _judged(float(gaps.mean()), float(gaps.std(ddof=1) / len(gaps) ** 0.5), len(gaps))


def holm(probabilities: Sequence[float | None]) -> list[float | None]:
    """Probabilities made larger, so that all of them below a level are false together as rarely as it says.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(probabilities) if p is not None)
    found: list[float | None] = [None] * len(probabilities)
    largest = 0.0
    for done, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - done) * p))
        found[place] = largest
    return found


def _judged(value: float, error: float, seeds: int) -> Difference:
    from scipy.stats import t  # half a second that `--help` need not wait for

    if error == 0:
        return Difference(value, error, 1.0 if value == 0 else 0.0)
    return Difference(value, error, float(2 * t.sf(abs(value) / error, seeds - 1)))


class _Distances(NamedTuple):
    """Mean distances of pairs, both sets of inputs added."""

    across: np.ndarray  # [S, O]
    within: np.ndarray  # [S, S]
    among: np.ndarray  # [O, O]

    def energy(self, seeds: np.ndarray, oracles: np.ndarray) -> float:
        def different(table: np.ndarray, some: np.ndarray) -> float:
            kept = table[np.ix_(some, some)]
            return float((kept.sum() - np.trace(kept)) / (len(some) * (len(some) - 1)))

        across = float(self.across[np.ix_(seeds, oracles)].mean())
        return 2 * across - different(self.within, seeds) - different(self.among, oracles)


def _distances(found: Outputs, matched: bool) -> _Distances:
    from ugclu_jax.evidence.baselines import cool
    from ugclu_jax.evidence.energy import hellinger_distances

    tables: list[np.ndarray] = [np.zeros(())] * 3
    for name in ("unlearned", "test"):
        models, oracles = (np.asarray(each[name], np.float64) for each in (found.models, found.oracles))
        if matched:
            models = cool(models, found.models["test"], found.oracles["test"])
        pairs = ((models, oracles), (models, models), (oracles, oracles))
        tables = [table + hellinger_distances(*pair).mean(0) for table, pair in zip(tables, pairs, strict=True)]
    return _Distances(*tables)


def _divergences(found: Outputs) -> np.ndarray:
    """Of each seed, mean over oracles and inputs, both sets added."""
    from scipy.special import log_softmax

    total = np.zeros(found.seeds)
    for name in ("unlearned", "test"):
        known = log_softmax(np.asarray(found.oracles[name], np.float64), axis=-1)
        own, p = log_softmax(np.asarray(found.models[name], np.float64), axis=-1), np.exp(known)
        total += (p * known).sum(-1).mean() - np.einsum("nc,snc->s", p.mean(0), own) / own.shape[1]
    return total
