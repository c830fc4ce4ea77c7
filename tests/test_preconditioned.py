"""UG-CLU's default: preconditioned steps, budgets of outputs and of decay, against NumPy and closed forms."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stream import CLASSES, LABELS, assert_close, buffer_of, examples, repeated

from ugclu_jax.at import At
from ugclu_jax.fast_slow import inner_steps, preconditioned
from ugclu_jax.types import Batch, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_settings import UGCLUHyper, UGCLUSettings
from ugclu_jax.ugclu_step import Known, TaskAndRemain, start, step

SIZE, RATE = 4, 0.2
HYPER = UGCLUHyper(output_budget=0.05, remain_learning_rate=0.02, kept_share=0.7, slow_step_size=0.8)
SMALL = UGCLUSettings(outer_steps=3, inner_steps=2, task_batch_size=4, remain_batch_size=4)
RNG = np.random.default_rng(2)


def quadratic(params, model_state, x):
    curvature, optimum = x
    gradient = curvature @ (params - optimum)
    return gradient, model_state, 0.5 * gradient @ (params - optimum)


def curvatures(count):
    factors = np.random.default_rng(0).normal(size=(count, SIZE, SIZE))
    return factors @ factors.transpose(0, 2, 1) / SIZE


@functools.partial(jax.jit, static_argnames="preconditioner")
def steps(params, x, state, preconditioner, rate=RATE, rate_factors=1.0, decay_factors=1.0):
    return preconditioned(
        params,
        {},
        quadratic,
        x,
        remain_learning_rate=rate,
        preconditioner=preconditioner,
        preconditioner_state=state,
        rate_factors=rate_factors,
        decay_factors=decay_factors,
    )


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [0, 1, 6])
def test_a_fixed_preconditioner_makes_the_filter_that_of_p_h(x64, inner):
    """θ^R(without fast step) − θ^R(with) = Π_j (I − lr f_j P H_j) (β_Q g), whatever θ_k and θ̄_j are."""
    p, matrices = RNG.normal(size=(SIZE, SIZE)) * 0.3 + np.eye(SIZE), curvatures(inner)
    x = jnp.asarray(matrices.reshape(inner, SIZE, SIZE)), jnp.asarray(RNG.normal(size=(inner, SIZE)))
    linear = optax.stateless(lambda updates, params: jnp.asarray(p) @ updates)
    params, moved = RNG.normal(size=(2, SIZE))
    factors = RNG.uniform(0.1, 1.0, inner)
    without, with_it = (
        steps(start, x, linear.init(start), linear, rate_factors=factors) for start in (params, params - moved)
    )
    expected = moved
    for factor, h in zip(factors, matrices, strict=True):
        expected = (np.eye(SIZE) - RATE * factor * p @ h) @ expected
    np.testing.assert_allclose(without.params - with_it.params, expected, rtol=1e-11, atol=1e-13)


def test_sgd_is_the_plain_form_bit_for_bit():
    x = jnp.asarray(curvatures(5), jnp.float32), jnp.asarray(RNG.normal(size=(5, SIZE)), jnp.float32)
    params, identity = jnp.asarray(RNG.normal(size=SIZE), jnp.float32), optax.identity()
    plain = jax.jit(lambda p: inner_steps(p, {}, quadratic, x, remain_learning_rate=RATE))(params)
    # One for all and one a step, and traced: a decay of 1 must change no bit then either.
    for factor in (1.0, jnp.ones(5)):
        found = steps(params, x, identity.init(params), identity, rate_factors=factor, decay_factors=factor)
        np.testing.assert_array_equal(found.params, plain[0])
        np.testing.assert_array_equal(found.losses, plain[2])


def test_the_state_of_a_preconditioner_is_handed_on(x64):
    adam = optax.scale_by_adam(b1=0.9, b2=0.99)
    x, params = (jnp.asarray(curvatures(6)), jnp.asarray(RNG.normal(size=(6, SIZE)))), jnp.ones(SIZE)
    whole = steps(params, x, adam.init(params), adam)
    first = steps(params, jax.tree.map(lambda a: a[:4], x), adam.init(params), adam)
    second = steps(first.params, jax.tree.map(lambda a: a[4:], x), first.preconditioner_state, adam)
    np.testing.assert_allclose(second.params, whole.params, rtol=1e-13)
    fresh = steps(first.params, jax.tree.map(lambda a: a[4:], x), adam.init(params), adam)
    assert not np.allclose(fresh.params, whole.params)


# --- whole requests --------------------------------------------------------------------------------------------------


def traceable(mlp, hyper, kind="unlearn", own=SMALL, task=(4,), kept=(9,), preconditioner=None, devices=None):
    method = ug_clu(mlp.apply_fn, own, own, num_classes=CLASSES, preconditioner=preconditioner)
    state = MethodState(mlp.params, {}, {})
    return method.update(kind)(jax.random.key(0), state, hyper, examples(task), buffer_of(kept))


def request(mlp, hyper=HYPER, **given):
    run = jax.jit(lambda hyper: traceable(mlp, hyper, **given), compiler_options={"xla_backend_optimization_level": 0})
    return run(hyper)


def divergence(twin, before, after, batch):
    total = 0.0
    for x in batch[0]:
        p, q = (reference.softmax(twin.logits(params, x)) for params in (before, after))
        total += float(np.sum(p * np.log(p / q)))
    return total / len(batch[0])


def by_hand(twin, params, kind, hyper, own, task, remain, adam=True):
    """The pseudo-code of the default, one example of each in every batch."""
    s, total = 1e-3, own.outer_steps * own.inner_steps
    first, second, count = ({n: np.zeros_like(p) for n, p in params.items()} for _ in range(3))
    all_rates = sum(1 - i / total for i in range(total))
    count = 0
    for k in range(own.outer_steps):
        e, start = 1 - k / own.outer_steps, params
        sign = 1.0 if kind == "learn" else -1.0
        g = {n: sign * each for n, each in reference.mean_gradient(twin, params, task)[0].items()}
        scale = reference.norm(params) / reference.norm(g)
        moved = {n: p - s * scale * g[n] for n, p in params.items()}
        d = divergence(twin, params, moved, task)
        p_y = np.mean([reference.softmax(twin.logits(params, x))[y] for x, y in zip(task[0], task[1], strict=True)])
        left = 1 - p_y if kind == "learn" else p_y
        r = np.sqrt(hyper.output_budget * e * left / max(d, 1e-12))
        params = {n: p - s * min(r, 4.0, 0.3 / s) * scale * g[n] for n, p in params.items()}
        s = s * float(np.clip(r, 0.1, min(4.0, 0.3 / s)))
        for j in range(own.inner_steps):
            factor = 1 - (k * own.inner_steps + j) / total
            h = reference.mean_gradient(twin, params, remain)[0]
            count += 1
            if adam:
                first = {n: 0.9 * m + 0.1 * h[n] for n, m in first.items()}
                second = {n: 0.99 * v + 0.01 * h[n] ** 2 for n, v in second.items()}
                h = {n: first[n] / (1 - 0.9**count) / (np.sqrt(second[n] / (1 - 0.99**count)) + 1e-8) for n in params}
            kept = hyper.kept_share ** (factor / all_rates)
            params = {n: kept * p - hyper.remain_learning_rate * factor * h[n] for n, p in params.items()}
        params = {n: (1 - hyper.slow_step_size) * start[n] + hyper.slow_step_size * p for n, p in params.items()}
    return params


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
@pytest.mark.parametrize("preconditioner", ["adam", "sgd"])
def test_a_request_is_that_of_a_loop(x64, mlp, kind, preconditioner):
    own = dataclasses.replace(SMALL, preconditioner=preconditioner)
    state, info = request(mlp, kind=kind, own=own)
    adam = preconditioner == "adam"
    expected = by_hand(mlp.twin, mlp.params, kind, HYPER, own, repeated(4), repeated(9), adam)
    assert_close(state.params, expected, rtol=1e-7, atol=1e-9)
    assert info.task_losses.shape == (3,) and info.remain_losses.shape == (3, 2)


@pytest.mark.parametrize("loss", ["ascent", "bounded", "target"])
def test_nothing_left_is_nothing_moved(x64, mlp, loss):
    """The direction has no size of its own: of an example that is gone already it must not be followed."""
    other = np.eye(CLASSES)[(LABELS[4] + 1) % CLASSES]
    sure = {**mlp.params, "bias2": mlp.params["bias2"] + 60.0 * other}
    at = At(mlp.apply_fn, sure, {}, known=Known(levels=jnp.zeros(CLASSES)))
    task = Batch(*map(jnp.asarray, repeated(4)), targets=jnp.tile(other, (4, 1)) if loss == "target" else None)
    remain = jax.tree.map(lambda x: x[None][:0], Batch(*map(jnp.asarray, repeated(9))))
    own = dataclasses.replace(SMALL, unlearn_loss=loss)
    begun = start(sure, own)._replace(memory=jnp.asarray(0.1))
    carry, _, _ = step(at, begun, TaskAndRemain(task, remain), HYPER, "unlearn", own)
    for name, leaf in carry.params.items():
        np.testing.assert_allclose(leaf, sure[name], atol=1e-6)


def test_any_of_optax_is_a_choice(x64, mlp):
    """One given is taken instead of the settings'; Adam by the same decays is the default."""
    default, _ = request(mlp)
    same, _ = request(mlp, preconditioner=optax.scale_by_adam(b1=0.9, b2=0.99, eps_root=1e-38))
    assert_close(same.params, default.params)
    other, _ = request(mlp, preconditioner=optax.scale_by_lion())
    assert any(not np.allclose(other.params[n], default.params[n]) for n in default.params)


