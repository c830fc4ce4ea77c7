"""The report of a run: one HTML file made from what the run left on disk. No training.

The file is self-contained (style and SVG plots inside, nothing loaded from anywhere) and follows the reader's light or
dark setting. It is over 300 lines because the page's text, style and figures belong to one picture.
"""

import html
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from ugclu_jax.report.tables import (
    COLUMNS,
    KL_RATIO_LIMITS,
    TABLE_WIDTH,
    UA_GAP_LIMIT,
    Column,
    Line,
    RequestSummary,
    Statistic,
    by_request,
    comparison_markdown,
    kl_ratio,
    mean_text,
    number,
    read_metrics,
    references,
    request_table,
    scorecard,
    std_text,
    summarise,
    verdict,
    warnings,
)

__all__ = ["TABLE_WIDTH", "comparison_markdown", "read_metrics", "request_table", "summarise", "write_html"]

# Figures are drawn in stand-in colours that become CSS variables of the page, so that plots follow light and dark.
INK, MUTED = "#010203", "#818283"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's colour-blind-safe set
MARKERS = "osD^vP"
CSS_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)"} | {c: f"var(--series-{i})" for i, c in enumerate(SERIES)}
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" in a request's name is a "$"
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}
LABEL_HEIGHT = 0.28  # inches that the name of a curve takes at its end
TRACE_POINTS = 60  # a trace is averaged down to this many points before it is drawn

GLOSSARY = {  # name: (definition, better)
    "LA": (
        "Mean over retained tasks (classes, where requests ignore tasks) of test accuracy after the request.",
        "high",
    ),
    "UA": (
        "Accuracy on the unlearned training examples; UA_test is the same on test examples of the unlearned tasks or "
        "classes. Below the oracle's is over-forgetting, and as wrong as above it.",
        "near the oracle's",
    ),
    "RA, TA": (
        "Accuracy on the retained training examples, and on the test examples of what is retained.",
        "near the oracle's",
    ),
    "FM": (
        "Mean over retained tasks of the best earlier test accuracy minus the present one, counted from the task's own "
        "learning on; a re-learned task starts anew.",
        "low",
    ),
    "MIA": (
        "Share of the unlearned examples that a membership attacker calls members: a balanced logistic regression on "
        "one feature (the loss, in the tables), fitted on equally many retained training and test examples. MIA_AUC is "
        "its area under the ROC curve on held-out members and non-members.",
        "near the oracle's",
    ),
    "KL": (
        "Mean over inputs of KL(oracle ‖ model) between output distributions, natural logarithms, on retained, newly "
        "learned, unlearned and test inputs.",
        "low, at best the noise floor",
    ),
    "JS": ("½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2; at most ln 2.", "low"),
    "noise floor": ("KL between oracles of different seeds on the same inputs: what retraining itself scores.", "–"),
    "RTE": ("Seconds of a request: mask, loop and buffer, without compilation and evaluation.", "low"),
    "compile s": ("Seconds of compilation, paid once for all requests of one size.", "low"),
    "gradient evaluations": ("Forward-backward passes over one batch, saliency included.", "low"),
    "ToW": ("(1 − |ΔUA|)(1 − |ΔRA|)(1 − |ΔTA|), differences to the oracle.", "high"),
    "relapse": ("Largest rise of UA above its value right after the unlearning, over later requests.", "low"),
    "oracle": ("The same architecture trained from scratch on everything retained after the request.", "–"),
}
TARGETS = (
    "Each target is held against the worst of all unlearn requests and the last request. UA and LA gaps are absolute "
    "and averaged over seeds; a KL ratio is mean KL over mean noise floor. A request learned from scratch has no cost "
    "to save and is left out of the cost."
)
KL_INPUTS = ("retained", "test", "unlearned")
HEADER = (
    "dataset",
    "model",
    "tasks",
    "capacity",
    "evaluate_on",
    "evaluation_examples",
    "per_class",
    "smoke",
    "command",
)  # settings at the top


def _config(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "config.json"
    if not path.is_file():
        raise ValueError(f"{str(path)!r} does not exist; a run's folder holds config.json beside metrics.jsonl")
    return json.loads(path.read_text(encoding="utf-8"))


def _leaves(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, dict) and tree:
        return [
            leaf for key, value in tree.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False))]


# --- figures ---------------------------------------------------------------------------------------------------------


