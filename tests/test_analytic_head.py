"""The analytic head as a method: its own oracle after any stream, bit for bit, and what it keeps."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from ugclu_jax import buffer as reservoir
from ugclu_jax.combination import combine
from ugclu_jax.evidence import energy_distance
from ugclu_jax.harness.budget import check_references
from ugclu_jax.harness.catalogue import searched, split_name
from ugclu_jax.harness.server import Server
from ugclu_jax.learner import CLUState, RequestCost, apply_request
from ugclu_jax.methods import analytic_head as own
from ugclu_jax.methods.analytic_head import AnalyticHeadHyper, AnalyticHeadSettings, analytic_head, changes
from ugclu_jax.methods.do_nothing import do_nothing
from ugclu_jax.streaming import HostArray
from ugclu_jax.types import Examples, Execution

N, CLASSES, WIDTH = 60, 3, 16
RNG = np.random.default_rng(0)
INPUTS = RNG.integers(0, 256, (N, 6)).astype(np.uint8)
LABELS = np.arange(N) % CLASSES
BACKBONE = {"kernel": RNG.normal(size=(6, WIDTH)).astype(np.float32), "bias": RNG.normal(size=WIDTH).astype(np.float32)}
PARAMS = {
    "body": BACKBONE,
    "head": {"kernel": np.ones((WIDTH, CLASSES), np.float32), "bias": np.ones(CLASSES, np.float32)},
}
SETTINGS, HYPER = AnalyticHeadSettings(batch_size=16), AnalyticHeadHyper(ridge=0.1)


def apply_fn(params, model_state, inputs, *, train, rng_key):
    hidden = jax.nn.relu((inputs / 255.0 - 0.5) @ params["body"]["kernel"] + params["body"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"], model_state


METHOD = analytic_head(apply_fn, SETTINGS, num_classes=CLASSES, num_examples=N)
serve = jax.jit(apply_request, static_argnums=(0, 1), static_argnames="where")


def examples(ids, size=32, inputs=INPUTS):
    padded = np.r_[np.asarray(ids, np.int32), np.full(size - len(ids), -1, np.int32)]
    rows = inputs if isinstance(inputs, HostArray) else jnp.asarray(inputs)
    return Examples(rows, jnp.asarray(LABELS, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))


def start(method=METHOD, params=PARAMS):
    empty = reservoir.init(4, (6,), jnp.uint8, jax.random.key(0))
    return CLUState(method.init(jax.tree.map(jnp.asarray, params), {}), empty)


def ask(state, kind, ids, method=METHOD, **more):
    return serve(method, kind, jax.random.key(0), state, HYPER, examples(ids, **more))


def after(stream, method=METHOD):
    state = start(method)
    for kind, ids in stream:
        state, _ = ask(state, kind, ids, method)
    return state


def features(rows):
    hidden = (INPUTS[rows] / 255.0 - 0.5) @ BACKBONE["kernel"] + BACKBONE["bias"]
    return np.maximum(hidden, 0)


def outputs(state):
    return np.asarray(apply_fn(state.method.params, {}, jnp.asarray(INPUTS), train=False, rng_key=None)[0])


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


STREAM = [
    ("learn", [*range(20)]),
    ("unlearn", [3, 4, 50]),  # 50 was never learned
    ("learn", [30, 31, 5, 5, 32]),  # 5 is there already, and is named twice
    ("unlearn", [30, 30, 19]),
    ("learn", [3]),
]
RETAINED = sorted({*range(20), 31, 32} - {4, 19})


@pytest.fixture(scope="module")
def unlearned():
    return after(STREAM)


@pytest.fixture(scope="module")
def refitted():
    """In one request, in another order, of another padded size."""
    return ask(start(), "learn", RETAINED[::-1], size=64)[0]


def test_after_any_stream_it_is_the_refit_bit_for_bit(unlearned, refitted):
    """What is kept, checkpoints included, cannot tell who came and left: its bytes are those of who is left."""
    kept, fresh = (state.method.extra["analytic_head"] for state in (unlearned, refitted))
    assert np.flatnonzero(kept.retained).tolist() == RETAINED
    assert_same_bits(kept, fresh)
    np.testing.assert_allclose(outputs(unlearned), outputs(refitted), rtol=0, atol=1e-6)


def test_unlearned_and_oracle_are_one_by_every_distance(unlearned, refitted):
    models, oracles = (np.stack([outputs(state)] * 2) for state in (unlearned, refitted))
    assert abs(energy_distance(models, oracles).value) < 1e-6
    p, q = (log_softmax(each[0].astype(np.float64), axis=1) for each in (oracles, models))
    assert abs((np.exp(p) * (p - q)).sum(1)).max() < 1e-6
    assert np.sqrt(((np.exp(p / 2) - np.exp(q / 2)) ** 2).sum(1) / 2).max() < 1e-6
    before = outputs(after(STREAM[:1]))
    assert np.abs(before - outputs(unlearned)).max() > 1e-2, "which says something: the stream moved the outputs"


def test_the_head_is_the_ridge_regression_of_scikit_learn(unlearned):
    from sklearn.linear_model import Ridge

    theirs = Ridge(alpha=0.1).fit(features(RETAINED), np.eye(CLASSES)[LABELS[RETAINED]])
    np.testing.assert_allclose(outputs(unlearned), theirs.predict(features(range(N))), rtol=0, atol=2e-3)
    assert_same_bits(unlearned.method.params["body"], BACKBONE)


def test_unlearning_everything_leaves_nothing():
    state = after([("learn", [*range(20)]), ("unlearn", [*range(10, 20)]), ("unlearn", [*range(10)])])
    assert_same_bits(state.method.extra["analytic_head"], start().method.extra["analytic_head"])
    assert not np.any(outputs(state))


def test_requests_that_another_method_serves_are_in_the_sums():
    """Also where that method would change the network: features are of the frozen one."""
    moving = do_nothing()
    method = combine(learn=METHOD, unlearn=moving)
    state = start(method)
    for kind, ids in STREAM:
        state, _ = serve(method, kind, jax.random.key(0), state, HYPER if kind == "learn" else (), examples(ids))
        moved = jax.tree.map(lambda x: x + 1, state.method.params)
        state = state._replace(method=state.method._replace(params=moved))
    assert np.flatnonzero(state.method.extra["analytic_head"].retained).tolist() == RETAINED
    state, _ = serve(METHOD, "learn", jax.random.key(0), state, HYPER, examples([]))
    np.testing.assert_allclose(outputs(state), outputs(after(STREAM)), rtol=0, atol=1e-6)


def test_what_changes_counts_once():
    kept = jnp.array([True, False, False, True])
    task = Examples(jnp.zeros(4), jnp.zeros(4, int), jnp.array([1, 0, 1, 2, -1]), jnp.array(4))
    assert changes("learn", kept, task).tolist() == [1, 0, 0, 1, 0]
    assert changes("unlearn", kept, task).tolist() == [0, -1, 0, 0, 0]


def test_host_memory_and_two_devices_change_nothing(refitted):
    kept = refitted.method.extra["analytic_head"]
    task = functools.partial(examples, RETAINED)
    from_host = METHOD.track("learn", start().method.extra, task(inputs=HostArray(INPUTS)))["analytic_head"]
    assert_same_bits(from_host, kept)

    def on_one(_):
        return apply_request(METHOD, "learn", jax.random.key(0), start(), HYPER, task(), where=Execution("device"))[0]

    both = jax.jit(jax.vmap(on_one, axis_name="device"))(jnp.zeros(2))
    for device in range(2):
        assert_same_bits(jax.tree.map(lambda x, d=device: x[d], both.method.extra["analytic_head"]), kept)


def test_seeds_mapped_after_the_program_was_made_change_nothing(refitted):
    """64-bit arithmetic lies within a program that is 32-bit: a map of the whole must not narrow it."""
    states = jax.tree.map(lambda x: jnp.stack([x, x]), start())
    run = jax.vmap(lambda state: serve(METHOD, "learn", jax.random.key(0), state, HYPER, examples(RETAINED))[0])
    assert_same_bits(jax.tree.map(lambda x: x[1], run(states).method.extra), refitted.method.extra)


def test_what_it_costs_and_says():
    state, info = ask(start(), "learn", [1, 2, 3])
    assert float(info.gradient_evaluations) == pytest.approx(32 / 64 / 3)
    assert METHOD.cost("unlearn", 500, 64) == pytest.approx(1 / 3)
    assert info.mask_density == {"body": {"kernel": 0, "bias": 0}, "head": {"kernel": 1, "bias": 1}}
    assert state.method.params["head"]["kernel"].dtype == jnp.float32


def test_a_gradient_flows_to_the_ridge(unlearned):
    kept = unlearned.method.extra["analytic_head"]

    def energy(ridge):
        return jnp.sum(own.head_of(kept, ridge).kernel ** 2)

    value, slope = jax.jit(jax.value_and_grad(energy))(0.5)
    wider, narrower = (float(jax.jit(energy)(0.5 + step)) for step in (0.05, -0.05))
    assert float(slope) == pytest.approx((wider - narrower) / 0.1, rel=0.05) and slope < 0 < value


def test_what_it_refuses():
    with pytest.raises(ValueError, match="num_examples is 3000000: the sums hold at most 2,097,154"):
        analytic_head(apply_fn, num_classes=3, num_examples=3_000_000)
    with pytest.raises(ValueError, match=r"batch_size must be in 1 … 2048, got 4096"):
        AnalyticHeadSettings(batch_size=4096)

    def bent(params, state, x, **more):
        return jnp.tanh(apply_fn(params, state, x, **more)[0]), state

    method = analytic_head(bent, num_classes=CLASSES, num_examples=N)
    with pytest.raises(ValueError, match=r"outputs of the network are not linear in its last layer \(head\)"):
        serve(method, "learn", jax.random.key(0), start(method), HYPER, examples([1]))
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS))
    METHOD.check(shapes, {}, examples([1]).inputs)
    with pytest.raises(ValueError, match="not linear in its last layer"):
        method.check(shapes, {}, examples([1]).inputs)
    method = analytic_head(apply_fn, num_classes=CLASSES, num_examples=N + 1)
    with pytest.raises(ValueError, match="num_examples is 61, and the training arrays have 60 rows"):
        serve(method, "learn", jax.random.key(0), start(method), HYPER, examples([1]))


def test_experiments_take_its_settings_and_search_none():
    assert split_name("analytic_head") == ("analytic_head", "analytic_head") and searched("analytic_head") is None
    check_references({"analytic_head": {"hyper": {"ridge": 3.0}, "settings": {"batch_size": 8}}})
    with pytest.raises(ValueError, match=r"analytic_head.hyper.ridge must be in \(0, ∞\), got 0"):
        check_references({"analytic_head": {"hyper": {"ridge": 0.0}}})


def test_what_is_learned_from_scratch_is_in_the_memories():
    """Where an experiment begins with a network trained from scratch, methods that keep book know its examples."""
    trained = types.SimpleNamespace(params=PARAMS, model_state={})

    def run_request(method, kind, key, state, hyper, task):
        return (*apply_request(method, kind, key, state, hyper, task), RequestCost(0.0, 0.0))

    server = object.__new__(Server)
    server.plan = types.SimpleNamespace(config=types.SimpleNamespace(oracle=types.SimpleNamespace(epochs=1)))
    server.data, server.run_request = types.SimpleNamespace(examples=examples), run_request
    server.oracles = types.SimpleNamespace(trained=lambda ids, seeds, index: [(0, trained)])
    server.clock = types.SimpleNamespace(note=lambda cost: None)
    step = types.SimpleNamespace(index=0, request=types.SimpleNamespace(ids=np.array(RETAINED)))
    served = server.learn_from_scratch(METHOD, 0, step, start())
    assert np.flatnonzero(served.state.method.extra["analytic_head"].retained).tolist() == RETAINED
