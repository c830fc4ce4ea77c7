"""SCRUB, bad teacher and UniCLUN: steps and requests against NumPy loops, and the simpler methods that they become."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference

from ugclu_jax import buffer as reservoir
from ugclu_jax.at import At
from ugclu_jax.descent import Batches, along
from ugclu_jax.loop import Moment
from ugclu_jax.methods import bad_teacher, scrub, uniclun
from ugclu_jax.methods.bad_teacher import BadTeacherHyper, Teachers
from ugclu_jax.methods.finetune_remain import finetune_remain
from ugclu_jax.methods.scrub import SCRUBHyper, SCRUBSettings
from ugclu_jax.methods.uniclun import Teacher, UniCLUNHyper
from ugclu_jax.stepping import BufferSettings, DescentSettings, start
from ugclu_jax.types import Batch, Examples, Execution

ROWS, CLASSES = 12, 3
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(ROWS, 3))
LABELS = np.arange(ROWS) % CLASSES
TASK = Batch(RNG.normal(size=(4, 3)), RNG.integers(0, 3, 4), np.array([1.0, 0.0, 1.0, 1.0]))
REMAIN = Batch(RNG.normal(size=(5, 3)), RNG.integers(0, 3, 5), np.array([1.0, 1.0, 1.0, 0.0, 1.0]))
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
insert = jax.jit(reservoir.insert)


def examples(ids):
    padded = np.r_[np.asarray(ids, np.int32), np.full(5 - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(INPUTS), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids):
    return insert(reservoir.init(6, (3,), jnp.asarray(INPUTS).dtype, jax.random.key(0)), examples(ids))


def other(params, seed):
    rng = np.random.default_rng(seed)
    return {name: p + rng.normal(size=p.shape) for name, p in params.items()}


def zeros(params):
    return {name: np.zeros_like(p) for name, p in params.items()}


def logits(params, x):
    return x @ params["kernel"] + params["bias"]


def label_delta(z, y):
    return reference.softmax(z) - np.eye(CLASSES)[y]


def combine(*pairs):
    return {name: sum(weight * tree[name] for weight, tree in pairs) for name in pairs[0][1]}


def gradient(params, batch, delta):
    """`delta(z, y, i)` by the logits."""
    deltas = [delta(logits(params, x), y, i) for i, (x, y) in enumerate(zip(batch[0], batch[1], strict=True))]
    return reference.linear_gradient(batch[0], deltas, batch[2])


def assert_close(tree, expected, **tolerance):
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, err_msg=name, **{"rtol": 1e-11, "atol": 1e-13, **tolerance})


def run(method, kind, state, hyper, task, buffer, devices=None):
    update = getattr(method, kind)
    if devices is None:
        return jax.jit(update, compiler_options=QUICK_COMPILATION)(jax.random.key(0), state, hyper, task, buffer)
    mapped = jax.vmap(
        lambda _: update(jax.random.key(0), state, hyper, task, buffer, where=Execution("device")), axis_name="device"
    )
    return jax.jit(mapped, compiler_options=QUICK_COMPILATION)(jnp.zeros(devices))


def with_velocity(params, velocity, settings, memory=None):
    """In the midst of a request: with momentum from before."""
    carry = start(params, settings, memory)
    return carry._replace(optimizer=optax.tree.set(carry.optimizer, trace=velocity))


def velocity_of(carry):
    return optax.tree.get(carry.optimizer, "trace")


def take(step, network, carry, batches, share, hyper, known):
    """`step` on explicit batches, compiled."""

    def run(carry, batches, share, hyper, known):
        at = At(network.apply_fn, carry.params, {}, None, Moment(0, share), known, carry.memory)
        return step(at, carry, batches, hyper)

    return jax.jit(run)(carry, batches, share, hyper, known)


# --- SCRUB -----------------------------------------------------------------------------------------------------------

SCRUB = SCRUBSettings(steps=4, task_batch_size=4, remain_batch_size=4, max_share=0.5)
SCRUB_HYPER = SCRUBHyper(0.3, 0.6, 0.1, remain_divergence_weight=0.7, remain_label_weight=0.4, temperature=2.0)


def loop_scrub(params, velocity, task, remain, share, hyper, teacher, *, max_step, target=None):
    """`target(i)` replaces the label of a remaining example."""
    rate = hyper.learning_rate * share
    move = functools.partial(
        reference.momentum_step, learning_rate=rate, momentum=hyper.momentum, weight_decay=hyper.weight_decay
    )
    temperature = hyper.temperature

    def apart(batch):
        return lambda z, y, i: reference.divergence_delta(z, logits(teacher, batch[0][i]), temperature)

    if max_step:
        away = gradient(params, task, apart(task))
        params, velocity = move(params, velocity, combine((-1.0, away)))
    labels = gradient(
        params, remain, lambda z, y, i: label_delta(z, y) if target is None else reference.softmax(z) - target
    )
    near = gradient(params, remain, apart(remain))
    total = combine((hyper.remain_divergence_weight, near), (hyper.remain_label_weight, labels))
    return move(params, velocity, total)


@pytest.mark.parametrize(("share", "max_step"), [(1.0, True), (0.75, True), (0.5, False), (0.25, False)])
def test_a_scrub_step_is_that_of_a_loop(x64, regression, share, max_step):
    """With momentum from before, weight decay and a temperature; max steps end at half of the request."""
    params, teacher = regression.params, other(regression.params, 1)
    velocity = other(zeros(params), 2)
    carry, step = with_velocity(params, velocity, SCRUB), scrub.step_with(SCRUB)
    carry, _, report = take(step, regression, carry, Batches(TASK, REMAIN), share, SCRUB_HYPER, (teacher, {}))
    params, velocity = loop_scrub(params, velocity, TASK, REMAIN, share, SCRUB_HYPER, teacher, max_step=max_step)
    assert_close(carry.params, params)
    assert_close(velocity_of(carry), velocity)
    assert (float(report.task_loss) > 0) == max_step


@pytest.mark.parametrize("distillation", [False, True])
def test_a_scrub_request_is_that_of_a_loop(x64, regression, distillation):
    """One example to remove and one in the buffer: every draw is known. Class 1 leaves."""
    settings = dataclasses.replace(SCRUB, distillation=distillation)
    method = scrub.scrub(regression.apply_fn, settings)
    state = method.init(regression.params, {})
    state, info = run(method, "unlearn", state, SCRUB_HYPER, examples([4]), buffer_of([9]))
    params, velocity = regression.params, zeros(regression.params)
    task, remain = ((INPUTS[[i]], LABELS[[i]], [1.0]) for i in (4, 9))
    target = reference.distilled(logits(params, INPUTS[9]), LABELS[9], 0.5, [1]) if distillation else None
    for k in range(4):
        params, velocity = loop_scrub(
            params, velocity, task, remain, 1 - k / 4, SCRUB_HYPER, regression.params, max_step=k < 2, target=target
        )
    assert_close(state.params, params)
    examples_passed = (2 * 4 + 4 * 4) * 4 / 3 + (6 / 3 if distillation else 0)
    assert info.gradient_evaluations == pytest.approx(examples_passed / 64)


def test_scrub_without_max_steps_and_teacher_is_finetuning(x64, regression):
    settings = dataclasses.replace(SCRUB, max_share=0.0)
    hyper = dataclasses.replace(SCRUB_HYPER, remain_divergence_weight=0.0, remain_label_weight=1.0)
    method = scrub.scrub(regression.apply_fn, settings)
    plain = finetune_remain(regression.apply_fn, BufferSettings(steps=4, remain_batch_size=4), num_classes=CLASSES)
    arguments = (method.init(regression.params, {}), hyper, examples([4]), buffer_of([9]))
    found, expected = (run(m, "unlearn", *arguments)[0].params for m in (method, plain))
    assert_close(found, expected)


def test_scrub_on_devices_agrees_with_one(x64, regression):
    method = scrub.scrub(regression.apply_fn, SCRUB)
    arguments = (method.init(regression.params, {}), SCRUB_HYPER, examples([4, 5, 6]), buffer_of([9, 2, 1, 7]))
    split, whole = run(method, "unlearn", *arguments, devices=2), run(method, "unlearn", *arguments)
    for shards, leaf in zip(jax.tree.leaves(split), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(shards, np.broadcast_to(leaf, shards.shape), rtol=1e-10, atol=1e-12)


def test_scrub_counts_as_many_max_steps_as_it_takes(regression):
    """Affine in the steps, and exact where the share of them is whole."""
    methods = [scrub.scrub(regression.apply_fn, dataclasses.replace(SCRUB, steps=steps)) for steps in (0, 2, 4, 8)]
    costs = [method.cost("unlearn", 9, 5) for method in methods]
    np.testing.assert_allclose(costs, [0.0, 4 / 3 * 12 / 64, 4 / 3 * 24 / 64, 4 / 3 * 48 / 64])


# --- bad teacher -----------------------------------------------------------------------------------------------------

BAD = DescentSettings(steps=3, task_batch_size=4, remain_batch_size=2)
BAD_HYPER = BadTeacherHyper(0.3, 0.6, 0.1, distillation_weight=0.7, temperature=2.0)


def loop_bad_teacher(params, velocity, task, remain, share, hyper, bad, good, target=None):
    """The mean over both batches together."""
    batch = tuple(np.concatenate(pair) for pair in zip(task[:3], remain[:3], strict=True))
    size = len(task[1])

    def delta(z, y, i):
        if i >= size and target is not None:
            return reference.softmax(z) - target
        return reference.divergence_delta(z, logits(bad if i < size else good, batch[0][i]), hyper.temperature)

    total = gradient(params, batch, delta)
    return reference.momentum_step(
        params, velocity, total, hyper.learning_rate * share, hyper.momentum, hyper.weight_decay
    )


def test_a_bad_teacher_step_is_that_of_a_loop(x64, regression):
    params, bad, good = (other(regression.params, seed) for seed in (1, 2, 3))
    velocity = other(zeros(params), 4)
    carry, step = with_velocity(params, velocity, BAD), along(bad_teacher.direction, BAD)
    known = Teachers((bad, {}), (good, {}))
    carry, _, _ = take(step, regression, carry, Batches(TASK, REMAIN), 0.5, BAD_HYPER, known)
    params, velocity = loop_bad_teacher(params, velocity, TASK, REMAIN, 0.5, BAD_HYPER, bad, good)
    assert_close(carry.params, params)
    assert_close(velocity_of(carry), velocity)


@pytest.mark.parametrize("distillation", [False, True])
def test_a_bad_teacher_request_is_that_of_a_loop(x64, regression, distillation):
    """The bad teacher is here always the same; it does not move, nor does the good one."""
    bad = other(regression.params, 1)
    settings = dataclasses.replace(BAD, distillation=distillation)
    method = bad_teacher.bad_teacher(
        regression.apply_fn, settings, init_fn=lambda key: (jax.tree.map(jnp.asarray, bad), {})
    )
    state = method.init(regression.params, {})
    state, info = run(method, "unlearn", state, BAD_HYPER, examples([4]), buffer_of([9]))
    params, velocity = regression.params, zeros(regression.params)
    task, remain = ((INPUTS[[i] * size], LABELS[[i] * size], np.ones(size)) for i, size in ((4, 4), (9, 2)))
    target = reference.distilled(logits(params, INPUTS[9]), LABELS[9], 0.7, [1]) if distillation else None
    for k in range(3):
        params, velocity = loop_bad_teacher(
            params, velocity, task, remain, 1 - k / 3, BAD_HYPER, bad, regression.params, target
        )
    assert_close(state.params, params)
    forward = 6 + 3 * 4 if distillation else 3 * 6
    assert info.gradient_evaluations == pytest.approx((3 * 6 + forward / 3) / 64)


def test_the_bad_teacher_is_drawn_from_the_key_of_the_request(regression):
    """Where the bad teacher alone acts, two keys give two networks, and one key the same again."""

    def init_fn(rng_key):
        return {name: jax.random.normal(rng_key, p.shape) for name, p in regression.params.items()}, {}

    method = bad_teacher.bad_teacher(regression.apply_fn, BAD, init_fn=init_fn)
    update = jax.jit(method.unlearn, compiler_options=QUICK_COMPILATION)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), regression.params)
    ends = [
        update(jax.random.key(seed), method.init(params, {}), BAD_HYPER, examples([4]), buffer_of([9]))[0].params[
            "bias"
        ]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


# --- UniCLUN ---------------------------------------------------------------------------------------------------------

UNI = DescentSettings(steps=3, task_batch_size=4, remain_batch_size=4)
UNI_HYPER = UniCLUNHyper(
    0.3, 0.6, 0.1, replay_weight=0.8, output_weight=0.5, retention=0.7, update_probability=1.0, largest_momentum=0.6
)


def loop_uniclun(params, velocity, teacher, steps, task, remain, share, hyper, bad=None, target=None):
    def on_remain(z, y, i):
        known = logits(teacher, remain[0][i])
        label = label_delta(z, y) if target is None else reference.softmax(z) - target
        distance = reference.softmax(known)[y] * 2 * (z - known) / CLASSES
        return hyper.replay_weight * label + hyper.output_weight * distance

    def on_task(z, y, i):
        return label_delta(z, y) if bad is None else reference.divergence_delta(z, logits(bad, task[0][i]), 1.0)

    weights = (1.0, 1.0) if bad is None else (1 - hyper.retention, hyper.retention)
    parts = (gradient(params, task, on_task), gradient(params, remain, on_remain))
    params, velocity = reference.momentum_step(
        params,
        velocity,
        combine(*zip(weights, parts, strict=True)),
        hyper.learning_rate * share,
        hyper.momentum,
        hyper.weight_decay,
    )
    momentum = min(1 - 1 / (steps + 2), hyper.largest_momentum)
    return params, velocity, combine((momentum, teacher), (1 - momentum, params))


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("steps", [0, 7])
def test_a_uniclun_step_is_that_of_a_loop(x64, regression, learns, steps):
    """The average's momentum is 1/2 at first, and no more than its largest value later."""
    params, teacher, bad = (other(regression.params, seed) for seed in (1, 2, 3))
    velocity = other(zeros(params), 4)
    carry = with_velocity(params, velocity, UNI, Teacher(teacher, {}, jnp.int32(steps)))
    ignorant = None if learns else (bad, {})
    step = uniclun.step_with(UNI)
    carry, _, _ = take(step, regression, carry, Batches(TASK, REMAIN), 0.5, UNI_HYPER, ignorant)
    params, velocity, teacher = loop_uniclun(
        params, velocity, teacher, steps, TASK, REMAIN, 0.5, UNI_HYPER, None if learns else bad
    )
    assert_close(carry.params, params)
    assert_close(velocity_of(carry), velocity)
    assert_close(carry.memory.params, teacher)
    assert carry.memory.steps == steps + 1


