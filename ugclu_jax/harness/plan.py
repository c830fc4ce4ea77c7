"""What a run is made of, checked and made before work starts: data, stream, network, methods, folder."""

import functools
import hashlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
from rich.console import Console

from ugclu_jax import data, devices, files, named
from ugclu_jax.data.cuts import hold_out, subset
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.devices import Devices
from ugclu_jax.examples import bucket_size
from ugclu_jax.harness.budget import Entry, build
from ugclu_jax.harness.catalogue import Setup, split_name
from ugclu_jax.harness.config import ExperimentConfig, to_dict
from ugclu_jax.harness.network import Network, make_network
from ugclu_jax.harness.progress import Progress
from ugclu_jax.harness.run_folder import RunFolder, check_writable
from ugclu_jax.harness.scenarios import Scenario
from ugclu_jax.report.metrics import Line
from ugclu_jax.requests import Request, Situation, drawn, situations, to_json, validate

VALIDATION_SEED = 20_250_515
"""Of the split of the training data under `--evaluate-on validation`."""

PLACES = (
    "run_dir", "cache_dir", "settings", "device_budget_mb", "keep", "devices", "parallel", "over", "coordinator",
    "num_processes", "process_id",
)  # fmt: skip
"""Settings of where things lie, which change no result but by rounding, and are no part of a run's configuration."""


class RunFailed(Exception):
    """The run cannot go on; the message says why and how to resume. Exit code 1."""


class Diverged(RunFailed):
    """One method and seed cannot go on; the others can."""


@dataclass(frozen=True)
class Step:
    """A request of the stream, and how the examples stand after it."""

    index: int
    request: Request
    situation: Situation
    measured: Situation  # its part that is evaluated


@dataclass(frozen=True)
class Plan:
    """Everything that is checked and made before work starts."""

    name: str
    config: ExperimentConfig
    scenario: Scenario
    situations: list[Situation]
    measured: list[Situation]  # their part that is evaluated
    settings: dict[str, Any]  # the configuration as the run's folder has it
    folder: RunFolder
    lock: IO[bytes] | None  # of the first process
    network: Network
    devices: Devices
    entries: dict[str, Entry]
    progress: Progress
    console: Console
    resume_command: str

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """The requests in order."""
        parts = zip(self.scenario.stream, self.situations, self.measured, strict=True)
        return tuple(Step(index, *part) for index, part in enumerate(parts))


Conclude = Callable[[Plan, list[Line]], None]
"""What a program prints at the end, from its plan and all lines."""


def load_dataset(config: ExperimentConfig) -> Dataset:
    """The dataset of the configuration, cut to size.

    Raises:
        ValueError, OSError: unknown, damaged or not there.
    """
    dataset = data.load(config.dataset, config.data)
    if config.evaluate_on == "validation":
        dataset = hold_out(dataset, config.validation_examples, VALIDATION_SEED)
    return dataset if config.per_class is None else subset(dataset, config.per_class, seed=0)


def prepare(name: str, config: ExperimentConfig, scenario: Scenario, console: Console, command: str) -> Plan:
    """Check everything that can be checked before work starts.

    Raises:
        ValueError, OSError: with a message for the user.
    """
    dataset = scenario.dataset
    validate(scenario.stream, len(dataset.train_labels))
    network = make_network(config, dataset)
    chosen = devices.select(config.devices, config.parallel)
    shares_batches = chosen.count > 1 and config.over == "batch"
    if config.over == "seeds" and jax.process_count() > 1:
        raise ValueError(
            "over is seeds, which spread over the devices of one process: start each with seeds of its own"
        )
    apply_fn = network.shared_apply_fn if shares_batches else network.apply_fn
    if apply_fn is None:
        raise ValueError(
            f"model is {config.model!r}, whose state would differ from device to device: give it a field norm_axis, "
            "the axis over which its BatchNorm takes statistics, or use --over seeds"
        )
    progress = Progress(console)
    setup = Setup(
        apply_fn,
        network.init_fn,
        num_classes=dataset.num_classes,
        num_examples=len(dataset.train_labels),
        capacity=config.capacity,
        largest_task=max(bucket_size(len(request.ids)) for request in scenario.stream),
        devices=chosen.count if shares_batches else 1,
    )
    entries = build(config, setup)
    settings = {key: value for key, value in to_dict(config).items() if key not in PLACES}
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in ("cache_dir", "download")}
    settings = {"experiment": name, **settings, **_sources(config)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    train_labels, test_labels, limit = dataset.train_labels, dataset.test_labels, config.evaluation_examples
    found = situations(scenario.stream, train_labels, test_labels, dataset.num_classes, scenario.groups)
    # Before the folder is made: it may refuse.
    measured = found if limit is None else drawn(found, len(train_labels), len(test_labels), limit)
    path = config.run_dir or Path("runs") / f"{name}-{config.dataset}-{digest}"
    folder = RunFolder(path.absolute())
    lock = open_folder(folder, settings, to_json(scenario.stream, dataset.train_ids), config.cache_dir / "oracles")
    return Plan(
        name=name,
        config=config,
        scenario=scenario,
        situations=found,
        measured=measured,
        settings=settings,
        folder=folder,
        lock=lock,
        network=network,
        devices=chosen,
        entries=entries,
        progress=progress,
        console=console,
        resume_command=command if config.run_dir else f"{command} --run-dir {shlex.quote(str(path))}",
    )


def _sources(config: ExperimentConfig) -> dict[str, dict[str, str]]:
    """What the user's own methods and model are made of, by name: a run knows them by their source; else nothing."""
    parts = [part for name in config.methods for part in split_name(name)]
    own = {name: named.source_digest("method", name) for name in parts if named.is_name(name)}
    if named.is_name(config.model):
        own[config.model] = named.source_digest("model", config.model)
    return {"sources": own} if own else {}


def open_folder(folder: RunFolder, settings: dict[str, Any], stream: str, oracles: Path) -> IO[bytes] | None:
    """Take the run's folder, in the first process; the others learn how that went.

    Returns:
        The lock, which holds as long as it is open.

    Raises:
        ValueError, OSError: see `RunFolder`.
    """
    lock, problem = None, None
    if devices.is_first():
        try:
            check_writable(folder.path, "--run-dir")
            lock = folder.lock()
            folder.sweep()
            folder.open(settings, stream)
            check_writable(oracles, "--cache-dir")
            files.sweep(oracles)
        except (ValueError, OSError) as error:
            problem = error
            if lock is not None:
                lock.close()
    if devices.from_first(problem is not None):
        raise problem or ValueError("process 0 refused to start; it says why")
    return lock
