"""Every line of docs/convergence.md, by the library's own steps in float64; the fits of the study; `until`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_stream import CLASSES, assert_close, buffer_of, examples

from experiments import convergence
from ugclu_jax.fast_slow import fast_slow_step, fast_step, preconditioned, slow_step
from ugclu_jax.loop import request_loop
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.stepping import BufferSettings
from ugclu_jax.types import Execution, MethodState
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_settings import UGCLUSettings

SIZE, ETA, BETA = 4, 0.4, 0.3
RNG = np.random.default_rng(3)
TURN = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
CURVATURES = np.array([0.0, 0.05, 0.6, 2.0])
HESSIAN = (TURN * CURVATURES) @ TURN.T
OPTIMUM, G, BEGUN = RNG.normal(size=SIZE), RNG.normal(size=SIZE), RNG.normal(size=SIZE)
DIAGONAL = np.array([0.5, 1.0, 1.5, 0.75])
EYE = np.eye(SIZE)
power = np.linalg.matrix_power


def remain(params, state, batch):
    optimum = OPTIMUM + batch
    return HESSIAN @ (params - optimum), state, jnp.zeros(())


@functools.partial(jax.jit, static_argnames=("inner", "preconditioned_by"))
def outer(params, g, beta, alpha, decay=1.0, eta=ETA, *, inner, preconditioned_by="identity"):
    """One outer step of the library."""
    scaled = optax.identity()
    if preconditioned_by == "diagonal":
        scaled = optax.stateless(lambda updates, params: jnp.asarray(DIAGONAL) * updates)
    ends = preconditioned(
        fast_step(params, g, fast_learning_rate=beta).fast_params,
        {},
        remain,
        jnp.zeros((inner, SIZE)),
        remain_learning_rate=eta,
        preconditioner=scaled,
        preconditioner_state=scaled.init(params),
        decay_factors=decay,
    )
    return slow_step(params, ends.params, alpha)


def outers(params, betas, **given):
    for beta in betas:
        params = outer(params, G, beta, **given)
    return np.asarray(params)


CASES = [(1, 1.0, "identity"), (5, 0.5, "identity"), (4, 1.0, "diagonal"), (3, 0.25, "diagonal")]


def matrices(inner, alpha, by, d=1.0):
    preconditioner = np.diag(DIAGONAL) if by == "diagonal" else EYE
    m = power(d * EYE - ETA * preconditioner @ HESSIAN, inner)
    return preconditioner, m, (1 - alpha) * EYE + alpha * m


@pytest.mark.parametrize(("inner", "alpha", "by"), CASES)
def test_1_one_outer_step(x64, inner, alpha, by):
    _, m, f = matrices(inner, alpha, by)
    found = outer(jnp.asarray(BEGUN), G, BETA, alpha, inner=inner, preconditioned_by=by)
    np.testing.assert_allclose(found - OPTIMUM, f @ (BEGUN - OPTIMUM) - alpha * BETA * m @ G, rtol=1e-10)
    if by == "identity":
        one = fast_slow_step(jnp.asarray(OPTIMUM), {}, G, remain, jnp.zeros((inner, SIZE)),
                             fast_learning_rate=BETA, remain_learning_rate=ETA, slow_step_size=alpha)  # fmt: skip
        filtered = TURN @ ((1 - ETA * CURVATURES) ** inner * (TURN.T @ G))
        np.testing.assert_allclose(one.params - OPTIMUM, -alpha * BETA * filtered, rtol=1e-10)


@pytest.mark.parametrize(("inner", "alpha", "by"), CASES)
def test_2_contraction(x64, inner, alpha, by):
    preconditioner, _, _ = matrices(inner, alpha, by)
    root = np.sqrt(np.diag(preconditioner))
    h, vectors = np.linalg.eigh(root[:, None] * HESSIAN * root)  # of P^½ H P^½, in the norm of P^{-½}
    factors = 1 - alpha + alpha * (1 - ETA * h) ** inner
    first, second = (outer(jnp.asarray(x), 0 * G, BETA, alpha, inner=inner, preconditioned_by=by) for x in (BEGUN, G))
    moved, apart = vectors.T @ ((first - second) / root), vectors.T @ ((BEGUN - G) / root)
    np.testing.assert_allclose(moved, factors * apart, atol=1e-12)
    assert abs(factors[0]) == pytest.approx(1) and np.all(np.abs(factors[1:]) < 1)


@pytest.mark.parametrize(
    ("eta_h", "inner", "alpha", "falls"),
    [(1.9, 3, 1.0, True), (2.1, 3, 1.0, False), (2.1, 3, 0.5, True), (2.1, 2, 0.5, False), (2.6, 3, 0.5, False)],
)
def test_2_rates_that_are_stable(x64, eta_h, inner, alpha, falls):
    along = jnp.asarray(TURN[:, 3])  # the most curved direction
    found = outer(OPTIMUM + along, 0 * G, BETA, alpha, 1.0, eta_h / CURVATURES[3], inner=inner)
    mu = (1 - eta_h) ** inner
    assert float(jnp.linalg.norm(found - OPTIMUM)) == pytest.approx(abs(1 - alpha + alpha * mu), rel=1e-9)
    assert (1 - 2 / alpha < mu < 1) is falls
    assert (float(jnp.linalg.norm(found - OPTIMUM)) < 1) is falls


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_3_fixed_point_and_drift(x64, alpha):
    inner, curved = 2, TURN[:, 1:]
    found = outers(BEGUN, [BETA] * 4000, alpha=alpha, inner=inner)
    mu = (1 - ETA * CURVATURES[1:]) ** inner
    expected = curved.T @ OPTIMUM - BETA * mu / (1 - mu) * (curved.T @ G)
    np.testing.assert_allclose(curved.T @ found, expected, rtol=1e-9)
    flat = TURN[:, 0]
    assert flat @ found == pytest.approx(flat @ BEGUN - 4000 * alpha * BETA * flat @ G, rel=1e-9)


def test_3_the_inverse_at_small_rates(x64):
    inner, eta = 2, 1e-4
    mu = (1 - eta * CURVATURES[1:]) ** inner
    np.testing.assert_allclose(BETA * mu / (1 - mu), BETA / (eta * inner) / CURVATURES[1:], rtol=1e-3)
    at = OPTIMUM - TURN[:, 1:] @ (BETA * mu / (1 - mu) * (TURN[:, 1:].T @ G))
    moved = outer(jnp.asarray(at), G, BETA, 1.0, 1.0, eta, inner=inner)
    np.testing.assert_allclose(TURN[:, 1:].T @ (moved - at), 0, atol=1e-9)


@pytest.mark.parametrize(("inner", "alpha", "by"), CASES)
def test_4_fixed_point_with_decay(x64, inner, alpha, by):
    d = 0.95
    preconditioner, m, _ = matrices(inner, alpha, by, d)
    penalty = (1 - d) / ETA * np.linalg.inv(preconditioner)
    ridge = np.linalg.solve(HESSIAN + penalty, HESSIAN @ OPTIMUM)
    expected = ridge - BETA * m @ np.linalg.solve(EYE - m, G)
    found = outers(BEGUN, [BETA] * 3000, alpha=alpha, decay=d, inner=inner, preconditioned_by=by)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_5_a_fast_step_that_falls(x64):
    inner, alpha = 2, 0.5
    _, m, f = matrices(inner, alpha, "identity")
    for steps in (1, 7):
        shares = 1 - np.arange(steps) / steps
        expected = power(f, steps) @ (BEGUN - OPTIMUM)
        expected -= alpha * BETA * sum(e * power(f, steps - 1 - k) @ m @ G for k, e in enumerate(shares))
        found = outers(BEGUN, BETA * shares, alpha=alpha, inner=inner)
        np.testing.assert_allclose(found - OPTIMUM, expected, rtol=1e-9)
    steps = 20_000
    betas = BETA * (1 - jnp.arange(steps) / steps)

    @jax.jit
    def whole(params):
        return jax.lax.scan(lambda p, b: (outer(p, G, b, alpha, inner=inner), None), params, betas)[0]

    found, curved = whole(jnp.asarray(OPTIMUM)) - OPTIMUM, TURN[:, 1:]
    mu = (1 - ETA * CURVATURES[1:]) ** inner
    limit = -alpha * BETA * mu / (alpha * (1 - mu)) ** 2 * (curved.T @ G)
    np.testing.assert_allclose(steps * curved.T @ found, limit, rtol=0.01)
    assert TURN[:, 0] @ found == pytest.approx(-alpha * BETA * (steps + 1) / 2 * TURN[:, 0] @ G, rel=1e-9)


def test_6_the_variance_that_batches_leave(x64):
    draws = jax.random.normal(jax.random.key(0), (200, 4000, SIZE))

    def chain(batches):
        flow = optax.identity()
        ends = preconditioned(jnp.asarray(OPTIMUM), {}, remain, batches, remain_learning_rate=ETA,
                              preconditioner=flow, preconditioner_state=flow.init(jnp.zeros(SIZE)))  # fmt: skip
        return ends.params - OPTIMUM

    found = jax.jit(jax.vmap(chain, in_axes=1))(draws) @ TURN[:, 2:]
    expected = ETA * CURVATURES[2:] / (2 - ETA * CURVATURES[2:])
    np.testing.assert_allclose(found.var(0), expected, rtol=0.1)
    np.testing.assert_allclose(found.mean(0), 0, atol=5 * np.sqrt(expected.max() / 4000))


def test_what_is_not_covered_diverges_where_it_says(x64):
    """An ascent with curvature of its own, along the flattest curved direction."""
    inner, alpha, along = 2, 1.0, TURN[:, 1]
    mu = (1 - ETA * CURVATURES[1]) ** inner
    for own, grows in ((-0.01, False), (-0.5, True)):
        params = jnp.asarray(OPTIMUM + along)
        stepped = outer(params, own * (params - OPTIMUM), BETA, alpha, inner=inner)
        factor = float(along @ (stepped - OPTIMUM))
        assert factor == pytest.approx(mu * (1 - BETA * own), rel=1e-9)
        assert (factor > 1) is grows


# --- the loop, stopped on its way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rematerialise", [False, True])
def test_a_request_stopped_on_its_way_is_where_the_whole_one_was(rematerialise):
    def step(key, params, state, batches, moment):
        new = params + moment.remaining_share * (jax.random.normal(key, (2,)) + batches)
        return new, {"count": state["count"] + 1}, new

    def draw(key):
        return jax.random.uniform(key, (2,))

    @jax.jit
    def whole(until):
        begun = jnp.zeros(2), {"count": jnp.int32(0)}
        return request_loop(draw, step, *begun, jax.random.key(0), 6, rematerialise=rematerialise, until=until)

    _, _, path = request_loop(draw, step, jnp.zeros(2), {"count": jnp.int32(0)}, jax.random.key(0), 6)
    for until in range(7):
        params, state, _ = whole(jnp.int32(until))
        np.testing.assert_allclose(params, path[until - 1] if until else jnp.zeros(2), rtol=1e-6)
        assert int(state["count"]) == until


@pytest.mark.parametrize("name", ["ug_clu", "finetune_remain"])
def test_methods_pass_through_where_they_are_stopped(name, regression, x64):
    """At none of its steps the network is as it was; at all of them where the whole request leads, and in between."""
    settings = UGCLUSettings(outer_steps=4, inner_steps=2, task_batch_size=4, remain_batch_size=4)
    method = ug_clu(regression.apply_fn, settings, settings, num_classes=CLASSES)
    if name == "finetune_remain":
        method = finetune_remain(regression.apply_fn, BufferSettings(steps=4, remain_batch_size=4), num_classes=CLASSES)
    params = jax.tree.map(jnp.asarray, regression.params)
    buffer = buffer_of([0, 4, 5, 7])

    @jax.jit
    def served(until):
        update, where = method.unlearn, Execution(until=until)
        state = MethodState(params, {})
        return update(jax.random.key(1), state, method.hyper["unlearn"], examples([1]), buffer, where=where)[0].params

    whole, _ = method.unlearn(
        jax.random.key(1), MethodState(params, {}), method.hyper["unlearn"], examples([1]), buffer
    )
    assert_close(served(0), regression.params)
    assert_close(served(4), jax.tree.map(np.asarray, whole.params))
    ways = [np.linalg.norm(served(k)["kernel"] - params["kernel"]) for k in range(5)]
    assert len(set(ways)) == 5


# --- the fits ---------------------------------------------------------------------------------------------------------


def test_the_exponent_of_a_power_is_found_and_its_interval_holds_it():
    steps = np.array([0, 1, 2, 4, 8, 16])
    values = 3.0 * np.maximum(steps, 1) ** -0.7 * np.exp(0.02 * RNG.normal(size=(5, 6)))
    fit = convergence.exponent(steps, values)
    assert fit.value == pytest.approx(0.7, abs=0.05) and fit.low <= fit.value <= fit.high
    exact = convergence.exponent(steps, np.repeat(3.0 * np.maximum(steps, 1)[None] ** -0.7, 3, axis=0))
    assert tuple(exact) == pytest.approx((0.7, 0.7, 0.7))
    assert convergence.exponent(steps, np.ones((1, 6))) == (pytest.approx(0, abs=1e-9), None, None)
    assert convergence.exponent(np.array([0, 1]), np.ones((3, 2))) is None


def test_energies_of_resamples_leave_out_a_model_and_itself():
    rng = np.random.default_rng(0)
    models, oracles = rng.normal(size=(4, 1, 30, 3)), rng.normal(size=(5, 30, 3))
    from ugclu_jax.evidence import energy_distance

    energies = convergence.Energies(models, oracles)
    own = energy_distance(models[:, 0], oracles).value
    assert energies.of(np.arange(4))[0] == pytest.approx(own)
    without = energy_distance(models[[0, 2], 0], oracles).value
    assert energies.of(np.array([0, 2, 2]))[0] != pytest.approx(without), "a model may count twice across"
    assert np.isnan(energies.of(np.array([1, 1, 1]))[0]), "one model has no spread"
