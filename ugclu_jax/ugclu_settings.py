"""Settings of UG-CLU and what a request costs under them. No formula."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import jax

from ugclu_jax.ranges import KEPT_SHARE, NORM_BOUND, POSITIVE, SHARE
from ugclu_jax.saliency import MaskKind, SaliencyKind
from ugclu_jax.stepping import check_settings
from ugclu_jax.types import EVALUATION_EXAMPLES, FORWARD_COST, Scalar

InnerData = Literal["buffer", "mixed"]
UnlearnLoss = Literal["ascent", "bounded", "target"]
Levels = Literal["class", "midpoint"]
Manifold = Literal["fast_slow", "euclidean"]
FastStepKind = Literal["budget", "rate", "none"]
Preconditioner = Literal["adam", "sgd"]
InnerSchedule = Literal["constant", "outer", "inner"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UGCLUHyper:
    """Every continuous setting of UG-CLU as a tree of scalars: traced, so one compiled program serves all values.

    A range stands beside a field where it is not [0, ∞); under a trace every field holds an array.
    """

    output_budget: Scalar = 0.06
    """δ ≥ 0, nats by which the fast step moves the outputs on the task, times the mean probability that is left to move
    there, that of labels to unlearn or that which labels to learn still lack; read where `fast_step` is "budget"."""
    fast_learning_rate: Scalar = 0.03
    """β_Q ≥ 0, step size of the fast step; read where it is "rate". In code also a tree, one a layer, `trees.Rates`."""
    remain_learning_rate: Scalar = 0.0064
    """β_R ≥ 0, step size of the inner steps on remaining data; likewise a number or a tree."""
    kept_share: Annotated[Scalar, KEPT_SHARE] = 0.61
    """ρ in (0, 1], what is left after a request of a weight that no gradient touches; 1 = no decay. Exact at α = 1."""
    slow_step_size: Annotated[Scalar, SHARE] = 1.0
    """α in [0, 1], how far the parameters follow the inner steps."""
    loss_exponent: Scalar = 0.0
    """λ ≥ 0, how much the coefficients depend on the loss; 0 = not at all."""
    saliency_threshold: Scalar = 1.0
    """γ ≥ 0, threshold of the mask; 0 frees every weight."""
    mask_temperature: Annotated[Scalar, POSITIVE] = 1.0
    """τ > 0, of the soft and the straight-through mask."""
    clip_norm: Annotated[Scalar, NORM_BOUND] = math.inf
    """> 0, largest global norm of the masked task gradient, inf = no clipping; a budget sets the length itself."""
    remain_clip_norm: Annotated[Scalar, NORM_BOUND] = math.inf
    """> 0, largest global norm of a gradient of remaining data, before it is preconditioned; inf = no clipping."""
    remain_weight_decay: Scalar = 0.0
    """≥ 0, weight decay added to the remaining gradient."""
    distillation_weight: Annotated[Scalar, SHARE] = 0.11
    """Weight in [0, 1] of the teacher against the labels in the inner steps; read where they distil."""


@dataclass(frozen=True)
class UGCLUSettings:
    """Static settings of one kind of request: a new value compiles a new program.

    Raises:
        ValueError: a size below its bound, or an unknown choice.

    >>> UGCLUSettings(outer_steps=0)
    Traceback (most recent call last):
        ...
    ValueError: outer_steps must be at least 1, got 0
    """

    outer_steps: int = 10
    """K, outer steps of a request."""
    inner_steps: int = 20
    """K_in, inner steps on remaining data in each outer step."""
    task_batch_size: int = 64
    """Examples of the task in a fast step."""
    remain_batch_size: int = 64
    """Examples of an inner step."""
    fast_step: FastStepKind = "budget"
    """The fast step: as long as the outputs may move, see `output_budget`; of a given rate, see `fast_slow`; or none,
    which draws no batch of the task."""
    preconditioner: Preconditioner = "adam"
    """Of the inner steps; "adam" keeps its state over a request, with decays of .9 and .99."""
    inner_schedule: InnerSchedule = "inner"
    """Whether the rate of the inner steps stays, falls with each outer step, or with each of its own."""
    inner_data: InnerData = "buffer"
    """Inner steps see the buffer alone, or a class-balanced mix of buffer and task (learning only)."""
    mask: MaskKind = "none"
    """Saliency mask of the fast step."""
    saliency: SaliencyKind = "fisher"
    """Statistic behind the mask."""
    saliency_batches: int = 8
    """Batches of the task, and as many of the buffer, that the statistic reads."""
    coefficient_decay: bool = True
    """Whether the coefficients of the fast step fall with the share of the request that is left."""
    distillation: bool = False
    """Whether the network at the start of the request teaches the inner steps, on examples of the buffer."""
    keep_fast_statistics: bool = False
    """Whether BatchNorm statistics of the fast step are kept; they are of one task only."""
    unlearn_loss: UnlearnLoss = "ascent"
    """The task's component when unlearning: the paper's ascent, or one with an end, see `bounded`; these read no λ."""
    levels: Levels = "class"
    """Where the ends of "bounded" and "target" come from: classes of the buffer, or midpoints, see `midpoints`."""
    manifold: Manifold = "fast_slow"
    """The fast-slow update, or K_in steps along the Euclidean direction, see `euclidean`; these read no β_Q and no α,
    and need a `fast_step` of "rate"."""

    rematerialise: bool = False
    """Whether reverse-mode derivatives of a request compute steps again instead of keeping every activation."""

    def __post_init__(self) -> None:
        sizes = {"outer_steps": 1, "inner_steps": 0, "task_batch_size": 1, "remain_batch_size": 1}
        choices = {"fast_step": FastStepKind, "preconditioner": Preconditioner, "inner_schedule": InnerSchedule}
        more = {"inner_data": InnerData, "mask": MaskKind, "saliency": SaliencyKind, "unlearn_loss": UnlearnLoss}
        rest = {"levels": Levels, "manifold": Manifold}
        check_settings(self, {**sizes, "saliency_batches": 1}, {**choices, **more, **rest})
        if self.manifold == "euclidean" and self.inner_steps == 0:
            raise ValueError("manifold 'euclidean' needs inner_steps of at least 1, got 0: it has no other steps")
        if self.manifold == "euclidean" and self.fast_step != "rate":
            raise ValueError(
                f"manifold 'euclidean' needs fast_step 'rate', got {self.fast_step!r}: it has no fast step"
            )
        if self.fast_step == "none" and self.mask != "none":
            raise ValueError(f"fast_step 'none' needs mask 'none', got {self.mask!r}: there is no step to mask")
        if self.fast_step == "none" and self.unlearn_loss != "ascent":
            raise ValueError(
                f"fast_step 'none' needs unlearn_loss 'ascent', got {self.unlearn_loss!r}: there is no step to end"
            )
        if self.levels == "midpoint" and self.unlearn_loss == "ascent":
            raise ValueError("levels 'midpoint' needs unlearn_loss 'bounded' or 'target', got 'ascent': it has no end")


LEARNING = UGCLUSettings(outer_steps=120, inner_steps=5, fast_step="none", inner_data="mixed", distillation=True)
"""Of learn requests. The fast step is off: at equal cost it made no learner better, see the results."""
LEARNING_HYPER = UGCLUHyper(remain_learning_rate=2e-3, kept_share=1.0, distillation_weight=0.8)
UNLEARNING = UGCLUSettings(distillation=True)
"""Of unlearn requests."""
UNLEARNING_HYPER = UGCLUHyper()
"""One setting for everything, chosen by `experiments.search` on seeds that no table reports: see the results."""


def gradient_evaluations(settings: UGCLUSettings, capacity: int, task_rows: int = 0) -> float:
    """Cost of one request in units of `EVALUATION_EXAMPLES`, saliency and every forward pass included.

    Args:
        settings: of the request.
        capacity: M; distillation and the class levels of `unlearn_loss = "bounded"` share one forward pass over it.
        task_rows: P, padding included; the class levels of `unlearn_loss = "target"` pass over them once.

    >>> plain = UGCLUSettings(outer_steps=1, inner_steps=2, fast_step="rate")
    >>> gradient_evaluations(plain, capacity=0)
    3.0
    """
    saliency = 0 if settings.mask == "none" else 2 * settings.saliency_batches * settings.task_batch_size
    by_class = settings.levels == "class"
    rows = capacity if settings.distillation or (settings.unlearn_loss == "bounded" and by_class) else 0
    rows += task_rows if settings.unlearn_loss == "target" and by_class else 0
    # The probe of a budget passes forward once, and each example has two midpoints.
    task = 0.0 if settings.fast_step == "none" else 1.0 + FORWARD_COST * (settings.fast_step == "budget")
    task += 0.0 if by_class else 2 * FORWARD_COST
    steps = settings.outer_steps * (task * settings.task_batch_size + settings.inner_steps * settings.remain_batch_size)
    return (saliency + FORWARD_COST * rows + steps) / EVALUATION_EXAMPLES
