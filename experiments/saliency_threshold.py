"""Does the saliency mask help unlearning, at any threshold and of any kind?

    python -m experiments.saliency_threshold --seeds 0:3 --oracle-seeds 3    # Fashion-MNIST, 500 pictures a class
    python -m experiments.saliency_threshold                                 # five seeds, five oracles
    python -m experiments.saliency_threshold --smoke                         # digits, seconds a cell

Reference: the paper's balanced weight saliency `m = 1[s_Q ≥ γ s_R]` and its sweep of γ. Its digest expects of a higher
γ a sparser mask that protects more weights and, too high, lets nothing be unlearned. Memorised samples leave a network
trained from scratch, two classes leave after a stream; one learner, so that the mask is that of the unlearn request
alone. Beside each form without a mask stand the hard mask and the soft one (temperature 1) over two decades, and once
the straight-through one, which is the hard one forward. The statistic costs 16 gradient evaluations a request, which
both forms pay on top of the same steps.

Expected, from the page of the one default (matched E, five seeds): on memorised samples .037 ±.006 for `ug_clu` without
a mask, .173 ±.008 for the paper's form with its hard mask at γ = 1, .176 ±.008 for doing nothing; on classes .132
±.016, and .221 ±.034 for the paper's form, which learned by itself there. About 20 minutes on one core for the first
command: a cell takes one, for only γ and no program changes from cell to cell.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.compared import Measured, difference, lowest, of_row, of_statistic, told
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.ranking import Row
from ugclu_jax.report.summaries import summarise
from ugclu_jax.report.sweep_picture import Panel, Series, sweep_picture
from ugclu_jax.ugclu_plain import PLAIN
from ugclu_jax.ugclu_settings import UNLEARNING

REGIMES = {"memorised": "random_sample", "classes": "class_wise"}
FORMS = {"ug_clu": "ug_clu", "ug_clu_plain": "ug_clu+ug_clu_plain"}
"""The default and the paper's form, both behind the learner of the default."""
PICTURE = "saliency_threshold.png"
UNMASKED = "no mask"


@dataclass(frozen=True)
class SaliencyThresholdOptions(Group):
    """Which masks are compared."""

    thresholds: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """γ of the hard mask; the soft one has every second of them, the straight-through one the middle one."""

    def __post_init__(self) -> None:
        if not self.thresholds or min(self.thresholds) <= 0 or len(set(self.thresholds)) != len(self.thresholds):
            raise ValueError(f"thresholds must be different numbers above 0, got {self.thresholds}")
        super().__post_init__()


