"""The methods an experiment can name: how each is made, what it costs, and how it fills a budget.

A name is `LEARNER+UNLEARNER`, each of them one of `METHODS` that does its kind of request. One name alone stands for an
unlearner behind UG-CLU's learning (a reference like `do_nothing` too), for a learner before UG-CLU's unlearning, or for
a method that does both.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.config import ExperimentConfig, from_dict, merge, nearest
from ugclu_jax import ugclu
from ugclu_jax.descent import DescentHyper, DescentSettings
from ugclu_jax.learner import combine
from ugclu_jax.methods import (
    agem,
    bad_teacher,
    clpu_der_pp,
    der,
    do_nothing,
    er,
    ewc,
    finetune,
    finetune_remain,
    gradient_ascent,
    joint,
    l1_sparse,
    lwf,
    neg_grad_plus,
    random_label,
    retrain,
    salun,
    scrub,
    sfron,
    uniclun,
)
from ugclu_jax.oracle import InitFn
from ugclu_jax.types import ApplyFn, Hyper, Method, PyTree, RequestKind
from ugclu_jax.ugclu import UGCLUSettings, check_hyper, ug_clu

Range = tuple[float, float]


class Context(NamedTuple):
    """What a method may be made from."""

    apply_fn: ApplyFn
    init_fn: InitFn
    num_classes: int
    num_examples: int  # of the training split
    largest_task: int  # rows of the largest request, padding included
    on_step: Callable | None = None


class Entry(NamedTuple):
    """A method with the hyperparameters of each kind of request."""

    method: Method
    hyper: dict[str, PyTree]  # by kind
    learner: str  # methods of one learner learn by one function, with the same values


class Reference(NamedTuple):
    """A method of the field.

    Attributes:
        kinds: of requests that it serves.
        make: from context and settings.
        cost: gradient evaluations of a request, from settings, capacity and kind; affine in `settings.steps`.
        settings, hyper: its defaults.
        needs: fields of the context, and "capacity", that its factory takes beside the usual ones.
        ranges: hyperparameters to search, each from its lowest to its highest value, on a logarithmic scale.
    """

    kinds: tuple[RequestKind, ...]
    make: Callable[..., Method]
    cost: Callable[[Any, int, RequestKind], float]
    settings: DescentSettings = DescentSettings()
    hyper: DescentHyper = DescentHyper()
    needs: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = {}


def _same_cost(cost: Callable[[Any, int], float]) -> Callable[[Any, int, RequestKind], float]:
    return lambda settings, capacity, kind: cost(settings, capacity)


_LEARN: tuple[RequestKind, ...] = ("learn",)
_UNLEARN: tuple[RequestKind, ...] = ("unlearn",)
_BOTH: tuple[RequestKind, ...] = ("learn", "unlearn")
_RATE: Range = (0.003, 0.3)
_SHARE: Range = (0.3, 0.99)
REFERENCES: Mapping[str, Reference] = {
    "finetune": Reference(
        _LEARN, finetune.finetune, _same_cost(finetune.gradient_evaluations), ranges={"learning_rate": _RATE}
    ),
    "er": Reference(_LEARN, er.er, _same_cost(er.gradient_evaluations), ranges={"learning_rate": _RATE}),
    "der": Reference(
        _LEARN,
        der.der,
        _same_cost(der.gradient_evaluations),
        hyper=der.DERHyper(),
        needs=("capacity",),
        ranges={"learning_rate": _RATE, "logit_weight": (0.03, 1.0)},
    ),
    "der_pp": Reference(
        _LEARN,
        der.der_pp,
        lambda settings, capacity, kind: der.gradient_evaluations(settings, capacity, plus_plus=True),
        hyper=der.DERPPHyper(),
        needs=("capacity",),
        ranges={"learning_rate": _RATE, "logit_weight": (0.03, 1.0), "label_weight": (0.1, 2.0)},
    ),
    "ewc": Reference(
        _LEARN,
        ewc.ewc,
        _same_cost(ewc.gradient_evaluations),
        ewc.EWCSettings(),
        ewc.EWCHyper(),
        ranges={"learning_rate": _RATE, "penalty_weight": (1.0, 1000.0)},
    ),
    "lwf": Reference(
        _LEARN,
        lwf.lwf,
        _same_cost(lwf.gradient_evaluations),
        hyper=lwf.LwFHyper(),
        ranges={"learning_rate": _RATE, "old_class_weight": (0.1, 10.0)},
    ),
    "agem": Reference(_LEARN, agem.agem, _same_cost(agem.gradient_evaluations), ranges={"learning_rate": _RATE}),
    "joint": Reference(
        _BOTH,
        joint.joint,
        _same_cost(joint.gradient_evaluations),
        needs=("num_examples",),
        ranges={"learning_rate": _RATE},
    ),
    "gradient_ascent": Reference(
        _UNLEARN,
        gradient_ascent.gradient_ascent,
        _same_cost(gradient_ascent.gradient_evaluations),
        hyper=gradient_ascent.GradientAscentHyper(),
        ranges={"learning_rate": (1e-5, 0.03), "clip_norm": (0.3, 10.0)},
    ),
    "finetune_remain": Reference(
        _BOTH,
        finetune_remain.finetune_remain,
        _same_cost(finetune_remain.gradient_evaluations),
        ranges={"learning_rate": _RATE},
    ),
    "neg_grad_plus": Reference(
        _UNLEARN,
        neg_grad_plus.neg_grad_plus,
        _same_cost(neg_grad_plus.gradient_evaluations),
        hyper=neg_grad_plus.NegGradPlusHyper(),
        ranges={"learning_rate": _RATE, "remain_weight": (0.8, 0.999)},
    ),
    "random_label": Reference(
        _UNLEARN,
        random_label.random_label,
        _same_cost(random_label.gradient_evaluations),
        hyper=random_label.RandomLabelHyper(),
        ranges={"learning_rate": _RATE, "remain_weight": (0.5, 30.0)},
    ),
    "salun": Reference(
        _UNLEARN,
        salun.salun,
        _same_cost(salun.gradient_evaluations),
        salun.SalunSettings(),
        salun.SalunHyper(),
        ranges={"learning_rate": _RATE, "remain_weight": (0.5, 30.0), "keep_share": _SHARE},
    ),
    "sfron": Reference(
        _UNLEARN,
        sfron.sfron,
        _same_cost(sfron.gradient_evaluations),
        sfron.SfronSettings(),
        sfron.SfronHyper(),
        ranges={"learning_rate": (0.001, 0.1), "forget_weight": (0.01, 30.0), "clip_norm": (0.3, 10.0)},
    ),
    "scrub": Reference(
        _UNLEARN,
        scrub.scrub,
        _same_cost(scrub.gradient_evaluations),
        scrub.ScrubSettings(),
        scrub.ScrubHyper(),
        ranges={"learning_rate": (0.0003, 0.1), "remain_divergence_weight": (0.001, 1.0)},
    ),
    "bad_teacher": Reference(
        _UNLEARN,
        bad_teacher.bad_teacher,
        _same_cost(bad_teacher.gradient_evaluations),
        hyper=bad_teacher.BadTeacherHyper(),
        needs=("init_fn",),
        ranges={"learning_rate": _RATE, "temperature": (0.5, 4.0)},
    ),
    "l1_sparse": Reference(
        _UNLEARN,
        l1_sparse.l1_sparse,
        _same_cost(l1_sparse.gradient_evaluations),
        hyper=l1_sparse.L1SparseHyper(),
        ranges={"learning_rate": _RATE, "l1_weight": (1e-6, 1e-3)},
    ),
    "clpu_der_pp": Reference(
        _BOTH,
        clpu_der_pp.clpu_der_pp,
        clpu_der_pp.gradient_evaluations,
        hyper=clpu_der_pp.ClpuHyper(),
        needs=("capacity", "num_examples", "init_fn"),
        ranges={"learning_rate": _RATE, "logit_weight": (0.03, 1.0)},
    ),
    "uniclun": Reference(
        _BOTH,
        uniclun.uniclun,
        uniclun.gradient_evaluations,
        hyper=uniclun.UniclunHyper(),
        needs=("init_fn",),
        ranges={"learning_rate": _RATE, "output_weight": (0.03, 3.0)},
    ),
}
VARIANTS: Mapping[str, dict[str, Any]] = {
    "ug_clu": {},
    "ug_clu_no_mask": {"settings": {"mask": "none"}},
    "ug_clu_no_adaptive": {"hyper": {"loss_exponent": 0.0}},
    "ug_clu_no_decay": {"settings": {"coefficient_decay": False, "remain_decay": False}},
    "ug_clu_euclidean": {"settings": {"manifold": "euclidean"}},
    "ug_clu_bounded": {"settings": {"unlearn_loss": "bounded"}},
    "ug_clu_target": {"settings": {"unlearn_loss": "target"}},
}
"""UG-CLU and its variants, as changes to the configuration's unlearn settings."""
LEARN_VARIANTS: Mapping[str, dict[str, Any]] = {
    "ug_clu_inner_buffer": {"settings": {"inner_data": "buffer"}},
    "ug_clu_inner_mixed": {"settings": {"inner_data": "mixed"}},
}
"""The same for learning."""
UG_CLU_RANGES: Mapping[str, Range] = {
    "fast_learning_rate": (3e-4, 1.0),
    "remain_learning_rate": (0.01, 0.3),
    "clip_norm": (0.3, 10.0),
}
DECAY_RANGE: Range = (3e-4, 0.03)
DISTILLATION_RANGE: Range = (0.1, 0.9)
"""Both are searched for every method that has them, or for none: the two blocks of a comparison."""
_NO_DECAY = {"gradient_ascent", "finetune"}  # take no step on remaining data
_NO_DISTILLATION = {*_NO_DECAY, "der", "ewc", "lwf", "joint", "clpu_der_pp"}  # no label of the buffer in their loss
METHODS: tuple[str, ...] = (*VARIANTS, *LEARN_VARIANTS, *REFERENCES, "do_nothing", "retrain")
_AT_MOST_ONE = {
    "momentum", "distillation_weight", "keep_share", "retention", "update_probability",
    "largest_momentum", "fisher_decay",
}  # fmt: skip


