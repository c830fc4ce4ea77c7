"""The methods an experiment can name, what each is made from, and what is searched of it. No configuration.

A name is `LEARNER+UNLEARNER`, each of them one of `METHODS` that does its kind of request. One name alone stands for an
unlearner behind UG-CLU's learning (a reference like `do_nothing` too), for a learner before UG-CLU's unlearning, or for
a method that does both.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ugclu_jax.descent import DescentHyper, DescentSettings
from ugclu_jax.harness.config import nearest
from ugclu_jax.methods import (
    agem,
    bad_teacher,
    clpu_der_pp,
    der,
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
    salun,
    scrub,
    sfron,
    uniclun,
)
from ugclu_jax.types import Method, RequestKind

Range = tuple[float, float]


class Reference(NamedTuple):
    """A method of the field.

    Attributes:
        kinds: of requests that it serves.
        make: from context and settings.
        cost: gradient evaluations of a request, from settings, capacity and kind; affine in `settings.steps`.
        settings, hyper: its defaults.
        needs: fields of the context, and "capacity", that its factory takes beside the usual ones.
        ranges: hyperparameters to search, each from its lowest to its highest value, on a logarithmic scale.
        decays: whether it takes steps on remaining data, where weight decay belongs.
        distils: whether labels of the buffer enter its loss, which a teacher can replace.
    """

    kinds: tuple[RequestKind, ...]
    make: Callable[..., Method]
    cost: Callable[[Any, int, RequestKind], float]
    settings: DescentSettings = DescentSettings()
    hyper: DescentHyper = DescentHyper()
    needs: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = {}
    decays: bool = True
    distils: bool = True


def _same_cost(cost: Callable[[Any, int], float]) -> Callable[[Any, int, RequestKind], float]:
    return lambda settings, capacity, kind: cost(settings, capacity)


_LEARN: tuple[RequestKind, ...] = ("learn",)
_UNLEARN: tuple[RequestKind, ...] = ("unlearn",)
_BOTH: tuple[RequestKind, ...] = ("learn", "unlearn")
_RATE: Range = (0.003, 0.3)
_SHARE: Range = (0.3, 0.99)
REFERENCES: Mapping[str, Reference] = {
    "finetune": Reference(
        _LEARN,
        finetune.finetune,
        _same_cost(finetune.gradient_evaluations),
        ranges={"learning_rate": _RATE},
        decays=False,
        distils=False,
    ),
    "er": Reference(_LEARN, er.er, _same_cost(er.gradient_evaluations), ranges={"learning_rate": _RATE}),
    "der": Reference(
        _LEARN,
        der.der,
        _same_cost(der.gradient_evaluations),
        hyper=der.DERHyper(),
        needs=("capacity",),
        ranges={"learning_rate": _RATE, "logit_weight": (0.03, 1.0)},
        distils=False,
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
        distils=False,
    ),
    "lwf": Reference(
        _LEARN,
        lwf.lwf,
        _same_cost(lwf.gradient_evaluations),
        hyper=lwf.LwFHyper(),
        ranges={"learning_rate": _RATE, "old_class_weight": (0.1, 10.0)},
        distils=False,
    ),
    "agem": Reference(_LEARN, agem.agem, _same_cost(agem.gradient_evaluations), ranges={"learning_rate": _RATE}),
    "joint": Reference(
        _BOTH,
        joint.joint,
        _same_cost(joint.gradient_evaluations),
        needs=("num_examples",),
        ranges={"learning_rate": _RATE},
        distils=False,
    ),
    "gradient_ascent": Reference(
        _UNLEARN,
        gradient_ascent.gradient_ascent,
        _same_cost(gradient_ascent.gradient_evaluations),
        hyper=gradient_ascent.GradientAscentHyper(),
        ranges={"learning_rate": (1e-5, 0.03), "clip_norm": (0.3, 10.0)},
        decays=False,
        distils=False,
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
        ranges={"learning_rate": _RATE, "remain_weight": (0.98, 0.9995)},
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
        ranges={"learning_rate": _RATE, "l1_weight": (0.001, 0.1)},
    ),
    "clpu_der_pp": Reference(
        _BOTH,
        clpu_der_pp.clpu_der_pp,
        clpu_der_pp.gradient_evaluations,
        hyper=clpu_der_pp.ClpuHyper(),
        needs=("capacity", "num_examples", "init_fn"),
        ranges={"learning_rate": _RATE, "logit_weight": (0.03, 1.0)},
        distils=False,
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
    "ug_clu_bounded": {"settings": {"unlearn_loss": "bounded"}, "hyper": {"fast_learning_rate": 0.05}},
    "ug_clu_target": {
        "settings": {"unlearn_loss": "target", "mask": "none"},
        "hyper": {"fast_learning_rate": 0.076, "remain_learning_rate": 0.051, "clip_norm": math.inf},
    },
}
"""UG-CLU and its variants, as changes to the configuration's unlearn settings."""
LEARN_VARIANTS: Mapping[str, dict[str, Any]] = {
    "ug_clu_inner_buffer": {"settings": {"inner_data": "buffer"}},
    "ug_clu_inner_mixed": {"settings": {"inner_data": "mixed"}},
}
"""The same for learning."""
_REMAIN: Range = (0.01, 0.3)
UG_CLU_RANGES: Mapping[str, Range] = {
    "fast_learning_rate": (1e-3, 10.0),
    "remain_learning_rate": _REMAIN,
    "clip_norm": (0.3, 10.0),
}
"""Of the ascent, whose step needs another size for every kind of request: hence its four decades."""
VARIANT_RANGES: Mapping[str, Mapping[str, Range]] = {
    "ug_clu_euclidean": {"remain_learning_rate": _REMAIN, "clip_norm": (0.3, 10.0)},  # has no fast step
    "ug_clu_bounded": {**UG_CLU_RANGES, "fast_learning_rate": (0.01, 1.0)},
    "ug_clu_target": {"fast_learning_rate": (0.01, 1.0), "remain_learning_rate": _REMAIN},  # clips nothing
}
"""Where a variant's differ."""
DECAY_RANGE: Range = (3e-4, 0.03)
DISTILLATION_RANGE: Range = (0.1, 0.9)
"""Both are searched for every method that has them, or for none: the two blocks of a comparison."""
METHODS: tuple[str, ...] = (*VARIANTS, *LEARN_VARIANTS, *REFERENCES, "do_nothing", "retrain")


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
        ranges, decay = dict(VARIANT_RANGES.get(part, UG_CLU_RANGES)), "remain_weight_decay"
    decays, distils = True, part not in LEARN_VARIANTS
    if part in REFERENCES:
        decays, distils = REFERENCES[part].decays, REFERENCES[part].distils
    if extras and decays:
        ranges[decay] = DECAY_RANGE
    if extras and distils:
        ranges["distillation_weight"] = DISTILLATION_RANGE
    return ranges
