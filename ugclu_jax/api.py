"""The front door: what a notebook needs in one screen, refused early and plainly.

Four lines serve a request:

    data   = Data(images, labels)
    method = ug_clu(apply_fn, num_classes=10)
    state  = init(key, method, params, data, capacity=500, remember=range(len(labels)))
    state, info = unlearn(key, method, state, data[labels == 3])
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.coefficients import adaptive
from ugclu_jax.components import learning_gradient, number_of_classes, preserving_gradient, unlearning_gradient
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.learner import CLUState, RequestCost, RequestProgram, check_request, insert, request_program
from ugclu_jax.requests.validate import some
from ugclu_jax.saliency import STATISTICS, MaskKind, SaliencyKind, make_mask
from ugclu_jax.streaming import HostArray
from ugclu_jax.types import (
    AnyHyper,
    ApplyFn,
    Array,
    Batch,
    Examples,
    Info,
    Method,
    ModelState,
    OnStep,
    Params,
    PyTree,
    RequestKind,
    Rows,
)

_SHOWN = 5  # ids that a message names


class Data:
    """Inputs and labels of all examples, checked once; `data[ids]` are some of them as a request takes them.

    Args:
        inputs: `[N, ...]` as stored, e.g. uint8 images; a `streaming.HostArray` stays in host memory.
        labels: `[N]` integers, 0 or more.
        keys: N different strings, by which examples are known whatever row they have, such as paths or the ids of a
            database; None = by row alone, which is right for arrays that never change.

    Raises:
        ValueError: no examples, another number of labels or keys than of inputs, labels that are no class numbers, or a
            key that stands twice.

    >>> data = Data(np.zeros((5, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1, 0]), keys=["a", "b", "c", "d", "e"])
    >>> len(data), int(data[data.labels == 1].count), data[[4, 0]].ids[:3].tolist()
    (5, 2, [0, 4, -1])
    >>> data[["e", "b"]].ids[:3].tolist(), data.keys[[1, 4]].tolist()
    ([1, 4, -1], ['b', 'e'])
    >>> data[[7]]
    Traceback (most recent call last):
        ...
    ValueError: ids [7] are not rows of the data, which are 0 … 4
    """

    def __init__(self, inputs: Any, labels: Any, keys: Sequence[str] | np.ndarray | None = None) -> None:
        self.inputs: Rows = inputs if isinstance(inputs, HostArray) else jnp.asarray(inputs)
        found = np.asarray(labels)
        if self.inputs.ndim < 1 or found.shape != self.inputs.shape[:1] or not len(found):
            raise ValueError(
                f"inputs and labels must be one or more examples each, [N, ...] and [N], got shapes "
                f"{tuple(self.inputs.shape)} and {found.shape}"
            )
        if found.dtype.kind not in "iu" or found.min() < 0 or found.max() > np.iinfo(np.int32).max:
            bad = f"{found.dtype} from {found.min()} to {found.max()}"
            raise ValueError(f"labels must be integers of 0 or more, one class number an example, got {bad}")
        self.labels = found.astype(np.int32)
        self.num_classes = int(found.max()) + 1
        """Of the labels; the model may have more."""
        self._device_labels = jnp.asarray(self.labels)
        self.keys = None if keys is None else _checked_keys(keys, len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, ids: Any) -> Examples:
        """The examples of some rows: integers, a slice, a mask `[N]` of truth values, or keys.

        Raises:
            ValueError: no such rows or keys, a mask of another length, or something else.
        """
        rows = self._rows(ids)
        return self.padded(rows, bucket_size(len(rows)))

    def padded(self, rows: np.ndarray, size: int) -> Examples:
        """The examples of sorted rows, padded to a size of one's own."""
        return Examples(self.inputs, self._device_labels, jnp.asarray(pad_ids(rows, size)), jnp.int32(len(rows)))

    def aligned(self, keys: Sequence[str] | np.ndarray) -> "Data":
        """The same examples in the rows that a state knows them by, then those that have come since.

        A state, and its buffer first of all, names examples by row. Keep `data.keys` beside it, and after the next
        start `data.aligned(kept)`: of data that lie in another order today somebody else would be forgotten.

        Args:
            keys: those of the data when the state was made.

        Raises:
            ValueError: an example is gone, by its key.

        >>> today = Data(np.arange(3.0)[:, None], np.array([0, 1, 0]), keys=["c", "a", "b"])
        >>> today.aligned(["a", "b"]).keys.tolist(), today.aligned(["a", "b"]).inputs[:, 0].tolist()
        (['a', 'b', 'c'], [1.0, 2.0, 0.0])
        """
        before = np.asarray(keys)
        self._rows_of_keys(before)  # refuses what is gone
        assert self.keys is not None
        place = {key: row for row, key in enumerate(self.keys.tolist())}
        first = [place[key] for key in before.tolist()]
        rows = np.array(first + sorted(set(place.values()) - set(first)))
        if isinstance(self.inputs, HostArray):
            return Data(HostArray(self.inputs.array[rows]), self.labels[rows], self.keys[rows])
        return Data(jnp.asarray(self.inputs)[rows], self.labels[rows], self.keys[rows])

    def _rows(self, ids: Any) -> np.ndarray:
        if isinstance(ids, slice):
            return np.arange(len(self), dtype=np.int32)[ids]
        found = np.atleast_1d(np.asarray(ids))
        if found.dtype == bool:
            if found.shape != (len(self),):
                raise ValueError(f"a mask of examples must have shape ({len(self)},), got {found.shape}")
            return np.flatnonzero(found).astype(np.int32)
        if found.dtype.kind == "U" and found.ndim == 1:
            return self._rows_of_keys(found)
        if found.size and (found.ndim != 1 or found.dtype.kind not in "iu"):
            raise ValueError(f"ids must be one flat list of integers or keys, got {found.dtype} of shape {found.shape}")
        outside = found[(found < 0) | (found >= len(self))]
        if outside.size:
            shown = ", ".join(map(str, outside[:_SHOWN])) + (", …" if outside.size > _SHOWN else "")
            raise ValueError(f"ids [{shown}] are not rows of the data, which are 0 … {len(self) - 1}")
        return np.unique(found).astype(np.int32)

    def _rows_of_keys(self, wanted: np.ndarray) -> np.ndarray:
        if self.keys is None:
            raise ValueError(f"{wanted[0]!s} is a key, and these data have none: give Data the keys of its examples")
        absent = wanted[~np.isin(wanted, self.keys)]
        if absent.size:
            raise ValueError(f"{some(absent)} {'is' if absent.size == 1 else 'are'} no key of the data")
        return np.flatnonzero(np.isin(self.keys, wanted)).astype(np.int32)


