"""Can a category be unlearned from both towers of a model of pictures and their names?

    python -m experiments.multimodal --seeds 0:3 --oracle-seeds 3      # emoji, `make data-emoji` first
    python -m experiments.multimodal --smoke                           # digits and their names, a minute

Reference: the paper, its open question of models of several modalities; Radford et al., arXiv 2103.00020. A picture's
logit of a category is its cosine to the name of the category, see `ugclu_jax.models.two_towers`: names are words, and
each word of `person-sport` is one of other names, too. All 38 subcategories of emoji, 40 pictures each at most, are
learned in two tasks; then two categories, of different tasks, are unlearned in one request. Shown both ways, before and
after and of oracles that never met them: name by picture (is the category's name the nearest, or among five, to its
pictures?) and picture by name (average precision of all test pictures by likeness to the name; a random order has the
category's share of them). A method that cut off one tower alone would be far from the oracles in both.

All settings are those of the one default. Expected: nothing is known of these. About 8 minutes of one core.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.models.two_towers import EMOJI
from ugclu_jax.report import measured, outputs
from ugclu_jax.report.format import statistic_text
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.outputs import BEFORE, LABELS
from ugclu_jax.report.summaries import Statistic, statistic

if TYPE_CHECKING:
    from ugclu_jax.evidence import Estimate

OURS, BASELINE = "ug_clu", "finetune_remain"
AMONG = 5
WAYS = ("name by picture", f"among {AMONG}", "picture by name", "kept: name by picture", "kept: picture by name")


@dataclass(frozen=True)
class MultimodalOptions(Group):
    """Which pictures, and what leaves."""

    emoji: Path = Path("data/emoji")
    """Folder that `make data-emoji` makes."""
    categories: tuple[str, ...] = ("animal-mammal", "heart")
    """Subcategories to unlearn, of different halves of the alphabet."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.categories if name not in EMOJI]
        if unknown or not self.categories:
            raise ValueError(f"categories must be some of {', '.join(EMOJI)}, got {' '.join(self.categories)}")
        super().__post_init__()


@dataclass(frozen=True)
class MultimodalConfig(StudyOptions, MultimodalOptions):
    """The study's configuration."""


def cells(options: MultimodalConfig) -> list[Cell]:
    """One: both towers are one model."""
    changes: dict[str, Any] = {"model": "ugclu_jax.models.two_towers:TwoTowers", "tasks": 2}
    if not options.smoke:
        changes |= {
            "dataset": "image_folder",
            "data": {"directory": str(options.emoji), "image_size": 32},
            "per_class": 40,
            "capacity": 300,
            "unlearn_classes": list(options.categories),
        }
    words = ("--scenario", "class_wise", "--no-counterfactuals", "--methods", OURS, BASELINE)
    return [Cell("two-towers", "compare", options.settings("classes", **changes), words)]


def conclude(_options: MultimodalConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Retrieval both ways, before, after, and of the oracles."""
    from ugclu_jax.report.trends import of_run  # scipy, which `--help` need not wait for

    run_dir = folders["two-towers"]
    lines, found, curves = read_metrics(run_dir), measured.rows_of(run_dir), of_run(run_dir)
    request = max(line.request for line in lines if line.kind == "unlearn")
    known = outputs.read(run_dir, outputs.oracle_file(request))
    labels = {side: known[LABELS + side] for side in ("test", "unlearned_test")}
    retrieved = {"oracles": retrieval(known, labels)}
    for method in found:
        seeds = [line.seed for line in lines if (line.method, line.request) == (method, request)]
        sets = outputs.stack(run_dir, {seed: outputs.model_file(method, seed, request) for seed in seeds}).sets
        past = {side: sets[BEFORE + side] for side in labels if BEFORE + side in sets}
        if len(past) == len(labels):
            retrieved.setdefault("before", retrieval(past, labels))  # of the learner, which all have
        retrieved[method] = retrieval(sets, labels)
    share = float(np.mean(np.concatenate([np.full(len(own), side != "test") for side, own in labels.items()])))
    less = curves[BASELINE].minus(curves[OURS]).mean() if {OURS, BASELINE} <= curves.keys() else None
    tables = (
        Table(
            "Retrieval of what was unlearned, and of what is kept",
            ("networks", *WAYS),
            [[name, *(statistic_text(one) for one in each)] for name, each in retrieved.items()],
            f"On test pictures, {100 * share:.1f} % of which are of unlearned categories. Name by picture: share of "
            f"pictures whose category's name is the nearest, or among {AMONG}; picture by name: mean average "
            "precision. ± deviation over networks.",
        ),
        Table("Distances", ("method", *measured.HEAD), [[n, *measured.texts(row)] for n, row in found.items()]),
    )
    return Findings(answer(retrieved, less), tables)


def retrieval(sets: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> list[Statistic]:
    """Both ways, over networks, under `WAYS`.

    Args:
        sets: [M, N, C] logits of networks on `test`, of kept categories, and on `unlearned_test`.
        labels: [N] of each.
    """
    gone, kept = labels["unlearned_test"], labels["test"]
    numbers = []
    for away, there in zip(sets["unlearned_test"], sets["test"], strict=True):
        both, which = np.concatenate([there, away]), np.concatenate([kept, gone])
        by_name = [
            float(np.mean([average_precision(both[:, name], which == name) for name in np.unique(own)]))
            for own in (gone, kept)
        ]
        by_picture = [among(away, gone, 1), among(away, gone, AMONG), among(there, kept, 1)]
        numbers.append([*by_picture[:2], by_name[0], by_picture[2], by_name[1]])
    return [statistic(list(column)) for column in zip(*numbers, strict=True)]


def among(logits: np.ndarray, labels: np.ndarray, number: int) -> float:
    """Share of pictures whose label is among so many of the largest logits.

    >>> among(np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]), np.array([1, 2]), 2)
    0.5
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    return float(np.mean((logits > own).sum(1) < number))


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Mean, over relevant items, of the precision of the list down to each; equal scores stay in their order.

    >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
    0.8333333333333333
    """
    hits = relevant[np.argsort(-scores, kind="stable")]
    return float(np.mean((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits]))


def answer(retrieved: Mapping[str, list[Statistic]], less: "Estimate | None") -> str:
    """Whether each way is told from the oracles', by two standard errors of the difference, before and after."""
    from ugclu_jax.report.trends import estimate_text

    ends = []
    for way in (0, 2):
        known = retrieved["oracles"][way]
        texts = []
        for name, found in retrieved.items():
            if name != "oracles":
                error = _error(found[way], known)
                apart = "" if error is None else f", {_apart(found[way].mean - known.mean, error)} the oracles"
                texts.append(f"{name} {found[way].mean:.3f}{apart}")
        ends.append(f"{WAYS[way]} of unlearned categories: oracles {known.mean:.3f}; {'; '.join(texts)}")
    beyond_noise = None if less is None else less.beyond_noise()
    verdict = "" if beyond_noise is None else f", {'a' if beyond_noise else 'no'} difference beyond noise"
    return f"{'. '.join(ends)}. E of {BASELINE} less that of {OURS}: {estimate_text(less)}{verdict}."


def _apart(difference: float, error: float) -> str:
    if abs(difference) <= 2 * error:
        return "not told from"
    return "above" if difference > 0 else "below"


def _error(one: Statistic, other: Statistic) -> float | None:
    """Standard error of the difference of two means."""
    if one.std is None or other.std is None or min(one.values, other.values) < 3:
        return None
    return float((one.std**2 / one.values + other.std**2 / other.values) ** 0.5)


STUDY = Study("multimodal", __doc__ or "", MultimodalConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
