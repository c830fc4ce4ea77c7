"""SalUn: random labels for the task, under a mask of the weights that its gradient speaks of.

    m = 1 for the share κ of all weights with the largest |∇ mean_i ℓ_i(θ_0)| over the task, 0 for the others
    g = ∇ mean_i CE(p(x_i; θ_k), y'_i) + α ∇L_R(θ_k),    y'_i uniform among the classes other than y_i
    θ_{k+1} = θ_k − η_k m ⊙ (g + w θ_k)                  (with momentum: see `ugclu_jax.optimizer`)

Fan et al. 2024 (SalUn, arXiv 2310.12508, ICLR). There `θ = m ⊙ (θ_0 + Δθ) + (1 − m) ⊙ θ_0`: a masked-out weight does
not move, which is `mask_applies_to` "update". Code that was long in use multiplied the gradient alone, so that momentum
and weight decay still moved such weights: "gradient". κ = 1 is `random_label`.

Differences: the mask reads `saliency_batches` batches drawn from the task, in evaluation mode, where the paper reads
all of it. A wrong label is drawn once a request for each id and stays: never the true one, any other of the C classes
of the head. Remaining data are drawn from the bounded buffer, both batches with replacement, one of each in a step.
Both forward passes are in training mode, but only the remaining batch's statistics are kept. The task loss reported is
that to the wrong labels.
"""

from dataclasses import dataclass
from typing import Annotated

import jax
import optax

from ugclu_jax.at import At
from ugclu_jax.batches import from_task, with_random_labels
from ugclu_jax.descent import Batches, Direction, Prepared, Report, descent
from ugclu_jax.optimizer import MaskScope
from ugclu_jax.ranges import SHARE
from ugclu_jax.saliency import gradient_statistic, top_share_mask
from ugclu_jax.stepping import DescentHyper, DescentSettings, check_reads, check_settings
from ugclu_jax.types import ApplyFn, Array, Batch, Buffer, Examples, Method, PyTree, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SalUnHyper(DescentHyper):
    """Continuous settings of SalUn, traced."""

    remain_weight: Scalar = 3.0
    """α ≥ 0, weight of the descent on remaining data; the task under wrong labels has 1."""
    keep_share: Annotated[Scalar, SHARE] = 0.5
    """κ in [0, 1], share of the weights that the mask leaves free."""


@dataclass(frozen=True, kw_only=True)
class SalUnSettings(DescentSettings):
    """Static settings of SalUn.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> SalUnSettings(mask_applies_to="weights")
    Traceback (most recent call last):
        ...
    ValueError: mask_applies_to must be one of gradient, update, got 'weights'
    """

    saliency_batches: int = 8
    """Batches of the task that the mask reads."""
    mask_applies_to: MaskScope = "update"
    """Whether masked-out weights stay ("update"), or still move by momentum and weight decay ("gradient")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"saliency_batches": 1}, {"mask_applies_to": MaskScope})


def saliency_mask(rng_key: Array, at: At, hyper: SalUnHyper, task: Examples, settings: SalUnSettings) -> PyTree:
    """The mask of a request, from batches drawn from the task at θ_0; a tree like params of 0 and 1."""
    shape = (settings.saliency_batches, settings.task_batch_size)
    batches = from_task(rng_key, task, shape, axis_name=at.axis_name)
    statistic = gradient_statistic(at.apply_fn, at.params, at.model_state, batches, axis_name=at.axis_name)
    return top_share_mask(statistic, hyper.keep_share)


def direction(at: At, batches: Batches[Batch, Batch], hyper: SalUnHyper) -> Direction:
    """`g_U' + α g_R` of a batch of each, before the mask; the labels of the task batch are the wrong ones already."""
    task, remain = (here.gradient(batch) for here, batch in zip(at.split(2), batches, strict=True))
    gradient = optax.tree.add_scale(task.gradient, hyper.remain_weight, remain.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def salun(apply_fn: ApplyFn, settings: SalUnSettings = SalUnSettings(), *, num_classes: int) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C ≥ 2, of the head.

    >>> salun(lambda *a, **k: None, num_classes=2).kinds
    ('unlearn',)
    """
    check_reads("salun", settings, SalUnSettings)

    def prepare(
        at: At, hyper: SalUnHyper, task: Examples, buffer: Buffer, mask_key: Array, label_key: Array
    ) -> Prepared:
        mask = saliency_mask(mask_key, at, hyper, task, settings)
        return Prepared(with_random_labels(label_key, task, num_classes), mask=mask)

    return descent(
        "salun",
        apply_fn,
        settings,
        unlearn=direction,
        hyper=SalUnHyper(),
        prepare=prepare,
        prepare_keys=2,
        once=settings.saliency_batches * settings.task_batch_size,
        mask_applies_to=settings.mask_applies_to,
        num_classes=num_classes,
    )
