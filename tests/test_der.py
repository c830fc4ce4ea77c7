"""DER and DER++: the losses by hand, which logits belong to which example, and what stays of removed ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from small_stream import (
    CAPACITY,
    CLASSES,
    INPUTS,
    LABELS,
    NUM_EXAMPLES,
    assert_close,
    buffer_of,
    examples,
    random_batch,
    repeated,
)

from ugclu_jax.at import At
from ugclu_jax.combination import combine
from ugclu_jax.descent import along
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.loop import Moment
from ugclu_jax.methods.der import DERBatches, DERHyper, DERPPHyper, StoredLogits, der, der_pp, direction, lookup
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.stepping import DescentSettings
from ugclu_jax.stepping import start as start_descent
from ugclu_jax.types import Batch, Execution

SETTINGS = DescentSettings(steps=3, task_batch_size=4, remain_batch_size=4)
RATES = {"learning_rate": 0.3, "momentum": 0.7, "weight_decay": 0.05}
FACTORIES = {"der": der, "der_pp": der_pp}
HYPERS = {
    "der": DERHyper(**RATES, logit_weight=0.8),
    "der_pp": DERPPHyper(**RATES, logit_weight=0.8, label_weight=0.6),
}


def method_of(name, apply_fn, settings=SETTINGS):
    return FACTORIES[name](apply_fn, settings, num_classes=CLASSES, capacity=CAPACITY)


@functools.partial(jax.jit, static_argnames=("name", "settings", "apply_fn", "kind", "devices"))
def serve(name, settings, apply_fn, kind, state, hyper, task, key, devices=None):
    """One request through the learner; another method unlearns."""
    method = combine(learn=method_of(name, apply_fn, settings), unlearn=do_nothing())
    if devices is None:
        return apply_request(method, kind, key, state, hyper, task)[0]
    run = functools.partial(apply_request, method, kind, key, state, hyper, task, where=Execution("device"))
    return jax.vmap(lambda _: run(), axis_name="device")(jnp.zeros(devices))[0]


def start(name, apply_fn, params, buffer, stored=None):
    """A learner with a buffer; `stored` maps ids to logits."""
    method_state = method_of(name, apply_fn).init(params, {})
    if stored is not None:
        ids = np.full(CAPACITY, -1, np.int32)
        ids[: len(stored)] = list(stored)
        logits = np.zeros((CAPACITY, CLASSES))
        logits[: len(stored)] = list(stored.values())
        method_state = method_state._replace(extra={name: StoredLogits(jnp.asarray(ids), jnp.asarray(logits))})
    return CLUState(method_state, buffer)


def dark_gradient(network, params, task, replay, stored_logits, labelled):
    hyper = HYPERS["der_pp"]
    terms = [
        (1.0, reference.mean_gradient(network, params, task)[0]),
        (
            hyper.logit_weight,
            reference.regression_logit_gradient(params, replay, lambda z, i: 2 * (z - stored_logits[i]) / CLASSES),
        ),
    ]
    if labelled is not None:
        terms.append((hyper.label_weight, reference.mean_gradient(network, params, labelled)[0]))
    return reference.add(*terms)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_step_is_that_of_a_loop(x64, regression, name):
    plus_plus = name == "der_pp"
    task, replay, labelled = (random_batch(seed, w) for seed, w in enumerate(([1, 1, 0], [0, 1, 1], [1, 0, 1])))
    stored = np.random.default_rng(7).normal(size=(3, CLASSES))
    batches = DERBatches(Batch(*task), Batch(*replay), stored, Batch(*labelled) if plus_plus else None)
    at, step = (
        At(regression.apply_fn, regression.params, {}, moment=Moment(remaining_share=0.5)),
        along(direction, SETTINGS),
    )
    carry, _, report = step(at, start_descent(regression.params, SETTINGS), batches, HYPERS[name])
    gradient = dark_gradient(regression.twin, regression.params, task, replay, stored, labelled if plus_plus else None)
    moved = reference.add((1.0, gradient), (0.05, regression.params))
    assert_close(carry.params, reference.add((1.0, regression.params), (-0.15, moved)))
    distance = np.mean([(regression.twin.logits(regression.params, replay[0][i]) - stored[i]) ** 2 for i in (1, 2)])
    loss = reference.mean_gradient(regression.twin, regression.params, labelled)[1] if plus_plus else distance
    assert report.remain_loss == pytest.approx(loss, rel=1e-11)


@pytest.mark.parametrize("name", FACTORIES)
def test_two_requests_are_those_of_a_loop(x64, regression, name):
    """The first is fine-tuning and leaves the logits of its end; the second replays them."""
    state = start(name, regression.apply_fn, regression.params, buffer_of([]))
    state = serve(name, SETTINGS, regression.apply_fn, "learn", state, HYPERS[name], examples([9]), jax.random.key(0))
    middle = reference.sgd(
        regression.params, lambda p: reference.mean_gradient(regression.twin, p, repeated(9))[0], 3, **RATES
    )
    assert_close(state.method.params, middle)
    z = regression.twin.logits(middle, INPUTS[9])
    stored = state.method.extra[name]
    assert stored.ids.tolist() == [9, -1, -1, -1, -1, -1]
    np.testing.assert_allclose(stored.logits, np.eye(CAPACITY, 1) * z, rtol=1e-11)

    state = serve(name, SETTINGS, regression.apply_fn, "learn", state, HYPERS[name], examples([4]), jax.random.key(1))
    nine = repeated(9)

    def gradient(params):
        labelled = nine if name == "der_pp" else None
        return dark_gradient(regression.twin, params, repeated(4), nine, [z] * 4, labelled)

    end = reference.sgd(middle, gradient, 3, **RATES)
    assert_close(state.method.params, end)
    stored, ids = state.method.extra[name], state.buffer.ids
    np.testing.assert_array_equal(stored.ids, ids)
    expected = {9: z, 4: regression.twin.logits(end, INPUTS[4]), -1: np.zeros(CLASSES)}  # 9 keeps what it had
    np.testing.assert_allclose(stored.logits, [expected[i] for i in ids.tolist()], rtol=1e-11)


def one_hot(params, model_state, inputs, *, train, rng_key):
    """Logits of 1 at θ = 0: logits of 0, as what is not stored reads, would draw too."""
    return 1 + inputs @ params, model_state


def test_logits_are_found_by_id_after_a_removal_moved_the_rows(x64):
    """Inputs are one-hot ids and θ = 0, so that a step moves row i of θ towards the logits stored for example i."""
    inputs, ids = np.eye(NUM_EXAMPLES), [1, 5, 6, 8]
    stored = {i: np.random.default_rng(i).normal(size=CLASSES) for i in (8, 2, 6, 1)}  # nothing for 5; 2 is elsewhere
    params = jnp.zeros((NUM_EXAMPLES, CLASSES))
    state = start("der", one_hot, params, buffer_of(ids, inputs), stored)
    before = state.buffer.ids.tolist()
    gone = before[0]
    settings = dataclasses.replace(SETTINGS, steps=1, remain_batch_size=64)
    state = serve("der", settings, one_hot, "unlearn", state, (), examples([gone], inputs), jax.random.key(0))
    assert state.buffer.ids.tolist()[:3] == before[1:4], "the rows moved"
    kept = state.method.extra["der"]
    assert set(kept.ids.tolist()) == {-1, *stored} - {gone}
    assert not np.asarray(kept.logits)[np.asarray(kept.ids) == -1].any(), "no number of the removed example is left"

    state = serve("der", settings, one_hot, "learn", state, HYPERS["der"], examples([0], inputs), jax.random.key(1))
    moved = {i: row for i, row in enumerate(np.asarray(state.method.params)) if i != 0 and row.any()}
    assert set(moved) == set(ids) - {gone, 5}
    for i, row in moved.items():
        way = stored[i] - 1
        np.testing.assert_allclose(row / np.linalg.norm(row), way / np.linalg.norm(way), rtol=1e-11)
    logits, known = lookup(state.method.extra["der"], jnp.asarray([8, 6, 1, 5, 2]))
    assert known.tolist() == [i in state.buffer.ids.tolist() for i in (8, 6, 1, 5, 2)]
    for i, found in zip((8, 6, 1), np.asarray(logits), strict=False):
        np.testing.assert_array_equal(found, np.zeros(CLASSES) if i == gone else stored[i])


def test_without_weights_der_is_fine_tuning_and_der_pp_replays(x64, regression):
    """α = 0 and β = 0 leave the task's gradient; α = 0 and β = 1 add that of the buffer."""
    buffer, task = buffer_of([9]), examples([4])
    for name, beta in (("der", 0.0), ("der_pp", 0.0), ("der_pp", 1.0)):
        weights = {"logit_weight": 0.0} if name == "der" else {"logit_weight": 0.0, "label_weight": beta}
        hyper = dataclasses.replace(HYPERS[name], **weights)
        state = start(name, regression.apply_fn, regression.params, buffer, {9: np.ones(CLASSES)})
        end = serve(name, SETTINGS, regression.apply_fn, "learn", state, hyper, task, jax.random.key(0))

        def gradient(params, beta=beta):
            return reference.add(
                *(
                    (w, reference.mean_gradient(regression.twin, params, repeated(i))[0])
                    for i, w in ((4, 1.0), (9, beta))
                )
            )

        assert_close(end.method.params, reference.sgd(regression.params, gradient, 3, **RATES))