@pytest.mark.parametrize(
    ("kind", "distillation"), [("learn", False), ("unlearn", False), ("learn", True), ("unlearn", True)]
)
def test_a_uniclun_request_is_that_of_a_loop_and_hands_its_teacher_on(x64, regression, kind, distillation):
    bad, before = other(regression.params, 1), other(regression.params, 2)
    settings = dataclasses.replace(UNI, distillation=distillation)
    method = uniclun.uniclun(regression.apply_fn, settings, init_fn=lambda key: (jax.tree.map(jnp.asarray, bad), {}))
    state = method.init(regression.params, {})
    assert_close(state.extra["uniclun"].params, regression.params)
    state = state._replace(extra={"uniclun": Teacher(before, {}, jnp.int32(1)), "another": 7})
    state, info = run(method, kind, state, UNI_HYPER, examples([4]), buffer_of([9]))
    params, velocity, teacher = regression.params, zeros(regression.params), before
    task, remain = ((INPUTS[[i]], LABELS[[i]], [1.0]) for i in (4, 9))
    # A class that the task brings or takes, and the buffer does not hold, is nothing that the start teaches.
    target = reference.distilled(logits(params, INPUTS[9]), LABELS[9], 0.5, [1]) if distillation else None
    for k in range(3):
        params, velocity, teacher = loop_uniclun(
            params,
            velocity,
            teacher,
            1 + k,
            task,
            remain,
            1 - k / 3,
            UNI_HYPER,
            bad if kind == "unlearn" else None,
            target,
        )
    assert_close(state.params, params)
    assert_close(state.extra["uniclun"].params, teacher)
    assert state.extra["uniclun"].steps == 4 and state.extra["another"] == 7
    forward = 3 * (8 if kind == "unlearn" else 4) + (6 if distillation else 0)
    assert info.gradient_evaluations == pytest.approx((3 * 8 + forward / 3) / 64)


