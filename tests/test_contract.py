"""What every method must do, whatever it is: one battery over the whole catalogue."""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.combination import combine
from ugclu_jax.harness.catalogue import (
    LEARN_VARIANTS,
    METHODS,
    PLAIN_VARIANTS,
    REFERENCE_POINTS,
    VARIANTS,
    Setup,
    default_settings,
    entry_of,
    make,
    of_defaults,
    serves,
)
from ugclu_jax.learner import CLUState, apply_request, check_request, request_program
from ugclu_jax.methods.analytic_head import analytic_head
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.retrain import retrain
from ugclu_jax.oracle import OracleSettings
from ugclu_jax.ranges import range_of
from ugclu_jax.stepping import BufferSettings, DescentHyper, DescentSettings, StepSettings, TaskSettings
from ugclu_jax.types import REQUEST_KINDS, AnyHyper, Examples, Info, Method, MethodState, RequestKind
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER, ug_clu_plain
from ugclu_jax.ugclu_settings import UGCLUHyper, UGCLUSettings

INPUTS = np.random.default_rng(0).integers(0, 255, (60, 4)).astype(np.uint8)
LABELS = (np.arange(60) % 3).astype(np.int32)
CAPACITY = 12


def APPLY(params, model_state, inputs, *, train, rng_key):
    """A linear model with a running mean, as BatchNorm has: small, so that the battery compiles in seconds.

    Its kernel is that of a convolution of pictures of 2×2 as large as they are, for methods that look for one.
    """
    x = inputs / 255.0
    mean = x.mean(0) if train else model_state["mean"]
    new_state = {"mean": 0.9 * model_state["mean"] + 0.1 * mean} if train else model_state
    return (x - mean) @ params["kernel"].reshape(4, 3) + params["bias"], new_state


def fresh_network(rng_key):
    return {"kernel": jax.random.normal(rng_key, (2, 2, 1, 3)), "bias": jnp.zeros(3)}, {"mean": jnp.zeros(4)}


# Compiling is most of the time of these tests.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SETUP = Setup(APPLY, fresh_network, num_classes=3, num_examples=60, capacity=CAPACITY)
SIZES = {"task_batch_size": 4, "remain_batch_size": 4, "saliency_batches": 1, "fisher_batches": 1}
STEPS = {"steps": 2, "outer_steps": 2, "inner_steps": 1}
# Task and buffer are of one kind here: nothing is ten times as important for one of them. A step as long as this one
# raises what the second of two would stop at.
LIVELY = {"ssd": {"selection": 0.5}, "mu_mis": {"learning_rate": 1.0, "clip_norm": 10.0, "stop_ratio": 1e3}}


class Case(typing.NamedTuple):
    """A method with hyperparameters for each kind of request that it is tried on."""

    method: Method
    hyper: Mapping[RequestKind, AnyHyper]


def with_fields(values, **changes):
    """`dataclasses.replace` of those fields that there are."""
    there = {field.name for field in dataclasses.fields(values)}
    return dataclasses.replace(values, **{name: value for name, value in changes.items() if name in there})


def of_entry(name, **settings):
    """A method of the field, small; with AdamW its steps are."""
    small = with_fields(default_settings(name), **SIZES, **STEPS, **settings)
    method = make(entry_of(name).factory, SETUP, small)
    rates = {"learning_rate": 0.01, "momentum": 0.9} if settings.get("optimizer") == "adamw" else {}
    changes = rates | LIVELY.get(name, {})
    return Case(method, {kind: with_fields(hyper, **changes) for kind, hyper in method.hyper.items()})


def of_ug_clu(kinds=REQUEST_KINDS, settings=(), **hyper):
    """UG-CLU, small; what a setting of one kind of request alone can be, the other has its own of."""
    return small_ug_clu(ug_clu, UGCLUSettings(), UGCLUHyper(), kinds, settings, hyper)


def of_plain(kinds=REQUEST_KINDS, settings=(), **hyper):
    """The same of the paper's form."""
    return small_ug_clu(ug_clu_plain, PLAIN, PLAIN_HYPER, kinds, settings, hyper)


def small_ug_clu(factory, base, base_hyper, kinds, settings, hyper):
    both = SIZES | STEPS | {"inner_data": "mixed"} | dict(settings)
    learn = both | {"unlearn_loss": "ascent", "distillation": False, "levels": "class"}
    unlearn = both | {"inner_data": "buffer"}
    made = (with_fields(base, **values) for values in (learn, unlearn))
    return Case(factory(APPLY, *made, num_classes=3), {kind: with_fields(base_hyper, **hyper) for kind in kinds})


