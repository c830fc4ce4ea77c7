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

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import optax

from ugclu_jax.at import At
from ugclu_jax.batches import from_task
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.ranges import SHARE
from ugclu_jax.saliency import fisher
from ugclu_jax.stepping import StepHyper, TaskSettings, check_reads, check_settings
from ugclu_jax.types import ApplyFn, Array, Batch, Examples, Memory, Method, ModelState, Params, PyTree, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EWCHyper(StepHyper):
    """Continuous settings of online EWC, traced."""

    penalty_weight: Scalar = 10.0
    """λ ≥ 0, weight of the penalty; SGD is stable while η λ F < 2."""
    fisher_decay: Annotated[Scalar, SHARE] = 0.9
    """γ in [0, 1], what is left of the Fisher of earlier requests after another one."""


@dataclass(frozen=True, kw_only=True)
class EWCSettings(TaskSettings):
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
        check_settings(self, {"fisher_batches": 1}, {})


class Consolidation(NamedTuple):
    """What EWC keeps, as `extra["ewc"]`."""

    fisher: PyTree  # F, like params
    anchor: Params  # θ*


def penalty_gradient(params: Params, kept: Consolidation, penalty_weight: Array | float) -> Params:
    """`λ F ⊙ (θ − θ*)`.

    >>> import jax.numpy as jnp
    >>> kept = Consolidation(fisher=jnp.array([0.0, 1.0]), anchor=jnp.zeros(2))
    >>> penalty_gradient(jnp.array([3.0, 3.0]), kept, 2.0).tolist()
    [0.0, 6.0]
    """
    return jax.tree.map(
        lambda p, f, a: (penalty_weight * f * (p - a)).astype(p.dtype), params, kept.fisher, kept.anchor
    )


def direction(at: At, batches: Batches[Batch, None], hyper: EWCHyper) -> Direction:
    """`g_L + λ F ⊙ (θ − θ*)` of a batch of new data; the reported loss is without the penalty.

    References: arXiv 1805.06370, section 4.
    """
    task = at.gradient(batches.task)
    gradient = optax.tree.add(task.gradient, penalty_gradient(at.params, at.memory, hyper.penalty_weight))
    return Direction(gradient, task.model_state, Report(task.loss))


def _nothing_held(params: Params, model_state: ModelState) -> Consolidation:
    return Consolidation(optax.tree.zeros_like(params), params)


def ewc(apply_fn: ApplyFn, settings: EWCSettings = EWCSettings()) -> Method:
    """The method; it only learns.

    >>> import jax.numpy as jnp
    >>> ewc(lambda *a, **k: None).init({"w": jnp.ones(())}, {}).extra["ewc"].fisher["w"].item()
    0.0
    """
    check_reads("ewc", settings, EWCSettings)
    size, batches = settings.task_batch_size, settings.fisher_batches

    def consolidate(at: At, task: Examples, hyper: EWCHyper, rng_key: Array) -> Consolidation:
        drawn = from_task(rng_key, task, (batches, size), axis_name=at.axis_name)
        new = fisher(apply_fn, at.params, at.model_state, drawn, axis_name=at.axis_name)
        kept: Consolidation = at.memory
        total = jax.tree.map(lambda old, f: (hyper.fisher_decay * old + f).astype(old.dtype), kept.fisher, new)
        return Consolidation(total, at.params)

    return descent(
        "ewc",
        apply_fn,
        settings,
        learn=direction,
        hyper=EWCHyper(),
        reads="task",
        finish=consolidate,
        memory=Memory("ewc", _nothing_held),
        once=batches * size,
    )
