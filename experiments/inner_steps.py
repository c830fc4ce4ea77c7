"""How many inner steps, how long a slow step, and does the displacement follow the theory's `H_R^{-1} g`?

    python -m experiments.inner_steps --seeds 0:3 --oracle-seeds 3       # what is reported
    python -m experiments.inner_steps --smoke                            # digits, seconds a cell

Reference: the paper's fast-slow update, and its Proposition 3, `θ_k − θ^R ≈ β² H_R^{-1} g`. Memorised samples, and two
classes of a jointly trained network, leave Fashion-MNIST with 500 pictures a class; K_in and α vary, and the number of
outer steps K follows, so that every cell has the gradient evaluations of the default (K 10, K_in 20, α 1); all else is
the default's. Two further cells measure the alignment (`experiments.alignment`): of a network of 1,210 parameters on
digits, in float64 with exact matrices, and of the small CNN, each after several lengths of training.

Expected: at the default matched E of .037 ± .006 (memorised) and .023 ± .012 (classes) with five seeds and oracles;
by the filter `(I − β_R H)^{K_in}` no displacement of one fast step is along `H_R^{-1} g` in every direction, nor has it
the proposition's length where curvature is small. Time: 15 to 20 minutes on one core.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import SMALL, Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import alignments, measured
from ugclu_jax.report.compared import difference, of_row
from ugclu_jax.report.format import number
from ugclu_jax.report.ranking import Row
from ugclu_jax.types import FORWARD_COST
from ugclu_jax.ugclu_settings import UNLEARNING, UNLEARNING_HYPER

SCENARIOS = {"memorised": "random_sample", "joint_classes": "class_wise"}
NETWORKS = {"small": "network of 1,210 parameters, digits, exact", "cnn": "CNN, Fashion-MNIST, conjugate gradients"}
DAMPINGS, DAMPING = (0.1, 0.01), 0.01
"""λ over λ_max(G): all that are kept, and that of the tables and of the answer."""
ALIKE, LONGEST = 0.9, 2.0
"""The proposition holds at a point where the cosine is at least the one, and the quotient of lengths within a factor of
the other."""
PICTURE = "inner_steps.png"
QUICK = ("--rows", "16", "--inner", "2")
"""Words of the alignment at smoke size."""


@dataclass(frozen=True)
class InnerStepsOptions(Group):
    """What is varied."""

    inner: tuple[int, ...] = (1, 2, 5, 10, 20)
    """K_in; the outer steps follow from it."""
    slow: tuple[float, ...] = (0.25, 0.5, 1.0)
    """α."""
    epochs: tuple[int, ...] = (1, 5, 40)
    """Lengths of training at which the alignment is measured."""

    def __post_init__(self) -> None:
        for name in ("inner", "slow", "epochs"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values) or min(values) <= 0:
                raise ValueError(f"{name} must be one or more different positive values, got {values}")
        if max(self.slow) > 1:
            raise ValueError(f"slow must be at most 1, got {max(self.slow):g}: α is a share")
        super().__post_init__()


@dataclass(frozen=True)
class InnerStepsConfig(StudyOptions, InnerStepsOptions):
    """The study's configuration."""

    @property
    def grid(self) -> list[tuple[int, float]]:
        """K_in and α of each cell: two of them at smoke size."""
        inner, slow = ((2,), (0.5, 1.0)) if self.smoke else (self.inner, self.slow)
        return [(one, other) for one in sorted(inner) for other in sorted(slow)]

    @property
    def regimes(self) -> tuple[str, ...]:
        """Those of this run: one at smoke size."""
        return tuple(SCENARIOS)[:1] if self.smoke else tuple(SCENARIOS)

    @property
    def networks(self) -> tuple[str, ...]:
        """Whose alignment is measured: one at smoke size."""
        return tuple(NETWORKS)[:1] if self.smoke else tuple(NETWORKS)


def outer_steps(inner: int, budget: float) -> int:
    """K with which so many inner steps cost a budget: each outer step pays its fast step and the probe of its length.

    >>> [outer_steps(inner, 640 / 3) for inner in (1, 2, 5, 10, 20)]
    [91, 64, 34, 19, 10]
    """
    return max(1, round(budget / (1 + FORWARD_COST + inner)))


