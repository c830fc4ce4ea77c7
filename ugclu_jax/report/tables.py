"""What a run measured, as numbers and text: read, average over seeds, tabulate, judge. No plots, no HTML.

A *line* is one JSON object of `metrics.jsonl`: one request of one seed of one method. A *path* names a number in it,
e.g. `model.KL.retained`. Requests count from 0 on disk and from 1 wherever a person reads. Everything that prints a
number uses `number` or `count`, so that terminal, README and report agree to the digit.
"""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

Line = dict[str, Any]

# What a run has to reach; every limit is inclusive. The report, its warnings and its colours use these and no others.
UA_GAP_LIMIT = 0.05  # |UA − the oracle's|
LA_GAP_LIMIT = 0.04  # |LA − the oracle's|
KL_RATIO_LIMITS = {"test": 2.5, "unlearned": 3.0}  # KL over its noise floor, by set of inputs
COST_LIMIT = 0.25  # gradient evaluations over those of retraining at every request
DROP_LIMIT = 0.05  # fall of RA in one request, and rise of UA after the unlearning
STUCK_SHARE = 0.2  # UA "did not move" below this share of the way from the accuracy before to the oracle's


class Statistic(NamedTuple):
    """A number over seeds."""

    mean: float  # NaN or infinite as soon as one seed's is: a diverged seed is not averaged away
    std: float | None  # ddof = 1; None for fewer than two values
    values: int  # how many seeds have a value


class RequestSummary(NamedTuple):
    """One request of one method over seeds."""

    method: str
    request: int
    kind: str
    name: str
    seeds: tuple[int, ...]
    statistics: dict[str, Statistic]  # by path; a path that is null for every seed is absent


class Column(NamedTuple):
    """One column of every table."""

    title: str
    path: str
    reference: str | None  # path of what the number is to be read against
    integer: bool = False


COLUMNS = (
    Column("LA", "model.LA", "oracle.LA"),
    Column("UA", "model.UA", "oracle.UA"),
    Column("FM", "model.FM", None),
    Column("MIA", "model.MIA.loss", "oracle.MIA.loss"),
    Column("KL retained", "model.KL.retained", "noise_floor.KL.retained"),
    Column("KL unlearned", "model.KL.unlearned", "noise_floor.KL.unlearned"),
    Column("KL test", "model.KL.test", "noise_floor.KL.test"),
    Column("RTE s", "timing.RTE", None),
    Column("compile s", "timing.compile_seconds", None),
    Column("gradient evaluations", "cost.gradient_evaluations", "cost.oracle_gradient_evaluations", integer=True),
)
HEADINGS = {"compile s": "comp\ns", "gradient evaluations": "grad.\nevals"}  # where the terminal has no room
LEGEND = (
    "LA     test accuracy over what is retained | the oracle's (retrained from scratch). High.\n"
    "UA     accuracy on the unlearned | the oracle's. NEAR the oracle's: below is over-forgetting.\n"
    "FM     best accuracy so far minus accuracy now, mean over what is retained. Low.\n"
    "MIA    share of the unlearned an attacker calls members | the oracle's. NEAR the oracle's.\n"
    "KL     KL(oracle ‖ model), nats | its noise floor, the KL between oracles of different seeds.\n"
    "RTE    seconds of the request; compilation beside it, evaluation not counted.\n"
    "grad.  gradient evaluations: passes over one batch | those of retraining.    – undefined"
)


def read_metrics(run_dir: Path | str) -> list[Line]:
    """Return the lines of a run's `metrics.jsonl`, in the file's order.

    Args:
        run_dir: the run's folder.

    Returns:
        One dict a line; `NaN` and `Infinity` become floats, `null` becomes None.

    Raises:
        ValueError: no such file, no line in it, a line that is not a JSON object, or one request written twice.
    """
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist; give the folder of a run that finished at least one request")
    lines: list[Line] = []
    seen: dict[tuple[str, int, int], int] = {}
    for row, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            key = (line["method"], line["seed"], line["request"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} line {row} is {text[:60]!r}, not one request's metrics ({error!r}); "
                "resume the run, which writes an unfinished request again, or delete the line"
            ) from error
        if key in seen:
            raise ValueError(
                f"{str(path)!r} line {row} repeats line {seen[key]}: method {key[0]!r}, seed {key[1]}, request "
                f"{key[2]}; a request is measured once, delete one of the two"
            )
        seen[key] = row
        lines.append(line)
    if not lines:
        raise ValueError(f"{str(path)!r} is empty; no request has finished yet")
    return lines


