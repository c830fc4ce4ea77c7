"""Continual learning and unlearning as one gradient-based problem: UG-CLU as pure functions over pytrees.

References: arXiv 2505.15178.
"""

from ugclu_jax.api import Components, Data, components, init, learn, unlearn
from ugclu_jax.at import At
from ugclu_jax.coefficients import adaptive, uniform
from ugclu_jax.combination import combine
from ugclu_jax.components import (
    Component,
    Shares,
    euclidean_direction,
    learning_gradient,
    modulate,
    preserving_gradient,
    unlearning_gradient,
)
from ugclu_jax.decay import decay_budget
from ugclu_jax.descent import Batches, Direction, Report, descent
from ugclu_jax.fast_slow import fast_slow_step, fast_step, inner_steps, slow_step
from ugclu_jax.learner import CLUState, apply_request, predict_program, request_program
from ugclu_jax.loop import request_loop
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.oracle import OracleSettings, oracle_program, train_from_scratch
from ugclu_jax.ranges import check_hyper
from ugclu_jax.requests import Request, split_classes, task_aware
from ugclu_jax.saliency import (
    batch_fisher,
    density,
    fisher,
    gradient_statistic,
    hard_mask,
    soft_mask,
    straight_through_mask,
)
from ugclu_jax.stepping import BufferSettings, DescentHyper, DescentSettings, StepHyper, TaskSettings
from ugclu_jax.types import (
    ApplyFn,
    Batch,
    Buffer,
    Examples,
    Execution,
    Info,
    Memory,
    Method,
    MethodState,
    UpdateFn,
)
from ugclu_jax.ugclu import UGCLUHyper, UGCLUSettings, ug_clu
from ugclu_jax.version import __version__
from ugclu_jax.walk import Oracle, Step, run

__all__ = [
    "ApplyFn",
    "At",
    "Batch",
    "Batches",
    "Buffer",
    "BufferSettings",
    "CLUState",
    "Component",
    "Components",
    "Data",
    "DescentHyper",
    "DescentSettings",
    "Direction",
    "Examples",
    "Execution",
    "Info",
    "Memory",
    "Method",
    "MethodState",
    "Oracle",
    "OracleSettings",
    "Report",
    "Request",
    "Shares",
    "Step",
    "StepHyper",
    "TaskSettings",
    "UGCLUHyper",
    "UGCLUSettings",
    "UpdateFn",
    "__version__",
    "adaptive",
    "apply_request",
    "batch_fisher",
    "check_hyper",
    "combine",
    "components",
    "decay_budget",
    "density",
    "descent",
    "do_nothing",
    "euclidean_direction",
    "fast_slow_step",
    "fast_step",
    "fisher",
    "gradient_statistic",
    "hard_mask",
    "init",
    "inner_steps",
    "learn",
    "learning_gradient",
    "modulate",
    "oracle_program",
    "predict_program",
    "preserving_gradient",
    "request_loop",
    "request_program",
    "run",
    "slow_step",
    "soft_mask",
    "split_classes",
    "straight_through_mask",
    "task_aware",
    "train_from_scratch",
    "ug_clu",
    "uniform",
    "unlearn",
    "unlearning_gradient",
]
