"""CLPU-DER++: an isolated network a request teaches the one that serves; to unlearn, that one is built anew.

    isolated   θ^I ← θ^I − η ∇ CE(y, z)_L                    from a fresh start, on new data alone
    merge      θ ← θ − η ∇ [ D_L + D_R ],      D = mean_i [ β CE(y_i, z_i) + α mean_c (z_ic − h_ic)² ]
    unlearn    θ ← θ − η ∇ D_R                               from a fresh start, on the buffer

`h_i` are the logits that the isolated network of example i's own request gives to it: kept for what the buffer holds,
and computed for new data while they are at hand. Where there are none, the squared distance counts 0.

Liu, Liu, Stone, "Continual Learning and Private Unlearning", CoLLAs 2022, arXiv 2203.12817, with the loss of DER++
(Buzzega et al. 2020, arXiv 2004.07211). There a task is learned for good, into the one network, or for a time, into a
network of its own that answers for it, until it is merged or forgotten. Differences that this setting forces:
- A stream announces no such intention, so every request is temporary. And one network must answer, for nobody says at
  test time which task an input is of: it is merged at once, and the isolated network is dropped once its logits are
  kept. In the paper's merging, too, these are all that is read of it.
- Forgetting drops an isolated network in the paper; here it drops what came from it, and builds the serving network
  anew, from an initialisation and the buffer alone.
- Requests are not tasks: where examples of a request are removed or learned again, its other examples lose their `h`,
  for the isolated network had seen them. So a rebuilt network owes nothing to what was unlearned, save for which
  examples the buffer's ranks had let in beside them: unlearning is exact in the paper's sense, and costs what is known
  beyond the buffer.
- The logits are of the end of the isolated training; DER++ stores those met along the way. Replay is uniform over the
  buffer, not equal among tasks, of which nothing is known.
`distillation` is refused: its teacher knows what is to be unlearned.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ugclu_jax.at import At
from ugclu_jax.batches import from_buffer, from_task, valid_rows
from ugclu_jax.buffer import filled
from ugclu_jax.components import check_num_classes
from ugclu_jax.descent import Batches, Direction, Report, along, descend_request, evaluations
from ugclu_jax.losses import cross_entropy
from ugclu_jax.prediction import predict
from ugclu_jax.stepping import Carry, DescentSettings, StepHyper, check_reads
from ugclu_jax.types import (
    FORWARD_COST,
    HERE,
    ApplyFn,
    Array,
    Batch,
    Buffer,
    Examples,
    Execution,
    Info,
    InitFn,
    Memory,
    Method,
    MethodState,
    ModelState,
    Params,
    RequestKind,
    Scalar,
)

NAME = "clpu_der_pp"
_NOBODY = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CLPUHyper(StepHyper):
    """Continuous settings."""

    logit_weight: Scalar = 0.5
    """α ≥ 0, weight of the squared distance to the isolated network's logits."""
    label_weight: Scalar = 1.0
    """β ≥ 0, weight of the cross-entropy."""


class Kept(NamedTuple):
    """What is kept between requests, as `extra["clpu_der_pp"]`; an index into the past, and logits, but no input."""

    ids: Array  # [M] int32 of the buffer's rows after the last learn request, -1 where empty
    logits: Array  # [M, C] h, 0 where not known
    known: Array  # [M] bool
    owner: Array  # [N] int32, number of the request that an example was learned in, -1 where it is not retained
    count: Array  # type: ignore[assignment]  # [] int32, learn requests so far; hides tuple.count
    isolated: tuple[Params, ModelState] | None = None  # of a learn request, until its logits are stored


def track(kind: RequestKind, kept: Kept, task: Examples) -> Kept:
    """Note whose the task's examples are, and drop all logits of isolated networks that saw them in the past.

    >>> import jax.numpy as jnp
    >>> kept = Kept(jnp.array([0, 1, 2]), jnp.ones((3, 1)), jnp.ones(3, bool), jnp.array([0, 0, 1]), jnp.array(2))
    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([1]), jnp.array(1))
    >>> after = track("unlearn", kept, task)
    >>> after.ids.tolist(), after.known.tolist(), after.owner.tolist()
    ([0, -1, 2], [False, False, True], [0, -1, 1])
    """
    valid = valid_rows(task)
    outdated = jnp.where(valid, kept.owner[task.ids], _NOBODY)
    owners = jnp.where(kept.ids >= 0, kept.owner[kept.ids], _NOBODY)
    known = kept.known & ~(jnp.isin(owners, outdated) & (owners != _NOBODY))
    # Padding is sent past the end, where it is dropped; -1 would be the last row.
    rows = jnp.where(valid, task.ids, kept.owner.shape[0])
    owner = kept.owner.at[rows].set(kept.count if kind == "learn" else _NOBODY, mode="drop")
    ids = kept.ids
    if kind == "unlearn":
        ids = jnp.where(jnp.isin(ids, jnp.where(valid, task.ids, -1)), -1, ids)
    logits = jnp.where(known[:, None], kept.logits, 0.0)
    return kept._replace(ids=ids, logits=logits, known=known, owner=owner)


