"""The methods an experiment can name, what each is made from, and what is searched of it. No configuration.

A name is `LEARNER+UNLEARNER`, each of them one of `METHODS` that does its kind of request. One name alone stands for an
unlearner behind UG-CLU's learning (a reference like `do_nothing` too), for a learner before UG-CLU's unlearning, or for
a method that does both.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ugclu_jax import named
from ugclu_jax.harness.config import nearest
from ugclu_jax.methods.agem import agem
from ugclu_jax.methods.analytic_head import analytic_head
from ugclu_jax.methods.bad_teacher import bad_teacher
from ugclu_jax.methods.clpu_der_pp import clpu_der_pp
from ugclu_jax.methods.ct import ct
from ugclu_jax.methods.der import der, der_pp
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.er import er
from ugclu_jax.methods.er_las import er_las
from ugclu_jax.methods.ewc import ewc
from ugclu_jax.methods.finetune import finetune
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.methods.gradient_ascent import gradient_ascent
from ugclu_jax.methods.joint import joint
from ugclu_jax.methods.l1_sparse import l1_sparse
from ugclu_jax.methods.lwf import lwf
from ugclu_jax.methods.msg import msg
from ugclu_jax.methods.mu_mis import mu_mis
from ugclu_jax.methods.neg_grad_plus import neg_grad_plus
from ugclu_jax.methods.random_label import random_label
from ugclu_jax.methods.retrain import retrain
from ugclu_jax.methods.retrain_on_buffer import retrain_on_buffer
from ugclu_jax.methods.salun import salun
from ugclu_jax.methods.scrub import scrub
from ugclu_jax.methods.sfron import sfron
from ugclu_jax.methods.ssd import ssd
from ugclu_jax.methods.uniclun import uniclun
from ugclu_jax.stepping import DescentHyper
from ugclu_jax.types import ApplyFn, Array, InitFn, Method, ModelState, Params, RequestKind

Range = tuple[float, float]
Factory = Callable[..., Method]
"""`(apply_fn, settings, …) -> method`, with those parameters of `Setup` that it reads, by their names."""


class CatalogueEntry(NamedTuple):
    """A method of the field, or a user's own; which kinds of request it serves, its cost and its hyper the method says.

    Attributes:
        factory: see `Factory`; the default of its `settings` gives their class.
        ranges: hyperparameters to search, each from its lowest to its highest value, on a logarithmic scale.
        decays: whether it takes steps on remaining data, where weight decay belongs.
    """

    factory: Factory
    ranges: Mapping[str, Range] = {}
    decays: bool = True


class Setup(NamedTuple):
    """What a method may be made from."""

    apply_fn: ApplyFn
    init_fn: InitFn
    num_classes: int
    num_examples: int  # of the training split
    capacity: int  # of the buffer
    largest_task: int = 64  # rows of the largest request, padding included
    devices: int = 1  # that divide every batch


_RATE: Range = (0.003, 0.3)
_SHARE: Range = (0.3, 0.99)
_REFERENCES: Mapping[str, CatalogueEntry] = {
    "finetune": CatalogueEntry(finetune, {"learning_rate": _RATE}, decays=False),
    "er": CatalogueEntry(er, {"learning_rate": _RATE}),
    "er_las": CatalogueEntry(er_las, {"learning_rate": _RATE, "adjustment": (0.1, 3.0)}),
    "der": CatalogueEntry(der, {"learning_rate": _RATE, "logit_weight": (0.03, 1.0)}),
    "der_pp": CatalogueEntry(der_pp, {"learning_rate": _RATE, "logit_weight": (0.03, 1.0), "label_weight": (0.1, 2.0)}),
    "ewc": CatalogueEntry(ewc, {"learning_rate": _RATE, "penalty_weight": (1.0, 1000.0)}),
    "lwf": CatalogueEntry(lwf, {"learning_rate": _RATE, "old_class_weight": (0.1, 10.0)}),
    "agem": CatalogueEntry(agem, {"learning_rate": _RATE}),
    "joint": CatalogueEntry(joint, {"learning_rate": _RATE}),
    "gradient_ascent": CatalogueEntry(
        gradient_ascent, {"learning_rate": (1e-5, 0.03), "clip_norm": (0.3, 10.0)}, decays=False
    ),
    "finetune_remain": CatalogueEntry(finetune_remain, {"learning_rate": _RATE}),
    "neg_grad_plus": CatalogueEntry(neg_grad_plus, {"learning_rate": _RATE, "remain_weight": (0.98, 0.9995)}),
    "random_label": CatalogueEntry(random_label, {"learning_rate": _RATE, "remain_weight": (0.5, 30.0)}),
    "salun": CatalogueEntry(salun, {"learning_rate": _RATE, "remain_weight": (0.5, 30.0), "keep_share": _SHARE}),
    "sfron": CatalogueEntry(
        sfron, {"learning_rate": (0.001, 0.1), "forget_weight": (0.01, 30.0), "clip_norm": (0.3, 10.0)}
    ),
    "scrub": CatalogueEntry(scrub, {"learning_rate": (0.0003, 0.1), "remain_divergence_weight": (0.001, 1.0)}),
    "bad_teacher": CatalogueEntry(bad_teacher, {"learning_rate": _RATE, "temperature": (0.5, 4.0)}),
    "l1_sparse": CatalogueEntry(l1_sparse, {"learning_rate": _RATE, "l1_weight": (0.001, 0.1)}),
    "msg": CatalogueEntry(
        msg, {"learning_rate": _RATE, "reset_share": (0.03, 0.99), "kept_gradient_share": (0.03, 1.0)}
    ),
    "ct": CatalogueEntry(ct, {"learning_rate": _RATE}),
    "mu_mis": CatalogueEntry(
        mu_mis,
        {"learning_rate": (1e-4, 0.3), "clip_norm": (0.1, 10.0), "stop_ratio": (0.5, 10.0)},
        decays=False,
    ),
    "ssd": CatalogueEntry(ssd, {"selection": (1.0, 100.0), "dampening": (0.1, 10.0)}, decays=False),
    "clpu_der_pp": CatalogueEntry(clpu_der_pp, {"learning_rate": _RATE, "logit_weight": (0.03, 1.0)}),
    "uniclun": CatalogueEntry(uniclun, {"learning_rate": _RATE, "output_weight": (0.03, 3.0)}),
    "retrain_on_buffer": CatalogueEntry(retrain_on_buffer, {"learning_rate": _RATE}),
}
"""Methods whose `steps` the budget pays: optimizer steps, or for `ssd` batches of which it takes the importances."""
WITHOUT_STEPS: Mapping[str, CatalogueEntry] = {"analytic_head": CatalogueEntry(analytic_head, decays=False)}
"""Methods with settings of their own that take no steps: no budget cuts them, and nothing is searched."""
REFERENCE_POINTS: Mapping[str, CatalogueEntry] = {
    "do_nothing": CatalogueEntry(do_nothing),
    "retrain": CatalogueEntry(retrain),
    **dict.fromkeys(("mask_logits", "cool", "mean_of_oracles"), CatalogueEntry(do_nothing)),  # see `answers`
}
"""What has no budget and nothing to search."""
VARIANTS: Mapping[str, dict[str, Any]] = {
    "ug_clu": {},
    "ug_clu_bounded": {"settings": {"unlearn_loss": "bounded", "levels": "midpoint"}},
    "ug_clu_target": {"settings": {"unlearn_loss": "target", "levels": "midpoint"}},
    "ug_clu_masked": {"settings": {"mask": "hard"}},
    "ug_clu_no_decay": {"hyper": {"kept_share": 1.0}},
    "ug_clu_sgd": {"settings": {"preconditioner": "sgd"}, "hyper": {"remain_learning_rate": 0.1}},
}
"""UG-CLU and its variants, as changes to the configuration's unlearn settings."""
LEARN_VARIANTS: Mapping[str, dict[str, Any]] = {
    "ug_clu_inner_buffer": {"settings": {"inner_data": "buffer"}},
    "ug_clu_fast_step": {"settings": {"fast_step": "budget"}},
}
"""The same for learning."""
PLAIN = "ug_clu_plain"
"""The paper's form, which learns and unlearns as UG-CLU does."""
PLAIN_VARIANTS: Mapping[str, dict[str, Any]] = {
    PLAIN: {},
    "ug_clu_plain_no_mask": {"settings": {"mask": "none"}},
    "ug_clu_plain_no_adaptive": {"hyper": {"loss_exponent": 0.0}},
    "ug_clu_plain_no_decay": {"settings": {"coefficient_decay": False, "inner_schedule": "constant"}},
    "ug_clu_plain_euclidean": {"settings": {"manifold": "euclidean"}},
    "ug_clu_plain_bounded": {"settings": {"unlearn_loss": "bounded"}, "hyper": {"fast_learning_rate": 0.05}},
    "ug_clu_plain_target": {
        "settings": {"unlearn_loss": "target", "mask": "none"},
        "hyper": {"fast_learning_rate": 0.076, "remain_learning_rate": 0.051, "clip_norm": math.inf},
    },
}
"""It and its ablations, as changes to its own settings, not to the configuration's `learn` and `unlearn`."""
ADAM_RATE: Range = (1e-3, 3e-2)
KEPT_RANGE: Range = (0.5, 1.0)
"""Of steps by Adam and of a decay that is a budget, the same for UG-CLU and for every method that is given them."""
_INNER: Mapping[str, Range] = {"remain_learning_rate": ADAM_RATE, "kept_share": KEPT_RANGE}
UG_CLU_RANGES: Mapping[str, Range] = {"output_budget": (0.03, 1.0), **_INNER}
_REMAIN: Range = (0.01, 0.3)
PLAIN_RANGES: Mapping[str, Range] = {
    "fast_learning_rate": (1e-3, 10.0),
    "remain_learning_rate": _REMAIN,
    "clip_norm": (0.3, 10.0),
}
"""Of the ascent, whose step needs another size for every kind of request: hence its four decades."""
VARIANT_RANGES: Mapping[str, Mapping[str, Range]] = {
    "ug_clu_no_decay": {name: UG_CLU_RANGES[name] for name in ("output_budget", "remain_learning_rate")},
    "ug_clu_sgd": {**UG_CLU_RANGES, "remain_learning_rate": _REMAIN},
    "ug_clu_fast_step": _INNER,
    "ug_clu_plain_euclidean": {"remain_learning_rate": _REMAIN, "clip_norm": (0.3, 10.0)},  # has no fast step
    "ug_clu_plain_bounded": {**PLAIN_RANGES, "fast_learning_rate": (0.01, 1.0)},
    "ug_clu_plain_target": {"fast_learning_rate": (0.01, 1.0), "remain_learning_rate": _REMAIN},  # clips nothing
}
"""Where a variant's differ."""
DECAY_RANGE: Range = (3e-4, 0.03)
DISTILLATION_RANGE: Range = (0.1, 0.9)
"""Both are searched for every method that has them, or for none: the two blocks of a comparison. UG-CLU's decay is
`kept_share`, which is always searched."""
METHODS: tuple[str, ...] = (
    *VARIANTS,
    *LEARN_VARIANTS,
    *PLAIN_VARIANTS,
    *_REFERENCES,
    *WITHOUT_STEPS,
    *REFERENCE_POINTS,
)
"""All that have a name here; `package.module:factory` names any other."""
_BOTH: tuple[RequestKind, ...] = ("learn", "unlearn")


