"""Distillation on remaining data: the network at the start of a request teaches the inner steps.

    q_i = softmax(logits_i(θ_0)), with the classes that left deleted and the rest renormalised
    t_i = (1 − δ) · onehot(y_i) + δ · q_i

Cross-entropy is linear in its target, so descending `CE(t_i, p)` descends `(1 − δ) CE(y_i, p) + δ CE(q_i, p)`: the
second term is `KL(q_i ‖ p)` up to a constant, the metric `KL_R(θ_k ‖ θ_{k+1})` of the remain-preserving manifold taken
from the start of the request. The network at the start has seen all data, the buffer holds a sample of them: what it
knows beyond their labels is kept. A setting of every method that steps on remaining data.
"""

import jax
import jax.numpy as jnp

from ugclu_jax.batches import valid_rows
from ugclu_jax.buffer import filled
from ugclu_jax.prediction import predict
from ugclu_jax.types import ApplyFn, Array, Buffer, Examples, ModelState, Params


def departed_classes(task: Examples, buffer: Buffer, num_classes: int) -> Array:
    """`[C]` bool: classes of the task of which the buffer holds nothing; all False where a class only lost examples.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init
    >>> task = Examples(jnp.zeros(3), jnp.array([0, 1, 1]), jnp.array([1, 2]), jnp.array(2))
    >>> departed_classes(task, init(4, (), jnp.float32, jax.random.key(0)), 3).tolist()
    [False, True, False]
    """

    def present(labels: Array, valid: Array) -> Array:
        return jnp.zeros(num_classes, bool).at[labels].max(valid)

    return present(task.labels[task.ids], valid_rows(task)) & ~present(buffer.labels, filled(buffer))


def remain_targets(
    apply_fn: ApplyFn,
    params: Params,
    model_state: ModelState,
    task: Examples,
    buffer: Buffer,
    distillation_weight: Array | float,
    *,
    batch_size: int = 64,
) -> Array:
    """Targets `t` of every row of the buffer, for `batches.from_buffer`: once a request, in evaluation mode.

    Args:
        apply_fn: the model.
        params, model_state: the teacher, θ_0.
        task: examples of the request, for `departed_classes`.
        buffer: M rows; what is to be removed has left it.
        distillation_weight: δ in [0, 1]; 0 gives the labels.
        batch_size: rows in memory at a time.

    Returns:
        `[M, C]` distributions; of no meaning where a row is empty.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init, insert
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> kept, gone = (Examples(jnp.zeros((2, 1)), jnp.array([1, 0]), jnp.array([i]), jnp.array(1)) for i in (0, 1))
    >>> buffer = insert(init(1, (1,), jnp.float32, jax.random.key(0)), kept)
    >>> remain_targets(linear, jnp.zeros((1, 3)), {}, gone, buffer, 0.5).tolist()  # class 0 leaves
    [[0.0, 0.75, 0.25]]

    References: arXiv 2505.15178, Proposition 2 (the metric); the teacher at the start of the request is ours.
    """

    logits = predict(apply_fn, params, model_state, buffer.inputs, batch_size=batch_size)
    return targets_of(logits, task, buffer, distillation_weight)


def targets_of(logits: Array, task: Examples, buffer: Buffer, distillation_weight: Array | float) -> Array:
    """The formula at the top of this file, from the teacher's `logits [M, C]` of the buffer's rows.

    Arguments and result as in `remain_targets`.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init
    >>> task = Examples(jnp.zeros(1), jnp.array([2]), jnp.array([0]), jnp.array(1))
    >>> empty = init(1, (), jnp.float32, jax.random.key(0))
    >>> targets_of(jnp.zeros((1, 3)), task, empty, 1.0).tolist()  # class 2 leaves
    [[0.5, 0.5, 0.0]]
    """
    departed = departed_classes(task, buffer, logits.shape[-1])
    # Finite, so that the rows of an empty buffer, from which every class departed, hold no NaN.
    teacher = jax.nn.softmax(jnp.where(departed, jnp.finfo(logits.dtype).min, logits))
    labels = jax.nn.one_hot(buffer.labels, logits.shape[-1])
    return (1.0 - distillation_weight) * labels + distillation_weight * teacher