def _checked_keys(keys: Sequence[str] | np.ndarray, examples: int) -> np.ndarray:
    found = np.asarray(keys)
    if found.shape != (examples,) or found.dtype.kind != "U":
        raise ValueError(f"keys must be {examples} strings, one an example, got {found.dtype} of shape {found.shape}")
    values, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"key {str(values[counts > 1][0])!r} stands more than once: a key must name one example")
    return found


def init(
    rng_key: Array,
    method: Method,
    params: Params,
    data: Data,
    *,
    capacity: int,
    model_state: ModelState | None = None,
    remember: Sequence[int] | np.ndarray | None = None,
    refer: bool = False,
) -> CLUState:
    """The state before the first request.

    Args:
        rng_key: decides which examples the buffer keeps.
        method: the method.
        params: parameters of the model, trained or fresh.
        data: all examples.
        capacity: M ≥ 1, examples that the buffer holds.
        model_state: mutable statistics of the model; None = it has none.
        remember: rows that the model has learned already; the buffer keeps a uniform sample of them.
        refer: whether the buffer keeps row numbers in place of copies, and draws read `data`, whose inputs are a
            `streaming.HostArray`, a memory-mapped file for one: a buffer of millions takes 16 bytes an example. The
            file must stay as it is as long as the state is used.

    Raises:
        ValueError: a bad key or capacity, rows that the data lack, inputs on the device that are to be referred to,
            labels beyond the model's classes, a network or inputs that the method cannot serve.

    >>> from ugclu_jax import ug_clu
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> data = Data(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))
    >>> method = ug_clu(linear, num_classes=2)
    >>> state = init(jax.random.key(0), method, jnp.zeros((4, 2)), data, capacity=3, remember=range(4))
    >>> int(state.buffer.count)
    3
    """
    _check_key(rng_key)
    statistics = {} if model_state is None else model_state
    if method.apply_fn is not None:
        classes = number_of_classes(method.apply_fn, params, statistics, data.inputs)
        if classes < data.num_classes:
            raise ValueError(
                f"labels go up to {data.num_classes - 1}, and the model gives logits of {classes} classes: "
                f"they must be 0 … {classes - 1}"
            )
    if method.check is not None:
        method.check(params, statistics, data.inputs)
    source = data.inputs if isinstance(data.inputs, HostArray) else None
    if refer and source is None:
        raise ValueError("refer is for inputs in host memory, and these are on the device: give Data a HostArray")
    shape, dtype = data.inputs.shape[1:], data.inputs.dtype
    buffer = buffer_lib.init(capacity, shape, dtype, rng_key, source if refer else None)
    if remember is not None:
        buffer = insert(buffer, data[np.asarray(remember)])
    return CLUState(method.init(params, statistics), buffer)


