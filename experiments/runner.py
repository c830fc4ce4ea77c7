"""The runner of all experiments: requests, oracles, evaluation, checkpoints, resume. No mathematics."""

import functools
import hashlib
import itertools
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.markup import escape

from experiments import report
from experiments.config import C, ExperimentConfig, parse, to_dict
from experiments.evaluation import Groups, Logits, Situation, measure_model, measure_oracles, situations
from experiments.folder import RunFolder, check_writable
from experiments.methods import Context, Entry, build
from experiments.network import Network, make_network
from experiments.progress import Progress
from experiments.registry import split_name
from ugclu_jax import buffer as buffer_lib
from ugclu_jax import checkpoints, data, devices, oracle
from ugclu_jax.data.cuts import hold_out, subset
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.devices import Devices
from ugclu_jax.learner import ONE_DEVICE, CLUState, RequestCost, predict_program, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.requests import Stream, bucket_size, pad_ids, to_json, validate
from ugclu_jax.streaming import HostArray, ShardedArray, reading
from ugclu_jax.types import Array, Examples, Info, PyTree

ORACLE_KEY = 2**31 - 1
"""Folded into an oracle's seed, so that no oracle shares its key with a run of the same seed."""
VALIDATION_SEED = 20_250_515
"""Of the split of the training data under `--evaluate-on validation`."""


PLACES = (
    "run_dir", "cache_dir", "settings", "device_budget_mb", "keep", "devices", "parallel", "over", "coordinator",
    "num_processes", "process_id",
)  # fmt: skip
"""Settings of where things lie, which change no result but by rounding, and are no part of a run's configuration."""


class RunFailed(Exception):
    """The run cannot go on; the message says why and how to resume. Exit code 1."""


class Terminated(BaseException):
    """The process was asked to end, by SIGTERM."""


class Diverged(RunFailed):
    """One method and seed cannot go on; the others can."""


class Scenario(NamedTuple):
    """What an experiment adds to the common configuration."""

    dataset: Dataset
    stream: Stream
    groups: Groups
    first_from_scratch: bool = False  # the first request is learned by training from scratch, to memorise it


@dataclass(frozen=True)
class Plan:
    """Everything that is checked and made before work starts."""

    name: str
    config: ExperimentConfig
    scenario: Scenario
    situations: list[Situation]
    folder: RunFolder
    lock: IO[str] | None  # of the first process
    network: Network
    devices: Devices
    entries: dict[str, Entry]
    progress: Progress
    console: Console
    resume_command: str


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
    progress = Progress(console)
    context = Context(
        network.shared_apply_fn if shares_batches else network.apply_fn,
        network.init_fn,
        dataset.num_classes,
        num_examples=len(dataset.train_labels),
        largest_task=max(bucket_size(len(request.ids)) for request in scenario.stream),
        on_step=progress.on_step if console.is_terminal else None,
        devices=chosen.count if shares_batches else 1,
    )
    entries = build(config, context)
    settings = {key: value for key, value in to_dict(config).items() if key not in PLACES}
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in ("cache_dir", "download")}
    settings = {"experiment": name, **settings}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    path = config.run_dir or Path("runs") / f"{name}-{config.dataset}-{digest}"
    folder = RunFolder(path.absolute())
    lock = open_folder(folder, settings, to_json(scenario.stream, dataset.train_ids), config.cache_dir / "oracles")
    return Plan(
        name=name,
        config=config,
        scenario=scenario,
        situations=situations(scenario.stream, dataset, scenario.groups),
        folder=folder,
        lock=lock,
        network=network,
        devices=chosen,
        entries=entries,
        progress=progress,
        console=console,
        resume_command=command if config.run_dir else f"{command} --run-dir {shlex.quote(str(path))}",
    )


