"""The request of an optimizer-based method: rate, cost, draws, loop, and what the settings refuse."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_stream import CLASSES, INPUTS, LABELS, buffer_of, examples

from ugclu_jax.descent import (
    DescentHyper,
    DescentSettings,
    Report,
    cost,
    descend_request,
    draw_pair,
    rate,
    refuse,
    teacher_targets,
    update,
)
from ugclu_jax.fast_slow import REPORTS
from ugclu_jax.types import REQUEST_KINDS, MethodState

SETTINGS = DescentSettings(steps=4, task_batch_size=6, remain_batch_size=8)


def test_the_rate_falls_as_its_schedule_says():
    shares = np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(rate("linear", shares), shares)
    np.testing.assert_allclose(rate("constant", shares), 1.0)
    done = 1 - shares
    np.testing.assert_allclose(rate("cosine", shares), [(1 + math.cos(math.pi * d)) / 2 for d in done], atol=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_request_steps_at_the_rates_of_its_schedule(schedule):
    """A gradient of ones moves θ by minus the sum of the rates; the first step has the full one, none has 0."""

    def step(carry, model_state, batches, share, key):
        return update(carry, jnp.ones(2), DescentHyper(0.5), settings, share), model_state, Report()

    settings = dataclasses.replace(SETTINGS, schedule=schedule)
    state, info = descend_request(lambda key: (), step, jax.random.key(0), MethodState(jnp.zeros(2), {}), settings, 0.0)
    factors = {
        "constant": [1, 1, 1, 1],
        "linear": [1, 3 / 4, 2 / 4, 1 / 4],
        "cosine": [1, (1 + math.sqrt(0.5)) / 2, 1 / 2, (1 - math.sqrt(0.5)) / 2],
    }[schedule]
    np.testing.assert_allclose(state.params, [-0.5 * sum(factors)] * 2, rtol=1e-6)
    np.testing.assert_allclose(info.displacement_norms, [0.5 * math.sqrt(2) * f for f in factors], rtol=1e-6)


def test_the_cost_counts_steps_the_teacher_and_what_happens_once():
    settings = DescentSettings(steps=10)
    assert cost(settings, 300, a_step=128) == 20
    assert cost(settings, 300, a_step=128, once=64) == 21
    assert cost(dataclasses.replace(settings, distillation=True), 192, a_step=128, once=64) == pytest.approx(22)
    assert cost(dataclasses.replace(settings, steps=0), 300, a_step=128) == 0
    costs = [cost(dataclasses.replace(settings, steps=k, distillation=True), 64, a_step=96, once=5) for k in range(4)]
    np.testing.assert_allclose(np.diff(costs), 96 / 64)


@pytest.mark.parametrize("kind", REQUEST_KINDS)
def test_a_refusal_names_the_method_the_request_and_the_way_out(kind):
    message = f"salun does not {kind}: combine it with a method that does, see ugclu_jax.learner.combine"
    with pytest.raises(ValueError, match=message):
        refuse("salun", kind)(jax.random.key(0), None, None, None, None, axis_name="device")


def test_a_pair_is_drawn_from_the_task_and_the_buffer_with_its_targets(x64):
    task, buffer = examples([4, 0, 8]), buffer_of([9, 1])
    targets = jnp.arange(18.0).reshape(6, CLASSES)
    pair = draw_pair(jax.random.key(0), task, buffer, SETTINGS, targets=targets)
    assert pair.task.labels.shape == (6,) and pair.remain.labels.shape == (8,)
    assert pair.task.targets is None and float(pair.task.weights.min()) == float(pair.remain.weights.min()) == 1.0

    def ids(batch):
        found = [int(np.flatnonzero(np.all(x == INPUTS, axis=1))[0]) for x in np.asarray(batch.inputs)]
        np.testing.assert_array_equal(batch.labels, LABELS[found])
        return found

    assert set(ids(pair.task)) == {4, 0, 8}
    remain = ids(pair.remain)
    assert set(remain) == {9, 1}
    places = {i: place for place, i in enumerate(buffer.ids.tolist())}
    np.testing.assert_array_equal(pair.remain.targets, targets[jnp.asarray([places[i] for i in remain])])

    other = draw_pair(jax.random.key(1), task, buffer, SETTINGS)
    assert other.remain.targets is None and ids(other.remain) != remain
    empty = draw_pair(jax.random.key(0), task, buffer_of([]), SETTINGS)
    assert float(empty.task.weights.min()) == 1.0 and float(empty.remain.weights.max()) == 0.0


def test_devices_share_a_pair(x64):
    task, buffer, key = examples([4, 0, 8]), buffer_of([9, 1]), jax.random.key(0)
    whole = draw_pair(key, task, buffer, SETTINGS)
    split = jax.vmap(lambda _: draw_pair(key, task, buffer, SETTINGS, axis_name="device"), axis_name="device")(
        jnp.zeros(2)
    )
    jax.tree.map(lambda s, w: np.testing.assert_array_equal(np.concatenate(list(s)), w), split, whole)


def test_a_request_threads_state_keys_and_reports():
    """Model state goes from step to step, data and model keys differ from each other and from step to step."""
    seen, calls = [], []

    def step(carry, model_state, data_key, share, model_key):
        jax.debug.callback(
            lambda a, b: seen.append((int(a), int(b))), *(jax.random.bits(k) for k in (data_key, model_key))
        )
        report = Report(task_loss=share, remain_loss=2 * share, task_norm=3 * share, clipped=share > 0.6)
        return carry._replace(params=carry.params + 3.0), {"steps": model_state["steps"] + 1}, report

    state = MethodState(jnp.zeros(1), {"steps": jnp.zeros((), int)}, {"another": 7})
    density = jnp.asarray(0.25)
    end, info = descend_request(
        lambda key: key,
        step,
        jax.random.key(0),
        state,
        SETTINGS,
        12.5,
        mask_density=density,
        on_step=lambda done, total, per_step: calls.append((int(done), int(total))),
    )
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
    step = lambda carry, model_state, batches, share, key: (carry, model_state, Report(task_loss=share))  # noqa: E731
    state = MethodState({"w": jnp.ones(2)}, {})
    end, info = descend_request(lambda key: (), step, jax.random.key(0), state, settings, 0.0)
    assert end.params["w"].tolist() == [1.0, 1.0]
    assert info.task_losses.shape == (0,) and info.displacement_norms.shape == (0,)
    assert info.mask_density == {"w": 1.0}


def test_targets_are_there_only_where_the_settings_distil(x64, regression):
    state, hyper = MethodState(regression.params, {}), DescentHyper(distillation_weight=0.25)
    arguments = (examples([4]), buffer_of([9, 1]))
    assert teacher_targets(regression.apply_fn, state, hyper, SETTINGS, *arguments) is None
    taught = dataclasses.replace(SETTINGS, distillation=True)
    targets = np.asarray(teacher_targets(regression.apply_fn, state, hyper, taught, *arguments))
    assert targets.shape == (6, CLASSES)
    for row, i in enumerate(arguments[1].ids.tolist()[:2]):  # class 1 of the task is in the buffer: none departed
        logits = regression.twin.logits(regression.params, INPUTS[i])
        said = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(targets[row], 0.75 * np.eye(CLASSES)[LABELS[i]] + 0.25 * said, rtol=1e-11)


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
    with pytest.raises(ValueError, match=message):
        DescentSettings(**{setting: value})
