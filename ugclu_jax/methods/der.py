"""Dark experience replay, DER and DER++: the buffer's examples keep the logits that the network once gave them.

    DER     L = L_L + α · mean_i (1/C) ‖h(x_i) − z_i‖²
    DER++   L = L_L + α · mean_i (1/C) ‖h(x_i) − z_i‖² + β · mean_j ℓ_j

over a batch i of the buffer with its stored logits `z_i`, and another batch j of it with its labels.

References: Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS 2020,
arXiv 2004.07211, equations 5 and 6; the mean over classes is that of the published code.

Differences to the paper:
- It stores the logits met along the trajectory, while the reservoir fills; here an example that enters the buffer gets
  the logits of the network at the *end* of its request, in evaluation mode.
- New examples enter the buffer after the request, so its own are not replayed: the first request is fine-tuning.
- Three forward passes, not one over all: BatchNorm normalises each batch by itself, and its statistics follow all.
- An example of the buffer without stored logits, which another method learned, counts in no mean of the first kind.
- An unlearn request blanks the logits of what it removes. Those of retained examples stay as they were, made by a
  network that knew what is removed: the next learn request is drawn back towards that network.
- With `distillation` the network at the start of the request stands in for a part of the labels of DER++ (ours).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task, rows_of_buffer
from ugclu_jax.descent import Direction, Draws, Report, descent
from ugclu_jax.prediction import predict
from ugclu_jax.stepping import DescentHyper, DescentSettings, StepHyper, check_reads
from ugclu_jax.types import (
    FORWARD_COST,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    Examples,
    Memory,
    Method,
    MethodState,
    ModelState,
    Params,
    RequestKind,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DERHyper(StepHyper):
    """Continuous settings of DER, traced."""

    logit_weight: Scalar = 0.5
    """α ≥ 0, weight of the distance to the stored logits."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DERPPHyper(DescentHyper):
    """Continuous settings of DER++, traced."""

    logit_weight: Scalar = 0.5
    """α ≥ 0, weight of the distance to the stored logits."""
    label_weight: Scalar = 0.5
    """β ≥ 0, weight of the cross-entropy of buffer data."""


class StoredLogits(NamedTuple):
    """What DER keeps; found by id, because the rows of a buffer move."""

    ids: Array  # [M] int32, -1 where nothing is stored
    logits: Array  # [M, C]


class DERBatches(NamedTuple):
    """What one step reads."""

    task: Batch  # [B] examples of the request
    replay: Batch  # [B] examples of the buffer; weight 0 where no logits are stored
    stored_logits: Array  # [B, C] of `replay`
    labelled: Batch | None  # [B] more examples of the buffer, for DER++


def lookup(stored: StoredLogits, ids: Array) -> tuple[Array, Array]:
    """Stored logits of examples, and whether there are any.

    Args:
        stored: M entries, in any order.
        ids: [R] int32, -1 for no example.

    Returns:
        `(logits [R, C], known [R] bool)`; logits are 0 where nothing is known.

    >>> stored = StoredLogits(jnp.array([7, -1, 3]), jnp.array([[1.0], [0.0], [2.0]]))
    >>> [x.tolist() for x in lookup(stored, jnp.array([3, 4, -1]))]
    [[[2.0], [0.0], [0.0]], [True, False, False]]
    """
    order = jnp.argsort(stored.ids)
    places = jnp.searchsorted(stored.ids[order], ids)
    entries = order[jnp.minimum(places, order.shape[0] - 1)]
    known = (stored.ids[entries] == ids) & (ids >= 0)
    return jnp.where(known[:, None], stored.logits[entries], 0.0), known


def with_newcomers(stored: StoredLogits, buffer: Buffer, logits: Array) -> StoredLogits:
    """Logits of what a buffer holds: those already stored, and `logits [M, C]` for the newcomers.

    >>> buffer = buffer_lib.init(2, (), jnp.float32, jax.random.key(0))._replace(ids=jnp.array([3, 5]))
    >>> stored = StoredLogits(jnp.array([5, 4]), jnp.array([[1.0], [2.0]]))
    >>> with_newcomers(stored, buffer._replace(count=jnp.array(2)), jnp.array([[8.0], [9.0]])).logits.tolist()
    [[8.0], [1.0]]
    """
    kept, known = lookup(stored, buffer.ids)
    fresh = jnp.where(buffer_lib.filled(buffer)[:, None], logits.astype(kept.dtype), 0.0)
    return StoredLogits(buffer.ids, jnp.where(known[:, None], kept, fresh))


def track(kind: RequestKind, stored: StoredLogits, task: Examples) -> StoredLogits:
    """Blank the logits of examples to unlearn.

    >>> task = Examples(jnp.zeros(8), jnp.zeros(8, int), jnp.array([7, -1]), jnp.array(1))
    >>> track("unlearn", StoredLogits(jnp.array([3, 7]), jnp.array([[1.0], [2.0]])), task).ids.tolist()
    [3, -1]
    """
    if kind == "learn":
        return stored
    ids, logits = stored
    gone = jnp.isin(ids, task.ids)
    return StoredLogits(jnp.where(gone, -1, ids), jnp.where(gone[:, None], 0.0, logits))