def test_the_learning_teacher_follows_as_often_as_it_should(regression):
    """By a fresh draw at every step; with probability 0 never."""
    old, new = Teacher(jnp.zeros(1), {}, jnp.int32(10**6)), jnp.ones(1)
    keys = jax.random.split(jax.random.key(0), 2000)
    for probability in (0.0, 0.7, 1.0):
        hyper = UniCLUNHyper(update_probability=probability, largest_momentum=0.0)
        moved = jax.vmap(lambda key, hyper=hyper: uniclun.follow(key, old, new, {}, hyper).params)(keys)
        assert set(np.unique(moved)) <= {0.0, 1.0}
        assert float(moved.mean()) == pytest.approx(probability, abs=0.05)


def test_uniclun_without_its_teachers_is_finetuning(x64, regression):
    hyper = dataclasses.replace(UNI_HYPER, replay_weight=1.0, output_weight=0.0, retention=1.0)
    method = uniclun.uniclun(
        regression.apply_fn,
        UNI,
        init_fn=lambda key: (jax.tree.map(jnp.asarray, other(regression.params, 1)), {}),
    )
    plain = finetune_remain(regression.apply_fn, BufferSettings(steps=3, remain_batch_size=4), num_classes=CLASSES)
    arguments = (method.init(regression.params, {}), hyper, examples([4]), buffer_of([9]))
    found, expected = (run(m, "unlearn", *arguments)[0].params for m in (method, plain))
    assert_close(found, expected)


# --- all of them -----------------------------------------------------------------------------------------------------


def test_no_steps_leave_the_network_alone(regression):
    def init_fn(rng_key):
        return jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), regression.params), {}

    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), regression.params)
    none = {"steps": 0, "task_batch_size": 4, "remain_batch_size": 4}
    for method, hyper in (
        (scrub.scrub(regression.apply_fn, SCRUBSettings(**none)), SCRUBHyper()),
        (
            bad_teacher.bad_teacher(regression.apply_fn, DescentSettings(**none), init_fn=init_fn),
            BadTeacherHyper(),
        ),
        (uniclun.uniclun(regression.apply_fn, DescentSettings(**none), init_fn=init_fn), UniCLUNHyper()),
    ):
        state, info = run(method, "unlearn", method.init(params, {}), hyper, examples([4]), buffer_of([9]))
        jax.tree.map(np.testing.assert_array_equal, state.params, params)
        assert info.gradient_evaluations == 0
