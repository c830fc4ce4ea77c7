"""Does a buffer that prefers some examples serve better than a uniform sample of all?

    python -m experiments.buffer_sampling --regimes classes              # what is reported
    python -m experiments.buffer_sampling                                # and random samples, twice as long
    python -m experiments.buffer_sampling --smoke                        # digits, seconds a cell

Reference: the paper keeps a reservoir and leaves importance sampling open. A stream of five tasks of Fashion-MNIST, 500
pictures a class, and a buffer of 500; then two classes leave, or 10 % of all samples. The uniform buffer is the null
hypothesis. Against it: weights by the loss, by a bound of the gradient's norm, and by the entropy that the model gives
each example as it enters, half of each weight being uniform; and as many examples of each class of a request
(`ugclu_jax.buffer_sampling`). Model, seeds, oracles and all settings are the default's.

Differences are paired: the same seeds, the same oracles; probabilities are corrected for all comparisons together, by
Holm's procedure. Expected: matched E of the uniform buffer .132 ± .016 (classes) and .129 ± .014 (random), differences
unknown; of an unpaired comparison errors of .02. Time: 12 to 18 minutes a regime on one core.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from ugclu_jax.buffer_sampling import BufferSampling
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured, paired
from ugclu_jax.report.format import number

SCENARIOS = {"classes": "class_wise", "random": "random_sample"}
Regime = Literal["classes", "random"]
NULL, METHOD, LEVEL = "uniform", "ug_clu", 0.05
PICTURE = "buffer_sampling.png"
MEASURES = ("matched E", "E", "KL")


@dataclass(frozen=True)
class BufferSamplingOptions(Group):
    """What is compared, and where."""

    samplings: tuple[BufferSampling, ...] = tuple(name for name in get_args(BufferSampling) if name != NULL)
    """Buffers that are compared with the uniform one."""
    regimes: tuple[Regime, ...] = ("classes", "random")
    """What leaves after the stream."""

    def __post_init__(self) -> None:
        for name, known in (("samplings", get_args(BufferSampling)), ("regimes", get_args(Regime))):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values) or not set(values) <= set(known):
                raise ValueError(f"{name} must be one or more different ones of {', '.join(known)}, got {values}")
        if NULL in self.samplings:
            raise ValueError(f"samplings has {NULL}, which all are compared with anyway: leave it out")
        super().__post_init__()


@dataclass(frozen=True)
class BufferSamplingConfig(StudyOptions, BufferSamplingOptions):
    """The study's configuration."""

    @property
    def compared(self) -> tuple[str, ...]:
        """Against the uniform one: one at smoke size."""
        return self.samplings[:1] if self.smoke else self.samplings

    @property
    def where(self) -> tuple[str, ...]:
        """Regimes of this run: one at smoke size."""
        return self.regimes[:1] if self.smoke else self.regimes


def cells(options: BufferSamplingConfig) -> list[Cell]:
    """One a regime and buffer, the uniform one first."""
    return [
        Cell(
            f"{regime}-{sampling}",
            "compare",
            options.settings(regime, buffer_sampling=sampling),
            ("--scenario", SCENARIOS[regime], "--methods", METHOD, "--no-counterfactuals"),
        )
        for regime in options.where
        for sampling in (NULL, *options.compared)
    ]


class Comparison(NamedTuple):
    """A buffer against the uniform one."""

    regime: str
    sampling: str
    differences: Mapping[str, paired.Difference] | None  # by measure; None: one of both lost a seed


