"""Do the iterations of unlearning converge: gradients, distances to the oracles, and turns along the outer steps?

    python -m experiments.convergence --seeds 0:3 --oracle-seeds 3       # what is reported
    python -m experiments.convergence --smoke                            # digits, seconds a cell

Reference: the paper, whose analysis ends before convergence and names it an open question; `docs/convergence.md` has
what can be proved on a quadratic. Memorised samples, and two classes of a jointly trained network, leave Fashion-MNIST
with 500 pictures a class, in three ways: as by default (K 10); in 40 outer steps with the same schedules; in 40 with a
task step and an inner rate that do not fall. A request is stopped after a dozen numbers of outer steps, each time with
the schedules of the whole (`experiments.trajectory`), and looked at.

Exponents p of `c k^-p` are fitted by least squares on logarithms from outer step 1 on, with intervals of 95 % from a
bootstrap over seeds (coarse: there are few); they describe the range that was seen and no limit. Expected: nothing is
known of the exponents; at the end of the default E of about .17 (memorised) and .20 (classes). Time: 12 to 18 minutes
on one core.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.config import merge
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import trajectories
from ugclu_jax.report.format import number

SCENARIOS = {"memorised": "random_sample", "joint_classes": "class_wise"}
METHOD = "ug_clu"
RESAMPLES = 1000
PICTURE = "convergence.png"
TICKS = (0, 1, 2, 5, 10, 20, 40, 100, 200, 400, 1000)
MEASURES = ("remaining gradient", "KL", "E")
"""What exponents are fitted of."""


@dataclass(frozen=True)
class ConvergenceOptions(Group):
    """How long is looked."""

    outer: int = 40
    """Outer steps of the long requests."""
    points: int = 12
    """Numbers of outer steps after which a request is looked at."""

    def __post_init__(self) -> None:
        self.at_least(outer=3, points=3)
        super().__post_init__()


@dataclass(frozen=True)
class ConvergenceConfig(StudyOptions, ConvergenceOptions):
    """The study's configuration."""

    @property
    def ways(self) -> dict[str, dict[str, Any]]:
        """What each way of serving changes; at smoke size one of them, and few steps."""
        still = {"inner_schedule": "constant", "coefficient_decay": False}
        if self.smoke:
            return {"constant": {"settings": {"outer_steps": 3, "inner_steps": 2, **still}}}
        long = {"outer_steps": self.outer}
        return {"default": {}, "long": {"settings": long}, "constant": {"settings": {**long, **still}}}

    @property
    def regimes(self) -> tuple[str, ...]:
        """Those of this run: one at smoke size."""
        return tuple(SCENARIOS)[:1] if self.smoke else tuple(SCENARIOS)


def cells(options: ConvergenceConfig) -> list[Cell]:
    """One a regime and way of serving."""
    found = []
    for regime in options.regimes:
        for way, change in options.ways.items():
            over = merge({"methods": [METHOD]}, {"unlearn": change} if change else {})
            words = ("--scenario", SCENARIOS[regime], "--points", str(options.points))
            found.append(Cell(f"{regime}-{way}", "trajectory", options.settings(regime, **over), words))
    return found


class Energies:
    """E of each point, of any resample of the models.

    Args:
        models: [M, P, N, C] logits of M models at P points.
        oracles: [O, N, C] logits.
    """

    def __init__(self, models: np.ndarray, oracles: np.ndarray) -> None:
        from ugclu_jax.evidence.energy import (
            hellinger_distances,
        )  # it stands on scipy, which `--help` need not wait for

        def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            return hellinger_distances(first, second).mean(0)

        places = range(models.shape[1])
        self.across = np.stack([mean(models[:, p], oracles) for p in places])  # [P, M, O]
        self.within = np.stack([mean(models[:, p], models[:, p]) for p in places])  # [P, M, M]
        among, number_of = mean(oracles, oracles), len(oracles)
        self.among = float((among.sum() - np.trace(among)) / (number_of * (number_of - 1)))

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """E of the models `chosen [m]`, which may repeat: a model and its copy are no pair. [P]; NaN of one alone."""
        different = chosen[:, None] != chosen[None, :]
        if not different.any():
            return np.full(len(self.across), np.nan)
        pairs = self.within[:, chosen[:, None], chosen[None, :]][:, different]
        return 2 * self.across[:, chosen].mean((1, 2)) - pairs.mean(1) - self.among


