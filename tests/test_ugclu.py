"""UG-CLU: its step and whole requests against NumPy loops, what its settings do, devices, and hypergradients."""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy import stats

from ugclu_jax import buffer as reservoir
from ugclu_jax.at import At
from ugclu_jax.harness.refusals import unread
from ugclu_jax.loop import Moment
from ugclu_jax.ranges import check_hyper
from ugclu_jax.types import Batch, Examples, Execution, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import UNLEARNING, UGCLUHyper, UGCLUSettings
from ugclu_jax.ugclu_step import TaskAndRemain, start, step

NUM_EXAMPLES, CLASSES = 12, 3
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(NUM_EXAMPLES, 3))
LABELS = np.arange(NUM_EXAMPLES) % CLASSES
HYPER = dataclasses.replace(
    PLAIN_HYPER,
    fast_learning_rate=0.3,
    remain_learning_rate=0.2,
    slow_step_size=0.8,
    loss_exponent=0.6,
    saliency_threshold=0.9,
    mask_temperature=1.5,
    clip_norm=0.4,
    remain_weight_decay=0.05,
)
# Few settings and one set of shapes, for compiling is most of the time of these tests.
SMALL = dataclasses.replace(
    PLAIN, outer_steps=3, inner_steps=2, task_batch_size=4, remain_batch_size=8, saliency_batches=2
)
MIXED = dataclasses.replace(SMALL, inner_data="mixed")
SOFT = dataclasses.replace(SMALL, mask="soft", saliency="batch_fisher")
NO_MASK = dataclasses.replace(SMALL, mask="none", coefficient_decay=False)
# The default form, masked so that every setting is read.
BUDGETED = dataclasses.replace(SOFT, fast_step="budget", preconditioner="adam", inner_schedule="inner")
# A budget that three steps reach, each of which may be four times as long as the one before.
BUDGETED_HYPER = dataclasses.replace(HYPER, output_budget=2e-4, kept_share=0.8, remain_learning_rate=0.05)
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
insert = jax.jit(reservoir.insert)


def examples(ids, inputs=INPUTS, size=5):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(inputs), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids, inputs=INPUTS):
    empty = reservoir.init(6, inputs.shape[1:], jnp.asarray(inputs).dtype, jax.random.key(0))
    return insert(empty, examples(ids, inputs))


def traceable_request(kind, settings, apply_fn, params, hyper, task, buffer, *, model_state=None, seed=0, devices=None):
    """One request; on `devices` mapped devices every leaf of the result has that leading axis."""
    learn = dataclasses.replace(settings, unlearn_loss="ascent", levels="class")
    method = ug_clu(apply_fn, learn, dataclasses.replace(settings, inner_data="buffer"), num_classes=CLASSES)
    state = method.init(params, {} if model_state is None else model_state)._replace(extra={"kept": 7})
    run = functools.partial(getattr(method, kind), jax.random.key(seed), state, hyper, task, buffer)
    if devices is None:
        return run()
    return jax.vmap(lambda _: run(where=Execution("device")), axis_name="device")(jnp.zeros(devices))


request = jax.jit(
    traceable_request,
    static_argnames=("kind", "settings", "apply_fn", "devices"),
    compiler_options=QUICK_COMPILATION,
)


def assert_close(tree, expected, **tolerance):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, err_msg=name, **{"rtol": 1e-11, "atol": 1e-13, **tolerance})


# --- against the loop ------------------------------------------------------------------------------------------------


def rates(hyper):
    """The settings of `reference.step`; the others belong to the mask."""
    settings = dataclasses.asdict(hyper)
    return {
        name: settings[name]
        for name in settings
        if name in ("fast_learning_rate", "remain_learning_rate", "slow_step_size", "loss_exponent", "clip_norm")
        or name == "remain_weight_decay"
    }


@functools.partial(jax.jit, static_argnames=("kind", "apply_fn", "settings"))
def jit_step(params, batches, hyper, *, kind, apply_fn, mask, remaining_share, settings):
    at = At(apply_fn, params, {}, moment=Moment(remaining_share=remaining_share), mask=mask)
    carry, model_state, info = step(at, start(params, settings), batches, hyper, kind, settings)
    return carry.params, model_state, info