def conclude(options: BufferSamplingConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances, and paired differences to the uniform buffer."""
    rows = []
    for regime in options.where:
        for sampling in (NULL, *options.compared):
            found = measured.rows_of(folders[f"{regime}-{sampling}"])[METHOD]
            rows.append([f"{regime}, {sampling}", *measured.texts(found)])
    compared = [
        _compared(regime, sampling, folders[f"{regime}-{NULL}"], folders[f"{regime}-{sampling}"])
        for regime in options.where
        for sampling in options.compared
    ]
    corrected = {measure: paired.holm([_probability(each, measure) for each in compared]) for measure in MEASURES}
    differences = [
        [f"{each.regime}, {each.sampling}", *(_text(each, measure, corrected[measure][place]) for measure in MEASURES)]
        for place, each in enumerate(compared)
    ]
    tables = (
        Table("Distance and cost by buffer", ("request, buffer", *measured.HEAD), rows, "All with ug_clu."),
        Table(
            "Differences to the uniform buffer",
            ("request, buffer", *MEASURES),
            differences,
            f"Paired over seeds and oracles, ± standard error; below 0: better than uniform. In brackets the "
            f"probability of as large a difference where there is none, corrected for {len(compared)} comparisons.",
        ),
    )
    draw(folder / PICTURE, compared)
    return Findings(said(compared, corrected), tables, (PICTURE,))


def _compared(regime: str, sampling: str, null: Path, other: Path) -> Comparison:
    uniform, own = paired.read_outputs(null, METHOD), paired.read_outputs(other, METHOD)
    if uniform is None or own is None:
        return Comparison(regime, sampling, None)
    found = {
        "matched E": paired.energy_difference(own, uniform),
        "E": paired.energy_difference(own, uniform, matched=False),
        "KL": paired.divergence_difference(own, uniform),
    }
    return Comparison(regime, sampling, found)


def _probability(each: Comparison, measure: str) -> float | None:
    return None if each.differences is None else each.differences[measure].probability


def _text(each: Comparison, measure: str, corrected: float | None) -> str:
    if each.differences is None:
        return "a seed was lost"
    own = each.differences[measure]
    if own.standard_error is None:
        return number(own.value)
    return f"{number(own.value)} ±{number(own.standard_error)} ({number(corrected)})"


def said(compared: list[Comparison], corrected: Mapping[str, list[float | None]]) -> str:
    """What the differences say together, in a sentence or two."""
    lost = [f"{each.regime}, {each.sampling}" for each in compared if each.differences is None]
    known = [
        (measure, each, corrected[measure][place])
        for measure in MEASURES
        for place, each in enumerate(compared)
        if each.differences is not None and corrected[measure][place] is not None
    ]
    if not known:
        return "No difference to the uniform buffer has an error: give three or more seeds and oracles."
    better: list[str] = []
    worse: list[str] = []
    for measure, each, probability in known:
        assert each.differences is not None and probability is not None
        if probability < LEVEL:
            text = f"{each.sampling} by {measure} ({each.regime}, {_text(each, measure, probability)})"
            (better if each.differences[measure].value < 0 else worse).append(text)
    parts = [
        f"nearer to the oracles than uniform: {'; '.join(better)}" if better else "none is nearer than uniform",
        f"farther: {'; '.join(worse)}" if worse else "none is farther",
    ]
    least = min(probability for *_, probability in known if probability is not None)
    text = f"Of {len(compared)} buffers that prefer some examples, {' and '.join(parts)}, beyond noise at {LEVEL:g}"
    text += f" corrected for all; the smallest corrected probability is {number(least)}."
    return text + (f" Seeds were lost by {'; '.join(lost)}." if lost else "")


def draw(path: Path, compared: list[Comparison]) -> None:
    """Differences to uniform with two standard errors, a panel a measure."""
    import matplotlib
    from matplotlib.figure import Figure

    from ugclu_jax.report.marks import mark_of
    from ugclu_jax.report.svg import MUTED, STYLE

    known = [each for each in compared if each.differences is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12.0, 1.4 + 0.32 * max(1, len(known))), layout="constrained")
        panels = figure.subplots(1, len(MEASURES), sharey=True)
        names = [f"{each.regime}, {each.sampling}" for each in known]
        regimes = list(dict.fromkeys(each.regime for each in known))
        for axes, measure in zip(panels, MEASURES, strict=True):
            for height, each in enumerate(known):
                assert each.differences is not None
                own, mark = each.differences[measure], mark_of(regimes.index(each.regime))
                width = 2 * (own.standard_error or 0.0)
                axes.errorbar(own.value, height, xerr=width, color=mark.colour, marker=mark.marker, capsize=2)
            axes.axvline(0, color=MUTED, linewidth=0.8)
            axes.set(title=f"{measure}, less that of uniform", xlabel="± two standard errors; left is better")
            axes.grid(axis="x", alpha=0.25, linewidth=0.5, color=MUTED)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        figure.savefig(path, dpi=150, facecolor="white")


STUDY = Study("buffer_sampling", __doc__ or "", BufferSamplingConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
