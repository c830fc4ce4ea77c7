"""Continual learning and unlearning as one gradient-based problem: UG-CLU as pure functions over pytrees.

References: arXiv 2505.15178.
"""

from ugclu_jax.buffer import Buffer
from ugclu_jax.coefficients import adaptive, uniform
from ugclu_jax.components import (
    Component,
    Shares,
    euclidean_direction,
    learning_gradient,
    modulate,
    preserving_gradient,
    unlearning_gradient,
)
from ugclu_jax.fast_slow import fast_slow_step, fast_step, inner_steps, request_loop, slow_step
from ugclu_jax.learner import CLUState, apply_request, combine, predict_program, request_program
from ugclu_jax.oracle import OracleSettings, oracle_program, train_from_scratch
from ugclu_jax.ranges import check_hyper
from ugclu_jax.saliency import (
    batch_fisher,
    density,
    fisher,
    gradient_statistic,
    hard_mask,
    soft_mask,
    straight_through_mask,
)
from ugclu_jax.types import ApplyFn, Batch, Examples, Hyper, Info, Method, MethodState
from ugclu_jax.ugclu import UGCLUSettings, ug_clu

__all__ = [
    "ApplyFn",
    "Batch",
    "Buffer",
    "CLUState",
    "Component",
    "Examples",
    "Hyper",
    "Info",
    "Method",
    "MethodState",
    "OracleSettings",
    "Shares",
    "UGCLUSettings",
    "adaptive",
    "apply_request",
    "batch_fisher",
    "check_hyper",
    "combine",
    "density",
    "euclidean_direction",
    "fast_slow_step",
    "fast_step",
    "fisher",
    "gradient_statistic",
    "hard_mask",
    "inner_steps",
    "learning_gradient",
    "modulate",
    "oracle_program",
    "predict_program",
    "preserving_gradient",
    "request_loop",
    "request_program",
    "slow_step",
    "soft_mask",
    "straight_through_mask",
    "train_from_scratch",
    "ug_clu",
    "uniform",
    "unlearning_gradient",
]
