"""The methods of a configuration, each made to fill the budget of gradient evaluations that UG-CLU spends."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ugclu_jax.buffer_sampling import ranks_fn
from ugclu_jax.combination import combine
from ugclu_jax.devices import check_batch_sizes
from ugclu_jax.harness.catalogue import (
    LEARN_VARIANTS,
    PLAIN,
    PLAIN_VARIANTS,
    REFERENCE_POINTS,
    VARIANTS,
    WITHOUT_STEPS,
    Setup,
    default_settings,
    entry_of,
    make,
    of_defaults,
    serves,
    split_name,
)
from ugclu_jax.harness.config import ExperimentConfig, from_dict, merge, nearest, shown
from ugclu_jax.harness.options import KindConfig
from ugclu_jax.methods.retrain import retrain
from ugclu_jax.ranges import check_hyper
from ugclu_jax.types import REQUEST_KINDS, AnyHyper, Method, RequestKind
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN as PLAIN_SETTINGS
from ugclu_jax.ugclu_plain import PLAIN_HYPER, ug_clu_plain
from ugclu_jax.ugclu_settings import UGCLUHyper, UGCLUSettings, gradient_evaluations

S = TypeVar("S")
H = TypeVar("H")


class Entry(NamedTuple):
    """A method with the hyperparameters of each kind of request."""

    method: Method
    hyper: dict[RequestKind, AnyHyper]
    learner: str  # methods of one learner learn by one function, with the same values


def check_references(references: Mapping[str, Any]) -> None:
    """Refuse settings of other methods that are not settings, of methods that nobody asked for too.

    Raises:
        ValueError: naming the dotted key.

    >>> check_references({"salun": {"hyper": {"learning_rat": 0.1}}})
    Traceback (most recent call last):
        ...
    ValueError: unknown setting 'references.salun.hyper.learning_rat'; did you mean learning_rate? Valid: ...
    """
    for name, given in references.items():
        where = f"references.{name}"
        if name == "ug_clu":
            raise ValueError(f"{where}: UG-CLU's settings are 'learn' and 'unlearn'; move them there")
        try:
            kinds = serves(name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for kind, part in _by_kind(given, where, kinds).items():
            place = _where(references, name, kind)
            _check_parts(part, place, REQUEST_KINDS if place == where and len(kinds) > 1 else ())
        for kind in kinds:
            if entry_of(name) is not None or name in WITHOUT_STEPS:
                reference_settings(references, name, kind)
            elif name not in REFERENCE_POINTS:
                _variant_settings(KindConfig(), references, name, kind)
            elif given:
                raise ValueError(f"{where}: {name} has no settings of its own; leave it out")


def check_methods(methods: Sequence[str]) -> None:
    """Refuse methods that do not exist, and one that is named in two ways.

    Raises:
        ValueError: naming the method.

    >>> check_methods(["salun", "ug_clu+salun"])
    Traceback (most recent call last):
        ...
    ValueError: methods has 'salun' and 'ug_clu+salun', which are one method: leave one out
    """
    known: dict[tuple[str, str], str] = {}
    for name in methods:
        parts = split_name(name)
        if parts in known:
            raise ValueError(f"methods has {known[parts]!r} and {name!r}, which are one method: leave one out")
        known[parts] = name


def given_for(references: Mapping[str, Any], name: str, kind: RequestKind) -> dict[str, Any]:
    """What `references` say of a method for one kind of request: for it alone, or for both alike.

    >>> both, apart = {"hyper": {"learning_rate": 0.1}}, {"learn": {"hyper": {"learning_rate": 0.2}}}
    >>> given_for({"uniclun": both}, "uniclun", "learn") == both, given_for({"uniclun": apart}, "uniclun", "unlearn")
    (True, {})
    """
    given = references.get(name, {})
    return given.get(kind, {}) if given.keys() & set(REQUEST_KINDS) else given


def _where(references: Mapping[str, Any], name: str, kind: RequestKind) -> str:
    """The dotted place of that."""
    return f"references.{name}" + (f".{kind}" if references.get(name, {}).keys() & set(REQUEST_KINDS) else "")


def _by_kind(given: Any, where: str, kinds: Sequence[RequestKind]) -> dict[RequestKind, Any]:
    """A method's part, for the kinds of request of which it says anything."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be an object of settings, got {shown(given)}")
    apart = [key for key in given if key in REQUEST_KINDS]
    for key in apart:
        if len(kinds) == 1:
            raise ValueError(f"{where}.{key}: it has one kind of request, {kinds[0]}; give settings and hyper alone")
    for key in given.keys() - set(apart) if apart else ():
        raise ValueError(f"{where}.{key} must stand in {where}.{apart[0]}: settings are given for both kinds or apart")
    return {kind: given.get(kind, {}) if apart else given for kind in kinds}


