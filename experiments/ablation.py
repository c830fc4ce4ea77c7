"""Which parts of UG-CLU does unlearning need?

    python -m experiments.ablation --seeds 0:3 --oracle-seeds 3    # Fashion-MNIST, 500 pictures a class
    python -m experiments.ablation                                 # five seeds, five oracles
    python -m experiments.ablation --smoke                         # digits, seconds a cell

Reference: the paper's parts (unlearning by ascent, preserving steps on the buffer, the balanced mask, adaptive
coefficients, slow interpolation) and what the default has in their place: a step as long as the outputs may move, Adam,
decay as a budget, distillation from the network at the start. One part at a time is taken away, or put back where the
default left it out; nothing is searched anew, so that a part that others make up for looks needless here. Unlearners
stand behind one learner; the parts of the learner are taken away in a stream, before one unlearner.

Expected, of three seeds (docs/results/ablation.md, matched E): .036 ±.009 of `ug_clu` on memorised samples and .119
±.032 on classes; .047 ±.007 and .121 ±.028 without its unlearning step; .198 ±.092 and .937 ±.059 without preserving
steps. On one core the first command takes about 15 minutes on memorised samples and 30 on classes, where every cell
learns a stream; `--regimes` runs one of them, and the same folder takes up the other.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ugclu_jax.harness.budget import steps_within
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.compared import Measured, difference, of_row, told
from ugclu_jax.report.ranking import Row
from ugclu_jax.ugclu_plain import PLAIN
from ugclu_jax.ugclu_settings import UNLEARNING, UGCLUSettings, gradient_evaluations

REGIMES = {"memorised": "random_sample", "classes": "class_wise"}
PLAIN_UNLEARNS = "ug_clu+ug_clu_plain"
"""The paper's form behind the learner of the default, as its variants are."""
PLAIN_LEARNS = "ug_clu_plain+ug_clu"


class Part(NamedTuple):
    """What is taken away, or put back.

    Attributes:
        of: the form that has it.
        name: in a table.
        method: that lacks it.
        change: of the settings, in a cell of its own; nothing where the catalogue has the method.
        cell: name of that cell, without the kind of request.
    """

    of: str
    name: str
    method: str
    change: Mapping[str, Any] = {}
    cell: str = "named"


def _ours(name: str, cell: str, settings: Mapping[str, Any], **hyper: float) -> Part:
    return Part("ug_clu", name, "ug_clu", {"unlearn": {"settings": settings, "hyper": hyper}}, f"ug_clu-{cell}")


def _plain(name: str, cell: str, settings: Mapping[str, Any], **hyper: float) -> Part:
    own = {"unlearn": {"settings": settings, "hyper": hyper}}
    return Part("ug_clu_plain", name, PLAIN_UNLEARNS, {"references": {"ug_clu_plain": own}}, f"plain-{cell}")


def _plain_learner(name: str, cell: str, settings: Mapping[str, Any], **hyper: float) -> Part:
    own = {"learn": {"settings": settings, "hyper": hyper}}
    return Part("ug_clu_plain, learner", name, PLAIN_LEARNS, {"references": {"ug_clu_plain": own}}, f"learner-{cell}")


