"""The program of a request: how often it is compiled, and what it does to the state."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import buffer as buffer_lib
from ugclu_jax.combination import combine
from ugclu_jax.examples import bucket_size, pad_ids
from ugclu_jax.learner import CLUState, apply_request, predict_program, request_program
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.types import Examples
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER

SETTINGS = dataclasses.replace(
    PLAIN, outer_steps=3, inner_steps=1, task_batch_size=4, remain_batch_size=4, saliency_batches=1
)
INPUTS = np.random.default_rng(0).integers(1, 255, (300, 3)).astype(np.uint8)
LABELS = (np.arange(300) % 3).astype(np.int32)


class Counted:
    """A linear model that counts how often it is traced."""

    def __init__(self) -> None:
        self.traces = 0

    def __call__(self, params, model_state, inputs, *, train, rng_key):
        self.traces += 1
        return (inputs / 255.0) @ params["kernel"], model_state


def examples(ids) -> Examples:
    ids = np.asarray(ids, np.int32)
    padded = pad_ids(ids, bucket_size(len(ids)))
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS), jnp.asarray(padded), jnp.asarray(len(ids), jnp.int32))


def fresh(method, seed=0) -> CLUState:
    kernel = jax.random.normal(jax.random.key(seed), (3, 3))
    return CLUState(method.init({"kernel": kernel}, {}), buffer_lib.init(10, (3,), jnp.uint8, jax.random.key(seed)))


@pytest.fixture(scope="module")
def counted():
    model = Counted()
    return model, ug_clu(model, SETTINGS, SETTINGS, num_classes=3), request_program()


def test_one_compilation_serves_other_tasks_hyperparameters_and_seeds(counted):
    model, method, run = counted
    state, _, first = run(method, "learn", jax.random.key(0), fresh(method), PLAIN_HYPER, examples(range(20)))
    traces = model.traces
    assert traces > 0 and first.compile_seconds > 0.01
    variants = [
        (jax.random.key(1), fresh(method, seed=1), PLAIN_HYPER, examples(range(20))),
        (jax.random.key(0), state, dataclasses.replace(PLAIN_HYPER, fast_learning_rate=1), examples(range(30, 60))),
        (
            jax.random.key(0),
            state,
            dataclasses.replace(PLAIN_HYPER, clip_norm=np.inf, slow_step_size=0.25),
            examples([7]),
        ),
    ]
    for key, start, hyper, task in variants:
        _, _, cost = run(method, "learn", key, start, hyper, task)
        assert cost.compile_seconds < 0.01
    assert model.traces == traces


def test_another_bucket_compiles_once_more(counted):
    model, method, run = counted
    run(method, "learn", jax.random.key(0), fresh(method), PLAIN_HYPER, examples(range(20)))
    before = model.traces
    run(method, "learn", jax.random.key(0), fresh(method), PLAIN_HYPER, examples(range(100)))
    once = model.traces
    run(method, "learn", jax.random.key(0), fresh(method), PLAIN_HYPER, examples(range(120)))
    assert before < once == model.traces


def test_methods_that_share_learning_share_its_program(counted):
    model, method, run = counted
    run(method, "learn", jax.random.key(0), fresh(method), PLAIN_HYPER, examples(range(20)))
    before = model.traces
    mixed = combine(learn=method, unlearn=do_nothing())
    run(mixed, "learn", jax.random.key(0), fresh(mixed), PLAIN_HYPER, examples(range(20)))
    assert model.traces == before


def test_program_equals_the_plain_function(counted):
    _, method, run = counted
    arguments = (jax.random.key(3), fresh(method), PLAIN_HYPER, examples(range(20)))
    compiled, _, _ = run(method, "learn", *arguments)
    plain, _ = apply_request(method, "learn", *arguments)
    np.testing.assert_allclose(compiled.method.params["kernel"], plain.method.params["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(compiled.buffer.ids, plain.buffer.ids)


def test_unlearning_empties_the_buffer_before_the_update(counted):
    _, method, run = counted
    state, _, _ = run(method, "learn", jax.random.key(0), fresh(method), PLAIN_HYPER, examples(range(8)))
    assert int(state.buffer.count) == 8
    seen = []

    def spy(rng_key, state, hyper, task, buffer, **where):
        seen.append(buffer.ids)
        return method.unlearn(rng_key, state, hyper, task, buffer, **where)

    after, _ = apply_request(
        method._replace(unlearn=spy), "unlearn", jax.random.key(1), state, PLAIN_HYPER, examples([2, 5])
    )
    for ids in (seen[0], after.buffer.ids):
        assert sorted(np.asarray(ids)[:6]) == [0, 1, 3, 4, 6, 7]
    held = after.buffer.inputs.tobytes() if hasattr(after.buffer.inputs, "tobytes") else np.asarray(after.buffer.inputs)
    for gone in (2, 5):
        assert INPUTS[gone].tobytes() not in np.asarray(held).tobytes()


def test_prediction_is_in_evaluation_mode_and_complete():
    def apply_fn(params, model_state, inputs, *, train, rng_key):
        assert not train
        return inputs @ params, model_state

    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    logits = predict_program(apply_fn, batch_size=3)(jnp.eye(3), {}, inputs)
    np.testing.assert_allclose(logits, inputs, rtol=1e-6)


def test_a_method_can_be_a_static_argument(counted):
    """Of a `jax.jit` of one's own; its defaults are a dict, which alone could be none."""
    _, method, _ = counted
    same, other = method._replace(), combine(learn=method, unlearn=do_nothing())
    assert same == method and hash(same) == hash(method) and other != method
    serve, nothing = jax.jit(apply_request, static_argnums=(0, 1)), do_nothing()
    state, _ = serve(nothing, "learn", jax.random.key(0), fresh(nothing), (), examples(range(20)))
    assert int(state.buffer.count) == 10
