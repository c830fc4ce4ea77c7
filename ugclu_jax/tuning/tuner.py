"""Gradient descent on the logarithms of hyperparameters, through whole requests, over several problems."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ugclu_jax.ranges import range_of
from ugclu_jax.tuning.hypergradients import Mode, over_problems
from ugclu_jax.tuning.joint import JointObjective
from ugclu_jax.tuning.objectives import Objective
from ugclu_jax.tuning.points import Point, at, kind_and_field, value_at
from ugclu_jax.tuning.problem import Hypers, Problem
from ugclu_jax.types import Array, Method, PyTree, RequestKind


class TuningStep(NamedTuple):
    """One evaluation of objective and hypergradient."""

    point: Point  # where
    values: np.ndarray  # [S] of the objective, one a problem; [1] of a joint one
    slope: Point  # derivative of their mean in the logarithm of each hyperparameter


class Tuned(NamedTuple):
    """What tuning found."""

    hyper: Hypers  # of the step of the lowest mean
    point: Point  # the same by name
    steps: list[TuningStep]  # in order; one that is not finite is the last


def tune(
    objective: Objective | JointObjective,
    method: Method,
    kinds: Sequence[RequestKind],
    problems: Sequence[Problem],
    hyper: Hypers,
    names: Sequence[str],
    *,
    steps: int,
    optimizer: optax.GradientTransformation | None = None,
    mode: Mode = "reverse",
    on_step: Callable[[TuningStep], None] | None = None,
) -> Tuned:
    """Lower the mean objective of S problems: `log h ← optimizer(d mean_s objective_s / d log h)`.

    Logarithms, because rates differ by decades and must stay positive; what has a highest value is kept at or below it.
    The objective is evaluated before every update, so `steps` evaluations make `steps − 1` updates.

    Args:
        objective: `(state, reference) -> []`, to be lowered; or a joint one of all problems, such as `matched_energy`.
        method: any whose requests are differentiable.
        kinds: of the requests, static.
        problems: seeds and requests; those of equal shapes share one compiled program.
        hyper: where to start.
        names: of the hyperparameters to tune, `KIND.FIELD`; each a single positive, finite number at the start.
        steps: evaluations, at least 1.
        optimizer: of optax; None = `optax.adam(0.1)`, which moves a hyperparameter by about a tenth of itself at first.
        mode: of the hypergradient.
        on_step: called after each evaluation.

    Returns:
        The best hyperparameters seen, and every step. Where the objective or its gradient is not finite tuning ends,
        and that step is the last.

    Raises:
        ValueError: no problem, no name, fewer than one step, or a hyperparameter that has no logarithm.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax import UGCLUHyper, ug_clu, UGCLUSettings, Examples, buffer
    >>> from ugclu_jax.learner import CLUState
    >>> from ugclu_jax.tuning import expected_accuracy
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> method = ug_clu(linear, UGCLUSettings(), UGCLUSettings(outer_steps=4, fast_step="rate"), num_classes=2)
    >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, -1]), jnp.array(1))
    >>> state = CLUState(method.init(jnp.zeros((2, 2)), {}), buffer.init(2, (2,), jnp.float32, jax.random.key(0)))
    >>> problem = Problem(state, jax.random.split(jax.random.key(1), 1), (task,), (jnp.eye(2)[:1], jnp.array([0])))
    >>> tuned = tune(expected_accuracy(linear), method, ["unlearn"], [problem], {"unlearn": UGCLUHyper()},
    ...              ["unlearn.fast_learning_rate"], steps=3)
    >>> tuned.point["unlearn.fast_learning_rate"] > UGCLUHyper().fast_learning_rate  # forgets more
    True

    References: Franceschi et al., arXiv 1703.01785.
    """
    if not problems or not names or steps < 1:
        raise ValueError(
            f"tuning needs at least one problem, name and step, got {len(problems)}, {len(names)} and {steps}"
        )
    start = {name: value_at(hyper, name) for name in names}
    for name, value in start.items():
        if len(jax.tree.leaves(value)) != 1 or not 0 < float(value) < math.inf:
            raise ValueError(f"{name} must be a single positive, finite number to have a logarithm, got {value}")
    optimizer = optax.adam(0.1) if optimizer is None else optimizer
    ceiling = {name: math.log(_highest(hyper, name)) for name in names}

    evaluate = over_problems(objective, method, kinds, mode=mode)
    log_point = {name: jnp.log(jnp.asarray(value, jnp.result_type(float))) for name, value in start.items()}
    optimizer_state = optimizer.init(log_point)
    done: list[TuningStep] = []
    for number in range(steps):
        point = {name: jnp.exp(value) for name, value in log_point.items()}
        found = evaluate(at(hyper, point), problems)
        # A hyperparameter h has d/d log h = h d/dh, whichever mode computes d/dh.
        slope = {name: value * value_at(found.gradient, name) for name, value in point.items()}
        values = np.asarray(found.value, float)
        done.append(TuningStep(_floats(point), values, _floats(slope)))
        if on_step is not None:
            on_step(done[-1])
        finite = np.isfinite(values).all() and all(map(math.isfinite, done[-1].slope.values()))
        if not finite or number == steps - 1:
            break
        updates, optimizer_state = optimizer.update(slope, optimizer_state, log_point)
        moved: PyTree = optax.apply_updates(log_point, updates)
        log_point = {name: jnp.minimum(value, ceiling[name]) for name, value in moved.items()}
    means = [step.values.mean() if np.isfinite(step.values).all() else math.inf for step in done]
    best = done[int(np.argmin(means))].point
    return Tuned(at(hyper, best), best, done)


def _highest(hyper: Hypers, name: str) -> float:
    kind, field = kind_and_field(hyper, name)
    return range_of(type(hyper[kind]), field).highest


def _floats(numbers: dict[str, Array]) -> Point:
    return {name: float(value) for name, value in numbers.items()}