@dataclass(frozen=True)
class SaliencyThresholdConfig(StudyOptions, SaliencyThresholdOptions):
    """The study's configuration."""

    @property
    def regimes(self) -> tuple[str, ...]:
        """Of this run: one at smoke size."""
        return ("classes",) if self.smoke else tuple(REGIMES)

    @property
    def forms(self) -> dict[str, str]:
        """Of this run, and their methods: one at smoke size."""
        return {name: FORMS[name] for name in ("ug_clu",)} if self.smoke else FORMS

    @property
    def masks(self) -> dict[str, tuple[float, ...]]:
        """The thresholds of each kind of mask, in their order: two cells at smoke size."""
        every = tuple(sorted(self.thresholds))
        if self.smoke:
            return {"hard": every[:1], "soft": ()}
        return {"hard": every, "soft": every[::2], "straight_through": every[len(every) // 2 :][:1]}


def masked(kind: str, threshold: float) -> dict[str, Any]:
    """What a cell changes: the mask of both forms when they unlearn."""
    own = {"settings": {"mask": kind}, "hyper": {"saliency_threshold": threshold}}
    return {"unlearn": own, "references": {"ug_clu_plain": {"unlearn": own}}}


def cells(options: SaliencyThresholdConfig) -> list[Cell]:
    """One a kind of request, kind of mask and threshold, and one without a mask."""
    found = []
    for regime in options.regimes:
        words = ("--scenario", REGIMES[regime], "--no-counterfactuals", "--methods", *options.forms.values())
        bare = (*words, "do_nothing")
        found.append(Cell(f"{regime}-none", "compare", options.settings(regime, **masked("none", 1.0)), bare))
        found += [
            Cell(name_of(regime, kind, each), "compare", options.settings(regime, **masked(kind, each)), words)
            for kind, thresholds in options.masks.items()
            for each in thresholds
        ]
    return found


def name_of(regime: str, kind: str, threshold: float) -> str:
    """Of a cell with a mask.

    >>> name_of("classes", "hard", 0.1)
    'classes-hard-0.1'
    """
    return f"{regime}-{kind}-{threshold:g}"


def conclude(options: SaliencyThresholdConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances by mask and threshold, each beside none, and what share of each layer a mask leaves free."""
    rows, sentences, panels = [], [], []
    found = {name: measured.rows_of(path) for name, path in folders.items()}
    for regime in options.regimes:
        bare = found[f"{regime}-none"]
        rows += [[f"{regime}, {UNMASKED}", name, *measured.texts(row)] for name, row in bare.items()]
        series: dict[str, Series] = {}
        levels: dict[str, Measured] = {}
        for form, method in options.forms.items():
            own: dict[str, Row | None] = {}
            for kind, thresholds in options.masks.items():
                points = []
                for each in thresholds:
                    row = found[name_of(regime, kind, each)].get(method)
                    own[f"{kind}, γ {each:g}"] = row
                    distance = of_row(row)
                    points += [] if distance is None else [(each, distance)]
                if len(points) > 1:
                    series[f"{form}, {kind}"] = points
            rows += [
                [f"{regime}, {name}", method, *measured.texts(row)] for name, row in own.items() if row is not None
            ]
            sentences.append(f"{regime}, {form}: {verdict(own, bare.get(method))}{forward(own)}")
            without = of_row(bare.get(method))
            levels |= {} if without is None else {f"{form}, {UNMASKED}": without}
        panels.append(Panel(regime, "threshold γ", "E matched", series, options.masks["hard"], levels))
    densities = {
        regime: {each: densities_of(folders[name_of(regime, "hard", each)]) for each in options.masks["hard"]}
        for regime in options.regimes
    }
    first = densities[options.regimes[0]]
    layers = {
        layer: [(each, at[layer]) for each, at in first.items() if layer in at]
        for layer in kernels(next(iter(first.values())))
    }
    panels.append(
        Panel(
            f"{options.regimes[0]}, hard mask",
            "threshold γ",
            "share of weights that may change",
            layers,
            options.masks["hard"],
        )
    )
    sweep_picture(panels, folder / PICTURE)
    defaults = " and ".join(default_of(form) for form in FORMS)
    answer = f"{'. '.join(sentences)}. By default {defaults}. {falls(densities)}"
    distances = Table(
        "Distance by mask and threshold",
        ("request, mask", "method", *measured.HEAD),
        rows,
        "Distances ± standard error, all else ± deviation over seeds. Both forms unlearn what one learner learned.",
    )
    heads = ("request, layer", *(f"γ {each:g}" for each in options.masks["hard"]))
    shares = [
        [f"{regime}, {layer}", *(str(at[layer]) for at in by_threshold.values())]
        for regime, by_threshold in densities.items()
        for layer in next(iter(by_threshold.values()))
    ]
    caption = "Of ug_clu's hard mask at the unlearn request, mean over seeds ± standard error."
    return Findings(answer, (distances, Table("Share of weights that may change", heads, shares, caption)), (PICTURE,))


def verdict(masks: Mapping[str, Row | None], without: Row | None) -> str:
    """What the best and the worst mask of a form are worth against none, by matched E.

    >>> verdict({}, None)
    'seeds were lost without a mask, so there is nothing to compare with'
    """
    bare = of_row(without)
    if bare is None:
        return "seeds were lost without a mask, so there is nothing to compare with"
    distances = {name: of_row(row) for name, row in masks.items()}
    lost = [name for name, each in distances.items() if each is None]
    known = {name: each for name, each in distances.items() if each is not None}
    best = lowest(known)
    if best is None:
        return f"matched E {bare} without a mask; with one, every cell lost seeds"
    worst = max(known, key=lambda name: known[name].value)
    texts = [f"the nearest of {len(known)} masks ({best}) {known[best]}: {told(known[best], bare)}"]
    if worst != best:
        texts.append(f"the farthest ({worst}) {known[worst]}: {told(known[worst], bare)}")
    if lost:
        texts.append(f"seeds were lost with {', '.join(lost)}")
    return f"matched E {bare} without a mask; {'; '.join(texts)}"


def forward(masks: Mapping[str, Row | None]) -> str:
    """What the straight-through mask is to the hard one, whose values it has; nothing where one of them is missing."""
    found = []
    for name, row in masks.items():
        kind, _, threshold = name.partition(", ")
        one, other = of_row(row), of_row(masks.get(f"hard, {threshold}"))
        if kind == "straight_through" and one is not None and other is not None:
            same = "as" if one == other else f"{difference(one, other)} from"
            found.append(f"; at {threshold} the straight-through mask scores {same} the hard one")
    return "".join(found)


def default_of(form: str) -> str:
    """Which mask a form has unless another is asked for."""
    mask = {"ug_clu": UNLEARNING, "ug_clu_plain": PLAIN}[form].mask
    return f"{form} has no mask" if mask == "none" else f"{form} has the {mask} one"


def densities_of(run_dir: Path) -> dict[str, Measured]:
    """What share of each layer the mask of `ug_clu` left free at the last unlearn request, by parameter."""
    own = [each for each in summarise(read_metrics(run_dir)) if each.method == "ug_clu" and each.kind == "unlearn"]
    shares = own[-1].statistics.mask_density if own else {}
    found = {name: of_statistic(share) for name, share in shares.items()}
    return {name: share for name, share in found.items() if share is not None}


def kernels(layers: Iterable[str]) -> list[str]:
    """Those that a picture has room for: not the biases, where there are kernels.

    >>> kernels(["Dense_0/bias", "Dense_0/kernel"]), kernels(["a"])
    (['Dense_0/kernel'], ['a'])
    """
    every = list(layers)
    return [name for name in every if name.endswith("kernel")] or every


def falls(densities: Mapping[str, Mapping[float, Mapping[str, Measured]]]) -> str:
    """How the free share goes with the threshold, over the layers of all kinds of request.

    >>> low, high = {"a": Measured(0.75, None)}, {"a": Measured(0.25, None)}
    >>> falls({"classes": {0.1: low, 10.0: high}})
    'From γ 0.1 to 10 a layer keeps .750–.750, then .250–.250 of its weights free; it rises in no layer.'
    """
    both = [(by[min(by)], by[max(by)]) for by in densities.values()]
    ends = [[share.value for each in both for share in each[end].values()] for end in (0, 1)]
    if not ends[0]:
        return "No run told the density of its mask."
    rising = {
        layer
        for by in densities.values()
        for less, more in zip(sorted(by)[:-1], sorted(by)[1:], strict=True)
        for layer in by[less]
        if by[more][layer].value > by[less][layer].value
    }
    low, high = (f"{min(end):.3f}–{max(end):.3f}".replace("0.", ".") for end in ends)
    least, most = (pick(threshold for by in densities.values() for threshold in by) for pick in (min, max))
    where = f"rises somewhere in {', '.join(sorted(rising))}" if rising else "rises in no layer"
    return f"From γ {least:g} to {most:g} a layer keeps {low}, then {high} of its weights free; it {where}."


STUDY = Study("saliency_threshold", __doc__ or "", SaliencyThresholdConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