class Exponent(NamedTuple):
    """p of `c k^-p`: positive where the number falls."""

    value: float
    low: float | None  # 95 % by bootstrap; None of one seed
    high: float | None


def slope(steps: np.ndarray, values: np.ndarray) -> float | None:
    """p by least squares on logarithms, where steps and values are positive; None of fewer than three points.

    >>> round(slope(np.array([0, 1, 2, 4]), np.array([9.0, 4.0, 2.0, 1.0])), 6)
    1.0
    """
    fine = (steps > 0) & (values > 0) & np.isfinite(values)
    if fine.sum() < 3:
        return None
    return -float(np.polyfit(np.log(steps[fine]), np.log(values[fine]), 1)[0])


def exponent(steps: np.ndarray, values: np.ndarray) -> Exponent | None:
    """p of the mean over seeds of `values [S, P]`, and its interval; None of fewer than three points."""
    return _fitted(steps, len(values), lambda chosen: values[chosen].mean(0))


def _fitted(steps: np.ndarray, seeds: int, of: Any) -> Exponent | None:
    value = slope(steps, of(np.arange(seeds)))
    if value is None:
        return None
    rng = np.random.default_rng(0)
    drawn = [slope(steps, of(rng.integers(0, seeds, seeds))) for _ in range(RESAMPLES)] if seeds > 1 else []
    known = [each for each in drawn if each is not None]
    if not known:
        return Exponent(value, None, None)
    low, high = np.quantile(known, [0.025, 0.975])
    return Exponent(value, float(low), float(high))


class Followed(NamedTuple):
    """What a cell measured, over seeds."""

    steps: np.ndarray  # [P]
    numbers: Mapping[str, np.ndarray]  # [S, P], of `trajectories.NUMBERS`
    kl: np.ndarray  # [S, P], mean over oracles, unlearned and test inputs added
    energies: tuple[Energies, Energies]  # on unlearned and test inputs

    def energy(self, chosen: np.ndarray) -> np.ndarray:
        """E of both kinds of inputs together, [P]."""
        return self.energies[0].of(chosen) + self.energies[1].of(chosen)

    def fit(self, measure: str) -> Exponent | None:
        """The exponent of one of `MEASURES`."""
        if measure == "E":
            return _fitted(self.steps, len(self.kl), self.energy)
        return exponent(self.steps, self.kl if measure == "KL" else self.numbers["remaining_gradient"])


def divergences(models: np.ndarray, oracles: np.ndarray) -> np.ndarray:
    """`KL(oracle ‖ model)`, mean over oracles and inputs, from logits [S, P, N, C] and [O, N, C]: [S, P].

    >>> same = np.zeros((1, 1, 2, 3))
    >>> divergences(same, same[0]).tolist()
    [[0.0]]
    """
    from scipy.special import log_softmax

    known = log_softmax(oracles.astype(np.float64), axis=-1)
    p, found = np.exp(known), log_softmax(models.astype(np.float64), axis=-1)
    own = (p * known).sum(-1).mean()
    return own - np.einsum("nc,spnc->sp", p.mean(0), found) / found.shape[2]


def read(run_dir: Path, seeds: tuple[int, ...]) -> Followed:
    """What a cell's run left.

    Raises:
        DamagedFileError, OSError: a file is damaged, or not there.
    """
    oracles = trajectories.read_arrays(run_dir, trajectories.ORACLES)
    found = [trajectories.read_arrays(run_dir, trajectories.file_of(METHOD, seed)) for seed in seeds]
    stacked = {name: np.stack([each[name] for each in found]) for name in (*trajectories.NUMBERS, "unlearned", "test")}
    sides = ("unlearned", "test")
    first, second = (Energies(stacked[side], oracles[side]) for side in sides)
    kl = sum(divergences(stacked[side], oracles[side]) for side in sides)
    numbers = {name: stacked[name] for name in trajectories.NUMBERS}
    return Followed(found[0]["steps"], numbers, np.asarray(kl), (first, second))