WHOLE = "whole"
UNLEARNERS = (
    Part("ug_clu", WHOLE, "ug_clu"),
    _ours("no unlearning step", "no-step", {"fast_step": "none"}),
    _ours("no preserving steps", "no-preserving", {"inner_steps": 0}),
    _ours("a step of a rate, no budget", "rate", {"fast_step": "rate"}),
    _ours("no distillation", "no-distillation", {"distillation": False}),
    _ours("a budget that does not fall", "constant", {"coefficient_decay": False}),
    Part("ug_clu", "gradient descent, no Adam", "ug_clu_sgd"),
    Part("ug_clu", "no decay", "ug_clu_no_decay"),
    Part("ug_clu", "with the mask", "ug_clu_masked"),
    _ours("with coefficients by the loss, λ = .5", "adaptive", {}, loss_exponent=0.5),
    _ours("with slow interpolation, α = .5", "slow", {}, slow_step_size=0.5),
    Part("ug_clu_plain", WHOLE, PLAIN_UNLEARNS),
    _plain("no unlearning step", "no-step", {}, fast_learning_rate=0.0),
    _plain("no preserving steps", "no-preserving", {"inner_steps": 0}),
    Part("ug_clu_plain", "no mask", "ug_clu_plain_no_mask"),
    Part("ug_clu_plain", "no coefficients by the loss, λ = 0", "ug_clu_plain_no_adaptive"),
    Part("ug_clu_plain", "rates and coefficients that do not fall", "ug_clu_plain_no_decay"),
    Part("ug_clu_plain", "no fast-slow update, Euclidean steps", "ug_clu_plain_euclidean"),
    _plain("with slow interpolation, α = .5", "slow", {}, slow_step_size=0.5),
)
LEARNERS = (
    Part("ug_clu, learner", WHOLE, "ug_clu"),
    Part(
        "ug_clu, learner",
        "no distillation",
        "ug_clu",
        {"learn": {"settings": {"distillation": False}}},
        "learner-no-distillation",
    ),
    Part("ug_clu, learner", "steps on the buffer alone", "ug_clu_inner_buffer"),
    Part("ug_clu, learner", "with a learning step", "ug_clu_fast_step"),
    Part("ug_clu_plain, learner", WHOLE, PLAIN_LEARNS),
    _plain_learner("no learning step", "plain-no-step", {}, fast_learning_rate=0.0),
    _plain_learner("no mask", "plain-no-mask", {"mask": "none"}),
)
"""After a stream: where a network is trained from scratch, no learner has a part in it."""


PARTS: Mapping[str, tuple[Part, ...]] = {"memorised": UNLEARNERS, "classes": UNLEARNERS + LEARNERS}


@dataclass(frozen=True)
class AblationOptions(Group):
    """Where parts are taken away."""

    regimes: tuple[str, ...] = tuple(REGIMES)
    """Kinds of request: memorised, samples of a network trained from scratch; classes, two of them after a stream."""

    def __post_init__(self) -> None:
        if not self.regimes or len(set(self.regimes)) != len(self.regimes) or set(self.regimes) - set(REGIMES):
            raise ValueError(f"regimes must be different ones of {', '.join(REGIMES)}, got {self.regimes}")
        super().__post_init__()


@dataclass(frozen=True)
class AblationConfig(StudyOptions, AblationOptions):
    """The study's configuration."""

    @property
    def parts(self) -> dict[str, tuple[Part, ...]]:
        """By kind of request: at smoke size one kind, and one part that has a cell of its own."""
        if self.smoke:
            return {"classes": UNLEARNERS[:2]}
        return {regime: PARTS[regime] for regime in REGIMES if regime in self.regimes}


def cells(options: AblationConfig) -> list[Cell]:
    """One of what the catalogue names, and one a part that it does not."""
    found = []
    for regime, parts in options.parts.items():
        words = ("--scenario", REGIMES[regime], "--no-counterfactuals", "--methods")
        named = dict.fromkeys(part.method for part in parts if not part.change)
        found.append(Cell(f"{regime}-named", "compare", options.settings(regime), (*words, *named, "do_nothing")))
        for part in parts:
            if part.change:
                settings = options.settings(regime, **part.change)
                if part.cell == "plain-no-preserving":
                    capacity = options.settings(regime).get("capacity", 5000)
                    settings = options.settings(regime, **{**part.change, "unlearn": as_many_steps(capacity)})
                found.append(Cell(f"{regime}-{part.cell}", "compare", settings, (*words, part.method)))
    return found


