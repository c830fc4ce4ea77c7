"""Requests of a plan's stream, served by its methods. What learners have in common is served once."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import devices, oracle
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.oracles import Oracles
from ugclu_jax.harness.plan import Plan, Step
from ugclu_jax.learner import CLUState, RequestCost, RequestProgram, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.programs import ONE_DEVICE
from ugclu_jax.types import Info, PyTree, RequestKind

SharedKey = tuple[str, int, int]
"""Learner, seed and request of work that methods have in common."""


def first_state(plan: Plan, method: str, seed: int, dtype: DTypeLike) -> CLUState:
    """A method before the first request, and an empty buffer of inputs of a type."""
    init_key, buffer_key = jax.random.split(jax.random.key(seed))
    params, model_state = jax.jit(plan.network.init_fn)(init_key)
    shape = plan.scenario.dataset.train_inputs.shape[1:]
    buffer = buffer_lib.init(plan.config.capacity, shape, dtype, buffer_key)
    return CLUState(plan.entries[method].method.init(params, model_state), buffer)


class Served(NamedTuple):
    """What a request led to."""

    state: CLUState
    info: Info
    cost: RequestCost
    shared: SharedKey | None = None  # None where it is the method's own


class Server:
    """Compiled requests, and the learn requests that methods of one learner share."""

    def __init__(self, plan: Plan, data: DeviceData, oracles: Oracles, clock: Clock) -> None:
        self.plan, self.data, self.oracles, self.clock = plan, data, oracles, clock
        on_step = plan.progress.on_step if plan.console.is_terminal else None
        self.run_request = request_program(devices.layout(plan.devices) if data.divided else ONE_DEVICE, on_step)
        by_seed = plan.devices.count > 1 and not data.divided
        self.run_seeds = request_program(devices.spread(plan.devices, 2), on_step) if by_seed else None
        self.learned: dict[SharedKey, Served] = {}

    def fresh_state(self, method: str, seed: int) -> CLUState:
        """The state before the first request."""
        with self.clock.spending("compilation"):  # the rest of it is nothing
            return first_state(self.plan, method, seed, self.data.train_inputs.dtype)

    def shared(self, method: str, seed: int, step: Step) -> SharedKey | None:
        """Name of the work that a method has in common with others: what its learner does before anything is unlearned.

        None where it is the method's own.
        """
        learner = self.plan.entries[method].learner
        alike = sum(entry.learner == learner for entry in self.plan.entries.values())
        only_learned = all(asked.kind == "learn" for asked in self.plan.scenario.stream[: step.index + 1])
        return (learner, seed, step.index) if alike > 1 and only_learned else None

    def serve(self, method: str, seed: int, step: Step, state: CLUState) -> Served:
        """Apply one request of the stream, or take it from a method that learned it in the same way."""
        key = self.shared(method, seed, step)
        if key is None:
            return self.apply(method, seed, step, state)
        if key in self.learned:
            there = self.learned[key]
            # Only what the unlearner keeps is not in the state of the other method.
            task = self.data.examples(step.request.ids)
            own = self.plan.entries[method].method.track("learn", state.method.extra, task)
            extra = own | {name: value for name, value in there.state.method.extra.items() if name in own}
            return there._replace(state=CLUState(there.state.method._replace(extra=extra), there.state.buffer))
        self.learned[key] = self.apply(method, seed, step, state)._replace(shared=key)
        return self.learned[key]

    def serve_all(self, method: str, step: Step, states: Mapping[int, CLUState]) -> dict[int, Served]:
        """One request for several seeds, each on a device of its own where the devices are spread over seeds."""
        keys = {seed: self.shared(method, seed, step) for seed in states}
        known = any(key in self.learned for key in keys.values())
        run = self.run_seeds
        if run is None or known or self.from_scratch(step):
            return {seed: self.serve(method, seed, step, state) for seed, state in states.items()}
        found = self.apply_to_seeds(run, method, tuple(states), step, list(states.values()))
        served = {seed: one._replace(shared=keys[seed]) for seed, one in zip(states, found, strict=True)}
        self.learned |= {one.shared: one for one in served.values() if one.shared is not None}
        return served

    def apply_to_seeds(
        self, run: RequestProgram, method: str, seeds: tuple[int, ...], step: Step, states: Sequence[CLUState]
    ) -> list[Served]:
        """Apply one request to a state of each seed, all at once."""
        entry, kind = self.plan.entries[method], step.request.kind
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step.index))(jnp.array(seeds, jnp.uint32))
        keys, together = devices.filled((keys, jax.tree.map(lambda *x: jnp.stack(x), *states)), self.plan.devices)
        examples = self.data.examples(step.request.ids)
        *found, cost = run(entry.method, kind, keys, together, entry.hyper[kind], examples)
        self.clock.note(cost)
        each = [jax.tree.map(lambda x, s=s: x[s], found) for s in range(len(seeds))]
        return [Served(state, info, cost) for state, info in each]

    def from_scratch(self, step: Step) -> bool:
        """Whether a request is learned by training from scratch."""
        return step.index == 0 and self.plan.scenario.first_from_scratch

    def apply(
        self,
        method: str,
        seed: int,
        step: Step,
        state: CLUState,
        hyper: Mapping[RequestKind, PyTree] | None = None,
    ) -> Served:
        """Apply one request of the stream, at the method's own hyperparameters unless others are given by kind."""
        if self.from_scratch(step):
            return self.learn_from_scratch(method, seed, step, state)
        entry, kind = self.plan.entries[method], step.request.kind
        key = jax.random.fold_in(jax.random.key(seed), step.index)
        chosen = (entry.hyper if hyper is None else hyper)[kind]
        served = Served(*self.run_request(entry.method, kind, key, state, chosen, self.data.examples(step.request.ids)))
        self.clock.note(served.cost)
        return served

    def learn_from_scratch(self, method: str, seed: int, step: Step, state: CLUState) -> Served:
        """Training from scratch, then the buffer and the method's memories: `do_nothing` has no update."""
        ids, key = step.request.ids, jax.random.fold_in(jax.random.key(seed), step.index)
        found = self.oracles.trained(ids, (seed,), step.index)
        params, model_state = jax.tree.map(lambda x: jnp.asarray(x[0]), (found.params, found.model_state))
        state = CLUState(state.method._replace(params=params, model_state=model_state), state.buffer)
        keeping = do_nothing()._replace(memories=self.plan.entries[method].method.memories)
        state, info, cost = self.run_request(keeping, "learn", key, state, (), self.data.examples(ids))
        spent = oracle.gradient_evaluations(len(ids), self.plan.config.oracle)
        cost = cost._replace(seconds=found.seconds)
        self.clock.note(cost)
        return Served(state, info._replace(gradient_evaluations=jnp.asarray(spent)), cost)
