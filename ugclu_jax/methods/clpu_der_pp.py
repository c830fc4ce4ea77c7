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

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.batches import from_buffer, from_task
from ugclu_jax.buffer import Buffer, filled
from ugclu_jax.components import learning_gradient, weighted_gradient
from ugclu_jax.descent import (
    Batches,
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    draw_pair,
    update,
)
from ugclu_jax.distillation import evaluation_logits
from ugclu_jax.losses import cross_entropy
from ugclu_jax.oracle import InitFn
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

NAME = "clpu_der_pp"
_NOBODY = -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClpuHyper(DescentHyper):
    """Continuous settings."""

    logit_weight: Scalar = 0.5
    """α ≥ 0, weight of the squared distance to the isolated network's logits."""
    label_weight: Scalar = 1.0
    """β ≥ 0, weight of the cross-entropy."""


class Memory(NamedTuple):
    """What is kept between requests; an index into the past, and logits, but no input."""

    ids: Array  # [M] int32 of the buffer's rows after the last learn request, -1 where empty
    logits: Array  # [M, C] h, 0 where not known
    known: Array  # [M] bool
    owner: Array  # [N] int32, number of the request that an example was learned in, -1 where it is not retained
    count: Array  # [] int32, learn requests so far


def track(kind: RequestKind, extra: dict[str, PyTree], task: Examples) -> dict[str, PyTree]:
    """Note whose the task's examples are, and drop all logits of isolated networks that saw them in the past.

    >>> import jax.numpy as jnp
    >>> memory = Memory(jnp.array([0, 1, 2]), jnp.ones((3, 1)), jnp.ones(3, bool), jnp.array([0, 0, 1]), jnp.array(2))
    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([1]), jnp.array(1))
    >>> after = track("unlearn", {"clpu_der_pp": memory}, task)["clpu_der_pp"]
    >>> after.ids.tolist(), after.known.tolist(), after.owner.tolist()
    ([0, -1, 2], [False, False, True], [0, -1, 1])
    """
    if NAME not in extra:
        return extra
    memory: Memory = extra[NAME]
    valid = jnp.arange(task.ids.shape[0]) < task.count
    # A request in progress, tracked twice, does not outdate itself.
    past = memory.owner if kind == "unlearn" else jnp.where(memory.owner == memory.count, _NOBODY, memory.owner)
    outdated = jnp.where(valid, past[task.ids], _NOBODY)
    owners = jnp.where(memory.ids >= 0, memory.owner[memory.ids], _NOBODY)
    known = memory.known & ~(jnp.isin(owners, outdated) & (owners != _NOBODY))
    # Padding is sent past the end, where it is dropped; -1 would be the last row.
    rows = jnp.where(valid, task.ids, memory.owner.shape[0])
    owner = memory.owner.at[rows].set(memory.count if kind == "learn" else _NOBODY, mode="drop")
    ids = memory.ids
    if kind == "unlearn":
        ids = jnp.where(jnp.isin(ids, jnp.where(valid, task.ids, -1)), -1, ids)
    logits = jnp.where(known[:, None], memory.logits, 0.0)
    return extra | {NAME: memory._replace(ids=ids, logits=logits, known=known, owner=owner)}


def stored_logits(memory: Memory, buffer: Buffer) -> Array:
    """`h [M, C]` of the buffer's rows, whatever their order now; NaN where it is not known.

    >>> import jax, jax.numpy as jnp
    >>> memory = Memory(jnp.array([2]), jnp.ones((1, 2)), jnp.ones(1, bool), jnp.zeros(3, int), jnp.array(1))
    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([1, 2]), jnp.array(2))
    >>> buffer = buffer_lib.insert(buffer_lib.init(2, (), jnp.float32, jax.random.key(0)), task)
    >>> buffer.ids.tolist(), stored_logits(memory, buffer).tolist()
    ([1, 2], [[nan, nan], [1.0, 1.0]])
    """
    size = memory.owner.shape[0]
    places = jnp.where(memory.ids >= 0, memory.ids, size)
    row_of = jnp.full(size, -1).at[places].set(jnp.arange(places.shape[0]), mode="drop")
    rows = jnp.where(filled(buffer), row_of[buffer.ids], -1)
    known = (rows >= 0) & memory.known[rows]
    return jnp.where(known[:, None], memory.logits[rows], jnp.nan)


