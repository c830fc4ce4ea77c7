"""An audit as a table of a terminal, as a page of markdown, and as JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ugclu_jax.evidence import TruePositives
from ugclu_jax.report import grid
from ugclu_jax.report.attacks import FALSE_POSITIVES, WHO, Operating
from ugclu_jax.report.audit import SIDES, Audit, Margins
from ugclu_jax.report.format import markdown_table, number, statistic_text
from ugclu_jax.report.ranking import energy_text
from ugclu_jax.report.stream_audit import StreamAudit
from ugclu_jax.report.visible import visible

READING = (
    "This is evidence, not proof: a measure that finds nothing has found nothing, on these data, with these models. "
    "Only retraining is proof.",
    "An attack on a whole population, as the column MIA of the other tables is, overstates privacy: it misses the few "
    "examples that a model still knows. RMIA is read beside its area on an oracle held out, which never saw them.",
    "An area of one half says that unlearned examples are not told from unseen ones of their kind; whether a class is "
    "gone as a whole, E says.",
)
HEADS = (
    ("E",),
    ("E", "unlearned"),
    ("E", "test"),
    ("E", "matched"),
    ("E", "before"),
    ("RMIA", "before"),
    ("RMIA", "after"),
    ("RMIA", "oracle"),
    ("TPR at", "1 %"),
    ("oracle's", "TPR"),
    ("nearer",),
    ("average", "gap"),
    ("ToW",),
    ("ToW-MIA",),
)
PARTS = ("energy", "matched", "before", "counterfactual", "learning_alone", "fresh")
STREAM_HEADS = ("erosion", "reversal", "plasticity")


def _share(value: float) -> str:
    return "–" if math.isnan(value) else number(value)


def _area(each: Operating | None) -> str:
    if each is None:
        return "–"
    return number(each.auc) + ("" if each.spread is None else f" ±{number(each.spread)}")


def true_positives_text(each: TruePositives) -> str:
    """A rate and its interval; a dash where there are too few non-members for it.

    >>> true_positives_text(TruePositives(0.5, 0.25, 0.75)), true_positives_text(TruePositives(*[math.nan] * 3))
    ('.500 (.250–.750)', '–')
    """
    if math.isnan(each.rate):
        return "–"
    return f"{number(each.rate)} ({number(each.low)}–{number(each.high)})"


def _nearer(audit: Audit) -> str:
    return "–" if audit.nearer is None else "yes" if audit.nearer else "no"


def _cells(audit: Audit) -> list[str]:
    energy, known = audit.evidence.energy, audit.evidence
    parts = [None, None] if energy is None else [energy.unlearned.value, energy.test.value]
    others = [None if pair is None else pair.value for pair in (known.matched, known.before)]
    tails = [audit.rmia[who].tails[0].rate if who in audit.rmia else math.nan for who in ("after", "oracle")]
    gaps = (audit.average_gap, audit.tow, audit.tow_mia)
    return [
        energy_text(energy),
        *map(number, (*parts, *others)),
        *(_area(audit.rmia.get(who)) for who in WHO),
        *map(_share, tails),
        _nearer(audit),
        *(number(None if each is None else each.mean) for each in gaps),
    ]


def _title(audit: Audit) -> str:
    return visible(f"request {audit.request + 1}: {audit.name}")


def _requests(audits: Iterable[Audit]) -> dict[int, list[Audit]]:
    found: dict[int, list[Audit]] = {}
    for audit in audits:
        found.setdefault(audit.request, []).append(audit)
    return found


def audit_table(audits: Sequence[Audit]) -> grid.Grid:
    """The terminal's table, whole at any width."""
    rows = []
    for group in _requests(audits).values():
        rows.append(grid.Row(_title(group[0]), style="bold"))
        rows += [grid.Row(visible(each.method), [grid.Cell(cell) for cell in _cells(each)]) for each in group]
    return grid.Grid("method", HEADS, rows, right=True)


def stream_table(streams: Sequence[StreamAudit]) -> grid.Grid:
    """The same for what is measured over the stream."""
    rows = [grid.Row(visible(each.method), [grid.Cell(cell) for cell in _stream_cells(each)]) for each in streams]
    return grid.Grid("over the stream", [(head,) for head in STREAM_HEADS], rows, right=True)


def _stream_cells(each: StreamAudit) -> list[str]:
    return [statistic_text(value) for value in (each.erosion, each.reversal, each.plasticity)]


def undefined(audits: Sequence[Audit], streams: Sequence[StreamAudit]) -> list[str]:
    """What could not be computed, each reason once, with the methods and requests that it is of where not of all."""
    found: list[str] = []
    groups: list[tuple[str, Sequence[Audit | StreamAudit]]] = [
        *((f" (request {request + 1})", group) for request, group in _requests(audits).items()),
        ("", streams),
    ]
    for where, group in groups:
        reasons: dict[str, list[str]] = {}
        for each in group:
            for sentence in each.undefined:
                reasons.setdefault(sentence, []).append(each.method)
        for sentence, methods in reasons.items():
            found.append(("" if len(methods) == len(group) else f"{', '.join(methods)}: ") + sentence + where)
    return found