def as_many_steps(capacity: int) -> dict[str, Any]:
    """Settings of an unlearn request whose budget pays the paper's form without preserving steps as many outer steps as
    the budget of the default pays it with them: a part is taken away, and none of the others grows in its place.

    Args:
        capacity: of the buffer.
    """
    whole = gradient_evaluations(UNLEARNING, capacity)

    def cost(steps: int, inner: int) -> float:
        # The cost is affine in the steps, of which the settings allow no 0.
        one, two = (gradient_evaluations(_plain_of(outer, inner), capacity) for outer in (1, 2))
        return one + (steps - 1) * (two - one)

    steps = steps_within(whole, lambda steps: cost(steps, PLAIN.inner_steps))
    # Steps of a rate, without preserving, cost one evaluation each: as many as the whole is to cost.
    outer = round(cost(steps, 0))
    return {"settings": {"outer_steps": outer, "inner_steps": 0, "fast_step": "rate", "distillation": False}}


def _plain_of(outer_steps: int, inner_steps: int) -> UGCLUSettings:
    return UGCLUSettings(outer_steps=outer_steps, inner_steps=inner_steps, fast_step="rate", mask=PLAIN.mask)


def conclude(options: AblationConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Each part's distance, and what it is worth: the whole's distance from its."""
    found = {name: measured.rows_of(path) for name, path in folders.items()}
    rows, sentences = [], []
    for regime, parts in options.parts.items():
        nothing = found[f"{regime}-named"].get("do_nothing")
        own = [(part, found[f"{regime}-{part.cell}"].get(part.method)) for part in parts]
        for part, row in own:
            whole = next(other for its, other in own if its.of == part.of and its.name == WHOLE)
            texts = [text_of_difference(row, whole, measure) for measure in ("matched", "energy", "KL")]
            shown = ["–"] * len(measured.HEAD) if row is None else measured.texts(row)
            rows.append([f"{regime}, {part.of}: {part.name}", *(texts if row is not whole else ["–"] * 3), *shown])
        if nothing is not None:
            rows.append([f"{regime}: do_nothing", "–", "–", "–", *measured.texts(nothing)])
        for form in dict.fromkeys(part.of for part in parts):
            sentences.append(f"{regime}, {form}: {needed({p.name: row for p, row in own if p.of == form})}")
    table = Table(
        "Without each part",
        (
            "request, form: without",
            "matched E more than whole",
            "E more than whole",
            "KL more than whole",
            *measured.HEAD,
        ),
        rows,
        "Above 0: the part was worth that much. Errors are those of independent numbers, though seeds are shared; KL "
        "is won by what is smooth, too.",
    )
    return Findings(". ".join(sentences) + ".", (table,))


def text_of_difference(row: Row | None, whole: Row | None, measure: str) -> str:
    """How much farther than the whole a method without a part is; a dash where seeds were lost."""
    one, other = of_row(row, measure), of_row(whole, measure)
    return "–" if one is None or other is None else str(difference(one, other))


def needed(rows: Mapping[str, Row | None]) -> str:
    """Which changes of the whole are worse or better beyond noise, by matched E, and which lose seeds.

    Args:
        rows: by the name of the part, the whole among them.

    >>> needed({WHOLE: None, "no mask": None})
    'the whole lost seeds, so there is nothing to compare with'
    """
    whole = of_row(rows[WHOLE])
    if whole is None:
        return "the whole lost seeds, so there is nothing to compare with"
    distances = {name: of_row(row) for name, row in rows.items() if name != WHOLE}
    known: dict[str, Measured] = {name: each for name, each in distances.items() if each is not None}
    apart = {name: each for name, each in known.items() if difference(each, whole).beyond_noise}
    alike = [name for name in known if name not in apart]
    parts = [f"“{name}” is {told(each, whole)}" for name, each in apart.items()]
    if alike:
        parts.append(f"no difference beyond noise with {', '.join(f'“{name}”' for name in alike)}")
    lost = [name for name, each in distances.items() if each is None]
    if lost:
        parts.append(f"seeds were lost with {', '.join(f'“{name}”' for name in lost)}")
    return f"matched E {whole} whole; {'; '.join(parts)}"


STUDY = Study("ablation", __doc__ or "", AblationConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
