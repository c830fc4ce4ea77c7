"""Requests as a function of their hyperparameters: what is differentiated, swept and tuned."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.types import Array, Examples, Method, PyTree, RequestKind

Hypers = Mapping[RequestKind, PyTree]
"""The hyperparameters of each kind of request, e.g. `{"learn": UGCLUHyper(), "unlearn": UGCLUHyper()}`."""


class Problem(NamedTuple):
    """T requests to serve from a state on, and what their end is measured against; arrays alone."""

    state: CLUState  # before the first request
    rng_keys: Array  # [T] one a request
    tasks: tuple[Examples, ...]  # T of them
    reference: PyTree = ()  # what the objective reads besides the state


def serve(method: Method, kinds: Sequence[RequestKind], problem: Problem, hyper: Hypers) -> CLUState:
    """The state after the requests of a problem: pure, and differentiable in every float of `hyper`.

    Args:
        method: any.
        kinds: T of them, static.
        problem: the requests.
        hyper: hyperparameters by kind.

    Raises:
        ValueError: kinds, keys and tasks are not equally many, or a kind has no hyperparameters.

    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> problem = Problem(CLUState((), ()), jnp.zeros(0), ())
    >>> serve(do_nothing(), ("learn",), problem, {"learn": ()})
    Traceback (most recent call last):
        ...
    ValueError: a problem of 0 tasks and 0 keys needs as many kinds, got 1: learn

    References: arXiv 2505.15178, the continual learning-unlearning stream.
    """
    if not len(kinds) == len(problem.tasks) == len(problem.rng_keys):
        raise ValueError(
            f"a problem of {len(problem.tasks)} tasks and {len(problem.rng_keys)} keys needs as many kinds, "
            f"got {len(kinds)}: {', '.join(kinds)}"
        )
    for kind in kinds:
        if kind not in hyper:
            raise ValueError(f"hyper has no entry for {kind!r} requests, only for: {', '.join(hyper)}")
    state = problem.state
    for index, (kind, task) in enumerate(zip(kinds, problem.tasks, strict=True)):
        state, _ = apply_request(method, kind, problem.rng_keys[index], state, hyper[kind], task)
    return state


def floats(hyper: Hypers) -> Hypers:
    """Python numbers as arrays of the default float type: one program for all values, and something to differentiate.

    >>> floats({"learn": {"rate": 1}})["learn"]["rate"].dtype.kind
    'f'
    """
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), dict(hyper))
