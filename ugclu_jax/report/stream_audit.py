"""What the requests of a run did to its models over the stream: erosion, reversal, plasticity."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ugclu_jax.evidence import erosion, plasticity, reversal
from ugclu_jax.report import outputs
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.outputs import BEFORE, LABELS
from ugclu_jax.report.summaries import Statistic, methods_of, statistic

NEVER_UNLEARNS = "do_nothing"


class StreamAudit(NamedTuple):
    """Of one method over seeds; None is undefined, and says why."""

    method: str
    erosion: Statistic | None
    reversal: Statistic | None
    plasticity: Statistic | None
    undefined: tuple[str, ...]


def over_the_stream(run_dir: Path, lines: Sequence[Line], parts: Mapping[str, tuple[str, str]]) -> list[StreamAudit]:
    """The three measures of each method of a run.

    Args:
        run_dir: the run's folder.
        lines: of its metrics.
        parts: learner and unlearner of each method.

    Raises:
        ValueError: a file of outputs is damaged.
        FileNotFoundError: there are no outputs of oracles after an unlearn request.
    """
    labels = {
        request: outputs.read(run_dir, outputs.oracle_file(request)).get(LABELS + "retained")
        for request in dict.fromkeys(line.request for line in lines if line.kind == "unlearn")
    }
    found = []
    for method in methods_of(lines):
        by_seed = _by_seed(line for line in lines if line.method == method)
        plastic, why = _plasticity(by_seed, _never_unlearning(method, lines, parts))
        numbers = {
            "erosion": (_erosion(run_dir, method, by_seed, labels), "outputs on retained examples are not complete"),
            "reversal": (_reversal(by_seed), "no request follows an unlearn request"),
            "plasticity": (plastic, why),
        }
        undefined = tuple(f"{name} is undefined: {why}" for name, (value, why) in numbers.items() if value is None)
        known = {name: value for name, (value, _) in numbers.items()}
        found.append(StreamAudit(method, **known, undefined=undefined))
    return found


def _by_seed(lines: Iterable[Line]) -> dict[int, list[Line]]:
    found: dict[int, list[Line]] = {}
    for line in sorted(lines, key=lambda line: line.request):
        found.setdefault(line.seed, []).append(line)
    return found


def _erosion(
    run_dir: Path, method: str, by_seed: Mapping[int, list[Line]], labels: Mapping[int, np.ndarray | None]
) -> Statistic | None:
    values = []
    for seed, own in by_seed.items():
        pairs: tuple[list[float], list[float]] = ([], [])
        for request in (line.request for line in own if line.kind == "unlearn"):
            try:
                arrays = outputs.read(run_dir, outputs.model_file(method, seed, request))
            except FileNotFoundError:
                return None
            sides = BEFORE + "retained", "retained"
            if not all(side in arrays for side in sides) or labels[request] is None:
                return None
            for accuracies, side in zip(pairs, sides, strict=True):
                accuracies.append(float(np.mean(arrays[side].argmax(-1) == labels[request])))
        if pairs[0]:
            values.append(erosion(*pairs))
    return statistic(values) if values else None


def _reversal(by_seed: Mapping[int, list[Line]]) -> Statistic | None:
    """The largest over unlearn requests, of each seed."""
    values = []
    for own in by_seed.values():
        rises = []
        for line in own:
            name = str(line.request)
            pasts = [later.numbers.model.past_UA for later in own if later.request >= line.request]
            history = [past[name] for past in pasts if name in past]
            if line.kind == "unlearn" and len(history) > 1 and np.isfinite(history).all():
                rises.append(reversal(history))
        if rises:
            values.append(max(rises))
    return statistic(values) if values else None


def _never_unlearning(
    method: str, lines: Sequence[Line], parts: Mapping[str, tuple[str, str]]
) -> dict[int, list[Line]] | None:
    learner = parts[method][0]
    same = [name for name in methods_of(lines) if parts[name] == (learner, NEVER_UNLEARNS)]
    return _by_seed(line for line in lines if line.method == same[0]) if same else None


def _plasticity(
    by_seed: Mapping[int, list[Line]], others: Mapping[int, list[Line]] | None
) -> tuple[Statistic | None, str]:
    """Against the same learner and seed with a method that does nothing at requests to unlearn."""
    learned = {seed: _learned_after_unlearning(own) for seed, own in by_seed.items()}
    if not any(learned.values()):
        return None, "nothing new is learned after an unlearn request"
    if others is None:
        return None, f"the run has no method of the same learner with {NEVER_UNLEARNS}, to compare with"
    values = []
    for seed, own in learned.items():
        against = _learned_after_unlearning(others.get(seed, []))
        if own.keys() == against.keys() and own:
            values.append(plasticity(list(own.values()), list(against.values())))
    return (statistic(values), "") if values else (None, f"seeds of {NEVER_UNLEARNS} are other ones")


def _learned_after_unlearning(own: Sequence[Line]) -> dict[int, float]:
    """Test accuracy on the groups that a request was the first to learn, right after it, by request."""
    found: dict[int, float] = {}
    seen: set[str] = set()
    unlearned = False
    for line in own:
        accuracies = line.numbers.model.group_accuracy
        new = [value for name, value in accuracies.items() if name not in seen]
        if unlearned and new and line.kind == "learn" and np.isfinite(new).all():
            found[line.request] = float(np.mean(new))
        seen |= set(accuracies)
        unlearned |= line.kind == "unlearn"
    return found