def test_der_pp_is_taught_by_the_network_at_the_start(x64, regression):
    """Example 9 of class 0 is kept, example 4 of class 1 is new: its class is deleted from what the teacher says."""
    settings = dataclasses.replace(SETTINGS, distillation=True)
    hyper = dataclasses.replace(HYPERS["der_pp"], logit_weight=0.0, label_weight=1.0, distillation_weight=0.4)
    state = start("der_pp", regression.apply_fn, regression.params, buffer_of([9]))
    end = serve("der_pp", settings, regression.apply_fn, "learn", state, hyper, examples([4]), jax.random.key(0))
    said = np.exp(regression.twin.logits(regression.params, INPUTS[9]))
    said[LABELS[4]] = 0.0
    target = 0.6 * np.eye(3)[LABELS[9]] + 0.4 * said / said.sum()

    def gradient(params):
        return reference.add(
            (1.0, reference.mean_gradient(regression.twin, params, repeated(4))[0]),
            (
                1.0,
                reference.regression_logit_gradient(params, repeated(9), lambda z, _: reference.softmax(z) - target),
            ),
        )

    assert_close(end.method.params, reference.sgd(regression.params, gradient, 3, **RATES))


def test_two_devices_are_one(x64, regression):
    """Some rows of the buffer have no stored logits, so that the halves of a batch differ in their number."""
    stored = {9: np.ones(CLASSES), 2: -np.ones(CLASSES)}
    state = start("der_pp", regression.apply_fn, regression.params, buffer_of([9, 2, 7, 5]), stored)
    request = "learn", state, HYPERS["der_pp"], examples([4, 0, 8]), jax.random.key(3)
    arguments = ("der_pp", SETTINGS, regression.apply_fn, *request)
    one, two = serve(*arguments), serve(*arguments, devices=2)
    for device in range(2):
        jax.tree.map(
            lambda split, whole, device=device: np.testing.assert_allclose(split[device], whole, rtol=1e-9, atol=1e-12),
            two.method,
            one.method,
        )


def test_what_it_costs():
    """64 + 64 (+ 64) examples a step, and a third of a pass for every row of the buffer; the teacher's likewise."""

    def cost(factory, **settings):
        method = factory(None, DescentSettings(steps=30, **settings), num_classes=CLASSES, capacity=192)
        return method.cost("learn", 192, 64)

    assert cost(der) == pytest.approx(61)
    assert cost(der_pp) == pytest.approx(91)
    assert cost(der_pp, distillation=True) == pytest.approx(92)


def test_bad_input_is_refused(x64, regression):
    with pytest.raises(ValueError, match=r"distillation must be False for der, got True"):
        method_of("der", regression.apply_fn, dataclasses.replace(SETTINGS, distillation=True))
    method = der(regression.apply_fn, SETTINGS, num_classes=CLASSES, capacity=5)
    state = method.init(jax.tree.map(jnp.asarray, regression.params), {})
    with pytest.raises(ValueError, match=r"capacity is 5, but the buffer has 6 rows: make der with their number"):
        method.learn(jax.random.key(0), state, HYPERS["der"], examples([4]), buffer_of([9]))