def training_inputs(plan: Plan, divided: bool) -> Array | HostArray | ShardedArray:
    """Where the training inputs lie: divided over the devices, whole on each, or in host memory where they do not fit.

    Raises:
        RunFailed: the share of a device does not fit.
    """
    inputs, budget = plan.scenario.dataset.train_inputs, plan.config.device_budget_mb * 2**20
    if not divided:
        return jnp.asarray(inputs) if inputs.nbytes <= budget else HostArray(inputs)
    if inputs.nbytes > budget * plan.devices.count:
        raise RunFailed(
            f"training inputs of {inputs.nbytes / 2**20:.0f} MiB, divided over {plan.devices.count} devices, are above "
            "--device-budget-mb: raise it, or use more devices"
        )
    return devices.shard_rows(inputs, plan.devices)


def open_folder(folder: RunFolder, settings: dict[str, Any], stream: str, oracles: Path) -> IO[str] | None:
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
            folder.open(settings, stream)
            check_writable(oracles, "--cache-dir")
        except (ValueError, OSError) as error:
            problem = error
    if devices.from_first(problem is not None):
        raise problem or ValueError("process 0 refused to start; it says why")
    return lock


class OracleRecord(NamedTuple):
    """The oracles of one request, as the evaluation needs them."""

    logits: Logits
    metrics: dict[str, Any]
    seconds: float


