"""Which of the paper's claims hold here, by its own metrics and against all methods?

    python -m experiments.paper_tables --seeds 0:3 --oracle-seeds 3 --run-dir runs/paper --tables fashion_class
    python -m experiments.paper_tables --seeds 0:3 --oracle-seeds 3 --run-dir runs/paper     # all, in the same folder
    python -m experiments.paper_tables --smoke                                               # digits, seconds a cell

Reference: the paper's tables of task-aware and of task-agnostic requests (classes across tasks, random samples), and
each claim of its digest. There they are CIFAR-10 and TinyImageNet with ResNet-18 and Swin-T; here Fashion-MNIST, 500
pictures a class, the small CNN, and emoji (`make data-emoji`), 40 pictures of each of 38 classes at 16x16, ResNet-18 of
width 8. All methods have the settings of the one default, searched on Fashion-MNIST for those that its page names and
defaults for the others; on emoji nobody searched any.

Expected, from the page of the one default (five seeds): lowest by KL is `finetune_remain` (.722 ±.026 on classes,
.681 ±.027 on random samples, .542 ±.056 on tasks), then `ug_clu` (.793 ±.024, .845 ±.029, .562 ±.042); the paper's form
has 2.48 ±.23 and 1.27 ±.05 and loses two of five seeds on tasks; RTE is alike for all, by the budget. Nothing is known
of emoji.

Time on one core for three seeds, beside other work: fashion_class 45 minutes, fashion_task 60, fashion_random 25,
emoji_task and emoji_class 30 each with the fewer methods that they have. A table is a cell: it resumes within, and
`--jobs 2` runs two of them. A GPU was not tried.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.harness.buffer_bytes import sizes_in_bytes
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.claims import (
    ABLATIONS,
    BEHIND,
    CLAIMS,
    DEFAULT,
    ELSEWHERE,
    FAILS,
    HOLDS,
    METRICS,
    NOISE,
    PAPER,
    UNTESTED,
    Rows,
    Verdict,
    is_method,
    together,
)
from ugclu_jax.report.compared import Measured, difference, lowest, of_row
from ugclu_jax.report.format import mean_text, number, statistic_text
from ugclu_jax.report.ranking import Row, shared_references

FEW = (
    "ug_clu", "ug_clu_plain", "finetune_remain", "l1_sparse", "neg_grad_plus", "sfron", "msg", "salun",
    "clpu_der_pp", "uniclun", "der_pp", "do_nothing",
)  # fmt: skip
ALL = (
    *FEW, BEHIND, *ABLATIONS, "finetune", "er", "er_las", "der", "ewc", "lwf", "agem", "joint", "gradient_ascent",
    "random_label", "scrub", "bad_teacher", "ct", "mu_mis", "ssd", "retrain_on_buffer", "analytic_head", "retrain",
    "mask_logits", "cool", "mean_of_oracles",
)  # fmt: skip
"""Of the catalogue all but the ablations of the default, which have a study of their own."""


class Setup(NamedTuple):
    """A table of the paper, as it is here.

    Attributes:
        scenario: whose stream is served.
        regime: whose settings.
        methods: that are compared.
        change: of the settings.
        words: further ones of the command line.
    """

    scenario: str
    regime: str
    methods: tuple[str, ...] = ALL
    change: Mapping[str, Any] = {}
    words: tuple[str, ...] = ()


EMOJI: Mapping[str, Any] = {
    "dataset": "image_folder",
    "data": {"image_size": 16},
    "model": "resnet18",
    "model_options": {"width": 8},
    "per_class": 40,
}
TABLES: Mapping[str, Setup] = {
    "fashion_task": Setup("task_aware", "tasks"),
    "fashion_class": Setup("class_wise", "classes"),
    "fashion_random": Setup("random_sample", "random"),
    "emoji_task": Setup("task_aware", "tasks", FEW, {**EMOJI, "tasks": 19}, ("--sequence", "L1 L2 L3 U2")),
    "emoji_class": Setup("class_wise", "classes", FEW, {**EMOJI, "tasks": 2}),
}


@dataclass(frozen=True)
class PaperTablesOptions(Group):
    """Which tables are made."""

    tables: tuple[str, ...] = tuple(TABLES)
    """Of fashion_task, fashion_class, fashion_random, emoji_task and emoji_class."""
    emoji: Path = Path("data/emoji")
    """Folder of the emoji, which `make data-emoji` makes."""

    def __post_init__(self) -> None:
        if not self.tables or len(set(self.tables)) != len(self.tables) or set(self.tables) - set(TABLES):
            raise ValueError(f"tables must be different ones of {', '.join(TABLES)}, got {self.tables}")
        super().__post_init__()


@dataclass(frozen=True)
class PaperTablesConfig(StudyOptions, PaperTablesOptions):
    """The study's configuration."""

    @property
    def chosen(self) -> dict[str, Setup]:
        """The tables of this run: at smoke size one, with the fewest methods that claims are about."""
        if self.smoke:
            return {"fashion_class": TABLES["fashion_class"]._replace(methods=(DEFAULT, "do_nothing"))}
        return {name: TABLES[name] for name in TABLES if name in self.tables}


def cells(options: PaperTablesConfig) -> list[Cell]:
    """One a table."""
    found = []
    for name, setup in options.chosen.items():
        change = dict(setup.change)
        if change.get("dataset") == "image_folder":
            change["data"] = {**change["data"], "directory": str(options.emoji)}
        words = ("--scenario", setup.scenario, "--no-counterfactuals", *setup.words, "--methods", *setup.methods)
        found.append(Cell(name, "compare", options.settings(setup.regime, **change), words))
    return found