@pytest.mark.parametrize(
    ("kind", "coefficient_decay", "remain_decay"),
    [("learn", True, True), ("unlearn", True, False), ("unlearn", False, True)],
)
def test_steps_are_those_of_a_loop(x64, mlp, kind, coefficient_decay, remain_decay):
    """Four steps on drawn batches with padding; the norm is clipped in some of them and not in others."""
    rng, params, expected, clipped = np.random.default_rng(5), mlp.params, mlp.params, []
    mask = {name: rng.integers(0, 2, p.shape).astype(float) for name, p in params.items()}
    schedule = "outer" if remain_decay else "constant"
    settings = dataclasses.replace(SMALL, coefficient_decay=coefficient_decay, inner_schedule=schedule)
    for k in range(4):
        task = Batch(rng.normal(size=(5, 3)), rng.integers(0, 3, 5), np.array([1.0, 1.0, 0.0, 1.0, 1.0]))
        weights = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
        remain = Batch(rng.normal(size=(3, 4, 3)), rng.integers(0, 3, (3, 4)), weights)
        hyper = dataclasses.replace(HYPER, clip_norm=[np.inf, 0.1][k % 2])
        params, state, info = jit_step(
            params,
            TaskAndRemain(task, remain),
            hyper,
            kind=kind,
            apply_fn=mlp.apply_fn,
            mask=mask,
            remaining_share=1 - k / 4,
            settings=settings,
        )
        expected, trace = reference.step(
            mlp.twin,
            expected,
            task,
            list(zip(*remain[:3], strict=True)),
            kind=kind,
            mask=mask,
            coefficient_share=1 - k / 4 if coefficient_decay else 1.0,
            remain_share=1 - k / 4 if remain_decay else 1.0,
            **rates(hyper),
        )
        assert_close(params, expected)
        assert state == {}
        assert info.task_loss == pytest.approx(trace["task_loss"], rel=1e-11)
        np.testing.assert_allclose(info.update.remain_losses, trace["remain_losses"], rtol=1e-11)
        assert info.update.fast_norm == pytest.approx(trace["fast_norm"], rel=1e-11)
        assert info.update.displacement_norm == pytest.approx(trace["displacement_norm"], rel=1e-11)
        assert info.update.clipped == trace["clipped"]
        clipped.append(trace["clipped"])
    assert clipped == [False, True, False, True]


@pytest.mark.parametrize(
    ("kind", "settings", "statistic"),
    [
        ("learn", SMALL, reference.fisher),
        ("unlearn", SOFT, reference.batch_fisher),
        ("learn", NO_MASK, None),
    ],
    ids=["hard", "soft", "none"],
)
def test_a_request_is_that_of_a_loop(x64, mlp, kind, settings, statistic):
    """Where task and buffer hold one example each, every draw is known."""
    state, info = request(kind, settings, mlp.apply_fn, mlp.params, HYPER, examples([4]), buffer_of([9]))
    task, remain = ((INPUTS[[i] * 4], LABELS[[i] * 4], np.ones(4)) for i in (4, 9))
    expected_mask = {name: np.ones_like(p) for name, p in mlp.params.items()}
    if statistic is not None:
        statistics = [statistic(mlp.twin, mlp.params, [batch]) for batch in (task, remain)]
        expected_mask = reference.hard_mask(*statistics, HYPER.saliency_threshold)
        assert 0 < np.mean(np.concatenate([m.ravel() for m in expected_mask.values()])) < 1
    if settings.mask == "soft":
        expected_mask = reference.soft_mask(*statistics, HYPER.saliency_threshold, HYPER.mask_temperature)
    params, traces = mlp.params, []
    for k in range(3):
        params, trace = reference.step(
            mlp.twin,
            params,
            task,
            [remain] * 2,
            kind=kind,
            mask=expected_mask,
            coefficient_share=1 - k / 3 if settings.coefficient_decay else 1.0,
            remain_share=1 - k / 3,
            **rates(HYPER),
        )
        traces.append(trace)
    assert_close(state.params, params)
    assert_close(info.mask_density, {name: m.mean() for name, m in expected_mask.items()})
    for field, name in {
        "task_losses": "task_loss",
        "remain_losses": "remain_losses",
        "fast_norms": "fast_norm",
        "clipped": "clipped",
        "displacement_norms": "displacement_norm",
    }.items():
        np.testing.assert_allclose(getattr(info, field), [trace[name] for trace in traces], rtol=1e-10)
    assert state.model_state == {} and state.extra == {"kept": 7}


