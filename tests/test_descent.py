"""The request of an optimizer-based method: rate, cost, draws, loop, and what the settings refuse."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_stream import CLASSES, INPUTS, LABELS, buffer_of, examples

from ugclu_jax.at import At
from ugclu_jax.descent import Direction, OwnStep, Prepared, Report, descend_request, descent, evaluations
from ugclu_jax.distillation import remain_targets
from ugclu_jax.loop import REPORTS
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.stepping import (
    BufferSettings,
    DescentHyper,
    DescentSettings,
    TaskSettings,
    schedule_factor,
    update,
)
from ugclu_jax.types import REQUEST_KINDS, Execution, MethodState

SETTINGS = DescentSettings(steps=4, task_batch_size=6, remain_batch_size=8)


def no_network(params, model_state, inputs, *, train, rng_key):
    raise AssertionError("nothing asks the network")


def test_the_rate_falls_as_its_schedule_says():
    shares = np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(schedule_factor("linear", shares), shares)
    np.testing.assert_allclose(schedule_factor("constant", shares), 1.0)
    done = 1 - shares
    expected = [(1 + math.cos(math.pi * d)) / 2 for d in done]
    np.testing.assert_allclose(schedule_factor("cosine", shares), expected, atol=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_request_steps_at_the_rates_of_its_schedule(schedule):
    """A gradient of ones moves θ by minus the sum of the rates; the first step has the full one, none has 0."""

    def step(at, carry, batches, hyper):
        return update(carry, jnp.ones(2), hyper, settings, at.moment.remaining_share), at.model_state, Report()

    settings, at = dataclasses.replace(SETTINGS, schedule=schedule), At(no_network, jnp.zeros(2), {})
    carry, _, info = descend_request(
        at, step, lambda key: (), jax.random.key(0), DescentHyper(learning_rate=0.5), settings, 0.0
    )
    factors = {
        "constant": [1, 1, 1, 1],
        "linear": [1, 3 / 4, 2 / 4, 1 / 4],
        "cosine": [1, (1 + math.sqrt(0.5)) / 2, 1 / 2, (1 - math.sqrt(0.5)) / 2],
    }[schedule]
    np.testing.assert_allclose(carry.params, [-0.5 * sum(factors)] * 2, rtol=1e-6)
    np.testing.assert_allclose(info.displacement_norms, [0.5 * math.sqrt(2) * f for f in factors], rtol=1e-6)


def test_the_cost_counts_steps_the_teacher_and_what_happens_once():
    settings = DescentSettings(steps=10)
    assert evaluations(settings, 300, a_step=128) == 20
    assert evaluations(settings, 300, a_step=128, once=64) == 21
    assert evaluations(dataclasses.replace(settings, distillation=True), 192, a_step=128, once=64) == pytest.approx(22)
    assert evaluations(dataclasses.replace(settings, steps=0), 300, a_step=128) == 0
    costs = [
        evaluations(dataclasses.replace(settings, steps=k, distillation=True), 64, a_step=96, once=5) for k in range(4)
    ]
    np.testing.assert_allclose(np.diff(costs), 96 / 64)


@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_a_refusal_names_the_method_the_request_and_the_way_out(kind):
    message = f"salun does not {kind}: combine it with a method that does, see ugclu_jax.combine"
    with pytest.raises(ValueError, match=message):
        do_nothing()._replace(name="salun", **{kind: None}).update(kind)


def telling_batches(at, batches, hyper):
    """What a step tells is handed out as it is: here what it read, through which the draws are seen."""
    return Direction(jax.tree.map(jnp.zeros_like, at.params), at.model_state, Report(task_loss=batches))


def drawn(key, task, buffer, tiny=None, axis_name=None, **settings):
    """The batches of the one step of a request that reads task and buffer."""
    one_step = dataclasses.replace(SETTINGS, steps=1, **settings)
    apply_fn, params = (no_network, {}) if tiny is None else (tiny.apply_fn, jax.tree.map(jnp.asarray, tiny.params))
    method = descent("telling", apply_fn, one_step, learn=telling_batches)
    hyper = DescentHyper(distillation_weight=0.25)
    _, info = method.learn(key, MethodState(params, {}), hyper, task, buffer, where=Execution(axis_name))
    return jax.tree.map(lambda stacked: stacked[0], info.task_losses)


def test_a_pair_is_drawn_from_the_task_and_the_buffer_with_its_targets(x64, regression):
    task, buffer = examples([4, 0, 8]), buffer_of([9, 1])
    pair = drawn(jax.random.key(1), task, buffer, regression, distillation=True)
    assert pair.task.labels.shape == (6,) and pair.remain.labels.shape == (8,)
    assert pair.task.targets is None and float(pair.task.weights.min()) == float(pair.remain.weights.min()) == 1.0

    def ids(batch):
        found = [int(np.flatnonzero(np.all(x == INPUTS, axis=1))[0]) for x in np.asarray(batch.inputs)]
        np.testing.assert_array_equal(batch.labels, LABELS[found])
        return found

    assert set(ids(pair.task)) == {4, 0, 8}
    remain = ids(pair.remain)
    assert set(remain) == {9, 1}
    targets = remain_targets(regression.apply_fn, regression.params, {}, task, buffer, 0.25, batch_size=8)
    assert targets.shape == (6, CLASSES)
    places = {i: place for place, i in enumerate(buffer.ids.tolist())}
    np.testing.assert_array_equal(pair.remain.targets, targets[jnp.asarray([places[i] for i in remain])])

    other = drawn(jax.random.key(2), task, buffer)
    assert other.remain.targets is None and ids(other.remain) != remain
    empty = drawn(jax.random.key(0), task, buffer_of([]))
    assert float(empty.task.weights.min()) == 1.0 and float(empty.remain.weights.max()) == 0.0


def test_devices_share_a_pair(x64):
    task, buffer, key = examples([4, 0, 8]), buffer_of([9, 1]), jax.random.key(0)
    whole = drawn(key, task, buffer)
    split = jax.vmap(lambda _: drawn(key, task, buffer, axis_name="device"), axis_name="device")(jnp.zeros(2))
    jax.tree.map(lambda s, w: np.testing.assert_array_equal(np.concatenate(list(s)), w), split, whole)


@pytest.mark.parametrize("reads", ["task", "buffer"])
def test_a_method_of_one_batch_draws_no_other(x64, reads):
    settings = (TaskSettings if reads == "task" else BufferSettings)(steps=2)
    method = descent("telling", no_network, settings, learn=telling_batches, reads=reads)
    _, info = method.learn(jax.random.key(0), MethodState({}, {}), DescentHyper(), examples([4]), buffer_of([9]))
    task, remain = info.task_losses
    read, left = (task, remain) if reads == "task" else (remain, task)
    assert left is None and read.labels.shape == (2, 64)
    assert set(read.labels.ravel().tolist()) == {LABELS[4 if reads == "task" else 9]}


def test_a_request_threads_state_keys_and_reports():
    """Model state goes from step to step, data and model keys differ from each other and from step to step."""
    seen, calls = [], []

    def step(at, carry, data_key, hyper):
        jax.debug.callback(
            lambda a, b: seen.append((int(a), int(b))), *(jax.random.bits(k) for k in (data_key, at.rng_key))
        )
        share = at.moment.remaining_share
        report = Report(task_loss=share, remain_loss=2 * share, task_norm=3 * share, clipped=share > 0.6)
        return carry._replace(params=at.params + 3.0), {"steps": at.model_state["steps"] + 1}, report

    method = descent(
        "telling",
        no_network,
        SETTINGS,
        learn=OwnStep(step),
        draws=lambda at, task, buffer, targets: lambda key: key,
        prepare=lambda at, hyper, task, buffer: Prepared(task, mask=jnp.asarray([0.25])),
        a_step=200,
    )
    state = MethodState(jnp.zeros(1), {"steps": jnp.zeros((), int)}, {"another": 7})

    def on_step(done, total, per_step):
        calls.append((int(done), int(total)))

    request = jax.random.key(0), state, DescentHyper(), examples([4], INPUTS.astype(np.float32)), buffer_of([])
    end, info = method.learn(*request, where=Execution(on_step=on_step))
    jax.effects_barrier()
    assert end.params.tolist() == [12.0] and int(end.model_state["steps"]) == 4 and end.extra == {"another": 7}
    assert len({number for pair in seen for number in pair}) == 8
    assert sorted(calls) == [(k, 4) for k in (1, 2, 3, 4)] and REPORTS >= 4
    assert info.task_losses.tolist() == [1.0, 0.75, 0.5, 0.25]
    assert info.remain_losses.tolist() == [[2.0], [1.5], [1.0], [0.5]]
    assert info.fast_norms.tolist() == [3.0, 2.25, 1.5, 0.75]
    assert info.clipped.tolist() == [True, True, False, False]
    assert info.displacement_norms.tolist() == [3.0] * 4
    assert float(info.gradient_evaluations) == 12.5 and float(info.mask_density) == 0.25


def test_no_steps_leave_the_network_and_report_nothing():
    settings = dataclasses.replace(SETTINGS, steps=0)

    def step(at, carry, batches, hyper):
        return carry, at.model_state, Report(task_loss=at.moment.remaining_share)

    at = At(no_network, {"w": jnp.ones(2)}, {})
    end, _, info = descend_request(at, step, lambda key: (), jax.random.key(0), DescentHyper(), settings, 0.0)
    assert end.params["w"].tolist() == [1.0, 1.0]
    assert info.task_losses.shape == (0,) and info.displacement_norms.shape == (0,)
    assert info.mask_density == {"w": 1.0}


def test_targets_are_there_only_where_the_settings_distil(x64, regression):
    task, buffer = examples([4]), buffer_of([9, 1])
    assert drawn(jax.random.key(0), task, buffer, regression).remain.targets is None
    remain = drawn(jax.random.key(0), task, buffer, regression, distillation=True).remain
    assert remain.targets.shape == (8, CLASSES)
    for x, y, target in zip(remain.inputs, remain.labels, remain.targets, strict=True):
        logits = regression.twin.logits(regression.params, x)  # class 1 of the task is in the buffer: none departed
        said = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(target, 0.75 * np.eye(CLASSES)[y] + 0.25 * said, rtol=1e-11)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("steps", -1, "steps must be at least 0, got -1"),
        ("task_batch_size", 0, "task_batch_size must be at least 1, got 0"),
        ("remain_batch_size", 0, "remain_batch_size must be at least 1, got 0"),
        ("schedule", "step", "schedule must be one of constant, linear, cosine, got 'step'"),
        ("optimizer", "adam", "optimizer must be one of sgd, adamw, got 'adam'"),
    ],
)
def test_settings_outside_their_bounds_are_refused(setting, value, message):
    for kind in (DescentSettings, TaskSettings, BufferSettings):
        if setting in {field.name for field in dataclasses.fields(kind)}:
            with pytest.raises(ValueError, match=message):
                kind(**{setting: value})


def test_settings_are_given_by_name():
    for kind in (DescentSettings, TaskSettings, BufferSettings):
        with pytest.raises(TypeError, match="positional argument"):
            kind(3)