def paper_table(name: str, rows: Mapping[str, Row]) -> Table:
    """A table as the paper has it, with the oracle and the noise floor last."""
    body = [
        [
            row.label,
            *(statistic_text(metric.value(row.statistics)) for metric in METRICS),
            *(number(row.quotient), str(of_row(row) or "–"), str(of_row(row, "energy") or "–")),
        ]
        for row in rows.values()
    ]
    shared = shared_references(list(rows.values())).statistics
    body.append(["*oracle · noise floor*", *(mean_text(m.reference(shared)) for m in METRICS), "1.00", ".000", ".000"])
    head = ("method", *(metric.title for metric in METRICS), "KL / floor", "E matched", "E")
    return Table(name.replace("_", ", "), head, body, "Mean ± deviation over seeds; distances ± standard error.")


def firsts(tables: Mapping[str, Mapping[str, Row]]) -> Table:
    """Which method is first by each metric, and how many are within noise of it."""
    body = []
    for metric in METRICS:
        line = [f"{metric.title}, {metric.best}{' the oracle’s' if metric.best == 'near' else ''}"]
        for rows in tables.values():
            shared = shared_references(list(rows.values()))
            line.append(first({name: metric.score(row, shared) for name, row in rows.items() if is_method(name)}))
        body.append(line)
    for title, measure in (("KL", "KL"), ("E matched", "matched"), ("E", "energy")):
        body.append(
            [
                f"{title}, low",
                *(first({n: of_row(r, measure) for n, r in rows.items() if is_method(n)}) for rows in tables.values()),
            ]
        )
    caption = (
        "Of methods that lost no seed, without reference points; in brackets how many others are within noise of it."
    )
    return Table("Which method is first", ("metric", *tables), body, caption)


def first(scores: Mapping[str, Measured | None]) -> str:
    """The name of the smallest score, and how many are not told from it.

    >>> first({"a": Measured(0.1, 0.01), "b": Measured(0.11, 0.01), "c": Measured(0.9, 0.01), "d": None})
    'a (1)'
    >>> first({"a": None})
    '–'
    """
    best = lowest(scores)
    if best is None:
        return "–"
    known = {name: each for name, each in scores.items() if each is not None}
    near = [name for name, each in known.items() if not difference(each, known[best]).beyond_noise]
    return f"{best} ({len(near) - 1})"


def verdicts(tables: Mapping[str, Rows], linear: Verdict) -> tuple[Table, dict[tuple[str, str], str]]:
    """Each claim, what was measured of it, and whether it holds for the paper's form and for the default.

    Args:
        tables: rows by table.
        linear: of the claim on memory, which no row is about.

    Returns:
        The table, and the verdicts by claim and form.
    """
    body, words = [], {}
    for claim in CLAIMS:
        own = {n: rows for n, rows in tables.items() if not claim.tables or n.rsplit("_", 1)[-1] in claim.tables}
        found = {
            form: {n: claim.rule(rows, form) for n, rows in own.items() if form in rows} for form in (PAPER, DEFAULT)
        }
        for form, by_table in found.items():
            words[claim.text, form] = together([verdict.word for verdict in by_table.values()])
        told = [
            f"{form} {name}: {verdict.why}"
            for form, by_table in found.items()
            for name, verdict in by_table.items()
            if verdict.word != UNTESTED
        ]
        shown = [words[claim.text, form] for form in (PAPER, DEFAULT)]
        body.append([claim.text, *shown, claim.told, "; ".join(told) or "–"])
    body.append(["memory linear in the buffer", linear.word, linear.word, "no point off the line by 1 %", linear.why])
    body += [[text, "–", "–", "not these tables", where] for text, where in ELSEWHERE]
    head = ("claim", "the paper's form", "the default", "rule", "measured")
    caption = (
        "Differences count from two standard errors on; “within noise” is neither. The default is ours. KL can be won "
        "by what is smoother than an oracle: E and matched E decide where the rule is ours to choose."
    )
    return Table("Verdicts", head, body, caption), words


def linear_memory(run_dir: Path, sizes: Sequence[int] = (200, 1000, 5000, 10000)) -> Verdict:
    """Whether the bytes of a buffer lie on a line over its capacity."""
    raw, own = sizes_in_bytes(run_dir, sizes)
    slope, start = np.polyfit(sizes, own, 1)
    off = max(abs(start + slope * size - each) / each for size, each in zip(sizes, own, strict=True))
    why = f"{slope:.1f} bytes an example, {raw} of them input and label; at most {100 * off:.2f} % off the line"
    return Verdict(HOLDS if off < 0.01 else FAILS, why)


def conclude(options: PaperTablesConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """The tables, who is first in each, and the verdicts."""
    tables = {name: measured.rows_of(folders[name]) for name in options.chosen}
    decided, words = verdicts(tables, linear_memory(folders[next(iter(tables))]))
    claims = [claim.text for claim in CLAIMS]
    parts = []
    for form, name in ((PAPER, "the paper's form"), (DEFAULT, "the default")):
        groups = {
            word: [text for text in claims if words[text, form] == word] for word in (HOLDS, NOISE, FAILS, UNTESTED)
        }
        mixed = [text for text in claims if not any(text in each for each in groups.values())]
        counts = [f"{word} {len(each)}" for word, each in groups.items() if each]
        counts += [f"differs by table {len(mixed)}"] if mixed else []
        kl = words[CLAIMS[0].text, form]
        parts.append(f"Of {len(claims)} claims about {name}: {', '.join(counts)}; that its KL is the lowest: {kl}")
    sizes = [Table(*paper_table(name, rows)) for name, rows in tables.items()]
    return Findings(". ".join(parts) + ".", (decided, firsts(tables), *sizes))


STUDY = Study("paper_tables", __doc__ or "", PaperTablesConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
