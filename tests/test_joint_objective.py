"""The energy distance as an objective: its value against NumPy's, its derivatives against central differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from small_stream import CLASSES, INPUTS, buffer_of, examples
from test_tuning import FORMS, HYPER, SETTINGS, mlp_apply, mlp_params

from ugclu_jax.evidence import energy_distance, matched_energy_distance
from ugclu_jax.learner import CLUState
from ugclu_jax.tuning import JointObjective, Problem, matched_energy, matched_score, over_problems, serve, tune
from ugclu_jax.tuning.joint import energy, log_temperature
from ugclu_jax.types import MethodState
from ugclu_jax.ugclu import ug_clu

NUMBERS = st.integers(0, 2**31 - 1)


def logits_of(seed, number, inputs=7, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=(number, inputs, CLASSES))


def entropy_of(logits):
    """Mean over inputs, by a loop."""
    found = []
    for row in logits:
        shares = np.exp(row - row.max())
        shares /= shares.sum()
        found.append(-sum(share * np.log(share) for share in shares))
    return np.mean(found)


def differences(function, at, step=1e-6):
    """Central differences, number by number."""
    flat = np.asarray(at, float).ravel()
    found = np.empty_like(flat)
    for place in range(len(flat)):
        sides = []
        for sign in (1, -1):
            moved = flat.copy()
            moved[place] += sign * step
            sides.append(float(function(jnp.asarray(moved.reshape(at.shape)))))
        found[place] = (sides[0] - sides[1]) / (2 * step)
    return found.reshape(at.shape)


@settings(deadline=None, max_examples=20)
@given(seed=NUMBERS, models=st.integers(2, 5), oracles=st.integers(2, 5))
def test_the_energy_is_that_of_the_tables(seed, models, oracles):
    mine, theirs = logits_of(seed, models), logits_of(seed + 1, oracles)
    with jax.enable_x64(True):
        found = energy(jnp.asarray(mine), jnp.asarray(theirs))
    np.testing.assert_allclose(found, energy_distance(mine, theirs).value, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=NUMBERS, factor=st.floats(0.3, 3.0))
def test_the_matched_energy_is_that_of_the_tables_and_sees_no_temperature(seed, factor):
    sides = [(logits_of(seed + side, 3), logits_of(seed + side + 9, 4)) for side in (0, 20)]
    value, test = matched_energy(mlp_apply).value, sides[0]
    with jax.enable_x64(True):
        reference = [(None, jnp.asarray(theirs)) for _, theirs in sides]
        found, other = (value([jnp.asarray(by * mine) for mine, _ in sides], reference) for by in (1.0, factor))
    expected = [matched_energy_distance(mine, theirs, *test).value for mine, theirs in sides]
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(other, found, rtol=1e-8, atol=1e-10)


def test_the_derivatives_of_energy_and_temperature(x64):
    mine, theirs = jnp.asarray(logits_of(0, 3)), jnp.asarray(logits_of(1, 2))
    np.testing.assert_allclose(
        jax.grad(energy)(mine, theirs), differences(lambda x: energy(x, theirs), mine), rtol=1e-6, atol=1e-9
    )
    level = entropy_of(np.asarray(theirs[0]))

    def root(logits):
        return brentq(lambda log: entropy_of(np.asarray(logits) / np.exp(log)) - level, -5, 5, xtol=1e-14)

    np.testing.assert_allclose(log_temperature(mine[0], level), root(mine[0]), rtol=1e-10)
    np.testing.assert_allclose(
        jax.grad(log_temperature)(mine[0], level), differences(root, mine[0]), rtol=1e-5, atol=1e-8
    )


def test_what_cannot_be_matched_is_no_number(x64):
    alike = jnp.zeros((2, 7, CLASSES))  # as sure at every temperature
    reference = ((None, jnp.asarray(logits_of(0, 2))),)
    assert np.isnan(matched_energy(mlp_apply).value((alike,), reference))
    assert np.isnan(log_temperature(jnp.asarray(logits_of(0, 1)[0]), jnp.log(CLASSES) + 1.0))


def test_equal_models_have_a_finite_derivative():
    mine = jnp.asarray(logits_of(0, 1).repeat(2, axis=0), jnp.float32)
    assert np.isfinite(jax.grad(lambda x: energy(x, x[::-1]))(mine)).all()


def problems_of(number):
    sides = tuple((jnp.asarray(INPUTS[rows]), jnp.asarray(logits_of(place, 3, 6))) for place, rows in
                  enumerate((slice(0, 6), slice(6, 12))))  # fmt: skip
    found = []
    for seed in range(number):
        params = jax.tree.map(lambda leaf, seed=seed: leaf + 0.1 * seed, mlp_params())
        state = CLUState(MethodState(params, {}), buffer_of([0, 2, 4, 5, 6], INPUTS))
        found.append(Problem(state, jax.random.split(jax.random.key(seed), 1), (examples([1, 3], INPUTS),), sides))
    return found


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_the_hypergradient_of_all_models_together(x64, mode):
    form = dataclasses.replace(SETTINGS, distillation=True, **FORMS["default"])
    method, problems = ug_clu(mlp_apply, form, form, num_classes=CLASSES), problems_of(3)
    objective, names = matched_energy(mlp_apply), ("output_budget", "remain_learning_rate", "kept_share")

    @jax.jit
    def whole(hyper):
        ends = [serve(method, ["unlearn"], problem, {"unlearn": hyper}) for problem in problems]
        outputs = [objective.outputs(end, problems[0].reference) for end in ends]
        return objective.value(jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs), problems[0].reference)

    found = over_problems(objective, method, ["unlearn"], mode=mode)({"unlearn": HYPER}, problems)
    np.testing.assert_allclose(found.value, [whole(HYPER)], rtol=1e-9)
    for name in names:
        sides = [whole(dataclasses.replace(HYPER, **{name: getattr(HYPER, name) + step})) for step in (1e-5, -1e-5)]
        expected = float(sides[0] - sides[1]) / 2e-5
        assert abs(expected) > 1e-3, "a hyperparameter that moves nothing shows nothing"
        np.testing.assert_allclose(getattr(found.gradient["unlearn"], name), expected, rtol=1e-4)


def test_a_joint_objective_of_a_mean_tunes_as_its_parts_do(x64):
    # The mean of what each problem is: the two ways of one derivative must take the same steps.
    def alone(state, reference):
        return jnp.mean((mlp_apply(state.method.params, {}, reference[0][0], train=False, rng_key=None)[0]) ** 2)

    together = JointObjective(alone, lambda values, reference: jnp.mean(values))
    method = ug_clu(mlp_apply, SETTINGS, SETTINGS, num_classes=CLASSES)
    arguments = (method, ["unlearn"], problems_of(3), {"unlearn": HYPER}, ["unlearn.fast_learning_rate"])
    parts, whole = (tune(objective, *arguments, steps=3) for objective in (alone, together))
    assert [step.values.shape for step in (*parts.steps, *whole.steps)] == [(3,)] * 3 + [(1,)] * 3
    for one, other in zip(parts.steps, whole.steps, strict=True):
        np.testing.assert_allclose(one.values.mean(), other.values[0], rtol=1e-12)
        np.testing.assert_allclose(one.slope["unlearn.fast_learning_rate"], other.slope["unlearn.fast_learning_rate"])
    assert parts.point == pytest.approx(whole.point) and parts.point != parts.steps[0].point


@given(NUMBERS)
@settings(max_examples=20, deadline=None)
def test_the_score_of_a_search_is_the_mean_over_sets_and_infinite_where_it_is_undefined(seed):
    models, oracles = ([logits_of(seed + n, 3), logits_of(seed + n + 7, 3, inputs=4)] for n in (0, 31))
    each = [
        matched_energy_distance(mine, theirs, models[0], oracles[0])
        for mine, theirs in zip(models, oracles, strict=True)
    ]
    value, error = matched_score(models, oracles)
    assert value == pytest.approx((each[0].value + each[1].value) / 2, rel=1e-12)
    assert error == max(each[0].standard_error, each[1].standard_error)
    broken = [models[0], models[1].copy()]
    broken[1][2, 3, 0] = np.nan
    for undefined in (broken, [0 * models[0], models[1]]):
        assert matched_score(undefined, oracles)[0] == np.inf
    with pytest.raises(ValueError, match="oracles"):  # a fault of the caller's is no distance
        matched_score(models, [oracles[0][:, :, :2], oracles[1]])
