"""Convolution transpose: every kernel of a convolution is turned over its diagonal, then fine-tuning repairs it.

    θ_0[h, w, i, o] ← θ_0[w, h, i, o]                 of every kernel of a convolution, once a request
    θ_{k+1} = θ_k − η_k (∇L_R(θ_k) + w θ_k)           (with momentum: see `ugclu_jax.optimizer`)

A submission to the unlearning challenge of NeurIPS 2023, "CT" in Cadet et al. 2024 (Deep Unlearn, arXiv 2410.01276),
one of the two that come out best of its 18 methods. It forgets by damage: features are those of mirrored pictures,
and only what remains teaches the network to use them. What is to be removed is not read.

Differences: remaining data are drawn from the bounded buffer with replacement, where the published code goes through
all of them; the rate falls by the schedule of every method here (there: by a cosine over epochs). Statistics of
BatchNorm are kept, as there, until the steps move them. A kernel of 1×1 and a symmetric one stay as they are. A second
request to unlearn turns the kernels once more, so that what was turned first lies as it lay before.

A model without a convolution is refused, where the published code would silently fine-tune: that is `finetune_remain`.
So is one with a kernel of unequal sides, whose transpose is of another shape. With `distillation` the network before it
is turned is the teacher.
"""

import jax
import jax.numpy as jnp

from ugclu_jax.at import At
from ugclu_jax.descent import Prepared, descent, follow_remaining
from ugclu_jax.kernels import convolutions
from ugclu_jax.stepping import BufferSettings, DescentHyper
from ugclu_jax.types import ApplyFn, Buffer, Examples, Method, ModelState, Params, Rows


def transposed(params: Params) -> Params:
    """Parameters with every kernel of a convolution turned: its two spatial axes change places.

    >>> transposed({"conv": jnp.arange(4.0).reshape(2, 2, 1, 1), "bias": jnp.ones(1)})["conv"].ravel().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """
    return jax.tree.map(lambda is_one, p: jnp.swapaxes(p, 0, 1) if is_one else p, convolutions(params), params)


def check(params: Params, model_state: ModelState, inputs: Rows) -> None:
    """Refuse a model without a convolution, or with one whose kernel cannot be turned.

    Raises:
        ValueError: naming the kernel.

    >>> check({"kernel": jnp.zeros((4, 3))}, {}, jnp.zeros((1, 4)))
    Traceback (most recent call last):
        ...
    ValueError: ct turns the kernels of convolutions, and the model has no leaf [height, width, in, out]: take msg...
    """
    found = [(path, leaf) for path, leaf in jax.tree.leaves_with_path(params) if convolutions(leaf)]
    if not found:
        raise ValueError(
            "ct turns the kernels of convolutions, and the model has no leaf [height, width, in, out]: take msg, which "
            "resets weights of any kernel, or finetune_remain"
        )
    for path, leaf in found:
        if leaf.shape[0] != leaf.shape[1]:
            raise ValueError(
                f"ct turns the kernels of convolutions, which must be as high as wide, and "
                f"{jax.tree_util.keystr(path)} has shape {list(leaf.shape)}: take msg or finetune_remain"
            )


def _turn(at: At, hyper: DescentHyper, task: Examples, buffer: Buffer) -> Prepared:
    return Prepared(task, params=transposed(at.params))


def ct(apply_fn: ApplyFn, settings: BufferSettings = BufferSettings()) -> Method:
    """The method; it does not learn.

    >>> ct(lambda *a, **k: None).kinds
    ('unlearn',)
    """
    return descent("ct", apply_fn, settings, unlearn=follow_remaining, reads="buffer", prepare=_turn, check=check)