DESCENTS = [name for name in METHODS if entry_of(name) is not None]
DISTILS = [name for name in DESCENTS if any(isinstance(h, DescentHyper) for h in of_entry(name).hyper.values())]
TAUGHT = {name: {"distillation": True} for name in DISTILS}
STEPPING = [name for name in DESCENTS if issubclass(type(default_settings(name)), StepSettings)]
CASES = {
    **{
        name: of_ug_clu(serves(name), change.get("settings", {}), **change.get("hyper", {}))
        for name, change in (VARIANTS | LEARN_VARIANTS).items()
    },
    **{
        name: of_plain(serves(name), change.get("settings", {}), **change.get("hyper", {}))
        for name, change in PLAIN_VARIANTS.items()
    },
    "ug_clu soft gradient": of_ug_clu(settings={"mask": "soft", "saliency": "gradient"}),
    "ug_clu bounded distilling": of_ug_clu(
        settings={"unlearn_loss": "bounded", "levels": "midpoint", "distillation": True}, remain_clip_norm=0.1
    ),
    "ug_clu without inner steps": of_ug_clu(settings={"inner_steps": 0}),
    "ug_clu keep statistics": of_ug_clu(settings={"keep_fast_statistics": True, "inner_schedule": "constant"}),
    "ug_clu_plain straight_through batch_fisher": of_plain(
        settings={"mask": "straight_through", "saliency": "batch_fisher"}
    ),
    "ug_clu_plain without inner steps": of_plain(
        settings={"mask": "none", "inner_steps": 0, "coefficient_decay": False, "inner_schedule": "constant"}
    ),
    "ug_clu_plain keep statistics": of_plain(settings={"keep_fast_statistics": True}),
    "ug_clu_plain bounded distilling": of_plain(
        settings={"mask": "none", "unlearn_loss": "bounded", "distillation": True}
    ),
    "ug_clu_plain target euclidean": of_plain(
        settings={"mask": "none", "unlearn_loss": "target", "manifold": "euclidean"}
    ),
    **{name: of_entry(name) for name in DESCENTS},
    **{f"{name} adamw": of_entry(name, optimizer="adamw", **TAUGHT.get(name, {})) for name in STEPPING},
    **{name: Case(of_defaults(name), do_nothing().hyper) for name in REFERENCE_POINTS if name != "retrain"},
    "analytic_head": Case(make(analytic_head, SETUP), make(analytic_head, SETUP).hyper),
    "retrain": Case(make(retrain, SETUP, OracleSettings(1, 8)), {"learn": (), "unlearn": ()}),
    "combined": Case(
        combine(learn=of_entry("finetune_remain").method, unlearn=do_nothing()),
        {"learn": DescentHyper(), "unlearn": ()},
    ),
}
SERVED = [(name, kind) for name, case in CASES.items() for kind in case.hyper]
TASK = Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.arange(-4, 16)[::-1].at[16:].set(-1), jnp.asarray(16))
BEFORE = TASK._replace(ids=jnp.arange(20, 40), count=jnp.asarray(20))


@pytest.fixture(scope="module")
def network():
    return fresh_network(jax.random.key(0))


@pytest.fixture(scope="module")
def empty_buffer():
    return buffer_lib.init(CAPACITY, (4,), jnp.uint8, jax.random.key(0))


@pytest.fixture(scope="module")
def filled_buffer(empty_buffer):
    return buffer_lib.insert(empty_buffer, BEFORE)


def signature(tree):
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


@functools.cache
def program(name, kind):
    """One for all tests of a case, and a list that grows whenever it is traced."""
    traces = []

    def counted(key, state, hyper, task):
        traces.append(kind)
        return apply_request(CASES[name].method, kind, key, state, hyper, task)

    return quick_jit(counted), traces


