"""The same learner, seed and buffer over the same stream, without what is unlearned: how far an unlearner can come.

An oracle is trained on all that is retained; a continual learner is not, and what its buffer lost no unlearner brings
back. The counterfactual of a request is the learner's own model, had it never been asked to learn the examples that are
unlearned by then. With replay it also takes, at each unlearn request, the steps on the buffer that methods of the same
budget take (`finetune_remain`): its models are what an unlearner's would be if it unlearned exactly.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from ugclu_jax import bank, devices
from ugclu_jax.harness.budget import given_for
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.outputs import is_milestone, taken, write
from ugclu_jax.harness.plan import REPLAY, Plan, Step, learners_of
from ugclu_jax.harness.predictions import Predictions
from ugclu_jax.harness.server import Server, first_state
from ugclu_jax.learner import CLUState
from ugclu_jax.report import outputs

FORMAT = 1


def wanted(plan: Plan) -> Iterator[tuple[str, int, Step]]:
    """Learner, seed and request of each counterfactual of a run."""
    for learner in learners_of(plan.config):
        for seed in plan.config.seeds:
            for step in plan.steps:
                if is_milestone(step, len(plan.steps)):
                    yield learner, seed, step


def complete(plan: Plan) -> bool:
    """Whether the run's folder has all of them."""
    return all(
        (plan.folder.path / outputs.counterfactual_file(learner, replay, seed, step.index)).is_file()
        for learner, seed, step in wanted(plan)
        for replay in REPLAY
    )


class Counterfactuals:
    """Makes them, or finds them in the cache, and leaves their outputs in the run's folder."""

    def __init__(self, plan: Plan, data: DeviceData, predictions: Predictions, server: Server, clock: Clock) -> None:
        self.plan, self.data, self.predictions, self.server, self.clock = plan, data, predictions, server, clock

    def write(self, learner: str, seed: int, step: Step) -> None:
        """Leave the outputs of both of a request, unless they are there.

        Raises:
            OSError: they cannot be written.
            DamagedCacheError: what the cache holds is damaged.
        """
        plan = self.plan
        learned = functools.cache(lambda: self.learned(learner, seed, step))  # not where the cache has both
        for replay in REPLAY:
            name = outputs.counterfactual_file(learner, replay, seed, step.index)
            # The first process looks, for all: whoever went another way would be waited for in vain.
            if not devices.from_first((plan.folder.path / name).is_file()):
                what = f"counterfactual of {learner}, seed {seed}, request {step.index + 1}"
                with plan.progress.waiting(what):
                    write(plan, name, self.found(learner, replay, seed, step, learned))

    def found(
        self, learner: str, replay: bool, seed: int, step: Step, learned: Callable[[], CLUState]
    ) -> dict[str, np.ndarray]:
        """The outputs of one, by set; from the cache where it has them."""
        plan, classes = self.plan, self.data.dataset.num_classes
        like = {name: jax.ShapeDtypeStruct((len(r), classes), np.float32) for name, (_, r) in step.kept.items()}
        path = bank.file_of(plan.config.cache_dir / "oracles" / self.name(learner, replay, step), seed)
        if devices.is_first():
            plan.folder.note_caches(bank=path.parent)
        if devices.from_first(path.exists()):
            return dict(bank.read(path, like))
        computed = self.computed(f"{learner}+{REPLAY[replay]}", seed, step, learned())
        if devices.is_first():
            bank.write(path, computed)
        return computed

    def learned(self, learner: str, seed: int, step: Step) -> CLUState:
        """What is served before the first request to unlearn: with replay and without, it is the same."""
        name = f"{learner}+{REPLAY[False]}"
        return self.served(name, seed, self.first(name, seed), itertools.takewhile(_learns, self.asked(step)))

    def computed(self, name: str, seed: int, step: Step, learned: CLUState) -> dict[str, np.ndarray]:
        """The outputs after a request, from the first request to unlearn on."""
        state = self.served(name, seed, learned, itertools.dropwhile(_learns, self.asked(step)))
        network = state.method
        with self.clock.spending("evaluation"):
            logits = self.predictions.measured_logits(step.index, network.params, network.model_state)
        return {name: array.astype(np.float32) for name, array in taken(step, logits).items()}

    def served(self, name: str, seed: int, state: CLUState, asked: Iterable[Step]) -> CLUState:
        """The state after some requests."""
        for each in asked:
            state = self.server.apply(name, seed, each, state, entry=self.plan.counterfactuals[name]).state
        return state

    def first(self, name: str, seed: int) -> CLUState:
        """The state before the first request, that of the run's own methods with this learner."""
        return first_state(self.plan, self.plan.counterfactuals[name], seed, self.data.train_inputs.dtype)

    def asked(self, step: Step) -> Iterator[Step]:
        """The stream up to a request, without what is unlearned by then."""
        each = (self.without(earlier, step) for earlier in self.plan.steps[: step.index + 1])
        return (one for one in each if one is not None)

    @staticmethod
    def without(earlier: Step, step: Step) -> Step | None:
        """An earlier request, without the examples that are unlearned after a later one; None where none is left.

        A request to unlearn stays: what of it was never learned is in no buffer.
        """
        request = earlier.request
        assert step.situation.unlearned is not None
        if request.kind == "unlearn":
            return earlier
        left = np.setdiff1d(request.ids, step.situation.unlearned)
        return dataclasses.replace(earlier, request=dataclasses.replace(request, ids=left)) if left.size else None

    def name(self, learner: str, replay: bool, step: Step) -> str:
        """Of their bank: a hash of everything that determines them but the seed."""
        plan, entry, references = (
            self.plan,
            self.plan.counterfactuals[f"{learner}+{REPLAY[replay]}"],
            self.plan.settings["references"],
        )
        description: dict[str, Any] = {
            "counterfactual": FORMAT,
            "data": self.data.fingerprint,
            "model": plan.network.description,
            "learner": [
                learner,
                plan.settings["learn"],
                given_for(references, learner, "learn"),
                plan.settings.get("sources"),
            ],
            "replay": given_for(references, REPLAY[replay], "unlearn") if replay else None,
            "budget": [entry.method.cost(kind, plan.config.capacity, plan.setup.largest_task) for kind in entry.hyper],
            "capacity": plan.config.capacity,
            "augment": plan.config.augment,
            "first_from_scratch": dataclasses.asdict(plan.config.oracle) if plan.scenario.first_from_scratch else None,
            # Uniform ones keep the name that they had before there were others.
            **({} if plan.config.buffer_sampling == "uniform" else {"sampling": plan.config.buffer_sampling}),
            **bank.made_by(),
        }
        digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=repr).encode())
        for asked in self.asked(step):
            digest.update(f" {asked.index} {asked.request.kind} ".encode() + asked.request.ids.tobytes())
        for side, (split, rows) in step.kept.items():
            digest.update(f" {side} {split} ".encode() + np.asarray(rows, np.int64).tobytes())
        return digest.hexdigest()


def _learns(step: Step) -> bool:
    return step.request.kind == "learn"
