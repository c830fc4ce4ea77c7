"""Requests of a plan's stream, served by its methods. What learners have in common is served once."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import devices, oracle
from ugclu_jax.harness.at_once import Grouping, grouping, tree_bytes, wanted
from ugclu_jax.harness.budget import Entry
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.oracles import Oracles
from ugclu_jax.harness.plan import Plan, Step
from ugclu_jax.learner import CLUState, RequestCost, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.programs import ONE_DEVICE, filled_to, mapped
from ugclu_jax.types import Info, Method, PyTree, RequestKind

SharedKey = tuple[str, int, int]
"""Learner, seed and request of work that methods have in common."""


def first_state(plan: Plan, entry: Entry, seed: int, dtype: DTypeLike) -> CLUState:
    """A method before the first request, and an empty buffer of inputs of a type."""
    init_key, buffer_key = jax.random.split(jax.random.key(seed))
    params, model_state = jax.jit(plan.network.init_fn)(init_key)
    shape = plan.scenario.dataset.train_inputs.shape[1:]
    buffer = buffer_lib.init(plan.config.capacity, shape, dtype, buffer_key)
    return CLUState(entry.method.init(params, model_state), buffer)


class Served(NamedTuple):
    """What a request led to."""

    state: CLUState
    info: Info
    cost: RequestCost
    shared: SharedKey | None = None  # None where it is the method's own


class Server:
    """Compiled requests, of one seed or of a group of them, and what methods of one learner have in common."""

    def __init__(self, plan: Plan, data: DeviceData, oracles: Oracles, clock: Clock) -> None:
        self.plan, self.data, self.oracles, self.clock = plan, data, oracles, clock
        on_step = plan.progress.on_step if plan.console.is_terminal else None
        self.run_request = request_program(devices.layout(plan.devices) if data.divided else ONE_DEVICE, on_step)
        self.devices = 1 if data.divided else plan.devices.count  # that seeds are spread over
        one = data.divided or wanted(plan.config, self.devices) == 1
        self.group = Grouping(1, 1, 0) if one else self.grouping()
        self.group_size = self.group.size * self.devices
        lanes = None if self.group.lanes == self.group.size else self.group.lanes
        many = devices.spread(plan.devices, 2, lanes) if self.devices > 1 else mapped(2, lanes)
        self.run_seeds = request_program(many, on_step)
        self.learned: dict[SharedKey, Served] = {}

    def grouping(self) -> Grouping:
        """How many seeds are served together, by the method that keeps most."""
        plan, dtype = self.plan, self.data.train_inputs.dtype
        states = (jax.eval_shape(lambda e=entry: first_state(plan, e, 0, dtype)) for entry in plan.entries.values())
        dataset = plan.scenario.dataset
        return grouping(plan.config, plan.network, dataset, max(map(tree_bytes, states)), self.devices)

    def fresh_state(self, method: str, seed: int) -> CLUState:
        """The state before the first request."""
        with self.clock.spending("compilation"):  # the rest of it is nothing
            return first_state(self.plan, self.plan.entries[method], seed, self.data.train_inputs.dtype)

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
        """One request for several seeds, by one program where they form a group."""
        keys = {seed: self.shared(method, seed, step) for seed in states}
        new = [seed for seed in states if keys[seed] not in self.learned]
        if self.from_scratch(step) and len(new) > 1:
            return self.learn_all_from_scratch(method, step, states, tuple(new))
        if self.group_size > 1 and new and not self.from_scratch(step):
            found = self.apply_to_seeds(method, tuple(new), step, [states[seed] for seed in new])
            served = {seed: one._replace(shared=keys[seed]) for seed, one in zip(new, found, strict=True)}
            self.learned |= {one.shared: one for one in served.values() if one.shared is not None}
            states = {seed: state for seed, state in states.items() if seed not in served}
            return served | {seed: self.serve(method, seed, step, state) for seed, state in states.items()}
        return {seed: self.serve(method, seed, step, state) for seed, state in states.items()}

    def apply_to_seeds(
        self, method: str, seeds: tuple[int, ...], step: Step, states: Sequence[CLUState]
    ) -> list[Served]:
        """Apply one request to a state of each seed, all at once.

        A group that lacks seeds is filled up with copies of the last: no other program is compiled for it, and what a
        seed gets does not depend on who else is there.
        """
        entry, kind = self.plan.entries[method], step.request.kind
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), step.index))(jnp.array(seeds, jnp.uint32))
        together = jax.tree.map(lambda *x: jnp.stack(x), *states)
        keys, together = filled_to(self.group_size, (keys, together))
        examples = self.data.examples(step.request.ids)
        *found, cost = self.run_seeds(entry.method, kind, keys, together, entry.hyper[kind], examples)
        self.clock.note(cost)
        share = min(1.0, self.devices / len(seeds))  # of the seconds of a device
        own = RequestCost(cost.seconds * share, cost.compile_seconds * share)
        each = [jax.tree.map(lambda x, s=s: x[s], found) for s in range(len(seeds))]
        return [Served(state, info, own) for state, info in each]

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
        entry: Entry | None = None,
    ) -> Served:
        """Apply one request of the stream, at the method's own hyperparameters unless others are given by kind.

        By the plan's method of that name, or by one that is none of the plan's.
        """
        kind, entry = step.request.kind, entry or self.plan.entries[method]
        if self.from_scratch(step):
            return self.learn_from_scratch(entry.method, seed, step, state)
        key = jax.random.fold_in(jax.random.key(seed), step.index)
        chosen = (entry.hyper if hyper is None else hyper)[kind]
        served = Served(*self.run_request(entry.method, kind, key, state, chosen, self.data.examples(step.request.ids)))
        self.clock.note(served.cost)
        return served

    def learn_all_from_scratch(
        self, method: str, step: Step, states: Mapping[int, CLUState], new: tuple[int, ...]
    ) -> dict[int, Served]:
        """Networks of several seeds by one program, into their bank, where each finds its own."""
        start = time.perf_counter()
        for _ in self.oracles.trained(step.request.ids, new, step.index):
            pass
        seconds = time.perf_counter() - start
        self.clock.spent["requests"] += seconds
        served = {seed: self.serve(method, seed, step, state) for seed, state in states.items()}
        for seed in new:
            cost = served[seed].cost
            served[seed] = served[seed]._replace(cost=cost._replace(seconds=cost.seconds + seconds / len(new)))
        return served

    def learn_from_scratch(self, method: Method, seed: int, step: Step, state: CLUState) -> Served:
        """Training from scratch, then the buffer and the method's memories: `do_nothing` has no update."""
        ids, key = step.request.ids, jax.random.fold_in(jax.random.key(seed), step.index)
        start = time.perf_counter()
        ((_, found),) = self.oracles.trained(ids, (seed,), step.index)
        seconds = time.perf_counter() - start
        params, model_state = jax.tree.map(jnp.asarray, (found.params, found.model_state))
        state = CLUState(state.method._replace(params=params, model_state=model_state), state.buffer)
        keeping = do_nothing()._replace(memories=method.memories, ranks=method.ranks)
        state, info, cost = self.run_request(keeping, "learn", key, state, (), self.data.examples(ids))
        spent = oracle.gradient_evaluations(len(ids), self.plan.config.oracle)
        cost = cost._replace(seconds=seconds)
        self.clock.note(cost)
        return Served(state, info._replace(gradient_evaluations=jnp.asarray(spent)), cost)
