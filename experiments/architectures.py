"""Does one default unlearn in every kind of network, or in the one that it was chosen on?

    python -m experiments.architectures --seeds 0:3 --oracle-seeds 3   # Fashion-MNIST, 100 pictures a class
    python -m experiments.architectures --networks mlp cnn vit         # some of them; the same folder takes more later
    python -m experiments.architectures --smoke                        # digits, two networks, a minute a cell

Reference: the paper, its tables on ResNet-18 and Swin-T and its text experiment, each with settings of its own. Here
every network has the settings that were searched on one small CNN (regime `classes`). The stream is the same for all
networks of a data set: two halves of the classes are learned one after the other, then a class of each leaves.

Pictures are Fashion-MNIST's, for ViT and Swin padded to 32 pixels; texts are Reuters R8 (`make data-r8`); encoders with
pretrained weights see emoji, 32 pixels, beside a CNN (`make data-emoji`). What has no data or no weights here is left
out, and named with what makes it. Only the training of oracles goes by the kind of network: transformers have AdamW,
5e-4, as all texts here, and pretrained encoders pass over the pictures or texts 10 times. ResNet-18 has 8 features in
its first stage, ViT 2 layers of 64, Swin a layer a stage, 16 in the first, the text encoder 2 layers of 64.

Expected, of three seeds (docs/results/architectures.md): E of ug_clu .248 ±.080 on the MLP, .182 ±.057 and .186 ±.056
on the CNN without and with BatchNorm, .227 ±.047 on ResNet-18, .417 ±.110 on ViT, .294 ±.040 on Swin, .443 ±.152 on the
text encoder, .310 ±.049 on the CNN on emoji; nothing is known of the encoders. On one core, beside other work, 2 to 4
minutes for the CNNs and the MLP, 11 to 15 for ResNet-18, ViT and the text encoder, 56 for Swin, half an hour or more
for each encoder: `--networks` takes some of them, a folder the others later. These are what a GPU is made for.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.config import nearest
from ugclu_jax.harness.options import Group
from ugclu_jax.harness.study import Findings, Study, StudyOptions, Table, main
from ugclu_jax.models import MODELS
from ugclu_jax.models.options import WITHOUT_HEAD
from ugclu_jax.report import measured
from ugclu_jax.report.ranking import Row, energy_text

if TYPE_CHECKING:
    from ugclu_jax.evidence import Estimate

OURS, BASELINE = "ug_clu", "finetune_remain"
PICTURE = "architectures.png"
LITE0, MINILM = Path("weights/lite0.safetensors"), Path("weights/minilm/model.safetensors")
TRANSFORMER = {"optimizer": "adamw", "learning_rate": 0.0005, "weight_decay": 0.01}
"""How an oracle that is a transformer trains."""


class Setup(NamedTuple):
    """Data of some networks, and what a stream of theirs needs to be said beside the default."""

    settings: Mapping[str, Any]
    folder: Path | None = None
    make: str = ""


SETUPS: Mapping[str, Setup] = {
    "Fashion-MNIST": Setup({"dataset": "fashion_mnist", "per_class": 100, "tasks": 2, "capacity": 200}),
    "R8": Setup(
        {
            "dataset": "text",
            "data": {"directory": "data/r8", "text_length": 64},
            "per_class": 100,
            "tasks": 2,
            "capacity": 200,
            "unlearn_classes": ["1", "5"],
        },
        Path("data/r8"),
        "make data-r8",
    ),
    "emoji": Setup(
        {
            "dataset": "image_folder",
            "data": {"directory": "data/emoji", "image_size": 32},
            "per_class": 40,
            "tasks": 2,
            "capacity": 300,
            "unlearn_classes": ["2", "21"],
        },
        Path("data/emoji"),
        "make data-emoji",
    ),
}


class Network(NamedTuple):
    """One row: a network, its data, and the file of weights that it begins with."""

    title: str
    model: str
    data: Literal["Fashion-MNIST", "R8", "emoji"] = "Fashion-MNIST"
    settings: Mapping[str, Any] = {}
    weights: Path | None = None
    make: str = ""

    def missing(self) -> str:
        """Why it is not run here; nothing where it is."""
        setup = SETUPS[self.data]
        if setup.folder is not None and not setup.folder.is_dir():
            return f"data not there; {setup.make}"
        if self.weights is not None and not self.weights.is_file():
            return f"weights not there; {self.make}"
        if ":" not in self.model and self.model not in MODELS:
            return f"this version has no model {self.model}"
        return ""


def _encoder(title: str, model: str, data: Literal["R8", "emoji"], weights: Path, make: str, train: str) -> Network:
    """A pretrained network, of which a head is trained, or matrices of low rank; the head is drawn afresh.

    That of EfficientNet-Lite0 is for the 1,000 classes of ImageNet, MiniLM has none.
    """
    new_head = {} if model in WITHOUT_HEAD else {"new_head": True}
    settings: dict[str, Any] = {
        "model_options": {"pretrained": str(weights), "train": train, **new_head},
        "oracle": {"epochs": 10, **(TRANSFORMER if data == "R8" else {})},
    }
    if data == "R8":
        settings |= {"data": {"tokenizer": str(weights.with_name("tokenizer.json"))}}
    return Network(f"{title}, {train}", model, data, settings, weights, make)


NETWORKS: tuple[Network, ...] = (
    Network("MLP", "mlp"),
    Network("CNN", "cnn"),
    Network("CNN, BatchNorm", "cnn_bn"),
    Network("ResNet-18", "resnet18", settings={"model_options": {"width": 8}}),
    Network("ViT", "ugclu_jax.models.padded:SmallViT", settings={"oracle": TRANSFORMER}),
    Network("Swin", "ugclu_jax.models.padded:SmallSwin", settings={"oracle": TRANSFORMER}),
    Network("text encoder", "text_encoder", "R8", {"oracle": TRANSFORMER, "model_options": {"width": 64, "depth": 2}}),
    Network("CNN on emoji", "cnn", "emoji"),
    *(
        _encoder("EfficientNet-Lite0", "efficientnet_lite0", "emoji", LITE0, "make weights-lite0", train)
        for train in ("head", "lora")
    ),
    *(_encoder("MiniLM", "minilm", "R8", MINILM, "make weights-minilm", train) for train in ("head", "lora")),
)
"""In the order of the table; one more network is one more line here."""
SMOKE = (Network("MLP", "mlp"), Network("CNN, BatchNorm", "cnn_bn"))


@dataclass(frozen=True)
class ArchitecturesOptions(Group):
    """Which networks are compared."""

    networks: tuple[str, ...] = ()
    """Names of cells, as --dry-run lists them. Default: all."""

    def __post_init__(self) -> None:
        known = [name_of(each) for each in NETWORKS]
        unknown = [name for name in self.networks if name not in known]
        if unknown:
            raise ValueError(f"networks has {unknown[0]!r}; {nearest(unknown[0], known)}")
        if len(set(self.networks)) != len(self.networks):
            raise ValueError(f"networks must be different names, got {self.networks}")
        super().__post_init__()


@dataclass(frozen=True)
class ArchitecturesConfig(StudyOptions, ArchitecturesOptions):
    """The study's configuration."""

    def why_not(self, network: Network) -> str:
        """Why a network is not run; nothing where it is."""
        if self.networks and name_of(network) not in self.networks:
            return "not asked for (--networks)"
        return network.missing()

    @property
    def run(self) -> tuple[Network, ...]:
        """Those that are run."""
        return SMOKE if self.smoke else tuple(each for each in NETWORKS if not self.why_not(each))


