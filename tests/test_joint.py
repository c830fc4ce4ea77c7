"""Joint training: what is retained through a stream, that every retained example is drawn alike, and a loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy import stats
from small_stream import CLASSES, INPUTS, NUM_EXAMPLES, assert_close, buffer_of, examples, repeated

from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.methods.joint import joint
from ugclu_jax.stepping import BufferSettings, DescentSettings, StepHyper
from ugclu_jax.types import Execution, MethodState

SETTINGS = BufferSettings(steps=3, remain_batch_size=4)
HYPER = StepHyper(learning_rate=0.3, momentum=0.7, weight_decay=0.05)


@functools.partial(jax.jit, static_argnames=("settings", "apply_fn", "kind", "devices"))
def serve(settings, apply_fn, kind, state, hyper, task, key, devices=None):
    method = joint(apply_fn, settings, num_examples=NUM_EXAMPLES)
    if devices is None:
        return apply_request(method, kind, key, state, hyper, task)[0]
    run = functools.partial(apply_request, method, kind, key, state, hyper, task, where=Execution("device"))
    return jax.vmap(lambda _: run(), axis_name="device")(jnp.zeros(devices))[0]


def start(params, retained=(), inputs=INPUTS):
    mask = np.isin(np.arange(NUM_EXAMPLES), list(retained))
    return CLUState(MethodState(params, {}, {"joint": jnp.asarray(mask)}), buffer_of([], inputs))


def one_hot(params, model_state, inputs, *, train, rng_key):
    return inputs @ params, model_state


def drawn(state):
    """How often each example was drawn, from one step at θ = 0 on one-hot inputs: |gradient| of row i is n_i / 2B."""
    return np.rint(np.abs(np.asarray(state.method.params)).max(1) * 1500).astype(int)


def test_every_retained_example_is_drawn_alike_and_no_other(x64):
    """Learned: 0 … 4, then 7, 8, 9; unlearned: 1 and 8, and 11, which was never learned."""
    settings = BufferSettings(steps=1, remain_batch_size=1000)
    hyper, inputs = StepHyper(learning_rate=1.0), np.eye(NUM_EXAMPLES)
    state = start(jnp.zeros((NUM_EXAMPLES, CLASSES)), inputs=inputs)
    stream = [("learn", [0, 1, 2, 3, 4]), ("learn", [7, 8, 9]), ("unlearn", [1, 8, 11])]
    retained = [{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4, 7, 8, 9}, {0, 2, 3, 4, 7, 9}]
    for r, ((kind, ids), expected) in enumerate(zip(stream, retained, strict=True)):
        method = state.method._replace(params=jnp.zeros((NUM_EXAMPLES, CLASSES)))
        state = serve(
            settings, one_hot, kind, state._replace(method=method), hyper, examples(ids, inputs), jax.random.key(r)
        )
        assert set(np.flatnonzero(state.method.extra["joint"])) == expected
        counts = drawn(state)
        assert counts.sum() == 1000 and set(np.flatnonzero(counts)) == expected
        assert stats.chisquare(counts[sorted(expected)]).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["learn", "unlearn"])
def test_a_request_is_that_of_a_loop(x64, mlp, kind):
    """One example is retained: the new one, or the one that is left."""
    state = start(mlp.params, [] if kind == "learn" else [4, 9])
    end = serve(SETTINGS, mlp.apply_fn, kind, state, HYPER, examples([4 if kind == "learn" else 9]), jax.random.key(0))

    def gradient(params):
        return reference.mean_gradient(mlp.twin, params, repeated(4))[0]

    rates = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}
    assert_close(end.method.params, reference.sgd(mlp.params, gradient, 3, **rates))


def test_where_nothing_is_retained_nothing_moves(x64, mlp):
    hyper = dataclasses.replace(HYPER, weight_decay=0.0)
    end = serve(SETTINGS, mlp.apply_fn, "unlearn", start(mlp.params, [4]), hyper, examples([4]), jax.random.key(0))
    assert_close(end.method.params, mlp.params, rtol=0, atol=0)


def test_two_devices_are_one(x64, mlp):
    arguments = (SETTINGS, mlp.apply_fn, "learn", start(mlp.params, [1, 2]), HYPER, examples([4, 0]), jax.random.key(1))
    one, two = serve(*arguments), serve(*arguments, devices=2)
    for device in range(2):
        split = {name: p[device] for name, p in two.method.params.items()}
        assert_close(split, jax.tree.map(np.asarray, one.method.params), rtol=1e-9)


def test_what_it_costs_and_what_it_refuses(x64, mlp):
    for kind in ("learn", "unlearn"):
        assert joint(mlp.apply_fn, BufferSettings(steps=30), num_examples=12).cost(kind, 10_000, 64) == 30
    with pytest.raises(ValueError, match="distillation must be False for joint"):
        joint(None, BufferSettings(distillation=True), num_examples=12)
    with pytest.raises(ValueError, match="settings of joint must be BufferSettings, got DescentSettings"):
        joint(None, DescentSettings(), num_examples=12)
    method = joint(mlp.apply_fn, SETTINGS, num_examples=11)
    state = CLUState(method.init({}, {}), buffer_of([9]))
    with pytest.raises(ValueError, match=r"num_examples is 11, and the training arrays have 12 rows"):
        apply_request(method, "learn", jax.random.key(0), state, HYPER, examples([4]))
