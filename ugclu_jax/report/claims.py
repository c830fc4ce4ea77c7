"""The paper's metrics and the claims of its digest, as rules that decide whether rows of numbers bear them out."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ugclu_jax.report.compared import Measured, difference, lowest, of_row, of_statistic
from ugclu_jax.report.format import number, statistic_text
from ugclu_jax.report.metrics import Numbers
from ugclu_jax.report.ranking import WITHOUT_SETTINGS, Row, shared_references
from ugclu_jax.report.summaries import Statistic

PAPER, DEFAULT = "ug_clu_plain", "ug_clu"
BEHIND = "ug_clu+ug_clu_plain"
"""The paper's form behind the learner of the default, as its ablations are."""
ABLATIONS = ("ug_clu_plain_no_mask", "ug_clu_plain_no_adaptive", "ug_clu_plain_euclidean")
MADE_FOR_TASKS = ("clpu_der_pp", "uniclun")
"""The field's methods for both learning and unlearning, made for whole tasks."""


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
