"""The same learner, seed and buffer over the same stream, without what is unlearned: how far an unlearner can come.

An oracle is trained on all that is retained; a continual learner is not, and what its buffer lost no unlearner brings
back. The counterfactual of a request is the learner's own model, had it never been asked to learn the examples that are
unlearned by then. With replay it also takes, at each unlearn request, the steps on the buffer that methods of the same
budget take (`finetune_remain`): its models are what an unlearner's would be if it unlearned exactly.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ugclu_jax import bank, devices
from ugclu_jax.harness.budget import given_for
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.outputs import is_milestone, kept_rows, taken, write
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
        for replay in REPLAY:
            name = outputs.counterfactual_file(learner, replay, seed, step.index)
            # The first process looks, for all: whoever went another way would be waited for in vain.
            if not devices.from_first((plan.folder.path / name).is_file()):
                what = f"counterfactual of {learner}, seed {seed}, request {step.index + 1}"
                with plan.progress.waiting(what):
                    write(plan, name, self.found(learner, replay, seed, step))

    def found(self, learner: str, replay: bool, seed: int, step: Step) -> dict[str, np.ndarray]:
        """The outputs of one, by set; from the cache where it has them."""
        plan, rows = self.plan, kept_rows(step)
        classes = self.data.dataset.num_classes
        like = {name: jax.ShapeDtypeStruct((len(r), classes), np.float32) for name, (_, r) in rows.items()}
        path = bank.file_of(plan.config.cache_dir / "oracles" / self.name(learner, replay, step), seed)
        if devices.is_first():
            plan.folder.note_caches(bank=path.parent)
        if devices.from_first(path.exists()):
            return dict(bank.read(path, like))
        computed = self.computed(learner, replay, seed, step)
        if devices.is_first():
            bank.write(path, computed)
        return computed

    def computed(self, learner: str, replay: bool, seed: int, step: Step) -> dict[str, np.ndarray]:
        """The stream up to a request, served without what is unlearned by then."""
        name = f"{learner}+{REPLAY[replay]}"
        state, entry = self.first(name, seed), self.plan.counterfactuals[name]
        for earlier in self.plan.steps[: step.index + 1]:
            asked = self.without(earlier, step)
            if asked is not None:
                state = self.server.apply(name, seed, asked, state, entry=entry).state
        network = state.method
        with self.clock.spending("evaluation"):
            logits = self.predictions.measured_logits(step.index, network.params, network.model_state)
        return {name: array.astype(np.float32) for name, array in taken(step, logits).items()}

    def first(self, name: str, seed: int) -> CLUState:
        """The state before the first request, that of the run's own methods with this learner."""
        return first_state(self.plan, self.plan.counterfactuals[name], seed, self.data.train_inputs.dtype)

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
            **bank.made_by(),
        }
        digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=repr).encode())
        for earlier in plan.steps[: step.index + 1]:
            asked = self.without(earlier, step)
            if asked is not None:
                digest.update(f" {earlier.index} {asked.request.kind} ".encode() + asked.request.ids.tobytes())
        for side, (split, rows) in kept_rows(step).items():
            digest.update(f" {side} {split} ".encode() + np.asarray(rows, np.int64).tobytes())
        return digest.hexdigest()
