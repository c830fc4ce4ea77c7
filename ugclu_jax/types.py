"""Shapes, trees and contracts that every other module speaks; no arithmetic, and nothing of ours is imported.

Axes, used in every docstring of the library: B batch, C classes, K outer steps, J inner steps, N examples of a
dataset, P padded request, M buffer capacity, T requests, S seeds, G groups of a test set.

The field's other words for the same things: *forget set* = what is to `unlearn`, *retain set* = what `remain`s,
*exemplar* or *replay memory* = the `Buffer`, *gold model* or *retrained model* = the oracle.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
PyTree = Any
Params = PyTree
ModelState = PyTree
AnyHyper = PyTree
"""Continuous settings of a method, a tree of scalars of the method's own class (`UGCLUHyper`, `SalUnHyper`, …)."""
Scalar = float
"""A number where it is written down, a traced scalar array inside a compiled program."""
RequestKind = Literal["learn", "unlearn"]
REQUEST_KINDS: tuple[RequestKind, ...] = ("learn", "unlearn")

Augment = Callable[[Array, Array], Array]
"""`(rng_key, inputs [B, ...]) -> inputs` of the same shape and type, as stored."""
InitFn = Callable[[Array], tuple[Params, ModelState]]
"""`rng_key -> (params, model_state)`, a fresh network."""
Trace = Array | np.ndarray
"""Numbers of one request: on the device, or NumPy's, where a method tells nothing or they were brought to the host."""
OnStep = Callable[[Trace, int, PyTree], None]
"""`(steps done, K, what the step reported)`, on the host: for a progress bar."""


class ApplyFn(Protocol):
    """The user's model as one function, whatever library it was written with.

    `params` is differentiated; `model_state` holds what training updates without a gradient (BatchNorm statistics; an
    empty dict where there are none). `inputs` come as stored, e.g. uint8 images: normalisation is the model's affair.
    """

    def __call__(
        self, params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
    ) -> tuple[Array, ModelState]:
        """Return `(logits [B, C], new_model_state)`."""
        ...


class Rows(Protocol):
    """`[N, ...]` inputs of examples, wherever they lie: on the device, in host memory, or divided over devices.

    Read by `streaming.take` alone.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """`[N, ...]`."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes, that of the examples included."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """As stored."""
        ...


class Batch(NamedTuple):
    """Examples given by value. A weight of 0 marks padding, which counts nowhere."""

    inputs: Array  # [B, ...] as stored
    labels: Array  # [B] int32
    weights: Array  # [B] float, 0 or 1
    targets: Array | None = None  # [B, C] distributions that stand in for the labels, or None where the labels count


class Examples(NamedTuple):
    """Examples given by id: rows of arrays, padded to a bucket size P. Inputs are read by `streaming.take`.

    Here the id of an example is its row in the training arrays at hand, int32; its name, which outlives cuts of the
    data set and files that come and go, is the key `Dataset.train_keys[row]`. Rows `ids[count:]` are padding and hold
    -1.
    """

    inputs: Rows  # [N, ...] as stored
    labels: Array  # [N] int32
    ids: Array  # [P] int32
    count: Array  # type: ignore[assignment]  # [] int32; hides tuple.count, which nobody asks of examples


class Buffer(NamedTuple):
    """The memory buffer: M rows, the first `count` of them filled and sorted by rank; made by `buffer.init`."""

    inputs: Rows  # [M, ...] as stored, 0 where empty; or row numbers of inputs in host memory
    labels: Array  # [M] int32, 0 where empty
    ids: Array  # [M] int32, -1 where empty
    ranks: Array  # [M] uint32, ascending, the largest uint32 where empty
    count: Array  # type: ignore[assignment]  # [] int32; hides tuple.count, likewise
    threshold: Array  # [] uint32, the largest rank that may still enter
    hash_key: Array  # [2] uint32, makes ranks of one seed independent of another's


EVALUATION_EXAMPLES = 64
"""One gradient evaluation, the unit of cost, is a forward and backward pass over this many examples."""
FORWARD_COST = 1 / 3
"""What a forward pass alone counts of it: the backward pass costs about twice as much."""


class MethodState(NamedTuple):
    """What a method hands to the next request: the network, and what its memories keep.

    `extra` has one entry a `Memory` of the method, under its name. A method hands on the entries of others as they are,
    so that one may learn and another unlearn.
    """

    params: Params
    model_state: ModelState
    extra: dict[str, PyTree] = {}  # noqa: RUF012, never written to


_NOTHING = np.zeros(0, np.float32)


class Info(NamedTuple):
    """What the reader of a plot needs of one request; never read by the next one. Methods fill what they have."""

    task_losses: Trace = _NOTHING  # [K] mean loss of the task batch at the start of the outer step
    remain_losses: Trace = _NOTHING[None, :0].reshape(0, 0)  # [K, J] mean loss of each inner step's batch
    fast_norms: Trace = _NOTHING  # [K] global norm of the masked, unclipped task direction
    clipped: Trace = _NOTHING > 0  # [K] bool, whether clipping was active
    displacement_norms: Trace = _NOTHING  # [K] global norm of params_{k+1} − params_k
    mask_density: PyTree = ()  # share of weights that may change, one scalar a leaf of params
    gradient_evaluations: Trace | float = 0.0  # [], in units of EVALUATION_EXAMPLES; saliency included


class Execution(NamedTuple):
    """How a request runs, which changes none of its numbers but by rounding: no affair of a method's settings. A
    request that is looked at before its end, `until`, has the numbers that the whole one has there."""

    axis_name: str | None = None  # mapped axis of devices that share every batch
    on_step: OnStep | None = None  # progress function; it makes the program leave the device, without it nothing does
    until: Array | int | None = None  # outer steps after which the network stands still, to look at it on its way


