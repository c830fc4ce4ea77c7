"""Shapes, trees and contracts that every other module speaks; no arithmetic.

Axes, used in every docstring of the library: B batch, C classes, K outer steps, J inner steps, N examples of a
dataset, P padded request, M buffer capacity, T requests, S seeds, G groups of a test set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import jax

from ugclu_jax.ranges import NORM_BOUND, POSITIVE, SHARE, Interval
from ugclu_jax.streaming import HostArray, ShardedArray

Array = jax.Array
PyTree = Any
Params = PyTree
ModelState = PyTree
Scalar = float
"""A number where it is written down, a traced scalar array inside a compiled program."""
RequestKind = Literal["learn", "unlearn"]
REQUEST_KINDS: tuple[RequestKind, ...] = ("learn", "unlearn")


Augment = Callable[[Array, Array], Array]
"""`(rng_key, inputs [B, ...]) -> inputs` of the same shape and type, as stored."""


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


class Batch(NamedTuple):
    """Examples given by value. A weight of 0 marks padding, which counts nowhere."""

    inputs: Array  # [B, ...] as stored
    labels: Array  # [B] int32
    weights: Array  # [B] float, 0 or 1
    targets: Array | None = None  # [B, C] distributions that stand in for the labels, or None where the labels count


class Examples(NamedTuple):
    """Examples given by id: rows of arrays, padded to a bucket size P. Inputs are read by `streaming.take`.

    Here the id of an example is its row in the training arrays at hand, int32; the stable id, which outlives cuts of
    the data set, is `Dataset.train_ids[row]`. Rows `ids[count:]` are padding and hold -1.
    """

    inputs: Array | HostArray | ShardedArray  # [N, ...] as stored, on the device, in host memory, or over devices
    labels: Array  # [N] int32
    ids: Array  # [P] int32
    count: Array  # [] int32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Every continuous setting of UG-CLU as a tree of scalars: traced, so one compiled program serves all values.

    Ranges are checked by `ugclu_jax.ranges.check_hyper`; under a trace every field holds an array.
    """

    ranges: ClassVar[Mapping[str, Interval]] = {
        "slow_step_size": SHARE,
        "mask_temperature": POSITIVE,
        "clip_norm": NORM_BOUND,
        "distillation_weight": SHARE,
    }

    fast_learning_rate: Scalar = 0.03
    """β_Q ≥ 0, step size of the fast step on the task; in code also a tree, one a layer, see `fast_slow.Rates`."""
    remain_learning_rate: Scalar = 0.15
    """β_R ≥ 0, step size of the inner steps on remaining data; likewise."""
    slow_step_size: Scalar = 1.0
    """α in [0, 1], how far the parameters follow the inner steps."""
    loss_exponent: Scalar = 0.5
    """λ ≥ 0, how much the coefficients depend on the loss; 0 = not at all."""
    saliency_threshold: Scalar = 1.0
    """γ ≥ 0, threshold of the mask; 0 frees every weight."""
    mask_temperature: Scalar = 1.0
    """τ > 0, of the soft and the straight-through mask."""
    clip_norm: Scalar = 1.0
    """> 0, largest global norm of the masked task gradient; inf = no clipping."""
    remain_weight_decay: Scalar = 0.0
    """≥ 0, weight decay added to the remaining gradient."""
    distillation_weight: Scalar = 0.5
    """δ in [0, 1], weight of the teacher against the labels in the inner steps; read where they distil."""


EVALUATION_EXAMPLES = 64
"""One gradient evaluation, the unit of cost, is a forward and backward pass over this many examples."""
FORWARD_COST = 1 / 3
"""What a forward pass alone counts of it: the backward pass costs about twice as much."""


class MethodState(NamedTuple):
    """What a method hands to the next request: the network and whatever else the method keeps.

    `extra` is a dictionary with one entry a method that keeps something, under the method's name; a method hands on the
    entries of others as they are, so that one may learn and another unlearn.
    """

    params: Params
    model_state: ModelState
    extra: dict[str, PyTree] = {}  # noqa: RUF012, never written to


class Info(NamedTuple):
    """What the reader of a plot needs of one request; never read by the next one. Methods fill what they have."""

    task_losses: Array  # [K] mean loss of the task batch at the start of the outer step
    remain_losses: Array  # [K, J] mean loss of each inner step's batch
    fast_norms: Array  # [K] global norm of the masked, unclipped task direction
    clipped: Array  # [K] bool, whether clipping was active
    displacement_norms: Array  # [K] global norm of params_{k+1} − params_k
    mask_density: PyTree  # share of weights that may change, one scalar a leaf of params
    gradient_evaluations: Array  # [] float, in units of EVALUATION_EXAMPLES; saliency included


def keep_no_track(kind: RequestKind, extra: dict[str, PyTree], task: Examples) -> dict[str, PyTree]:
    """The `track` of a method that keeps nothing of single examples."""
    return extra


class Method(NamedTuple):
    """A continual learning-unlearning method: pure functions, like an optax transformation.

    `track(kind, extra, task) -> extra` is called before every request, whichever method serves it: there a method that
    keeps something of single examples (their outputs, which of them are retained) brings that up to date, and blanks
    what it kept of examples to unlearn.
    """

    init: Callable[[Params, ModelState], MethodState]
    learn: Callable[..., tuple[MethodState, Info]]
    unlearn: Callable[..., tuple[MethodState, Info]]
    track: Callable[[RequestKind, dict[str, PyTree], Examples], dict[str, PyTree]] = keep_no_track