def _check_parts(given: Any, where: str, others: Sequence[str]) -> None:
    """A part is an object of two objects, without the number of steps, which the budget gives."""
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be an object of settings, got {shown(given)}")
    for key, part in given.items():
        if key not in ("settings", "hyper"):
            raise ValueError(f"unknown setting {where + '.' + key!r}; {nearest(key, ('settings', 'hyper', *others))}")
        if not isinstance(part, dict):
            raise ValueError(f"{where}.{key} must be an object of settings, got {shown(part)}")
    for name in ("steps", "outer_steps"):
        if name in given.get("settings", {}):
            raise ValueError(f"{where}.settings.{name} must be left out: the budget of gradient evaluations decides it")


def ug_clu_settings(config: ExperimentConfig, name: str, kind: RequestKind) -> tuple[UGCLUSettings, UGCLUHyper]:
    """Settings of UG-CLU or a variant: the configuration's or the paper's, its change, and what `references` say of it.

    Ablations of the paper's form start from what `references` say of that form.
    """
    base = config.learn if kind == "learn" else config.unlearn
    if name == "ug_clu":
        return base.settings, base.hyper
    return _variant_settings(base, config.references, name, kind)


def forms_of_ug_clu(config: ExperimentConfig) -> list[UGCLUSettings]:
    """The settings of all parts of the configuration's methods that are UG-CLU, its variants or its paper's form.

    >>> [form.mask for form in forms_of_ug_clu(ExperimentConfig(methods=("er+ug_clu", "ug_clu_plain_bounded")))]
    ['none', 'none', 'hard']
    """
    parts = [
        (part, kind) for name in config.methods for part, kind in zip(split_name(name), REQUEST_KINDS, strict=True)
    ]
    ours = {*VARIANTS, *LEARN_VARIANTS, *PLAIN_VARIANTS}
    return [ug_clu_settings(config, part, kind)[0] for part, kind in parts if part in ours]


def _variant_settings(
    base: KindConfig, references: Mapping[str, Any], name: str, kind: RequestKind
) -> tuple[UGCLUSettings, UGCLUHyper]:
    change, values = (LEARN_VARIANTS if kind == "learn" else VARIANTS).get(name, {}), dataclasses.asdict(base)
    if name in PLAIN_VARIANTS:
        change, values = PLAIN_VARIANTS[name], dataclasses.asdict(KindConfig(PLAIN_SETTINGS, PLAIN_HYPER))
        values = merge(values, given_for(references, PLAIN, kind))
    values = merge(values, merge(change, given_for(references, name, kind)))
    return _made(UGCLUSettings, UGCLUHyper, values, _where(references, name, kind) + ".")


def reference_settings(references: Mapping[str, Any], name: str, kind: RequestKind) -> tuple[Any, AnyHyper]:
    """Settings of a method of the field: its defaults, and what the configuration says of it.

    Raises:
        ValueError: an unknown setting, or a value out of its range.
    """
    default, default_hyper = default_settings(name), of_defaults(name).hyper[kind]
    values = {"settings": dataclasses.asdict(default), "hyper": dataclasses.asdict(default_hyper)}
    values = merge(values, given_for(references, name, kind))
    return _made(type(default), type(default_hyper), values, _where(references, name, kind) + ".")


def _made(settings: type[S], hyper: type[H], values: Mapping[str, Any], where: str) -> tuple[S, H]:
    made = from_dict(settings, values["settings"], where + "settings.")
    numbers = from_dict(hyper, values["hyper"], where + "hyper.")
    check_hyper(numbers, where + "hyper.")
    return made, numbers


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
    return gradient_evaluations(base.settings, config.capacity)