def markdown(audits: Sequence[Audit], streams: Sequence[StreamAudit], notes: Sequence[str] = ()) -> str:
    """The whole of an audit as a page: what it says, how to read it, and what is not in it."""
    parts = ["# Audit", *READING, *notes]
    for group in _requests(audits).values():
        first = group[0].evidence
        parts += [
            f"## {_title(group[0])}",
            f"{first.oracles} oracles; models of {len(first.seeds)} seed{'s' if len(first.seeds) != 1 else ''}.",
            markdown_table(
                ["method", *(" ".join(head) for head in HEADS)], [[each.method, *_cells(each)] for each in group], 1
            ),
            "### Energy distance, by part",
            _energy_markdown(group),
            "### RMIA, each example attacked with the oracles as references",
            _attack_markdown({each.method: each.rmia for each in group}),
        ]
        liras = {each.method: {"after": each.u_lira} for each in group if each.u_lira is not None}
        if liras:
            parts += ["### U-LiRA, models after the request against oracles", _attack_markdown(liras)]
        for title, field in (("KLoM", "klom"), ("Gaussian KLoM", "gaussian_klom")):
            margins = {each.method: getattr(each, field) for each in group if getattr(each, field)}
            if margins:
                parts += [f"### {title}, in brackets what two halves of the oracles have", _margin_markdown(margins)]
        parts += [*_sentences(group)]
    parts += ["## Over the stream", _stream_markdown(streams)]
    missing = undefined(audits, streams)
    if missing:
        parts += ["## What could not be computed", "\n".join(f"- {visible(sentence)}" for sentence in missing)]
    return "\n\n".join(parts) + "\n"


def _energy_markdown(group: Sequence[Audit]) -> str:
    rows = []
    for each in group:
        for part in PARTS:
            pair = getattr(each.evidence, part)
            if pair is not None:
                rows.append([each.method, part.replace("_", " "), *map(energy_text, (pair, pair.unlearned, pair.test))])
    return markdown_table(["method", "of", "E", "unlearned", "test"], rows, 2)


def _attack_markdown(attacks: Mapping[str, Mapping[str, Operating]]) -> str:
    rates = [f"TPR at {100 * rate:g} % FPR (95 %)" for rate in FALSE_POSITIVES]
    rows = [
        [method, WHO[who], _area(each), *map(true_positives_text, each.tails), str(each.members), str(each.non_members)]
        for method, found in attacks.items()
        for who, each in found.items()
    ]
    return markdown_table(["method", "attack on", "AUC", *rates, "members", "non-members"], rows, 2)


def _margin_markdown(found: Mapping[str, Mapping[str, Margins]]) -> str:
    def cells(margins: Margins | None) -> list[str]:
        if margins is None:
            return ["–", "–"]
        both = zip(margins.models, margins.halves, strict=True)
        return [f"{number(own)} ({number(halves)})" for own, halves in both]

    head = ["method", *(f"{side} {which}" for side in SIDES for which in ("mean", "95th percentile"))]
    rows = [
        [method, *(cell for side in SIDES for cell in cells(by_side.get(side)))] for method, by_side in found.items()
    ]
    return markdown_table(head, rows, 1)


def _sentences(group: Sequence[Audit]) -> list[str]:
    found = []
    for each in group:
        if each.relative is not None and each.control is not None:
            to_oracles, to_before, p_value, _ = each.relative
            found.append(
                f"{each.method}: E {number(to_oracles)} to the oracles and {number(to_before)} to the models before, "
                f"p {p_value:.3f} that the request changed nothing; half of the oracles in place of the models: "
                f"{number(each.control.to_oracles)}, {number(each.control.to_before)}, p {each.control.p_value:.3f}."
            )
        if each.forgetting_quality is not None:
            halves = (
                ""
                if each.forgetting_halves is None
                else f" (two halves of the oracles: {number(each.forgetting_halves)})"
            )
            seeds = len(each.evidence.seeds)
            found.append(
                f"{each.method}: forgetting quality {number(each.forgetting_quality)}{halves}, from {seeds} models and "
                f"{each.evidence.oracles} oracles; the challenge takes 512 of each, and with few even fresh oracles "
                "stay far below 1."
            )
    return found


def _stream_markdown(streams: Sequence[StreamAudit]) -> str:
    return markdown_table(["method", *STREAM_HEADS], [[each.method, *_stream_cells(each)] for each in streams], 1)


def as_json(audits: Sequence[Audit], streams: Sequence[StreamAudit], notes: Sequence[str] = ()) -> str:
    """All numbers of an audit; null is undefined, and a number that is not finite is a word."""
    tree = {
        "reading": [*READING, *notes],
        "requests": [_tree(each) for each in audits],
        "stream": [_tree(each) for each in streams],
    }
    return json.dumps(tree, indent=1, allow_nan=False) + "\n"


def _tree(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _tree(each) for name, each in value._asdict().items() if name != "curves"}
    if isinstance(value, Mapping):
        return {name: _tree(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value