def entry_of(name: str) -> CatalogueEntry | None:
    """The entry of a method that takes optimizer steps; None for UG-CLU and its variants, and what takes no steps.

    Args:
        name: one of `METHODS`, or `package.module:factory` for a factory of one's own, from the current folder too.

    Raises:
        ValueError: no such module, or no such factory in it.

    >>> entry_of("er").ranges, entry_of("ug_clu")
    ({'learning_rate': (0.003, 0.3)}, None)
    >>> entry_of("no_such_package:mine")
    Traceback (most recent call last):
        ...
    ValueError: method is 'no_such_package:mine': there is no module no_such_package...
    """
    return CatalogueEntry(_imported(name)) if named.is_name(name) else _REFERENCES.get(name)


@functools.cache
def _imported(name: str) -> Factory:
    factory = named.load("method", name)
    wanted = dict(inspect.signature(factory).parameters) if callable(factory) else {}
    fits = list(wanted)[:2] == ["apply_fn", "settings"] and set(list(wanted)[2:]) <= set(_OFFERED)
    if not fits or wanted["settings"].default is inspect.Parameter.empty:
        raise ValueError(
            f"method is {name!r}: it must be a function of (apply_fn, settings, …) with a default for settings, and of "
            f"no other parameters than {', '.join(_OFFERED)}; see the page 'A new method' of the documentation"
        )
    return factory


