"""Distances between the models of a method and the oracles, as distributions over seeds: what methods are ranked by.

Computed from the outputs that a run left (`outputs`), and kept in `evidence.json`. This file alone knows its keys; they
are the fields' names.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax import seals
from ugclu_jax.report import outputs
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.summaries import methods_of

FILE = "evidence.json"
LEAST_MODELS = 2
"""Seeds of a method, and oracles, below which there is no distance between distributions."""
COUNTERFACTUAL = "never learned, by "
"""Before the name of a learner: its models that were never asked to learn what is unlearned, with replay."""
LEAST_FRESH = 4
"""Oracles below which it cannot be said how far from 0 fresh oracles would lie."""


class Energy(NamedTuple):
    """An energy distance."""

    value: float
    standard_error: float | None  # None: fewer than three models or oracles


class Pair(NamedTuple):
    """It on unlearned inputs and on test inputs of what is retained, which a method trades against each other."""

    unlearned: Energy
    test: Energy

    @property
    def value(self) -> float:
        """Their sum, by which methods are ranked."""
        return self.unlearned.value + self.test.value

    @property
    def standard_error(self) -> float | None:
        """At most: both are of the same models, and err together at worst."""
        parts = (self.unlearned.standard_error, self.test.standard_error)
        return None if parts[0] is None or parts[1] is None else parts[0] + parts[1]


class Evidence(NamedTuple):
    """What is known of a method's models after a request, as a distribution over seeds."""

    method: str
    request: int
    seeds: tuple[int, ...]
    oracles: int
    energy: Pair | None = None  # to the oracles
    matched: Pair | None = None  # each model as sure of itself as the oracles are
    before: Pair | None = None  # of the models that the request found, to the oracles
    counterfactual: Pair | None = (
        None  # to models of the same learner that never saw it, with replay: the unlearner's own
    )
    learning_alone: Pair | None = None  # the same without replay
    fresh: Pair | None = None  # 0 and its standard error: what as many fresh oracles would score
    undefined: str = ""  # why there is no distance


def gather(run_dir: Path, lines: Iterable[Line], learners: Mapping[str, str] = MappingProxyType({})) -> list[Evidence]:
    """The evidence of a run, from its outputs.

    Args:
        run_dir: the run's folder.
        lines: of its metrics.
        learners: of each method; only theirs are compared with counterfactuals.

    Returns:
        One entry for each method and each request after which outputs of the oracles were kept, and one for the
        counterfactuals of each learner, which `COUNTERFACTUAL` names.

    Raises:
        ValueError: a file of outputs is damaged.
        OSError: the folder's digests are.
    """
    lines = list(lines)
    found = []
    for request in requests_of(run_dir, lines):
        oracles = _oracles(run_dir, request)
        for method in methods_of(lines):
            seeds = [line.seed for line in lines if (line.method, line.request) == (method, request)]
            if seeds:
                stack = outputs.stack(run_dir, {seed: outputs.model_file(method, seed, request) for seed in seeds})
                measured = _measured(method, request, stack, oracles)
                if measured.energy is not None and method in learners:
                    replayed, alone = (
                        _from_counterfactual(run_dir, learners[method], replay, request, stack)
                        for replay in (True, False)
                    )
                    measured = measured._replace(counterfactual=replayed, learning_alone=alone)
                found.append(measured)
        for learner in dict.fromkeys(learners.values()):
            seeds = sorted({line.seed for line in lines if learners.get(line.method) == learner})
            stack = _counterfactuals(run_dir, learner, True, request, seeds)
            if stack.members:
                found.append(_measured(COUNTERFACTUAL + learner, request, stack, oracles))
    return found


def _counterfactuals(run_dir: Path, learner: str, replay: bool, request: int, seeds: Iterable[int]) -> outputs.Stack:
    names = {seed: outputs.counterfactual_file(learner, replay, seed, request) for seed in seeds}
    return outputs.stack(run_dir, names)


def _from_counterfactual(run_dir: Path, learner: str, replay: bool, request: int, stack: outputs.Stack) -> Pair | None:
    """The distance of models from the counterfactuals of the same seeds; None where one of these is not there."""
    others = _counterfactuals(run_dir, learner, replay, request, stack.members)
    if others.missing or not all(np.isfinite(array).all() for array in others.sets.values()):
        return None
    return _pair(stack.sets, others.sets, same_seeds=True)


def requests_of(run_dir: Path, lines: Iterable[Line]) -> list[int]:
    """Requests of a run after which outputs of oracles were kept, also where they are gone.

    Raises:
        OSError: the folder's digests are damaged.
    """
    names = {request: outputs.oracle_file(request) for request in sorted({line.request for line in lines})}
    return [at for at, name in names.items() if (run_dir / name).is_file() or seals.knows(run_dir, name)]


def _oracles(run_dir: Path, request: int) -> outputs.Arrays:
    """Nothing where they are gone: a request that has no distance must not fall out of an average unsaid."""
    try:
        return outputs.read(run_dir, outputs.oracle_file(request))
    except FileNotFoundError:
        return {}


