"""Hypergradients against central differences and each other, sweeps against loops, tuning against a closed form."""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_stream import CLASSES, INPUTS, LABELS, buffer_of, examples

from ugclu_jax import buffer as reservoir
from ugclu_jax import metrics, models
from ugclu_jax.learner import CLUState
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.er import er
from ugclu_jax.methods.neg_grad_plus import NegGradPlusHyper, neg_grad_plus
from ugclu_jax.methods.salun import SalUnHyper, SalUnSettings, salun
from ugclu_jax.methods.sfron import SFRonHyper, SFRonSettings, sfron
from ugclu_jax.models.adapters import linen_apply_fn
from ugclu_jax.optimizer import OptimizerKind
from ugclu_jax.stepping import DescentHyper, DescentSettings
from ugclu_jax.tuning import (
    Problem,
    at,
    expected_accuracy,
    grid,
    hypergradient,
    kl_to_oracle,
    random,
    serve,
    sobol,
    sweep,
    tune,
)
from ugclu_jax.types import Examples, Method, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import UGCLUHyper

SETTINGS = dataclasses.replace(
    PLAIN, outer_steps=5, inner_steps=2, task_batch_size=4, remain_batch_size=4, saliency_batches=2, mask="soft"
)
HYPER = dataclasses.replace(
    PLAIN_HYPER,
    fast_learning_rate=0.2,
    remain_learning_rate=0.3,
    slow_step_size=0.8,
    loss_exponent=0.7,
    saliency_threshold=0.9,
    mask_temperature=1.3,
    clip_norm=0.2,
    remain_weight_decay=0.05,
    distillation_weight=0.4,
    output_budget=0.1,
    kept_share=0.7,
    remain_clip_norm=0.3,
)
UNREAD = {"plain": {"output_budget"}, "default": {"fast_learning_rate", "clip_norm"}}
FORMS = {"plain": {}, "default": {"fast_step": "budget", "preconditioner": "adam", "inner_schedule": "inner"}}
ONE_INPUT_DEAD = INPUTS * np.array([1.0, 1.0, 0.0])
"""An input that is always 0: the gradient of its weights is 0, where a root has no derivative."""


def mlp_apply(params, model_state, x, *, train, rng_key):
    return jnp.tanh(x @ params["hidden"]["kernel"]) @ params["head"]["kernel"], model_state


def mlp_params():
    rng = np.random.default_rng(1)
    shapes = {"hidden": (3, 5), "head": (5, CLASSES)}
    return {name: {"kernel": jnp.asarray(rng.normal(size=shape))} for name, shape in shapes.items()}


def mlp_problem(seed=0, kinds=1, inputs=INPUTS):
    oracle_logits = jnp.asarray(np.random.default_rng(2).normal(size=(2, 12, CLASSES)))
    state = CLUState(MethodState(mlp_params(), {}), buffer_of([0, 2, 4, 5, 6], inputs))
    tasks = (examples([1, 3], inputs), examples([7, 8], inputs))[:kinds]
    return Problem(state, jax.random.split(jax.random.key(seed), kinds), tasks, (jnp.asarray(inputs), oracle_logits))