def name_of(network: Network) -> str:
    """Of its cell.

    >>> name_of(NETWORKS[2])
    'cnn-batchnorm'
    """
    return network.title.lower().replace(",", "").replace(" ", "-")


def cells(options: ArchitecturesConfig) -> list[Cell]:
    """One a network."""
    found = []
    for network in options.run:
        changes: dict[str, Any] = {"model": network.model}
        if not options.smoke:
            both = [SETUPS[network.data].settings, network.settings]
            parts = {key: [each[key] for each in both if key in each] for each in both for key in each}
            changes |= {
                key: {**values[0], **values[1]} if len(values) > 1 else values[0] for key, values in parts.items()
            }
        words = ("--scenario", "class_wise", "--no-counterfactuals", "--methods", OURS, BASELINE)
        found.append(Cell(name_of(network), "compare", options.settings("classes", **changes), words))
    return found


def conclude(options: ArchitecturesConfig, folder: Path, folders: Mapping[str, Path]) -> Findings:
    """Distances by network, and where ours is nearer than fine-tuning beyond noise."""
    from ugclu_jax.report import evidence
    from ugclu_jax.report.trends import nearer, of_run  # scipy, which `--help` need not wait for

    rows: list[list[str]] = []
    less: dict[str, Estimate | None] = {}
    drawn: dict[str, dict[str, Row]] = {}
    lost = []
    for network in options.run:
        run_dir = folders[name_of(network)]
        found, curves = measured.rows_of(run_dir), of_run(run_dir)
        before = {each.method: energy_text(each.before) for each in evidence.read(run_dir) if each.before is not None}
        drawn[network.title] = dict(found)
        less[network.title] = (
            curves[BASELINE].minus(curves[OURS]).mean() if OURS in curves and BASELINE in curves else None
        )
        for method in (OURS, BASELINE):
            if method in found:
                rows.append([network.title, method, before.get(method, "–"), *measured.texts(found[method])])
                if found[method].unfinished:
                    lost.append(f"{found[method].unfinished} of {method} on {network.title}")
    absent = [] if options.smoke else [(each.title, why) for each in NETWORKS if (why := options.why_not(each))]
    rows += [[title, f"not run: {why}", *["–"] * (1 + len(measured.HEAD))] for title, why in absent]
    picture(drawn, folder / PICTURE)
    table = Table(
        "The same stream, the same settings",
        ("network", "method", "E before", *measured.HEAD),
        rows,
        "E before: of the models that the request found, which is what doing nothing leaves. ± as in all tables here: "
        "standard error of distances, deviation over seeds of all else.",
    )
    return Findings(nearer(OURS, BASELINE, less, lost), (table,), (PICTURE,))