def build(config: ExperimentConfig, setup: Setup) -> dict[str, Entry]:
    """The methods of `config.methods`, each within the budget of gradient evaluations of UG-CLU.

    Retraining and the analytic head are exact and have no budget. A variant of UG-CLU takes as many outer steps as the
    budget pays.

    Raises:
        ValueError: an unknown method or setting, a hyperparameter out of range, a budget too small for a method, or a
            buffer that is to choose and holds everything.
    """
    check_references(config.references)
    if config.buffer_sampling != "uniform" and config.capacity >= setup.num_examples:
        raise ValueError(
            f"buffer_sampling is {config.buffer_sampling!r} and changes nothing: a buffer of {config.capacity} holds "
            f"all {setup.num_examples} training examples; give a smaller capacity, or leave it out"
        )
    ranks = ranks_fn(config.buffer_sampling, setup.apply_fn)
    parts: dict[tuple[str, RequestKind], tuple[Method, AnyHyper]] = {}
    entries = {}
    for name in config.methods:
        learner, unlearner = split_name(name)
        asked: tuple[tuple[str, RequestKind], ...] = ((learner, "learn"), (unlearner, "unlearn"))
        for part, kind in asked:
            if (part, kind) not in parts:
                parts[part, kind] = _make(config, setup, part, kind)
        (learn, learn_hyper), (unlearn, unlearn_hyper) = parts[learner, "learn"], parts[unlearner, "unlearn"]
        hyper: dict[RequestKind, AnyHyper] = {"learn": learn_hyper, "unlearn": unlearn_hyper}
        entries[name] = Entry(combine(learn=learn, unlearn=unlearn)._replace(ranks=ranks), hyper, learner)
    return entries


def _make(config: ExperimentConfig, setup: Setup, name: str, kind: RequestKind) -> tuple[Method, AnyHyper]:
    if name == "retrain":
        return make(retrain, setup, config.oracle), ()
    if name in WITHOUT_STEPS:
        settings, hyper = reference_settings(config.references, name, kind)
        return make(WITHOUT_STEPS[name].factory, setup, settings), hyper
    if name in REFERENCE_POINTS:
        return of_defaults(name), ()
    entry = entry_of(name)
    if entry is not None:
        settings, hyper = reference_settings(config.references, name, kind)
        _check_batch_sizes(settings, setup, _where(config.references, name, kind) + ".settings.")

        def taking(steps: int) -> Method:
            return make(entry.factory, setup, dataclasses.replace(settings, steps=steps))

        return taking(_steps(name, kind, config, setup, taking, least=0)), hyper
    settings, hyper = ug_clu_settings(config, name, kind)
    where = kind if name == "ug_clu" else _where(config.references, name, kind)
    where, plain = f"{where}.settings.", name in PLAIN_VARIANTS
    factory, other = (ug_clu_plain, PLAIN_SETTINGS) if plain else (ug_clu, UGCLUSettings())
    _check_batch_sizes(settings, setup, where)

    def of_steps(steps: int) -> Method:
        changed = dataclasses.replace(settings, outer_steps=steps)
        # The other kind's settings are not used: `combine` takes one function of each.
        learn, unlearn = (changed, other) if kind == "learn" else (other, changed)
        return factory(setup.apply_fn, learn, unlearn, num_classes=setup.num_classes)

    try:
        of_steps(1)
    except ValueError as error:  # which begins with the name of a setting
        raise ValueError(f"{where}{error}") from error
    # One outer step is the least that UG-CLU has: its cost at none follows from those of one and two.
    return of_steps(_steps(name, kind, config, setup, of_steps, least=1)), hyper


def _steps(
    name: str,
    kind: RequestKind,
    config: ExperimentConfig,
    setup: Setup,
    of_steps: Callable[[int], Method],
    least: int,
) -> int:
    """How many steps the budget pays, from what a method says that so many and one more cost.

    Raises:
        ValueError: not one.
    """
    allowed, rows = budget(config, kind), setup.largest_task if kind == "unlearn" else 0
    first, second = (of_steps(steps).cost(kind, config.capacity, rows) for steps in (least, least + 1))
    steps = steps_within(allowed, lambda n: first + (n - least) * (second - first))
    if steps < 1:
        raise ValueError(
            f"the budget of {allowed:g} gradient evaluations leaves no step for {name} to {kind}: give UG-CLU more "
            f"--{kind}.settings.outer-steps, or {name} fewer batches for its statistics"
        )
    return steps


def _check_batch_sizes(settings: Any, setup: Setup, where: str) -> None:
    there = [name for name in ("task_batch_size", "remain_batch_size") if hasattr(settings, name)]
    check_batch_sizes({where + name: getattr(settings, name) for name in there}, setup.devices)
