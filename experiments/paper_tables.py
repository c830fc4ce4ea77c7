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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ugclu_jax.harness.buffer_bytes import sizes_in_bytes
from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.compared import Measured, difference, lowest, of_row, of_statistic
from ugclu_jax.report.format import mean_text, number, statistic_text
from ugclu_jax.report.metrics import Numbers
from ugclu_jax.report.ranking import WITHOUT_SETTINGS, Row, shared_references
from ugclu_jax.report.summaries import Statistic

PAPER, DEFAULT = "ug_clu_plain", "ug_clu"
BEHIND = "ug_clu+ug_clu_plain"
"""The paper's form behind the learner of the default, as its ablations are."""
ABLATIONS = ("ug_clu_plain_no_mask", "ug_clu_plain_no_adaptive", "ug_clu_plain_euclidean")
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
MADE_FOR_TASKS = ("clpu_der_pp", "uniclun")
"""The field's methods for both learning and unlearning, made for whole tasks."""


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


class Metric(NamedTuple):
    """A metric of the paper.

    Attributes:
        title: in a table.
        value: of a row's statistics.
        best: what it is to be: "high", "low", or "near" the oracle's.
        reference: the oracle's.
    """

    title: str
    value: Callable[[Numbers[Statistic]], Statistic | None]
    best: str
    reference: Callable[[Numbers[Statistic]], Statistic | None] = lambda numbers: None

    def score(self, row: Row, shared: Row) -> Measured | None:
        """What is to be small, and its error; None where it is undefined, or the method lost a seed."""
        found = None if row.unfinished else of_statistic(self.value(row.statistics))
        if found is None or self.best == "low":
            return found
        if self.best == "high":
            return Measured(-found.value, found.standard_error)
        oracle = of_statistic(self.reference(shared.statistics))
        return None if oracle is None else Measured(abs(found.value - oracle.value), found.standard_error)


METRICS = (
    Metric("LA", lambda n: n.model.LA, "high", lambda n: n.oracle.LA),
    Metric("RA", lambda n: n.model.RA, "near", lambda n: n.oracle.RA),
    Metric("TA", lambda n: n.model.TA, "near", lambda n: n.oracle.TA),
    Metric("UA", lambda n: n.model.UA, "near", lambda n: n.oracle.UA),
    Metric("FM", lambda n: n.model.FM, "low"),
    Metric("MIA", lambda n: n.model.MIA.get("loss"), "near", lambda n: n.oracle.MIA.get("loss")),
    Metric("KL retained", lambda n: n.model.KL.retained, "low", lambda n: n.noise_floor.KL.retained),
    Metric("KL test", lambda n: n.model.KL.test, "low", lambda n: n.noise_floor.KL.test),
    Metric("KL unlearned", lambda n: n.model.KL.unlearned, "low", lambda n: n.noise_floor.KL.unlearned),
    Metric("ToW", lambda n: n.model.ToW, "high"),
    Metric("RTE s", lambda n: n.timing.RTE, "low"),
)
BY_TITLE = {metric.title: metric for metric in METRICS}


def is_method(name: str) -> bool:
    """Whether a name is a method that competes: neither a reference point nor an ablation.

    >>> is_method("salun"), is_method("mean_of_oracles"), is_method("ug_clu_plain_no_mask"), is_method(BEHIND)
    (True, False, False, False)
    """
    return name not in (*WITHOUT_SETTINGS, *ABLATIONS, BEHIND)


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


HOLDS, NOISE, FAILS, UNTESTED = "holds", "within noise", "does not hold", "could not be tested"


class Verdict(NamedTuple):
    """What one table says of a claim about one form.

    Attributes:
        word: one of HOLDS, NOISE, FAILS, UNTESTED.
        why: what was measured.
    """

    word: str
    why: str


