"""Settings of an experiment: dataclasses, their defaults from a file, the command line on top."""

import argparse
import dataclasses
import difflib
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from ugclu_jax.data.options import DataOptions
from ugclu_jax.models.options import ModelOptions
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.ugclu import UGCLUHyper, UGCLUSettings

SETTINGS = Path(__file__).parent / "settings"
EXPERIMENTS = ("task_aware", "class_wise", "random_sample")
T = TypeVar("T")


@dataclass(frozen=True)
class KindConfig:
    """UG-CLU's settings for one kind of request."""

    settings: UGCLUSettings = field(default_factory=UGCLUSettings)
    """Static settings; another value compiles another program."""
    hyper: UGCLUHyper = field(default_factory=UGCLUHyper)
    """Continuous settings; another value reuses the program."""


@dataclass(frozen=True)
class ExperimentConfig:
    """Settings that every experiment has."""

    dataset: str = "digits"
    """Dataset: digits (embedded), fashion_mnist, mnist, cifar10, cifar100, svhn_cropped, tiny_imagenet, image_folder,
    npz or text."""
    data: DataOptions = field(default_factory=DataOptions)
    """Where its data come from and how they are prepared."""
    model: str = "mlp"
    """Network: mlp, cnn, cnn_bn, resnet18, swin_t, vit_tiny, vit_small, vit_base, text_encoder for texts, or your own
    as package.module:attribute, looked for from the current folder on: a Flax Linen or NNX class, or a function
    (num_classes, input_shape) -> (apply_fn, init_fn)."""
    model_options: ModelOptions = field(default_factory=ModelOptions)
    """Options of the network; one that it does not have is refused."""
    augment: str = "none"
    """Random changes to training images, on the device: none, crop_flip or rand_augment. Evaluation has none."""
    methods: tuple[str, ...] = ("ug_clu",)
    """Methods, each LEARNER+UNLEARNER or one name: an unlearner (salun) learns by ug_clu, a learner (er) unlearns by
    ug_clu. `python -m experiments.compare --list` shows them all."""
    seeds: tuple[int, ...] = (0,)
    """One run of the stream for each seed and method."""
    run_dir: Path | None = None
    """Folder of the run; the same command resumes there. Default: runs/<experiment>-<dataset>-<hash>."""
    smoke: bool = False
    """Smallest size that still takes every step of the experiment, in seconds."""
    settings: Path | None = None
    """JSON file of defaults for all the settings here. Default: the package's harness/settings/<dataset>.json."""
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` holds out part of the training split and never looks at the test split: for choosing settings."""
    validation_examples: int = 10000
    """Size of that part."""
    evaluation_examples: int | None = None
    """Measure on this many random examples of each training set (retained, learned, unlearned) and of the test split,
    where a whole pass would take longer than the request. Default: all of them."""
    per_class: int | None = None
    """Keep at most this many training examples of each class."""
    tasks: int = 5
    """Consecutive classes are split into this many equal tasks."""
    capacity: int = 5000
    """Examples that the memory buffer holds."""
    learn: KindConfig = field(default_factory=KindConfig)
    """UG-CLU on learn requests."""
    unlearn: KindConfig = field(default_factory=KindConfig)
    """UG-CLU on unlearn requests."""
    references: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Settings of the other methods by name, in the settings file: {"salun": {"settings": {…}, "hyper": {…}}}. All get
    UG-CLU's number of gradient evaluations."""
    oracle: OracleSettings = field(default_factory=OracleSettings)
    """Training of the oracles."""
    oracle_seeds: int = 3
    """Oracles of a request, 2 or more; their mutual KL is the noise floor."""
    oracles: Literal["all", "milestones"] = "all"
    """After which requests oracles are trained: all, or unlearn requests and the last request only. Elsewhere what is
    measured against an oracle is undefined."""
    device_budget_mb: int = 2048
    """Training inputs above this many MiB stay in host memory and stream in chunks of outer steps."""
    keep: int = 2
    """Newest checkpoints to keep of each method and seed."""
    devices: int | Literal["all"] = 1
    """Devices of this host to use. Metrics are those of one device, to rounding."""
    parallel: Literal["pmap", "shard_map"] = "pmap"
    """How programs are mapped over them; several processes need shard_map."""
    over: Literal["batch", "seeds"] = "batch"
    """What they divide: each batch of one request, or the seeds, each of which runs on one of them."""
    coordinator: str | None = None
    """HOST:PORT of process 0 where several processes, one a host, share a run; auto = ask the cluster (SLURM, TPU)."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which one this is, from 0. Process 0 writes tables and reports."""
    cache_dir: Path = Path.home() / ".cache" / "ugclu_jax"
    """Where oracles are kept, named by a hash of everything that determines them."""

    def __post_init__(self) -> None:
        for name, least in {"tasks": 1, "capacity": 1, "keep": 1, "oracle_seeds": 2, "validation_examples": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.device_budget_mb < 0:
            raise ValueError(f"device_budget_mb must be at least 0, got {self.device_budget_mb}")
        for name in ("per_class", "evaluation_examples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("seeds", "methods"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be one or more different values, got {values}")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds must be non-negative, got {self.seeds}")


C = TypeVar("C", bound=ExperimentConfig)


def nearest(name: str, valid: typing.Iterable[str]) -> str:
    """The part of an error message that helps with a mistyped name.

    >>> nearest("ugclu", ["ug_clu", "do_nothing"])
    'did you mean ug_clu? Valid: do_nothing, ug_clu'
    """
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"Valid: {', '.join(valid)}"


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over`, nested dictionaries merged.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The configuration as JSON-compatible values; paths become text."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_dict(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """A dataclass from a (partial) dictionary of its settings.

    Raises:
        ValueError: an unknown key or a value of the wrong type, by its dotted name.

    >>> from_dict(KindConfig, {"setings": {}})
    Traceback (most recent call last):
        ...
    ValueError: unknown setting 'setings'; did you mean settings? Valid: hyper, settings
    """
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ValueError(f"unknown setting {where + key!r}; {nearest(key, hints)}")
    return kind(**{key: _convert(hints[key], value, where + key) for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"setting {where!r} must be an object of settings, got {value!r}")
        return from_dict(hint, value, where + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and isinstance(value, dict):
        return value  # read where it is used, by those who know its keys
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is Literal and value in arguments:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    expected = " or ".join(map(repr, arguments)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise ValueError(f"setting {where!r} must be {expected}, got {value!r}")


def load_json(path: Path) -> dict[str, Any]:
    """What a settings file holds, as it stands there.

    Raises:
        ValueError: it is not a JSON object.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"settings file {path} is not JSON: {error}") from error
    _check_object(path, "the file", values)
    return values