def conclude(options: ConvergenceConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """The way of each cell, and exponents."""
    seeds = options.seeds[:2] if options.smoke else options.seeds
    found = {name: read(path, seeds) for name, path in folders.items()}
    fits = {name: {measure: each.fit(measure) for measure in MEASURES} for name, each in found.items()}
    rows = [
        [f"{name}, {steps}", *_texts(each, place)]
        for name, each in found.items()
        for place, steps in enumerate(each.steps)
    ]
    head = ("request, outer steps", "remaining loss", "remaining gradient", "task gradient", "KL", "E", "moved", "turn")
    tables = (
        Table(
            "Exponents of k",
            ("request", *MEASURES),
            [[name, *(_exponent(own[measure]) for measure in MEASURES)] for name, own in fits.items()],
            "p of c k^-p from outer step 1 on, with 95 % intervals of a bootstrap over seeds; above 0: it falls. E and "
            "KL: on unlearned and on retained test inputs, added.",
        ),
        Table(
            "Along the request",
            head,
            rows,
            "Means ± standard error over seeds; E of all seeds together. Gradients: norms over examples of what is "
            "retained, and of what is unlearned. Moved: norm of the way from the point before; turn: the cosine of "
            "that way with the one before it, 1 straight on, below 0 back.",
        ),
    )
    draw(folder / PICTURE, found)
    return Findings(" ".join(said(name, found[name], fits[name]) for name in found), tables, (PICTURE,))


def said(name: str, followed: Followed, fits: Mapping[str, Exponent | None]) -> str:
    """Which of the measures fall, and where the turns end, in a sentence."""
    words = [f"{measure} {_verdict(fit)}" for measure, fit in fits.items()]
    turns = followed.numbers["turn"].mean(0)
    known = turns[np.isfinite(turns)]
    ends = f"; ways turn from a cosine of {number(float(known[0]))} to {number(float(known[-1]))}" if len(known) else ""
    return f"{name}: {', '.join(words)}{ends}."


def _verdict(fit: Exponent | None) -> str:
    if fit is None or fit.low is None or fit.high is None:
        return "cannot be judged"
    kind = "falls" if fit.low > 0 else "grows" if fit.high < 0 else "neither falls nor grows beyond noise"
    return f"{kind} ({_exponent(fit)})"


def _exponent(fit: Exponent | None) -> str:
    if fit is None:
        return "–"
    return number(fit.value) + ("" if fit.low is None else f" [{number(fit.low)}, {number(fit.high)}]")


def _texts(each: Followed, place: int) -> list[str]:
    def text(values: np.ndarray) -> str:
        if np.isnan(values).any():
            return "–"
        error = f" ±{number(float(values.std(ddof=1) / len(values) ** 0.5))}" if len(values) > 1 else ""
        return number(float(values.mean())) + error

    shown = [text(each.numbers[name][:, place]) for name in ("remaining_loss", "remaining_gradient", "task_gradient")]
    energy = float(each.energy(np.arange(len(each.kl)))[place])
    ends = [text(each.numbers[name][:, place]) for name in ("moved", "turn")]
    return [*shown, text(each.kl[:, place]), number(None if np.isnan(energy) else energy), *ends]


def draw(path: Path, found: Mapping[str, Followed]) -> None:
    """Each measure against outer steps, a panel each and a line a cell."""
    import matplotlib
    from matplotlib.figure import Figure

    from ugclu_jax.report.marks import mark_of
    from ugclu_jax.report.svg import MUTED, STYLE, log_scale

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(14.0, 3.9), layout="constrained")
        panels = figure.subplots(1, 4)
        for series, (name, each) in enumerate(found.items()):
            mark = mark_of(series)
            style: dict[str, Any] = {"color": mark.colour, "marker": mark.marker, "linestyle": mark.dashes}
            lines = (
                each.numbers["remaining_gradient"].mean(0),
                each.kl.mean(0),
                each.energy(np.arange(len(each.kl))),
                each.numbers["turn"].mean(0),
            )
            for axes, values in zip(panels, lines, strict=True):
                axes.plot(each.steps, values, label=name, **style)
        last = max(int(each.steps[-1]) for each in found.values())
        titles = (
            "gradient norm of the remaining loss",
            "KL to the oracles, nats",
            "E to the oracles",
            "turn, a cosine",
        )
        for place, (axes, title) in enumerate(zip(panels, titles, strict=True)):
            axes.set(title=title, xlabel="outer steps")
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlim(-0.1, 1.1 * last)
            axes.set_xticks([tick for tick in TICKS if tick <= last])
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            if place < 2:
                log_scale(axes)
            axes.grid(alpha=0.25, linewidth=0.5, color=MUTED)
        panels[3].set_ylim(-1.05, 1.05)
        panels[3].legend(frameon=False, fontsize=7.5)
        figure.savefig(path, dpi=150, facecolor="white")


STUDY = Study("convergence", __doc__ or "", ConvergenceConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