def _svg(figure: Figure, name: str) -> str:
    """Return a figure as an <svg> element for a page: no size, no namespace URL, ids unique in the page."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", facecolor="none")
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<svg ([^>]*?)\bwidth="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)\bheight="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1system-ui, sans-serif", text)
    for colour, variable in CSS_COLOURS.items():
        text = text.replace(colour, variable)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def _mark_requests(axes: Axes, summaries: list[RequestSummary], named: bool) -> None:
    groups = by_request(summaries)
    for request, group in groups.items():
        unlearn = group[0].kind == "unlearn"
        if unlearn:
            axes.axvspan(request + 0.6, request + 1.4, color=MUTED, alpha=0.16, linewidth=0)
        axes.axvline(request + 1, color=MUTED, linewidth=0.6, linestyle="-" if unlearn else ":", alpha=0.7, zorder=0)
    ticks = [request + 1 for request in groups]
    if named:
        labels = [f"{tick} {group[0].name}" for tick, group in zip(ticks, groups.values(), strict=True)]
        axes.set_xticks(ticks, labels, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(ticks)
    axes.set_xlim(ticks[0] - 0.45, ticks[-1] + 0.45)
    axes.set_xlabel("request")


def _curve(summaries: list[RequestSummary], path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return requests (from 1), means and standard deviations (0 for none) of a path, where it is defined."""
    points = [(summary.request, summary.statistics[path]) for summary in summaries if path in summary.statistics]
    return (
        np.array([request + 1 for request, _ in points], dtype=float),
        np.array([statistic.mean for _, statistic in points], dtype=float),
        np.array([statistic.std or 0.0 for _, statistic in points], dtype=float),
    )


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each curve's name beside its end, at the right of the axes, pushed apart where they would overlap."""
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted((float(to_axes.transform((0.0, y))[1]), text, colour) for y, text, colour in ends)
    gap, heights = LABEL_HEIGHT / axes.figure.get_figheight(), [height for height, _, _ in placed]
    for row in range(1, len(heights)):
        heights[row] = max(heights[row], heights[row - 1] + gap)
    excess = max(0.0, heights[-1] - 1.0) if heights else 0.0
    for height, (_, text, colour) in zip(heights, placed, strict=True):
        axes.text(1.015, height - excess, text, color=colour, transform=axes.transAxes, va="center", fontweight="bold")


def _log_scale(axes: Axes) -> None:
    """Make the y-axis logarithmic with plain numbers on it: mathematical type does not survive as text in an SVG."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _draw(
    axes: Axes, summaries: list[RequestSummary], path: str, reference: str, reference_name: str, named: bool
) -> None:
    """Draw a number over requests, a line a method, and its reference; a cross on the upper edge where it diverged."""
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    shared = [max(group, key=lambda summary: len(summary.seeds)) for group in by_request(summaries).values()]
    _mark_requests(axes, summaries, named)
    curves = [
        (
            name,
            SERIES[i % len(SERIES)],
            MARKERS[i % len(MARKERS)],
            "-",
            [s for s in summaries if s.method == name],
            path,
        )
        for i, name in enumerate(methods)
    ]
    curves.append((reference_name, INK, ".", "--", shared, reference))
    ends = []
    for name, colour, marker, dashes, rows, own_path in curves:
        x, mean, std = _curve(rows, own_path)
        fine = np.isfinite(mean)
        axes.plot(x, np.where(fine, mean, np.nan), color=colour, marker=marker, linestyle=dashes, zorder=3)
        spread = np.where(np.isfinite(std), std, 0.0)[fine]
        # On a log axis a band that reaches zero would leave the plot: it stops at a tenth of the mean.
        low = np.maximum(mean[fine] - spread, 0.1 * mean[fine])
        axes.fill_between(x[fine], low, mean[fine] + spread, color=colour, alpha=0.16, linewidth=0)
        edge = axes.get_xaxis_transform()
        axes.plot(x[~fine], np.full((~fine).sum(), 0.98), "x", color=colour, transform=edge, markersize=8)
        if fine.any():
            ends.append((mean[fine][-1], name, colour))
    positive = np.concatenate([_curve(s, p)[1] for *_, s, p in curves])
    positive = positive[np.isfinite(positive)]
    if reference_name == "noise floor":
        if positive.size and positive.min() > 0 and positive.max() > 8 * positive.min():
            _log_scale(axes)
        else:
            axes.set_ylim(bottom=0.0)
        x, floor, _ = _curve(shared, reference)
        axes.autoscale_view()
        bottom = axes.get_ylim()[0]
        axes.fill_between(x, bottom, floor, color=MUTED, alpha=0.22, linewidth=0, zorder=1)
        axes.set_ylim(bottom=bottom)
    else:
        axes.set_ylim(-0.03, 1.03)
    _label_ends(axes, ends)


def _over_requests(
    summaries: list[RequestSummary], panels: list[tuple[str, str, str]], reference_name: str, unit: str, name: str
) -> str:
    # As high as the names of all methods, one above the other, beside the axes.
    curves = len({summary.method for summary in summaries}) + 1
    figure = Figure(figsize=(11.0, max(3.7, 1.3 * curves * LABEL_HEIGHT)), layout="constrained")
    for axes, (title, path, reference) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, summaries, path, reference, reference_name, named=len(panels) < 3)
        axes.set_title(title)
        axes.set_ylabel(unit)
    return _svg(figure, name)


def _binned(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a trace over blocks of steps, down to `TRACE_POINTS` points at most: (middle steps, means)."""
    blocks = np.array_split(np.arange(losses.size), min(TRACE_POINTS, losses.size))
    return np.array([block.mean() for block in blocks]), np.array([losses[block].mean() for block in blocks])


