"""Does a method of unlearning wear out over a hundred requests?

    python -m experiments.long_stream --seeds 0:3 --oracle-seeds 3     # digits, about 15 minutes of one core
    python -m experiments.long_stream --smoke                          # a minute

Reference: erosion, reversal, plasticity (`ugclu_jax.evidence`); the streams of the paper have ten requests. A class of
the digits is cut into three tasks. A window of 15 of these 30 slides over them, and over them again: from request 16
on, the oldest task is unlearned and the next one learned, those that were unlearned before too. A class thus leaves in
three parts, and the third leaves nothing of it. Oracles are trained after each of the 43 unlearn requests, on all that
is retained there, and after no other; slopes are over these. All methods learn by ug_clu; all settings are those of the
one default.

Expected: on the six regimes of docs/results/one_default.md ug_clu leads or ties, at one unlearn request each; nothing
is known of a hundred. Of 16 requests with three seeds on whole classes, E .11 ± .13 of ug_clu, .15 ± .13 of
finetune_remain.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.format import mean_text, statistic_text
from ugclu_jax.report.metrics import Line, read_metrics
from ugclu_jax.report.ranking import distance_of
from ugclu_jax.report.summaries import Statistic, statistic

if TYPE_CHECKING:
    from ugclu_jax.evidence import Estimate
    from ugclu_jax.report.stream_audit import StreamAudit
    from ugclu_jax.report.trends import Along

OURS = "ug_clu"
METHODS = (OURS, "finetune_remain", "neg_grad_plus", "salun", "sfron", "retrain_on_buffer", "do_nothing")
CLASSES, PARTS = 10, 3
PICTURE = "long_stream.png"


@dataclass(frozen=True)
class LongStreamOptions(Group):
    """The stream, and who is served it."""

    requests: int = 100
    """Requests of the stream, more than the window holds."""
    window: int = 15
    """Tasks of 30 that are retained at a time."""
    methods: tuple[str, ...] = METHODS
    """Methods, ug_clu and do_nothing among them: the slope of the first is compared, plasticity is to the second."""

    def __post_init__(self) -> None:
        if not 1 <= self.window < CLASSES * PARTS:
            raise ValueError(f"window must be in 1 … {CLASSES * PARTS - 1}, got {self.window}")
        self.at_least(requests=self.window + 4)
        missing = [name for name in (OURS, "do_nothing") if name not in self.methods]
        if missing:
            raise ValueError(f"methods must have {missing[0]} among them, got {' '.join(self.methods)}")
        super().__post_init__()


@dataclass(frozen=True)
class LongStreamConfig(StudyOptions, LongStreamOptions):
    """The study's configuration."""


def sliding(tasks: int, window: int, requests: int) -> str:
    """The requests of a window that slides over tasks, and over them again.

    >>> sliding(3, 2, 8)
    'L1 L2 U1 L3 U2 L1 U3 L2'
    """
    found = [f"L{task + 1}" for task in range(window)]
    for place in range(requests - window):
        oldest = place // 2
        found.append(f"L{(window + oldest) % tasks + 1}" if place % 2 else f"U{oldest % tasks + 1}")
    return " ".join(found[:requests])


def cells(options: LongStreamConfig) -> list[Cell]:
    """One: what a stream does is seen within a run."""
    window, requests = (5, 12) if options.smoke else (options.window, options.requests)
    methods = (OURS, "do_nothing") if options.smoke else options.methods
    settings = options.settings(
        "digits", tasks=CLASSES, parts=PARTS, sequence=sliding(CLASSES * PARTS, window, requests), oracles="milestones"
    )
    words = ("--scenario", "task_aware", "--no-counterfactuals", "--methods", *methods)
    return [Cell("stream", "compare", settings, words)]


