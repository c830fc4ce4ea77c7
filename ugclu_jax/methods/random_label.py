"""Random labels: descent on the task under wrong labels, and on remaining data under their own.

    g = ∇ mean_i CE(p(x_i; θ_k), y'_i) + α ∇L_R(θ_k),    y'_i uniform among the classes other than y_i
    θ_{k+1} = θ_k − η_k (g + w θ_k)                      (with momentum: see `ugclu_jax.optimizer`)

Golatkar et al. 2020 (arXiv 1911.04933) and Graves et al. 2021 (Amnesiac Machine Learning, arXiv 2010.10981), "RL" in
the tables of the field; the sum with weight α is that of SalUn (arXiv 2310.12508), which is this under a mask.

A wrong label is drawn once a request for each id and stays: no two steps pull an example to different classes.
Published code differs: some redraws at every batch, some may draw the true label.

Differences: remaining data are drawn from the bounded buffer, both batches with replacement, and a step sees one of
each where the field goes through the one and then the other, or shuffles their union. The head has no task: the wrong
label is any other of its C classes, be it not yet learned or also to be removed. Both forward passes are in training
mode, but only the remaining batch's statistics are kept. The task loss reported is that to the wrong labels.
"""

from dataclasses import dataclass

import jax
import optax

from ugclu_jax.at import At
from ugclu_jax.batches import with_random_labels
from ugclu_jax.descent import Batches, Direction, Prepared, Report, descent
from ugclu_jax.stepping import DescentHyper, DescentSettings
from ugclu_jax.types import ApplyFn, Array, Batch, Buffer, Examples, Method, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RandomLabelHyper(DescentHyper):
    """Continuous settings of random labels, traced."""

    remain_weight: Scalar = 3.0
    """α ≥ 0, weight of the descent on remaining data; the task under wrong labels has 1."""


def direction(at: At, batches: Batches[Batch, Batch], hyper: RandomLabelHyper) -> Direction:
    """`g_U' + α g_R` of a batch of each; the labels of the task batch are the wrong ones already."""
    task, remain = (here.gradient(batch) for here, batch in zip(at.split(2), batches, strict=True))
    gradient = optax.tree.add_scale(task.gradient, hyper.remain_weight, remain.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def random_label(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings(), *, num_classes: int) -> Method:
    """The method; it does not learn.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C ≥ 2, of the head.

    >>> random_label(lambda *a, **k: None, num_classes=2).kinds
    ('unlearn',)
    """

    def mislabel(at: At, hyper: RandomLabelHyper, task: Examples, buffer: Buffer, rng_key: Array) -> Prepared:
        return Prepared(with_random_labels(rng_key, task, num_classes))

    return descent(
        "random_label",
        apply_fn,
        settings,
        unlearn=direction,
        hyper=RandomLabelHyper(),
        prepare=mislabel,
        prepare_keys=1,
        num_classes=num_classes,
    )