def gradient_evaluations(settings: DescentSettings, capacity: int, kind: RequestKind = "unlearn") -> float:
    """Cost of a request.

    To learn: `steps` isolated ones, as many to merge, with a forward pass of the isolated network over the task batch
    in each, and one over the buffer at the end, where all rows are passed though only newcomers are kept.

    >>> settings = DescentSettings(steps=3)
    >>> gradient_evaluations(settings, 0), gradient_evaluations(settings, 192, "learn")
    (3.0, 11.0)
    """
    if kind == "unlearn":
        return cost(settings, capacity, a_step=settings.remain_batch_size)
    examples = (2 + FORWARD_COST) * settings.task_batch_size + settings.remain_batch_size
    return cost(settings, capacity, a_step=examples, once=FORWARD_COST * capacity)


def losses(logits: Array, batch: Batch, hyper: ClpuHyper) -> Array:
    """`β CE(y, z) + α mean_c (z_c − h_c)²`, `[B]`; `h` are the batch's targets, NaN where not known.

    >>> import jax.numpy as jnp
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1), jnp.array([[2.0, 0.0]]))
    >>> losses(jnp.zeros((1, 2)), batch, ClpuHyper(label_weight=0.0)).tolist()
    [1.0]
    """
    known = jnp.isfinite(batch.targets)
    distance = jnp.mean(jnp.square(logits - jnp.where(known, batch.targets, logits)), axis=1)
    return hyper.label_weight * cross_entropy(logits, batch.labels) + hyper.logit_weight * distance