_OFFERED = ("init_fn", "num_classes", "num_examples", "capacity")


def make(factory: Factory, setup: Setup, settings: Any = None) -> Method:
    """A method from what it asks for by the names of its parameters.

    Args:
        factory: see `Factory`.
        setup: what there is.
        settings: static settings; None = the factory's default.

    >>> setup = Setup(lambda *a, **k: None, lambda key: ({}, {}), num_classes=2, num_examples=4, capacity=3)
    >>> make(der, setup).kinds
    ('learn',)
    """
    wanted = inspect.signature(factory).parameters
    asked = {name: getattr(setup, name) for name in _OFFERED if name in wanted}
    if settings is not None:
        asked["settings"] = settings
    return factory(setup.apply_fn, **asked) if "apply_fn" in wanted else factory()


def default_settings(name: str) -> Any:
    """The static settings that a method has unless others are given."""
    entry = entry_of(name) or WITHOUT_STEPS.get(name)
    assert entry is not None, f"{name} has no settings of its own"
    return inspect.signature(entry.factory).parameters["settings"].default


def _no_model(
    params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
) -> tuple[Array, ModelState]:
    raise NotImplementedError("a method made to be asked, not to be run")


@functools.cache
def of_defaults(name: str) -> Method:
    """A method made from nothing, to be asked which kinds of request it serves and which hyperparameters it has."""
    entry = entry_of(name) or WITHOUT_STEPS.get(name) or REFERENCE_POINTS[name]
    nothing = Setup(_no_model, lambda rng_key: ({}, {}), num_classes=2, num_examples=1, capacity=1)
    return make(entry.factory, nothing)