def serves(name: str) -> tuple[RequestKind, ...]:
    """The kinds of request that a method serves.

    Raises:
        ValueError: unknown; the nearest names are given.

    >>> serves("salun"), serves("er"), serves("ug_clu")
    (('unlearn',), ('learn',), ('learn', 'unlearn'))
    """
    if name in REFERENCES:
        return REFERENCES[name].kinds
    if name in LEARN_VARIANTS:
        return _LEARN
    if name in ("ug_clu", "do_nothing", "retrain"):
        return _BOTH
    if name in VARIANTS:
        return _UNLEARN
    raise ValueError(f"unknown method {name!r}; {nearest(name, METHODS)}")


def split_name(name: str) -> tuple[str, str]:
    """Learner and unlearner of a name.

    Raises:
        ValueError: an unknown part, or one that does not do its kind of request.

    >>> split_name("der_pp+salun"), split_name("salun"), split_name("er"), split_name("uniclun")
    (('der_pp', 'salun'), ('ug_clu', 'salun'), ('er', 'ug_clu'), ('uniclun', 'uniclun'))
    """
    parts = name.split("+")
    if len(parts) > 2:
        raise ValueError(f"method {name!r} has {len(parts)} parts; it must be METHOD or LEARNER+UNLEARNER")
    if len(parts) == 1:
        kinds = serves(name)
        if name in ("do_nothing", "retrain", "finetune_remain") or kinds == _UNLEARN:
            return "ug_clu", name
        return (name, name) if kinds == _BOTH else (name, "ug_clu")
    for part, kind in zip(parts, _BOTH, strict=True):
        if kind not in serves(part):
            able = [other for other in METHODS if kind in serves(other)]
            raise ValueError(f"{part!r} in method {name!r} does not {kind}; these do: {', '.join(able)}")
    return parts[0], parts[1]


