"""The methods of a configuration, each made to fill the budget of gradient evaluations that UG-CLU spends."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from ugclu_jax import ugclu
from ugclu_jax.descent import DescentHyper, DescentSettings
from ugclu_jax.devices import check_batch_sizes
from ugclu_jax.harness.catalogue import LEARN_VARIANTS, REFERENCES, VARIANTS, serves, split_name
from ugclu_jax.harness.config import ExperimentConfig, from_dict, merge, nearest
from ugclu_jax.learner import combine
from ugclu_jax.methods import do_nothing, retrain
from ugclu_jax.oracle import InitFn
from ugclu_jax.ranges import check_hyper
from ugclu_jax.types import ApplyFn, Hyper, Method, PyTree, RequestKind
from ugclu_jax.ugclu import UGCLUSettings, ug_clu


class Context(NamedTuple):
    """What a method may be made from."""

    apply_fn: ApplyFn
    init_fn: InitFn
    num_classes: int
    num_examples: int  # of the training split
    largest_task: int  # rows of the largest request, padding included
    on_step: Callable | None = None
    devices: int = 1  # that divide every batch


class Entry(NamedTuple):
    """A method with the hyperparameters of each kind of request."""

    method: Method
    hyper: dict[str, PyTree]  # by kind
    learner: str  # methods of one learner learn by one function, with the same values


def ug_clu_settings(config: ExperimentConfig, name: str, kind: RequestKind) -> tuple[UGCLUSettings, Hyper]:
    """Settings of UG-CLU or a variant: the configuration's, the variant's change, and what `references` says of it."""
    base = config.learn if kind == "learn" else config.unlearn
    if "ug_clu" in config.references:
        raise ValueError("references.ug_clu: UG-CLU's settings are 'learn' and 'unlearn'; move them there")
    change = (LEARN_VARIANTS if kind == "learn" else VARIANTS).get(name, {})
    values = merge(dataclasses.asdict(base), merge(change, config.references.get(name, {})))
    where = f"references.{name}."
    settings = from_dict(UGCLUSettings, values["settings"], where + "settings.")
    hyper = from_dict(Hyper, values["hyper"], where + "hyper.")
    check_hyper(hyper, where + "hyper.")
    return settings, hyper


def reference_settings(config: ExperimentConfig, name: str) -> tuple[DescentSettings, DescentHyper]:
    """Settings of a method of the field: its defaults, and what the configuration says of it.

    Raises:
        ValueError: an unknown setting, a value out of its range, or a number of steps, which the budget gives.
    """
    reference, where = REFERENCES[name], f"references.{name}."
    given = config.references.get(name, {})
    for key in given:
        if key not in ("settings", "hyper"):
            raise ValueError(f"unknown setting {where + key!r}; {nearest(key, ('settings', 'hyper'))}")
    if "steps" in given.get("settings", {}):
        raise ValueError(f"{where}settings.steps must be left out: the budget of gradient evaluations decides it")
    values = merge(
        {"settings": dataclasses.asdict(reference.settings), "hyper": dataclasses.asdict(reference.hyper)}, given
    )
    settings = from_dict(type(reference.settings), values["settings"], where + "settings.")
    hyper = from_dict(type(reference.hyper), values["hyper"], where + "hyper.")
    check_hyper(hyper, where + "hyper.")
    return settings, hyper


def steps_within(budget: float, cost_of: Callable[[int], float]) -> int:
    """Most steps that cost at most `budget`, where the cost is affine in them; 0 where not even the start is paid.

    >>> steps_within(10.0, lambda steps: 3.0 + 2.0 * steps)
    3
    """
    start = cost_of(0)
    return max(0, math.floor((budget - start) / (cost_of(1) - start) + 1e-9))


def budget(config: ExperimentConfig, kind: RequestKind) -> float:
    """Gradient evaluations of a request: what UG-CLU spends under the configuration."""
    base = config.learn if kind == "learn" else config.unlearn
    return ugclu.gradient_evaluations(base.settings, config.capacity)


def build(config: ExperimentConfig, context: Context) -> dict[str, Entry]:
    """The methods of `config.methods`, each within the budget of gradient evaluations of UG-CLU.

    Retraining is exact and has no budget. A variant of UG-CLU takes as many outer steps as the budget pays.

    Raises:
        ValueError: an unknown method or setting, a hyperparameter out of range, or a budget too small for a method.
    """
    for name in config.references:
        serves(name)
    parts: dict[tuple[str, RequestKind], tuple[Method, PyTree]] = {}
    entries = {}
    for name in config.methods:
        learner, unlearner = split_name(name)
        for part, kind in ((learner, "learn"), (unlearner, "unlearn")):
            if (part, kind) not in parts:
                parts[part, kind] = _make(config, context, part, kind)
        (learn, learn_hyper), (unlearn, unlearn_hyper) = parts[learner, "learn"], parts[unlearner, "unlearn"]
        hyper = {"learn": learn_hyper, "unlearn": unlearn_hyper}
        entries[name] = Entry(combine(learn=learn, unlearn=unlearn), hyper, learner)
    return entries


def _make(config: ExperimentConfig, context: Context, name: str, kind: RequestKind) -> tuple[Method, PyTree]:
    usual = {"num_classes": context.num_classes, "on_step": context.on_step}
    if name == "do_nothing":
        return do_nothing.do_nothing(), ()
    if name == "retrain":
        method = retrain.retrain(
            context.apply_fn, config.oracle, init_fn=context.init_fn, num_examples=context.num_examples, **usual
        )
        return method, ()
    allowed = budget(config, kind)
    if name in REFERENCES:
        reference = REFERENCES[name]
        settings, hyper = reference_settings(config, name)
        steps = steps_within(
            allowed, lambda n: reference.cost(dataclasses.replace(settings, steps=n), config.capacity, kind)
        )
        _refuse_no_steps(name, kind, steps, allowed)
        more = {key: config.capacity if key == "capacity" else getattr(context, key) for key in reference.needs}
        _check_batch_sizes(settings, context, f"references.{name}.settings.")
        return reference.make(context.apply_fn, dataclasses.replace(settings, steps=steps), **more, **usual), hyper
    settings, hyper = ug_clu_settings(config, name, kind)
    _check_batch_sizes(settings, context, f"--{kind}.settings." if name == "ug_clu" else f"references.{name}.settings.")
    rows = context.largest_task if kind == "unlearn" else 0
    cost = functools.partial(ugclu.gradient_evaluations, capacity=config.capacity, task_rows=rows)
    # One outer step is the least that UG-CLU has: its cost at none follows from those of one and two.
    one, two = (cost(dataclasses.replace(settings, outer_steps=n)) for n in (1, 2))
    steps = steps_within(allowed, lambda n: one + (n - 1) * (two - one))
    _refuse_no_steps(name, kind, steps, allowed)
    settings = dataclasses.replace(settings, outer_steps=steps)
    # The other kind's settings are not used: `combine` takes one function of each.
    learn, unlearn = (settings, UGCLUSettings()) if kind == "learn" else (UGCLUSettings(), settings)
    return ug_clu(context.apply_fn, learn, unlearn, **usual), hyper


def _check_batch_sizes(settings: UGCLUSettings | DescentSettings, context: Context, where: str) -> None:
    sizes = {where + name: getattr(settings, name) for name in ("task_batch_size", "remain_batch_size")}
    check_batch_sizes(sizes, context.devices)


def _refuse_no_steps(name: str, kind: RequestKind, steps: int, allowed: float) -> None:
    if steps < 1:
        raise ValueError(
            f"the budget of {allowed:g} gradient evaluations leaves no step for {name} to {kind}: give UG-CLU more "
            f"--{kind}.settings.outer-steps, or {name} fewer batches for its statistics"
        )