def learn(
    rng_key: Array,
    method: Method,
    state: CLUState,
    task: Examples,
    hyper: AnyHyper | None = None,
    on_step: OnStep | None = None,
) -> tuple[CLUState, Info]:
    """Learn examples: one compiled program, used again for every request of the same bucket.

    Args:
        rng_key: of this request.
        method: the method.
        state: from `init` or the request before.
        task: `data[ids]`.
        hyper: the method's hyperparameters; None = its defaults.
        on_step: progress function, see `loop.request_loop`.

    Returns:
        `(state, info)`.

    Raises:
        ValueError: a request that cannot mean what it says, naming what was given, the rule and the fix.

    >>> from ugclu_jax import do_nothing
    >>> data = Data(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))
    >>> state = init(jax.random.key(0), do_nothing(), jnp.zeros(1), data, capacity=3)
    >>> state, info = learn(jax.random.key(1), do_nothing(), state, data[:2])
    >>> int(state.buffer.count)
    2
    """
    return serve("learn", rng_key, method, state, task, hyper, on_step)[:2]


def unlearn(
    rng_key: Array,
    method: Method,
    state: CLUState,
    task: Examples,
    hyper: AnyHyper | None = None,
    on_step: OnStep | None = None,
) -> tuple[CLUState, Info]:
    """Unlearn examples. Arguments as in `learn`, and so are result and errors.

    >>> from ugclu_jax import ug_clu
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> data = Data(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))
    >>> method = ug_clu(linear, num_classes=2)
    >>> empty = init(jax.random.key(0), method, jnp.zeros((4, 2)), data, capacity=3)
    >>> unlearn(jax.random.key(1), method, empty, data[:2])
    Traceback (most recent call last):
        ...
    ValueError: the buffer is empty, and ug_clu steps on what it holds: give init what was learned, remember=ids
    """
    return serve("unlearn", rng_key, method, state, task, hyper, on_step)[:2]


@functools.lru_cache(maxsize=4)
def _program(on_step: OnStep | None) -> RequestProgram:
    """Programs without a progress function are the same for all; one that reports to a bar goes with its bar."""
    return request_program(on_step=on_step)