def test_without_a_fast_step_no_task_is_read(x64, mlp):
    own = dataclasses.replace(SMALL, fast_step="none")
    found, info = request(mlp, own=own)
    other, _ = request(mlp, own=own, task=(5,))
    assert_close(other.params, found.params, rtol=0, atol=0)
    assert info.task_losses.size == 0 and info.fast_norms.size == 0 and info.remain_losses.shape == (3, 2)
    still, _ = request(mlp, dataclasses.replace(HYPER, output_budget=0.0))
    assert_close(still.params, found.params)


def ignoring(params, state, x, *, train, rng_key):
    return x @ params["used"], state


@functools.cache
def unlearning(schedule):
    own = dataclasses.replace(SMALL, inner_schedule=schedule, outer_steps=4, inner_steps=3)
    return jax.jit(ug_clu(ignoring, own, own, num_classes=CLASSES).unlearn)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(1e-4, 1.0), st.sampled_from(["constant", "outer", "inner"]))
def test_what_is_left_of_an_untouched_weight_is_the_budget(kept_share, rate, schedule):
    """Whatever the rate and the schedule."""
    with jax.enable_x64(True):
        params = {"used": jnp.ones((3, CLASSES)), "unused": jnp.arange(1.0, 6.0)}
        hyper = dataclasses.replace(HYPER, kept_share=kept_share, remain_learning_rate=rate, slow_step_size=1.0)
        hyper = jax.tree.map(jnp.asarray, hyper)
        task, kept = examples((4,)), buffer_of((9,))
        state, _ = unlearning(schedule)(jax.random.key(0), MethodState(params, {}, {}), hyper, task, kept)
        np.testing.assert_allclose(state.params["unused"], kept_share * params["unused"], rtol=1e-12)