def read_settings(path: Path, experiment: str, smoke: bool) -> dict[str, Any]:
    """Defaults from a settings file: its own, then those of the experiment, then those of the smoke size.

    Raises:
        ValueError: the file is not a JSON object of settings, or it has settings for an unknown experiment.
        OSError: it cannot be read.
    """
    values = load_json(path)
    by_experiment, by_size = values.pop("experiments", {}), values.pop("smoke", {})
    for where, part in (("'experiments'", by_experiment), ("'smoke'", by_size)):
        _check_object(path, where, part)
    for name, part in by_experiment.items():
        if name not in EXPERIMENTS:
            raise ValueError(f"settings file {path}: unknown experiment {name!r}; {nearest(name, EXPERIMENTS)}")
        _check_object(path, repr(name), part)
    values = merge(values, by_experiment.get(experiment, {}))
    return merge(values, by_size) if smoke else values


def _check_object(path: Path, where: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"settings file {path}: {where} must be a JSON object, got {type(value).__name__}")


def parse(
    kind: type[C],
    experiment: str,
    description: str,
    arguments: list[str] | None = None,
    program: str | None = None,
) -> C:
    """The configuration: defaults of the settings file for the dataset, overridden by the command line.

    Raises:
        ValueError: an unknown dataset, or a bad settings file.
        SystemExit: with code 2, after a message, for a bad command line; with 0 for `--help`.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--dataset", default=kind.dataset)
    first.add_argument("--settings", type=Path)
    first.add_argument("--smoke", action="store_true")
    known, _ = first.parse_known_args(arguments)
    path = known.settings or SETTINGS / f"{known.dataset}.json"
    if known.settings is None and not path.is_file():
        names = (file.stem for file in SETTINGS.glob("*.json"))
        raise ValueError(f"unknown dataset {known.dataset!r}; {nearest(known.dataset, names)}")
    default = from_dict(kind, read_settings(path, experiment, known.smoke))
    program = f"python -m experiments.{program or experiment}"
    return tyro.cli(kind, default=default, args=arguments, prog=program, description=description)
