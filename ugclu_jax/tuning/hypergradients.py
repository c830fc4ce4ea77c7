"""The gradient of a function of the state after requests, with respect to the hyperparameters of these requests."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax

from ugclu_jax.tuning.objectives import Objective
from ugclu_jax.tuning.problem import Hypers, Problem, floats, serve
from ugclu_jax.types import Array, Method, PyTree, RequestKind

Mode = Literal["reverse", "forward"]


class HyperGradient(NamedTuple):
    """A value and its gradient."""

    value: Array  # []
    gradient: PyTree  # like the hyperparameters


def hypergradient(
    objective: Objective,
    method: Method,
    kinds: Sequence[RequestKind],
    problem: Problem,
    hyper: Hypers,
    *,
    mode: Mode = "reverse",
) -> HyperGradient:
    """`d objective(serve(hyper)) / d hyper`, through every step of every request, the coefficients and masks included.

    Reverse mode costs a few requests however many hyperparameters there are, and keeps what the steps computed: give
    the method settings with `rematerialise=True`, and it keeps the parameters before each chunk of √K steps only.
    Forward mode carries one tangent of the parameters a hyperparameter: for a handful of scalars it needs the least
    memory. The hard mask has derivative 0 in γ; the soft and the straight-through mask have another. Pure: jit it, vmap
    it.

    Args:
        objective: `(state, reference) -> []`, see `kl_to_oracle` and `expected_accuracy`.
        method: any whose requests are differentiable.
        kinds: "learn" or "unlearn", one a request of the problem; static.
        problem: the requests, the state before them, and the objective's reference.
        hyper: hyperparameters by kind; a step size may be a tree, one a layer (`trees.Rates`).
        mode: "reverse" or "forward".

    Returns:
        Value and gradient, the latter like `hyper`. A hyperparameter of infinity (no clipping) has derivative 0.

    Raises:
        ValueError: an unknown mode, or a problem that does not fit the kinds.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax import UGCLUHyper, ug_clu, UGCLUSettings, Examples, buffer
    >>> from ugclu_jax.learner import CLUState
    >>> from ugclu_jax.tuning import expected_accuracy
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> settings = UGCLUSettings(outer_steps=4, fast_step="rate", mask="soft", rematerialise=True)
    >>> method = ug_clu(linear, settings, settings, num_classes=2)
    >>> task = Examples(jnp.eye(2), jnp.array([0, 1]), jnp.array([0, -1]), jnp.array(1))
    >>> state = CLUState(method.init(jnp.zeros((2, 2)), {}), buffer.init(2, (2,), jnp.float32, jax.random.key(0)))
    >>> problem = Problem(state, jax.random.split(jax.random.key(1), 1), (task,), (jnp.eye(2)[:1], jnp.array([0])))
    >>> hyper = {"unlearn": UGCLUHyper()}
    >>> value, gradient = hypergradient(expected_accuracy(linear), method, ["unlearn"], problem, hyper)
    >>> bool(gradient["unlearn"].fast_learning_rate < 0)  # a larger fast step forgets more
    True

    References: Franceschi et al., Forward and Reverse Gradient-Based Hyperparameter Optimization, arXiv 1703.01785.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")

    def value_of(hyper: Hypers) -> Array:
        return objective(serve(method, kinds, problem, hyper), problem.reference)

    if mode == "reverse":
        return HyperGradient(*jax.value_and_grad(value_of)(floats(hyper)))

    def twice(hyper: Hypers) -> tuple[Array, Array]:
        value = value_of(hyper)
        return value, value

    gradient, value = jax.jacfwd(twice, has_aux=True)(floats(hyper))
    return HyperGradient(value, gradient)