def is_lowest(own: Measured | None, others: Mapping[str, Measured | None]) -> Verdict:
    """Whether a number is the lowest: by more than the noise, or not told from the lowest.

    >>> is_lowest(Measured(0.1, 0.01), {"a": Measured(0.5, 0.01)})
    Verdict(word='holds', why='.100 ±.010, next a .500 ±.010')
    >>> is_lowest(Measured(0.5, 0.01), {"a": Measured(0.1, 0.01)})
    Verdict(word='does not hold', why='.500 ±.010, lowest a .100 ±.010')
    >>> is_lowest(None, {"a": Measured(0.1, 0.01)}).word
    'does not hold'
    """
    best = lowest(others)
    if best is None:
        return Verdict(UNTESTED, "nothing to compare with")
    other = others[best]
    assert other is not None
    if own is None:
        return Verdict(FAILS, f"it lost seeds, lowest {best} {other}")
    apart = difference(own, other)
    word = NOISE if not apart.beyond_noise else HOLDS if apart.value < 0 else FAILS
    return Verdict(word, f"{own}, {'next' if apart.value < 0 else 'lowest'} {best} {other}")


def together(words: Sequence[str]) -> str:
    """One verdict of several tables.

    >>> together([HOLDS, HOLDS]), together([HOLDS, FAILS, UNTESTED]), together([])
    ('holds', 'holds in 1, does not hold in 1 of 2', 'could not be tested')
    """
    known = [word for word in words if word != UNTESTED]
    counts = {word: known.count(word) for word in (HOLDS, NOISE, FAILS) if word in known}
    if len(counts) < 2:
        return next(iter(counts), UNTESTED)
    return ", ".join(f"{word} in {count}" for word, count in counts.items()) + f" of {len(known)}"


Rows = Mapping[str, Row]
Rule = Callable[[Rows, str], Verdict]
"""Of the rows of a table, and of the form that a claim is about."""


def lowest_kl(rows: Rows, form: str) -> Verdict:
    """By KL on retained test inputs plus on unlearned ones; the other form is no baseline."""
    others = {name: of_row(row, "KL") for name, row in rows.items() if is_method(name) and name not in (PAPER, DEFAULT)}
    return is_lowest(of_row(rows.get(form), "KL"), others)


def nearer_than_nothing(rows: Rows, form: str) -> Verdict:
    """Nearer to the oracles than doing nothing, by matched E, and UA within 5 points of theirs."""
    own, nothing = of_row(rows.get(form)), of_row(rows.get("do_nothing"))
    if nothing is None:
        return Verdict(UNTESTED, "no distance of doing nothing")
    gap = gap_of("UA", rows, form)
    if own is None or gap is None:
        return Verdict(FAILS, "it lost seeds")
    gain = difference(nothing, own)
    why = f"matched E {own}, doing nothing {nothing}; UA {number(gap)} from the oracle's"
    if gain.value > 0 and gain.beyond_noise and gap <= 0.05:
        return Verdict(HOLDS, why)
    return Verdict(NOISE if gap <= 0.05 and not gain.beyond_noise else FAILS, why)


def below_those_for_tasks(rows: Rows, form: str) -> Verdict:
    """A smaller KL than methods that were made for whole tasks."""
    return is_lowest(of_row(rows.get(form), "KL"), {name: of_row(rows.get(name), "KL") for name in MADE_FOR_TASKS})


def cheaper_than_retraining(rows: Rows, form: str) -> Verdict:
    """Fewer gradient evaluations than training from scratch on what is retained."""
    row = rows.get(form)
    cost = Numbers[Statistic]().cost if row is None else row.statistics.cost
    own, whole = cost.gradient_evaluations, cost.oracle_gradient_evaluations
    if row is None or own is None or whole is None:
        return Verdict(UNTESTED, "no cost was measured")
    seconds = statistic_text(row.statistics.timing.RTE)
    retrained = "" if "retrain" not in rows else f", retraining {statistic_text(rows['retrain'].statistics.timing.RTE)}"
    why = f"{own.mean:.0f} of {whole.mean:.0f} gradient evaluations; {seconds} s{retrained}"
    return Verdict(HOLDS if own.mean < whole.mean else FAILS, why)


def near_in(title: str, tolerance: float) -> Rule:
    """A metric within so much of the oracle's."""

    def rule(rows: Rows, form: str) -> Verdict:
        gap = gap_of(title, rows, form)
        if gap is None:
            return Verdict(UNTESTED if form not in rows or not rows[form].unfinished else FAILS, "no number")
        return Verdict(HOLDS if gap <= tolerance else FAILS, f"{number(gap)} from the oracle's {title}")

    return rule


