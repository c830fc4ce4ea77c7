"""Joint training: every step descends the loss of a batch of *all* retained examples. The upper bound, not a rival.

    θ_{k+1} = θ_k − η_k (∇L(θ_k; R_t) + w θ_k),      R_t = all that was learned and not unlearned, uniform

It breaks the memory rule on purpose: it reads every retained example, where the others have the buffer and the request.
Learning and unlearning are the same steps, for R_t has the new examples, and lacks the removed ones, before they begin;
the unlearning is the literature's "fine-tuning on the retain set". Which examples are retained is
`extra["joint"]`, `[N]` bool, kept true by `track` whichever method serves a request.

Differences to the literature: joint training there starts anew on all data (here that is `ugclu_jax.oracle`); this one
goes on from the network at hand, within the budget of a request.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp

from ugclu_jax.batches import draw_rows, share, valid_rows
from ugclu_jax.buffer import Buffer
from ugclu_jax.components import preserving_gradient
from ugclu_jax.descent import (
    Carry,
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    refuse_distillation,
    update,
)
from ugclu_jax.streaming import take
from ugclu_jax.types import (
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
)


def gradient_evaluations(settings: DescentSettings, capacity: int) -> float:
    """Cost of a request.

    >>> gradient_evaluations(DescentSettings(steps=10), capacity=100)
    10.0
    """
    return cost(settings, capacity, a_step=settings.remain_batch_size)


def track_retained(kind: RequestKind, extra: dict[str, PyTree], task: Examples) -> dict[str, PyTree]:
    """Mark the examples of a learn request as retained, those of an unlearn request as not; twice is once.

    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([2, -1]), jnp.array(1))
    >>> track_retained("learn", {"joint": jnp.zeros(3, bool)}, task)["joint"].tolist()
    [False, False, True]
    """
    if "joint" not in extra:
        return extra
    retained = extra["joint"]
    # An index past the end is dropped; -1 would be the last example.
    ids = jnp.where(valid_rows(task), task.ids, retained.shape[0])
    return extra | {"joint": retained.at[ids].set(kind == "learn", mode="drop")}


def step(
    carry: Carry,
    model_state: ModelState,
    retained_batch: Batch,
    remaining_share: Array | float,
    rng_key: Array | None,
    hyper: DescentHyper,
    *,
    apply_fn: ApplyFn,
    settings: DescentSettings,
    axis_name: str | None = None,
) -> tuple[Carry, ModelState, Report]:
    """One update along the gradient of an explicit batch of retained examples.

    >>> from ugclu_jax import optimizer
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> start = Carry(jnp.zeros((1, 2)), optimizer.init("sgd", jnp.zeros((1, 2))))
    >>> settings = DescentSettings()
    >>> step(start, {}, batch, 1.0, None, DescentHyper(0.5), apply_fn=linear, settings=settings)[0].params.tolist()
    [[0.25, -0.25]]
    """
    retained = preserving_gradient(
        apply_fn, carry.params, model_state, retained_batch, rng_key=rng_key, axis_name=axis_name
    )
    carry = update(carry, retained.gradient, hyper, settings, remaining_share)
    return carry, retained.model_state, Report(remain_loss=retained.loss)


def joint(
    apply_fn: ApplyFn,
    settings: DescentSettings,
    *,
    num_classes: int,
    num_examples: int,
    on_step: Callable | None = None,
) -> Method:
    """The method, the same for both kinds of request.

    Args:
        apply_fn: the model.
        settings: static settings; `remain_batch_size` is that of a step.
        num_classes: C, an argument of every factory; not read.
        num_examples: N, of the training arrays that the requests point into.
        on_step: progress function, see `fast_slow.request_loop`.

    Raises:
        ValueError: `settings.distillation`, for no step is taken on the buffer; when a request is traced, arrays of
            another size than `num_examples`.

    >>> method = joint(lambda *a, **k: None, DescentSettings(steps=1), num_classes=2, num_examples=3)
    >>> method.init({"w": 1.0}, {}).extra["joint"].tolist()
    [False, False, False]
    """
    refuse_distillation("joint", settings)

    def init(params: Params, model_state: ModelState) -> MethodState:
        return MethodState(params, model_state, {"joint": jnp.zeros(num_examples, bool)})

    def request(
        rng_key: Array,
        state: MethodState,
        hyper: DescentHyper,
        task: Examples,
        buffer: Buffer,
        *,
        axis_name: str | None = None,
    ) -> tuple[MethodState, Info]:
        if task.inputs.shape[0] != num_examples:
            raise ValueError(
                f"num_examples is {num_examples}, but the request points into {task.inputs.shape[0]} examples: "
                "make joint with their number"
            )
        # Running counts as weights: every retained example weighs 1, exactly.
        cumulative = jnp.cumsum(state.extra["joint"], dtype=jnp.uint32)

        def draw(key: Array) -> Batch:
            rows = share(draw_rows(key, cumulative, (settings.remain_batch_size,)), axis_name)
            weights = jnp.full(rows.shape, cumulative[-1] > 0, jnp.float32)
            return Batch(take(task.inputs, rows), task.labels[rows], weights)

        bound = functools.partial(step, hyper=hyper, apply_fn=apply_fn, settings=settings, axis_name=axis_name)
        evaluations = gradient_evaluations(settings, buffer.ids.shape[0])
        return descend_request(draw, bound, rng_key, state, settings, evaluations, on_step=on_step)

    return Method(init, request, request, track_retained)
