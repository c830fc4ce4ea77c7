"""What the page says of each unlearn request: distances, distributions, attacks, and a few examples with their losses.

All of it comes from outputs that the run left; where they are gone, a sentence stands in their place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from scipy.special import log_softmax

from ugclu_jax.report import outputs, shown
from ugclu_jax.report.attack_figures import Distributions, Panel, margins_of, margins_svg, roc_svg
from ugclu_jax.report.attacks import rmia_scores
from ugclu_jax.report.evidence import Evidence
from ugclu_jax.report.format import number
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.outputs import BEFORE, LABELS, ROWS, Arrays
from ugclu_jax.report.ranking import energy_text
from ugclu_jax.report.shown import Shown
from ugclu_jax.report.summaries import methods_of
from ugclu_jax.report.visible import visible

HEADS = ("E", "E unlearned", "E test", "E matched", "E before", "E counterfactual", "fresh oracle")


class Strip(NamedTuple):
    """Some unlearned examples, and what the label costs each model: mean over seeds, nats."""

    examples: list[Shown]
    oracle: list[str]
    before: list[tuple[str, list[str]]]  # by method; one where all methods found the same models
    after: list[tuple[str, list[str]]]


class Section(NamedTuple):
    """Of one unlearn request."""

    request: int
    name: str
    heads: Sequence[str]
    distances: list[tuple[str, list[str]]]  # by method
    margins: Markup | None
    attacks: Markup | None
    strip: Strip | None
    missing: list[str]  # sentences that stand in the place of what is not there


def sections(
    run_dir: Path, lines: Sequence[Line], evidence: Sequence[Evidence], show_unlearned: bool = True
) -> list[Section]:
    """One for each unlearn request of a run.

    Args:
        run_dir: the run's folder.
        lines: of its metrics.
        evidence: of the same run.
        show_unlearned: whether examples are shown, where the run kept some.

    Raises:
        ValueError: a file of outputs, or of examples, is damaged.
    """
    requests = {line.request: line.name for line in lines if line.kind == "unlearn"}
    found = []
    for request, name in sorted(requests.items()):
        own = [line for line in lines if line.request == request]
        found.append(_section(run_dir, request, name, own, evidence, show_unlearned))
    return found


def _section(
    run_dir: Path, request: int, name: str, own: Sequence[Line], evidence: Sequence[Evidence], show_unlearned: bool
) -> Section:
    known = [each for each in evidence if each.request == request]
    missing = [f"{each.method} has no E: {each.undefined}." for each in known if each.undefined]
    distances = [(each.method, _distances(each)) for each in known if each.energy is not None]
    empty = Section(request, name, HEADS, distances, None, None, None, missing)
    try:
        oracles = outputs.read(run_dir, outputs.oracle_file(request))
    except FileNotFoundError:
        missing.append(
            f"No distributions, attacks and examples: the outputs of the oracles ({outputs.oracle_file(request)}) are "
            "not in the run's folder."
        )
        return empty
    stacks: dict[str, Arrays] = {}
    panels: list[Panel] = []
    margins: list[Distributions] = []
    for method in methods_of(own):
        names = {line.seed: outputs.model_file(method, line.seed, request) for line in own if line.method == method}
        stack = outputs.stack(run_dir, names)
        if stack.missing:
            gone = ", ".join(map(str, stack.missing))
            missing.append(f"{method}: outputs of seed {gone} are not in the run's folder.")
        if not stack.members or "unlearned" not in stack.sets or "unlearned" not in oracles:
            continue
        stacks[method] = stack.sets
        margins.append(margins_of(method, stack.sets, oracles))
        try:
            panels.append(Panel(method, {who: each.curve for who, each in rmia_scores(stack.sets, oracles).items()}))
        except (ValueError, KeyError) as error:
            missing.append(f"{method}: no attack ({error}).")
    examples = shown.read(run_dir, request) if show_unlearned else []
    strip = _strip(examples, stacks, oracles) if stacks else None
    if strip is None:
        missing.append(
            "No unlearned examples are shown: none were kept (--no-show-unlearned, inputs that are neither pictures "
            "nor texts, or a purge removed them)."
            if show_unlearned
            else "Unlearned examples are left out, as --no-show-unlearned asks."
        )
    return empty._replace(
        margins=_drawn(margins, f"margins-{request + 1}"),
        attacks=roc_svg(panels, f"attacks-{request + 1}") if panels else None,
        strip=strip,
    )


def _drawn(margins: Sequence[Distributions], name: str) -> Markup | None:
    return margins_svg(margins, name) if margins else None


def _distances(each: Evidence) -> list[str]:
    parts = [None, None] if each.energy is None else [each.energy.unlearned, each.energy.test]
    pairs = (each.matched, each.before, each.counterfactual)
    error = None if each.fresh is None else each.fresh.standard_error
    fresh = "–" if error is None else f".000 ±{number(error)}"
    return [energy_text(each.energy), *map(energy_text, parts), *map(energy_text, pairs), fresh]


def _strip(examples: Sequence[Shown], stacks: Mapping[str, Arrays], oracles: Arrays) -> Strip | None:
    rows = {int(row): place for place, row in enumerate(oracles.get(ROWS + "unlearned", []))}
    there = [each for each in examples if each.row in rows]
    if not there:
        return None
    places = [rows[each.row] for each in there]
    labels = oracles[LABELS + "unlearned"][places]

    def losses(logits: np.ndarray) -> list[str]:
        nats = -log_softmax(np.asarray(logits[:, places], np.float64), axis=-1)[:, np.arange(len(places)), labels]
        return [number(float(value)) for value in nats.mean(0)]

    name = BEFORE + "unlearned"
    before = [(method, losses(own[name])) for method, own in stacks.items() if name in own]
    after = [(method, losses(own["unlearned"])) for method, own in stacks.items()]
    if before and all(each[1] == before[0][1] for each in before):
        before = [("", before[0][1])]
    seen = [each._replace(content=visible(each.content) if each.kind == shown.TEXT else each.content) for each in there]
    return Strip(seen, losses(oracles["unlearned"]), before, after)
