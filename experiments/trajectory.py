"""Where is a network on its way through an unlearn request: gradients, outputs, and the turns that it takes?

    python -m experiments.trajectory --scenario class_wise --seeds 0:3 --oracle-seeds 3          # embedded digits

Reference: the request is stopped after a dozen numbers of outer steps, each time with the schedules and the draws of
the whole, so that every point is a network that the whole request passes through. A program of its own, which the study
`convergence` runs.

The run folder gets trajectory/METHOD-SEED.npz and trajectory/oracles.npz. The same command takes up what is missing.
"""

import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugclu_jax import curvature
from ugclu_jax.components import unlearning_gradient, weighted_gradient
from ugclu_jax.harness.cli import Job, main
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.options import Group, ScenarioName
from ugclu_jax.harness.oracles import ORACLE_KEY
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.run import Run, start
from ugclu_jax.harness.signals import Stop
from ugclu_jax.harness.stream_run import resumable
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.report import trajectories
from ugclu_jax.report.format import markdown_table, number
from ugclu_jax.types import Array, Batch, Examples, Execution, MethodState, Params, PyTree


@dataclass(frozen=True)
class TrajectoryOptions(Group):
    """Where it is looked at, and by what."""

    scenario: ScenarioName = "random_sample"
    """Whose stream is served up to its first unlearn request; all other settings are those of this experiment."""
    points: int = 12
    """Numbers of outer steps after which the request is stopped: 0, the whole, and evenly between on a logarithm."""
    rows: int = 1000
    """Examples at most of what is retained, unlearned, and tested, that gradients and distances read."""

    def __post_init__(self) -> None:
        self.at_least(points=3, rows=2)
        super().__post_init__()


def stops(outer_steps: int, points: int) -> list[int]:
    """Numbers of outer steps, 0 and K among them.

    >>> stops(40, 6), stops(3, 12)
    ([0, 1, 3, 6, 16, 40], [0, 1, 2, 3])
    """
    return [0, *sorted({round(x) for x in np.geomspace(1, outer_steps, points - 1)})]