def serves(name: str) -> tuple[RequestKind, ...]:
    """The kinds of request that a method serves.

    Raises:
        ValueError: unknown; the nearest names are given.

    >>> serves("salun"), serves("er"), serves("ug_clu")
    (('unlearn',), ('learn',), ('learn', 'unlearn'))
    """
    if name in LEARN_VARIANTS:
        return ("learn",)
    if name in VARIANTS or name in PLAIN_VARIANTS:
        return _BOTH if name in ("ug_clu", PLAIN) else ("unlearn",)
    if not named.is_name(name) and name not in METHODS:
        raise ValueError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    return of_defaults(name).kinds


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
        if name in (*REFERENCE_POINTS, "finetune_remain") or kinds == ("unlearn",):
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
    alone_learns = "+" not in name and serves(name) == ("learn",)
    found: tuple[str, RequestKind] = (learner, "learn") if alone_learns else (unlearner, "unlearn")
    return None if found[0] in (*WITHOUT_STEPS, *REFERENCE_POINTS) else found


def equal_terms(part: str) -> dict[str, Any]:
    """Settings under which a method takes its steps on the buffer as UG-CLU's default does; none where it takes none.

    >>> equal_terms("er"), equal_terms("gradient_ascent"), equal_terms("ug_clu")
    ({'settings': {'optimizer': 'adamw'}, 'hyper': {'momentum': 0.9, 'second_momentum': 0.99}}, {}, {})
    """
    entry = entry_of(part)
    if entry is None or not entry.decays:
        return {}
    return {"settings": {"optimizer": "adamw"}, "hyper": {"momentum": 0.9, "second_momentum": 0.99}}


def ranges_of(part: str, extras: bool) -> dict[str, Range]:
    """What is searched for a learner or unlearner, by the name of the hyperparameter.

    >>> sorted(ranges_of("ug_clu", extras=True))
    ['distillation_weight', 'kept_share', 'output_budget', 'remain_learning_rate']
    >>> sorted(ranges_of("ug_clu_plain_euclidean", extras=True))
    ['clip_norm', 'distillation_weight', 'remain_learning_rate', 'remain_weight_decay']
    >>> ranges_of("finetune", extras=True)
    {'learning_rate': (0.003, 0.3)}
    >>> sorted(ranges_of("er", extras=True).items())
    [('distillation_weight', (0.1, 0.9)), ('kept_share', (0.5, 1.0)), ('learning_rate', (0.001, 0.03))]
    """
    entry = entry_of(part)
    if entry is None:
        plain = part in PLAIN_VARIANTS
        ranges = dict(VARIANT_RANGES.get(part, PLAIN_RANGES if plain else UG_CLU_RANGES))
        decays, distils = plain, part not in LEARN_VARIANTS
    else:
        ranges, decays = dict(entry.ranges), entry.decays
        hypers = of_defaults(part).hyper.values()
        distils = any(isinstance(hyper, DescentHyper) for hyper in hypers)
    if extras and decays and entry is not None:  # on equal terms: the steps of UG-CLU's default
        ranges["kept_share"] = KEPT_RANGE
        if "learning_rate" in ranges:
            ranges["learning_rate"] = ADAM_RATE
    elif extras and decays:
        ranges["remain_weight_decay"] = DECAY_RANGE
    if extras and distils:
        ranges["distillation_weight"] = DISTILLATION_RANGE
    return ranges