def stored_logits(kept: Kept, buffer: Buffer) -> Array:
    """`h [M, C]` of the buffer's rows, whatever their order now; NaN where it is not known.

    >>> import jax, jax.numpy as jnp
    >>> from ugclu_jax.buffer import init, insert
    >>> kept = Kept(jnp.array([2]), jnp.ones((1, 2)), jnp.ones(1, bool), jnp.zeros(3, int), jnp.array(1))
    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([1, 2]), jnp.array(2))
    >>> buffer = insert(init(2, (), jnp.float32, jax.random.key(0)), task)
    >>> buffer.ids.tolist(), stored_logits(kept, buffer).tolist()
    ([1, 2], [[nan, nan], [1.0, 1.0]])
    """
    size = kept.owner.shape[0]
    places = jnp.where(kept.ids >= 0, kept.ids, size)
    row_of = jnp.full(size, -1).at[places].set(jnp.arange(places.shape[0]), mode="drop")
    rows = jnp.where(filled(buffer), row_of[buffer.ids], -1)
    known = (rows >= 0) & kept.known[rows]
    return jnp.where(known[:, None], kept.logits[rows], jnp.nan)


def losses(logits: Array, batch: Batch, hyper: CLPUHyper) -> Array:
    """`β CE(y, z) + α mean_c (z_c − h_c)²`, `[B]`; `h` are the batch's targets, NaN where not known.

    >>> import jax.numpy as jnp
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1), jnp.array([[2.0, 0.0]]))
    >>> losses(jnp.zeros((1, 2)), batch, CLPUHyper(label_weight=0.0)).tolist()
    [1.0]
    """
    assert batch.targets is not None  # every batch of this method is drawn with h
    known = jnp.isfinite(batch.targets)
    distance = jnp.mean(jnp.square(logits - jnp.where(known, batch.targets, logits)), axis=1)
    return hyper.label_weight * cross_entropy(logits, batch.labels) + hyper.logit_weight * distance


def isolated_direction(at: At, batches: Batches[Batch, None], hyper: CLPUHyper) -> Direction:
    """`g_L` of the isolated network, of a batch of new data."""
    new = at.gradient(batches.task)
    return Direction(new.gradient, new.model_state, Report(new.loss))


