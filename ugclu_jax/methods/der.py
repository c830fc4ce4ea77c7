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

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.batches import from_buffer, from_task, rows_of_buffer
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import learning_gradient, preserving_gradient, weighted_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    refuse,
    refuse_distillation,
    teacher_targets,
    update,
)
from ugclu_jax.distillation import evaluation_logits
from ugclu_jax.types import (
    FORWARD_COST,
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
    RequestKind,
    Scalar,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DERHyper(DescentHyper):
    """Continuous settings of DER, traced."""

    logit_weight: Scalar = 0.5
    """α ≥ 0, weight of the distance to the stored logits."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DERPPHyper(DERHyper):
    """Continuous settings of DER++, traced."""

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


def gradient_evaluations(settings: DescentSettings, capacity: int, *, plus_plus: bool = False) -> float:
    """Cost of a request; `plus_plus` where it is DER++.

    At its end every row of the buffer passes forward once: M examples, though only the logits of newcomers are used.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=192), FORWARD_COST
    (21.0, 0.3333333333333333)
    """
    buffer_batches = 2 if plus_plus else 1
    a_step = settings.task_batch_size + buffer_batches * settings.remain_batch_size
    return cost(settings, capacity, a_step=a_step, once=FORWARD_COST * capacity)


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


def store(stored: StoredLogits, buffer: Buffer, logits: Array) -> StoredLogits:
    """Logits of what a buffer holds: those already stored, and `logits [M, C]` for the newcomers.

    >>> buffer = buffer_lib.init(2, (), jnp.float32, jax.random.key(0))._replace(ids=jnp.array([3, 5]))
    >>> stored = StoredLogits(jnp.array([5, 4]), jnp.array([[1.0], [2.0]]))
    >>> store(stored, buffer._replace(count=jnp.array(2)), jnp.array([[8.0], [9.0]])).logits.tolist()
    [[8.0], [1.0]]
    """
    kept, known = lookup(stored, buffer.ids)
    fresh = jnp.where(buffer_lib.filled(buffer)[:, None], logits.astype(kept.dtype), 0.0)
    return StoredLogits(buffer.ids, jnp.where(known[:, None], kept, fresh))


def track_stored(
    kind: RequestKind, extra: dict[str, PyTree], task: Examples, *, name: str = "der"
) -> dict[str, PyTree]:
    """Blank the logits of examples to unlearn; `name` is that of the method.

    >>> task = Examples(jnp.zeros(8), jnp.zeros(8, int), jnp.array([7, -1]), jnp.array(1))
    >>> stored = StoredLogits(jnp.array([3, 7]), jnp.array([[1.0], [2.0]]))
    >>> track_stored("unlearn", {"der": stored}, task)["der"].ids.tolist()
    [3, -1]
    """
    if name not in extra or kind == "learn":
        return extra
    ids, logits = extra[name]
    gone = jnp.isin(ids, task.ids)
    return extra | {name: StoredLogits(jnp.where(gone, -1, ids), jnp.where(gone[:, None], 0.0, logits))}


def step(
    carry: Carry,
    model_state: ModelState,
    batches: DERBatches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: DERHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update on explicit batches: DER++ where there is a labelled batch, and then `hyper` is a `DERPPHyper`.

    The reported loss of the buffer is the cross-entropy of the labelled batch, or for DER the distance of the logits.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> new, kept = (Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.full(1, weight)) for weight in (0.0, 1.0))
    >>> batches = DERBatches(new, kept, jnp.array([[2.0, -2.0]]), None)
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> hyper, settings = DERHyper(0.5, logit_weight=1.0), DescentSettings()
    >>> step(start, {}, batches, 1.0, None, hyper, apply_fn=linear, settings=settings)[0].params.tolist()
    [[1.0, -1.0]]

    References: arXiv 2004.07211, equations 5 and 6.
    """
    task_key, replay_key, label_key = (None,) * 3 if rng_key is None else jax.random.split(rng_key, 3)
    task = learning_gradient(apply_fn, carry.params, model_state, batches.task, rng_key=task_key, axis_name=axis_name)
    replay = weighted_gradient(
        apply_fn,
        carry.params,
        task.model_state,
        batches.replay,
        losses_fn=lambda logits, _: jnp.mean((logits - batches.stored_logits) ** 2, axis=-1),
        rng_key=replay_key,
        axis_name=axis_name,
    )
    gradient = jax.tree.map(lambda g, r: g + hyper.logit_weight * r, task.gradient, replay.gradient)
    last = replay
    if batches.labelled is not None:
        last = preserving_gradient(
            apply_fn, carry.params, replay.model_state, batches.labelled, rng_key=label_key, axis_name=axis_name
        )
        gradient = jax.tree.map(lambda g, r: g + hyper.label_weight * r, gradient, last.gradient)
    carry = update(carry, gradient, hyper, settings, remaining_share)
    return carry, last.model_state, Report(task.loss, last.loss)