def test_the_whole_catalogue_is_tried():
    assert set(DESCENTS) - set(STEPPING) == {"ssd"}
    assert set(METHODS) <= set(CASES)
    for name in METHODS:
        assert tuple(CASES[name].hyper) == serves(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    # AdamW beside SGD for every method is twice the compilations: one of them here, all of them with what is long.
    [
        pytest.param(name, kind, marks=pytest.mark.slow if "adamw" in name and "salun" not in name else [])
        for name, kind in SERVED
    ],
)
def test_contract(name, kind, network, filled_buffer):
    method, hyper = CASES[name].method, CASES[name].hyper[kind]
    state = method.init(*network)
    # What the buffer holds was learned before this request.
    state = state._replace(extra=method.track("learn", state.extra, BEFORE))
    before = CLUState(state, filled_buffer)
    hyper, (jitted, traces) = jax.tree.map(jnp.asarray, hyper), program(name, kind)
    keys = jax.random.split(jax.random.key(1), 2)
    after, info = jitted(keys[0], before, hyper, TASK)
    new_state = after.method

    assert isinstance(new_state, MethodState) and isinstance(info, Info)
    assert signature(after) == signature(before), "structure, shapes and types are kept, those of memories included"
    assert jax.tree.structure(info.mask_density) == jax.tree.structure(state.params)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves((new_state, info)))
    assert float(info.gradient_evaluations) >= 0
    said = method.cost(kind, CAPACITY, TASK.ids.shape[0])
    if name == "retrain":  # which says what it costs at most
        assert float(info.gradient_evaluations) <= said
    else:
        assert float(info.gradient_evaluations) == pytest.approx(said)

    second, _ = jitted(keys[1], CLUState(new_state, filled_buffer), jax.tree.map(lambda x: x * 0.5, hyper), TASK)
    assert len(traces) == 1, "another key, state and hyper: the same program"

    mapped = quick_jit(jax.vmap(functools.partial(apply_request, method, kind), in_axes=(0, None, None, None)))
    stacked, _ = mapped(keys, before, hyper, TASK)
    alone, _ = jitted(keys[1], before, hyper, TASK)
    for s, single in enumerate((new_state, alone.method)):
        jax.tree.map(
            lambda a, b, s=s: np.testing.assert_allclose(a[s], b, rtol=2e-4, atol=2e-5), stacked.method, single
        )

    pairs = zip(jax.tree.leaves(second.method), jax.tree.leaves(new_state), strict=True)
    moved = any(bool(jnp.any(a != b)) for a, b in pairs)
    nothing = (name in REFERENCE_POINTS and name != "retrain") or (name == "combined" and kind == "unlearn")
    assert moved != nothing


@pytest.mark.parametrize(("name", "kind"), [(name, list(case.hyper)[-1]) for name, case in CASES.items()])
def test_an_empty_buffer_harms_nothing(name, kind, network, empty_buffer):
    method, hyper = CASES[name].method, CASES[name].hyper[kind]
    state, (jitted, _) = method.init(*network), program(name, kind)
    after, _ = jitted(jax.random.key(0), CLUState(state, empty_buffer), jax.tree.map(jnp.asarray, hyper), TASK)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(after.method))
    if name == "finetune_remain":  # nothing to fine-tune on
        jax.tree.map(np.testing.assert_array_equal, after.method, state)


# --- every hyperparameter is read -------------------------------------------------------------------------------------

ELSEWHERE = {
    "clip_norm": 1e-3,
    "step_clip_norm": 1e-3,
    "stop_ratio": 1e-3,
    "kept_share": 0.5,
    "second_momentum": 0.5,
    "forget_weight": 1e-3,
    "loss_floor": 1.0,
    "selection": 50.0,
}
"""Another value than any case has; half of it, or ¼ where it is 0, for fields that are not here."""
READ_UNDER = {"distillation_weight": "distil", "second_momentum": "adamw"}
"""Fields that are read under a setting that the plain cases lack, and the word by which their documentation says so."""
READ_BY_THE_OTHER = {("uniclun", "learn"): {"retention": "unlearning"}}
"""The same for what the other kind of request reads."""