def direction(at: At, batches: Batches[Batch | None, Batch], hyper: CLPUHyper) -> Direction:
    """`∇ [ D_L + D_R ]` of the serving network on batches whose targets are `h`; `∇ D_R` without a task batch.

    References: arXiv 2203.12817 with the loss of arXiv 2004.07211.
    """
    losses_fn = functools.partial(losses, hyper=hyper)
    for_task, for_remain = at.split(2)
    if batches.task is None:
        remain = for_remain.gradient(batches.remain, losses_fn=losses_fn)
        return Direction(remain.gradient, remain.model_state, Report(remain_loss=remain.loss))
    task = for_task.gradient(batches.task, losses_fn=losses_fn)
    remain = for_remain._replace(model_state=task.model_state).gradient(batches.remain, losses_fn=losses_fn)
    gradient = optax.tree.add(task.gradient, remain.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def clpu_der_pp(
    apply_fn: ApplyFn,
    settings: DescentSettings = DescentSettings(),
    *,
    num_classes: int,
    capacity: int,
    num_examples: int,
    init_fn: InitFn,
) -> Method:
    """The method; progress of a learn request counts to K twice.

    Its cost to learn: `steps` isolated ones, as many to merge, with a forward pass of the isolated network over the
    task batch in each, and one over the buffer at the end, where all rows pass though only newcomers are kept.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request.
        num_classes, capacity, num_examples: C, M and N: classes, rows of the buffer, rows of the training arrays.
        init_fn: `rng_key -> (params, model_state)`, a fresh network.

    Raises:
        ValueError: `distillation` is set.

    >>> method = clpu_der_pp(lambda *a, **k: None, DescentSettings(steps=3), num_classes=2, capacity=192,
    ...                      num_examples=3, init_fn=lambda key: ({}, {}))
    >>> method.init({}, {}).extra["clpu_der_pp"].owner.tolist()
    [-1, -1, -1]
    >>> method.cost("unlearn", 0, 64), method.cost("learn", 192, 64)
    (3.0, 11.0)
    """
    check_reads(NAME, settings, DescentSettings)
    if settings.distillation:
        raise ValueError(
            "distillation must be False, got True: its teacher, the network at the start of the request, knows what "
            "is to be unlearned, and clpu_der_pp builds a network that does not"
        )
    task_shape, remain_shape = (settings.task_batch_size,), (settings.remain_batch_size,)

    def init(params: Params, model_state: ModelState) -> Kept:
        return Kept(
            ids=jnp.full(capacity, -1, jnp.int32),
            logits=jnp.zeros((capacity, num_classes)),
            known=jnp.zeros(capacity, bool),
            owner=jnp.full(num_examples, _NOBODY, jnp.int32),
            count=jnp.int32(0),
        )

    def store(kind: RequestKind, kept: Kept, state: MethodState, buffer: Buffer, task: Examples) -> Kept:
        if kept.isolated is None:
            return kept
        own = predict(apply_fn, *kept.isolated, buffer.inputs, batch_size=settings.remain_batch_size)
        mine = filled(buffer) & (kept.owner[buffer.ids] == kept.count)
        logits = jnp.where(mine[:, None], own, stored_logits(kept, buffer))
        found = jnp.isfinite(logits[:, 0])
        return Kept(
            ids=buffer.ids,
            logits=jnp.where(found[:, None], logits, 0.0).astype(kept.logits.dtype),
            known=found,
            owner=kept.owner,
            count=kept.count + 1,
        )

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        if kind == "unlearn":
            return evaluations(settings, capacity, a_step=settings.remain_batch_size)
        examples = (2 + FORWARD_COST) * settings.task_batch_size + settings.remain_batch_size
        return evaluations(settings, capacity, a_step=examples, once=FORWARD_COST * capacity)

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: CLPUHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        check_num_classes(num_classes, apply_fn, state.params, state.model_state, task.inputs)
        init_key, isolated_key, merge_key = jax.random.split(rng_key, 3)
        kept: Kept = state.extra[NAME]

        def draw_task(key: Array) -> Batches[Batch, None]:
            return Batches(from_task(key, task, task_shape, axis_name=where.axis_name), None)

        alone, isolated_state, _ = descend_request(
            At(apply_fn, *init_fn(init_key), axis_name=where.axis_name),
            along(isolated_direction, settings),
            draw_task,
            isolated_key,
            hyper,
            settings,
            0.0,
            where,
        )
        isolated = alone.params, isolated_state
        known = stored_logits(kept, buffer)

        def draw(key: Array) -> Batches[Batch, Batch]:
            task_key, remain_key = jax.random.split(key)
            new = from_task(task_key, task, task_shape, axis_name=where.axis_name)
            logits, _ = apply_fn(*isolated, new.inputs, train=False, rng_key=None)
            old = from_buffer(remain_key, buffer, remain_shape, targets=known, axis_name=where.axis_name)
            return Batches(new._replace(targets=logits), old)

        merged = _merge(draw, merge_key, At(apply_fn, state.params, state.model_state), hyper, "learn", where)
        carry, model_state, info = merged
        extra = {**state.extra, NAME: kept._replace(isolated=isolated)}
        return MethodState(carry.params, model_state, extra), info

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: CLPUHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        init_key, merge_key = jax.random.split(rng_key)
        known = stored_logits(state.extra[NAME], buffer)

        def draw(key: Array) -> Batches[None, Batch]:
            return Batches(None, from_buffer(key, buffer, remain_shape, targets=known, axis_name=where.axis_name))

        carry, model_state, info = _merge(draw, merge_key, At(apply_fn, *init_fn(init_key)), hyper, "unlearn", where)
        return MethodState(carry.params, model_state, state.extra), info

    def _merge(
        draw: Callable[[Array], Batches[Batch | None, Batch]],
        rng_key: Array,
        at: At,
        hyper: CLPUHyper,
        kind: RequestKind,
        where: Execution,
    ) -> tuple[Carry, ModelState, Info]:
        here = at._replace(axis_name=where.axis_name)
        spent = cost(kind, capacity, 0)
        return descend_request(here, along(direction, settings), draw, rng_key, hyper, settings, spent, where)

    hyper = CLPUHyper()
    memory = Memory(NAME, init, track, store)
    hypers: dict[RequestKind, CLPUHyper] = {"learn": hyper, "unlearn": hyper}
    return Method(NAME, learn, unlearn, hypers, cost, (memory,), apply_fn, rehearses=("unlearn",))