def direction(at: At, batches: DERBatches, hyper: DERHyper | DERPPHyper) -> Direction:
    """The gradient of L: of DER++ where there is a labelled batch, and then `hyper` is a `DERPPHyper`.

    The reported loss of the buffer is the cross-entropy of the labelled batch, or for DER the distance of the logits.

    References: arXiv 2004.07211, equations 5 and 6.
    """
    for_task, for_replay, for_labels = at.split(3)
    task = for_task.gradient(batches.task)
    last = for_replay._replace(model_state=task.model_state).gradient(
        batches.replay, losses_fn=lambda logits, _: jnp.mean((logits - batches.stored_logits) ** 2, axis=-1)
    )
    gradient = optax.tree.add_scale(task.gradient, hyper.logit_weight, last.gradient)
    if batches.labelled is not None and isinstance(hyper, DERPPHyper):
        last = for_labels._replace(model_state=last.model_state).gradient(batches.labelled)
        gradient = optax.tree.add_scale(gradient, hyper.label_weight, last.gradient)
    return Direction(gradient, last.model_state, Report(task.loss, last.loss))


def _memory(name: str, apply_fn: ApplyFn, settings: DescentSettings, num_classes: int, capacity: int) -> Memory:
    def init(params: Params, model_state: ModelState) -> StoredLogits:
        logits = jnp.zeros((capacity, num_classes), jnp.result_type(*jax.tree.leaves(params)))
        return StoredLogits(jnp.full(capacity, -1, jnp.int32), logits)

    def store(
        kind: RequestKind, stored: StoredLogits, state: MethodState, buffer: Buffer, task: Examples
    ) -> StoredLogits:
        if kind == "unlearn":
            return stored
        size = settings.remain_batch_size
        logits = predict(apply_fn, state.params, state.model_state, buffer.inputs, batch_size=size)
        return with_newcomers(stored, buffer, logits)

    return Memory(name, init, track, store)


def _draws(name: str, settings: DescentSettings, capacity: int) -> Draws:
    shape = (settings.remain_batch_size,)

    def draws(at: At, task: Examples, buffer: Buffer, targets: Array | None) -> Callable[[Array], DERBatches]:
        if buffer.ids.shape[0] != capacity:
            raise ValueError(
                f"capacity is {capacity}, but the buffer has {buffer.ids.shape[0]} rows: make {name} with their number"
            )
        logits, known = lookup(at.memory, buffer.ids)

        def draw(key: Array) -> DERBatches:
            task_key, replay_key, label_key = jax.random.split(key, 3)
            rows = rows_of_buffer(replay_key, buffer, shape, axis_name=at.axis_name)
            replay = buffer_lib.at_rows(buffer, rows)
            labelled = None
            if name == "der_pp":
                labelled = from_buffer(label_key, buffer, shape, targets=targets, axis_name=at.axis_name)
            return DERBatches(
                from_task(task_key, task, (settings.task_batch_size,), axis_name=at.axis_name),
                replay._replace(weights=replay.weights * known[rows]),
                logits[rows],
                labelled,
            )

        return draw

    return draws


def _dark_replay(
    name: str,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    num_classes: int,
    capacity: int,
    hyper: DERHyper | DERPPHyper,
) -> Method:
    check_reads(name, settings, DescentSettings)
    buffer_batches = 2 if name == "der_pp" else 1
    return descent(
        name,
        apply_fn,
        settings,
        learn=direction,
        hyper=hyper,
        draws=_draws(name, settings, capacity),
        memory=_memory(name, apply_fn, settings, num_classes, capacity),
        distils=name == "der_pp",
        a_step=settings.task_batch_size + buffer_batches * settings.remain_batch_size,
        # At its end every row of the buffer passes forward, though only the logits of newcomers are used.
        once=FORWARD_COST * capacity,
        num_classes=num_classes,
    )


def der(apply_fn: ApplyFn, settings: DescentSettings = DescentSettings(), *, num_classes: int, capacity: int) -> Method:
    """DER; it only learns, and keeps its logits as `extra["der"]`.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C.
        capacity: M, of the learner's buffer.

    Raises:
        ValueError: `settings.distillation`, for no label of the buffer enters the loss; when a request is traced, a
            buffer of another capacity.

    >>> method = der(lambda *a, **k: None, DescentSettings(steps=10), num_classes=2, capacity=192)
    >>> method.kinds, method.cost("learn", 192, 64)
    (('learn',), 21.0)
    """
    return _dark_replay("der", apply_fn, settings, num_classes, capacity, DERHyper())


def der_pp(
    apply_fn: ApplyFn, settings: DescentSettings = DescentSettings(), *, num_classes: int, capacity: int
) -> Method:
    """DER++; it only learns, and keeps its logits as `extra["der_pp"]`. Arguments as in `der`.

    Raises:
        ValueError: when a request is traced, a buffer of another capacity.

    >>> method = der_pp(lambda *a, **k: None, num_classes=2, capacity=3)
    >>> method.init({"w": 1.0}, {}).extra["der_pp"].logits.shape
    (3, 2)
    """
    return _dark_replay("der_pp", apply_fn, settings, num_classes, capacity, DERPPHyper())
