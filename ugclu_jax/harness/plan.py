"""What a run is made of, checked and made before work starts: data, stream, network, methods, folder."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from rich.console import Console

from ugclu_jax import data, devices, files, named
from ugclu_jax.data.cuts import hold_out, subset
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.data.record import content_digest
from ugclu_jax.devices import Devices
from ugclu_jax.examples import bucket_size
from ugclu_jax.harness.budget import Entry, build
from ugclu_jax.harness.catalogue import Setup, split_name
from ugclu_jax.harness.config import ExperimentConfig, to_dict
from ugclu_jax.harness.kept import kept_rows
from ugclu_jax.harness.network import Network, make_network
from ugclu_jax.harness.progress import Progress
from ugclu_jax.harness.run_data import RunData
from ugclu_jax.harness.run_folder import RunFolder, check_writable
from ugclu_jax.harness.scenarios import Scenario, names_of
from ugclu_jax.harness.understood import lines_of_data, lines_of_stream
from ugclu_jax.harness.view import View, view_of
from ugclu_jax.report.ending import say
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.visible import copyable
from ugclu_jax.requests import Request, Situation, continued, drawn, situations, to_json, validate, without
from ugclu_jax.version import __version__

VALIDATION_SEED = 20_250_515
"""Of the split of the training data under `--evaluate-on validation`."""

PLACES = (
    "run_dir", "dry_run", "cache_dir", "settings", "preset", "device_budget_mb", "keep", "devices", "parallel", "over",
    "seeds_at_once", "coordinator", "num_processes", "process_id", "show_unlearned",
)  # fmt: skip
"""Where things lie and what is shown: it changes no result but by rounding, and is no part of a configuration."""


class DryRun(Exception):
    """Everything was checked and said, and that was all that was asked for."""


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
    view: View  # of that part

    @functools.cached_property
    def kept(self) -> dict[str, tuple[str, np.ndarray]]:
        """Split and rows of the examples whose outputs are kept, by set."""
        return kept_rows(self.measured)


@dataclass(frozen=True)
class Plan:
    """Everything that is checked and made before work starts."""

    name: str
    config: ExperimentConfig
    scenario: Scenario
    situations: list[Situation]
    measured: list[Situation]  # their part that is evaluated
    settings: dict[str, Any]  # the configuration, and what the run is made of, as its folder has them
    folder: RunFolder
    lock: IO[bytes] | None  # of the first process
    network: Network
    devices: Devices
    setup: Setup
    entries: dict[str, Entry]
    counterfactuals: dict[str, Entry]  # see `counterfactuals`; none where they were not asked for
    progress: Progress
    console: Console
    resume_command: str

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """The requests in order."""
        views = [view_of(measured, self.scenario.dataset) for measured in self.measured]
        parts = zip(self.scenario.stream, self.situations, self.measured, views, strict=True)
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
        try:
            dataset = hold_out(dataset, config.validation_examples, VALIDATION_SEED)
        except ValueError as error:  # which calls them "examples"
            raise ValueError(f"validation_{error}") from error
    return dataset if config.per_class is None else subset(dataset, config.per_class, seed=0)


def settings_of(name: str, config: ExperimentConfig) -> dict[str, Any]:
    """The configuration as the run's folder has it: what is settled by choice, and not where things lie."""
    settings = {key: value for key, value in to_dict(config).items() if key not in PLACES}
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in ("cache_dir", "download")}
    return {"experiment": name, **settings, **_sources(config)}


def path_of(name: str, config: ExperimentConfig) -> Path:
    """Of the run's folder: the one that is asked for, or one named by the configuration."""
    digest = hashlib.sha256(json.dumps(settings_of(name, config), sort_keys=True).encode()).hexdigest()[:8]
    return config.run_dir or Path("runs") / f"{name}-{config.dataset}-{digest}"


