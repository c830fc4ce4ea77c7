"""Can one model forget ten people one after another, so that none of them is told from somebody it never met?

    python -m experiments.people --seeds 0:3 --oracle-seeds 3      # mails, `make data-mails` first
    python -m experiments.people --smoke                           # digits stand in, three made-up senders

Reference: the audit (docs/audit.md); MUSE and later reports, which count requests that follow one another. A text
encoder of two layers of 64 features learns 300 mails of each folder in one request; then the ten senders with the most
of them are forgotten, one request each. Each is attacked by margin against mails of the same folders by senders never
seen: the area is 1/2 where the two cannot be told apart, and an oracle, who never met the sender either, says what it
is for these mails. The run's own audit (RMIA, E, gaps) stands in its folder. All settings are the default's but 100
outer steps to learn, since there is one request to learn all; oracles have AdamW, as all texts here.

Senders are numbered. Neither mails nor names, addresses or hashes of them are in what this prints or tables.

Expected: nothing is known of these. About 15 minutes of one core.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugclu_jax import seals
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.format import number

from .senders import FILE

if TYPE_CHECKING:
    from ugclu_jax.evidence import Estimate

OURS = "ug_clu"
METHODS = (OURS, "finetune_remain")
WHEN = ("before", "after", "oracles")
TEXTS: Mapping[str, Any] = {
    "dataset": "text",
    "model": "text_encoder",
    "model_options": {"width": 64, "depth": 2},
    "per_class": 300,
    "capacity": 500,
    "learn": {"settings": {"outer_steps": 100}},
    "oracle": {"epochs": 10, "batch_size": 32, "optimizer": "adamw", "learning_rate": 0.0005, "weight_decay": 0.01},
}


@dataclass(frozen=True)
class PeopleOptions(Group):
    """Who is forgotten."""

    senders: int = 10
    """How many, those with the most mails among what is learned."""
    mails: Path = Path("data/mails")
    """Folder that `make data-mails` makes."""

    def __post_init__(self) -> None:
        self.at_least(senders=1)
        super().__post_init__()


@dataclass(frozen=True)
class PeopleConfig(StudyOptions, PeopleOptions):
    """The study's configuration."""


def cells(options: PeopleConfig) -> list[Cell]:
    """One: senders are forgotten one after another."""
    changes: dict[str, Any] = {"senders": 3}
    if not options.smoke:
        data = {"directory": str(options.mails), "text_length": 64}
        changes = {**TEXTS, "data": data, "senders": options.senders}
    return [Cell("people", "senders", options.settings("tasks", methods=list(METHODS), **changes))]


def conclude(_options: PeopleConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """The areas of the attack by sender, and whether they differ from the oracles' beyond noise."""
    from ugclu_jax.report.trends import estimate_text, of_run  # scipy, which `--help` need not wait for

    run_dir = folders["people"]
    areas: dict[str, list[dict[str, list[float]]]] = json.loads(seals.read(run_dir, FILE))
    rows, head = [], ("sender", *(f"{name} {when}" for name in areas for when in WHEN))
    for place in range(max(map(len, areas.values()))):
        texts = [number(mean_of(own[place].get(when, []))) for own in areas.values() for when in WHEN]
        rows.append([f"sender {place + 1}", *texts])
    differences = {name: against_oracles(own, "after") for name, own in areas.items()}
    kept = {name: against_oracles(own, "before") for name, own in areas.items()}
    found, curves = measured.rows_of(run_dir), of_run(run_dir)
    told = [
        [name, estimate_text(kept[name]), estimate_text(differences[name])]
        + ([estimate_text(curves[name].mean()), estimate_text(curves[name].slope())] if name in curves else ["–", "–"])
        for name in areas
    ]
    tables = (
        Table(
            "All senders",
            ("method", "area before, less the oracles'", "area after, less the oracles'", "E", "slope of E"),
            told,
            "Areas: mean over senders ± standard error over senders. E over the requests that forget them, on all that "
            "was forgotten so far plus on test mails; its slope for 100 requests.",
        ),
        Table(
            "The attack on each, by margin, against senders never seen",
            head,
            rows,
            "Area under the curve, mean over networks; 1/2: not told from a stranger. Before and after the request "
            "that forgets this sender; oracles never met them.",
        ),
        Table(
            "Averaged over requests", ("method", *measured.HEAD), [[n, *measured.texts(r)] for n, r in found.items()]
        ),
    )
    return Findings(answer(kept, differences, {name: row.unfinished for name, row in found.items()}), tables)


def mean_of(values: Sequence[float]) -> float | None:
    """Of those that are numbers; None of none."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def against_oracles(areas: Sequence[Mapping[str, Sequence[float]]], when: str) -> "Estimate | None":
    """Mean over senders of how much larger the area is than the oracles', which do not know the sender.

    Args:
        areas: of each sender, one a network, by `WHEN`.
        when: before or after.

    >>> found = [{"after": [0.75, 0.75], "oracles": [0.5]}, {"after": [0.5], "oracles": [0.5]}, {"oracles": [0.5]}]
    >>> against_oracles(found, "after")
    Estimate(value=0.125, standard_error=0.125)
    """
    from ugclu_jax.report.trends import over_seeds

    pairs = [(mean_of(own.get(when, [])), mean_of(own["oracles"])) for own in areas]
    return over_seeds([mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None])


def answer(
    before: "Mapping[str, Estimate | None]", after: "Mapping[str, Estimate | None]", lost: Mapping[str, int]
) -> str:
    """For each method, whether its forgotten senders are told from strangers better than oracles tell them."""
    from ugclu_jax.report.trends import estimate_text

    sentences = []
    for name, left in after.items():
        beyond = None if left is None else left.beyond_noise()
        if left is None or beyond is None:
            verdict = "too few senders to say whether they are told from strangers"
        elif not beyond:
            verdict = "forgotten senders are told from strangers no better than by oracles, beyond noise"
        elif left.value > 0:
            verdict = "forgotten senders are still told from strangers"
        else:
            verdict = "forgotten senders look stranger than strangers: more was removed than they left"
        unfinished = f"; {lost[name]} seeds were lost" if lost.get(name) else ""
        sentences.append(
            f"{name}: {verdict} (area less the oracles' {estimate_text(before.get(name))} before, "
            f"{estimate_text(left)} after{unfinished})"
        )
    return ". ".join(sentences) + "."


STUDY = Study("people", __doc__ or "", PeopleConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
