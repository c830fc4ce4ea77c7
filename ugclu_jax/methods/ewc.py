"""Online elastic weight consolidation: a quadratic penalty holds the weights that earlier requests used.

    L = L_L + (λ/2) Σ_w F_w (θ_w − θ*_w)²            θ*: the parameters at the end of the last learn request
    at the end of each:  F ← γ F + F_new,  θ* ← θ    F_new = mean_i (∇ℓ_i)², over examples, of the new data

F is 0 before the first request, which is therefore fine-tuning.

References: Schwarz et al., "Progress & Compress", ICML 2018, arXiv 1805.06370, section 4, after Kirkpatrick et al.,
"Overcoming catastrophic forgetting in neural networks", PNAS 2017, arXiv 1612.00796.

Differences to the papers:
- The Fisher is the empirical one, at the true labels and not at labels drawn from the network; it is estimated from
  `fisher_batches` batches drawn with replacement, in evaluation mode.
- No policy network, no head of its own for a task.
- The buffer is not read.
- F is a sum over examples and cannot be freed of one: after an unlearn request it still weighs by what was removed, and
  θ* is a network that knew it. A learn request after an unlearn request is drawn back towards that network.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax.batches import from_task
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import learning_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    refuse,
    refuse_distillation,
    update,
)
from ugclu_jax.ranges import SHARE, Interval
from ugclu_jax.saliency import fisher
from ugclu_jax.types import (
    ApplyFn,
    Array,
    Batch,
    Examples,
    Info,
    Method,
    MethodState,
    ModelState,
    Params,
    PyTree,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EWCHyper(DescentHyper):
    """Continuous settings of online EWC, traced."""

    ranges: ClassVar[Mapping[str, Interval]] = {**DescentHyper.ranges, "fisher_decay": SHARE}

    penalty_weight: Scalar = 10.0
    """λ ≥ 0, weight of the penalty; SGD is stable while η λ F < 2."""
    fisher_decay: Scalar = 0.9
    """γ in [0, 1], what is left of the Fisher of earlier requests after another one."""


@dataclass(frozen=True)
class EWCSettings(DescentSettings):
    """Static settings of online EWC.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> EWCSettings(fisher_batches=0)
    Traceback (most recent call last):
        ...
    ValueError: fisher_batches must be at least 1, got 0
    """

    fisher_batches: int = 8
    """Batches of the task that the Fisher reads at the end of a request."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fisher_batches < 1:
            raise ValueError(f"fisher_batches must be at least 1, got {self.fisher_batches}")


class Consolidation(NamedTuple):
    """What EWC keeps."""

    fisher: PyTree  # F, like params
    anchor: Params  # θ*


def gradient_evaluations(settings: EWCSettings, capacity: int) -> float:
    """Cost of a request, the Fisher included: an example of it passes forward and backward.

    >>> gradient_evaluations(EWCSettings(steps=10, fisher_batches=8), capacity=100)
    18.0
    """
    size = settings.task_batch_size
    return cost(settings, capacity, a_step=size, once=settings.fisher_batches * size)


def penalty_gradient(params: Params, kept: Consolidation, penalty_weight: Array | float) -> Params:
    """`λ F ⊙ (θ − θ*)`.

    >>> kept = Consolidation(fisher=jnp.array([0.0, 1.0]), anchor=jnp.zeros(2))
    >>> penalty_gradient(jnp.array([3.0, 3.0]), kept, 2.0).tolist()
    [0.0, 6.0]
    """
    return jax.tree.map(
        lambda p, f, a: (penalty_weight * f * (p - a)).astype(p.dtype), params, kept.fisher, kept.anchor
    )


def step(
    carry: Carry,
    model_state: ModelState,
    task_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: EWCHyper,
    *,
    kept: Consolidation,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along `g_L + λ F ⊙ (θ − θ*)` of an explicit batch; the reported loss is without the penalty.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> kept = Consolidation(jnp.ones((1, 2)), jnp.array([[-1.0, 0.0]]))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper, settings = EWCHyper(0.5, penalty_weight=2.0), EWCSettings()
    >>> step(start, {}, batch, 1.0, None, hyper, kept=kept, apply_fn=linear, settings=settings)[0].params.tolist()
    [[-0.75, -0.25]]

    References: arXiv 1805.06370, section 4.
    """
    task = learning_gradient(apply_fn, carry.params, model_state, task_batch, rng_key=rng_key, axis_name=axis_name)
    gradient = jax.tree.map(jnp.add, task.gradient, penalty_gradient(carry.params, kept, hyper.penalty_weight))
    return update(carry, gradient, hyper, settings, remaining_share), task.model_state, Report(task.loss)


def ewc(apply_fn: ApplyFn, settings: EWCSettings, *, num_classes: int, on_step: Callable | None = None) -> Method:
    """The method; it only learns, and keeps `F` and `θ*` as `extra["ewc"]`.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C, an argument of every factory; not read.
        on_step: progress function, see `fast_slow.request_loop`.

    Raises:
        ValueError: `settings.distillation`, for no step is taken on the buffer.

    >>> method = ewc(lambda *a, **k: None, EWCSettings(steps=1), num_classes=2)
    >>> method.init({"w": jnp.ones(())}, {}).extra["ewc"].fisher["w"].item()
    0.0
    """
    refuse_distillation("ewc", settings)

    def init(params: Params, model_state: ModelState) -> MethodState:
        return MethodState(params, model_state, {"ewc": Consolidation(jax.tree.map(jnp.zeros_like, params), params)})

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: EWCHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        loop_key, fisher_key = jax.random.split(rng_key)
        kept = state.extra["ewc"]

        def draw(key: Array) -> Batch:
            return from_task(key, task, (settings.task_batch_size,), axis_name=axis_name)

        bound = functools.partial(
            step, hyper=hyper, kept=kept, apply_fn=apply_fn, settings=settings, axis_name=axis_name
        )
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        end, info = descend_request(draw, bound, loop_key, state, settings, evaluations, on_step=on_step)

        shape = (settings.fisher_batches, settings.task_batch_size)
        batches = from_task(fisher_key, task, shape, axis_name=axis_name)
        new = fisher(apply_fn, end.params, end.model_state, batches, axis_name=axis_name)
        total = jax.tree.map(lambda old, f: (hyper.fisher_decay * old + f).astype(old.dtype), kept.fisher, new)
        return end._replace(extra=end.extra | {"ewc": Consolidation(total, end.params)}), info

    return Method(init, learn, refuse("ewc", "unlearn"))
