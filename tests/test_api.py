"""The front door: what it gives is what its parts give, and what cannot mean what it says is refused plainly."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ugclu_jax as clu
from ugclu_jax import buffer as buffer_lib
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.methods.er import er
from ugclu_jax.methods.gradient_ascent import gradient_ascent
from ugclu_jax.methods.l1_sparse import l1_sparse
from ugclu_jax.methods.salun import SalUnHyper, salun
from ugclu_jax.models.adapters import linen_apply_fn
from ugclu_jax.streaming import HostArray

INPUTS = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
LABELS = np.arange(40) % 3
SMALL = clu.UGCLUSettings(outer_steps=2, inner_steps=1, task_batch_size=4, remain_batch_size=4, saliency_batches=1)
PARAMS = jnp.ones((5, 3)) * jnp.arange(3.0)
KEY = jax.random.key(1)


def linear(params, model_state, inputs, *, train, rng_key):
    return inputs @ params, model_state


METHOD = clu.ug_clu(linear, SMALL, SMALL, num_classes=3)
DATA = clu.Data(INPUTS, LABELS)
NAMED = clu.Data(INPUTS, LABELS, [f"k{row}" for row in range(40)])
FULL = clu.init(jax.random.key(0), METHOD, PARAMS, DATA, capacity=10, remember=range(40))
EMPTY = clu.init(jax.random.key(0), METHOD, PARAMS, DATA, capacity=10)


def unlearn(method=METHOD, state=FULL, task=None, hyper=None, key=KEY):
    return clu.unlearn(key, method, state, DATA[[1, 2, 3, 4]] if task is None else task, hyper)


def test_it_is_what_its_parts_are():
    state, info = unlearn()
    hyper = METHOD.hyper["unlearn"]
    expected, told = jax.jit(lambda: apply_request(METHOD, "unlearn", KEY, FULL, hyper, DATA[[1, 2, 3, 4]]))()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (state.method, info),
        (expected.method, told),
    )
    np.testing.assert_array_equal(state.buffer.ids, expected.buffer.ids)
    buffer = buffer_lib.insert(buffer_lib.init(10, (5,), jnp.float32, jax.random.key(0)), DATA[:])
    jax.tree.map(np.testing.assert_array_equal, FULL.buffer, buffer)


def test_an_example_is_forgotten_by_its_key_whatever_its_row_today():
    order = np.random.default_rng(1).permutation(40)
    today = clu.Data(INPUTS[order], LABELS[order], NAMED.keys[order])
    for data in (NAMED, today.aligned(NAMED.keys)):
        state, _ = unlearn(task=data[["k7", "k30"]], state=FULL)
        expected, _ = unlearn(task=DATA[[7, 30]])
        jax.tree.map(np.testing.assert_array_equal, state.buffer, expected.buffer)
        np.testing.assert_array_equal(state.method.params, expected.method.params)
    streamed = clu.Data(HostArray(INPUTS[order]), LABELS[order], NAMED.keys[order]).aligned(NAMED.keys)
    np.testing.assert_array_equal(streamed.inputs.array, INPUTS)


def test_rows_by_number_slice_and_mask_are_the_same_examples():
    for rows in ([3, 0, 6, 3], np.array([6, 3, 0]), np.isin(np.arange(40), [0, 3, 6]), slice(0, 7, 3)):
        found = DATA[rows]
        assert found.ids[: int(found.count)].tolist() == [0, 3, 6]
    assert int(DATA[[]].count) == 0 and int(DATA[7].ids[0]) == 7


def test_a_task_learned_then_unlearned_leaves_the_buffer():
    state, _ = clu.learn(KEY, METHOD, EMPTY, DATA[:20])
    assert set(state.buffer.ids.tolist()) <= set(range(20)) and int(state.buffer.count) == 10
    state, info = clu.unlearn(KEY, METHOD, state, DATA[LABELS == 1])
    assert not set(state.buffer.ids.tolist()) & set(np.flatnonzero(LABELS == 1).tolist())
    assert info.task_losses.shape == (2,)


def test_a_linen_module_without_a_train_argument_is_a_model():
    net = nn.Dense(3)
    params = net.init(jax.random.key(0), INPUTS[:1])["params"]
    method = clu.ug_clu(linen_apply_fn(net, jnp.asarray), SMALL, SMALL, num_classes=3)
    state = clu.init(KEY, method, params, DATA, capacity=10, remember=range(40))
    state, _ = clu.unlearn(KEY, method, state, DATA[LABELS == 2])
    assert jax.tree.structure(state.method.params) == jax.tree.structure(params)


def no_state(params, model_state, inputs, *, train, rng_key):
    return inputs @ params


def one_number(params, model_state, inputs, *, train, rng_key):
    return (inputs @ params)[:, 0], model_state


def another_state(params, model_state, inputs, *, train, rng_key):
    return inputs @ params, {"count": 0} if train else model_state


FAULTS = {
    "another method's hyper": (lambda: unlearn(hyper=clu.DescentHyper()), "must be a UGCLUHyper, got DescentHyper"),
    "a step size of -3": (
        lambda: unlearn(hyper=clu.UGCLUHyper(slow_step_size=-3.0)),
        r"slow_step_size must be in \[0, 1\], got -3",
    ),
    "a rate that is not a number": (
        lambda: unlearn(hyper=clu.UGCLUHyper(fast_learning_rate=float("nan"))),
        r"fast_learning_rate must be in \[0, ∞\), got nan",
    ),
    "a rate of one layer": (
        lambda: unlearn(hyper=clu.UGCLUHyper(remain_learning_rate={"a": 0.1, "b": -1.0})),
        r"remain_learning_rate\['b'\] must be in",
    ),
    "momentum of 1": (
        lambda: clu.learn(KEY, er(linear), EMPTY, DATA[:4], clu.DescentHyper(momentum=1.0)),
        r"momentum must be in \[0, 1\), got 1",
    ),
    "an empty buffer": (lambda: unlearn(state=EMPTY), "the buffer is empty, and ug_clu steps on what it holds"),
    "an empty buffer of a reference": (
        lambda: unlearn(salun(linear, num_classes=3), EMPTY, hyper=SalUnHyper()),
        "the buffer is empty, and salun",
    ),
    "ids out of range": (lambda: DATA[[1, 400, -1]], r"ids \[400, -1\] are not rows of the data, which are 0 … 39"),
    "ids of a task out of range": (
        lambda: unlearn(task=DATA[[1, 2]]._replace(ids=jnp.array([1, 400]))),
        r"ids \[400\] are not rows",
    ),
    "a list for a task": (lambda: unlearn(task=[1, 2]), r"task must be examples of the data, data\[ids\], got list"),
    "a mask of another length": (lambda: DATA[np.ones(7, bool)], r"must have shape \(40,\), got \(7,\)"),
    "ids that are no numbers": (lambda: DATA[[0.5]], "ids must be one flat list of integers"),
    "keys where there are none": (lambda: DATA[["a"]], "a is a key, and these data have none: give Data the keys"),
    "a key that is gone": (lambda: NAMED[["k3", "x", "y"]], r"x, y \(2 in all\) are no key of the data"),
    "a key twice": (lambda: clu.Data(INPUTS, LABELS, ["a"] * 40), "key 'a' stands more than once"),
    "keys too few": (lambda: clu.Data(INPUTS, LABELS, ["a"]), "keys must be 40 strings, one an example"),
    "keys that are numbers": (lambda: clu.Data(INPUTS, LABELS, range(40)), "keys must be 40 strings"),
    "a key of before that is gone": (lambda: NAMED.aligned(["k3", "x"]), r"x \(1 in all\) is no key of the data"),
    "labels out of range": (
        lambda: clu.init(KEY, METHOD, PARAMS, clu.Data(INPUTS, LABELS + 5), capacity=10),
        "labels go up to 7, and the model gives logits of 3 classes",
    ),
    "negative labels": (lambda: clu.Data(INPUTS, LABELS - 1), "labels must be integers of 0 or more"),
    "float labels": (lambda: clu.Data(INPUTS, LABELS.astype(float)), "labels must be integers of 0 or more"),
    "fewer labels than inputs": (lambda: clu.Data(INPUTS, LABELS[:-1]), r"got shapes \(40, 5\) and \(39,\)"),
    "no examples": (lambda: clu.Data(INPUTS[:0], LABELS[:0]), "must be one or more examples"),
    "another number of classes": (
        lambda: unlearn(clu.ug_clu(linear, SMALL, SMALL, num_classes=2)),
        "num_classes is 2, and the model gives logits of 3 classes",
    ),
    "a model that returns no state": (
        lambda: unlearn(clu.ug_clu(no_state, SMALL, SMALL, num_classes=3)),
        r"apply_fn must return \(logits \[B, C\], new_model_state\), got",
    ),
    "a model of one number": (
        lambda: unlearn(clu.ug_clu(one_number, SMALL, SMALL, num_classes=3)),
        r"apply_fn must return logits \[B, C\]",
    ),
    "a model that makes up a state": (
        lambda: clu.learn(KEY, er(another_state), EMPTY, DATA[:4]),
        "apply_fn must return a model_state of the structure that it was given",
    ),
    "raw parameters for a state": (lambda: unlearn(state=PARAMS), "state must be what init or the request before"),
    "a method's state for a state": (lambda: unlearn(state=FULL.method), "state must be what init or the request"),
    "a key of the old kind": (lambda: unlearn(key=jax.random.PRNGKey(0)), r"rng_key must be a key: jax.random.key"),
    "a method that cannot": (
        lambda: clu.learn(KEY, gradient_ascent(linear), EMPTY, DATA[:2]),
        "does not learn: combine",
    ),
    "two that cannot": (
        lambda: clu.combine(learn=gradient_ascent(linear), unlearn=er(linear)),
        "gradient_ascent does not learn: combine it with a method that does",
    ),
    "distillation of nothing": (
        lambda: gradient_ascent(linear, clu.DescentSettings(distillation=True)),
        "settings of gradient_ascent must be TaskSettings, got DescentSettings: a step reads the task alone",
    ),
    "a task batch of nothing": (
        lambda: l1_sparse(linear, clu.DescentSettings(task_batch_size=7)),
        "settings of l1_sparse must be BufferSettings, got DescentSettings: a step reads the buffer alone",
    ),
    "no capacity": (lambda: clu.init(KEY, METHOD, PARAMS, DATA, capacity=0), "buffer capacity is 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_mean_what_it_says_is_refused(fault):
    act, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        act()


def test_an_unknown_kind_of_request_is_refused():
    run = clu.request_program()
    with pytest.raises(ValueError, match="kind must be one of learn, unlearn, got 'forget'"):
        run(METHOD, "forget", KEY, FULL, clu.UGCLUHyper(), DATA[[1]])
    with pytest.raises(ValueError, match="kind must be one of learn, unlearn, got 'forget'"):
        apply_request(METHOD, "forget", KEY, FULL, clu.UGCLUHyper(), DATA[[1]])


def test_components_are_those_of_the_parts():
    learn, away, remain = (clu.Batch(INPUTS[i : i + 8], LABELS[i : i + 8], jnp.ones(8)) for i in (0, 8, 16))
    parts = clu.components(linear, PARAMS, learn=learn, unlearn=away, remain=remain, loss_exponent=0.5)
    g = clu.unlearning_gradient(linear, PARAMS, {}, away, clu.adaptive("unlearn", 0.5)).gradient
    statistics = [
        clu.fisher(linear, PARAMS, {}, jax.tree.map(lambda x: jnp.asarray(x)[None], each)) for each in (away, remain)
    ]
    np.testing.assert_array_equal(parts.unlearning, g)
    np.testing.assert_array_equal(parts.preserving, clu.preserving_gradient(linear, PARAMS, {}, remain).gradient)
    learning = clu.learning_gradient(linear, PARAMS, {}, learn, clu.adaptive("learn", 0.5)).gradient
    np.testing.assert_array_equal(parts.learning, learning)
    np.testing.assert_array_equal(parts.mask, clu.hard_mask(*statistics))
    alone = clu.components(linear, PARAMS, remain=remain)
    assert alone.learning is None and alone.unlearning is None and alone.mask is None


def test_a_stream_is_served_request_by_request_with_typed_metrics():
    stream = clu.task_aware(LABELS, ((0, 1), (2,)), "L1 L2 U2")
    oracle = clu.Oracle(linear, lambda key: (jax.random.normal(key, (5, 3)), {}), clu.OracleSettings(epochs=2), seeds=2)
    hyper = {"unlearn": clu.UGCLUHyper(fast_learning_rate=0.5)}
    steps = list(clu.run(KEY, METHOD, EMPTY, DATA, stream, test=DATA, hyper=hyper, oracle=oracle))
    assert [step.request.name for step in steps] == [request.name for request in stream]
    state = EMPTY
    for index, step in enumerate(steps):
        serve = clu.learn if step.request.kind == "learn" else clu.unlearn
        key = jax.random.fold_in(KEY, index)
        state, _ = serve(key, METHOD, state, DATA[step.request.ids], hyper.get(step.request.kind))
        np.testing.assert_array_equal(step.state.method.params, state.method.params)
        right = (np.argmax(INPUTS @ np.asarray(state.method.params), axis=1) == LABELS)[step.situation.retained]
        assert pytest.approx(right.mean()) == step.metrics.accuracies.RA
        assert step.noise_floor.KL.retained >= 0 and step.metrics.divergences.KL.retained >= 0
    assert steps[-1].metrics.accuracies.UA is not None and steps[0].metrics.accuracies.UA is None
    without = next(clu.run(KEY, METHOD, EMPTY, DATA, stream, test=DATA, hyper=hyper))
    assert without.metrics.divergences is None and without.noise_floor is None
    with pytest.raises(ValueError, match="do_nothing was made for no model"):
        next(clu.run(KEY, clu.do_nothing(), EMPTY, DATA, stream, test=DATA))
    with pytest.raises(ValueError, match="at least 2"):
        dataclasses.replace(oracle, seeds=1)


def test_a_state_of_ones_own_is_a_state():
    assert isinstance(FULL, CLUState)
    state, _ = unlearn(state=CLUState(METHOD.init(PARAMS, {}), FULL.buffer))
    np.testing.assert_array_equal(state.method.params, unlearn()[0].method.params)