@pytest.mark.parametrize("name", ["output_budget", "kept_share", "remain_learning_rate", "slow_step_size"])
def test_hypergradients_are_those_of_finite_differences(x64, mlp, name):
    def loss(value):
        state, _ = traceable(mlp, dataclasses.replace(HYPER, **{name: value}))
        return sum(jnp.sum(jnp.sin(3 * p)) for p in jax.tree.leaves(state.params))

    value = getattr(HYPER, name)
    run, step = jax.jit(loss), 1e-6 * value
    expected = (run(value + step) - run(value - step)) / (2 * step)
    assert float(jax.jit(jax.grad(loss))(value)) == pytest.approx(float(expected), rel=1e-5)


def test_costs_count_every_pass(mlp):
    """A step: the task forward and backward, its probe forward, K_in batches forward and backward."""
    method = ug_clu(mlp.apply_fn, SMALL, SMALL, num_classes=CLASSES)
    assert method.cost("unlearn", 6, 5) == pytest.approx(3 * (4 + 4 / 3 + 2 * 4) / 64)
    taught = dataclasses.replace(SMALL, distillation=True, unlearn_loss="bounded", levels="midpoint")
    method = ug_clu(mlp.apply_fn, SMALL, taught, num_classes=CLASSES)
    assert method.cost("unlearn", 6, 5) == pytest.approx((6 / 3 + 3 * (4 + 4 / 3 + 2 * 4 / 3 + 2 * 4)) / 64)
