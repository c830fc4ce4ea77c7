"""Networks trained from scratch: the oracles of each request, made once for all methods and seeds, and kept."""

import functools
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import bank, devices, oracle
from ugclu_jax.data import cache as data_cache
from ugclu_jax.evaluation import Logits, OracleMetrics, measure_oracles
from ugclu_jax.examples import bucket_size
from ugclu_jax.harness.at_once import oracles_at_once
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.outputs import write_oracles
from ugclu_jax.harness.plan import Plan, RunFailed, Step
from ugclu_jax.harness.predictions import Predictions
from ugclu_jax.harness.shown import write_shown
from ugclu_jax.types import Array, ModelState, Params, PyTree

ORACLE_KEY = 2**31 - 1
"""Folded into an oracle's seed, so that no oracle shares its key with a run of the same seed."""


class Trained(NamedTuple):
    """A network trained from scratch, and its outputs on both splits."""

    params: Params
    model_state: ModelState
    logits: Logits


class OracleRecord(NamedTuple):
    """The oracles of one request, as the evaluation needs them: outputs on the rows that it reads, see `View`."""

    logits: Logits
    metrics: OracleMetrics
    seconds: float


class Oracles:
    """Trains them, finds them in their banks, and measures them.

    Of a request's oracles it holds S × R × C outputs, on the R rows that the evaluation reads, for all methods and
    seeds; parameters and other outputs of no more than one program's.
    """

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

    @functools.cached_property
    def at_once(self) -> int:
        """Networks that one program trains at most."""
        plan = self.plan
        return oracles_at_once(plan.config, plan.network, plan.scenario.dataset, plan.devices.count)

    def trained(self, ids: np.ndarray, seeds: tuple[int, ...], purpose: int) -> Iterator[tuple[int, Trained]]:
        """Networks trained from scratch on some examples, from their bank, which grows by those that are missing.

        Args:
            ids: of the examples.
            seeds: one a network.
            purpose: goes into their keys.

        Yields:
            `(seed, network)` in whatever order, one in memory at a time, but for those that train in one program.

        Raises:
            RunFailed: the training of one diverged.
        """
        plan, data = self.plan, self.data
        name = bank.content_hash(
            data=data.fingerprint,
            ids=ids,
            model=plan.network.description,
            settings=plan.config.oracle,
            purpose=purpose,
        )
        folder = plan.config.cache_dir / "oracles" / name
        # One padded size for all of them: the program is compiled once.
        examples = data.examples(ids, bucket_size(len(data.train_labels)))
        splits = [len(data.train_labels), data.test_inputs.shape[0]]
        outputs = [jax.ShapeDtypeStruct((size, data.dataset.num_classes), jnp.float32) for size in splits]
        like = (*jax.eval_shape(plan.network.init_fn, jax.random.key(0)), *outputs)

        def train(some: tuple[int, ...], size: int) -> Iterator[PyTree]:
            keys = _keys((*some, *[some[-1]] * (size - len(some))), purpose)
            networks = self.train(devices.filled(keys, plan.devices), examples)
            for place in range(len(some)):
                params, model_state = jax.tree.map(lambda x, s=place: x[s], networks)
                logits = self.predictions.logits(params, model_state)
                yield params, model_state, logits.train, logits.test

        # The first process looks and writes, for all: whoever went another way would be waited for in vain.
        if devices.is_first():
            plan.folder.note_caches(bank=folder)
        there = {seed for seed in seeds if devices.from_first(bank.file_of(folder, seed).exists())}
        at_once = self.at_once if len(there) < len(seeds) else 1
        found = bank.members(folder, seeds, like, train, at_once=at_once, there=there, keep=devices.is_first())
        for seed, (params, model_state, train_logits, test_logits) in found:
            if not np.isfinite(train_logits).all():
                raise RunFailed(
                    f"training from scratch on {len(ids)} examples diverged (seed {seed}): its outputs are not finite. "
                    "Lower --oracle.learning-rate and start a new --run-dir; this one resumes with:\n  "
                    f"{plan.resume_command}"
                )
            yield seed, Trained(params, model_state, Logits(train_logits, test_logits))

    def after(self, step: Step) -> OracleRecord | None:
        """The oracles after a request, the same for all methods and seeds; None where it is measured without."""
        plan = self.plan
        milestone = step.request.kind == "unlearn" or step.index == len(plan.scenario.stream) - 1
        return self.of(step) if plan.config.oracles == "all" or milestone else None

    def of(self, step: Step) -> OracleRecord:
        """The oracles after a request, wherever it stands in the stream."""
        plan = self.plan
        if step.index not in self.records:
            view, kept, start = step.view, dict[int, Logits](), time.perf_counter()
            seeds = tuple(range(plan.config.oracle_seeds))
            with plan.progress.waiting(f"oracles after request {step.index + 1}"), self.clock.spending("oracles"):
                for seed, one in self.trained(step.situation.retained, seeds, ORACLE_KEY):
                    kept[seed] = view.of(one.logits)  # what the evaluation reads, and no more
                seconds = time.perf_counter() - start
                ordered = [kept.pop(seed) for seed in seeds]
                logits = Logits(*(np.stack([getattr(one, side) for one in ordered]) for side in ("train", "test")))
                metrics = measure_oracles(logits, view.labels, view.situation, seed=step.index)
            write_oracles(plan, step, logits)
            write_shown(plan, step)
            self.records[step.index] = OracleRecord(logits, metrics, seconds)
        return self.records[step.index]


def _keys(seeds: tuple[int, ...], purpose: int) -> Array:
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), purpose))(jnp.array(seeds, jnp.uint32))
