"""SGD and AdamW against NumPy loops and optax, and what a mask of either scope lets move."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ugclu_jax import optimizer

STEPS = 10
RNG = np.random.default_rng(0)
PARAMS = {"kernel": RNG.normal(size=(3, 2)), "bias": RNG.normal(size=2)}
GRADIENTS = [{name: RNG.normal(size=p.shape) for name, p in PARAMS.items()} for _ in range(STEPS)]
MASK = {"kernel": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), "bias": np.array([0.0, 1.0])}
RATES = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.3}
KINDS, SCOPES = ["sgd", "adamw"], ["gradient", "update"]


@functools.partial(jax.jit, static_argnames=("kind", "scope"))
def walk(kind, params, gradients, mask, rates, scope="gradient"):
    """All steps in one scan, and every step's parameters."""

    def body(carry, gradient):
        params, state = carry
        new = optimizer.update(kind, gradient, state, params, mask=mask, mask_applies_to=scope, **rates)
        return new, new[0]

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *gradients)
    (params, state), path = jax.lax.scan(body, (params, optimizer.transformation(kind).init(params)), stacked)
    return params, state, path


def loop(kind, mask, scope, learning_rate, momentum, weight_decay, second_momentum=0.999, factor=1.0):
    """The formulas, one number at a time; with nothing that looks at more than one number."""
    result = {}
    for name, start in PARAMS.items():
        result[name] = np.empty_like(start)
        for place in np.ndindex(start.shape):
            theta, first, second, m = start[place], 0.0, 0.0, 1.0 if mask is None else mask[name][place]
            for k in range(STEPS):
                g = GRADIENTS[k][name][place] * (m if scope == "gradient" else 1.0)
                if kind == "sgd":
                    first = momentum * first + g + weight_decay * theta
                    step = first
                else:
                    first = momentum * first + (1 - momentum) * g
                    second = second_momentum * second + (1 - second_momentum) * g * g
                    mean, square = first / (1 - momentum ** (k + 1)), second / (1 - second_momentum ** (k + 1))
                    step = mean / (square**0.5 + 1e-8) + weight_decay * theta
                lost = learning_rate * step + (1 - factor) * theta
                theta = theta - lost * (m if scope == "update" else 1.0)
            result[name][place] = theta
    return result


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_are_those_of_a_loop(x64, kind, scope):
    """A mask of values between 0 and 1 too, as the soft mask has."""
    soft = {name: 0.3 + 0.6 * m for name, m in MASK.items()}
    for mask in (MASK, soft):
        params, state, _ = walk(kind, PARAMS, GRADIENTS, mask, RATES, scope)
        for name, expected in loop(kind, mask, scope, **RATES).items():
            np.testing.assert_allclose(params[name], expected, rtol=1e-12)
        assert optax.tree.get(state, "count", STEPS) == STEPS  # SGD counts nothing


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_another_second_moment_and_a_factor_are_those_of_a_loop(x64, kind, scope):
    """Under a mask on the update a weight of mask 0 is not multiplied either, and one of mask ½ half as far."""
    extras = {"second_momentum": 0.9, "factor": 0.97}
    for mask in (MASK, {name: 0.3 + 0.6 * m for name, m in MASK.items()}):
        params, _, _ = walk(kind, PARAMS, GRADIENTS, mask, RATES | extras, scope)
        for name, expected in loop(kind, mask, scope, **RATES, **extras).items():
            np.testing.assert_allclose(params[name], expected, rtol=1e-12)
    params, _, _ = walk(kind, PARAMS, GRADIENTS, MASK, RATES | extras, "update")
    for name, p in PARAMS.items():
        np.testing.assert_array_equal(np.asarray(params[name])[MASK[name] == 0], p[MASK[name] == 0])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_clipped_after_a_mask_on_it(x64, kind, scope):
    """As if the shorter gradients had been given; the mask on the update shortens nothing before it."""
    params, _, _ = walk(kind, PARAMS, GRADIENTS, MASK, RATES | {"clip_norm": 1.5}, scope)
    shorter, lengths = [], []
    for gradient in GRADIENTS:
        met = {name: g * (MASK[name] if scope == "gradient" else 1.0) for name, g in gradient.items()}
        lengths.append(np.sqrt(sum(np.sum(g * g) for g in met.values())))
        shorter.append({name: g * min(1.0, 1.5 / lengths[-1]) for name, g in gradient.items()})
    assert min(lengths) < 1.5 < max(lengths) or scope == "update", "some are clipped and some are not"
    expected, _, _ = walk(kind, PARAMS, shorter, MASK, RATES, scope)
    for name in PARAMS:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_extras_at_their_defaults_change_no_bit(kind, dtype):
    """Against optax with its constant .999, neither clip nor factor, all of it traced as a request traces it."""
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=999).astype(dtype), rng.normal(size=(STEPS, 999)).astype(dtype)
    rates = {name: dtype(rate) for name, rate in RATES.items()}
    extras = {"second_momentum": dtype(0.999), "clip_norm": dtype(np.inf), "factor": dtype(1.0)}

    @jax.jit
    def plain(params, gradients, learning_rate, momentum, weight_decay):
        decay = optax.add_decayed_weights(weight_decay)
        root = float(np.finfo(np.float32).tiny)
        theirs = {
            "sgd": optax.chain(decay, optax.trace(momentum)),
            "adamw": optax.chain(optax.scale_by_adam(momentum, 0.999, eps_root=root), decay),
        }[kind]

        def body(carry, gradient):
            params, state = carry
            steps, state = theirs.update(gradient, state, params)
            return (params - learning_rate * steps, state), None

        return jax.lax.scan(body, (params, theirs.init(params)), gradients)[0][0]

    with jax.enable_x64(dtype is np.float64):
        found, _, _ = walk(kind, start, list(gradients), None, rates | extras)
        np.testing.assert_array_equal(found, plain(start, gradients, **rates))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_whose_norm_overflows_is_not_clipped_by_infinity(kind):
    huge = np.full(3, 1e30, np.float32)
    params, _ = optimizer.update(
        kind, huge, optimizer.transformation(kind).init(huge), np.zeros_like(huge), learning_rate=1e-30
    )
    assert np.isfinite(params).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_mask_or_with_ones_it_is_optax(x64, kind):
    """optax adds weight decay to the gradient of SGD by a transformation of its own."""
    ones = jax.tree.map(np.ones_like, MASK)
    if kind == "sgd":
        theirs = optax.chain(optax.add_decayed_weights(0.3), optax.sgd(0.1, momentum=0.8))
    else:
        theirs = optax.adamw(0.1, b1=0.8, b2=0.999, eps=1e-8, weight_decay=0.3)
    expected = jax.tree.map(jnp.asarray, PARAMS)
    state = theirs.init(expected)
    for gradient in GRADIENTS:
        updates, state = theirs.update(gradient, state, expected)
        expected = optax.apply_updates(expected, updates)
    for mask, scope in ((None, "gradient"), (ones, "gradient"), (ones, "update")):
        params, _, _ = walk(kind, PARAMS, GRADIENTS, mask, RATES, scope)
        for name in PARAMS:
            np.testing.assert_allclose(params[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_on_the_update_holds_a_weight_and_one_on_the_gradient_does_not(x64, kind):
    """What moves a masked-out weight under "gradient" is its own decay, and a momentum from before the mask."""
    held = {name: np.asarray(m) == 0 for name, m in MASK.items()}
    params, _, _ = walk(kind, PARAMS, GRADIENTS, MASK, RATES, "update")
    for name, p in PARAMS.items():
        np.testing.assert_array_equal(np.asarray(params[name])[held[name]], p[held[name]])
        assert np.all(np.asarray(params[name])[~held[name]] != p[~held[name]])

    no_decay = RATES | {"weight_decay": 0.0}
    decayed, _, _ = walk(kind, PARAMS, GRADIENTS, MASK, RATES, "gradient")
    still, _, _ = walk(kind, PARAMS, GRADIENTS, MASK, no_decay, "gradient")
    for name, p in PARAMS.items():
        assert np.all(np.abs(np.asarray(decayed[name])[held[name]]) < np.abs(p[held[name]]))
        np.testing.assert_array_equal(np.asarray(still[name])[held[name]], p[held[name]])

    # One free step, then a mask: the momentum of the first goes on.
    free, state, _ = walk(kind, PARAMS, GRADIENTS[:1], None, no_decay)
    for scope, moves in (("gradient", True), ("update", False)):
        after, _ = optimizer.update(kind, GRADIENTS[1], state, free, mask=MASK, mask_applies_to=scope, **no_decay)
        for name in PARAMS:
            moved = np.asarray(after[name] != free[name])[held[name]]
            assert np.all(moved) if moves else not np.any(moved)


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_those_of_the_parameters_whatever_the_rates_are(kind):
    """A carry of a scan must not change its type: bfloat16 parameters with float32 rates."""
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), {n: np.float32(p) for n, p in PARAMS.items()})
    state = optimizer.transformation(kind).init(params)
    rates = {name: jnp.float32(rate) for name, rate in RATES.items()}
    new_params, new_state = optimizer.update(kind, params, state, params, **rates)
    for old, new in ((params, new_params), (state, new_state)):
        assert jax.tree.map(lambda x: x.dtype, old) == jax.tree.map(lambda x: x.dtype, new)


