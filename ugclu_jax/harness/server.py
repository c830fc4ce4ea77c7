"""Programs and device data of a plan: requests served, oracles trained, outputs measured. No mathematics."""

import functools
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import devices, oracle
from ugclu_jax.evaluation import Logits, measure_model, measure_oracles, rows_of
from ugclu_jax.harness.plan import Plan, RunFailed
from ugclu_jax.learner import ONE_DEVICE, CLUState, RequestCost, predict_program, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.requests import bucket_size, pad_ids
from ugclu_jax.streaming import HostArray, ShardedArray
from ugclu_jax.types import Array, Examples, Info, PyTree

ORACLE_KEY = 2**31 - 1
"""Folded into an oracle's seed, so that no oracle shares its key with a run of the same seed."""


COMPILING = {f"/jax/core/compile/{step}_duration" for step in ("jaxpr_to_mlir_module", "backend_compile")}
"""JAX's events of what a compilation takes; tracing is left out, since the events of nested functions overlap."""
_COMPILED = Counter[str]()  # seconds by event, of the process


def _note_compilation(event: str, seconds: float, **_: Any) -> None:
    if event in COMPILING:
        _COMPILED[event] += seconds


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


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


BATCHES_GATHERED = 4
"""Prediction batches whose inputs are copied together for an evaluation that does not read all of them."""


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
        self.divided = several and not by_seed  # whole where each seed has a device of its own
        self.train_inputs = training_inputs(plan, self.divided)
        self.train_labels = jnp.asarray(dataset.train_labels)
        read_here = dataset.digests(jax.process_index(), jax.process_count())
        self.fingerprint = dataset.fingerprint(devices.sum_over_processes(read_here))
        self.run_request = request_program(devices.layout(plan.devices) if several and not by_seed else ONE_DEVICE)
        self.run_seeds = request_program(devices.spread(plan.devices, 2)) if several and by_seed else None
        self.test_inputs = self.placed(dataset.test_inputs)
        self.batch = prediction_batch(dataset.train_inputs.shape[1:])
        self.predict = (
            devices.predict_program(plan.network.apply_fn, plan.devices, self.batch)
            if self.divided
            else predict_program(plan.network.apply_fn, self.batch)
        )
        network = {"apply_fn": plan.network.apply_fn, "init_fn": plan.network.init_fn}
        train = functools.partial(oracle.train_from_scratch, settings=plan.config.oracle, **network)
        self.train_oracles = (
            devices.spread(plan.devices).program(train)
            if several
            else oracle.oracle_program(settings=plan.config.oracle, **network)
        )
        self.spent = Counter[str]()  # seconds by what they went into; `oracles` with their own evaluation
        self.oracles: dict[int, OracleRecord] = {}
        self.learned: dict[tuple[str, int, int], Learned] = {}
        self.measured: dict[tuple[str, int, int], dict[str, Any]] = {}

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Count the seconds of a block; those in which it compiles count as compilation."""
        start, compiled = time.perf_counter(), sum(_COMPILED.values())
        try:
            yield
        finally:
            compiling = sum(_COMPILED.values()) - compiled
            self.spent.update({what: time.perf_counter() - start - compiling, "compilation": compiling})

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

    @functools.cached_property
    def rows_read(self) -> tuple[tuple[np.ndarray, ...], ...]:
        """Rows of the training split, and of the test split, that the evaluation of each request reads."""
        return tuple(zip(*map(rows_of, self.plan.measured), strict=True))

    def measured_logits(self, request: int, params: Any, model_state: Any) -> Logits:
        """Outputs of one network, NaN where the evaluation of the request does not look."""
        dataset, outputs = self.plan.scenario.dataset, []
        sides = (dataset.train_inputs, self.train_inputs), (dataset.test_inputs, self.test_inputs)
        for (inputs, resident), read in zip(sides, self.rows_read, strict=True):
            full = np.full((len(inputs), dataset.num_classes), np.nan, np.float32)
            # Of one size for all requests, so that the program is compiled once.
            size = min(BATCHES_GATHERED * self.batch, max(map(len, read)))
            for start in range(0, len(read[request]), size):
                rows = read[request][start : start + size]
                padded = np.resize(rows, size)
                chosen = resident[padded] if isinstance(resident, jax.Array) else self.placed(inputs[padded])
                full[rows] = np.asarray(self.predict(params, model_state, chosen))[: len(rows)]
            outputs.append(full)
        return Logits(*outputs)

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
        # The first process looks and writes, for all: whoever went another way would be waited for in vain.
        there, keep = devices.from_first(path.exists()), devices.is_first()
        tree, _ = oracle.cached(path, like, compute, there=there, keep=keep)
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
            plan, measured = self.plan, self.plan.measured[request]
            seeds = tuple(range(plan.config.oracle_seeds))
            with plan.progress.waiting(f"oracles after request {request + 1}"), self.spending("oracles"):
                (_, _, train, test), seconds = self.trained(plan.situations[request].retained, seeds, ORACLE_KEY)
                logits = Logits(train, test)
                metrics = measure_oracles(logits, plan.scenario.dataset, measured, seed=request)
            self.oracles[request] = OracleRecord(logits, metrics, seconds)
        return self.oracles[request]

    def fresh_state(self, method: str, seed: int) -> CLUState:
        """The state before the first request."""
        init_key, buffer_key = jax.random.split(jax.random.key(seed))
        with self.spending("compilation"):  # the rest of it is nothing
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
            cost = cost._replace(seconds=seconds)
            self.note(cost)
            return state, info._replace(gradient_evaluations=jnp.asarray(spent)), cost
        hyper = entry.hyper[asked.kind] if hyper is None else hyper
        served = self.run_request(entry.method, asked.kind, key, state, hyper, self.examples(asked.ids))
        self.note(served[2])
        return served

    def note(self, cost: RequestCost) -> None:
        """Count what a request cost."""
        self.spent.update({"requests": cost.seconds, "compilation": cost.compile_seconds})

    def measure(
        self,
        method: str,
        seed: int,
        request: int,
        state: CLUState,
        record: OracleRecord | None,
        history: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """The model's own metrics after a request, or those of a method that learned it in the same way."""
        plan, key = self.plan, self.shared(method, seed, request)
        if key is not None and key in self.measured:
            return self.measured[key]
        network = state.method.params, state.method.model_state
        # Divided inputs are passed over where they lie: to gather rows would move them between devices.
        whole = self.divided and plan.config.evaluation_examples is None
        logits = self.logits(*network) if whole else self.measured_logits(request, *network)
        earlier = [line["model"] for line in history]
        oracles, metrics = (record.logits, record.metrics["oracle"]) if record else (None, None)
        dataset, measured = plan.scenario.dataset, plan.measured[request]
        own = measure_model(logits, oracles, metrics, dataset, measured, earlier, seed=request)
        if key is not None:
            self.measured[key] = own
        return own

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
        before = self.spent["evaluation"]
        with self.spending("evaluation"):
            own = self.measure(method, seed, request, state, record, history)
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
                "evaluation_seconds": self.spent["evaluation"] - before,
                "oracle_seconds": record.seconds if record else None,
            },
        }
