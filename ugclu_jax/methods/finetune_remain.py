"""Fine-tuning on remaining data: descent on the buffer (unlearning), or on buffer and new data mixed (learning).

    θ_{k+1} = θ_k − η_k (∇L_R(θ_k) + w θ_k)          (with momentum: see `ugclu_jax.optimizer`)

The simplest unlearning baseline of the field ("finetune", FT): it hopes that what is not rehearsed is forgotten.
"""

from collections.abc import Callable

from ugclu_jax.at import At
from ugclu_jax.batches import from_mix, mixed_weights
from ugclu_jax.combination import combine
from ugclu_jax.descent import Batches, descent, follow_remaining
from ugclu_jax.stepping import BufferSettings
from ugclu_jax.types import ApplyFn, Array, Batch, Buffer, Examples, Method


def finetune_remain(apply_fn: ApplyFn, settings: BufferSettings = BufferSettings(), *, num_classes: int) -> Method:
    """The method; learning draws class-balanced batches from buffer and new data, unlearning from the buffer alone.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request. With `distillation` the method only unlearns: the network at
            the start of a request knows nothing of new data.
        num_classes: C, for the class-balanced draw.

    >>> finetune_remain(lambda *a, **k: None, num_classes=2).kinds
    ('learn', 'unlearn')
    >>> finetune_remain(lambda *a, **k: None, BufferSettings(distillation=True), num_classes=2).kinds
    ('unlearn',)
    """

    def mixing(
        at: At, task: Examples, buffer: Buffer, targets: Array | None
    ) -> Callable[[Array], Batches[None, Batch]]:
        cumulative, shape = mixed_weights(task, buffer, num_classes), (settings.remain_batch_size,)
        return lambda key: Batches(None, from_mix(key, task, buffer, cumulative, shape, axis_name=at.axis_name))

    unlearns = descent("finetune_remain", apply_fn, settings, unlearn=follow_remaining, reads="buffer")
    if settings.distillation:
        return unlearns
    learns = descent(
        "finetune_remain",
        apply_fn,
        settings,
        learn=follow_remaining,
        reads="buffer",
        draws=mixing,
        num_classes=num_classes,
    )
    return combine(learn=learns, unlearn=unlearns)