def searched(name: str) -> tuple[str, RequestKind] | None:
    """The part of a method whose hyperparameters are searched, and what it is searched for; None: it has none.

    >>> searched("salun"), searched("er"), searched("er+salun"), searched("do_nothing")
    (('salun', 'unlearn'), ('er', 'learn'), ('salun', 'unlearn'), None)
    """
    learner, unlearner = split_name(name)
    alone_learns = "+" not in name and serves(name) == _LEARN
    part, kind = (learner, "learn") if alone_learns else (unlearner, "unlearn")
    return None if part in ("do_nothing", "retrain") else (part, kind)


def ranges_of(part: str, extras: bool) -> dict[str, Range]:
    """What is searched for a learner or unlearner, by the name of the hyperparameter.

    >>> sorted(ranges_of("ug_clu_euclidean", extras=True))
    ['clip_norm', 'distillation_weight', 'remain_learning_rate', 'remain_weight_decay']
    >>> ranges_of("finetune", extras=True)
    {'learning_rate': (0.003, 0.3)}
    """
    if part in REFERENCES:
        ranges, decay = dict(REFERENCES[part].ranges), "weight_decay"
    else:
        ranges, decay = dict(UG_CLU_RANGES), "remain_weight_decay"
        if part == "ug_clu_euclidean":
            del ranges["fast_learning_rate"]  # not read there
    if extras and part not in _NO_DECAY:
        ranges[decay] = DECAY_RANGE
    if extras and part not in _NO_DISTILLATION and part not in LEARN_VARIANTS:
        ranges["distillation_weight"] = DISTILLATION_RANGE
    return ranges


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
    check_hyper(hyper)
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
    for key, value in dataclasses.asdict(hyper).items():
        share = key in _AT_MOST_ONE or (name, key) == ("neg_grad_plus", "remain_weight")
        highest = 1.0 if share else math.inf
        if not 0 <= value <= highest or (math.isinf(value) and key != "clip_norm"):
            top = "1]" if highest == 1 else "∞)"
            raise ValueError(f"{where}hyper.{key} must be in [0, {top}, got {value:g}")
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
        return reference.make(context.apply_fn, dataclasses.replace(settings, steps=steps), **more, **usual), hyper
    settings, hyper = ug_clu_settings(config, name, kind)
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


def _refuse_no_steps(name: str, kind: RequestKind, steps: int, allowed: float) -> None:
    if steps < 1:
        raise ValueError(
            f"the budget of {allowed:g} gradient evaluations leaves no step for {name} to {kind}: give UG-CLU more "
            f"--{kind}.settings.outer-steps, or {name} fewer batches for its statistics"
        )
