"""Joint training: every step descends the loss of a batch of *all* retained examples. The upper bound, not a rival.

    θ_{k+1} = θ_k − η_k (∇L(θ_k; R_t) + w θ_k),      R_t = all that was learned and not unlearned, uniform

It breaks the memory rule on purpose: it reads every retained example, where the others have the buffer and the request.
Learning and unlearning are the same steps, for R_t has the new examples, and lacks the removed ones, before they begin;
the unlearning is the literature's "fine-tuning on the retain set". Which examples are retained is
`extra["joint"]`, `[N]` bool, kept true by `track` whichever method serves a request.

Differences to the literature: joint training there starts anew on all data (here that is `ugclu_jax.oracle`); this one
goes on from the network at hand, within the budget of a request.
"""

from collections.abc import Callable

import jax.numpy as jnp

from ugclu_jax import retained
from ugclu_jax.at import At
from ugclu_jax.batches import draw_rows, share
from ugclu_jax.descent import Batches, descent, follow_remaining
from ugclu_jax.stepping import BufferSettings
from ugclu_jax.streaming import take
from ugclu_jax.types import ApplyFn, Array, Batch, Buffer, Examples, Method


def joint(apply_fn: ApplyFn, settings: BufferSettings = BufferSettings(), *, num_examples: int) -> Method:
    """The method, the same for both kinds of request.

    Args:
        apply_fn: the model.
        settings: static settings; `remain_batch_size` is that of a step.
        num_examples: N, of the training arrays that the requests point into.

    Raises:
        ValueError: `settings.distillation`, for no step is taken on the buffer; when a request is traced, arrays of
            another size than `num_examples`.

    >>> method = joint(lambda *a, **k: None, num_examples=3)
    >>> method.init({"w": 1.0}, {}).extra["joint"].tolist()
    [False, False, False]
    """

    def draws(at: At, task: Examples, buffer: Buffer, targets: Array | None) -> Callable[[Array], Batches[None, Batch]]:
        # Running counts as weights: every retained example weighs 1, exactly.
        cumulative = jnp.cumsum(at.memory, dtype=jnp.uint32)

        def draw(key: Array) -> Batches[None, Batch]:
            rows = share(draw_rows(key, cumulative, (settings.remain_batch_size,)), at.axis_name)
            weights = jnp.full(rows.shape, cumulative[-1] > 0, jnp.float32)
            return Batches(None, Batch(take(task.inputs, rows), task.labels[rows], weights))

        return draw

    return descent(
        "joint",
        apply_fn,
        settings,
        learn=follow_remaining,
        unlearn=follow_remaining,
        reads="buffer",
        draws=draws,
        memory=retained.memory("joint", num_examples),
        distils=False,
    )