def conclude(_options: LongStreamConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Means and slopes of the distances, and what the stream did."""
    from ugclu_jax.report.stream_audit import over_the_stream  # scipy, which `--help` need not wait for
    from ugclu_jax.report.trends import estimate_text, of_run, slopes

    run_dir = folders["stream"]
    lines, rows = read_metrics(run_dir), measured.rows_of(run_dir)
    audits = {each.method: each for each in over_the_stream(run_dir, lines, {name: split_name(name) for name in rows})}
    last, curves = max(line.request for line in lines), of_run(run_dir)
    distances, stream = [], []
    for name, row in rows.items():
        own, found = [line for line in lines if line.method == name], curves.get(name)
        at = [line for line in own if line.kind == "unlearn"]
        kl = [distance for line in at if (distance := distance_of(line.numbers.model.KL)) is not None]
        distances.append(
            [
                name,
                *([estimate_text(each) for each in (found.mean(), found.slope())] if found else ["–", "–"]),
                mean_text(statistic(kl) if kl else None),
                estimate_text(slopes(at, lambda line: distance_of(line.numbers.model.KL))),
                estimate_text(slopes(at, lambda line: line.numbers.model.LA)),
                f"{row.seeds - row.unfinished} of {row.seeds}",
            ]
        )
        stream.append([name, *_of_the_stream(audits[name], own, last)])
    against = {name: found.minus(curves[OURS]) for name, found in curves.items() if OURS in curves and name != OURS}
    compared = [
        [name, *(estimate_text(each) for each in (found.mean(), found.slope()))] for name, found in against.items()
    ]
    picture(curves, folder / PICTURE)
    tables = (
        Table(
            "Distance along the stream",
            ("method", "E", "slope of E", "KL", "slope of KL", "slope of LA", "seeds finished"),
            distances,
            "Over all unlearn requests, E and KL on unlearned plus on test inputs; slopes for 100 "
            "requests, ± standard error over models and oracles (E) and over seeds (others).",
        ),
        Table(
            f"Less that of {OURS}",
            ("method", "E", "slope of E"),
            compared,
            "Above 0: further from the oracles, or wearing out faster. Errors that models of one seed share cancel.",
        ),
        Table(
            "What the stream does",
            ("method", "FM", "erosion", "reversal", "plasticity", "LA", "UA", "RTE s, first half", "second half"),
            stream,
            "FM and LA are those at the end. Erosion: fall of accuracy on retained examples by an unlearn request. "
            "Reversal: largest rise of UA after an unlearning. Plasticity: accuracy on a task just learned, less that "
            "of do_nothing. UA and RTE: means over requests to unlearn. ± deviation over seeds.",
        ),
        Table(
            "Averaged over milestones",
            ("method", *measured.HEAD),
            [[name, *measured.texts(row)] for name, row in rows.items()],
        ),
    )
    return Findings(answer(curves, against), tables, (PICTURE,))


def _of_the_stream(audit: "StreamAudit", lines: Sequence[Line], last: int) -> list[str]:
    def of(values: list[float | None]) -> Statistic | None:
        known = [value for value in values if value is not None]
        return statistic(known) if known else None

    ends = [line.numbers for line in lines if line.request == last]
    at = [line for line in lines if line.kind == "unlearn"]
    middle = (min(line.request for line in at) + last) / 2 if at else 0.0
    halves = [line for line in at if line.request <= middle], [line for line in at if line.request > middle]
    return [
        statistic_text(of([numbers.model.FM for numbers in ends])),
        *(statistic_text(value) for value in (audit.erosion, audit.reversal, audit.plasticity)),
        statistic_text(of([numbers.model.LA for numbers in ends])),
        mean_text(of([line.numbers.model.UA for line in at])),
        *(mean_text(of([line.numbers.timing.RTE for line in half])) for half in halves),
    ]


def answer(curves: "Mapping[str, Along]", against: "Mapping[str, Along]") -> str:
    """Whether ours wears out, and who wears out faster or slower, beyond two standard errors."""
    from ugclu_jax.report.trends import estimate_text

    if OURS not in curves:
        return f"Fewer than two seeds of {OURS} reached the end: nothing can be said of its distance."
    own, mean = curves[OURS].slope(), curves[OURS].mean()
    sentences = [f"{_trend(own)}: its E changes by {estimate_text(own)} in 100 requests, at {estimate_text(mean)}"]
    faster: list[str] = []
    slower: list[str] = []
    alike: list[str] = []
    for name, found in against.items():
        difference = found.slope()
        beyond = difference.beyond_noise()
        if beyond is not None:
            place = alike if not beyond else faster if difference.value > 0 else slower
            place.append(f"{name} ({estimate_text(difference)})")
    parts = [
        f"{head} {', '.join(names)}"
        for head, names in (
            ("wearing out faster than it:", faster),
            ("slower:", slower),
            ("no difference beyond noise (two standard errors):", alike),
        )
        if names
    ]
    return "; ".join([*sentences, *parts]) + "."


def _trend(slope: "Estimate") -> str:
    beyond = slope.beyond_noise()
    if beyond is None:
        return f"With two seeds nothing can be said of whether {OURS} wears out"
    if not beyond:
        return f"{OURS} has no trend beyond noise"
    return f"{OURS} wears out" if slope.value > 0 else f"{OURS} does not wear out, it comes nearer to the oracles"


def picture(curves: "Mapping[str, Along]", path: Path) -> None:
    """E against the request, a line a method, and its least-squares line."""
    import matplotlib
    from matplotlib.figure import Figure

    from ugclu_jax.report.marks import mark_of
    from ugclu_jax.report.svg import MUTED, STYLE, log_scale

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 5.0), layout="constrained")
        axes = figure.add_subplot()
        for place, (name, found) in enumerate(curves.items()):
            colour, marker, dashes, fill = mark_of(place)
            times, values = np.array(found.requests) + 1, np.array(found.each())
            style: dict[str, Any] = dict(color=colour, marker=marker, fillstyle=fill)
            axes.plot(times, values, **style, linestyle="none", alpha=0.55)
            slope, start = np.polyfit(times, values, 1)
            axes.plot(times, start + slope * times, color=colour, linestyle=dashes)
            axes.plot([], [], **style, linestyle=dashes, label=name)
        every = [value for found in curves.values() for value in found.each()]
        if every and min(every) > 0 and max(every) > 8 * min(every):
            log_scale(axes)
        axes.set_xlabel("request")
        axes.set_ylabel("E to the oracles, on unlearned plus on test inputs")
        axes.set_title("Distance to the oracles after each unlearn request, and its trend")
        axes.grid(alpha=0.25, linewidth=0.5, color=MUTED)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(path, dpi=150, facecolor="white")


STUDY = Study("long_stream", __doc__ or "", LongStreamConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
