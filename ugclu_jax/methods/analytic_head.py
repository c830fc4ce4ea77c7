"""The analytic head: ridge regression on the features of a frozen network, learned and unlearned exactly.

    G ← G ± Σ_{i ∈ D} φ̃_i φ̃_iᵀ,   H ← H ± Σ_{i ∈ D} φ̃_i y_iᵀ        + to learn, − to unlearn; D: of it, what changes
    (W, b) = argmin Σ_{i ∈ R_t} ‖Wᵀφ_i + b − y_i‖² + λ ‖W‖²           see `ugclu_jax.analytic`

φ is what enters the network's last layer, and only that layer is ever written: a network after a request is the frozen
one with the solved W and b, so it predicts, is saved and is measured as any other. Frozen is what the method was
initialised with: pretrained weights or, without any, *random features*, which no example has shaped. Were the backbone
trained on what is later unlearned, no head could make up for it.

After any requests the sums are those of what is retained, bit for bit (`ugclu_jax.fixed_point`), as far as the device
computes the features of an example alike whenever it is asked; so the method is its own oracle, at any size.

References: Hoerl & Kennard, "Ridge regression", Technometrics 1970; Guo et al., "Certified data removal from machine
learning models", ICML 2020, arXiv 1911.03030, section 4.2, which unlearns a linear head on fixed features likewise.

Differences to the literature: the loss is the squared one, for which the removal is exact and needs no noise; outputs
fit 0 and 1, so they are no logits of probabilities, and their softmax is near uniform: a KL to networks that were
trained by cross-entropy says nothing of this method, accuracies do.

The buffer is not read. Of single examples it keeps whether they are retained: learning what is there, and unlearning
what is not, changes nothing.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax import analytic, fixed_point, last_layer, retained
from ugclu_jax.analytic import Head
from ugclu_jax.batches import valid_rows
from ugclu_jax.fixed_point import FixedSums
from ugclu_jax.ranges import POSITIVE
from ugclu_jax.streaming import take
from ugclu_jax.types import (
    EVALUATION_EXAMPLES,
    FORWARD_COST,
    HERE,
    AnyHyper,
    ApplyFn,
    Array,
    Buffer,
    Examples,
    Execution,
    Info,
    Memory,
    Method,
    MethodState,
    ModelState,
    Params,
    RequestKind,
    Rows,
    Scalar,
)

NAME = "analytic_head"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AnalyticHeadHyper:
    """Continuous settings of the analytic head, traced."""

    ridge: Annotated[Scalar, POSITIVE] = 1.0
    """λ > 0, in units of the sum over examples."""


@dataclass(frozen=True, kw_only=True)
class AnalyticHeadSettings:
    """Static settings of the analytic head.

    Raises:
        ValueError: a size below its bound, or above what is summed exactly.

    >>> AnalyticHeadSettings(batch_size=0)
    Traceback (most recent call last):
        ...
    ValueError: batch_size must be in 1 … 2048, got 0
    """

    layer: str | None = None
    """Path of the last layer in the parameters, where several have as many outputs; None = the only one."""
    batch_size: int = 64
    """Examples that pass forward at a time; memory grows with it."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= fixed_point.EXACT_ROWS:
            raise ValueError(f"batch_size must be in 1 … {fixed_point.EXACT_ROWS}, got {self.batch_size}")


class Kept(NamedTuple):
    """What the method keeps, as `extra["analytic_head"]`."""

    params: Params  # the frozen network; the values of its last layer do not matter
    model_state: ModelState
    sums: FixedSums  # over what is retained
    retained: Array  # [N] bool


def changes(kind: RequestKind, kept: Array, task: Examples) -> Array:
    """`[P]` int32: 1 where a row of the request comes, −1 where it leaves, 0 where it is padding or changes nothing.

    Args:
        kind: "learn" or "unlearn".
        kept: `[N]` bool, which examples are retained before the request.
        task: the request; an id that stands in it twice counts once.

    >>> task = Examples(jnp.zeros(3), jnp.zeros(3, int), jnp.array([0, 1, 1, -1]), jnp.array(3))
    >>> changes("learn", jnp.array([True, False, False]), task).tolist()
    [0, 1, 0, 0]
    """
    places, valid = jnp.arange(task.ids.shape[0]), valid_rows(task)
    rows = jnp.where(valid, task.ids, kept.shape[0])
    first = jnp.full(kept.shape[0], len(places)).at[rows].min(places, mode="drop")
    new = valid & (first[task.ids] == places) & (kept[task.ids] != (kind == "learn"))
    return jnp.where(new, 1 if kind == "learn" else -1, 0).astype(jnp.int32)


