"""The request as one scan: K outer steps, or chunks of them where host memory is read or activations are not to stay.

    per step:   *draw_keys, step_key = split(key_k)
                batches = draw(*draw_keys);  carry ← outer_step(step_key, carry, batches, k and e_k = 1 − k/K)

Steps go in chunks where `draw` reads host memory, one read a chunk, and where they are to be computed twice to save
memory: a reverse-mode derivative then keeps the parameters before each chunk of ⌈√K⌉ steps, and within the chunk at
hand those before each step, instead of every activation of every step.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.coefficients import remaining_shares
from ugclu_jax.streaming import chunk_of, read_ahead
from ugclu_jax.types import Array, ModelState, OnStep, Params, PyTree

REPORTS = 20
"""How often a request calls its progress function: a call costs about 80 µs."""


class Moment(NamedTuple):
    """Where in the request a step stands."""

    k: Array | int = 0  # [] int32, steps done before it
    remaining_share: Array | float = 1.0  # [] e_k = 1 − k/K


OuterStep = Callable[[Array, Params, ModelState, PyTree, Moment], tuple[Params, ModelState, PyTree]]
"""`(rng_key, params, model_state, batches, moment) -> (params, model_state, per_step)`."""
_Carry = tuple[Params, ModelState]
_Step = Callable[[_Carry, PyTree], tuple[_Carry, PyTree]]


def request_loop(
    draw: Callable[..., PyTree],
    outer_step: OuterStep,
    params: Params,
    model_state: ModelState,
    rng_key: Array,
    outer_steps: int,
    *,
    keys: int = 2,
    rematerialise: bool = False,
    on_step: OnStep | None = None,
    until: Array | int | None = None,
) -> tuple[Params, ModelState, PyTree]:
    """The whole request as one `lax.scan` over K outer steps, or over chunks of them.

    Args:
        draw: `*rng_keys -> batches`, what an outer step reads; it depends on the keys alone. Where it takes from host
            memory (`streaming.take`), one read serves a chunk of steps.
        outer_step: see `OuterStep`.
        params, model_state: at the start of the request; `params` may be any tree that a step hands to the next.
        rng_key: split into one key an outer step, and each of these into `keys`.
        outer_steps: K ≥ 0, static.
        keys: how many keys a step has, 2 or more: the last is for `outer_step`, those before it for `draw`.
        rematerialise: whether derivatives in reverse mode compute steps again instead of keeping what they computed.
        on_step: host function called with `(steps done, K, per_step)` about `REPORTS` times, for a progress bar.
            It makes the program leave the device; without it nothing does.
        until: steps after which nothing moves any more, traced or not: the network on its way through a request of K,
            whose schedules are those of K; what later steps report is of a network that stands still. None = K.

    Returns:
        `(params, model_state, per_step)` with every leaf of `per_step` stacked along a leading axis K.

    >>> import jax, jax.numpy as jnp
    >>> halve = lambda key, params, state, batches, moment: (params / 2, state, moment.remaining_share)
    >>> params, _, shares = request_loop(lambda key: (), halve, jnp.ones(1), {}, jax.random.key(0), 3)
    >>> params.tolist()
    [0.125]

    References: arXiv 2505.15178, the outer loop; Zhang et al. 2019 (Lookahead, arXiv 1907.08610) for its fast and slow
    weights.
    """

    def draw_with(key: Array) -> PyTree:
        return draw(*jax.random.split(key, keys)[:-1])

    carry, xs = (params, model_state), _inputs(rng_key, outer_steps)
    reads = chunk_of(draw_with, rng_key) if outer_steps else None  # a request of no steps reads nothing
    # Inside of a scan nothing can be merged with its second computation, so no barrier against that is needed.
    again = functools.partial(jax.checkpoint, prevent_cse=False) if rematerialise else lambda function: function

    def step(carry: _Carry, x: PyTree, batches: PyTree) -> tuple[_Carry, PyTree]:
        key, moment = x
        new_params, new_state, per_step = outer_step(jax.random.split(key, keys)[-1], *carry, batches, moment)
        if until is not None:
            goes_on = moment.k < until
            moved = jax.tree.map(lambda new, old: jnp.where(goes_on, new, old), (new_params, new_state), carry)
            new_params, new_state = moved
        if on_step is not None:
            done = moment.k + 1
            report = functools.partial(jax.debug.callback, on_step, done, outer_steps, per_step)
            lax.cond(done % max(1, outer_steps // REPORTS) == 0, report, lambda: None)
        return (new_params, new_state), per_step

    def drawing(carry: _Carry, x: PyTree) -> tuple[_Carry, PyTree]:
        return step(carry, x, draw_with(x[0]))

    def steps(carry: _Carry, xs: PyTree) -> tuple[_Carry, PyTree]:
        if reads is None:
            return lax.scan(again(drawing), carry, xs)
        drawn = read_ahead(draw_with, xs[0])

        def from_table(carry: _Carry, numbered: PyTree) -> tuple[_Carry, PyTree]:
            i, x = numbered
            return step(carry, x, drawn(i, x[0]))

        return lax.scan(again(from_table), carry, (jnp.arange(xs[0].shape[0]), xs))

    chunk = math.isqrt(outer_steps - 1) + 1 if rematerialise and reads is None and outer_steps else reads
    carry, per_step = steps(carry, xs) if chunk is None else _in_chunks(again(steps), carry, xs, outer_steps, chunk)
    return *carry, per_step


def _inputs(rng_key: Array, outer_steps: int) -> tuple[Array, Moment]:
    """What the scan walks on: a key and a moment a step."""
    moments = Moment(jnp.arange(outer_steps), remaining_shares(outer_steps))
    return jax.random.split(rng_key, outer_steps), moments


def _in_chunks(steps: _Step, carry: _Carry, xs: PyTree, outer_steps: int, chunk: int) -> tuple[_Carry, PyTree]:
    """Chunks of at most that many steps, as even as can be: where their number divides K, the step is compiled once."""
    number_of_chunks = -(-outer_steps // chunk)
    short, longer = divmod(outer_steps, number_of_chunks)
    parts = []
    for first, number, length in ((0, longer, short + 1), (longer * (short + 1), number_of_chunks - longer, short)):
        if number:
            cut = slice(first, first + number * length)
            chunks = jax.tree.map(lambda x, c=cut, n=number: x[c].reshape(n, -1, *x.shape[1:]), xs)
            carry, part = lax.scan(steps, carry, chunks)
            parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part))
    return carry, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