def test_adamw_survives_a_gradient_of_zeros_and_no_momentum(x64):
    zeros = jax.tree.map(np.zeros_like, PARAMS)
    params, _, _ = walk("adamw", PARAMS, [zeros] * 2, None, RATES | {"momentum": 0.0})
    for name, p in PARAMS.items():
        np.testing.assert_allclose(params[name], p * (1 - 0.1 * 0.3) ** 2, rtol=1e-12)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_derivative_by_the_rate_is_finite_where_a_gradient_is_zero(x64, kind, scope):
    """A mask makes some gradients 0, and some weights enter no loss at all; both directions, against differences."""
    used = {"kernel": np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]), "bias": np.array([1.0, 1.0])}

    def end(learning_rate):
        """What a readout of θ says after steps whose gradients follow θ, and through it the rate."""
        rates, mask = RATES | {"learning_rate": learning_rate}, {"mask": MASK, "mask_applies_to": scope}
        params, state = PARAMS, optimizer.transformation(kind).init(PARAMS)
        for _ in range(3):
            gradient = jax.tree.map(lambda u, p: u * jnp.sin(p), used, params)
            params, state = optimizer.update(kind, gradient, state, params, **rates, **mask)
        return sum(jnp.vdot(w, params[name]) for name, w in GRADIENTS[0].items())

    difference = (end(0.1 + 1e-6) - end(0.1 - 1e-6)) / 2e-6
    for derivative in (jax.grad(end)(0.1), jax.jacfwd(end)(0.1)):
        assert np.isfinite(derivative)
        np.testing.assert_allclose(derivative, difference, rtol=1e-7)
