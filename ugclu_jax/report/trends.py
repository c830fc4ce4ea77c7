"""How numbers of a run change along its stream: means and slopes over its unlearn requests, with standard errors."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax.evidence import Estimate, PairDistances, pair_distances, slope_weights, weighted_energy
from ugclu_jax.report import outputs
from ugclu_jax.report.evidence import LEAST_MODELS, Pair, requests_of
from ugclu_jax.report.format import number
from ugclu_jax.report.metrics import Line, read_metrics
from ugclu_jax.report.summaries import methods_of

PER = 100.0
"""Requests that a slope is given for."""


class Along(NamedTuple):
    """Distances of a method's models from the oracles, on unlearned plus on test inputs, along the stream."""

    requests: tuple[int, ...]
    distances: tuple[PairDistances, ...]

    def each(self) -> list[float]:
        """E after each request, as a ranking has it."""
        return [weighted_energy([distances], [1.0]).value for distances in self.distances]

    def mean(self) -> Estimate:
        """E over all of them."""
        return weighted_energy(self.distances, np.full(len(self.requests), 1 / len(self.requests)))

    def slope(self) -> Estimate:
        """Of the line through E, for `PER` requests."""
        return weighted_energy(self.distances, PER * slope_weights(self.requests))

    def minus(self, other: "Along") -> "Along":
        """What another method of the same seeds has less; the errors that they share cancel."""
        pairs = zip(self.distances, other.distances, strict=True)
        return Along(self.requests, tuple(own.plus(less, -1.0) for own, less in pairs))


def along(run_dir: Path, method: str, seeds: Sequence[int], requests: Iterable[int]) -> Along | None:
    """Distances of a method after those requests at which they are defined.

    Args:
        run_dir: the run's folder, with its outputs.
        method: which.
        seeds: of it, that were served all of these requests.
        requests: after which there are outputs of oracles.

    Returns:
        None with fewer than two seeds, or without any such request.

    Raises:
        ValueError, OSError: outputs are damaged or gone.
    """
    if len(seeds) < LEAST_MODELS:
        return None
    found: dict[int, PairDistances] = {}
    for request in requests:
        stack = outputs.stack(run_dir, {seed: outputs.model_file(method, seed, request) for seed in seeds})
        if stack.missing:
            raise ValueError(f"outputs of {method} after request {request + 1} are gone from {run_dir}")
        oracles = outputs.read(run_dir, outputs.oracle_file(request))
        if all(side in each for side in Pair._fields for each in (stack.sets, oracles)):
            one, other = (pair_distances(stack.sets[side], oracles[side]) for side in Pair._fields)
            found[request] = one.plus(other)
    return Along(tuple(found), tuple(found.values())) if found else None


def of_run(run_dir: Path) -> dict[str, Along]:
    """Those of every method of a run, over its unlearn requests and the seeds that reached the last request.

    Raises:
        ValueError, OSError: it is damaged, or outputs are gone.
    """
    lines = read_metrics(run_dir)
    unlearning, last = {line.request for line in lines if line.kind == "unlearn"}, max(line.request for line in lines)
    requests = [request for request in requests_of(run_dir, lines) if request in unlearning]
    found = {}
    for method in methods_of(lines):
        seeds = [line.seed for line in lines if (line.method, line.request) == (method, last)]
        known = along(run_dir, method, seeds, requests)
        if known is not None:
            found[method] = known
    return found


def over_seeds(values: Sequence[float]) -> Estimate | None:
    """Mean of a number of each seed, and its standard error; None of no seed.

    >>> over_seeds([0.5, 0.75, 1.0]).value, over_seeds([0.5]), over_seeds([])
    (0.75, Estimate(value=0.5, standard_error=None), None)
    """
    if not len(values):
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), error)


def slopes(lines: Iterable[Line], number_of: Callable[[Line], float | None]) -> Estimate | None:
    """The mean over seeds of the slopes of a number of lines, for `PER` requests; None where no seed has two."""
    by_seed: dict[int, list[tuple[int, float]]] = {}
    for line in lines:
        value = number_of(line)
        if value is not None and math.isfinite(value):
            by_seed.setdefault(line.seed, []).append((line.request, value))
    return over_seeds(
        [
            float(PER * slope_weights([at for at, _ in points]) @ [value for _, value in points])
            for points in by_seed.values()
            if len(points) > 1
        ]
    )


def estimate_text(estimate: Estimate | None) -> str:
    """A number and its standard error.

    >>> estimate_text(Estimate(0.25, 0.0125)), estimate_text(Estimate(0.25, None)), estimate_text(None)
    ('.250 ±.013', '.250', '–')
    """
    if estimate is None:
        return "–"
    error = estimate.standard_error
    return number(estimate.value) + ("" if error is None else f" ±{number(error)}")


def nearer(ours: str, baseline: str, less: Mapping[str, Estimate | None], lost: Sequence[str]) -> str:
    """By network, whether ours is nearer to the oracles than fine-tuning is, beyond two standard errors.

    Args:
        ours, baseline: methods, with one default.
        less: E of fine-tuning less that of ours, by network; None where one of them lost its seeds.
        lost: seeds that did not reach the end, in words.
    """
    groups: dict[str, list[str]] = {
        f"nearer to the oracles than {baseline}": [],
        "further": [],
        "no difference beyond noise": [],
        "not to be told with two seeds": [],
        "not to be told, seeds were lost": [],
    }
    closer, further, same, few, gone = groups.values()
    for title, difference in less.items():
        if difference is None:
            gone.append(title)
            continue
        beyond = difference.beyond_noise()
        place = few if beyond is None else same if not beyond else closer if difference.value > 0 else further
        place.append(f"{title} ({estimate_text(difference)})")
    said = "; ".join(f"{head}: {', '.join(names)}" for head, names in groups.items() if names)
    ends = f"Seeds lost: {'; '.join(lost)}" if lost else "No seed was lost"
    return f"With one default, {ours} is, by E of {baseline} less its own: {said}. {ends}."