def gap_of(title: str, rows: Rows, form: str) -> float | None:
    """How far a metric is from the oracle's; None where it is undefined or seeds were lost."""
    metric, row = BY_TITLE[title], rows.get(form)
    own = None if row is None or row.unfinished else of_statistic(metric.value(row.statistics))
    oracle = of_statistic(metric.reference(shared_references(list(rows.values())).statistics))
    return None if own is None or oracle is None else abs(own.value - oracle.value)


def better_than(other: str, title: str | None = None) -> Rule:
    """The paper's form against an ablation of it behind the same learner, by a metric, or by matched E; of no other."""

    def rule(rows: Rows, form: str) -> Verdict:
        if form != PAPER or not {BEHIND, other} <= rows.keys():
            return Verdict(UNTESTED, "")
        shared = shared_references(list(rows.values()))
        own, less = (
            of_row(rows[name]) if title is None else BY_TITLE[title].score(rows[name], shared)
            for name in (BEHIND, other)
        )
        return is_lowest(own, {other: less})

    return rule


def loses_seeds(rows: Rows, form: str) -> Verdict:
    """It holds where a form that nobody searched on these data loses seeds, or is farther than doing nothing."""
    row = rows.get(form)
    if row is None:
        return Verdict(UNTESTED, "")
    return Verdict(HOLDS if row.unfinished else FAILS, f"{row.unfinished} of {row.seeds} seeds were lost")


class Claim(NamedTuple):
    """Of the paper's digest.

    Attributes:
        text: in its words, shortened.
        tables: that it is about, by the beginnings or ends of their names; none: all.
        rule: that decides.
        told: the rule in words.
    """

    text: str
    tables: tuple[str, ...]
    rule: Rule
    told: str


CLAIMS = (
    Claim(
        "lowest KL to the oracles of all methods", (), lowest_kl, "KL test + KL unlearned below all others, 2 errors"
    ),
    Claim(
        "unlearns categories across tasks",
        ("class",),
        nearer_than_nothing,
        "matched E below doing nothing, UA within .05 of the oracle's",
    ),
    Claim("unlearns random samples", ("random",), nearer_than_nothing, "the same"),
    Claim(
        "outperforms task-aware baselines there",
        ("class", "random"),
        below_those_for_tasks,
        f"KL below {' and '.join(MADE_FOR_TASKS)}",
    ),
    Claim("efficient", (), cheaper_than_retraining, "fewer gradient evaluations than retraining"),
    Claim("learns increments and stays stable", (), near_in("LA", 0.04), "LA within .04 of the oracle's"),
    Claim("removes what membership attacks find", (), near_in("MIA", 0.10), "MIA within .10 of the oracle's"),
    Claim(
        "the manifold spares what is retained",
        (),
        better_than("ug_clu_plain_euclidean", "KL retained"),
        "KL retained below that of Euclidean steps",
    ),
    Claim("the mask helps", (), better_than("ug_clu_plain_no_mask"), "matched E below that without it"),
    Claim("adaptive coefficients help", (), better_than("ug_clu_plain_no_adaptive"), "matched E below that without"),
    Claim(
        "needs careful tuning and small rates", (), loses_seeds, "seeds lost with settings searched elsewhere or not"
    ),
)
ELSEWHERE = (
    ("four components from one divergence (Proposition 1)", "mathematics; tests/test_components.py compares each"),
    (
        "fast-slow steps approximate β² H_R⁻¹ g (Proposition 3); more inner steps come nearer",
        "docs/results/inner_steps.md",
    ),
    ("a larger buffer is stabler, at linear cost", "docs/results/buffer_size.md"),
    ("a higher γ is sparser, protects more and unlearns less", "docs/results/saliency_threshold.md"),
    ("each part is needed", "docs/results/ablation.md"),
    ("stable over long sequences (next checks)", "docs/results/long_stream.md"),
    ("ResNet-18, Swin-T and transformers alike", "docs/results/architectures.md"),
    ("carries over to language and several modes (open)", "docs/results/text.md, people.md, multimodal.md"),
    ("importance sampling of the buffer (open)", "docs/results/buffer_sampling.md"),
    ("convergence (open)", "docs/results/convergence.md"),
    ("the figures on CIFAR-10 and TinyImageNet", f"{UNTESTED}: their archives were not at hand"),
)
"""Claims of which these tables say nothing, and who does."""


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
