"""The gradient of a function of the state after requests, with respect to the hyperparameters of these requests."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from ugclu_jax.learner import CLUState
from ugclu_jax.programs import ONE_DEVICE
from ugclu_jax.tuning.joint import JointObjective
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


def over_problems(
    objective: Objective | JointObjective, method: Method, kinds: Sequence[RequestKind], *, mode: Mode = "reverse"
) -> Callable[[Hypers, Sequence[Problem]], HyperGradient]:
    """`(hyper, problems) -> values, gradient`: an objective of S problems and the gradient of its mean.

    Of an `Objective` the values are `[S]`, one a problem. A `JointObjective` is one value, `[1]`: all problems are
    served, its derivatives with respect to their outputs are pulled back through each request, and the sum of these is
    its gradient exactly. That costs one request a problem more.

    Args:
        objective: of one problem, or of all together.
        method: any whose requests are differentiable.
        kinds: of the requests, static.
        mode: of the hypergradient.

    Returns:
        A function that compiles what it needs once for problems of the same shapes; its values and gradient are what
        `hypergradient` has.

    >>> from ugclu_jax.learner import CLUState
    >>> from ugclu_jax.methods.do_nothing import do_nothing
    >>> norms = JointObjective(lambda state, reference: state, lambda norms, reference: jnp.sum(norms))
    >>> problems = [Problem(jnp.array(norm), jnp.zeros(0), ()) for norm in (1.0, 2.0)]
    >>> over_problems(norms, do_nothing(), [])({}, problems).value.tolist()
    [3.0]
    """
    if not isinstance(objective, JointObjective):
        alone = objective  # a name that is known to be no joint one
        program = ONE_DEVICE.program(
            lambda hyper, problem: hypergradient(alone, method, kinds, problem, hyper, mode=mode)
        )

        def each(hyper: Hypers, problems: Sequence[Problem]) -> HyperGradient:
            found = [program(floats(hyper), problem) for problem in problems]
            return HyperGradient(
                jnp.stack([one.value for one in found]),
                jax.tree.map(lambda *all_: jnp.mean(jnp.stack(all_), axis=0), *(one.gradient for one in found)),
            )

        return each

    outputs_of, value_of = objective
    outputs = ONE_DEVICE.program(
        lambda hyper, problem: outputs_of(serve(method, kinds, problem, hyper), problem.reference)
    )
    value_and_slopes = ONE_DEVICE.program(jax.value_and_grad(value_of))

    def pulled(hyper: Hypers, problem: Problem, slopes: PyTree) -> PyTree:
        def along(state: CLUState, reference: PyTree) -> Array:
            products = jax.tree.map(lambda slope, output: jnp.sum(slope * output), slopes, outputs_of(state, reference))
            return jax.tree.reduce(jnp.add, products)

        return hypergradient(along, method, kinds, problem, hyper, mode=mode).gradient

    pull = ONE_DEVICE.program(pulled)

    def together(hyper: Hypers, problems: Sequence[Problem]) -> HyperGradient:
        at = floats(hyper)
        all_ = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(outputs(at, problem) for problem in problems))
        value, slopes = value_and_slopes(all_, problems[0].reference)
        gradients = [
            pull(at, problem, jax.tree.map(lambda leaf, number=number: leaf[number], slopes))
            for number, problem in enumerate(problems)
        ]
        return HyperGradient(value[None], jax.tree.map(lambda *all_: jnp.sum(jnp.stack(all_), axis=0), *gradients))

    return together
