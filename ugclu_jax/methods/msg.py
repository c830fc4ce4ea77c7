"""Masked small gradients: the weights that care least for the difference of what stays and goes start anew.

    s = |mean_R ∇ℓ − mean_U ∇ℓ| at θ_0                    descent on what remains, ascent on what is to go
    of each kernel the share ρ of smallest s ← fresh values        m = 1 there, ν on its other weights, 1 elsewhere
    θ_{k+1} = θ_k − η_k (m ⊙ ∇L_R(θ_k) + w θ_k)           (with momentum: see `ugclu_jax.optimizer`)

A submission to the unlearning challenge of NeurIPS 2023, "MSG" in Cadet et al. 2024 (Deep Unlearn, arXiv 2410.01276),
one of the two that come out best of its 18 methods. ρ = 0 with ν = 1 is `finetune_remain`.

Kernels are those of convolutions, as in the published code; in a model without any, every leaf of two or more axes
(ours: there it would only fine-tune). See `ugclu_jax.kernels`.

Differences: `saliency_batches` drawn batches of the task, and as many of the buffer, stand for all of what is to go and
as many remaining examples; their gradients are taken in evaluation mode. Fresh values are those of the model's own
initialisation, pretrained ones where it begins with such; the published code draws normal values of variance 2/fan-out.
Remaining data are drawn from the bounded buffer with replacement. The rate falls by the schedule of every method here,
where the published code first lets it rise over half of its epochs. Weight decay acts on every weight, as there. With
`distillation` the network before its weights are reset is the teacher.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.descent import Prepared, descent, follow_remaining
from ugclu_jax.kernels import kernels
from ugclu_jax.ranges import SHARE
from ugclu_jax.saliency import mean_gradient, top_share_mask
from ugclu_jax.stepping import BufferSettings, DescentHyper, check_reads, check_settings
from ugclu_jax.types import ApplyFn, Array, Buffer, Examples, InitFn, Method, Params, PyTree, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MSGHyper(DescentHyper):
    """Continuous settings of masked small gradients, traced; ρ and ν default to those of the published code."""

    reset_share: Annotated[Scalar, SHARE] = 0.3
    """ρ in [0, 1], share of each kernel's weights that start anew."""
    kept_gradient_share: Annotated[Scalar, SHARE] = 0.1
    """ν in [0, 1], what the other weights of a kernel get of their gradient."""


@dataclass(frozen=True, kw_only=True)
class MSGSettings(BufferSettings):
    """Static settings of masked small gradients.

    Raises:
        ValueError: a size below its bound.

    >>> MSGSettings(saliency_batches=0)
    Traceback (most recent call last):
        ...
    ValueError: saliency_batches must be at least 1, got 0
    """

    saliency_batches: int = 8
    """Batches of the task, and as many of the buffer, that tell small gradients; each of `remain_batch_size`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"saliency_batches": 1}, {})


class Reset(NamedTuple):
    """Where a request begins."""

    params: Params
    mask: PyTree  # like params: m


def small_gradients(rng_key: Array, at: At, task: Examples, buffer: Buffer, settings: MSGSettings) -> Params:
    """`s` of every weight, from batches drawn from task and buffer at θ_0; a tree like params."""
    task_key, remain_key = jax.random.split(rng_key)
    shape, axis_name = (settings.saliency_batches, settings.remain_batch_size), at.axis_name
    drawn = (
        from_buffer(remain_key, buffer, shape, axis_name=axis_name),
        from_task(task_key, task, shape, axis_name=axis_name),
    )
    remain, away = (mean_gradient(*at[:3], batches, axis_name=axis_name) for batches in drawn)
    return jax.tree.map(jnp.abs, optax.tree.sub(remain, away))


def reset(params: Params, fresh: Params, statistic: PyTree, hyper: MSGHyper) -> Reset:
    """The share ρ of each kernel of smallest statistic from the fresh parameters, and the mask of the steps.

    >>> old, new, s = {"k": jnp.ones((1, 4))}, {"k": jnp.zeros((1, 4))}, {"k": jnp.array([[3.0, 1.0, 2.0, 4.0]])}
    >>> found = reset(old, new, s, MSGHyper(reset_share=0.5, kept_gradient_share=0.25))
    >>> found.params["k"].tolist(), found.mask["k"].tolist()
    ([[1.0, 0.0, 0.0, 1.0]], [[0.25, 1.0, 1.0, 0.25]])
    """

    chosen, keep_share = kernels(params), 1.0 - hyper.reset_share
    kept = jax.tree.map(
        lambda is_kernel, s: top_share_mask(s, keep_share) if is_kernel else jnp.ones_like(s), chosen, statistic
    )
    mask = jax.tree.map(
        lambda is_kernel, k: 1.0 - (1.0 - hyper.kept_gradient_share) * k if is_kernel else k, chosen, kept
    )
    start = jax.tree.map(lambda k, p, new: jnp.where(k > 0, p, new).astype(p.dtype), kept, params, fresh)
    return Reset(start, jax.tree.map(lambda m, s: m.astype(s.dtype), mask, statistic))


def msg(apply_fn: ApplyFn, settings: MSGSettings = MSGSettings(), *, init_fn: InitFn) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        init_fn: `rng_key -> (params, model_state)`, a fresh network.

    >>> msg(lambda *a, **k: None, MSGSettings(steps=10), init_fn=lambda rng_key: ({}, {})).cost("unlearn", 100, 64)
    26.0
    """
    check_reads("msg", settings, MSGSettings)

    def prepare(at: At, hyper: MSGHyper, task: Examples, buffer: Buffer, init_key: Array, draw_key: Array) -> Prepared:
        statistic = small_gradients(draw_key, at, task, buffer, settings)
        params, mask = reset(at.params, init_fn(init_key)[0], statistic, hyper)
        return Prepared(task, mask=mask, params=params)

    return descent(
        "msg",
        apply_fn,
        settings,
        unlearn=follow_remaining,
        hyper=MSGHyper(),
        reads="buffer",
        prepare=prepare,
        prepare_keys=2,
        once=2 * settings.saliency_batches * settings.remain_batch_size,
    )