def cells(options: InnerStepsConfig) -> list[Cell]:
    """The alignment of each network, then one a regime, K_in and α."""
    chosen = SMALL["unlearn"]["settings"] if options.smoke else vars(UNLEARNING)
    budget = chosen["outer_steps"] * (1 + FORWARD_COST + chosen["inner_steps"])
    model = {"small": {"dataset": "digits", "model": f"{__package__}.alignment:small_network"}, "cnn": {}}
    epochs = ("--epochs", *map(str, (1,) if options.smoke else options.epochs))
    found = [
        Cell(
            f"alignment-{name}",
            "alignment",
            options.settings("memorised", **model[name]),
            (
                "--scenario",
                "random_sample",
                *epochs,
                "--dampings",
                *map(str, DAMPINGS),
                *(QUICK if options.smoke else ()),
            ),
        )
        for name in options.networks
    ]
    for regime in options.regimes:
        for inner, slow in options.grid:
            sizes = {"outer_steps": outer_steps(inner, budget), "inner_steps": inner}
            over = {"unlearn": {"settings": sizes, "hyper": {"slow_step_size": slow}}}
            words = ("--scenario", SCENARIOS[regime], "--methods", "ug_clu", "--no-counterfactuals")
            found.append(Cell(cell_name(regime, inner, slow), "compare", options.settings(regime, **over), words))
    return found


def cell_name(regime: str, inner: int, slow: float) -> str:
    """Of a folder.

    >>> cell_name("memorised", 20, 0.25)
    'memorised-20-0.25'
    """
    return f"{regime}-{inner}-{slow:g}"


