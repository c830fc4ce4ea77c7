"""What can be done with a request that is one differentiable, vmappable function: hypergradients, sweeps, tuning."""

from ugclu_jax.tuning.hypergradients import HyperGradient, Mode, hypergradient, over_problems
from ugclu_jax.tuning.joint import JointObjective, matched_energy
from ugclu_jax.tuning.objectives import Objective, expected_accuracy, kl_to_oracle
from ugclu_jax.tuning.points import at, grid, random, sobol
from ugclu_jax.tuning.problem import Problem, serve
from ugclu_jax.tuning.scores import matched_score
from ugclu_jax.tuning.sweeps import Sweep, sweep
from ugclu_jax.tuning.tuner import Tuned, TuningStep, tune

__all__ = [
    "HyperGradient",
    "JointObjective",
    "Mode",
    "Objective",
    "Problem",
    "Sweep",
    "Tuned",
    "TuningStep",
    "at",
    "expected_accuracy",
    "grid",
    "hypergradient",
    "kl_to_oracle",
    "matched_energy",
    "matched_score",
    "over_problems",
    "random",
    "serve",
    "sobol",
    "sweep",
    "tune",
]
