"""The report of a run: one HTML file made from what the run left on disk. No training.

The file is self-contained (style and SVG plots inside, nothing loaded from anywhere) and follows the reader's light or
dark setting. What it says stands in `page.html`, how it looks in `style.css`; names from users are escaped there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from ugclu_jax import files
from ugclu_jax.report.auditable import read_config
from ugclu_jax.report.checks import (
    GUESS_AUC,
    KL_RATIO_LIMITS,
    UA_GAP_LIMIT,
    Check,
    scorecard,
    undefined,
    verdict,
    warnings,
)
from ugclu_jax.report.columns import KL_RETAINED, KL_TEST, KL_UNLEARNED, LA, UA
from ugclu_jax.report.evidence import read as read_evidence
from ugclu_jax.report.figures import over_requests
from ugclu_jax.report.glossary import GLOSSARY
from ugclu_jax.report.metrics import Line, read_metrics
from ugclu_jax.report.picture import ranking_svg
from ugclu_jax.report.ranking import NothingToRankError, Row, rank, readings, reservations
from ugclu_jax.report.remains import Remain, purge_command
from ugclu_jax.report.rows import Cell, Shade, accuracy_matrix, every_number, heading, request_rows
from ugclu_jax.report.summaries import RequestSummary, by_request, methods_of, summarise
from ugclu_jax.report.tables import COLUMNS
from ugclu_jax.report.templates import render
from ugclu_jax.report.traces import missing_traces, trace_figure
from ugclu_jax.report.unlearning import Section, sections

HEADER = (
    "dataset",
    "model",
    "tasks",
    "capacity",
    "buffer_sampling",
    "evaluate_on",
    "evaluation_examples",
    "per_class",
    "smoke",
    "command",
)
"""Settings at the top."""


class Method(NamedTuple):
    """What the page says of one method."""

    name: str
    verdict: str
    checks: list[Check]
    summaries: list[RequestSummary]
    matrix: dict[str, list[Shade]]  # by group, one a request
    numbers: dict[str, list[Cell]]  # by dotted name, one a request
    traces: Markup | None
    missing: list[str]  # sentences on traces that are gone

    @property
    def missed(self) -> bool:
        """Whether a target was missed."""
        return any(check.passed is False for check in self.checks)


def _leaves(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, dict) and tree:
        return [
            leaf for key, value in tree.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False))]


def _method(run_dir: Path, lines: list[Line], summaries: list[RequestSummary], name: str) -> Method:
    own = [summary for summary in summaries if summary.method == name]
    return Method(
        name,
        verdict(lines, name),
        scorecard(lines, name),
        own,
        accuracy_matrix(own),
        every_number(own),
        trace_figure(run_dir, own),
        missing_traces(run_dir, own),
    )


def _facts(config: dict[str, Any], lines: list[Line]) -> list[tuple[str, str]]:
    seeds = sorted({line.seed for line in lines})
    return [
        ("methods", ", ".join(methods_of(lines))),
        ("seeds", ", ".join(map(str, seeds))),
        ("requests", str(len({line.request for line in lines}))),
        *((key, str(config[key])) for key in HEADER if config.get(key) not in (None, False)),
    ]


def _ranked(run_dir: Path, lines: list[Line]) -> list[Row]:
    """Methods of a comparison; none for one, or where there is nothing to rank by."""
    if len(methods_of(lines)) < 2:
        return []
    try:
        return rank(lines, read_evidence(run_dir))
    except NothingToRankError:
        return []


def _page(
    run_dir: Path,
    config: dict[str, Any],
    lines: list[Line],
    remains: Sequence[Remain] | None,
    unlearned: Sequence[Section],
) -> str:
    summaries, ranked = summarise(lines), _ranked(run_dir, lines)
    accuracy = {"LA: test accuracy on what is retained": LA, "UA: accuracy on what was unlearned": UA}
    kl = {
        "KL on retained inputs": KL_RETAINED,
        "KL on test inputs": KL_TEST,
        "KL on unlearned inputs": KL_UNLEARNED,
    }
    return render(
        "page.html",
        title=str(config.get("experiment", run_dir.resolve().name)),
        facts=_facts(config, lines),
        methods=[_method(run_dir, lines, summaries, name) for name in methods_of(lines)],
        warnings=warnings(lines),
        undefined=undefined(lines),
        several_seeds=len({line.seed for line in lines}) > 1,
        limits={
            "ua": f"{100 * UA_GAP_LIMIT:.0f}",
            "kl_test": f"{KL_RATIO_LIMITS[KL_TEST]:g}",
            "kl_retained": f"{KL_RATIO_LIMITS[KL_RETAINED]:g}",
            "kl_unlearned": f"{KL_RATIO_LIMITS[KL_UNLEARNED]:g}",
            "auc": f"{GUESS_AUC:g}",
        },
        headings=[heading(column) for column in COLUMNS],
        requests=[request_rows(group) for group in by_request(summaries).values()],
        accuracy=over_requests(summaries, accuracy, "oracle", "accuracy (share)", "accuracy"),
        kl=over_requests(summaries, kl, "noise floor", "KL(oracle ‖ model) (nats)", "kl"),
        comparison=ranking_svg(ranked) if ranked else None,
        reservations=[*(readings(ranked) if ranked else []), *reservations(config, methods_of(lines))],
        unlearned=unlearned,
        remains=remains,
        purge=purge_command(run_dir),
        settings=_leaves(config),
        glossary=GLOSSARY,
    )


def write_html(run_dir: Path | str, remains: Sequence[Remain] | None = None, *, show_unlearned: bool = True) -> Path:
    """Write `report.html` into a run's folder, from `config.json`, `metrics.jsonl`, outputs and traces in it.

    The file appears whole or not at all: it is written beside its place and moved there.

    Args:
        run_dir: the run's folder; a run that has not finished yet is reported as far as it got.
        remains: what still holds traces of what was unlearned; None = nobody looked, and the page does not say.
        show_unlearned: whether unlearned examples are shown, where the run kept some.

    Returns:
        The path of the report.

    Raises:
        ValueError: `config.json` or `metrics.jsonl` is missing or damaged, or a trace, outputs or kept examples are.
    """
    folder = Path(run_dir)
    config, lines, target = read_config(folder), read_metrics(folder), folder / "report.html"
    if remains is not None:  # but for the page itself, whose size is not known before it is written
        remains = [each for each in remains if each.path.absolute() != target.absolute()]
    text = _page(folder, config, lines, remains, sections(folder, lines, read_evidence(folder), show_unlearned))
    files.write(target, text)
    return target
