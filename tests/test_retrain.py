"""Retraining: a stream ends in the oracle of what is retained, whatever was asked on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as reservoir
from ugclu_jax.combination import combine
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.methods.retrain import retrain
from ugclu_jax.oracle import OracleSettings, gradient_evaluations, train_from_scratch
from ugclu_jax.types import Examples

ROWS, CLASSES = 20, 3
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(ROWS, 3)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS).astype(np.int32)
SETTINGS = OracleSettings(epochs=2, batch_size=4, learning_rate=0.3)


def linear(params, model_state, inputs, *, train, rng_key):
    return inputs @ params, model_state


def init_fn(rng_key):
    return jax.random.normal(rng_key, (3, CLASSES)), {}


def examples(ids, size=8, rows=ROWS):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS[:rows]), jnp.asarray(LABELS[:rows]), jnp.asarray(padded), jnp.int32(len(ids)))


QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
serve = jax.jit(apply_request, static_argnums=(0, 1), compiler_options=QUICK_COMPILATION)
METHOD = retrain(linear, SETTINGS, init_fn=init_fn, num_examples=ROWS)
STREAM = [("learn", [1, 5, 8]), ("learn", [2, 9, 11, 4]), ("unlearn", [5, 2]), ("learn", [2, 12]), ("unlearn", [12, 8])]


def start(method):
    return CLUState(method.init(*init_fn(jax.random.key(9))), reservoir.init(4, (3,), jnp.float32, jax.random.key(0)))


def test_every_request_ends_in_the_oracle_of_what_is_retained():
    train = jax.jit(
        lambda key, ids: train_from_scratch(key, ids, apply_fn=linear, init_fn=init_fn, settings=SETTINGS),
        compiler_options=QUICK_COMPILATION,
    )
    state, retained = start(METHOD), set()
    for t, (kind, ids) in enumerate(STREAM):
        retained = retained | set(ids) if kind == "learn" else retained - set(ids)
        state, info = serve(METHOD, kind, jax.random.key(t), state, (), examples(ids))
        assert np.flatnonzero(state.method.extra["retrain"]).tolist() == sorted(retained)
        # The order of an epoch is a draw over all padded rows, so the oracle is given as many.
        params, _ = train(jax.random.key(t), examples(sorted(retained), ROWS))
        np.testing.assert_allclose(state.method.params, params, rtol=1e-6)
        assert info.gradient_evaluations == pytest.approx(2 * len(retained) / 64)
        assert gradient_evaluations(len(retained), SETTINGS) == pytest.approx(2 * len(retained) / 64)


def test_the_last_network_owes_nothing_to_the_first():
    """Another start, another order of requests: the same retained set and key, the same network."""
    ends = []
    for order in ([[1, 5], [8]], [[8, 5, 3], [1]]):
        state = start(METHOD)
        for t, ids in enumerate(order):
            state, _ = serve(METHOD, "learn", jax.random.key(10 + len(order[0]) + t), state, (), examples(ids))
        state, _ = serve(METHOD, "unlearn", jax.random.key(7), state, (), examples([3]))
        ends.append(state.method.params)
    np.testing.assert_array_equal(*ends)


def test_it_keeps_count_while_another_method_learns():
    method = combine(learn=do_nothing(), unlearn=METHOD)
    state = start(method)
    for t, (kind, ids) in enumerate(STREAM[:3]):
        state, _ = serve(method, kind, jax.random.key(t), state, (), examples(ids))
    assert np.flatnonzero(state.method.extra["retrain"]).tolist() == [1, 4, 8, 9, 11]


def test_tracking_twice_is_tracking_once_and_leaves_others_alone():
    extra = {"retrain": jnp.zeros(ROWS, bool).at[3].set(True), "another": 7}
    for kind, expected in (("learn", [0, 3, 5]), ("unlearn", [])):
        once = METHOD.track(kind, extra, examples([0, 3, 5]))
        assert np.flatnonzero(once["retrain"]).tolist() == expected  # and never row -1, where padding points
        np.testing.assert_array_equal(METHOD.track(kind, once, examples([0, 3, 5]))["retrain"], once["retrain"])
        assert once["another"] == 7
    assert METHOD.track("learn", {"another": 7}, examples([0])) == {"another": 7}


def test_everything_unlearned_leaves_a_fresh_network():
    state = METHOD.init(*init_fn(jax.random.key(9)))
    state, info = jax.jit(METHOD.unlearn)(jax.random.key(3), state, (), examples([1]), start(METHOD).buffer)
    assert np.all(np.isfinite(state.params)) and info.gradient_evaluations == 0
    np.testing.assert_array_equal(state.params, init_fn(jax.random.split(jax.random.key(3), 3)[0])[0])


def test_arrays_of_another_length_are_refused():
    with pytest.raises(ValueError, match="num_examples is 20, and the training arrays have 7 rows"):
        apply_request(METHOD, "learn", jax.random.key(0), start(METHOD), (), examples([1], rows=7))