def head_of(kept: Kept, ridge: Scalar | Array, *, bias: bool = True) -> Head:
    """The head of what is retained, solved in float64 whatever JAX's own precision, in float32 or that.

    Args:
        kept: what the method keeps.
        ridge: λ > 0.
        bias: whether the last layer has one.

    >>> rows = jnp.array([[0.0], [2.0]]), jnp.array([0, 1])
    >>> sums = fixed_point.change(fixed_point.empty(1, 2), *rows, jnp.array([1, 1]))
    >>> head_of(Kept({}, {}, sums, jnp.array([True, True])), 2.0).kernel.tolist()
    [[-0.25, 0.25]]
    """
    with jax.enable_x64(True):
        head = analytic.solve(fixed_point.as_floats(kept.sums), jnp.asarray(ridge).astype(jnp.float64), bias=bias)
    return jax.tree.map(lambda x: x.astype(jnp.result_type(float)), head)


def analytic_head(
    apply_fn: ApplyFn,
    settings: AnalyticHeadSettings = AnalyticHeadSettings(),
    *,
    num_classes: int,
    num_examples: int,
) -> Method:
    """The method, the same for both kinds of request.

    Its cost is a forward pass of the request's rows, padding included, a third of a gradient evaluation for 64 of them;
    the sums (F² products a row) and the solve (F³/3) are no passes of the network, and only the seconds have them.
    Under a mapped axis every device does the same.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C.
        num_examples: N, rows of the training arrays.

    Raises:
        ValueError: more examples than the sums can hold; from `init` and `check`, no last layer, see
            `last_layer.find`; from `check`, and when a request is traced, outputs that are not linear in it, or arrays
            of another size than `num_examples`.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params["kernel"] + params["bias"], state)
    >>> method = analytic_head(linear, num_classes=2, num_examples=3)
    >>> kept = method.init({"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}, {}).extra["analytic_head"]
    >>> kept.retained.tolist(), kept.sums.gram.low.shape
    ([False, False, False], (5, 5))
    """
    if num_examples > fixed_point.MOST_EXAMPLES:
        raise ValueError(f"num_examples is {num_examples}: the sums hold at most {fixed_point.MOST_EXAMPLES:,}")

    def init(params: Params, model_state: ModelState) -> Kept:
        layer = last_layer.find(params, num_classes, settings.layer)
        num_features = jnp.shape(jax.tree.leaves(params)[layer.kernel])[0]
        sums = fixed_point.empty(num_features, num_classes)
        return Kept(params, model_state, sums, jnp.zeros(num_examples, bool))

    def demand(params: Params, model_state: ModelState, inputs: Rows) -> None:
        last_layer.check(apply_fn, last_layer.find(params, num_classes, settings.layer), params, model_state, inputs)

    def track(kind: RequestKind, kept: Kept, task: Examples) -> Kept:
        marked = retained.track(kind, kept.retained, task)
        demand(kept.params, kept.model_state, task.inputs)  # requests may also come without the front door
        layer = last_layer.find(kept.params, num_classes, settings.layer)
        counts = changes(kind, kept.retained, task)
        size = settings.batch_size
        padding = -len(counts) % size
        rows = jnp.pad(task.ids, (0, padding), constant_values=-1).reshape(-1, size)

        def part(sums: FixedSums, some: tuple[Array, Array]) -> tuple[FixedSums, None]:
            ids, count = some
            found = last_layer.features(apply_fn, layer, kept.params, kept.model_state, take(task.inputs, ids))
            return fixed_point.change(sums, found, task.labels[ids], count), None

        sums, _ = lax.scan(part, kept.sums, (rows, jnp.pad(counts, (0, padding)).reshape(-1, size)))
        return Kept(kept.params, kept.model_state, sums, marked)

    def request(
        rng_key: Array,
        state: MethodState,
        hyper: AnyHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        kept: Kept = state.extra[NAME]
        layer = last_layer.find(kept.params, num_classes, settings.layer)
        head = head_of(kept, hyper.ridge, bias=layer.bias is not None)
        params = last_layer.put(kept.params, layer, *head)
        written = {layer.kernel, layer.bias}
        leaves, structure = jax.tree.flatten(params)
        density = jax.tree.unflatten(structure, [jnp.float32(i in written) for i in range(len(leaves))])
        spent = jnp.float32(cost("learn", 0, task.ids.shape[0]))
        return MethodState(params, kept.model_state, state.extra), Info(
            mask_density=density, gradient_evaluations=spent
        )

    def cost(kind: RequestKind, capacity: int, task_rows: int) -> float:
        return FORWARD_COST * task_rows / EVALUATION_EXAMPLES

    hyper: dict[RequestKind, AnyHyper] = {"learn": AnalyticHeadHyper(), "unlearn": AnalyticHeadHyper()}
    return Method(NAME, request, request, hyper, cost, (Memory(NAME, init, track),), apply_fn, check=demand)