@pytest.mark.parametrize("settings", [SMALL, MIXED], ids=["buffer", "mixed"])
def test_the_first_request_finds_an_empty_buffer_and_a_free_mask(x64, mlp, settings):
    """Every weight is free; the inner steps do nothing, or see the task alone."""
    hyper = dataclasses.replace(HYPER, remain_weight_decay=0.0)
    state, info = request("learn", settings, mlp.apply_fn, mlp.params, hyper, examples([4]), buffer_of([]))
    params, task, losses = mlp.params, (INPUTS[[4]], LABELS[[4]], np.ones(1)), []
    remain = (*task[:2], np.full(1, float(settings is MIXED)))
    ones = {name: np.ones_like(p) for name, p in params.items()}
    for k in range(3):
        share = {"coefficient_share": 1 - k / 3, "remain_share": 1 - k / 3}
        params, trace = reference.step(
            mlp.twin, params, task, [remain] * 2, kind="learn", mask=ones, **share, **rates(hyper)
        )
        losses.append(trace["remain_losses"])
    assert_close(state.params, params)
    assert_close(info.mask_density, {name: 1.0 for name in params})
    np.testing.assert_allclose(info.remain_losses, losses, rtol=1e-11)


# --- what the settings do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True])
def test_statistics_of_the_fast_step_are_discarded_unless_kept(keep):
    def averaging(params, model_state, inputs, *, train, rng_key):
        state = {"mean": (model_state["mean"] + inputs.mean(0)) / 2} if train else model_state
        return (inputs - state["mean"]) @ params, state

    settings = dataclasses.replace(NO_MASK, keep_fast_statistics=keep)
    begun = {"mean": np.full(3, 5.0)}
    arguments = (np.ones((3, 3)), HYPER, examples([4]), buffer_of([9]))
    state, _ = request("unlearn", settings, averaging, *arguments, model_state=begun)
    expected = begun["mean"]
    for _ in range(3):
        for source in ([INPUTS[4]] if keep else []) + [INPUTS[9]] * 2:
            expected = (expected + source) / 2
    np.testing.assert_allclose(state.model_state["mean"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "inner_data", "expected"),
    [
        # Classes are ids modulo 3. Buffer: 0, 3, 1; task: 4, 6, 8.
        ("learn", "buffer", {0: 1 / 3, 1: 1 / 3, 3: 1 / 3}),
        ("learn", "mixed", {0: 1 / 9, 1: 1 / 6, 3: 1 / 9, 4: 1 / 6, 6: 1 / 9, 8: 1 / 3}),
        ("unlearn", "buffer", {0: 1 / 3, 1: 1 / 3, 3: 1 / 3}),
    ],
)
def test_inner_steps_see_the_data_of_the_setting(kind, inner_data, expected):
    """The model counts the ids that it is trained on; the counts of fast steps are discarded."""

    def counting(params, model_state, inputs, *, train, rng_key):
        seen = model_state["seen"].at[inputs[:, 0]].add(1) if train else model_state["seen"]
        return inputs @ params, {"seen": seen}

    ids = np.arange(NUM_EXAMPLES)[:, None]
    settings = dataclasses.replace(
        UNLEARNING, outer_steps=40, inner_steps=3, remain_batch_size=16, inner_data=inner_data
    )
    nowhere = UGCLUHyper(output_budget=0.0, remain_learning_rate=0.0, kept_share=1.0)
    arguments = (np.ones((1, CLASSES)), nowhere, examples([4, 6, 8], ids), buffer_of([0, 3, 1], ids))
    state, _ = request(kind, settings, counting, *arguments, model_state={"seen": np.zeros(NUM_EXAMPLES, np.int32)})
    seen = np.asarray(state.model_state["seen"])
    assert seen.sum() == 40 * 3 * 16
    assert np.flatnonzero(seen).tolist() == list(expected)
    assert stats.chisquare(seen[seen > 0], seen.sum() * np.array(list(expected.values()))).pvalue > 1e-3