class Way:
    """One plan's requests, stopped on their way."""

    def __init__(self, run: Run, options: TrajectoryOptions) -> None:
        self.run, self.plan, self.step = run, run.plan, run.plan.steps[-1]
        rng, labels = np.random.default_rng(0), run.plan.scenario.dataset.train_labels

        def some(ids: np.ndarray) -> np.ndarray:
            return np.sort(rng.choice(ids, min(options.rows, len(ids)), replace=False))

        situation = self.step.situation
        assert situation.unlearned is not None  # the stream ends with a request that unlearns
        self.unlearned, self.test = some(situation.unlearned), some(situation.test)
        self.remain, self.task = self.batch(some(situation.retained), labels), self.batch(self.unlearned, labels)
        self.test_inputs = jnp.asarray(run.plan.scenario.dataset.test_inputs[self.test])
        self.slopes = jax.jit(self._slopes)
        self.programs: dict[str, Any] = {}

    def batch(self, rows: np.ndarray, labels: np.ndarray) -> Batch:
        """Training examples as one batch."""
        inputs = jnp.asarray(self.plan.scenario.dataset.train_inputs[rows])
        return Batch(inputs, jnp.asarray(labels[rows], jnp.int32), jnp.ones(len(rows)))

    def _slopes(self, params: Params, model_state: PyTree) -> tuple[Array, Array, Array, Array]:
        at = (self.plan.network.apply_fn, params, model_state)
        remain, task = weighted_gradient(*at, self.remain), unlearning_gradient(*at, self.task)
        return remain.loss, optax.tree.norm(remain.gradient), task.loss, optax.tree.norm(task.gradient)

    def before(self, method: str, seed: int) -> CLUState:
        """The state that the request finds."""
        state = self.run.server.fresh_state(method, seed)
        for step in self.plan.steps[:-1]:
            state = self.run.server.serve(method, seed, step, state).state
        return state

    def networks(self, method: str, seed: int, points: int) -> dict[int, MethodState]:
        """The network after each number of outer steps."""
        entry, state = self.plan.entries[method], self.before(method, seed)
        key = jax.random.fold_in(jax.random.key(seed), self.step.index)
        task, hyper = self.run.data.examples(self.step.request.ids), entry.hyper["unlearn"]
        hyper = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), hyper)

        def stopped(
            key: Array, state: CLUState, hyper: PyTree, task: Examples, until: Array
        ) -> tuple[MethodState, Array]:
            found, info = apply_request(entry.method, "unlearn", key, state, hyper, task, where=Execution(until=until))
            return found.method, jnp.asarray(info.displacement_norms)

        if method not in self.programs:
            self.programs[method] = jax.jit(stopped)
        program = self.programs[method]
        whole = jax.eval_shape(program, key, state, hyper, task, jnp.int32(0))[1].shape[0]
        return {k: program(key, state, hyper, task, jnp.int32(k))[0] for k in stops(whole, points)}

    def trace(self, method: str, seed: int, points: int) -> dict[str, np.ndarray]:
        """What is kept of a request: numbers and outputs of each point."""
        found: dict[str, list[Any]] = {name: [] for name in (*trajectories.NUMBERS, "unlearned", "test")}
        networks = self.networks(method, seed, points)
        last: Params | None = None
        way: Params | None = None
        for network in networks.values():
            new_way = None if last is None else optax.tree.sub(network.params, last)
            turn = np.nan if way is None or new_way is None else float(curvature.cosine(way, new_way))
            moved = np.nan if new_way is None else float(optax.tree.norm(new_way))
            values = (*map(float, self.slopes(network.params, network.model_state)), moved, turn)
            for name, value in zip(trajectories.NUMBERS, values, strict=True):
                found[name].append(value)
            predict = self.run.predictions.predict
            for name, inputs in (("unlearned", self.task.inputs), ("test", self.test_inputs)):
                found[name].append(np.asarray(predict(network.params, network.model_state, inputs)))
            last, way = network.params, new_way
        return {"steps": np.array(list(networks)), **{name: np.array(values) for name, values in found.items()}}

    def oracles(self) -> dict[str, np.ndarray]:
        """Outputs of the oracles on the same rows."""
        seeds = tuple(range(self.plan.config.oracle_seeds))
        kept = {
            seed: (one.logits.train[self.unlearned], one.logits.test[self.test])
            for seed, one in self.run.oracles.trained(self.step.situation.retained, seeds, ORACLE_KEY)
        }
        return {name: np.stack([kept[s][i] for s in seeds]) for i, name in enumerate(("unlearned", "test"))}


def work(plan: Plan, stop: Stop, options: TrajectoryOptions) -> None:
    """Follow every method and seed that is missing, and say where they went."""
    folder = plan.folder.path
    (folder / "trajectory").mkdir(exist_ok=True)
    with Clock() as clock, resumable(plan), plan.progress:
        way = Way(start(plan, clock), options)
        if not (folder / trajectories.ORACLES).is_file():
            stop.check("oracles")
            trajectories.write_arrays(folder, trajectories.ORACLES, way.oracles())
        for method in plan.config.methods:
            for seed in plan.config.seeds:
                if not (folder / trajectories.file_of(method, seed)).is_file():
                    stop.check(f"{method}, seed {seed}")
                    trajectories.write_arrays(
                        folder, trajectories.file_of(method, seed), way.trace(method, seed, options.points)
                    )
    head = ["method", "seed", "outer steps", *(name.replace("_", " ") for name in trajectories.NUMBERS)]
    rows = []
    for method in plan.config.methods:
        for seed in plan.config.seeds:
            found = trajectories.read_arrays(folder, trajectories.file_of(method, seed))
            for place, steps in enumerate(found["steps"]):
                told = [found[name][place] for name in trajectories.NUMBERS]
                texts = [number(None if np.isnan(value) else float(value)) for value in told]
                rows.append([method, str(seed), str(steps), *texts])
    # A row is whole at any width, in a pipe too.
    plan.console.print(markdown_table(head, rows, words=1), highlight=False, soft_wrap=True)


def job(options: TrajectoryOptions, config: ExperimentConfig) -> Job:
    """The measurement as a job of the stream up to its first unlearn request."""
    name = f"trajectory-{options.scenario}"
    return Job(name, config, lambda plan, stop: work(plan, stop, options), study=True)


def run(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    return main("trajectory", __doc__ or "", arguments, options=TrajectoryOptions(), job=job)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