def prepare(
    name: str,
    config: ExperimentConfig,
    scenario: Scenario,
    found: RunData,
    console: Console,
    command: str,
    *,
    counterfactual: bool = False,
    fitting: bool = False,
) -> Plan:
    """Check everything that can be checked before work starts.

    Args:
        name: of the run.
        config: the whole of it.
        scenario: the stream, on the data that were found.
        found: what the run takes up.
        console: of the program.
        command: that started it.
        counterfactual: whether learners are also run without ever seeing what is unlearned.
        fitting: whether methods that do not fit the model or the data are left out, and said to be, because nobody
            named them; else they are refused.

    Raises:
        ValueError, OSError: with a message for the user.
        DryRun: all is well, and `config.dry_run` asks for no more.
    """
    path = path_of(name, config)
    folder = RunFolder(path.absolute())
    try:
        stream = scenario.stream
        if found.known and config.stream is None:
            # Settings decide the requests, and the same settings gave those that are known: what came to the data since
            # is in none of them. But what a file of ids lists is no setting.
            last = stream if config.unlearn_ids is not None else found.known
            stream = (*found.known[:-1], last[-1])
        scenario = scenario._replace(stream=continued(found.known, stream))
    except ValueError as error:
        raise ValueError(
            f"run folder {folder.path} holds another request stream: {error}; give another --run-dir"
        ) from error
    dataset = scenario.dataset
    validate(scenario.stream, len(dataset.train_labels))
    network = make_network(config, dataset)
    chosen = devices.select(config.devices, config.parallel)
    shares_batches = chosen.count > 1 and config.over == "batch"
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
    unfit = misfits(entries, network, dataset)
    if unfit and not fitting:
        raise ValueError(next(iter(unfit.values())))
    if unfit:
        config = dataclasses.replace(config, methods=tuple(name for name in config.methods if name not in unfit))
        entries = {name: entry for name, entry in entries.items() if name not in unfit}
    others = counterfactual_entries(config, setup) if counterfactual else {}
    train_labels, test_labels, limit = dataset.train_labels, dataset.test_labels, config.evaluation_examples
    after = situations(scenario.stream, train_labels, test_labels, dataset.num_classes, scenario.groups)
    after = [without(each, found.gone_train, found.gone_test) for each in after]
    # Before the folder is made: it may refuse.
    measured = after if limit is None else drawn(after, len(train_labels), len(test_labels), limit)
    examples = found.record.to_csv()
    made_of = {
        "version": __version__,
        "network": json.loads(network.description),
        "data": {**found.record.facts, "examples_csv": content_digest(examples)},
    }
    settings = {**settings_of(name, config), "made_of": made_of}
    opening = functools.partial(folder.open, settings, examples, to_json(scenario.stream, names_of(dataset)))
    lock = None if config.dry_run else open_folder(folder, opening, config.cache_dir / "oracles")
    for name, why in unfit.items():
        say(console, f"Left out: {name}, which does not fit: {why}", "yellow")
    for line in (*lines_of_data(dataset, found.notes), "Requests:", *lines_of_stream(scenario.stream, dataset)):
        say(console, line)
    if config.dry_run:
        raise DryRun
    return Plan(
        name=name,
        config=config,
        scenario=scenario,
        situations=after,
        measured=measured,
        settings=settings,
        folder=folder,
        lock=lock,
        network=network,
        devices=chosen,
        setup=setup,
        entries=entries,
        counterfactuals=others,
        progress=progress,
        console=console,
        resume_command=command if config.run_dir else f"{command} {copyable(['--run-dir', str(path)])}",
    )


REPLAY = {False: "do_nothing", True: "finetune_remain"}
"""What unlearns in a counterfactual, without and with replay."""


def learners_of(config: ExperimentConfig) -> list[str]:
    """The learners of a run's methods, once each."""
    return list(dict.fromkeys(split_name(method)[0] for method in config.methods))


def counterfactual_entries(config: ExperimentConfig, setup: Setup) -> dict[str, Entry]:
    """The methods that counterfactuals are served by: every learner, with what replays and with what does nothing.

    Raises:
        ValueError: the budget pays no replay.
    """
    names = [f"{learner}+{unlearner}" for learner in learners_of(config) for unlearner in REPLAY.values()]
    try:
        return build(dataclasses.replace(config, methods=tuple(names)), setup)
    except ValueError as error:
        raise ValueError(f"counterfactuals: {error}; or leave them out, --no-counterfactuals") from error


def misfits(entries: Mapping[str, Entry], network: Network, dataset: Dataset) -> dict[str, str]:
    """Methods that cannot serve this network or these inputs, by the shapes of both, and why."""
    checks = {name: entry.method.check for name, entry in entries.items() if entry.method.check is not None}
    if not checks:
        return {}
    params, model_state = jax.eval_shape(network.init_fn, jax.random.key(0))
    found = {}
    for name, check in checks.items():
        try:
            check(params, model_state, dataset.train_inputs)
        except ValueError as error:
            found[name] = str(error)
    return found


def _sources(config: ExperimentConfig) -> dict[str, dict[str, str]]:
    """What the user's own methods and model are made of, by name: a run knows them by their source; else nothing."""
    parts = [part for name in config.methods for part in split_name(name)]
    own = {name: named.source_digest("method", name) for name in parts if named.is_name(name)}
    if named.is_name(config.model):
        own[config.model] = named.source_digest("model", config.model)
    return {"sources": own} if own else {}


def open_folder(folder: RunFolder, opening: Callable[[], None], oracles: Path) -> IO[bytes] | None:
    """Take the run's folder, in the first process; the others learn how that went.

    Args:
        folder: of the run.
        opening: makes it or takes it up, once it is locked.
        oracles: their folder, which must be writable too.

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
            opening()
            check_writable(oracles, "--cache-dir")
            for bank in (oracles, *oracles.iterdir()):
                files.sweep(bank)
        except (ValueError, OSError) as error:
            problem = error
            if lock is not None:
                lock.close()
    if devices.from_first(problem is not None):
        raise problem or ValueError("process 0 refused to start; it says why")
    return lock