def isolated_step(
    carry: Carry,
    model_state: ModelState,
    task_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: ClpuHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update of the isolated network on new data.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> moved, _, _ = isolated_step(start, {}, batch, 1.0, None, ClpuHyper(0.5), apply_fn=linear,
    ...                             settings=DescentSettings())
    >>> moved.params.tolist()
    [[0.25, -0.25]]
    """
    new = learning_gradient(apply_fn, carry.params, model_state, task_batch, rng_key=rng_key, axis_name=axis_name)
    return update(carry, new.gradient, hyper, settings, remaining_share), new.model_state, Report(new.loss)


def step(
    carry: Carry,
    model_state: ModelState,
    batches: Batches,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: ClpuHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update of the serving network on explicit batches, whose targets are `h`; without a task batch to unlearn.

    >>> import jax.numpy as jnp
    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1), jnp.array([[jnp.nan, jnp.nan]]))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> step(start, {}, Batches(None, batch), 1.0, None, ClpuHyper(0.5), apply_fn=linear,
    ...      settings=DescentSettings())[0].params.tolist()
    [[0.25, -0.25]]
    """
    keys = (None, None) if rng_key is None else jax.random.split(rng_key)
    gradient, found = None, {}
    for name, batch, key in (("task", batches.task, keys[0]), ("remain", batches.remain, keys[1])):
        if batch is None:
            continue
        part = weighted_gradient(
            apply_fn,
            carry.params,
            model_state,
            batch,
            losses_fn=functools.partial(losses, hyper=hyper),
            rng_key=key,
            axis_name=axis_name,
        )
        gradient = part.gradient if gradient is None else jax.tree.map(jnp.add, gradient, part.gradient)
        model_state, found[f"{name}_loss"] = part.model_state, part.loss
    return update(carry, gradient, hyper, settings, remaining_share), model_state, Report(**found)


def clpu_der_pp(
    apply_fn: ApplyFn,
    settings: DescentSettings,
    *,
    num_classes: int,
    capacity: int,
    num_examples: int,
    init_fn: InitFn,
    on_step: Callable | None = None,
) -> Method:
    """The method.

    Args:
        apply_fn: the model.
        settings: static settings of both kinds of request.
        num_classes, capacity, num_examples: C, M and N: classes, rows of the buffer, rows of the training arrays.
        init_fn: `rng_key -> (params, model_state)`, a fresh network.
        on_step: progress function, see `fast_slow.request_loop`; a learn request counts to K twice.

    Raises:
        ValueError: `distillation` is set.

    >>> method = clpu_der_pp(lambda *a, **k: None, DescentSettings(), num_classes=2, capacity=1, num_examples=3,
    ...                      init_fn=lambda key: ({}, {}))
    >>> method.init({}, {}).extra["clpu_der_pp"].owner.tolist()
    [-1, -1, -1]
    """
    if settings.distillation:
        raise ValueError(
            "distillation must be False, got True: its teacher, the network at the start of the request, knows what "
            "is to be unlearned, and clpu_der_pp builds a network that does not"
        )

    def init(params: Params, model_state: ModelState) -> MethodState:
        memory = Memory(
            ids=jnp.full(capacity, -1, jnp.int32),
            logits=jnp.zeros((capacity, num_classes)),
            known=jnp.zeros(capacity, bool),
            owner=jnp.full(num_examples, _NOBODY, jnp.int32),
            count=jnp.int32(0),
        )
        return MethodState(params, model_state, {NAME: memory})

    def run(
        one_step: Callable,
        draw: Callable[[Array], PyTree],
        rng_key: Array,
        state: MethodState,
        hyper: ClpuHyper,
        evaluations: float,
        axis_name: str | None,
    ) -> tuple[MethodState, Info]:
        bound = functools.partial(one_step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    def learn(
        rng_key: Array,
        state: MethodState,
        hyper: ClpuHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        init_key, isolated_key, merge_key = jax.random.split(rng_key, 3)
        extra = track("learn", state.extra, task)
        memory: Memory = extra[NAME]

        def draw_task(key: Array) -> Batch:
            return from_task(key, task, (settings.task_batch_size,), axis_name=axis_name)

        fresh = MethodState(*init_fn(init_key))
        isolated, _ = run(isolated_step, draw_task, isolated_key, fresh, hyper, 0.0, axis_name)
        known = stored_logits(memory, buffer)

        def draw(key: Array) -> Batches:
            new, old = draw_pair(key, task, buffer, settings, targets=known, axis_name=axis_name)
            logits, _ = apply_fn(isolated.params, isolated.model_state, new.inputs, train=False, rng_key=None)
            return Batches(new._replace(targets=logits), old)

        evaluations = gradient_evaluations(settings, capacity, "learn")
        merged, info = run(step, draw, merge_key, state._replace(extra=extra), hyper, evaluations, axis_name)

        after = buffer_lib.insert(buffer, task)
        own = evaluation_logits(
            apply_fn, isolated.params, isolated.model_state, after.inputs, batch_size=settings.remain_batch_size
        )
        mine = filled(after) & (memory.owner[after.ids] == memory.count)
        logits = jnp.where(mine[:, None], own, stored_logits(memory, after))
        found = jnp.isfinite(logits[:, 0])
        memory = Memory(
            ids=after.ids,
            logits=jnp.where(found[:, None], logits, 0.0).astype(memory.logits.dtype),
            known=found,
            owner=memory.owner,
            count=memory.count + 1,
        )
        return merged._replace(extra=merged.extra | {NAME: memory}), info

    def unlearn(
        rng_key: Array,
        state: MethodState,
        hyper: ClpuHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        init_key, merge_key = jax.random.split(rng_key)
        extra = track("unlearn", state.extra, task)
        known = stored_logits(extra[NAME], buffer)

        def draw(key: Array) -> Batches:
            shape = (settings.remain_batch_size,)
            return Batches(None, from_buffer(key, buffer, shape, targets=known, axis_name=axis_name))

        fresh = MethodState(*init_fn(init_key), extra)
        return run(step, draw, merge_key, fresh, hyper, gradient_evaluations(settings, capacity), axis_name)

    return Method(init, learn, unlearn, track)