def unread(name, kind, network, empty, filled):
    """The hyperparameters of a case that change no bit of what its request leaves, after one that it learns from."""
    (method, hypers), key = CASES[name], jax.random.key(1)
    hyper, state, (jitted, _) = hypers[kind], method.init(*network), program(name, kind)
    before = CLUState(state, filled)
    if "learn" in hypers:  # a memory holds something
        first = jax.tree.map(jnp.asarray, hypers["learn"])
        before = program(name, "learn")[0](key, CLUState(state, empty), first, BEFORE)[0]

    def end(**changes):
        moved = jax.tree.map(jnp.asarray, dataclasses.replace(hyper, **changes))
        return jax.tree.leaves(jitted(key, before, moved, TASK)[0].method)

    base, same = end(), set()
    for field in dataclasses.fields(hyper):
        value = ELSEWHERE.get(field.name, getattr(hyper, field.name) * 0.5 or 0.25)
        if all(bool(jnp.all(a == b)) for a, b in zip(base, end(**{field.name: value}), strict=True)):
            same.add(field.name)
    return same


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in [*DESCENTS, "analytic_head"] for kind in CASES[name].hyper]
)
def test_every_hyperparameter_changes_what_a_request_leaves(name, kind, network, empty_buffer, filled_buffer):
    """An accepted and ignored one would mislead; what is read under a setting alone says so where it is explained."""
    hyper = type(CASES[name].hyper[kind])
    same = unread(name, kind, network, empty_buffer, filled_buffer)
    words = READ_UNDER | READ_BY_THE_OTHER.get((name, kind), {})
    assert same == words.keys() & {field.name for field in dataclasses.fields(hyper)}
    said = "".join(inspect.getsource(part) for part in hyper.__mro__ if dataclasses.is_dataclass(part))
    for field in same:
        assert re.search(rf"    {field}: .*\n    \"\"\".*{words[field]}", said), field


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(f"{name} adamw", kind, marks=pytest.mark.slow if name != "salun" else [])
        for name in STEPPING
        for kind in CASES[f"{name} adamw"].hyper
    ],
)
def test_what_is_read_under_a_setting_is_read_there(name, kind, network, empty_buffer, filled_buffer):
    by_the_other = READ_BY_THE_OTHER.get((name.removesuffix(" adamw"), kind), {})
    assert unread(name, kind, network, empty_buffer, filled_buffer) == set(by_the_other)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in STEPPING for kind in CASES[name].hyper])
def test_a_request_at_rate_0_leaves_the_kept_share(name, kind, network, filled_buffer):
    """Of every weight and once a step, of how many updates it may be; but not of those that a mask holds in place."""
    method, (jitted, _) = CASES[name].method, program(name, kind)
    state = method.init(*network)
    before = CLUState(state._replace(extra=method.track("learn", state.extra, BEFORE)), filled_buffer)

    def end(kept_share):
        hyper = dataclasses.replace(CASES[name].hyper[kind], learning_rate=0.0, kept_share=kept_share)
        hyper = jax.tree.map(jnp.asarray, hyper)
        return jax.flatten_util.ravel_pytree(jitted(jax.random.key(1), before, hyper, TASK)[0].method.params)[0]

    whole, left = end(1.0), end(0.25)
    held = (left == whole) & (whole != 0)
    assert held.any() == (name == "salun") and not held.all()
    np.testing.assert_allclose(left[~held], 0.25 * whole[~held], rtol=2e-6)


# --- what is refused -------------------------------------------------------------------------------------------------


def assert_refused(method, kind, network, buffer):
    """By whatever would run it, and by `combine` at once."""
    assert getattr(method, kind) is None and kind not in method.kinds
    state, message = CLUState(method.init(*network), buffer), f"does not {kind}: combine it with a method that does"
    for refusing in (
        lambda: method.update(kind),
        lambda: check_request(method, kind, ()),
        lambda: combine(**{"learn": do_nothing(), "unlearn": do_nothing(), kind: method}),
        lambda: apply_request(method, kind, jax.random.key(0), state, (), TASK),
        lambda: request_program()(method, kind, jax.random.key(0), state, (), TASK),
    ):
        with pytest.raises(ValueError, match=message):
            refusing()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.method.kinds) == 1])
def test_a_request_that_a_method_does_not_serve_is_refused(name, network, empty_buffer):
    method = CASES[name].method
    (kind,) = set(REQUEST_KINDS) - set(method.kinds)
    assert kind not in method.hyper
    assert_refused(method, kind, network, empty_buffer)


@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_a_method_made_by_hand_serves_what_it_was_given(kind, network, empty_buffer):
    nothing = do_nothing()
    mine = Method("mine", nothing.learn, nothing.unlearn, nothing.hyper, nothing.cost)._replace(**{kind: None})
    assert_refused(mine, kind, network, empty_buffer)
    (other,) = mine.kinds
    assert check_request(mine, other, ()) is nothing.update(other)