def _measured(method: str, request: int, stack: outputs.Stack, oracles: outputs.Arrays) -> Evidence:
    own, number = stack.sets, len(oracles["unlearned"]) if "unlearned" in oracles else 0
    entry = Evidence(method, request, stack.members, number)
    if not oracles:
        return entry._replace(undefined="outputs of the oracles are gone from the run's folder")
    if stack.missing:
        gone = ", ".join(map(str, stack.missing))
        return entry._replace(undefined=f"outputs of seed {gone} are gone from the run's folder")
    if not all(name in each for name in Pair._fields for each in (own, oracles)):
        return entry._replace(undefined="there are no outputs on unlearned and on test inputs")
    if len(stack.members) < LEAST_MODELS:
        return entry._replace(undefined="one seed is no distribution of models: give two or more")
    finite = all(np.isfinite(own[name]).all() for name in Pair._fields)
    if not finite:
        return entry._replace(undefined="outputs are not finite")
    before = [own.get(outputs.BEFORE + name) for name in Pair._fields]
    return entry._replace(
        energy=_pair(own, oracles),
        matched=_matched(own, oracles),
        fresh=_fresh(oracles, len(stack.members)),
        before=None if before[0] is None or before[1] is None else _pair(_before(own), oracles),
    )


def _before(own: outputs.Arrays) -> dict[str, np.ndarray]:
    return {name: own[outputs.BEFORE + name] for name in Pair._fields}


def _energy(value: float, standard_error: float) -> Energy:
    return Energy(value, None if math.isnan(standard_error) else standard_error)


def _pair(own: outputs.Arrays, others: outputs.Arrays, *, same_seeds: bool = False) -> Pair:
    from ugclu_jax.evidence import energy_distance  # scipy, which `--help` need not wait for; so below

    found = (energy_distance(own[name], others[name], same_seeds=same_seeds) for name in Pair._fields)
    return Pair(*(_energy(*each[:2]) for each in found))


def _fresh(oracles: outputs.Arrays, models: int) -> Pair | None:
    """None below four oracles, which say nothing of how their distances vary."""
    from ugclu_jax.evidence import fresh_standard_error

    if len(oracles["test"]) < LEAST_FRESH:
        return None
    return Pair(*(Energy(0.0, fresh_standard_error(oracles[name], models)) for name in Pair._fields))


def _matched(own: outputs.Arrays, oracles: outputs.Arrays) -> Pair | None:
    """None where no temperature makes a model as sure as the oracles."""
    from ugclu_jax.evidence import NoTemperatureError, matched_energy_distance

    test = own["test"], oracles["test"]
    try:
        return Pair(*(_energy(*matched_energy_distance(own[n], oracles[n], *test)[:2]) for n in Pair._fields))
    except NoTemperatureError:
        return None


PAIRS = ("energy", "matched", "before", "counterfactual", "learning_alone", "fresh")


def write(run_dir: Path, found: Sequence[Evidence]) -> None:
    """Keep what `gather` found."""
    seals.write(run_dir, FILE, (json.dumps([_as_json(each) for each in found], indent=1) + "\n").encode())


def _as_json(tree: Any) -> Any:
    if hasattr(tree, "_asdict"):
        return {name: _as_json(value) for name, value in tree._asdict().items()}
    return list(tree) if isinstance(tree, tuple) else tree


def read(run_dir: Path) -> list[Evidence]:
    """What `write` kept; nothing where a run has not come to its evidence yet.

    Raises:
        ValueError: it is damaged, or gone.
    """
    try:
        if not (run_dir / FILE).exists() and seals.knows(run_dir, FILE):  # without it KL would rank, unsaid
            raise ValueError("it is gone")
        return [_from_json(each) for each in json.loads(seals.read(run_dir, FILE))]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ValueError(
            f"{str(run_dir / FILE)!r} is damaged ({error}); resume the run, which writes it again"
        ) from error


def _from_json(entry: Mapping[str, Any]) -> Evidence:
    def pair(sides: Mapping[str, Any] | None) -> Pair | None:
        return None if sides is None else Pair(Energy(**sides["unlearned"]), Energy(**sides["test"]))

    pairs = {name: pair(entry[name]) for name in PAIRS}
    return Evidence(**{**entry, "seeds": tuple(entry["seeds"]), **pairs})


def averaged(pairs: Sequence[Pair]) -> Pair | None:
    """Mean over requests; errors of the same models are taken to go together.

    >>> averaged([Pair(Energy(0.25, 0.1), Energy(0.5, 0.1)), Pair(Energy(0.75, 0.1), Energy(0.5, 0.3))]).value
    1.0
    """
    if not pairs:
        return None
    return Pair(*(_mean([getattr(pair, side) for pair in pairs]) for side in Pair._fields))


def _mean(energies: Sequence[Energy]) -> Energy:
    errors = [each.standard_error for each in energies if each.standard_error is not None]
    value = sum(each.value for each in energies) / len(energies)
    return Energy(value, sum(errors) / len(errors) if len(errors) == len(energies) else None)
