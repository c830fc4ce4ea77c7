"""Does unlearning work on texts as it does on pictures: tasks, classes and samples of a text encoder?

    python -m experiments.text --seeds 0:3 --oracle-seeds 3      # Reuters R8, `make data-r8` first
    python -m experiments.text --smoke                           # digits stand in, a minute a cell

Reference: the paper, its text experiment; docs/results/archive.md, "Larger models": KL on test inputs 2.2 times the
noise floor on R8 with the paper's form and settings of its own. Here a text encoder of two layers of 64 features begins
from nothing, and learns 100 texts of each of the eight classes in four tasks; then a task leaves, two classes of
different tasks, or a tenth of all texts. All settings are those of the one default, which was chosen on pictures;
oracles have AdamW, 5e-4.

20 Newsgroups are learned too where `data/newsgroups` is a folder that `text` reads (train.jsonl and test.jsonl, or a
folder a class): scikit-learn's copy is fetched over the network, and no package that we know carries one.

Expected, of three seeds (docs/results/text.md): E .502 ±.249 of ug_clu on tasks, .608 ±.217 on classes, .452 ±.067 on
random samples, fine-tuning within noise of each; .1 to .2 for pictures. About 45 minutes of one core.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.report import measured
from ugclu_jax.report.ranking import energy_text

if TYPE_CHECKING:
    from ugclu_jax.evidence import Estimate

OURS, BASELINE = "ug_clu", "finetune_remain"
TRANSFORMER = {"optimizer": "adamw", "learning_rate": 0.0005, "weight_decay": 0.01}
"""How an oracle that is a transformer trains."""
SCENARIOS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tasks": ("task_aware", {"sequence": "L1 L2 L3 L4 U2"}),
    "classes": ("class_wise", {"unlearn_classes": ["1", "5"]}),
    "random": ("random_sample", {}),
}
"""By regime, whose settings it has: the scenario, and what its stream needs to be told."""
SETS = ("r8", "newsgroups")


@dataclass(frozen=True)
class TextOptions(Group):
    """Which texts."""

    r8: Path = Path("data/r8")
    """Folder that `make data-r8` makes."""
    newsgroups: Path = Path("data/newsgroups")
    """Folder of 20 Newsgroups; left out where it is not there."""
    per_class: int = 100
    """Texts of each class that are learned, at most."""

    def __post_init__(self) -> None:
        self.at_least(per_class=2)
        super().__post_init__()


@dataclass(frozen=True)
class TextConfig(StudyOptions, TextOptions):
    """The study's configuration."""

    @property
    def sets(self) -> tuple[str, ...]:
        """Those that are run."""
        return SETS if self.newsgroups.is_dir() and not self.smoke else SETS[:1]


def cells(options: TextConfig) -> list[Cell]:
    """One a data set and kind of request."""
    found = []
    for name in options.sets:
        texts: dict[str, Any] = {
            "dataset": "text",
            "model": "text_encoder",
            "data": {"directory": str(getattr(options, name)), "text_length": 64},
            "model_options": {"width": 64, "depth": 2},
            "per_class": options.per_class,
            "capacity": 200 if name == "r8" else 500,
            "oracle": {**TRANSFORMER, "batch_size": 32, "epochs": 10},
        }
        for regime, (scenario, own) in SCENARIOS.items():
            tasks = {"tasks": 5} if options.smoke else {"tasks": 4}
            settings = options.settings(regime, **({} if options.smoke else texts), **tasks, **own)
            words = ("--scenario", scenario, "--no-counterfactuals", "--methods", OURS, BASELINE)
            found.append(Cell(f"{name}-{regime}", "compare", settings, words))
    return found


def conclude(options: TextConfig, _folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances by kind of request, and where ours is nearer than fine-tuning beyond noise."""
    from ugclu_jax.report import evidence
    from ugclu_jax.report.trends import nearer, of_run  # scipy, which `--help` need not wait for

    rows: list[list[str]] = []
    less: dict[str, Estimate | None] = {}
    lost = []
    for name, run_dir in folders.items():
        found, curves = measured.rows_of(run_dir), of_run(run_dir)
        before = {each.method: energy_text(each.before) for each in evidence.read(run_dir) if each.before is not None}
        less[name] = curves[BASELINE].minus(curves[OURS]).mean() if {OURS, BASELINE} <= curves.keys() else None
        for method, row in found.items():
            rows.append([name, method, before.get(method, "–"), *measured.texts(row)])
            if row.unfinished:
                lost.append(f"{row.unfinished} of {method}, {name}")
    if "newsgroups" not in options.sets:
        absent = f"not run: {options.newsgroups} is not there; scikit-learn's copy needs a network"
        rows.append(["newsgroups", absent, *["–"] * (1 + len(measured.HEAD))])
    table = Table(
        "Texts",
        ("request", "method", "E before", *measured.HEAD),
        rows,
        "E before: of the models that the last request found, which is what doing nothing leaves.",
    )
    return Findings(nearer(OURS, BASELINE, less, lost), (table,))


STUDY = Study("text", __doc__ or "", TextConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