def _dark_replay(
    name: str,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    num_classes: int,
    capacity: int,
    on_step: Callable | None,
) -> Method:
    plus_plus = name == "der_pp"

    def init(params: Params, model_state: ModelState) -> MethodState:
        logits = jnp.zeros((capacity, num_classes), jnp.result_type(*jax.tree.leaves(params)))
        return MethodState(params, model_state, {name: StoredLogits(jnp.full(capacity, -1, jnp.int32), logits)})

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: DERHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        if buffer.ids.shape[0] != capacity:
            raise ValueError(
                f"capacity is {capacity}, but the buffer has {buffer.ids.shape[0]} rows: make {name} with their number"
            )
        logits, known = lookup(state.extra[name], buffer.ids)
        targets = teacher_targets(apply_fn, state, hyper, settings, task, buffer)
        shape = (settings.remain_batch_size,)

        def draw(key: Array) -> DERBatches:
            task_key, replay_key, label_key = jax.random.split(key, 3)
            rows = rows_of_buffer(replay_key, buffer, shape, axis_name=axis_name)
            replay = buffer_lib.at_rows(buffer, rows)
            return DERBatches(
                from_task(task_key, task, (settings.task_batch_size,), axis_name=axis_name),
                replay._replace(weights=replay.weights * known[rows]),
                logits[rows],
                from_buffer(label_key, buffer, shape, targets=targets, axis_name=axis_name) if plus_plus else None,
            )

        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, capacity, plus_plus=plus_plus)
        end, info = descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)
        after = buffer_lib.insert(buffer, task)  # what the learner will hold; the compiler sees that it is the same
        fresh = evaluation_logits(
            apply_fn, end.params, end.model_state, after.inputs, batch_size=settings.remain_batch_size
        )
        return end._replace(extra=end.extra | {name: store(state.extra[name], after, fresh)}), info

    return Method(init, learn, refuse(name, "unlearn"), functools.partial(track_stored, name=name))


def der(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, capacity: int, on_step: Callable | None = None
) -> Method:
    """DER; it only learns, and keeps its logits as `extra["der"]`.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C.
        capacity: M, of the learner's buffer.
        on_step: progress function, see `fast_slow.request_loop`.

    Raises:
        ValueError: `settings.distillation`, for no label of the buffer enters the loss; when a request is traced, a
            buffer of another capacity.

    >>> method = der(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2, capacity=3)
    >>> method.init({"w": 1.0}, {}).extra["der"].ids.tolist()
    [-1, -1, -1]
    """
    refuse_distillation("der", settings)
    return _dark_replay("der", apply_fn, settings, num_classes, capacity, on_step)


def der_pp(
    apply_fn: ApplyFn, settings: DescentSettings, *, num_classes: int, capacity: int, on_step: Callable | None = None
) -> Method:
    """DER++; it only learns, and keeps its logits as `extra["der_pp"]`. Arguments as in `der`.

    Raises:
        ValueError: when a request is traced, a buffer of another capacity.

    >>> method = der_pp(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2, capacity=3)
    >>> method.init({"w": 1.0}, {}).extra["der_pp"].logits.shape
    (3, 2)
    """
    return _dark_replay("der_pp", apply_fn, settings, num_classes, capacity, on_step)
