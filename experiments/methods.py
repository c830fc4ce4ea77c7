"""The methods an experiment can name, each built from the experiment's configuration."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

from experiments.config import ExperimentConfig, nearest
from ugclu_jax.descent import DescentSettings
from ugclu_jax.learner import combine
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.types import EVALUATION_EXAMPLES, ApplyFn, Method, PyTree
from ugclu_jax.ugclu import check_hyper, gradient_evaluations, ug_clu


class Entry(NamedTuple):
    """A method with the hyperparameters of each kind of request."""

    method: Method
    hyper: dict[str, PyTree]  # by kind


METHODS = ("ug_clu", "do_nothing", "finetune_remain")


def build(config: ExperimentConfig, apply_fn: ApplyFn, num_classes: int, on_step: Callable | None) -> dict[str, Entry]:
    """The methods of `config.methods`: all learn by UG-CLU, so that they differ in how they unlearn.

    Raises:
        ValueError: an unknown method, or a hyperparameter out of range.
    """
    for name in config.methods:
        if name not in METHODS:
            raise ValueError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    for kind in (config.learn, config.unlearn):
        check_hyper(kind.hyper)
    for name, value in dataclasses.asdict(config.finetune).items():
        highest = 1.0 if name in ("momentum", "distillation_weight") else math.inf
        if not 0 <= value <= highest or math.isinf(value):
            raise ValueError(f"finetune.{name} must be in [0, {'1]' if highest == 1 else '∞)'}, got {value:g}")
    unified = ug_clu(apply_fn, config.learn.settings, config.unlearn.settings, num_classes=num_classes, on_step=on_step)
    # Equal budget: UG-CLU's unlearn request, but for the teacher, which both have if one has it.
    settings = config.unlearn.settings
    steps = int(gradient_evaluations(dataclasses.replace(settings, distillation=False), config.capacity))
    finetune = finetune_remain(
        apply_fn,
        DescentSettings(steps=steps, remain_batch_size=EVALUATION_EXAMPLES, distillation=settings.distillation),
        num_classes=num_classes,
        on_step=on_step,
    )
    entries = {
        "ug_clu": Entry(unified, {"learn": config.learn.hyper, "unlearn": config.unlearn.hyper}),
        "do_nothing": Entry(combine(learn=unified, unlearn=do_nothing()), {"learn": config.learn.hyper, "unlearn": ()}),
        "finetune_remain": Entry(
            combine(learn=unified, unlearn=finetune), {"learn": config.learn.hyper, "unlearn": config.finetune}
        ),
    }
    return {name: entries[name] for name in config.methods}