def settings(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def method_of(**changes):
    return ug_clu(mlp_apply, settings(), settings(**changes), num_classes=CLASSES)


def central_differences(function, hyper, step=1e-5):
    """By kind and field, walking the fields one by one."""
    found = {}
    for kind, values in hyper.items():
        for field in dataclasses.fields(values):
            sides = []
            for sign in (1, -1):
                moved = dataclasses.replace(values, **{field.name: getattr(values, field.name) + sign * step})
                sides.append(float(function({**hyper, kind: moved})))
            found[kind, field.name] = (sides[0] - sides[1]) / (2 * step)
    return found


def compiled(method, kinds, problem, objective):
    return {
        mode: jax.jit(lambda hyper, mode=mode: hypergradient(objective, method, kinds, problem, hyper, mode=mode))
        for mode in ("reverse", "forward")
    }


def assert_agree(method, kinds, problem, hyper, objective, modes=None):
    program = jax.jit(lambda hyper: objective(serve(method, kinds, problem, hyper), problem.reference))
    modes = modes or compiled(method, kinds, problem, objective)
    expected = central_differences(program, hyper)
    scale = max(abs(value) for value in expected.values())
    assert scale > 1e-3, "an objective that no hyperparameter moves shows nothing"
    results = {}
    for mode, gradient_of in modes.items():
        found = gradient_of(hyper)
        np.testing.assert_allclose(found.value, program(hyper), rtol=1e-12)
        for (kind, name), value in expected.items():
            got = float(getattr(found.gradient[kind], name))
            # Relative to the derivative itself, or where it is nearly nothing, to the rounding of the differences.
            assert abs(got - value) <= 1e-4 * abs(value) + 1e-9, (mode, kind, name, got, value)
            results[mode, kind, name] = got
    for kind, name in expected:
        np.testing.assert_allclose(
            results["reverse", kind, name], results["forward", kind, name], rtol=1e-8, atol=1e-13
        )
    return expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inputs", [INPUTS, ONE_INPUT_DEAD], ids=["all inputs", "one input dead"])
def test_every_float_of_hyper_on_an_mlp(x64, inputs, form):
    problem, method = mlp_problem(inputs=inputs), method_of(distillation=True, **FORMS[form])
    slopes = assert_agree(method, ["unlearn"], problem, {"unlearn": HYPER}, kl_to_oracle(mlp_apply))
    assert {name for _, name in slopes} == {field.name for field in dataclasses.fields(UGCLUHyper)}
    moving = {name for (_, name), slope in slopes.items() if abs(slope) > 1e-8}  # none of these is trivially equal
    assert {name for _, name in slopes} - moving == UNREAD[form], slopes


@pytest.mark.slow
def test_a_stream_of_two_kinds(x64):
    problem = mlp_problem(kinds=2)
    hyper = {"unlearn": HYPER, "learn": dataclasses.replace(HYPER, fast_learning_rate=0.1)}
    slopes = assert_agree(method_of(), ["unlearn", "learn"], problem, hyper, kl_to_oracle(mlp_apply))
    assert abs(slopes["unlearn", "fast_learning_rate"]) > 1e-6  # through the request after it


@pytest.mark.parametrize("loss", ["bounded", "target"])
def test_bounded_forms(x64, loss):
    hyper = {"unlearn": dataclasses.replace(HYPER, clip_norm=5.0)}
    assert_agree(method_of(unlearn_loss=loss), ["unlearn"], mlp_problem(), hyper, kl_to_oracle(mlp_apply))


@pytest.mark.slow
def test_a_convolutional_network_with_batch_norm(x64):
    module = models.CNN(num_classes=CLASSES, widths=(2, 3), batch_norm=True, dtype=jnp.float64)
    rng = np.random.default_rng(3)
    images = jnp.asarray(rng.normal(size=(12, 6, 6, 1)))
    variables = jax.jit(lambda: module.init(jax.random.key(0), images, train=False))()
    params = jax.tree.map(lambda x: x.astype(jnp.float64), variables["params"])
    apply_fn = linen_apply_fn(module, lambda x: x)
    state = {"batch_stats": jax.tree.map(lambda x: x.astype(jnp.float64), variables["batch_stats"])}
    task = examples([1, 3], inputs=images)
    problem = Problem(
        CLUState(MethodState(params, state), buffer_of([0, 2, 4, 5, 6], images)),
        jax.random.split(jax.random.key(0), 1),
        (task,),
        (images, jnp.asarray(LABELS)),
    )
    # ReLU has no derivative at 0: steps small enough that no unit crosses it between the two sides.
    method = ug_clu(apply_fn, settings(), settings(outer_steps=3, rematerialise=True), num_classes=CLASSES)
    hyper = {"unlearn": dataclasses.replace(HYPER, fast_learning_rate=0.05, remain_learning_rate=0.05)}
    assert_agree(method, ["unlearn"], problem, hyper, expected_accuracy(apply_fn))


@pytest.mark.slow
def test_rates_of_layers(x64):
    rates = {"hidden": {"kernel": 0.1}, "head": {"kernel": 0.3}}
    hyper = dataclasses.replace(HYPER, fast_learning_rate=rates, remain_learning_rate={"hidden": 0.2, "head": 0.0})
    problem, objective, method = mlp_problem(), kl_to_oracle(mlp_apply), method_of()

    @jax.jit
    def value(head):
        tree = {**rates, "head": {"kernel": head}}
        moved = {"unlearn": dataclasses.replace(hyper, fast_learning_rate=tree)}
        return objective(serve(method, ["unlearn"], problem, moved), problem.reference)

    expected = (value(0.3 + 1e-5) - value(0.3 - 1e-5)) / 2e-5
    for mode in ("reverse", "forward"):
        gradient = hypergradient(objective, method, ["unlearn"], problem, {"unlearn": hyper}, mode=mode).gradient
        np.testing.assert_allclose(gradient["unlearn"].fast_learning_rate["head"]["kernel"], expected, rtol=1e-4)
    # A tree of equal rates is one rate.
    even = dataclasses.replace(HYPER, fast_learning_rate={"hidden": 0.2, "head": 0.2})
    ends = [serve(method, ["unlearn"], problem, {"unlearn": each}).method.params for each in (HYPER, even)]
    np.testing.assert_allclose(ends[0]["head"]["kernel"], ends[1]["head"]["kernel"], rtol=1e-12)


def test_masks(x64):
    problem, objective = mlp_problem(), kl_to_oracle(mlp_apply)

    def slope(mask):
        found = hypergradient(objective, method_of(mask=mask), ["unlearn"], problem, {"unlearn": HYPER})
        return found.value, found.gradient["unlearn"].saliency_threshold

    values, slopes = zip(*(slope(mask) for mask in ("hard", "straight_through", "soft")), strict=True)
    assert slopes[0] == 0.0 and slopes[1] != 0.0 and slopes[2] != 0.0
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


def test_no_clipping_has_a_derivative_of_nothing(x64):
    hyper = {"unlearn": dataclasses.replace(HYPER, clip_norm=np.inf)}
    for mode in ("reverse", "forward"):
        gradient = hypergradient(
            kl_to_oracle(mlp_apply), method_of(), ["unlearn"], mlp_problem(), hyper, mode=mode
        ).gradient["unlearn"]
        assert gradient.clip_norm == 0.0
        assert np.isfinite(jax.tree.leaves(gradient)).all()


@pytest.mark.parametrize("outer_steps", [1, 4, 7])
def test_rematerialisation_changes_memory_alone(x64, outer_steps):
    problem, objective = mlp_problem(), kl_to_oracle(mlp_apply)
    found = [
        hypergradient(
            objective,
            method_of(outer_steps=outer_steps, rematerialise=rematerialise),
            ["unlearn"],
            problem,
            {"unlearn": HYPER},
        )
        for rematerialise in (False, True)
    ]
    for a, b in zip(*(jax.tree.leaves(each) for each in found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)


@pytest.mark.slow
def test_memory_of_reverse_mode_over_two_hundred_steps():
    def bytes_of(outer_steps, rematerialise):
        # One program's temporary memory, as the compiler plans it: nothing runs.
        method = method_of(outer_steps=outer_steps, rematerialise=rematerialise, mask="none")
        problem = mlp_problem()
        lowered = jax.jit(
            lambda hyper: hypergradient(kl_to_oracle(mlp_apply), method, ["unlearn"], problem, hyper)
        ).lower({"unlearn": PLAIN_HYPER})
        return lowered.compile().memory_analysis().temp_size_in_bytes

    whole, less = bytes_of(200, False), bytes_of(200, True)
    assert less < whole / 4
    assert bytes_of(800, True) < 3 * less  # √4 = 2 where keeping everything is 4


SIZES = {"steps": 4, "task_batch_size": 4, "remain_batch_size": 4}
COMMON = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.01, "distillation_weight": 0.4}
EXTRAS = {"second_momentum": 0.9, "step_clip_norm": 0.3, "kept_share": 0.8}


def method_of_the_field(name, optimizer):
    """A method that distils, and hyperparameters of it."""
    given = {**SIZES, "optimizer": optimizer, "distillation": True}
    if name == "er":
        return er(mlp_apply, DescentSettings(**given)), DescentHyper(**COMMON)
    if name == "neg_grad_plus":
        return neg_grad_plus(mlp_apply, DescentSettings(**given)), NegGradPlusHyper(**COMMON)
    if name == "salun":
        settings = SalUnSettings(**given, saliency_batches=2)
        return salun(mlp_apply, settings, num_classes=CLASSES), SalUnHyper(**COMMON, keep_share=0.61)
    settings = SFRonSettings(**given, forget_every=2, saliency_batches=2)
    return sfron(mlp_apply, settings), SFRonHyper(**COMMON, forget_weight=1.5, clip_norm=0.2, saliency_threshold=0.9)


@pytest.mark.parametrize("optimizer", get_args(OptimizerKind))
@pytest.mark.parametrize("name", ["er", "neg_grad_plus", "salun", "sfron"])
def test_methods_of_the_field_have_hypergradients(x64, name, optimizer):
    """Under every optimizer, also where weights have a gradient of 0, and, finite, without momentum or decay."""
    method, values = method_of_the_field(name, optimizer)
    (kind,) = method.kinds
    problem, objective = mlp_problem(inputs=ONE_INPUT_DEAD), kl_to_oracle(mlp_apply)
    modes = compiled(method, [kind], problem, objective)
    slopes = assert_agree(method, [kind], problem, {kind: values}, objective, modes)
    for field in ("learning_rate", "momentum", "weight_decay", "distillation_weight"):
        assert abs(slopes[kind, field]) > 1e-6, field
    more = dataclasses.replace(values, **EXTRAS)
    slopes = assert_agree(method, [kind], problem, {kind: more}, objective, modes)
    for field in ("learning_rate", "kept_share", *(["second_momentum"] if optimizer == "adamw" else [])):
        assert abs(slopes[kind, field]) > 1e-6, field
    plain = {kind: dataclasses.replace(values, momentum=0.0, weight_decay=0.0)}
    for mode, gradient_of in modes.items():
        assert np.isfinite(jax.tree.leaves(gradient_of(plain).gradient)).all(), mode


def test_objectives_are_the_metrics(x64):
    problem = mlp_problem()
    inputs, oracle_logits = problem.reference
    logits = mlp_apply(mlp_params(), {}, inputs, train=False, rng_key=None)[0]
    expected = metrics.oracle_divergence(oracle_logits, logits)
    np.testing.assert_allclose(kl_to_oracle(mlp_apply)(problem.state, problem.reference), expected, rtol=1e-12)
    shares = np.exp(np.asarray(logits))
    shares /= shares.sum(axis=1, keepdims=True)
    found = expected_accuracy(mlp_apply)(problem.state, (inputs, jnp.asarray(LABELS)))
    np.testing.assert_allclose(found, np.mean([shares[i, label] for i, label in enumerate(LABELS)]), rtol=1e-12)


POINTS = grid({"unlearn.fast_learning_rate": [0.05, 0.2], "unlearn.clip_norm": [0.1, 0.5, 2.0]})


@pytest.mark.parametrize("at_once", [None, 1, 4])
def test_a_sweep_is_a_loop(x64, at_once):
    method, objective, first = method_of(), kl_to_oracle(mlp_apply), mlp_problem()
    problems = [first, first._replace(rng_keys=jax.random.split(jax.random.key(5), 1))]
    found = sweep(objective, method, ["unlearn"], problems, {"unlearn": HYPER}, POINTS, at_once=at_once)
    assert found.values.shape == (6, 2)
    single = jax.jit(
        lambda hyper, keys: objective(serve(method, ["unlearn"], first._replace(rng_keys=keys), hyper), first.reference)
    )
    for i, point in enumerate(POINTS):
        for j, problem in enumerate(problems):
            expected = single(at({"unlearn": HYPER}, point), problem.rng_keys)
            np.testing.assert_allclose(found.values[i, j], expected, rtol=1e-11)
    assert found.rows()[0]["mean"] == found.values.mean(axis=1).min()
    assert found.best() == POINTS[int(found.values.mean(axis=1).argmin())]
    assert len(found.table().splitlines()) == 2 + len(POINTS)


def test_a_second_sweep_of_as_many_runs_compiles_nothing(x64):
    traces = []

    def objective(state, reference):
        traces.append(1)
        return jnp.sum(jax.flatten_util.ravel_pytree(state.method.params)[0])

    method, problem = method_of(), mlp_problem()
    first = sweep(objective, method, ["unlearn"], [problem], {"unlearn": HYPER}, POINTS)
    second = sweep(objective, method, ["unlearn"], [problem], {"unlearn": HYPER}, POINTS[::-1])
    assert len(traces) == 1
    np.testing.assert_array_equal(first.values, second.values[::-1])
    sweep(objective, method, ["unlearn"], [problem], {"unlearn": HYPER}, POINTS[:1])
    assert len(traces) == 2, "another number of runs is another program"


def test_a_sweep_over_devices(x64):
    if jax.local_device_count() < 2:
        pytest.skip("needs two devices: JAX_NUM_CPU_DEVICES=2")
    arguments = (kl_to_oracle(mlp_apply), method_of(), ["unlearn"], [mlp_problem()], {"unlearn": HYPER}, POINTS[:5])
    np.testing.assert_allclose(sweep(*arguments, number_of_devices=2).values, sweep(*arguments).values, rtol=1e-5)


def test_a_point_that_diverged_is_the_worst(x64):
    points = [{"unlearn.fast_learning_rate": np.inf}, {"unlearn.fast_learning_rate": 0.1}]
    free = {"unlearn": dataclasses.replace(HYPER, clip_norm=np.inf)}
    found = sweep(kl_to_oracle(mlp_apply), method_of(), ["unlearn"], [mlp_problem()], free, points)
    assert found.best() == points[1]
    assert found.rows()[1]["mean"] == np.inf


def test_what_a_sweep_refuses(x64):
    arguments = (kl_to_oracle(mlp_apply), method_of(), ["unlearn"])
    one, hyper = mlp_problem(), {"unlearn": HYPER}
    with pytest.raises(ValueError, match="points is empty"):
        sweep(*arguments, [one], hyper, [])
    with pytest.raises(ValueError, match="same names"):
        sweep(*arguments, [one], hyper, [{"unlearn.clip_norm": 1.0}, {}])
    with pytest.raises(
        ValueError, match=r"unknown hyperparameter 'unlearn\.clip'; it must be one of .*unlearn\.clip_norm"
    ):
        sweep(*arguments, [one], hyper, [{"unlearn.clip": 1.0}])
    with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
        sweep(*arguments, [one], hyper, POINTS, at_once=0)
    with pytest.raises(ValueError, match="share tasks and reference"):
        sweep(*arguments, [one, mlp_problem()], hyper, POINTS)
    with pytest.raises(ValueError, match="no entry for 'unlearn' requests, only for: learn"):
        serve(method_of(), ["unlearn"], one, {"learn": HYPER})
    with pytest.raises(ValueError, match="mode must be one of reverse, forward, got 'backward'"):
        hypergradient(*arguments, one, hyper, mode="backward")


def test_draws_lie_in_their_ranges_on_a_logarithmic_scale():
    ranges = {"a": (1e-3, 1e1), "b": (0.5, 2.0)}
    for draw in (random, sobol):
        drawn = draw(ranges, 256, seed=3)
        assert drawn == draw(ranges, 256, seed=3) != draw(ranges, 256, seed=4)
        for name, (low, high) in ranges.items():
            logs = np.log([point[name] for point in drawn])
            assert np.log(low) <= logs.min() and logs.max() <= np.log(high)
            middle = np.log(low * high) / 2
            assert abs(np.mean(logs < middle) - 0.5) < 0.1
    for wrong in ((0.0, 1.0), (2.0, 1.0), (1.0, np.inf)):
        with pytest.raises(ValueError, match="the range of a must be 0 < lowest"):
            random({"a": wrong}, 1)


def quadratic_method():
    """A method whose end is its fast learning rate: an objective of it is a function of one number."""

    def unlearn(rng_key, state, hyper, task, buffer, *, where):
        return state._replace(params=jnp.asarray(hyper.fast_learning_rate)), ()

    return do_nothing()._replace(unlearn=unlearn)


def quadratic_problem(goal):
    task = Examples(jnp.zeros((2, 1)), jnp.zeros(2, jnp.int32), jnp.array([0, -1]), jnp.array(1))
    state = CLUState(MethodState(jnp.zeros(()), {}), reservoir.init(2, (1,), jnp.float32, jax.random.key(0)))
    return Problem(state, jax.random.split(jax.random.key(0), 1), (task,), jnp.asarray(goal))


def to_goal(state, reference):
    return jnp.square(jnp.log(state.method.params) - jnp.log(reference))


def test_tuning_goes_to_the_minimum_over_problems():
    # mean_s (log h − log g_s)² is least at the geometric mean of the goals.
    problems = [quadratic_problem(1.0), quadratic_problem(4.0)]
    seen = []
    tuned = tune(
        to_goal,
        quadratic_method(),
        ["unlearn"],
        problems,
        {"unlearn": dataclasses.replace(PLAIN_HYPER, fast_learning_rate=0.5)},
        ["unlearn.fast_learning_rate"],
        steps=80,
        on_step=seen.append,
    )
    assert abs(np.log(tuned.point["unlearn.fast_learning_rate"] / 2.0)) < 0.05
    assert tuned.hyper["unlearn"].fast_learning_rate == tuned.point["unlearn.fast_learning_rate"]
    assert len(tuned.steps) == len(seen) == 80
    first = tuned.steps[0]
    np.testing.assert_allclose(first.values, [np.log(0.5) ** 2, np.log(8.0) ** 2], rtol=1e-5)
    # d/d log h of the mean: Σ (log h − log g)
    np.testing.assert_allclose(first.slope["unlearn.fast_learning_rate"], np.log(0.5) - np.log(8.0), rtol=1e-5)


def test_tuning_stays_in_the_range():
    tuned = tune(
        lambda state, reference: -state.method.params,  # the larger the better
        do_nothing()._replace(
            unlearn=lambda k, s, hyper, *a, **b: (s._replace(params=jnp.asarray(hyper.slow_step_size)), ())
        ),
        ["unlearn"],
        [quadratic_problem(1.0)],
        {"unlearn": dataclasses.replace(PLAIN_HYPER, slow_step_size=0.9)},
        ["unlearn.slow_step_size"],
        steps=5,
    )
    assert tuned.point["unlearn.slow_step_size"] == pytest.approx(1.0)


def test_tuning_ends_where_it_is_not_finite():
    tuned = tune(
        lambda state, reference: jnp.where(state.method.params > 0.55, jnp.nan, -state.method.params),
        quadratic_method(),
        ["unlearn"],
        [quadratic_problem(1.0)],
        {"unlearn": dataclasses.replace(PLAIN_HYPER, fast_learning_rate=0.5)},
        ["unlearn.fast_learning_rate"],
        steps=10,
    )
    assert len(tuned.steps) == 2 and np.isnan(tuned.steps[-1].values).all()
    assert tuned.point["unlearn.fast_learning_rate"] == pytest.approx(0.5)


def test_what_tuning_refuses():
    arguments = (to_goal, quadratic_method(), ["unlearn"])
    one, name = [quadratic_problem(1.0)], ["unlearn.fast_learning_rate"]
    for value in (0.0, np.inf, {"a": 1.0, "b": 1.0}):
        with pytest.raises(ValueError, match="fast_learning_rate must be a single positive, finite number"):
            tune(
                *arguments, one, {"unlearn": dataclasses.replace(PLAIN_HYPER, fast_learning_rate=value)}, name, steps=1
            )
    with pytest.raises(ValueError, match="got 0, 1 and 1"):
        tune(*arguments, [], {"unlearn": PLAIN_HYPER}, name, steps=1)
    with pytest.raises(ValueError, match=r"unknown hyperparameter 'unlearn\.rate'"):
        tune(*arguments, one, {"unlearn": PLAIN_HYPER}, ["unlearn.rate"], steps=1)


def test_problems_of_one_shape_share_a_program():
    traces = []

    def counted(state, reference):
        traces.append(1)
        return to_goal(state, reference)

    problems = [quadratic_problem(goal) for goal in (1.0, 2.0, 3.0)]
    name = "unlearn.fast_learning_rate"
    tune(counted, quadratic_method(), ["unlearn"], problems, {"unlearn": PLAIN_HYPER}, [name], steps=4)
    assert len(traces) == 1


def test_method_is_a_method():
    assert isinstance(quadratic_method(), Method)
