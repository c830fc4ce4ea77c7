"""Networks trained from scratch: the oracles of each request, made once for all methods and seeds, and kept."""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import devices, oracle
from ugclu_jax.data import cache as data_cache
from ugclu_jax.evaluation import Labels, Logits, OracleMetrics, measure_oracles
from ugclu_jax.examples import bucket_size
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.outputs import write_oracles
from ugclu_jax.harness.plan import Plan, RunFailed, Step
from ugclu_jax.harness.predictions import Predictions
from ugclu_jax.harness.shown import write_shown
from ugclu_jax.types import ModelState, Params

ORACLE_KEY = 2**31 - 1
"""Folded into an oracle's seed, so that no oracle shares its key with a run of the same seed."""


class Trained(NamedTuple):
    """Networks trained from scratch, stacked over their seeds, and their outputs."""

    params: Params
    model_state: ModelState
    logits: Logits
    seconds: float


class OracleRecord(NamedTuple):
    """The oracles of one request, as the evaluation needs them."""

    logits: Logits
    metrics: OracleMetrics
    seconds: float


class Oracles:
    """Trains them, finds them in the cache, and measures them."""

    def __init__(self, plan: Plan, data: DeviceData, predictions: Predictions, clock: Clock) -> None:
        self.plan, self.data, self.predictions, self.clock = plan, data, predictions, clock
        apply_fn, init_fn, settings = plan.network.apply_fn, plan.network.init_fn, plan.config.oracle
        train = functools.partial(oracle.train_from_scratch, apply_fn=apply_fn, init_fn=init_fn, settings=settings)
        self.train = (
            devices.spread(plan.devices).program(train)
            if plan.devices.count > 1
            else oracle.oracle_program(apply_fn, init_fn, settings)
        )
        if devices.is_first():
            plan.folder.note_caches(data=plan.config.data.cache_dir or data_cache.default_directory())
        self.records: dict[int, OracleRecord] = {}

    def trained(self, ids: np.ndarray, seeds: tuple[int, ...], purpose: int) -> Trained:
        """Networks trained from scratch on some examples, or from the cache; `purpose` goes into their keys.

        Raises:
            RunFailed: their training diverged.
        """
        plan, settings, data = self.plan, self.plan.config.oracle, self.data
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), purpose))(jnp.array(seeds, jnp.uint32))
        name = oracle.content_hash(
            data=data.fingerprint, ids=ids, model=plan.network.description, settings=settings, seeds=(purpose, *seeds)
        )
        # One padded size for all of them: the program is compiled once.
        examples = data.examples(ids, bucket_size(len(data.train_labels)))
        splits = [len(data.train_labels), data.test_inputs.shape[0]]
        outputs = [jax.ShapeDtypeStruct((len(seeds), size, data.dataset.num_classes), jnp.float32) for size in splits]
        like = (*jax.eval_shape(jax.vmap(plan.network.init_fn), keys), *outputs)

        def compute() -> tuple[Params, ModelState, np.ndarray, np.ndarray]:
            networks = self.train(devices.filled(keys, plan.devices), examples)
            params, model_state = jax.tree.map(lambda x: x[: len(seeds)], networks)
            each = [
                self.predictions.logits(*jax.tree.map(lambda x, s=s: x[s], (params, model_state)))
                for s in range(len(seeds))
            ]
            return params, model_state, np.stack([e.train for e in each]), np.stack([e.test for e in each])

        start = time.perf_counter()
        path = plan.config.cache_dir / "oracles" / f"{name}.npz"
        # The first process looks and writes, for all: whoever went another way would be waited for in vain.
        if devices.is_first():
            plan.folder.note_caches(oracle=path)
        there, keep = devices.from_first(path.exists()), devices.is_first()
        (params, model_state, train, test), _ = oracle.cached(path, like, compute, there=there, keep=keep)
        if not np.isfinite(train).all():
            raise RunFailed(
                f"training from scratch on {len(ids)} examples diverged: its outputs are not finite. Lower "
                f"--oracle.learning-rate and start a new --run-dir; this one resumes with:\n  {plan.resume_command}"
            )
        return Trained(params, model_state, Logits(train, test), time.perf_counter() - start)

    def after(self, step: Step) -> OracleRecord | None:
        """The oracles after a request, the same for all methods and seeds; None where it is measured without."""
        plan = self.plan
        milestone = step.request.kind == "unlearn" or step.index == len(plan.scenario.stream) - 1
        return self.of(step) if plan.config.oracles == "all" or milestone else None

    def of(self, step: Step) -> OracleRecord:
        """The oracles after a request, wherever it stands in the stream."""
        plan = self.plan
        if step.index not in self.records:
            seeds, dataset = tuple(range(plan.config.oracle_seeds)), self.data.dataset
            with plan.progress.waiting(f"oracles after request {step.index + 1}"), self.clock.spending("oracles"):
                found = self.trained(step.situation.retained, seeds, ORACLE_KEY)
                labels = Labels(dataset.train_labels, dataset.test_labels)
                metrics = measure_oracles(found.logits, labels, step.measured, seed=step.index)
            write_oracles(plan, step, found.logits)
            write_shown(plan, step)
            self.records[step.index] = OracleRecord(found.logits, metrics, found.seconds)
        return self.records[step.index]
