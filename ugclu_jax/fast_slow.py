"""The fast-slow update: a fast task step, inner steps on remaining data, a slow interpolation. Knows no loss, no data.

    fast:   θ^Q   = θ_k − β_Q · clip( m ⊙ g_Q )
    inner:  θ^R_0 = θ^Q;  θ^R_{j+1} = θ^R_j − β_R ∇L_R(θ^R_j)      j = 0 … J−1
    slow:   θ_{k+1} = θ_k − α (θ_k − θ^R_J)                        0 ≤ α ≤ 1

On a quadratic `L_R = ½(θ−θ̄)ᵀH(θ−θ̄)` the ends of the inner steps without and with the fast step differ by exactly
`β_Q (I − β_R H)^J g`: a filter that removes the task step where the remaining loss is curved and passes it where it is
flat, a regularised `H_R^{-1}` up to scale.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.coefficients import remaining_shares
from ugclu_jax.components import modulate
from ugclu_jax.streaming import chunk_of, read_ahead
from ugclu_jax.types import Array, ModelState, Params, PyTree

RemainGradientFn = Callable[[Params, ModelState, PyTree], tuple[Params, ModelState, Array]]
"""`(params, model_state, x_j) -> (gradient, new_model_state, loss)` on the j-th slice of the inner inputs."""

Rates = PyTree
"""One step size, or one a layer: a tree whose leaves stand where `params` has leaves or whole subtrees."""

REPORTS = 20
"""How often a request calls its progress function: a call costs about 80 µs."""


class FastStep(NamedTuple):
    """Result of the fast step."""

    fast_params: Params
    norm: Array  # [] global norm of m ⊙ g_Q before clipping
    clipped: Array  # [] bool


class FastSlowStep(NamedTuple):
    """Result of one outer step."""

    params: Params
    model_state: ModelState
    remain_losses: Array  # [J]
    fast_norm: Array  # []
    clipped: Array  # [] bool
    displacement_norm: Array  # [] ‖θ_{k+1} − θ_k‖


def global_norm(tree: PyTree) -> Array:
    """`√Σ x²` over all leaves, with derivative 0 (not NaN) at a tree of zeros.

    >>> import jax.numpy as jnp
    >>> float(global_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}))
    5.0
    """
    squared = sum((jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)), start=jnp.zeros(()))
    # Asked this way round, NaN stays NaN.
    return jnp.where(squared == 0, 0.0, jnp.sqrt(jnp.where(squared == 0, 1.0, squared)))


def descend(params: Params, gradient: Params, step_size: Rates) -> Params:
    """`θ − η g`, leaf by leaf, in the type of `params` whatever the type of η.

    >>> import jax.numpy as jnp
    >>> descend(jnp.ones(2), jnp.array([1.0, 2.0]), 0.5).tolist()
    [0.5, 0.0]
    >>> params = {"a": jnp.ones(1), "b": {"c": jnp.ones(1)}}
    >>> moved = descend(params, params, {"a": 0.5, "b": 0.25})
    >>> moved["a"].item(), moved["b"]["c"].item()
    (0.5, 0.75)
    """

    def step(rate: Array | float, params: Params, gradient: Params) -> Params:
        return jax.tree.map(lambda p, g: p - (rate * g).astype(p.dtype), params, gradient)

    return jax.tree.map(step, step_size, params, gradient)


def fast_step(
    params: Params,
    direction: Params,
    *,
    mask: PyTree | None = None,
    fast_learning_rate: Rates,
    clip_norm: Array | float = jnp.inf,
) -> FastStep:
    """`θ^Q = θ − β_Q · clip(m ⊙ g_Q)`, clipped to a global norm after the mask. Plain descent: nothing leaks round it.

    Args:
        params: θ.
        direction: `g_Q`, the learning or unlearning component; its sign is already that of a descent.
        mask: tree like params, or None for ones.
        fast_learning_rate: β_Q ≥ 0, see `Rates`.
        clip_norm: largest global norm, > 0; infinity switches clipping off.

    >>> import jax.numpy as jnp
    >>> step = fast_step(jnp.zeros(2), jnp.array([3.0, 4.0]), fast_learning_rate=1.0, clip_norm=2.5)
    >>> step.fast_params.tolist(), float(step.norm), bool(step.clipped)
    ([-1.5, -2.0], 5.0, True)

    References: arXiv 2505.15178, fast-slow weight adaptation.
    """
    masked = modulate(mask, direction)
    norm = global_norm(masked)
    # 1 / max(1, n/c) and not min(1, c/n): exact at c = ∞ and differentiable at n = 0.
    excess = jnp.maximum(1.0, norm / clip_norm)
    step = jax.tree.map(lambda rate: rate / excess, fast_learning_rate)
    return FastStep(descend(params, masked, step), norm, norm > clip_norm)


def inner_steps(
    fast_params: Params,
    model_state: ModelState,
    remain_gradient: RemainGradientFn,
    remain_inputs: PyTree,
    *,
    remain_learning_rate: Rates,
) -> tuple[Params, ModelState, Array]:
    """`θ^R_{j+1} = θ^R_j − β_R ∇L_R(θ^R_j)`, one `lax.scan` over the leading axis J of `remain_inputs`.

    Args:
        fast_params: `θ^R_0 = θ^Q`.
        model_state: mutable statistics, updated by every inner step.
        remain_gradient: gradient of the remaining loss on one slice of `remain_inputs`.
        remain_inputs: any tree with leading axis J (batches, or keys to draw them from); J = 0 returns `fast_params`.
        remain_learning_rate: β_R ≥ 0, see `Rates`.

    Returns:
        `(θ^R_J, model_state, losses [J])`.

    >>> import jax.numpy as jnp
    >>> quadratic = lambda params, state, x: (params, state, 0.5 * jnp.sum(params**2))
    >>> inner_steps(jnp.ones(1), {}, quadratic, jnp.zeros(3), remain_learning_rate=0.5)[0].tolist()
    [0.125]
    """

    def body(carry: tuple[Params, ModelState], x: PyTree) -> tuple[tuple[Params, ModelState], Array]:
        params, state = carry
        gradient, state, loss = remain_gradient(params, state, x)
        return (descend(params, gradient, remain_learning_rate), state), loss

    (params, model_state), losses = lax.scan(body, (fast_params, model_state), remain_inputs)
    return params, model_state, losses


def slow_step(params: Params, remain_params: Params, slow_step_size: Array | float) -> Params:
    """`θ_{k+1} = θ_k − α (θ_k − θ^R)`: linear interpolation towards the end of the inner steps.

    Args:
        params: θ_k, before the outer step.
        remain_params: θ^R, after the inner steps.
        slow_step_size: α, in [0, 1] as a rule; 0 stays, 1 takes the end of the inner steps.

    Returns:
        A tree like params.

    >>> import jax.numpy as jnp
    >>> slow_step(jnp.array([0.0]), jnp.array([2.0]), 0.5).tolist()
    [1.0]
    """
    return descend(params, jax.tree.map(jnp.subtract, params, remain_params), slow_step_size)


def fast_slow_step(
    params: Params,
    model_state: ModelState,
    direction: Params,
    remain_gradient: RemainGradientFn,
    remain_inputs: PyTree,
    *,
    mask: PyTree | None = None,
    fast_learning_rate: Rates,
    remain_learning_rate: Rates,
    slow_step_size: Array | float = 1.0,
    clip_norm: Array | float = jnp.inf,
) -> FastSlowStep:
    """One outer step: fast, inner, slow. Arguments as in the three functions it is made of.

    Degenerate settings: α = 1 and J = 0 is plain descent along `direction`; α = 0 changes no parameter; a direction of
    zeros is replay fine-tuning with step size α.

    >>> import jax.numpy as jnp
    >>> flat = lambda params, state, x: (jnp.zeros_like(params), state, jnp.zeros(()))
    >>> step = fast_slow_step(jnp.zeros(1), {}, jnp.ones(1), flat, jnp.zeros(2),
    ...                       fast_learning_rate=0.5, remain_learning_rate=0.1)
    >>> step.params.tolist()  # no curvature: the task step passes whole
    [-0.5]

    References: arXiv 2505.15178, fast-slow weight adaptation and Proposition 3.
    """
    fast = fast_step(params, direction, mask=mask, fast_learning_rate=fast_learning_rate, clip_norm=clip_norm)
    remain_params, model_state, losses = inner_steps(
        fast.fast_params, model_state, remain_gradient, remain_inputs, remain_learning_rate=remain_learning_rate
    )
    new_params = slow_step(params, remain_params, slow_step_size)
    displacement = global_norm(jax.tree.map(jnp.subtract, new_params, params))
    return FastSlowStep(new_params, model_state, losses, fast.norm, fast.clipped, displacement)


def request_loop(
    draw: Callable[[Array], PyTree],
    outer_step: Callable[[Array, Params, ModelState, PyTree, Array], tuple[Params, ModelState, PyTree]],
    params: Params,
    model_state: ModelState,
    rng_key: Array,
    outer_steps: int,
    *,
    rematerialise: bool = False,
    on_step: Callable[[Array, int, PyTree], None] | None = None,
) -> tuple[Params, ModelState, PyTree]:
    """The whole request as one `lax.scan` over K outer steps, or over chunks of them.

    Steps go in chunks where `draw` reads host memory, and where they are to be computed twice to save memory: a
    reverse-mode derivative then keeps the parameters before each chunk of ⌈√K⌉ steps, and within the chunk at hand
    those before each step, instead of every activation of every step.

    Args:
        draw: `rng_key -> batches`, what an outer step reads; it depends on the key alone. Where it takes
            from host memory (`streaming.take`), one read serves a chunk of steps.
        outer_step: `(rng_key, params, model_state, batches, remaining_share) -> (params, model_state, per_step)`, with
            the key that drew the batches (split it as `draw` does) and `remaining_share`, `e_k = 1 − k/K`.
        params, model_state: at the start of the request; `params` may be any tree that a step hands to the next.
        rng_key: split into one key an outer step.
        outer_steps: K ≥ 0, static.
        rematerialise: whether derivatives in reverse mode compute steps again instead of keeping what they computed.
        on_step: host function called with `(steps done, K, per_step)` about `REPORTS` times, for a progress bar.
            It makes the program leave the device; without it nothing does.

    Returns:
        `(params, model_state, per_step)` with every leaf of `per_step` stacked along a leading axis K.

    >>> import jax, jax.numpy as jnp
    >>> halve = lambda key, params, state, batches, share: (params / 2, state, share)
    >>> params, _, shares = request_loop(lambda key: (), halve, jnp.ones(1), {}, jax.random.key(0), 3)
    >>> params.tolist()
    [0.125]
    """

    every = max(1, outer_steps // REPORTS)

    def body(
        carry: tuple[Params, ModelState], x: tuple[Array, ...], batches: PyTree
    ) -> tuple[tuple[Params, ModelState], PyTree]:
        key, remaining_share, done = x
        new_params, new_state, per_step = outer_step(key, *carry, batches, remaining_share)
        if on_step is not None:
            report = functools.partial(jax.debug.callback, on_step, done, outer_steps, per_step)
            lax.cond(done % every == 0, report, lambda: None)
        return (new_params, new_state), per_step

    def steps(carry: tuple[Params, ModelState], xs: PyTree) -> tuple[tuple[Params, ModelState], PyTree]:
        if reads is None:
            step = lambda carry, x: body(carry, x, draw(x[0]))  # noqa: E731
        else:
            drawn, xs = read_ahead(draw, xs[0]), (jnp.arange(xs[0].shape[0]), xs)
            step = lambda carry, x: body(carry, x[1], drawn(x[0], x[1][0]))  # noqa: E731
        return lax.scan(again(step), carry, xs)

    # Inside of a scan nothing can be merged with its second computation, so no barrier against that is needed.
    again = functools.partial(jax.checkpoint, prevent_cse=False) if rematerialise else lambda function: function
    carry = (params, model_state)
    xs = (jax.random.split(rng_key, outer_steps), remaining_shares(outer_steps), 1 + jnp.arange(outer_steps))
    reads = chunk_of(draw, rng_key) if outer_steps else None  # a request of no steps reads nothing
    chunk = math.isqrt(outer_steps - 1) + 1 if rematerialise and reads is None and outer_steps else reads
    if chunk is None:
        carry, per_step = steps(carry, xs)
        return *carry, per_step
    # Chunks as even as can be: where their number divides K, the step is compiled once.
    number_of_chunks = -(-outer_steps // chunk)
    short, longer = divmod(outer_steps, number_of_chunks)
    parts = []
    for first, number, length in ((0, longer, short + 1), (longer * (short + 1), number_of_chunks - longer, short)):
        if number:
            cut = slice(first, first + number * length)
            chunks = jax.tree.map(lambda x, c=cut, n=number: x[c].reshape(n, -1, *x.shape[1:]), xs)
            carry, part = lax.scan(again(steps), carry, chunks)
            parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part))
    return *carry, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