@pytest.mark.parametrize("name", METHODS)
def test_another_word_than_learn_and_unlearn_is_refused(name, network, empty_buffer):
    method, state = CASES[name].method, CLUState(CASES[name].method.init(*network), empty_buffer)
    for refusing in (
        lambda: method.update("forget"),
        lambda: check_request(method, "forget", ()),
        lambda: apply_request(method, "forget", jax.random.key(0), state, (), TASK),
        lambda: request_program()(method, "forget", jax.random.key(0), state, (), TASK),
    ):
        with pytest.raises(ValueError, match="kind must be one of learn, unlearn, got 'forget'"):
            refusing()


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in METHODS for kind in serves(name)])
def test_hyperparameters_of_another_method_are_refused(name, kind, network, empty_buffer):
    method, own = CASES[name].method, type(CASES[name].method.hyper[kind])
    assert check_request(method, kind, CASES[name].hyper[kind]) is method.update(kind)
    others = {type(hyper): hyper for case in CASES.values() for hyper in case.hyper.values()}
    foreign = [hyper for kept, hyper in others.items() if not issubclass(kept, own)]
    assert foreign
    wanted = r"\(\)" if own is tuple else f"a {own.__name__}"
    for hyper in [*foreign, {"learning_rate": 0.1}, None]:
        with pytest.raises(ValueError, match=f"hyper of {method.name} to {kind} must be {wanted}, got "):
            check_request(method, kind, hyper)
    state = CLUState(method.init(*network), empty_buffer)
    with pytest.raises(ValueError, match=f"hyper of {method.name} to {kind} must be {wanted}, got "):
        request_program()(method, kind, jax.random.key(0), state, foreign[0], TASK)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in METHODS for kind in serves(name)])
def test_hyperparameters_out_of_their_range_are_refused_by_name(name, kind):
    method, hyper = CASES[name].method, CASES[name].hyper[kind]
    for field in dataclasses.fields(hyper) if dataclasses.is_dataclass(hyper) else ():
        interval = range_of(type(hyper), field.name)
        beyond = [-0.1, float("nan")] + ([interval.highest * 1.5] if np.isfinite(interval.highest) else [])
        for value in beyond:
            with pytest.raises(ValueError, match=rf"{field.name} must be in [\[(]0, .*, got {value:g}"):
                check_request(method, kind, dataclasses.replace(hyper, **{field.name: value}))


@pytest.mark.parametrize("name", DESCENTS)
def test_settings_of_what_a_method_does_not_read_are_refused(name):
    """They would have no effect; and so are those that lack what it reads, or its own."""
    own, parts = type(default_settings(name)), (TaskSettings, BufferSettings)
    assert isinstance(make(entry_of(name).factory, SETUP, own()), Method)
    unread = tuple(part for part in parts if not issubclass(own, part))
    more = dataclasses.make_dataclass("More", [], bases=(own, *unread), frozen=True, kw_only=True)
    for given in {*parts, DescentSettings, more if unread else DescentSettings} - {own}:
        with pytest.raises(ValueError, match=f"settings of {name} must be {own.__name__}, got {given.__name__}"):
            make(entry_of(name).factory, SETUP, given())


@pytest.mark.parametrize("name", DESCENTS)
def test_settings_are_given_by_name(name):
    """So that none takes the place of another where a method lacks one."""
    own = type(default_settings(name))
    assert name in STEPPING or not hasattr(own, "optimizer")
    assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(own).parameters.values())


# --- memories --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_tracking_twice_is_tracking_once_and_leaves_others_alone(name, network):
    method = CASES[name].method
    extra = method.init(*network).extra
    for kind in REQUEST_KINDS:
        once = method.track(kind, extra | {"another": 7}, TASK)
        jax.tree.map(np.testing.assert_array_equal, method.track(kind, once, TASK), once)
        assert once["another"] == 7 and signature(once) == signature(extra | {"another": 7})
        assert method.track(kind, {"another": 7}, TASK) == {"another": 7}


@pytest.mark.parametrize("name", CASES)
def test_memories_are_entries_of_their_names_and_storing_leaves_others_alone(name, network, filled_buffer):
    method = CASES[name].method
    state = method.init(*network)
    assert list(state.extra) == [memory.name for memory in method.memories]
    for kind in REQUEST_KINDS:
        tracked = state._replace(extra=method.track(kind, state.extra, TASK) | {"another": 7})
        stored = method.store(kind, tracked, filled_buffer, TASK)
        assert stored.extra["another"] == 7 and signature(stored) == signature(tracked)
        assert method.store(kind, state._replace(extra={"another": 7}), filled_buffer, TASK).extra == {"another": 7}
