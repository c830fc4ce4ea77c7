"""Statistics against loops over examples, masks against their definitions, padding, and devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ugclu_jax.saliency import STATISTICS, density, hard_mask, make_mask, soft_mask, straight_through_mask
from ugclu_jax.types import Batch

KINDS = ["gradient", "fisher", "batch_fisher"]
LOOPS = {
    "gradient": reference.gradient_statistic,
    "fisher": reference.fisher,
    "batch_fisher": reference.batch_fisher,
}
# One full batch, one half full, one of padding.
WEIGHTS = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])


@functools.partial(jax.jit, static_argnames=("kind", "apply_fn", "axis_name"))
def statistic(kind, apply_fn, params, batches, axis_name=None):
    return STATISTICS[kind](apply_fn, params, {}, batches, axis_name=axis_name)


jit_make_mask = jax.jit(make_mask, static_argnums=0)


def draw(weights=WEIGHTS, seed=4):
    rng = np.random.default_rng(seed)
    return Batch(rng.normal(size=(*weights.shape, 3)), rng.integers(0, 3, weights.shape), weights)


def listed(batches):
    return list(zip(*batches[:3], strict=True))


def assert_close(tree, expected, **tolerance):
    assert set(tree) == set(expected)
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, err_msg=name, **{"rtol": 1e-11, "atol": 1e-15, **tolerance})


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_a_loop(x64, tiny, kind):
    assert set(STATISTICS) == set(KINDS)
    batches = draw()
    assert_close(
        statistic(kind, tiny.apply_fn, tiny.params, batches), LOOPS[kind](tiny.twin, tiny.params, listed(batches))
    )


def test_fisher_is_the_one_per_example(x64, mlp):
    """Squared central differences of single losses; the batch version differs, by a factor that depends on B."""
    batches = draw(np.ones((1, 4)))
    expected = np.zeros_like(mlp.params["kernel2"])
    for i, label in enumerate(batches.labels[0]):
        for place in np.ndindex(expected.shape):
            ends = []
            for shift in (1e-5, -1e-5):
                moved = mlp.params["kernel2"].copy()
                moved[place] += shift
                logits = mlp.twin.logits({**mlp.params, "kernel2": moved}, batches.inputs[0, i])
                ends.append(reference.cross_entropy(logits, label))
            expected[place] += ((ends[0] - ends[1]) / 2e-5) ** 2 / 4
    per_example = statistic("fisher", mlp.apply_fn, mlp.params, batches)["kernel2"]
    per_batch = statistic("batch_fisher", mlp.apply_fn, mlp.params, batches)["kernel2"]
    np.testing.assert_allclose(per_example, expected, rtol=1e-6, atol=1e-10)
    # Jensen: (mean g)² ≤ mean g², strictly wherever the gradients of the four examples differ.
    assert np.all(per_batch < per_example) and np.min(per_batch / per_example) < 0.2


def test_where_the_three_statistics_meet(x64, mlp):
    one_batch, single = draw(np.ones((1, 4))), draw(np.ones((4, 1)))

    def of(kind, batches):
        return statistic(kind, mlp.apply_fn, mlp.params, batches)

    assert_close(of("batch_fisher", one_batch), {name: s**2 for name, s in of("gradient", one_batch).items()})
    assert_close(of("batch_fisher", single), of("fisher", single))
    rebatched = Batch(*(x.reshape(1, 4, *x.shape[2:]) for x in single[:3]))
    assert_close(of("fisher", rebatched), of("fisher", single))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_counts_nowhere(x64, mlp, kind):
    batches = draw(np.ones((1, 4)))
    padded = Batch(np.full((3, 4, 3), 1e3), np.zeros((3, 4), int), WEIGHTS[[2, 0, 2]])
    for x, padded_x in zip(batches[:3], padded[:3], strict=True):
        padded_x[1] = x[0]
    plain = statistic(kind, mlp.apply_fn, mlp.params, batches)
    assert_close(statistic(kind, mlp.apply_fn, mlp.params, padded), plain)
    nothing = statistic(kind, mlp.apply_fn, mlp.params, padded._replace(weights=np.zeros((3, 4))))
    assert_close(nothing, jax.tree.map(np.zeros_like, mlp.params))


@pytest.mark.parametrize(("kind", "devices"), [("gradient", 2), ("fisher", 4), ("batch_fisher", 2)])
def test_devices_agree_with_one(x64, mlp, kind, devices):
    """One of the devices holds nothing but padding in the second batch."""
    batches = draw(np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    shards = Batch(*(np.moveaxis(x.reshape(3, devices, -1, *x.shape[2:]), 1, 0) for x in batches[:3]))

    def local(shard):
        return statistic(kind, mlp.apply_fn, mlp.params, shard, axis_name="device")

    split = jax.vmap(local, axis_name="device")(shards)
    whole = statistic(kind, mlp.apply_fn, mlp.params, batches)
    for device in range(devices):
        assert_close({name: s[device] for name, s in split.items()}, whole)


def test_statistics_run_the_model_in_evaluation_mode_without_a_key():
    def strict(params, model_state, inputs, *, train, rng_key):
        assert not train and rng_key is None
        return inputs @ params, model_state

    for kind in KINDS:
        jax.eval_shape(lambda p, b, kind=kind: STATISTICS[kind](strict, p, {}, b), np.ones((3, 3)), draw())


# --- masks -----------------------------------------------------------------------------------------------------------

SALIENCE = st.one_of(st.just(0.0), st.floats(2.0**-20, 2.0**20, width=32))


@settings(max_examples=40, deadline=None)
@given(*(arrays.arrays(np.float32, (2, 3), elements=SALIENCE) for _ in range(2)), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_hard_mask_is_its_definition(task, remain, threshold):
    mask = jit_make_mask("hard", {"w": task}, {"w": remain}, threshold, 1.0)
    expected = reference.hard_mask({"w": task}, {"w": remain}, np.float32(threshold))
    np.testing.assert_array_equal(mask["w"], expected["w"])


def test_zero_is_at_least_any_multiple_of_zero():
    zero = jnp.zeros(3)
    for threshold in (0.0, 1.0, 1e30):
        np.testing.assert_array_equal(hard_mask(zero, zero, threshold), np.ones(3))


@pytest.mark.parametrize("kind", ["hard", "soft", "straight_through", "none"])
def test_threshold_zero_frees_every_weight(kind):
    task, remain = jnp.array([0.0, 0.0, 1e-30, 1.0]), jnp.array([0.0, 1e30, 1.0, 2.0])
    np.testing.assert_array_equal(jit_make_mask(kind, task, remain, 0.0, 1.0), np.ones(4))


def test_no_mask_is_ones_whatever_the_statistics():
    np.testing.assert_array_equal(jit_make_mask("none", jnp.zeros(2), jnp.ones(2), 5.0, 1.0), np.ones(2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_soft_mask_is_a_power_of_the_ratio(x64, temperature):
    rng = np.random.default_rng(0)
    task, remain = ({"w": x} for x in np.exp(rng.normal(0, 2, (2, 3, 4))))
    mask = jit_make_mask("soft", task, remain, 1.7, temperature)
    assert_close(mask, reference.soft_mask(task, remain, 1.7, temperature), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(*(arrays.arrays(np.float32, 4, elements=SALIENCE) for _ in range(2)), st.sampled_from([0.5, 1.0, 3.0]))
def test_soft_mask_tends_to_the_hard_one_away_from_ties(task, remain, threshold):
    away = np.abs(task - threshold * remain) > 1e-3 * (task + threshold * remain)
    away |= (task > 0) != (remain > 0)
    soft, hard = (jit_make_mask(kind, task, remain, threshold, 1e-5) for kind in ("soft", "hard"))
    np.testing.assert_array_equal(np.asarray(soft)[away], np.asarray(hard)[away])


def test_soft_mask_is_one_half_at_ties_also_of_zeros():
    np.testing.assert_allclose(soft_mask(jnp.array([0.0, 2.0]), jnp.array([0.0, 2.0])), [0.5, 0.5], rtol=1e-6)


def test_straight_through_has_the_hard_value_and_the_soft_slopes(x64):
    rng = np.random.default_rng(1)
    task, remain, cotangent = np.exp(rng.normal(size=(3, 5)))

    def total(mask_fn):
        return lambda *arguments: jnp.vdot(mask_fn(*arguments), cotangent)

    arguments = (task, remain, 1.3, 0.8)
    np.testing.assert_array_equal(straight_through_mask(*arguments), hard_mask(*arguments[:3]))
    slopes, soft_slopes = (
        jax.jit(jax.grad(total(mask_fn), argnums=(0, 1, 2, 3)))(*arguments)
        for mask_fn in (straight_through_mask, soft_mask)
    )
    for slope, soft_slope in zip(slopes, soft_slopes, strict=True):
        assert np.abs(soft_slope).min() > 0
        np.testing.assert_allclose(slope, soft_slope, rtol=1e-12)
    # d/dγ σ((log q − log r − log γ)/τ) = −m(1 − m)/(τγ), and likewise by τ: −m(1 − m) log(q/(γr))/τ².
    m = reference.soft_mask({"w": task}, {"w": remain}, 1.3, 0.8)["w"]
    assert slopes[2] == pytest.approx(-np.sum(cotangent * m * (1 - m)) / (0.8 * 1.3), rel=1e-12)
    logs = np.log(task / (1.3 * remain))
    assert slopes[3] == pytest.approx(-np.sum(cotangent * m * (1 - m) * logs) / 0.8**2, rel=1e-10)


def test_density_is_the_share_of_each_leaf():
    shares = density({"a": jnp.array([[1.0, 0.0], [1.0, 1.0]]), "b": jnp.zeros(3)})
    assert {name: float(share) for name, share in shares.items()} == {"a": 0.75, "b": 0.0}
