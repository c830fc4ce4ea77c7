"""What an experiment can be asked for, in groups: each class is a heading of `--help`, each docstring a line there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ugclu_jax.buffer_sampling import BufferSampling
from ugclu_jax.data.options import DataOptions
from ugclu_jax.models.options import ModelOptions
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.ranges import check_hyper
from ugclu_jax.ugclu_settings import (
    LEARNING,
    LEARNING_HYPER,
    UNLEARNING,
    UNLEARNING_HYPER,
    UGCLUHyper,
    UGCLUSettings,
)

ScenarioName = Literal["task_aware", "class_wise", "random_sample"]


SEEDS = 2**32
"""How many there are: `jax.random.key` has no more, and takes 2**32 for 0 without a word."""


def check_seeds(name: str, seeds: Sequence[int]) -> None:
    """Refuse what is no seed of its own.

    Raises:
        ValueError: naming the setting, the rule and the first such value.

    >>> check_seeds("seeds", (0, 2**32))
    Traceback (most recent call last):
        ...
    ValueError: seeds must be in 0 … 4294967295, got 4294967296: beyond it two seeds would be one run
    >>> check_seeds("seeds", (-1,))
    Traceback (most recent call last):
        ...
    ValueError: seeds must be non-negative, got -1
    """
    for seed in seeds:
        if seed < 0:
            raise ValueError(f"{name} must be non-negative, got {seed}")
        if seed >= SEEDS:
            raise ValueError(f"{name} must be in 0 … {SEEDS - 1}, got {seed}: beyond it two seeds would be one run")


class Group:
    """Base of all groups: each checks its own fields, and those of a configuration are checked one after the other."""

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            ValueError: naming the field, its rule and the value.
        """

    def at_least(self, **least: int) -> None:
        """Refuse a field below its bound; None is no value.

        Raises:
            ValueError: naming field, bound and value.
        """
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"{name} must be at least {bound}, got {value}")