def at(line: Line, path: str) -> float | None:
    """Return the number that `path` names in a line, None where it is null or absent.

    >>> at({"model": {"KL": {"test": 0.25, "learned": None}}}, "model.KL.test")
    0.25
    """
    return dict(_numbers(line)).get(path)


def _numbers(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, float(value)


def statistic(values: list[float]) -> Statistic:
    """Mean and standard deviation of one or more values, see `Statistic`."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Statistic(mean, None, len(values))
    squares = sum((value - mean) * (value - mean) for value in values)  # a product overflows to inf, ** would raise
    return Statistic(mean, math.sqrt(squares / (len(values) - 1)), len(values))


def summarise(lines: Iterable[Line]) -> list[RequestSummary]:
    """Average every number over seeds.

    Args:
        lines: as `read_metrics` returns them.

    Returns:
        One summary per request and method, ordered by request, then by the method's first appearance.

    Raises:
        ValueError: two seeds disagree about a request's kind.

    >>> rows = [{"method": "a", "seed": s, "request": 1, "kind": "learn", "name": "t", "model": {"LA": v}}
    ...         for s, v in ((0, 0.5), (1, 0.75))]
    >>> summarise(rows)[0].statistics["model.LA"].mean
    0.625
    """
    groups: dict[tuple[int, str], list[Line]] = {}
    methods: list[str] = []
    for line in lines:
        groups.setdefault((line["request"], line["method"]), []).append(line)
        if line["method"] not in methods:
            methods.append(line["method"])
    summaries = []
    for request, method in sorted(groups, key=lambda key: (key[0], methods.index(key[1]))):
        group = groups[request, method]
        kinds, names = ({line[key] for line in group} for key in ("kind", "name"))
        if len(kinds) > 1:
            raise ValueError(
                f"request {request + 1} of {method!r} is of kinds {sorted(kinds)} in different seeds; "
                "only runs of one request stream can be averaged"
            )
        kind = kinds.pop()
        values: dict[str, list[float]] = {}
        for line in group:
            for path, value in _numbers(line):
                values.setdefault(path, []).append(value)
        statistics = {p: statistic(v) for p, v in values.items() if p not in ("seed", "request")}
        # Where seeds shuffle tasks or classes, a request has one kind but no common name.
        name = names.pop() if len(names) == 1 else f"{kind}, differs by seed"
        summaries.append(RequestSummary(method, request, kind, name, tuple(ln["seed"] for ln in group), statistics))
    return summaries


def by_request(summaries: list[RequestSummary]) -> dict[int, list[RequestSummary]]:
    """Group summaries by request, keeping their order."""
    groups: dict[int, list[RequestSummary]] = {}
    for summary in summaries:
        groups.setdefault(summary.request, []).append(summary)
    return groups


def number(value: float | None) -> str:
    """Write a number in four characters or so, None as a dash and NaN as what it means.

    >>> [number(value) for value in (0.0614, 1.0, 0.9996, 12.34, 4e5, -0.02, None, math.inf, math.nan)]
    ['.061', '1.00', '1.00', '12.3', '4e+05', '-.020', '–', 'inf', 'diverged']
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "diverged"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if round(size, 3) < 1:
        return f"{value:.3f}".replace("0.", ".", 1).replace("-.000", ".000")
    if round(size, 2) < 10:
        return f"{value:.2f}"
    if size < 100:
        return f"{value:.1f}"
    return f"{value:.0f}" if size < 100_000 else f"{value:.0e}"


def count(value: float | None) -> str:
    """Write a count, in thousands from 10,000 on.

    >>> count(900.0), count(12345.0), count(123456.0), count(None)
    ('900', '12.3k', '123k', '–')
    """
    if value is None or not math.isfinite(value):
        return number(value)
    if value < 10_000:
        return f"{value:.0f}"
    return f"{value / 1000:.1f}k" if value < 99_950 else f"{value / 1000:.0f}k"


def mean_text(column: Column, statistic: Statistic | None) -> str:
    """Write a mean as its column wants it."""
    return (count if column.integer else number)(statistic.mean if statistic else None)


def std_text(column: Column, statistic: Statistic | None) -> str:
    """Write ` ±` and the standard deviation; nothing where there is none, or for a count that does not vary."""
    if statistic is None or statistic.std is None or math.isnan(statistic.std):
        return ""
    if column.integer and statistic.std == 0:
        return ""
    return f"±{(count if column.integer else number)(statistic.std)}"


def _title(summary: RequestSummary) -> str:
    name = summary.name if summary.name.startswith(summary.kind) else f"{summary.kind} {summary.name}"
    return f"{summary.request + 1} {name}"


TABLE_WIDTH = 100
"""Columns of a terminal that the table of requests fits."""


def request_table(lines: Iterable[Line]) -> Table:
    """Return the terminal's table: a row per request, per method where there are several; fits `TABLE_WIDTH`.

    A cell reads `mean|reference`, the reference being the oracle's value or the noise floor, and below it the standard
    deviation over seeds of the mean where there are several seeds.
    """
    summaries = summarise(lines)
    several_methods = len({summary.method for summary in summaries}) > 1
    table = Table(
        box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, caption=LEGEND, caption_justify="left"
    )
    table.add_column("request", min_width=9, overflow="fold")
    for column in COLUMNS:
        table.add_column(HEADINGS.get(column.title, column.title.replace(" ", "\n")), no_wrap=True)
    for group in by_request(summaries).values():
        style = "bold" if group[0].kind == "unlearn" else ""
        if several_methods:
            table.add_row(Text(_title(group[0]), style=f"{style} underline"))
        for summary in group:
            label = Text(summary.method) if several_methods else Text(_title(summary), style=style)
            table.add_row(label, *(_terminal_cell(column, summary) for column in COLUMNS))
        if several_methods:
            table.add_section()
    return table


def _terminal_cell(column: Column, summary: RequestSummary) -> Text:
    statistic = summary.statistics.get(column.path)
    cell = Text(mean_text(column, statistic))
    finite = statistic is None or math.isfinite(statistic.mean)  # "diverged" needs the room, and nothing beside it
    if finite and column.reference is not None and column.reference in summary.statistics:
        cell.append("|" + mean_text(column, summary.statistics[column.reference]), style="dim")
    spread = std_text(column, statistic)
    if spread:
        cell.append("\n" + spread, style="dim")
    return cell


def milestones(summaries: list[RequestSummary]) -> dict[int, list[RequestSummary]]:
    """Keep the requests a comparison is about: every unlearn request, and the last request."""
    groups = by_request(summaries)
    last = max(groups)
    return {r: group for r, group in groups.items() if r == last or group[0].kind == "unlearn"}


def references(group: list[RequestSummary]) -> dict[str, Statistic]:
    """Return the statistics that hold the oracle and the noise floor of a request: all methods share them."""
    return max(group, key=lambda summary: len(summary.seeds)).statistics


def comparison_markdown(source: Path | str | list[Line]) -> str:
    """Return a GitHub-markdown table for a README: each method at each unlearn request and at the last one.

    Args:
        source: a run's folder, or lines.

    Returns:
        The table, mean ± standard deviation over seeds, and a line under it that says how to read it.
    """
    lines = source if isinstance(source, list) else read_metrics(source)
    summaries = summarise(lines)
    titles = ["request", "method", *(column.title for column in COLUMNS)]
    rows = [titles, ["---", "---", *["---:"] * len(COLUMNS)]]
    for group in milestones(summaries).values():
        for row, summary in enumerate(group):
            cells = [_markdown_cell(column, summary.statistics.get(column.path)) for column in COLUMNS]
            rows.append([_title(summary) if row == 0 else "", summary.method, *cells])
        shared = references(group)
        cells = [_markdown_cell(column, shared.get(column.reference or "")) for column in COLUMNS]
        rows.append(["", "*oracle · noise floor*", *cells])
    seeds = len({line["seed"] for line in lines})
    spread = f"Mean ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed. "
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return (
        f"{body}\n\n{spread}UA and MIA are to be near the oracle's; KL is to be read against the noise floor, the KL "
        "between oracles of different seeds; the oracle's gradient evaluations are those of retraining at that request."
    )


def _markdown_cell(column: Column, statistic: Statistic | None) -> str:
    return f"{mean_text(column, statistic)} {std_text(column, statistic)}".strip()


class Check(NamedTuple):
    """One target of the verdict."""

    title: str
    value: float | None  # None: undefined in this run
    limit: float
    unit: str  # points | times | percent

    @property
    def passed(self) -> bool | None:
        """Whether the target is reached; a diverged value does not reach it."""
        return None if self.value is None else self.value <= self.limit

    def text(self, value: float | None) -> str:
        """Write a value of this check in its unit."""
        if value is None or not math.isfinite(value):
            return number(value)
        return {
            "points": f"{100 * value:.1f}".removesuffix(".0") + " points",
            "times": f"{value:.1f}×",
            "percent": f"{100 * value:.0f} %",
        }[self.unit]


def _worst(values: Iterable[float | None]) -> float | None:
    """Return the largest value, NaN if there is one, None if there is no value."""
    known = [value for value in values if value is not None]
    return next((value for value in known if math.isnan(value)), max(known, default=None))


def scorecard(lines: list[Line], method: str) -> list[Check]:
    """Hold a method against the targets, at its worst over unlearn requests and the last one.

    Gaps are absolute per seed, then averaged, so that seeds on both sides of the oracle do not cancel; a KL ratio is
    mean KL over mean noise floor; the cost is that of all requests over that of retraining at all of them, where a
    request learned by training from scratch (as many evaluations as retraining) has nothing to save and is left out.

    Args:
        lines: of all methods.
        method: the one to judge.
    """
    own = [line for line in lines if line["method"] == method]
    groups = milestones(summarise(own))

    def gap(metric: str) -> float | None:
        worst = []
        for request in groups:
            pairs = [(at(ln, f"model.{metric}"), at(ln, f"oracle.{metric}")) for ln in own if ln["request"] == request]
            gaps = [abs(model - oracle) for model, oracle in pairs if model is not None and oracle is not None]
            worst.append(sum(gaps) / len(gaps) if gaps else None)
        return _worst(worst)

    def ratio(inputs: str) -> float | None:
        return _worst(kl_ratio(group[0].statistics, inputs) for group in groups.values())

    costs = [
        (spent, retraining)
        for line in own
        if (spent := at(line, "cost.gradient_evaluations")) is not None
        and (retraining := at(line, "cost.oracle_gradient_evaluations")) is not None
        and not (line["kind"] == "learn" and spent == retraining)
    ]
    total = sum(retraining for _, retraining in costs)
    return [
        Check("UA gap to the oracle", gap("UA"), UA_GAP_LIMIT, "points"),
        Check("LA gap to the oracle", gap("LA"), LA_GAP_LIMIT, "points"),
        Check("KL / floor on test", ratio("test"), KL_RATIO_LIMITS["test"], "times"),
        Check("KL / floor on unlearned", ratio("unlearned"), KL_RATIO_LIMITS["unlearned"], "times"),
        Check("cost / retraining", sum(spent for spent, _ in costs) / total if total else None, COST_LIMIT, "percent"),
    ]


def kl_ratio(statistics: dict[str, Statistic], inputs: str) -> float | None:
    """Return mean KL over mean noise floor on a set of inputs, None where either is undefined."""
    kl, floor = statistics.get(f"model.KL.{inputs}"), statistics.get(f"noise_floor.KL.{inputs}")
    if kl is None or floor is None:
        return None
    if floor.mean == 0:
        return 1.0 if kl.mean == 0 else math.inf
    return kl.mean / floor.mean


def verdict(lines: list[Line], method: str) -> str:
    """Say in a sentence or two how a method did against the targets."""
    ua, la, test, unlearned, cost = checks = scorecard(lines, method)
    known = [check for check in checks if check.passed is not None]
    missed = [check.title for check in known if not check.passed]
    if ua.value is None:
        opening = "Nothing was unlearned. "
    else:
        within = "within" if ua.passed else "NOT within"
        opening = f"UA is {within} {ua.text(ua.limit)} of the oracle's (at worst {ua.text(ua.value)} away). "
    closing = f"Missed: {'; '.join(missed)}." if missed else f"All {len(known)} targets met."
    return (
        f"{opening}KL to the oracle over its noise floor is {test.text(test.value)} on test inputs and "
        f"{unlearned.text(unlearned.value)} on unlearned ones; LA is {la.text(la.value)} from the oracle's; the "
        f"cost is {cost.text(cost.value)} of the gradient evaluations of retraining at every request. {closing}"
    )


DIVERGED = "diverged"


def warnings(lines: list[Line]) -> list[str]:
    """Return what a reader must not overlook: divergence, UA that did not move or left the oracle's, falls of RA, gaps.

    Args:
        lines: of all methods and seeds.

    Returns:
        One sentence per rule, method and request, naming the seeds; divergence first.
    """
    previous = {(line["method"], line["seed"], line["request"]): line for line in lines}
    found: dict[tuple[str, int, str, str], list[tuple[int, str]]] = {}
    for line in lines:
        before = previous.get((line["method"], line["seed"], line["request"] - 1))
        for rule, detail in _rules(line, before):
            found.setdefault((line["method"], line["request"], line["name"], rule), []).append((line["seed"], detail))
    sentences = []
    for method, request, name, rule in sorted(found, key=lambda key: key[3] != DIVERGED):
        details = "; ".join(f"seed {seed}: {detail}" for seed, detail in found[method, request, name, rule])
        sentences.append(f"{method}, request {request + 1} ({name}): {rule}: {details}")
    every_seed = {line["seed"] for line in lines}
    for summary in summarise(lines):
        missing = sorted(every_seed - set(summary.seeds))
        if missing:
            sentences.append(f"{summary.method}, request {summary.request + 1}: no result yet for seeds {missing}")
    return sentences


def _rules(line: Line, before: Line | None) -> Iterator[tuple[str, str]]:
    diverged = [path for path, value in _numbers({"model": line["model"]}) if not math.isfinite(value)]
    if diverged:
        yield DIVERGED, "not finite: " + ", ".join(path.removeprefix("model.") for path in diverged)
    ua, oracle_ua, ra = at(line, "model.UA"), at(line, "oracle.UA"), at(line, "model.RA")
    ra_before = at(before, "model.RA") if before else None
    if ua is not None and oracle_ua is not None and line["kind"] == "unlearn":
        detail = f"{number(ua)}, oracle {number(oracle_ua)}"
        way = (ra_before or 0.0) - oracle_ua  # what is now unlearned was retained before this request
        if way > UA_GAP_LIMIT and (ra_before or 0.0) - ua < STUCK_SHARE * way:
            yield "UA did not move", detail
        elif ua - oracle_ua > UA_GAP_LIMIT:
            yield "UA above the oracle's, unlearning is incomplete", detail
        elif oracle_ua - ua > UA_GAP_LIMIT:
            yield "UA below the oracle's, over-forgetting", detail
    if ra is not None and ra_before is not None and ra_before - ra > DROP_LIMIT:
        yield "RA dropped", f"{number(ra_before)} to {number(ra)}"
    relapse = at(line, "model.relapse")
    if relapse is not None and relapse > DROP_LIMIT:
        yield "relapse, UA rose after the unlearning", number(relapse)
