"""The methods an experiment can name, each built from the experiment's configuration."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

from experiments.config import ExperimentConfig, nearest
from ugclu_jax.learner import combine
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.finetune_remain import FinetuneSettings, finetune_remain
from ugclu_jax.types import EVALUATION_EXAMPLES, ApplyFn, Method, PyTree
from ugclu_jax.ugclu import UGCLUSettings, check_hyper, ug_clu


class Entry(NamedTuple):
    """A method with the hyperparameters of each kind of request."""

    method: Method
    hyper: dict[str, PyTree]  # by kind


METHODS = ("ug_clu", "do_nothing", "finetune_remain")


def examples_of(settings: UGCLUSettings) -> int:
    """Examples that pass forward and backward in one request of UG-CLU, saliency included.

    >>> examples_of(UGCLUSettings(outer_steps=1, inner_steps=2, mask="none"))
    192
    """
    saliency = 0 if settings.mask == "none" else 2 * settings.saliency_batches * settings.task_batch_size
    return saliency + settings.outer_steps * (
        settings.task_batch_size + settings.inner_steps * settings.remain_batch_size
    )


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
        if not 0 <= value < math.inf:
            raise ValueError(f"finetune.{name} must be in [0, ∞), got {value:g}")
    unified = ug_clu(apply_fn, config.learn.settings, config.unlearn.settings, num_classes=num_classes, on_step=on_step)
    # Equal budget: as many examples as UG-CLU's unlearn request passes.
    steps = examples_of(config.unlearn.settings) // EVALUATION_EXAMPLES
    finetune = finetune_remain(
        apply_fn,
        FinetuneSettings(steps=steps, batch_size=EVALUATION_EXAMPLES),
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