def serve(
    kind: RequestKind,
    rng_key: Array,
    method: Method,
    state: CLUState,
    task: Examples,
    hyper: AnyHyper | None = None,
    on_step: OnStep | None = None,
) -> tuple[CLUState, Info, RequestCost]:
    """`learn` or `unlearn`, by the name of the kind, and what it cost. Arguments and errors are theirs.

    Returns:
        `(state, info, cost)`, the cost in seconds of the request and of its compilation, 0 where there was none.

    >>> from ugclu_jax import do_nothing
    >>> data = Data(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))
    >>> state = init(jax.random.key(0), do_nothing(), jnp.zeros(1), data, capacity=3)
    >>> state, info, cost = serve("learn", jax.random.key(1), do_nothing(), state, data[:2])
    >>> cost.seconds > 0
    True
    """
    _check_key(rng_key)
    method.update(kind)
    hyper = method.hyper[kind] if hyper is None else hyper
    check_request(method, kind, hyper)
    if not isinstance(state, CLUState):
        raise ValueError(f"state must be what init or the request before returned, got {type(state).__name__}")
    if not isinstance(task, Examples):
        raise ValueError(f"task must be examples of the data, data[ids], got {type(task).__name__}")
    if kind in method.rehearses and int(state.buffer.count) == 0:
        raise ValueError(
            f"the buffer is empty, and {method.name} steps on what it holds: give init what was learned, remember=ids"
        )
    return _program(on_step)(method, kind, rng_key, state, hyper, task)


def _check_key(rng_key: Array) -> None:
    if not isinstance(rng_key, jax.Array) or not jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key):
        raise ValueError("rng_key must be a key: jax.random.key(seed)")


class Components(NamedTuple):
    """The four gradient components, and the saliency mask; trees like params."""

    learning: Params | None  # g_L; None without new data
    unlearning: Params | None  # g_U, an ascent; None without data to remove
    preserving: Params  # g_R
    mask: PyTree | None  # modulation; of the data to remove, or else of the new data


def components(
    apply_fn: ApplyFn,
    params: Params,
    model_state: ModelState | None = None,
    *,
    remain: Batch,
    learn: Batch | None = None,
    unlearn: Batch | None = None,
    loss_exponent: Array | float = 0.5,
    mask: MaskKind = "hard",
    saliency: SaliencyKind = "fisher",
    saliency_threshold: Array | float = 1.0,
) -> Components:
    """All components of the steepest descent direction at once, on explicit batches; pure.

    Args:
        apply_fn: the model.
        params, model_state: the network; None = it has no mutable statistics.
        remain, learn, unlearn: batches `[B]` of remaining data, new data, data to remove.
        loss_exponent: λ ≥ 0 of the adaptive coefficients.
        mask, saliency, saliency_threshold: kind of mask, the statistic behind it, γ.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> parts = components(linear, jnp.zeros((1, 2)), remain=batch, unlearn=batch)
    >>> parts.unlearning.tolist(), parts.preserving.tolist(), parts.mask.tolist(), parts.learning
    ([[0.5, -0.5]], [[-0.5, 0.5]], [[1.0, 1.0]], None)

    References: arXiv 2505.15178, Proposition 1.
    """
    at = (apply_fn, params, {} if model_state is None else model_state)
    task = unlearn if unlearn is not None else learn
    if task is None:
        modulation = None
    else:
        of_task, of_remain = (
            STATISTICS[saliency](*at, jax.tree.map(lambda x: x[None], each)) for each in (task, remain)
        )
        modulation = make_mask(mask, of_task, of_remain, saliency_threshold, 1.0)
    return Components(
        learning=None if learn is None else learning_gradient(*at, learn, adaptive("learn", loss_exponent)).gradient,
        unlearning=None
        if unlearn is None
        else unlearning_gradient(*at, unlearn, adaptive("unlearn", loss_exponent)).gradient,
        preserving=preserving_gradient(*at, remain).gradient,
        mask=modulation,
    )