def _read_trace(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        # Opened here: of a damaged archive np.load leaves the file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} is not a readable trace ({error}); delete it to report without it") from error


def _trace_figure(run_dir: Path, summaries: list[RequestSummary], method: str) -> str:
    """Return the loss traces of a method, a panel a request and a line a seed; a sentence where it left none."""
    own = [summary for summary in summaries if summary.method == method]
    columns = min(7, len(own))
    rows = math.ceil(len(own) / columns)
    figure = Figure(figsize=(11.0, 0.5 + 1.75 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    lowest = math.inf
    for axes, summary in zip(panels, own, strict=False):
        axes.set_title(f"{summary.request + 1} {summary.name}", fontsize=8)
        clipped = []
        for seed in summary.seeds:
            trace = _read_trace(run_dir / "runs" / method / f"seed-{seed}" / "traces" / f"{summary.request}.npz")
            remain = trace.get("remain_losses", np.zeros((0, 0)))
            remain = remain.mean(axis=1) if remain.ndim == 2 and remain.size else np.zeros(0)
            for losses, colour in ((trace.get("task_losses", np.zeros(0)), SERIES[1]), (remain, SERIES[0])):
                if losses.size:
                    step, mean = _binned(losses)
                    mean = np.where(np.isfinite(mean), mean, np.nan)
                    lowest = min(lowest, np.nanmin(mean, initial=math.inf))
                    axes.plot(step, mean, color=colour, linewidth=1.0, alpha=0.75, marker="." if step.size == 1 else "")
            clipped += list(trace.get("clipped", ()))
        if not axes.lines:
            axes.text(0.5, 0.5, "no trace", color=MUTED, ha="center", transform=axes.transAxes)
        if summary.kind == "unlearn":
            axes.patch.set(facecolor=MUTED, alpha=0.16)
        axes.set_xlabel(
            f"outer step (clipped {100 * np.mean(clipped):.0f} %)" if clipped else "outer step", fontsize=7.5
        )
    for axes in panels[len(own) :]:
        axes.set_axis_off()
    if not any(axes.lines for axes in panels):
        return f"<p>{html.escape(method)} left no traces.</p>"
    if 0 < lowest < math.inf:
        for axes in panels[: len(own)]:
            _log_scale(axes)
    for axes in panels[::columns]:
        axes.set_ylabel("loss (nats)")
    figure.legend(
        handles=[
            Line2D([], [], color=SERIES[1], label="task loss (what is learned or unlearned)"),
            Line2D([], [], color=SERIES[0], label="remain loss (buffer), mean over inner steps"),
        ],
        loc="outside upper left", ncols=2, frameon=False,
    )  # fmt: skip
    return _svg(figure, f"traces-{re.sub(r'[^A-Za-z0-9_-]', '-', method)}")


# --- parts of the page -----------------------------------------------------------------------------------------------


def _table(head: list[str], rows: list[str], kind: str = "") -> str:
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(column: Column, statistic: Statistic | None, off: bool = False) -> str:
    spread = std_text(column, statistic)
    small = f" <small>{spread}</small>" if spread else ""
    return f"<td{' class=off' if off else ''}>{mean_text(column, statistic)}{small}</td>"


def _off_target(column: Column, summary: RequestSummary) -> bool:
    own, other = summary.statistics.get(column.path), summary.statistics.get(column.reference or "")
    if own is None or other is None:
        return False
    if column.title == "UA":
        return not abs(own.mean - other.mean) <= UA_GAP_LIMIT
    if column.title.startswith("KL "):
        inputs = column.title.removeprefix("KL ")
        ratio = kl_ratio(summary.statistics, inputs)
        return ratio is not None and not ratio <= KL_RATIO_LIMITS.get(inputs, math.inf)
    return not math.isfinite(own.mean)


def _request_rows(summaries: list[RequestSummary]) -> str:
    head = ["<th class=left>request</th><th class=left>method</th>"]
    for column in COLUMNS:
        metric = column.title if column.title in GLOSSARY else column.title.split()[0]
        meaning = html.escape(GLOSSARY[metric][0])
        head.append(f'<th title="{meaning}">{column.title.replace(" ", "<br>")}</th>')
    rows = []
    for request, group in by_request(summaries).items():
        badge = f'<span class="{group[0].kind}">{request + 1}</span>'
        first = f'<th class="left" rowspan="{len(group) + 1}">{badge} {html.escape(group[0].name)}</th>'
        for summary in group:
            cells = [_cell(c, summary.statistics.get(c.path), _off_target(c, summary)) for c in COLUMNS]
            start = f'<tr class="first">{first}' if summary is group[0] else "<tr>"
            rows.append(f"{start}<td class=left>{html.escape(summary.method)}</td>{''.join(cells)}</tr>")
        shared = references(group)
        cells = [_cell(column, shared.get(column.reference or "")) for column in COLUMNS]
        rows.append(f"<tr class=reference><td class=left>oracle · noise floor</td>{''.join(cells)}</tr>")
    return _table(head, rows)


def _scorecard(lines: list[Line], methods: list[str]) -> str:
    cards = {method: scorecard(lines, method) for method in methods}
    titles = cards[methods[0]]
    head = [
        "<th class=left>method</th>",
        *(f"<th>{c.title}<br><small>target ≤ {c.text(c.limit)}</small></th>" for c in titles),
    ]
    marks = {True: "<b class=good>✓</b> ", False: "<b class=bad>✗</b> ", None: ""}
    rows = [
        f"<tr><th class=left>{html.escape(method)}</th>"
        + "".join(f"<td>{marks[check.passed]}{check.text(check.value)}</td>" for check in checks)
        + "</tr>"
        for method, checks in cards.items()
    ]
    return _table(head, rows, "score")


def _matrix(summaries: list[RequestSummary], method: str) -> str:
    """Return the accuracy matrix as a table whose cells are shaded by accuracy: groups down, requests across."""
    own = [summary for summary in summaries if summary.method == method]
    prefix = "model.group_accuracy."
    groups = list(dict.fromkeys(p.removeprefix(prefix) for s in own for p in s.statistics if p.startswith(prefix)))
    if not groups:
        return ""
    head = ["<th class=left>test accuracy</th>"]
    head += [f'<th><span class="{s.kind}">{s.request + 1}</span><br>{html.escape(s.name)}</th>' for s in own]
    rows = []
    for group in groups:
        cells = [f"<th class=left>{html.escape(group)}</th>"]
        for summary in own:
            statistic = summary.statistics.get(prefix + group)
            oracle = summary.statistics.get(f"oracle.group_accuracy.{group}")
            mean = statistic.mean if statistic else None
            share = 100 * min(max(mean, 0.0), 1.0) if mean is not None and math.isfinite(mean) else 0.0
            below = f"<br><small>oracle {number(oracle.mean)}</small>" if oracle else ""
            dark = " class=dark" if share > 75 else ""
            cells.append(f'<td{dark} style="--share:{share:.0f}%">{number(mean)}{below}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<h3>{html.escape(method)}</h3>" + _table(head, rows, "matrix")


def _every_number(summaries: list[RequestSummary], method: str) -> str:
    own = [summary for summary in summaries if summary.method == method]
    paths = list(dict.fromkeys(path for summary in own for path in summary.statistics))
    head = [
        "<th class=left>number</th>",
        *(f"<th>{summary.request + 1}<br>{html.escape(summary.name)}</th>" for summary in own),
    ]
    rows = []
    for path in paths:
        integer = path.startswith("cost.") or "." not in path
        cells = "".join(_cell(Column(path, path, None, integer), summary.statistics.get(path)) for summary in own)
        rows.append(f"<tr><th class=left>{html.escape(path)}</th>{cells}</tr>")
    return f"<details><summary>Every number of {html.escape(method)}</summary>{_table(head, rows)}</details>"


def _chips(config: dict[str, Any], lines: list[Line], methods: list[str]) -> str:
    seeds = sorted({line["seed"] for line in lines})
    facts = [("methods", ", ".join(methods)), ("seeds", ", ".join(map(str, seeds)))]
    facts.append(("requests", str(len({line["request"] for line in lines}))))
    facts += [(key, str(config[key])) for key in HEADER if config.get(key) not in (None, False)]
    return "".join(f"<li><span>{html.escape(key)}</span> {html.escape(value)}</li>" for key, value in facts)


CSS = """
:root{color-scheme:light dark;--paper:#fff;--raised:#f5f6f8;--ink:#1b1f24;--muted:#687078;--line:#d9dde2;--good:#00734f;
--bad:#b34700;--series-0:#0068a6;--series-1:#c75400;--series-2:#00855f;--series-3:#b4588a;--series-4:#a87000;
--series-5:#2b8cc4}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--raised:#1e2226;--ink:#e8eaed;--muted:#9aa3ab;--line:#363c42;
--good:#3fc79a;--bad:#ff9350;--series-0:#5db4ee;--series-1:#ff8f45;--series-2:#2fc394;--series-3:#e39bc4;
--series-4:#efb03c;--series-5:#8fd0f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.9em;line-height:1.2;margin:0}h3{font-size:1em;margin:1.2em 0 .3em}
h2{font-size:1.25em;margin:2.2em 0 .4em;padding-top:.6em;border-top:1px solid var(--line)}
p{max-width:110ch;margin:.4em 0}.lead{color:var(--muted)}small,.note,figcaption{color:var(--muted);font-size:.86em}
.chips{list-style:none;display:flex;flex-wrap:wrap;gap:6px;padding:0;margin:.8em 0 1.2em}
.chips li{background:var(--raised);border:1px solid var(--line);border-radius:6px;padding:1px 8px;font-size:.85em;
overflow-wrap:anywhere}.chips span{color:var(--muted)}
.verdict{background:var(--raised);border-left:4px solid var(--good);border-radius:4px;padding:10px 16px;margin:10px 0}
.verdict.missed{border-color:var(--bad)}.verdict b{display:block}
.warnings{border:1px solid var(--bad);border-radius:6px;padding:8px 16px;margin:14px 0}.warnings b{color:var(--bad)}
.warnings ul{margin:.3em 0;padding-left:1.2em}summary{cursor:pointer;font-weight:600}details{margin:.8em 0}
.scroll{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;font-size:.85em;font-variant-numeric:tabular-nums}
th,td{padding:3px 8px;text-align:right;white-space:nowrap;vertical-align:top}.left{text-align:left}
thead th{border-bottom:1.5px solid var(--muted);vertical-align:bottom}th.left{font-weight:600}tbody th{font-weight:500}
tr.first>*{border-top:1px solid var(--line)}.reference td{color:var(--muted)}
.off{color:var(--bad);font-weight:700}
.score td,.score th{padding:6px 14px}.good{color:var(--good)}.bad{color:var(--bad)}
.learn,.unlearn{display:inline-block;min-width:1.7em;text-align:center;border-radius:4px;font-weight:600;padding:0 4px;
border:1px solid var(--line)}.unlearn{background:var(--ink);color:var(--paper);border-color:var(--ink)}
.matrix td,.matrix th{text-align:center}.matrix th.left{text-align:left}
.matrix td{border:2px solid var(--paper);min-width:5.6em;
background:color-mix(in srgb,#0b5f9e var(--share),var(--raised))}
.matrix .dark,.matrix .dark small{color:#fff}.matrix td small{color:inherit}
figure{margin:.6em 0;overflow-x:auto}figure svg{display:block;width:100%;min-width:720px;height:auto}
figcaption{max-width:110ch}dt{font-weight:600;margin-top:.6em}dd{margin:0;max-width:90ch}dd i{color:var(--muted)}
@media print{.scroll,figure{overflow:visible}}
"""


def _page(run_dir: Path, config: dict[str, Any], lines: list[Line]) -> str:
    summaries = summarise(lines)
    methods = list(dict.fromkeys(line["method"] for line in lines))
    experiment = str(config.get("experiment", run_dir.resolve().name))

    def per_method(part: Callable[[str], str]) -> str:
        return "".join(part(method) for method in methods)

    def verdict_box(method: str) -> str:
        missed = any(check.passed is False for check in scorecard(lines, method))
        text = html.escape(verdict(lines, method))
        return f'<div class="verdict{" missed" if missed else ""}"><b>{html.escape(method)}</b>{text}</div>'

    alarms = [f"<li>{html.escape(text)}</li>" for text in warnings(lines)]
    listed = f"<b>Look at these first ({len(alarms)})</b><ul>{''.join(alarms)}</ul>"
    alarm_box = f"<div class=warnings>{listed}</div>" if alarms else ""
    several = len({line["seed"] for line in lines}) > 1
    spread = "Mean ± standard deviation over seeds." if several else "One seed."
    accuracy = [
        ("LA: test accuracy on what is retained", "model.LA", "oracle.LA"),
        ("UA: accuracy on what was unlearned", "model.UA", "oracle.UA"),
    ]
    kl = [(f"KL on {inputs} inputs", f"model.KL.{inputs}", f"noise_floor.KL.{inputs}") for inputs in KL_INPUTS]
    settings = [
        f"<tr><th class=left>{html.escape(k)}</th><td class=left>{html.escape(v)}</td></tr>" for k, v in _leaves(config)
    ]
    glossary = [
        f"<dt>{k}</dt><dd>{html.escape(text)} <i>Better: {better}.</i></dd>" for k, (text, better) in GLOSSARY.items()
    ]
    with matplotlib.rc_context(STYLE):
        accuracy_svg = _over_requests(summaries, accuracy, "oracle", "accuracy (share)", "accuracy")
        kl_svg = _over_requests(summaries, kl, "noise floor", "KL(oracle ‖ model) (nats)", "kl")
        traces = per_method(
            lambda m: f"<h3>{html.escape(m)}</h3><figure>{_trace_figure(run_dir, summaries, m)}</figure>"
        )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{html.escape(experiment)}</title><style>{CSS}</style></head><body><main>
<h1>{html.escape(experiment)}</h1>
<p class="lead">Continual learning and unlearning, measured against retraining from scratch.</p>
<ul class="chips">{_chips(config, lines, methods)}</ul>
{per_method(verdict_box)}
{alarm_box}
{_scorecard(lines, methods)}
<p class="note">{TARGETS}</p>
<h2>Every request</h2>
<p class="note">{spread} The grey line of each request is what to compare with: the oracle's LA, UA, MIA and gradient
evaluations, and the noise floor of each KL. Orange: UA over {100 * UA_GAP_LIMIT:.0f} points from the oracle's, or KL
over {KL_RATIO_LIMITS["test"]:g} (test) or {KL_RATIO_LIMITS["unlearned"]:g} (unlearned) times its floor.</p>
{_request_rows(summaries)}
<h2>Accuracy over requests</h2>
<figure>{accuracy_svg}<figcaption>Grey columns are unlearn requests, dotted lines learn requests. Dashed: the oracle.
Bands: ± one standard deviation over seeds. UA should follow the oracle's, not zero. A cross on the upper edge: not
finite.</figcaption></figure>
<h2>KL to the oracle over requests</h2>
<figure>{kl_svg}<figcaption>Inside the shaded area at the bottom a model is as close to the oracle as another oracle is.
Bands: ± one standard deviation over seeds; grey columns are unlearn requests.</figcaption></figure>
<h2>Accuracy matrix</h2>
{per_method(lambda method: _matrix(summaries, method))}
<h2>Losses within each request</h2>
{traces}
<h2>Details</h2>
{per_method(lambda method: _every_number(summaries, method))}
<details><summary>Configuration</summary>
{_table(["<th class=left>setting</th>", "<th class=left>value</th>"], settings)}</details>
<details open><summary>What the numbers mean</summary><dl>{"".join(glossary)}</dl></details>
</main></body></html>
"""


def write_html(run_dir: Path | str) -> Path:
    """Write `report.html` into a run's folder, from `config.json`, `metrics.jsonl` and the traces in it.

    The file appears whole or not at all: it is written beside its place and moved there.

    Args:
        run_dir: the run's folder; a run that has not finished yet is reported as far as it got.

    Returns:
        The path of the report.

    Raises:
        ValueError: `config.json` or `metrics.jsonl` is missing or damaged, or a trace is.
    """
    folder = Path(run_dir)
    text = _page(folder, _config(folder), read_metrics(folder))
    target = folder / "report.html"
    temporary = folder / f".report-{os.getpid()}.html"
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