def test_the_model_gets_another_key_at_every_forward_pass():
    def noisy(params, model_state, inputs, *, train, rng_key):
        if not train:
            return inputs @ params, model_state
        slot, noise = model_state["slot"], jax.random.normal(rng_key)
        return inputs @ params, {"slot": slot + 1, "noises": model_state["noises"].at[slot].set(noise)}

    settings = dataclasses.replace(NO_MASK, keep_fast_statistics=True)
    begun = {"slot": np.int32(0), "noises": np.zeros(9, np.float32)}
    arguments = (np.ones((3, 3)), HYPER, examples([4]), buffer_of([9]))
    state, _ = request("learn", settings, noisy, *arguments, model_state=begun)
    assert state.model_state["slot"] == 9
    assert len(np.unique(state.model_state["noises"])) == 9


def test_progress_is_reported_and_changes_nothing(mlp):
    calls = []

    def on_step(done, total, info):
        calls.append((int(done), int(total), float(info.task_loss)))

    arguments = (jax.random.key(0), MethodState(mlp.params, {}), HYPER, examples([4, 5]), buffer_of([9, 2]))
    update = ug_clu(mlp.apply_fn, NO_MASK, NO_MASK, num_classes=CLASSES).unlearn
    results = [
        jax.jit(functools.partial(update, where=Execution(on_step=callback)), compiler_options=QUICK_COMPILATION)(
            *arguments
        )
        for callback in (None, on_step)
    ]
    jax.effects_barrier()
    jax.tree.map(np.testing.assert_array_equal, *results)
    losses = results[0][1].task_losses
    assert sorted(calls) == [(k + 1, 3, float(losses[k])) for k in range(3)]


@pytest.mark.parametrize(
    ("settings", "examples_read"),
    [
        (SMALL, 2 * 2 * 4 + 3 * (4 + 2 * 8)),
        (NO_MASK, 3 * (4 + 2 * 8)),
        (dataclasses.replace(BUDGETED, mask="none"), 3 * (4 + 4 / 3 + 2 * 8)),  # a forward pass is a third
        (dataclasses.replace(NO_MASK, fast_step="none"), 3 * 2 * 8),
    ],
    ids=["hard", "none", "budget", "no fast step"],
)
def test_gradient_evaluations_count_every_example(x64, mlp, settings, examples_read):
    info = request("learn", settings, mlp.apply_fn, mlp.params, HYPER, examples([4]), buffer_of([9]))[1]
    assert info.gradient_evaluations == np.float32(examples_read / 64)


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "devices", "settings"),
    [("learn", 2, MIXED), ("unlearn", 4, SOFT), ("unlearn", 2, BUDGETED)],
    ids=["learn", "unlearn", "budget"],
)
def test_devices_agree_with_one(x64, mlp, kind, devices, settings):
    arguments = (mlp.params, BUDGETED_HYPER, examples([4, 5, 6]), buffer_of([9, 2, 1, 7]))
    split = request(kind, settings, mlp.apply_fn, *arguments, devices=devices)
    whole = request(kind, settings, mlp.apply_fn, *arguments)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