HERE = Execution()


class UpdateFn(Protocol):
    """How a method serves one kind of request: a pure function of one compiled program.

    What it reads of the past is `state` and `buffer`, and nothing else. To learn, `buffer` is as it was before the
    task; to unlearn, the task has left it already, so that no batch drawn from it can hold what is to be removed. The
    buffer itself is the learner's: an update returns none.
    """

    def __call__(
        self,
        rng_key: Array,
        state: MethodState,
        hyper: AnyHyper,
        task: Examples,
        buffer: Buffer,
        *,
        where: Execution = HERE,
    ) -> tuple[MethodState, Info]:
        """Serve the request.

        Args:
            rng_key: of this request, consumed.
            state: what the request before left; the result has its structure, shapes and types, but for entries of
                `extra` that the method's own `Memory.store` brings back to them.
            hyper: the method's traced settings.
            task: examples to learn or to unlearn, `[P]` ids with padding.
            buffer: M rows of what remains.
            where: mapped axis and progress function.
        """
        ...


def _kept(kind: RequestKind, memory: PyTree, *_: Any) -> PyTree:
    return memory


class Memory(NamedTuple):
    """What a method keeps of the past beside network and buffer, and what keeps it true; only the learner calls these.

    Attributes:
        name: of its entry in `MethodState.extra`.
        init: `(params, model_state) -> memory`, before the first request.
        track: `(kind, memory, task) -> memory`, before every request, whichever method serves it: notes what is kept of
            single examples, and blanks what was kept of those to unlearn.
        store: `(kind, memory, state, buffer, task) -> memory`, after every request, once the buffer has changed:
            `state` has the network that the request led to, `buffer` is what the next one will find.
    """

    name: str
    init: Callable[[Params, ModelState], PyTree]
    track: Callable[[RequestKind, PyTree, Examples], PyTree] = _kept
    store: Callable[[RequestKind, PyTree, MethodState, Buffer, Examples], PyTree] = _kept


CostFn = Callable[[RequestKind, int, int], float]
"""`(kind, capacity M, padded rows of the request P) -> gradient evaluations`, see `EVALUATION_EXAMPLES`."""
RanksFn = Callable[[Params, ModelState, Examples, Array], Array]
"""`(params, model_state, task, hash_key [2]) -> ranks [P]` uint32 by which examples enter the buffer; small ones stay.
The network is the one that has learned them, the key the buffer's."""
CheckFn = Callable[[Params, ModelState, Rows], None]
"""`(params, model_state, inputs [N, ...]) -> None`: raises ValueError at what a method cannot serve. Shapes and types
suffice, so that it can be asked before work starts."""


class Method(NamedTuple):
    """A continual learning-unlearning method: pure functions, like an optax transformation.

    Attributes:
        name: in tables and messages.
        learn, unlearn: how it serves each kind of request; None where it cannot, see `combination.combine`.
        hyper: its default hyperparameters by the kind of request.
        cost: of a request; see `CostFn`.
        memories: what it keeps between requests beside the network.
        apply_fn: the model that it was made for; None where it asks nothing of one.
        rehearses: the kinds of request that make no sense with an empty buffer: they step on what it holds.
        check: what it demands of network and inputs, see `CheckFn`; None where it takes any.
        ranks: which examples a full buffer keeps, see `buffer_sampling`; None = a uniform sample.
    """

    name: str
    learn: UpdateFn | None
    unlearn: UpdateFn | None
    hyper: Mapping[RequestKind, AnyHyper]
    cost: CostFn
    memories: tuple[Memory, ...] = ()
    apply_fn: ApplyFn | None = None
    rehearses: tuple[RequestKind, ...] = ()
    check: CheckFn | None = None
    ranks: RanksFn | None = None

    def __hash__(self) -> int:
        """Of what serves: a method is a static argument and the key of a program, and `hyper`, a mapping, has none."""
        return hash((self.name, self.learn, self.unlearn, self.memories, self.ranks))

    @property
    def kinds(self) -> tuple[RequestKind, ...]:
        """The kinds of request that it serves."""
        return tuple(kind for kind in REQUEST_KINDS if getattr(self, kind) is not None)

    def update(self, kind: RequestKind) -> UpdateFn:
        """Its `learn` or `unlearn`.

        Raises:
            ValueError: another word, or a kind of request that the method does not serve.
        """
        if kind not in REQUEST_KINDS:
            raise ValueError(f"kind must be one of {', '.join(REQUEST_KINDS)}, got {kind!r}")
        update: UpdateFn | None = getattr(self, kind)
        if update is None:
            raise ValueError(f"{self.name} does not {kind}: combine it with a method that does, see ugclu_jax.combine")
        return update

    def init(self, params: Params, model_state: ModelState) -> MethodState:
        """The state before the first request."""
        return MethodState(params, model_state, {each.name: each.init(params, model_state) for each in self.memories})

    def track(self, kind: RequestKind, extra: Mapping[str, PyTree], task: Examples) -> dict[str, PyTree]:
        """All memories before a request; entries of others as they are."""
        own = {each.name: each.track(kind, extra[each.name], task) for each in self.memories if each.name in extra}
        return {**extra, **own}

    def store(self, kind: RequestKind, state: MethodState, buffer: Buffer, task: Examples) -> MethodState:
        """All memories after a request; entries of others as they are."""
        own = {
            each.name: each.store(kind, state.extra[each.name], state, buffer, task)
            for each in self.memories
            if each.name in state.extra
        }
        return state._replace(extra={**state.extra, **own})