def conclude(options: InnerStepsConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances by K_in and α, and the cosines."""
    by_cell = {
        (regime, *pair): measured.rows_of(folders[cell_name(regime, *pair)])["ug_clu"]
        for regime in options.regimes
        for pair in options.grid
    }
    rows = [
        [f"{regime}, K_in {inner}, α {slow:g}", *measured.texts(row)] for (regime, inner, slow), row in by_cell.items()
    ]
    points = {name: alignments.read(folders[f"alignment-{name}"]) for name in options.networks}
    sentences = [_best(regime, {key[1:]: row for key, row in by_cell.items() if key[0] == regime}) for regime in
                 options.regimes]  # fmt: skip
    sentences += [held(name, means(points[name])) for name in options.networks]
    tables = [Table("Quality and cost", ("request, K_in, α", *measured.HEAD), rows, "All with ug_clu.")]
    for name in options.networks:
        tables += alignment_tables(NETWORKS[name], means(points[name]))
    draw(folder / PICTURE, by_cell, {name: means(points[name]) for name in options.networks})
    return Findings(" ".join(sentences), tuple(tables), (PICTURE,))


def _best(regime: str, found: Mapping[tuple[int, float], Row]) -> str:
    """The nearest cell against the default's, or the last where that is not in the grid."""
    whole = {key: distance for key, row in found.items() if (distance := of_row(row)) is not None}
    default = (UNLEARNING.inner_steps, float(UNLEARNING_HYPER.slow_step_size))
    usual = default if default in whole else max(whole, default=None)
    if usual is None:
        return f"{regime}: no cell finished all seeds."
    best = min(whole, key=lambda key: whole[key].value)
    text = f"{regime}: matched E {number(whole[usual].value)} with K_in {usual[0]} and α {usual[1]:g}"
    if best == usual:
        return f"{text}, the nearest of {len(whole)} cells."
    text += f", least {number(whole[best].value)} with K_in {best[0]} and α {best[1]:g}"
    gap = difference(whole[usual], whole[best])
    if gap.standard_error is None:
        return f"{text} (too few seeds for an error)."
    known = "" if gap.beyond_noise else ": no difference beyond noise"
    return f"{text}, a difference of {number(gap.value)} ± {number(gap.standard_error)}{known}."


class Place(NamedTuple):
    """Where a displacement was measured, seeds apart."""

    epochs: int
    form: str
    by: str
    inner: int
    matrix: str
    damping: float | None  # None: 1 / (β_R K_in)


class Mean(NamedTuple):
    """Over seeds; None where the matrix was definite for no seed."""

    cosine: float | None
    error: float | None  # standard error of it
    quotient: float | None  # geometric mean


def means(points: Sequence[Mapping[str, Any]]) -> dict[Place, Mean]:
    """Means over the seeds of each place at which every seed has a value."""
    found: dict[Place, list[tuple[float | None, float | None]]] = {}
    for point in points:
        for row in point["rows"]:
            place = Place(point["epochs"], *(row[key] for key in ("form", "by", "inner", "matrix", "damping")))
            found.setdefault(place, []).append((row["cosine"], row["quotient"]))
    return {place: _mean(values) for place, values in found.items()}


def _mean(values: Sequence[tuple[float | None, float | None]]) -> Mean:
    cosines = [cosine for cosine, _ in values if cosine is not None]
    quotients = [quotient for _, quotient in values if quotient is not None]
    if len(cosines) < len(values):
        return Mean(None, None, None)
    error = statistics.stdev(cosines) / len(cosines) ** 0.5 if len(cosines) > 1 else None
    return Mean(statistics.mean(cosines), error, statistics.geometric_mean(quotients))


def reference(found: Mapping[Place, Mean], epochs: int, form: str, by: str, inner: int) -> tuple[str, Mean]:
    """With H where H + λI is positive definite for every seed, else with G; λ is `DAMPING` of λ_max."""
    own = found[Place(epochs, form, by, inner, "H", DAMPING)]
    if own.cosine is not None:
        return "H", own
    return "G", found[Place(epochs, form, by, inner, "G", DAMPING)]


def held(name: str, found: Mapping[Place, Mean]) -> str:
    """Where Proposition 3 held, of the paper's form with gradient descent, and how much Adam changes."""
    places = sorted({(place.epochs, place.inner) for place in found if place.form == "fast"})
    plain = {at: reference(found, at[0], "fast", "sgd", at[1])[1] for at in places}
    natural = {at: found[Place(at[0], "fast", "sgd", at[1], "G", None)] for at in places}
    most = max(inner for _, inner in places)
    last = (max(epochs for epochs, _ in places), most)
    both = [at for at in places if _holds(plain[at])]
    every = reference(found, last[0], "every", "sgd", most)[1]
    adam = reference(found, last[0], "fast", "adam", most)[1]
    none = reference(found, last[0], "gradient", "-", 0)[1]
    smooth = [mean.cosine for mean in natural.values() if mean.cosine is not None]
    if not smooth:
        return f"Proposition 3, {NETWORKS[name]}: nothing could be solved."
    verdict = "what the inner steps make is that damped inverse" if min(smooth) >= ALIKE else "not everywhere alike"
    return (
        f"Proposition 3, {NETWORKS[name]}: direction and length hold at {len(both)} of {len(places)} points with λ = "
        f"{DAMPING:g} λ_max, direction alone at {sum(_along(plain[at]) for at in places)}. At epochs {last[0]} and "
        f"{most} inner steps the cosine is {_text(plain[last])}, that of the raw gradient {_text(none)}, with Adam "
        f"{_text(adam)}, with the task gradient in every inner step {_text(every)}. With the filter's own damping, "
        f"1 / (β_R K_in), it is {number(min(smooth))} to {number(max(smooth))} over all points: {verdict}."
    )


def _along(mean: Mean) -> bool:
    return mean.cosine is not None and mean.cosine >= ALIKE


def _holds(mean: Mean) -> bool:
    return _along(mean) and mean.quotient is not None and 1 / LONGEST <= mean.quotient <= LONGEST


def _text(mean: Mean) -> str:
    return number(mean.cosine) + ("" if mean.error is None else f" ±{number(mean.error)}")


def alignment_tables(name: str, found: Mapping[Place, Mean]) -> list[Table]:
    """Cosines and quotients by K_in, with the common damping and with the filter's own."""
    kinds = sorted({(p.epochs, p.form, p.by) for p in found if p.form != "gradient"}, key=lambda k: (k[0], k[1], k[2]))
    numbers = sorted({place.inner for place in found if place.form != "gradient"})
    head = ("epochs, form, inner steps by", *(f"K_in {inner}" for inner in numbers))
    rows = [
        [
            f"{epochs}, {form}, {by}",
            *(f"{matrix} {_text(m)} ({number(m.quotient)})" for inner in numbers
              for matrix, m in [reference(found, epochs, form, by, inner)]),
        ]
        for epochs, form, by in kinds
    ]  # fmt: skip
    own = [
        [f"{epochs}, {form}", *(f"{_text(m)} ({number(m.quotient)})" for inner in numbers
                               for m in [found[Place(epochs, form, "sgd", inner, "G", None)]])]
        for epochs, form, by in kinds if by == "sgd"
    ]  # fmt: skip
    alone = ", ".join(
        f"{matrix} {_text(mean)} at {epochs}"
        for epochs in sorted({place.epochs for place in found})
        for matrix, mean in [reference(found, epochs, "gradient", "-", 0)]
    )
    return [
        Table(
            f"Alignment, {name}",
            head,
            rows,
            f"Cosine of the displacement with `(A + λI)^{{-1}} g`, λ = {DAMPING:g} λ_max(G), ± standard error over "
            "seeds, and in brackets the quotient of lengths, 1 by the theory. A = H where that is positive definite, "
            f"else G. The gradient itself: {alone} epochs. sgd: at the rate 1 / |λ|_max of H and G.",
        ),
        Table(
            f"Alignment with the filter's own damping, {name}",
            ("epochs, form", *head[1:]),
            own,
            "The same with `(G + λI)^{-1} g`, λ = 1 / (β_R K_in); gradient descent.",
        ),
    ]


def draw(path: Path, rows: Mapping[tuple[str, int, float], Row], points: Mapping[str, Mapping[Place, Mean]]) -> None:
    """Matched E against K_in, a panel a regime, and cosines after the longest training, a panel a network."""
    import matplotlib
    from matplotlib.figure import Figure

    from ugclu_jax.report.marks import mark_of
    from ugclu_jax.report.svg import MUTED, STYLE

    with matplotlib.rc_context(STYLE):
        regimes = list(dict.fromkeys(key[0] for key in rows))
        number_of = len(regimes) + len(points)
        figure = Figure(figsize=(4.2 * number_of, 3.9), layout="constrained")
        panels = list(figure.subplots(1, number_of, squeeze=False)[0])
        for axes, regime in zip(panels, regimes, strict=False):
            for place, slow in enumerate(sorted({key[2] for key in rows if key[0] == regime})):
                own = [
                    (key[1], row.matched) for key, row in sorted(rows.items()) if key[0] == regime and key[2] == slow
                ]
                kept = [(inner, pair) for inner, pair in own if pair is not None]
                mark = mark_of(place)
                axes.errorbar(
                    [inner for inner, _ in kept],
                    [pair.value for _, pair in kept],
                    [pair.standard_error or 0.0 for _, pair in kept],
                    color=mark.colour, marker=mark.marker, linestyle=mark.dashes, capsize=2, label=f"α {slow:g}",
                )  # fmt: skip
            axes.set(title=regime, ylabel="matched E to the oracles")
        for axes, (name, found) in zip(panels[len(regimes) :], points.items(), strict=True):
            last = max(place.epochs for place in found)
            inner = sorted({place.inner for place in found if place.form == "fast"})
            lines = [(f"{form}, {by}", [reference(found, last, form, by, j)[1] for j in inner])
                     for form in alignments.FORMS for by in ("sgd", "adam")]  # fmt: skip
            lines.append(
                ("fast, sgd; λ = 1/(β K_in)", [found[Place(last, "fast", "sgd", j, "G", None)] for j in inner])
            )
            for place, (label, values) in enumerate(lines):
                mark = mark_of(place)
                heights = [float("nan") if mean.cosine is None else mean.cosine for mean in values]
                axes.plot(inner, heights, color=mark.colour, marker=mark.marker, linestyle=mark.dashes, label=label)
            alone = reference(found, last, "gradient", "-", 0)[1].cosine
            if alone is not None:
                axes.axhline(alone, color=MUTED, linewidth=0.8)
                axes.annotate("the gradient itself", (inner[0], alone), fontsize=7.5, color=MUTED, va="bottom")
            axes.set(title=f"{name}: cosine, epochs {last}", ylabel="cosine with (A + λI)⁻¹ g", ylim=(-0.1, 1.05))
        for axes in panels:
            axes.set_xlabel("inner steps K_in")
            axes.set_xscale("log")
            axes.set_xticks(sorted({key[1] for key in rows}))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.grid(alpha=0.25, linewidth=0.5, color=MUTED)
            axes.legend(frameon=False, fontsize=7.5)
        figure.savefig(path, dpi=150, facecolor="white")


STUDY = Study("inner_steps", __doc__ or "", InnerStepsConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