@dataclass(frozen=True)
class RunOptions(Group):
    """What is run."""

    dataset: str = "digits"
    """Dataset: digits (embedded), fashion_mnist, mnist, cifar10, cifar100, svhn_cropped, tiny_imagenet, image_folder,
    npz or text."""
    model: str = "mlp"
    """Network: mlp, cnn, cnn_bn, resnet18, swin_t, vit_tiny, vit_small, vit_base, efficientnet_lite0; text_encoder and
    minilm for texts; or your own as package.module:attribute, looked for from the current folder on: a Flax Linen or
    NNX class, or a function (num_classes, input_shape) -> (apply_fn, init_fn)."""
    methods: tuple[str, ...] = ("ug_clu",)
    """Methods, each LEARNER+UNLEARNER or one name: an unlearner (salun) learns by ug_clu, a learner (er) unlearns by
    ug_clu; or a method of your own, package.module:factory. `python -m experiments.compare --list` shows all names."""
    seeds: tuple[int, ...] = (0,)
    """One run of the stream for each seed and method: numbers, or ranges of them, 0:32 for 0 … 31."""
    smoke: bool = False
    """Smallest size that still takes every step of the experiment, in seconds."""
    settings: Path | None = None
    """JSON file of defaults for all the settings here. Default: the dataset's own, ugclu_jax/harness/settings."""
    preset: str | None = None
    """Defaults by name instead of a file: cifar10-resnet18 and tiny-imagenet-swin-t, a paper's data set, network and
    buffer of 5,000."""
    run_dir: Path | None = None
    """Folder of the run; the same command resumes there. Default: runs/<experiment>-<dataset>-<hash>."""
    dry_run: bool = False
    """Say what would be learned and unlearned, check everything, and stop before any work."""

    def __post_init__(self) -> None:
        for name in ("seeds", "methods"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                got = values if len(values) < 10 else f"{max(values, key=values.count)} more than once"
                raise ValueError(f"{name} must be one or more different values, got {got}")
        check_seeds("seeds", self.seeds)
        super().__post_init__()


_REQUESTED = ("stream", "unlearn_where", "unlearn_ids", "unlearn_classes")


@dataclass(frozen=True)
class RequestOptions(Group):
    """Which requests are served, instead of the experiment's own."""

    stream: Path | None = None
    """JSON file of requests, such as [{"learn": {"classes": ["cat", "dog"]}}, {"unlearn": {"where": "user == 17"}}].
    The requests of a run may be continued: a longer file goes on where the shorter one ended."""
    unlearn_where: str | None = None
    """Learn all tasks, then unlearn the examples for which this condition on their metadata is true, such as
    "user == 17 and date < '2024-01-01'"."""
    unlearn_ids: Path | None = None
    """Learn all tasks, then unlearn the examples whose ids this file lists, one a line."""
    unlearn_classes: tuple[str, ...] = ()
    """Learn all tasks, then unlearn these classes, by name or number. Default of class_wise: 2 7."""

    def __post_init__(self) -> None:
        given = [f"--{name.replace('_', '-')}" for name in _REQUESTED if getattr(self, name) not in (None, ())]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; a run has one of them: leave the others out")
        if len(set(self.unlearn_classes)) != len(self.unlearn_classes):
            raise ValueError(f"unlearn_classes must be different values, got {self.unlearn_classes}")
        super().__post_init__()


@dataclass(frozen=True)
class DataAndModelOptions(Group):
    """How much data, and how they are cut and changed."""

    per_class: int | None = None
    """Keep at most this many training examples of each class."""
    tasks: int = 5
    """Consecutive classes are split into this many equal tasks."""
    augment: str = "none"
    """Random changes to training images, on the device: none, crop_flip or rand_augment. Evaluation has none."""
    capacity: int = 5000
    """Examples that the memory buffer holds."""
    buffer_sampling: BufferSampling = "uniform"
    """Which examples stay where it is full: a uniform sample; one weighted by the loss, a bound of the gradient's norm,
    or the entropy that the model gives each as it enters; or as many of each class of a request."""

    def __post_init__(self) -> None:
        self.at_least(per_class=1, tasks=1, capacity=1)
        super().__post_init__()


@dataclass(frozen=True)
class EvaluationOptions(Group):
    """What is measured, and against what."""

    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` holds out part of the training split and never looks at the test split: for choosing settings."""
    validation_examples: int = 10000
    """Size of that part."""
    evaluation_examples: int | None = None
    """Measure on this many random examples of each training set (retained, learned, unlearned) and of the test split,
    where a whole pass would take longer than the request. Default: all of them."""
    oracle_seeds: int = 3
    """Oracles of a request, 2 or more; their mutual KL is the noise floor."""
    oracles: Literal["all", "milestones"] = "all"
    """After which requests oracles are trained: all, or unlearn requests and the last request only. Elsewhere what is
    measured against an oracle is undefined."""
    show_unlearned: bool = True
    """Keep thumbnails of at most 12 unlearned examples, or the beginnings of texts, for the report to show with their
    losses; `experiments.purge` removes them."""

    def __post_init__(self) -> None:
        self.at_least(validation_examples=1, evaluation_examples=1, oracle_seeds=2)
        super().__post_init__()


@dataclass(frozen=True)
class DeviceOptions(Group):
    """Which devices share the work, and how."""

    devices: int | Literal["all"] = 1
    """Devices of this host to use. Metrics are those of one device, to rounding."""
    parallel: Literal["pmap", "shard_map"] = "pmap"
    """How programs are mapped over them; several processes need shard_map."""
    over: Literal["batch", "seeds"] = "batch"
    """What they divide: each batch of one request, or the seeds, each of which runs on one of them."""
    seeds_at_once: int | Literal["auto"] = "auto"
    """Seeds that one program of a device serves at most: auto = as many as there are and fit where that was measured to
    be faster than one after another, for this network. Metrics are those of one at a time, to rounding."""
    device_budget_mb: int = 2048
    """Training inputs above this many MiB stay in host memory and stream in chunks of outer steps."""
    coordinator: str | None = None
    """HOST:PORT of process 0 where several processes, one a host, share a run; auto = ask the cluster (SLURM, TPU)."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which one this is, from 0. Process 0 writes tables and reports."""

    def __post_init__(self) -> None:
        self.at_least(device_budget_mb=0)
        if self.seeds_at_once != "auto":
            self.at_least(seeds_at_once=1)
        super().__post_init__()


NO_HOME = Path("~/.cache/ugclu_jax")
"""The cache of a process that has no home folder, where one must be given."""


def default_cache() -> Path:
    """Where oracles are kept unless another folder is given; `NO_HOME` where there is no place for it."""
    try:
        return Path.home() / ".cache" / "ugclu_jax"
    except RuntimeError:
        return NO_HOME


@dataclass(frozen=True)
class PlaceOptions(Group):
    """Where things lie, and how long."""

    cache_dir: Path = field(default_factory=default_cache)
    """Where oracles and compiled programs are kept, named by a hash of everything that determines them."""
    keep: int = 2
    """Newest checkpoints to keep of each method and seed."""

    def __post_init__(self) -> None:
        self.at_least(keep=1)
        super().__post_init__()


@dataclass(frozen=True)
class KindConfig:
    """UG-CLU's settings for one kind of request."""

    settings: UGCLUSettings = field(default_factory=UGCLUSettings)
    """Static settings; another value compiles another program."""
    hyper: UGCLUHyper = field(default_factory=UGCLUHyper)
    """Continuous settings; another value reuses the program."""

    def __post_init__(self) -> None:
        check_hyper(self.hyper, "hyper.")


@dataclass(frozen=True)
class Parts:
    """Settings that have settings of their own."""

    data: DataOptions = field(default_factory=DataOptions)
    """Where the data come from and how they are prepared."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Options of the network; one that it does not have is refused."""
    learn: KindConfig = field(default_factory=lambda: KindConfig(LEARNING, LEARNING_HYPER))
    """UG-CLU on learn requests."""
    unlearn: KindConfig = field(default_factory=lambda: KindConfig(UNLEARNING, UNLEARNING_HYPER))
    """UG-CLU on unlearn requests."""
    oracle: OracleSettings = field(default_factory=OracleSettings)
    """Training of the oracles."""
    references: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Settings of the other methods by name, in the settings file: {"salun": {"settings": {…}, "hyper": {…}}}; of one
    that learns and unlearns also apart, {"uniclun": {"learn": {"hyper": {…}}, "unlearn": {…}}}. All get UG-CLU's number
    of gradient evaluations."""
