"""CLPU-DER++: requests against NumPy loops, what it keeps, and that unlearning leaves nothing of what was removed."""

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
from ugclu_jax.learner import CLUState, apply_request
from ugclu_jax.loop import Moment
from ugclu_jax.methods.clpu_der_pp import NAME, CLPUHyper, Kept, clpu_der_pp, direction, stored_logits, track
from ugclu_jax.stepping import DescentSettings, start
from ugclu_jax.types import Batch, Examples, MethodState

ROWS, CLASSES, CAPACITY = 14, 3, 6
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(ROWS, 3))
LABELS = np.arange(ROWS) % CLASSES
SETTINGS = DescentSettings(steps=3, task_batch_size=4, remain_batch_size=4)
HYPER = CLPUHyper(0.2, 0.5, 0.1, logit_weight=0.7, label_weight=0.6)
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}
insert = jax.jit(reservoir.insert)


def examples(ids, inputs=INPUTS):
    padded = np.r_[np.asarray(ids, np.int32), np.full(5 - len(ids), -1, np.int32)]
    return Examples(jnp.asarray(inputs), jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def buffer_of(ids, inputs=INPUTS):
    return insert(reservoir.init(CAPACITY, (3,), jnp.asarray(inputs).dtype, jax.random.key(0)), examples(ids, inputs))


def linear(params, model_state, inputs, *, train, rng_key):
    return inputs @ params["kernel"] + params["bias"], model_state


def init_fn(rng_key):
    return {"kernel": jax.random.normal(rng_key, (3, CLASSES)), "bias": jnp.zeros(CLASSES)}, {}


def method_of():
    return clpu_der_pp(linear, SETTINGS, num_classes=CLASSES, capacity=CAPACITY, num_examples=ROWS, init_fn=init_fn)


@pytest.fixture(scope="module")
def serve():
    return functools.partial(
        jax.jit(apply_request, static_argnums=(0, 1), compiler_options=QUICK_COMPILATION), method_of()
    )


# --- against the loop ------------------------------------------------------------------------------------------------


def delta(z, y, h):
    """β (p − onehot) + α 2 (z − h) / C, the second where h is known."""
    distance = 0.0 if h is None else 0.7 * 2 * (z - h) / CLASSES
    return 0.6 * (reference.softmax(z) - np.eye(CLASSES)[y]) + distance


def logits(params, x):
    return x @ params["kernel"] + params["bias"]


def loop_merge(params, velocity, batches, share):
    """Batches are lists of `(input, label, h)`."""
    total = {name: 0.0 for name in params}
    for batch in batches:
        for x, y, h in batch:
            part = reference.linear_gradient(x[None], [delta(logits(params, x), y, h)], [1])
            total = {name: total[name] + part[name] / len(batch) for name in params}
    return reference.momentum_step(params, velocity, total, 0.2 * share, 0.5, 0.1)


def zeros(params):
    return {name: np.zeros_like(p) for name, p in params.items()}


def numpy_init(rng_key):
    return {name: np.asarray(p) for name, p in init_fn(rng_key)[0].items()}


def assert_close(tree, expected):
    for name, leaf in expected.items():
        np.testing.assert_allclose(tree[name], leaf, rtol=1e-11, atol=1e-13, err_msg=name)


def test_a_step_is_that_of_a_loop(x64):
    """Of two batches, where some examples have no logits and some are padding."""
    params, velocity = numpy_init(jax.random.key(1)), numpy_init(jax.random.key(2))
    task = Batch(INPUTS[:3], LABELS[:3], np.ones(3), RNG.normal(size=(3, CLASSES)))
    known = RNG.normal(size=(4, CLASSES))
    known[1] = np.nan
    remain = Batch(INPUTS[5:9], LABELS[5:9], np.array([1.0, 1.0, 0.0, 1.0]), known)
    carry = start(params, SETTINGS)
    carry = carry._replace(optimizer=optax.tree.set(carry.optimizer, trace=velocity))

    @jax.jit
    def step(carry, batches):
        at = At(linear, carry.params, {}, moment=Moment(remaining_share=0.5))
        return along(direction, SETTINGS)(at, carry, batches, HYPER)

    carry, _, _ = step(carry, Batches(task, remain))
    batches = [
        [(task.inputs[i], task.labels[i], task.targets[i]) for i in range(3)],
        [(remain.inputs[i], remain.labels[i], None if i == 1 else known[i]) for i in (0, 1, 3)],
    ]
    params, velocity = loop_merge(params, velocity, batches, 0.5)
    assert_close(carry.params, params)
    assert_close(optax.tree.get(carry.optimizer, "trace"), velocity)


def test_a_learn_request_is_that_of_a_loop(x64, serve):
    """One new example and one in the buffer, whose logits are known: every draw is known."""
    method, params = method_of(), numpy_init(jax.random.key(9))
    h = np.array([0.3, -1.0, 2.0])
    memory = method.init(params, {}).extra[NAME]
    memory = memory._replace(
        ids=memory.ids.at[2].set(9),
        logits=memory.logits.at[2].set(h),
        known=memory.known.at[2].set(True),
        owner=memory.owner.at[9].set(0),
        count=jnp.int32(1),
    )
    before = CLUState(MethodState(params, {}, {NAME: memory, "another": 7}), buffer_of([9]))
    (state, _), info = serve("learn", jax.random.key(0), before, HYPER, examples([4]))

    isolated = numpy_init(jax.random.split(jax.random.key(0), 3)[0])
    velocity = zeros(isolated)
    for k in range(3):
        p = reference.softmax(logits(isolated, INPUTS[4]))
        gradient = reference.linear_gradient(INPUTS[[4]], [p - np.eye(CLASSES)[LABELS[4]]], [1])
        isolated, velocity = reference.momentum_step(isolated, velocity, gradient, 0.2 * (1 - k / 3), 0.5, 0.1)
    own = logits(isolated, INPUTS[4])
    velocity = zeros(params)
    for k in range(3):
        batches = [[(INPUTS[4], LABELS[4], own)], [(INPUTS[9], LABELS[9], h)]]
        params, velocity = loop_merge(params, velocity, batches, 1 - k / 3)
    assert_close(state.params, params)

    kept = state.extra[NAME]
    rows = {int(i): r for r, i in enumerate(kept.ids) if i >= 0}
    assert set(rows) == {4, 9} and kept.known.sum() == 2 and kept.count == 2
    np.testing.assert_allclose(kept.logits[rows[4]], own, rtol=1e-11)
    np.testing.assert_allclose(kept.logits[rows[9]], h, rtol=1e-12)
    assert (int(kept.owner[4]), int(kept.owner[9]), state.extra["another"]) == (1, 0, 7)
    assert info.gradient_evaluations == pytest.approx((3 * (4 + 4 + 4 / 3 + 4) + 6 / 3) / 64)


def test_an_unlearn_request_is_that_of_a_loop(x64, serve):
    """A fresh network, descending on the buffer: one example with logits, whose isolated network saw nothing else."""
    state, h = method_of().init(numpy_init(jax.random.key(9)), {}), np.array([0.3, -1.0, 2.0])
    memory = state.extra[NAME]._replace(
        ids=jnp.array([9, 4, -1, -1, -1, -1]),
        logits=jnp.zeros((CAPACITY, CLASSES)).at[0].set(h).at[1].set(5.0),
        known=jnp.arange(CAPACITY) < 2,
        owner=jnp.full(ROWS, -1).at[9].set(0).at[4].set(1),
        count=jnp.int32(2),
    )
    before = CLUState(state._replace(extra={NAME: memory}), buffer_of([9]))
    (end, _), info = serve("unlearn", jax.random.key(0), before, HYPER, examples([4]))
    params = numpy_init(jax.random.split(jax.random.key(0))[0])
    velocity = zeros(params)
    for k in range(3):
        params, velocity = loop_merge(params, velocity, [[(INPUTS[9], LABELS[9], h)]], 1 - k / 3)
    assert_close(end.params, params)
    assert info.gradient_evaluations == pytest.approx(3 * 4 / 64)


# --- what is kept ----------------------------------------------------------------------------------------------------


def memory_of(owner, count=2):
    ids = jnp.array([7, 3, 5, 8, -1, -1], jnp.int32)
    owners = jnp.full(ROWS, -1, jnp.int32)
    for i, request in owner.items():
        owners = owners.at[i].set(request)
    logits = jnp.where(ids >= 0, ids, 0)[:, None] * jnp.ones((1, CLASSES))
    return Kept(ids, logits, ids >= 0, owners, jnp.int32(count))


OWNER = {7: 0, 3: 0, 5: 1, 8: 1, 2: 0, 13: 1}  # 2 and 13 did not enter the buffer; 13 is where padding points


@pytest.mark.parametrize(
    ("kind", "ids", "known"),
    [
        ("unlearn", [3], [5, 8]),  # its request's other example loses its logits
        ("unlearn", [2], [5, 8]),  # though it was not in the buffer
        ("unlearn", [7, 3, 2], [5, 8]),
        ("unlearn", [], [7, 3, 5, 8]),
        ("unlearn", [0], [7, 3, 5, 8]),  # never learned
        ("learn", [0, 1], [7, 3, 5, 8]),
        ("learn", [5], [7, 3]),  # learned again: whose it is would no longer be told
    ],
)
def test_logits_of_networks_that_saw_the_task_are_dropped(kind, ids, known):
    before = memory_of(OWNER)
    memory = track(kind, before, examples(ids))
    stored = np.asarray(before.ids)
    assert stored[np.asarray(memory.known)].tolist() == known
    for row in range(CAPACITY):
        np.testing.assert_array_equal(memory.logits[row], float(stored[row]) if stored[row] in known else 0.0)
    expected = {**OWNER, **{i: 2 for i in ids}} if kind == "learn" else {i: r for i, r in OWNER.items() if i not in ids}
    assert {i: int(r) for i, r in enumerate(memory.owner) if r >= 0} == expected
    if kind == "unlearn":
        assert not set(ids) & set(memory.ids.tolist())
    jax.tree.map(np.testing.assert_array_equal, track(kind, memory, examples(ids)), memory)
    whole = method_of().track(kind, {NAME: before, "another": 7}, examples(ids))
    jax.tree.map(np.testing.assert_array_equal, whole, {NAME: memory, "another": 7})
    assert method_of().track(kind, {"another": 7}, examples(ids)) == {"another": 7}


def test_logits_are_found_by_id_in_whatever_order():
    buffer = buffer_of([3, 5, 11])
    found = stored_logits(memory_of(OWNER), buffer)
    for row, i in enumerate(buffer.ids.tolist()):
        np.testing.assert_array_equal(found[row], float(i) if i in (3, 5) else np.nan)


# --- privacy ---------------------------------------------------------------------------------------------------------


def stream(serve, requests, inputs):
    method = method_of()
    empty = reservoir.init(CAPACITY, (3,), jnp.float32, jax.random.key(0))
    state = CLUState(method.init(*init_fn(jax.random.key(9))), empty)
    inputs, ends = inputs.astype(np.float32), []
    for t, (kind, ids) in enumerate(requests):
        state, _ = serve(kind, jax.random.key(t), state, HYPER, examples(ids, inputs))
        ends.append(state)
    return ends


@pytest.mark.parametrize("unlearned", [[4, 6, 8], [4, 8]], ids=["a request", "a part of one"])
def test_after_unlearning_no_bit_depends_on_what_was_removed(serve, unlearned):
    """The same stream with other inputs for what is to leave: another network before, the same state after."""
    requests = [("learn", [0, 1]), ("learn", [4, 6, 8]), ("learn", [2, 3]), ("unlearn", unlearned), ("learn", [10, 11])]
    changed = INPUTS.copy()
    changed[unlearned] += 3.0
    ends, others = stream(serve, requests, INPUTS), stream(serve, requests, changed)
    assert np.abs(ends[2].method.params["kernel"] - others[2].method.params["kernel"]).max() > 1e-3
    for t in (3, 4):
        jax.tree.map(np.testing.assert_array_equal, ends[t].method, others[t].method)


def test_what_was_learned_again_is_removed_too(serve):
    requests = [("learn", [0, 4, 5]), ("learn", [4, 6]), ("unlearn", [4])]
    changed = INPUTS.copy()
    changed[4] += 3.0
    ends, others = stream(serve, requests, INPUTS), stream(serve, requests, changed)
    assert np.abs(ends[1].method.params["kernel"] - others[1].method.params["kernel"]).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, ends[2].method, others[2].method)


def test_distillation_is_refused():
    settings = DescentSettings(distillation=True)
    with pytest.raises(ValueError, match="distillation must be False, got True"):
        clpu_der_pp(linear, settings, num_classes=3, capacity=6, num_examples=14, init_fn=init_fn)