def prediction_batch(example_shape: tuple[int, ...]) -> int:
    """Examples that pass forward at a time in evaluation: about a million numbers, 100 examples at most.

    On a CPU larger batches leave its caches: 60,000 images took the small CNN three times as long by 500 as by 100.

    >>> prediction_batch((28, 28, 1)), prediction_batch((64, 64, 3))
    (100, 85)
    """
    return max(1, min(100, 2**20 // math.prod(example_shape)))


Conclude = Callable[[Plan, list[dict[str, Any]]], None]
"""What a program prints at the end, from its plan and all lines."""


class Learned(NamedTuple):
    """A learn request that methods of one learner have in common."""

    state: CLUState
    info: Info
    cost: RequestCost


class Run:
    """Programs and device data shared by all methods and seeds of a plan."""

    def __init__(self, plan: Plan) -> None:
        dataset = plan.scenario.dataset
        self.plan = plan
        several, by_seed = plan.devices.count > 1, plan.config.over == "seeds"
        # Whole where each seed has a device of its own, if one host holds all of them.
        self.divided = several and (not by_seed or jax.process_count() > 1)
        self.train_inputs = training_inputs(plan, self.divided)
        self.train_labels = jnp.asarray(dataset.train_labels)
        read_here = dataset.digests(jax.process_index(), jax.process_count())
        self.fingerprint = dataset.fingerprint(devices.sum_over_processes(read_here))
        self.run_request = request_program(devices.layout(plan.devices) if several and not by_seed else ONE_DEVICE)
        self.run_seeds = request_program(devices.spread(plan.devices, 2)) if several and by_seed else None
        self.test_inputs = self.placed(dataset.test_inputs)
        size = prediction_batch(dataset.train_inputs.shape[1:])
        self.predict = (
            devices.predict_program(plan.network.apply_fn, plan.devices, size)
            if self.divided
            else predict_program(plan.network.apply_fn, size)
        )
        network = {"apply_fn": plan.network.apply_fn, "init_fn": plan.network.init_fn}
        train = functools.partial(oracle.train_from_scratch, settings=plan.config.oracle, **network)
        self.train_oracles = (
            devices.spread(plan.devices).program(train)
            if several
            else oracle.oracle_program(settings=plan.config.oracle, **network)
        )
        self.spent = Counter[str]()  # seconds by what they went into
        self.oracles: dict[int, OracleRecord] = {}
        self.learned: dict[tuple[str, int, int], Learned] = {}
        self.measured: dict[tuple[str, int, int], dict[str, Any]] = {}

    def placed(self, inputs: np.ndarray) -> Array | ShardedArray:
        """Inputs to predict on, where `predict` wants them."""
        return devices.shard_rows(inputs, self.plan.devices) if self.divided else jnp.asarray(inputs)

    def examples(self, ids: np.ndarray, size: int | None = None) -> Examples:
        """Ids as the compiled programs take them."""
        padded = pad_ids(ids, size or bucket_size(len(ids)))
        return Examples(self.train_inputs, self.train_labels, jnp.asarray(padded), jnp.asarray(len(ids), jnp.int32))

    def logits(self, params: Any, model_state: Any) -> Logits:
        """Outputs of one network on both splits."""
        predict = self.predict
        return Logits(
            np.asarray(predict(params, model_state, self.train_inputs)),
            np.asarray(predict(params, model_state, self.test_inputs)),
        )

    def trained(self, ids: np.ndarray, seeds: tuple[int, ...], purpose: int) -> tuple[Any, float]:
        """Networks trained from scratch, or from the cache: `((params, model_state, logits…), seconds)`.

        Raises:
            RunFailed: their training diverged.
        """
        plan, settings = self.plan, self.plan.config.oracle
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), purpose))(jnp.array(seeds))
        name = oracle.content_hash(
            data=self.fingerprint, ids=ids, model=plan.network.description, settings=settings, seeds=(purpose, *seeds)
        )
        # One padded size for all of them: the program is compiled once.
        examples = self.examples(ids, bucket_size(len(self.train_labels)))
        classes = plan.scenario.dataset.num_classes
        splits = [len(self.train_labels), self.test_inputs.shape[0]]
        outputs = [jax.ShapeDtypeStruct((len(seeds), size, classes), jnp.float32) for size in splits]
        like = (*jax.eval_shape(jax.vmap(plan.network.init_fn), keys), *outputs)

        def compute() -> tuple:
            networks = self.train_oracles(devices.filled(keys, plan.devices), examples)
            params, model_state = jax.tree.map(lambda x: x[: len(seeds)], networks)
            each = [self.logits(*jax.tree.map(lambda x, s=s: x[s], (params, model_state))) for s in range(len(seeds))]
            return params, model_state, np.stack([e.train for e in each]), np.stack([e.test for e in each])

        start = time.perf_counter()
        path = plan.config.cache_dir / "oracles" / f"{name}.npz"
        if devices.from_first(path.exists()):
            tree, _ = oracle.cached(path, like, compute)
        else:
            tree = jax.tree.map(np.asarray, compute())
            if devices.is_first():
                oracle.store(path, tree)
        if not np.isfinite(tree[2]).all():
            raise RunFailed(
                f"training from scratch on {len(ids)} examples diverged: its outputs are not finite. Lower "
                f"--oracle.learning-rate and start a new --run-dir; this one resumes with:\n  {plan.resume_command}"
            )
        return tree, time.perf_counter() - start

    def has_oracles(self, request: int) -> bool:
        """Whether a request is measured against oracles."""
        plan = self.plan
        milestone = plan.scenario.stream[request].kind == "unlearn" or request == len(plan.scenario.stream) - 1
        return plan.config.oracles == "all" or milestone

    def oracle_record(self, request: int) -> OracleRecord:
        """The oracles after a request; the same for all methods and seeds."""
        if request not in self.oracles:
            plan, situation = self.plan, self.plan.situations[request]
            seeds = tuple(range(plan.config.oracle_seeds))
            with plan.progress.waiting(f"oracles after request {request + 1}"):
                (_, _, train, test), seconds = self.trained(situation.retained, seeds, ORACLE_KEY)
            self.spent["oracles"] += seconds
            logits = Logits(train, test)
            self.oracles[request] = OracleRecord(
                logits,
                measure_oracles(logits, plan.scenario.dataset, situation, seed=request),
                seconds,
            )
        return self.oracles[request]

    def fresh_state(self, method: str, seed: int) -> CLUState:
        """The state before the first request."""
        init_key, buffer_key = jax.random.split(jax.random.key(seed))
        params, model_state = jax.jit(self.plan.network.init_fn)(init_key)
        inputs = self.train_inputs
        buffer = buffer_lib.init(self.plan.config.capacity, inputs.shape[1:], inputs.dtype, buffer_key)
        return CLUState(self.plan.entries[method].method.init(params, model_state), buffer)

    def shared(self, method: str, seed: int, request: int) -> tuple[str, int, int] | None:
        """Name of the work that a method has in common with others: what its learner does before anything is unlearned.

        None where it is the method's own.
        """
        learner = self.plan.entries[method].learner
        alike = sum(entry.learner == learner for entry in self.plan.entries.values())
        only_learned = all(asked.kind == "learn" for asked in self.plan.scenario.stream[: request + 1])
        return (learner, seed, request) if alike > 1 and only_learned else None

    def serve(self, method: str, seed: int, request: int, state: CLUState) -> tuple[CLUState, Info, RequestCost]:
        """Apply one request of the stream, or take it from a method that learned it in the same way."""
        key = self.shared(method, seed, request)
        if key is not None and key in self.learned:
            there, task = self.learned[key], self.examples(self.plan.scenario.stream[request].ids)
            # Only what the unlearner keeps is not in the state of the other method.
            own = self.plan.entries[method].method.track("learn", state.method.extra, task)
            extra = own | {name: value for name, value in there.state.method.extra.items() if name in own}
            method_state = there.state.method._replace(extra=extra)
            return CLUState(method_state, there.state.buffer), there.info, there.cost
        served = self.apply(method, seed, request, state)
        if key is not None:
            self.learned[key] = Learned(*served)
        return served

    def serve_all(
        self, method: str, seeds: tuple[int, ...], request: int, states: list[CLUState]
    ) -> list[tuple[CLUState, Info, RequestCost]]:
        """One request for several seeds, each on a device of its own where the devices are spread over seeds."""
        first = request == 0 and self.plan.scenario.first_from_scratch
        known = [self.shared(method, seed, request) in self.learned for seed in seeds]
        if self.run_seeds is None or first or any(known):
            return [self.serve(method, seed, request, state) for seed, state in zip(seeds, states, strict=True)]
        entry, asked = self.plan.entries[method], self.plan.scenario.stream[request]
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), request))(jnp.array(seeds))
        mapped = devices.filled((keys, jax.tree.map(lambda *x: jnp.stack(x), *states)), self.plan.devices)
        hyper, examples = entry.hyper[asked.kind], self.examples(asked.ids)
        states, info, cost = self.run_seeds(entry.method, asked.kind, *mapped, hyper, examples)
        self.note(cost)
        served = [(*jax.tree.map(lambda x, s=s: x[s], (states, info)), cost) for s in range(len(seeds))]
        for seed, one in zip(seeds, served, strict=True):
            if (key := self.shared(method, seed, request)) is not None:
                self.learned[key] = Learned(*one)
        return served

    def apply(
        self, method: str, seed: int, request: int, state: CLUState, hyper: PyTree | None = None
    ) -> tuple[CLUState, Info, RequestCost]:
        """Apply one request of the stream, at the method's own hyperparameters unless others are given."""
        entry, asked = self.plan.entries[method], self.plan.scenario.stream[request]
        key = jax.random.fold_in(jax.random.key(seed), request)
        if request == 0 and self.plan.scenario.first_from_scratch:
            # Training from scratch, then the buffer alone: `do_nothing` inserts without an update.
            (params, model_state, _, _), seconds = self.trained(asked.ids, (seed,), request)
            network = jax.tree.map(lambda x: jnp.asarray(x[0]), (params, model_state))
            state = CLUState(state.method._replace(params=network[0], model_state=network[1]), state.buffer)
            state, info, cost = self.run_request(do_nothing(), "learn", key, state, (), self.examples(asked.ids))
            spent = oracle.gradient_evaluations(len(asked.ids), self.plan.config.oracle)
            return state, info._replace(gradient_evaluations=jnp.asarray(spent)), cost._replace(seconds=seconds)
        hyper = entry.hyper[asked.kind] if hyper is None else hyper
        served = self.run_request(entry.method, asked.kind, key, state, hyper, self.examples(asked.ids))
        self.note(served[2])
        return served

    def note(self, cost: RequestCost) -> None:
        """Count what a request cost."""
        self.spent.update({"requests": cost.seconds, "compilation": cost.compile_seconds})

    def evaluate(
        self,
        method: str,
        seed: int,
        request: int,
        state: CLUState,
        info: Info,
        cost: RequestCost,
        history: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """The line of metrics of a request."""
        plan, asked, situation = self.plan, self.plan.scenario.stream[request], self.plan.situations[request]
        record = self.oracle_record(request) if self.has_oracles(request) else None
        start = time.perf_counter()
        key = self.shared(method, seed, request)
        own = self.measured.get(key) if key is not None else None
        if own is None:
            logits = self.logits(state.method.params, state.method.model_state)
            earlier = [line["model"] for line in history]
            dataset = plan.scenario.dataset
            oracles, oracle_metrics = (record.logits, record.metrics["oracle"]) if record else (None, None)
            own = measure_model(logits, oracles, oracle_metrics, dataset, situation, earlier, seed=request)
            if key is not None:
                self.measured[key] = own
        seconds = time.perf_counter() - start
        self.spent["evaluation"] += seconds
        return {
            "method": method,
            "seed": seed,
            "request": request,
            "kind": asked.kind,
            "name": asked.name,
            "examples": len(asked.ids),
            "retained": len(situation.retained),
            "buffer": int(state.buffer.count),
            "model": own,
            **(record.metrics if record else {"oracle": None, "noise_floor": None}),
            "cost": {
                "gradient_evaluations": float(info.gradient_evaluations),
                "oracle_gradient_evaluations": oracle.gradient_evaluations(len(situation.retained), plan.config.oracle),
            },
            "mask_density": {
                jax.tree_util.keystr(path, simple=True, separator="/"): float(value)
                for path, value in jax.tree_util.tree_leaves_with_path(info.mask_density)
            },
            "timing": {
                "RTE": cost.seconds,
                "compile_seconds": cost.compile_seconds,
                "evaluation_seconds": seconds,
                "oracle_seconds": record.seconds if record else None,
            },
        }


def check_finite(plan: Plan, method: str, seed: int, request: int, info: Info) -> None:
    """Stop where a loss is not finite.

    Raises:
        Diverged: naming request and step.
    """
    first: dict[str, int] = {}
    for name in ("task_losses", "remain_losses", "displacement_norms"):  # the last: an update after the last loss
        values = np.asarray(getattr(info, name))
        if values.size and not np.isfinite(values).all():
            first[name.replace("_", " ")] = int(np.argwhere(~np.isfinite(values))[0][0])
    if not first:
        return
    name = min(first, key=first.__getitem__)
    asked = plan.scenario.stream[request]
    part = split_name(method)[0 if asked.kind == "learn" else 1]
    rates = f"--{asked.kind}.hyper.remain-learning-rate or --{asked.kind}.hyper.fast-learning-rate"
    if part != "ug_clu":
        rates = f"the rates under references.{part}.hyper of the settings file"
    raise Diverged(
        f"{method}, seed {seed}: {name} became non-finite at outer step {first[name] + 1} of request {request + 1} "
        f"({asked.name}). The checkpoint of the request before is kept. Lower {rates} and start a new --run-dir; this "
        f"one resumes with:\n  {plan.resume_command}"
    )


def last_good(plan: Plan, folder: Path, like: CLUState) -> checkpoints.Restored | None:
    """The newest checkpoint that is whole; a damaged one is named and passed over."""
    for request in reversed(checkpoints.requests(folder)):
        try:
            return checkpoints.restore(folder, request, like)
        except checkpoints.CorruptCheckpointError as error:
            message = escape(f"{error}; falling back to the one before.")
            plan.console.print(f"[yellow]Warning:[/] {message}", highlight=False, soft_wrap=True)
    return None


Publish = Callable[[str, int, list[dict[str, Any]]], None]
"""Gets the lines so far of a method and seed."""


class Course:
    """One method and seed on its way through the stream; its checkpoints are written while it goes on."""

    def __init__(self, run: Run, method: str, seed: int, publish: Publish) -> None:
        self.run, self.method, self.seed, self.publish = run, method, seed, publish
        self.folder = run.plan.folder.checkpoints(method, seed)
        self.like = self.state = run.fresh_state(method, seed)
        self.lines: list[dict[str, Any]] = []
        self.saving: checkpoints.Saving | None = None
        restored = last_good(run.plan, self.folder, self.like)
        if restored is not None:
            self.state, self.lines = restored.state, restored.metadata["lines"]
            for request in range(restored.request + 1):  # what a kill may have left undone
                self.forget(request)
        publish(method, seed, self.lines)

    def advance(self, request: int, served: tuple[CLUState, Info, RequestCost]) -> None:
        """Measure what a request led to and begin its checkpoint.

        Raises:
            Diverged: a loss is not finite; the course stays where it was.
            OSError: the checkpoint before this one could not be written.
        """
        state, info, cost = served
        run = self.run
        check_finite(run.plan, self.method, self.seed, request, info)
        line = run.evaluate(self.method, self.seed, request, state, info, cost, self.lines)
        fields = ("task_losses", "remain_losses", "fast_norms", "clipped", "displacement_norms")
        traces = {name: np.asarray(getattr(info, name)) for name in fields}
        if devices.is_first():
            run.plan.folder.write_trace(self.method, self.seed, request, traces)
        self.finish()
        self.state, self.lines = state, [*self.lines, line]
        # The checkpoint carries the lines: whatever else a kill cuts short is rebuilt from it.
        self.saving = checkpoints.begin(self.folder, request, state, {"lines": self.lines})
        if run.plan.scenario.stream[request].kind == "unlearn":
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint in hand; only then its lines are published and older checkpoints go.

        Raises:
            OSError: it could not be written.
            CorruptCheckpointError: it is not what was written.
        """
        if self.saving is None:
            return
        self.saving.wait()
        request = len(self.lines) - 1
        if self.run.plan.scenario.stream[request].kind == "unlearn":
            checkpoints.restore(self.folder, request, self.like)  # whole, before the others are touched
            self.forget(request)
        checkpoints.keep_newest(self.folder, self.run.plan.config.keep)
        self.publish(self.method, self.seed, self.lines)
        self.saving = None

    def forget(self, request: int) -> None:
        """If a request unlearns, see that no checkpoint before its own holds an example of it."""
        asked, method = self.run.plan.scenario.stream[request], self.run.plan.entries[self.method].method
        if asked.kind == "learn":
            return
        task = self.run.examples(asked.ids)

        def without(state: CLUState) -> CLUState:
            kept = state.method._replace(extra=method.track("unlearn", state.method.extra, task))
            return CLUState(kept, buffer_lib.remove(state.buffer, task.ids))

        checkpoints.purge(self.folder, request, self.like, without)


def run_streams(run: Run, method: str, seeds: tuple[int, ...], publish: Publish) -> list[Diverged]:
    """Serve the stream with one method and some seeds, each from its last good checkpoint on.

    Returns:
        Why the seeds that did not reach the end diverged; the others go on without them.
    """
    plan = run.plan
    courses = {seed: Course(run, method, seed, publish) for seed in seeds}
    diverged = []
    total = len(plan.scenario.stream)
    try:
        for request, asked in enumerate(plan.scenario.stream):
            ready = tuple(seed for seed, course in courses.items() if len(course.lines) == request)
            if not ready:
                continue
            who = f"seed{'s' if len(ready) > 1 else ''} {', '.join(map(str, ready))}"
            with plan.progress.request(f"{method} {who}  {request + 1}/{total} {asked.name}"):
                served = run.serve_all(method, ready, request, [courses[seed].state for seed in ready])
            for seed, one in zip(ready, served, strict=True):
                try:
                    courses[seed].advance(request, one)
                except Diverged as error:
                    diverged.append(error)
                    courses.pop(seed).finish()
    finally:  # whatever stops the run, what was computed is saved
        for course in courses.values():
            course.finish()
    return diverged


def execute(plan: Plan, conclude: Conclude | None = None) -> None:
    """Run every method and seed of a plan, then write the report, and print the table or what `conclude` prints.

    Raises:
        RunFailed: a run cannot go on; where one of them diverged, after the others and the report.
    """
    run = Run(plan)
    diverged: list[str] = []
    lines: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def publish(method: str, seed: int, so_far: list[dict[str, Any]]) -> None:
        lines[method, seed] = so_far
        if devices.is_first():
            plan.folder.write_metrics(list(itertools.chain.from_iterable(lines.values())))

    start = time.perf_counter()
    with plan.progress, reading(run.train_inputs):
        at_once = plan.devices.count if plan.config.over == "seeds" else 1
        seeds = plan.config.seeds
        for method, first in itertools.product(plan.config.methods, range(0, len(seeds), at_once)):
            diverged += [str(error) for error in run_streams(run, method, seeds[first : first + at_once], publish)]
    whole = time.perf_counter() - start
    if not devices.is_first():
        if diverged:
            raise RunFailed("\n".join(diverged))
        return
    page = report.write_html(plan.folder.path)
    # Never narrower than the table: squeezed, it would lose the names of the requests.
    wide = Console(file=plan.console.file, width=max(plan.console.width, report.TABLE_WIDTH))
    found = list(itertools.chain.from_iterable(lines.values()))
    if found and conclude is None:
        wide.print(report.request_table(found))
    elif found:
        conclude(plan, found)
    run.spent["checkpoints and the rest"] = whole - sum(run.spent.values())
    spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.spent.items())
    plan.console.print(f"Seconds:    {spent}", highlight=False, soft_wrap=True)
    plan.console.print(f"Run folder: {plan.folder.path}", highlight=False, soft_wrap=True)
    plan.console.print(f"Report:     {page}", highlight=False, soft_wrap=True)
    if diverged:
        raise RunFailed("\n".join(diverged))


def main(
    kind: type[C],
    name: str,
    description: str,
    build_scenario: Callable[[C, Dataset], Scenario],
    arguments: list[str] | None = None,
    *,
    program: str | None = None,
    conclude: Conclude | None = None,
) -> int:
    """Command line of an experiment; another `program` may run it and end it in its own way.

    Returns:
        The exit code: 0 done, 1 a failed run, 2 wrong use, 130 interrupted, 143 terminated.
    """
    console, errors = Console(), Console(stderr=True)
    given = sys.argv[1:] if arguments is None else arguments
    command = f"python -m experiments.{program or name} {shlex.join(given)}".rstrip()
    try:
        config = parse(kind, name, description, given, program)
        if config.coordinator is not None:
            devices.join(config.coordinator, config.num_processes, config.process_id)
        if not devices.is_first():
            console = Console(quiet=True)
        plan = prepare(name, config, build_scenario(config, load_dataset(config)), console, command)
    except (ValueError, OSError, devices.NotJoinedError) as error:
        errors.print(f"[red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    with plan.lock or nullcontext(), terminable():
        try:
            execute(plan, conclude)
        except (RunFailed, oracle.DamagedCacheError, checkpoints.CorruptCheckpointError, OSError) as error:
            errors.print(f"[red]Run failed:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            return 1
        except jax.errors.JaxRuntimeError as error:
            if jax.process_count() == 1:
                raise
            reason = str(error).splitlines()[0]
            message = f"a process of this run was lost ({reason}). Resume all of them with:\n  {plan.resume_command}"
            errors.print(f"[red]Run failed:[/] {escape(message)}", highlight=False, soft_wrap=True)
            os._exit(1)  # an orderly end would wait for the one that is lost
        except (KeyboardInterrupt, Terminated) as error:
            how, code = ("Interrupted", 130) if isinstance(error, KeyboardInterrupt) else ("Terminated", 143)
            message = f"{how}; what was finished is saved. Resume with:\n  {escape(plan.resume_command)}"
            errors.print(message, highlight=False, soft_wrap=True)
            return code
    return 0


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` here, where the main thread runs it, so that the save in hand is finished."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