# --- hypergradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mode", "base"),
    [("learn", jax.jacfwd, SOFT), ("unlearn", jax.jacrev, SOFT), ("unlearn", jax.jacrev, BUDGETED)],
    ids=["learn, forward", "unlearn, reverse", "budget, reverse"],
)
def test_hypergradients_are_the_central_differences(x64, mlp, kind, mode, base):
    """By every setting, through three outer and six inner steps, the mask and the coefficients; 0 by what is unread."""
    change = {"inner_data": "mixed"} if kind == "learn" else {"distillation": True}
    settings = dataclasses.replace(base, **change)
    start = dataclasses.replace(HYPER if base is SOFT else BUDGETED_HYPER, kept_share=0.8, remain_clip_norm=0.2)

    def objective(hyper):
        task, buffer = examples([4, 5, 6]), buffer_of([9, 2, 1, 7])
        state, info = traceable_request(kind, settings, mlp.apply_fn, mlp.params, hyper, task, buffer)
        logits, _ = mlp.apply_fn(state.params, {}, INPUTS, train=False, rng_key=None)
        value = jnp.vdot(jnp.tanh(logits), np.cos(np.arange(logits.size)).reshape(logits.shape))
        return value, (value, info)

    # One program for the gradient and for the values that it is compared with.
    slopes_and_value = jax.jit(mode(objective, has_aux=True), compiler_options=QUICK_COMPILATION)
    norms = slopes_and_value(start)[1][1].fast_norms
    # Between the norms of the steps: some are clipped and none is at the kink.
    hyper = dataclasses.replace(start, clip_norm=float(np.mean(np.sort(norms)[-2:])))
    slopes, (_, info) = slopes_and_value(hyper)
    assert (0 < np.sum(info.clipped) < 3) == (base is SOFT)
    for field in dataclasses.fields(UGCLUHyper):
        if unread(settings, kind, f"hyper.{field.name}") is not None:
            assert getattr(slopes, field.name) == 0, field.name
            continue
        at = getattr(hyper, field.name)
        # Divergences of 10⁻⁶ nats are rounded to 10⁻¹⁰ of themselves: what acts through them alone needs a longer step.
        step = {"output_budget": 1e-8, "saliency_threshold": 3e-4, "mask_temperature": 3e-4}.get(field.name, 1e-5)
        ends = [
            float(slopes_and_value(dataclasses.replace(hyper, **{field.name: at + shift}))[1][0])
            for shift in (step, -step)
        ]
        numeric = (ends[0] - ends[1]) / (2 * step)
        # Where all gradients are clipped, Adam takes their common scale away again, but for its ε.
        least = 1e-8 if base is BUDGETED and field.name == "remain_clip_norm" else 1e-4
        assert abs(numeric) > least, field.name
        assert float(getattr(slopes, field.name)) == pytest.approx(numeric, rel=1e-6, abs=1e-9), field.name


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(UGCLUHyper)])
@pytest.mark.parametrize("value", [-0.1, float("nan"), -float("inf")])
def test_a_hyperparameter_below_its_range_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be in .* got {value:g}"):
        check_hyper(dataclasses.replace(UGCLUHyper(), **{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slow_step_size", 1.01),
        ("kept_share", 1.01),
        ("kept_share", 0.0),
        ("remain_clip_norm", 0.0),
        ("output_budget", float("inf")),
        ("mask_temperature", 0.0),
        ("clip_norm", 0.0),
        ("fast_learning_rate", float("inf")),
        ("mask_temperature", float("inf")),
    ],
)
def test_other_values_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be in .* got {value:g}"):
        check_hyper(dataclasses.replace(UGCLUHyper(), **{field: value}))


def test_ends_of_the_ranges_are_allowed():
    ends = {"kept_share": 1e-9, "mask_temperature": 1e-9, "clip_norm": float("inf"), "remain_clip_norm": float("inf")}
    check_hyper(UGCLUHyper(**{field.name: ends.get(field.name, 0.0) for field in dataclasses.fields(UGCLUHyper)}))
    check_hyper(UGCLUHyper(slow_step_size=1.0, kept_share=1.0, clip_norm=1e-9, remain_clip_norm=1e-9))
    check_hyper(jax.tree.map(jnp.asarray, UGCLUHyper()))


@pytest.mark.parametrize(
    ("field", "least"),
    [
        ("outer_steps", 1),
        ("inner_steps", 0),
        ("task_batch_size", 1),
        ("remain_batch_size", 1),
        ("saliency_batches", 1),
    ],
)
def test_a_size_below_its_bound_is_refused(field, least):
    assert getattr(UGCLUSettings(**{field: least}), field) == least
    with pytest.raises(ValueError, match=f"{field} must be at least {least}, got {least - 1}"):
        UGCLUSettings(**{field: least - 1})


@pytest.mark.parametrize(
    "field", ["inner_data", "mask", "saliency", "fast_step", "preconditioner", "inner_schedule", "levels", "manifold"]
)
def test_an_unknown_choice_is_refused(field):
    with pytest.raises(ValueError, match=rf"{field} must be one of .*, got 'hart'"):
        UGCLUSettings(**{field: "hart"})


def test_unlearning_that_rehearses_and_a_single_class_are_refused(mlp):
    with pytest.raises(ValueError, match="inner_data of an unlearn request must be 'buffer'"):
        ug_clu(mlp.apply_fn, SMALL, dataclasses.replace(SMALL, inner_data="mixed"), num_classes=3)
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        ug_clu(mlp.apply_fn, SMALL, SMALL, num_classes=1)
    with pytest.raises(ValueError, match="fast_step 'none' needs unlearn_loss 'ascent', got 'target'"):
        dataclasses.replace(NO_MASK, fast_step="none", unlearn_loss="target")
    with pytest.raises(ValueError, match="fast_step 'none' needs mask 'none', got 'hard'"):
        dataclasses.replace(SMALL, fast_step="none")
    with pytest.raises(ValueError, match="levels 'midpoint' needs unlearn_loss 'bounded' or 'target', got 'ascent'"):
        dataclasses.replace(SMALL, levels="midpoint")


# --- what a refused option would change ------------------------------------------------------------------------------

OTHERS = {  # every static setting at another value than those below have
    "task_batch_size": 5,
    "preconditioner": "adam",
    "inner_schedule": "constant",
    "inner_data": "mixed",
    "saliency": "gradient",
    "saliency_batches": 1,
    "coefficient_decay": False,
    "distillation": True,
    "keep_fast_statistics": True,
    "levels": "midpoint",
}
UNDER = {
    "plain": ("unlearn", SMALL),
    "budget": ("unlearn", dataclasses.replace(BUDGETED, mask="none", preconditioner="sgd", unlearn_loss="bounded")),
    "no fast step": ("learn", dataclasses.replace(NO_MASK, fast_step="none")),
    "no inner steps": ("unlearn", dataclasses.replace(NO_MASK, inner_steps=0)),
    "euclidean": ("unlearn", dataclasses.replace(NO_MASK, manifold="euclidean", unlearn_loss="target")),
}


def averaging_mlp(mlp):
    def apply_fn(params, model_state, inputs, *, train, rng_key):
        state = {"mean": (model_state["mean"] + inputs.mean(0)) / 2} if train else model_state
        return mlp.apply_fn(params, {}, inputs - state["mean"], train=train, rng_key=rng_key)[0], state

    return apply_fn


@pytest.mark.parametrize("under", UNDER)
def test_an_option_is_refused_exactly_where_it_changes_nothing(x64, mlp, under):
    """Every continuous setting, and every static one that is ever refused: bit for bit, or not at all."""
    kind, settings = UNDER[under]
    apply_fn, statistics = averaging_mlp(mlp), {"mean": np.zeros(3)}
    start = dataclasses.replace(BUDGETED_HYPER, remain_clip_norm=0.1, clip_norm=0.1)

    def served(settings, hyper):
        arguments = (mlp.params, hyper, examples([4, 5, 6]), buffer_of([9, 2, 1, 7]))
        return request(kind, settings, apply_fn, *arguments, model_state=statistics)[0]

    before = served(settings, start)

    def changes(after):
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        return any(np.any(np.asarray(one) != np.asarray(other)) for one, other in pairs)

    for field in dataclasses.fields(UGCLUHyper):
        after = served(settings, dataclasses.replace(start, **{field.name: 0.9 * getattr(start, field.name)}))
        assert changes(after) == (unread(settings, kind, f"hyper.{field.name}") is None), field.name
    for name, value in OTHERS.items():
        if unread(settings, kind, f"settings.{name}") is None or getattr(settings, name) == value:
            continue
        with contextlib.suppress(ValueError):  # refused by itself
            assert not changes(served(dataclasses.replace(settings, **{name: value}), start)), name
