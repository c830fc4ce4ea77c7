"""How well does what a model's folder can say without an oracle predict the distance to retraining?

    python -m experiments.oracle_free              # Fashion-MNIST, and emoji (`make data-emoji`), 50 requests each
    python -m experiments.oracle_free --smoke      # digits, seconds a cell

Reference: `ugclu audit` (docs/deletion_request.md), which has no oracle, as nobody in production has. One network is
trained, and then asked many times, each time from that same state: a twentieth of all examples or half of a class is
unlearned, by another method and number of steps, from nothing at all to far too much. After each request stand what an
audit says without an oracle (the population attack, RMIA against small networks that were trained on the buffer,
accuracy and loss on what was unlearned, drift), and the true distance: the mean Hellinger distance on the unlearned
inputs to networks retrained without them, over that of these among themselves. The table is Spearman's rank correlation
of each estimate with it, with a bootstrap interval over requests; a miss is a request that an attack passes (its
interval holds 1/2) while the model is more than twice the floor away. A request that diverges, which a model's folder
refuses, is counted and in no table. Each seed is another trained network, asked ten times; intervals are over all
requests, those of one network too.

Expected: rank correlations of .4 to .8 for loss and drift, about 0 for attacks (docs/results/oracle_free.md). About 15
minutes of one core.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import SMALL, SMALL_SEEDS, Findings, Study, StudyOptions, Table, main

ESTIMATES = ("attack", "rmia", "accuracy", "loss", "drift_held_out", "drift_buffer")
ATTACKS = ("attack", "rmia")
FAR = 2.0
"""Times the floor beyond which a pass is a miss."""
RESAMPLES = 500
EMOJI = Path("data/emoji")
SETS: Mapping[str, Mapping[str, Any]] = {
    "fashion_mnist": {"dataset": "fashion_mnist", "per_class": 200},
    "emoji": {"dataset": "image_folder", "data": {"directory": str(EMOJI), "image_size": 16}, "per_class": 40},
}


@dataclass(frozen=True)
class OracleFreeOptions(Group):
    """What is asked, and how often."""

    sets: tuple[str, ...] = tuple(SETS)
    """Data sets, of which each has one network."""
    requests: int = 10
    """That each network is asked, of which there is one a seed."""

    def __post_init__(self) -> None:
        for name in self.sets:
            if name not in SETS:
                raise ValueError(f"sets names {name!r}; it may name {' and '.join(SETS)}")
        if not self.sets:
            raise ValueError(f"sets is empty; it may name {' and '.join(SETS)}")
        self.at_least(requests=1)
        super().__post_init__()


@dataclass(frozen=True)
class OracleFreeConfig(StudyOptions, OracleFreeOptions):
    """The study's configuration."""


def cells(options: OracleFreeConfig) -> list[Cell]:
    """One for each set of data and seed."""
    from . import estimates  # scipy behind it, which `--help` need not wait for

    if options.smoke:
        small = {name: SMALL[name] for name in ("dataset", "model", "per_class", "capacity", "oracle")}
        sets = {"digits": {**small, "oracle_seeds": SMALL_SEEDS, "requests": len(estimates.METHODS)}}
    else:
        common = {"model": "mlp", "capacity": 500, "oracle": {"epochs": 12, "batch_size": 32}}
        common |= {"oracle_seeds": options.oracle_seeds, "requests": options.requests}
        sets = {name: {**SETS[name], **common} for name in options.sets}
    return [
        Cell(f"{name}-{seed}", "estimates", {**settings, "seeds": [seed]})
        for name, settings in sets.items()
        for seed in options.seeds
    ]


def conclude(_options: OracleFreeConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Rank correlations, and what the attacks miss."""
    from . import estimates  # scipy behind it, which `--help` need not wait for

    tables, sentences = [], []
    for name in dict.fromkeys(cell.rpartition("-")[0] for cell in folders):
        asked = [each for cell, at in folders.items() if cell.rpartition("-")[0] == name for each in estimates.read(at)]
        found, lost = [each for each in asked if "lost" not in each], [each for each in asked if "lost" in each]
        if not found:
            sentences.append(f"{name}: all {len(lost)} requests diverged")
            continue
        excess = [each["distance"] / each["floor"] for each in found]
        ranks = {one: correlation([each[one] for each in found], excess) for one in ESTIMATES}
        rows = [[one, *(f"{value:.2f}" for value in ranks[one])] for one in ESTIMATES]
        caption = f"{len(found)} requests, {min(excess):.1f} to {max(excess):.1f} times the floor from the oracles."
        if lost:
            ends = ", ".join(f"{each['method']} with {each['steps']} steps" for each in lost)
            caption += f" Of {len(asked)} requests these diverged and are in no table: {ends}."
        head = ("estimate", "rank correlation", "95 % from", "to")
        tables.append(Table(f"{name}: correlation with the distance to the oracles", head, rows, caption))
        passed = {attack: passes(found, excess, attack) for attack in ATTACKS}
        tables.append(
            Table(
                f"{name}: requests that an attack passes",
                ("attack", "passes", "of these misses", "methods of the misses"),
                [
                    [attack, f"{len(all_)} of {len(found)}", str(len(misses)), ", ".join(misses) or "–"]
                    for attack, (all_, misses) in passed.items()
                ],
                f"A miss is more than {FAR:g} times the floor from the oracles.",
            )
        )
        best = max(ranks, key=lambda one: abs(ranks[one][0]) if np.isfinite(ranks[one][0]) else -1.0)
        missed = " and ".join(
            f"{len(passed[attack][1])} of the {len(passed[attack][0])} {attack}" for attack in ATTACKS
        )
        sentences.append(
            f"{name}: the distance to the oracles is predicted best by {best} (rank correlation {ranks[best][0]:.2f}, "
            f"{ranks[best][1]:.2f} … {ranks[best][2]:.2f}), by the attack {ranks['attack'][0]:.2f}, by RMIA "
            f"{ranks['rmia'][0]:.2f}; {missed} passes are misses"
        )
    return Findings(". ".join(sentences) + ".", tuple(tables))


def passes(
    found: Sequence[Mapping[str, Any]], excess: Sequence[float], attack: str
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Requests that an attack passes; and of those far from the oracles, the methods and how often each.

    >>> one = {"method": "a", "passes": {"rmia": True}}
    >>> passes([one, one, one | {"method": "b"}], [3.0, 1.0, 9.0], "rmia")[1]
    ['a', 'b']
    """
    passing = [(each, far) for each, far in zip(found, excess, strict=True) if each["passes"][attack]]
    return [each for each, _ in passing], [each["method"] for each, far in passing if far > FAR]


def correlation(estimate: Sequence[float], distance: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's rank correlation and its 95 % bootstrap interval over requests; NaN where either does not vary.

    >>> correlation([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 5.0, 9.0])[0]
    1.0
    """
    from scipy.stats import spearmanr  # half a second that `--help` need not wait for

    x, y, draw = np.asarray(estimate), np.asarray(distance), np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        rows = draw.integers(len(x), size=len(x))
        if len(set(x[rows])) > 1 and len(set(y[rows])) > 1:
            values.append(spearmanr(x[rows], y[rows]).statistic)
    low, high = np.quantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
    whole = spearmanr(x, y).statistic if len(set(x.tolist())) > 1 else np.nan
    return float(whole), float(low), float(high)


STUDY = Study("oracle_free", __doc__ or "", OracleFreeConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
