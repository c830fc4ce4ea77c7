"""The Euclidean outer step: solvable by hand, a request of UG-CLU against a loop, and the cost of a fast-slow step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ugclu_jax import buffer as reservoir
from ugclu_jax.euclidean import data_shares, euclidean_step
from ugclu_jax.types import Examples, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import gradient_evaluations

INPUTS = np.random.default_rng(0).normal(size=(6, 3))
LABELS = np.arange(6) % 3
SETTINGS = dataclasses.replace(
    PLAIN, outer_steps=3, inner_steps=2, task_batch_size=4, remain_batch_size=4, mask="none", manifold="euclidean"
)
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
insert = jax.jit(reservoir.insert)


def examples(ids):
    padded = np.r_[np.asarray(ids, np.int32), np.full(5 - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids):
    return insert(reservoir.init(4, (3,), jnp.asarray(INPUTS).dtype, jax.random.key(0)), examples(ids))


def quadratic(params, model_state, x):
    return 2.0 * params, model_state + 1, jnp.sum(params**2)


@pytest.mark.parametrize("clip_norm", [np.inf, 2.5])
def test_steps_on_a_quadratic_are_those_of_a_loop(x64, clip_norm):
    direction, mask = np.array([3.0, 7.0, 4.0]), np.array([1.0, 0.0, 1.0])
    step = euclidean_step(
        jnp.ones(3),
        jnp.array(0),
        jnp.asarray(direction),
        quadratic,
        jnp.zeros(3),
        shares=(0.8, 0.2),
        mask=jnp.asarray(mask),
        learning_rate=0.1,
        clip_norm=clip_norm,
    )
    theta, losses = np.ones(3), []
    for _ in range(3):
        losses.append(np.sum(theta**2))
        theta = theta - 0.1 * (0.8 * 2 * theta + 0.2 * mask * direction * min(1.0, clip_norm / 5.0))
    np.testing.assert_allclose(step.params, theta, rtol=1e-12)
    np.testing.assert_allclose(step.remain_losses, losses, rtol=1e-12)
    assert (float(step.fast_norm), bool(step.clipped), int(step.model_state)) == (5.0, clip_norm < 5, 3)
    assert step.displacement_norm == pytest.approx(np.linalg.norm(theta - 1), rel=1e-12)


def test_shares_are_those_of_the_examples():
    assert [float(share) for share in data_shares(jnp.array(0), jnp.array(0))] == [1.0, 0.0]
    assert [float(share) for share in data_shares(jnp.array(0), jnp.array(5))] == [0.0, 1.0]
    assert [float(share) for share in data_shares(jnp.array(30), jnp.array(10))] == [0.75, 0.25]


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
def test_a_request_is_that_of_a_loop(x64, mlp, kind):
    """One example of the task and one in the buffer: every draw is known. β_Q and α are not read."""
    hyper = dataclasses.replace(
        PLAIN_HYPER,
        fast_learning_rate=99.0,
        remain_learning_rate=0.2,
        slow_step_size=0.123,
        loss_exponent=0.0,
        clip_norm=0.5,
        remain_weight_decay=0.1,
    )
    method = ug_clu(mlp.apply_fn, SETTINGS, SETTINGS, num_classes=3)
    run = jax.jit(getattr(method, kind), compiler_options=QUICK_COMPILATION)
    state, info = run(jax.random.key(0), MethodState(mlp.params, {}), hyper, examples([4]), buffer_of([3]))
    params, clipped = mlp.params, []
    for k in range(3):
        task, _ = reference.mean_gradient(mlp.twin, params, (INPUTS[[4]], LABELS[[4]], [1.0]))
        task = {name: (1 - k / 3) * (1.0 if kind == "learn" else -1.0) * g for name, g in task.items()}
        clipped.append(reference.norm(task) > 0.5)
        scale = min(1.0, 0.5 / reference.norm(task))
        for _ in range(2):
            remain, _ = reference.mean_gradient(mlp.twin, params, (INPUTS[[3]], LABELS[[3]], [1.0]))
            params = {
                name: p - 0.2 * (1 - k / 3) * (0.5 * (remain[name] + 0.1 * p) + 0.5 * scale * task[name])
                for name, p in params.items()
            }
    for name in params:
        np.testing.assert_allclose(state.params[name], params[name], rtol=1e-11)
    assert info.clipped.tolist() == clipped and any(clipped)


def test_it_costs_what_the_fast_slow_step_costs():
    fast_slow = dataclasses.replace(SETTINGS, manifold="fast_slow")
    assert gradient_evaluations(SETTINGS, 100) == gradient_evaluations(fast_slow, 100) == 3 * (4 + 2 * 4) / 64


def test_no_steps_and_an_unknown_manifold_are_refused():
    with pytest.raises(ValueError, match="manifold 'euclidean' needs inner_steps of at least 1, got 0"):
        dataclasses.replace(SETTINGS, inner_steps=0)
    with pytest.raises(ValueError, match="manifold must be one of fast_slow, euclidean, got 'riemann'"):
        dataclasses.replace(SETTINGS, manifold="riemann")