def picture(found: Mapping[str, Mapping[str, Row]], path: Path) -> None:
    """E by network, a mark a method."""
    import matplotlib
    from matplotlib.figure import Figure

    from ugclu_jax.report.marks import mark_of
    from ugclu_jax.report.svg import MUTED, STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 1.5 + 0.4 * len(found)), layout="constrained")
        axes = figure.add_subplot()
        for place, method in enumerate((OURS, BASELINE)):
            colour, marker, _, fill = mark_of(place)
            points = [
                (row.energy.value, at + 0.2 * (place - 0.5), row.energy.standard_error or 0.0)
                for at, rows in enumerate(found.values())
                if (row := rows.get(method)) is not None and row.energy is not None and not row.unfinished
            ]
            if points:
                values, heights, errors = zip(*points, strict=True)
                style: dict[str, Any] = dict(color=colour, marker=marker, fillstyle=fill, linestyle="none")
                axes.errorbar(values, heights, xerr=errors, label=method, capsize=2, **style)
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(found)), list(found))
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.set_xlabel("E to the oracles, on unlearned plus on test inputs, ± standard error; 0 is a fresh oracle")
        axes.set_title("One default in every network")
        axes.grid(alpha=0.25, linewidth=0.5, color=MUTED)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150, facecolor="white")


STUDY = Study("architectures", __doc__ or "", ArchitecturesConfig, cells, conclude)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main(STUDY, __package__ or "experiments", arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
