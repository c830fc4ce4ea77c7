"""Many values of the hyperparameters and many seeds as one program: mapped on a device, spread over devices."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax.devices import filled, select, spread
from ugclu_jax.tuning.objectives import Objective
from ugclu_jax.tuning.points import Point, at
from ugclu_jax.tuning.problem import Hypers, Problem, floats, serve
from ugclu_jax.types import Array, Method, PyTree, RequestKind


class Sweep(NamedTuple):
    """What every point led to."""

    points: list[Point]
    values: np.ndarray  # [P, S] of the objective, by point and seed

    def rows(self) -> list[dict[str, float]]:
        """A row a point, the lowest mean first: its values, and mean and standard deviation over seeds.

        >>> Sweep([{"a": 1.0}, {"a": 2.0}], np.array([[3.0, 5.0], [1.0, np.nan]])).rows()
        [{'a': 1.0, 'mean': 4.0, 'std': 1.4142135623730951}, {'a': 2.0, 'mean': inf, 'std': nan}]
        """
        rows = []
        for point, values in zip(self.points, self.values, strict=True):
            finite = bool(np.isfinite(values).all())  # a run that diverged makes its point the worst
            std = float(values.std(ddof=1)) if finite and len(values) > 1 else float("nan")
            rows.append({**point, "mean": float(values.mean()) if finite else float("inf"), "std": std})
        return sorted(rows, key=lambda row: row["mean"])

    def best(self) -> Point:
        """The point of the lowest mean.

        >>> Sweep([{"a": 1.0}, {"a": 2.0}], np.array([[3.0], [1.0]])).best()
        {'a': 2.0}
        """
        row = self.rows()[0]
        return {name: row[name] for name in self.points[0]}

    def table(self) -> str:
        """The rows as a GitHub-markdown table.

        >>> print(Sweep([{"a": 1.0}], np.array([[3.0]])).table())
        | a | mean | std |
        | ---: | ---: | ---: |
        | 1 | 3 | – |
        """
        rows = self.rows()
        lines = [list(rows[0]), ["---:"] * len(rows[0])]
        lines += [["–" if np.isnan(x) else f"{x:.4g}" for x in row.values()] for row in rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sweep(
    objective: Objective,
    method: Method,
    kinds: Sequence[RequestKind],
    problems: Sequence[Problem],
    hyper: Hypers,
    points: Sequence[Mapping[str, float]],
    *,
    number_of_devices: int = 1,
    at_once: int | None = None,
) -> Sweep:
    """Serve S problems at P points: all P·S runs are one compiled program, which the next call of as many finds again.

    Args:
        objective: `(state, reference) -> []`; the same one, with the same method, makes the same program.
        method: any.
        kinds: of the requests, static.
        problems: one a seed; tasks and reference are those of the first.
        hyper: hyperparameters by kind, which a point changes in part.
        points: values by name `KIND.FIELD`, see `grid`, `random` and `sobol`; all have the same names.
        number_of_devices: over which the runs are spread.
        at_once: runs under one `vmap` on a device, the others one after another: memory grows with it. None = all. A
            CPU has no idle lanes: there 1 on as many devices as cores is fastest.

    Returns:
        The points and the objective of every run.

    Raises:
        ValueError: no point, points of different names, an unknown name, problems that do not share their task, or
            `at_once` below 1.

    >>> from ugclu_jax.learner import CLUState
    >>> from ugclu_jax.types import Examples, MethodState
    >>> from ugclu_jax import buffer
    >>> from ugclu_jax.tuning import grid
    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> from ugclu_jax.ugclu_settings import UGCLUHyper
    >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, -1]), jnp.array(1))
    >>> state = CLUState(MethodState(jnp.ones(2), {}), buffer.init(2, (2,), jnp.float32, jax.random.key(0)))
    >>> problem = Problem(state, jax.random.split(jax.random.key(1), 1), (task,))
    >>> norm = lambda state, reference: jnp.sum(state.method.params)
    >>> points = grid({"unlearn.clip_norm": [1.0]})
    >>> found = sweep(norm, do_nothing(), ["unlearn"], [problem], {"unlearn": UGCLUHyper()}, points)
    >>> found.values.tolist()
    [[2.0]]
    """
    if not points:
        raise ValueError("points is empty: a sweep needs at least one")
    if any(set(point) != set(points[0]) for point in points):
        raise ValueError("the points of a sweep must have the same names")
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1, got {at_once}")
    shared = (problems[0].tasks, problems[0].reference)
    for problem in problems[1:]:
        if not _same(shared, (problem.tasks, problem.reference)):
            raise ValueError(
                "the problems of a sweep must share tasks and reference, array for array: sweep them apart"
            )
    each = len(problems)
    hypers = stacked([floats(at(hyper, point)) for point in points for _ in problems])
    seeds = jnp.tile(jnp.arange(each), len(points))
    states, rng_keys = stacked([(problem.state, problem.rng_keys) for problem in problems])
    program = _program(objective, method, tuple(kinds), number_of_devices, at_once)
    found = program(*filled((hypers, seeds), select(number_of_devices)), states, rng_keys, *shared)
    values = np.asarray(found)[: len(seeds)]
    return Sweep([dict(point) for point in points], values.reshape(len(points), each))


@functools.lru_cache(maxsize=8)
def _program(
    objective: Objective, method: Method, kinds: tuple[RequestKind, ...], number_of_devices: int, at_once: int | None
) -> Callable[..., Array]:
    """Kept for the last few, as `jax.jit` keeps what it compiled: whoever sweeps in rounds compiles once."""

    def run(hyper: Hypers, seed: Array, states: PyTree, rng_keys: Array, tasks: PyTree, reference: PyTree) -> Array:
        # States are picked here, so that as many lie in memory as run at once.
        state = jax.tree.map(lambda leaf: leaf[seed], states)
        problem = Problem(state, rng_keys[seed], tasks, reference)
        return objective(serve(method, kinds, problem, hyper), reference)

    return spread(select(number_of_devices), mapped=2, at_once=at_once).program(run)


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, every leaf with a leading axis.

    >>> stacked([{"a": jnp.array(1)}, {"a": jnp.array(2)}])["a"].tolist()
    [1, 2]
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _same(first: PyTree, second: PyTree) -> bool:
    leaves, others = jax.tree.leaves(first), jax.tree.leaves(second)
    return len(leaves) == len(others) and all(a is b for a, b in zip(leaves, others, strict=True))
