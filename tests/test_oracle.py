"""Oracles: the training against a NumPy loop, which examples it sees, and one program for all of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax.oracle import OracleSettings, gradient_evaluations, oracle_program, train_from_scratch
from ugclu_jax.types import Examples

FEATURES, CLASSES, ROWS, PADDED = 3, 4, 20, 16
SETTINGS = OracleSettings(epochs=3, batch_size=4, learning_rate=0.3, momentum=0.8, weight_decay=0.01)
RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, ROWS).astype(np.int32)
IDS = np.array([1, 2, 3, 5, 8, 9, 11, 12, 14, 17], np.int32)  # neither the first row nor the last


def linear(params, model_state, inputs, *, train, rng_key):
    return inputs @ params["kernel"] + params["bias"], model_state


def init_linear(rng_key):
    return {"kernel": jax.random.normal(rng_key, (FEATURES, CLASSES)), "bias": jnp.zeros(CLASSES)}, {}


def examples(ids, inputs=INPUTS):
    padded = np.full(PADDED, -1, np.int32)
    padded[: len(ids)] = ids
    return Examples(jnp.asarray(inputs), jnp.asarray(LABELS), jnp.asarray(padded), jnp.asarray(len(ids), jnp.int32))


@pytest.fixture(scope="module")
def programs():
    """Two seeds in one program, one seed alone, and how often the model was traced for the first."""
    traces = []

    def counted(*args, **kwargs):
        traces.append(1)
        return linear(*args, **kwargs)

    many = oracle_program(counted, init_linear, SETTINGS)
    alone = jax.jit(functools.partial(train_from_scratch, apply_fn=linear, init_fn=init_linear, settings=SETTINGS))
    return many, alone, traces


# --- training --------------------------------------------------------------------------------------------------------


def epoch_order(data_key, epoch, count):
    """The documented rule: valid rows by a uniform draw from the epoch's key."""
    noise = np.asarray(jax.random.uniform(jax.random.fold_in(data_key, epoch), (PADDED,)))
    return np.argsort(noise[:count])


def numpy_training(rng_key, ids, optimizer="sgd"):
    """Softmax regression by SGD with Nesterov momentum, or AdamW, and half a cosine; float64, written by hand."""
    init_key, data_key, _ = jax.random.split(rng_key, 3)
    weights = {name: np.asarray(value, np.float64) for name, value in init_linear(init_key)[0].items()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    squares = {name: np.zeros_like(value) for name, value in weights.items()}
    batches = -(-len(ids) // SETTINGS.batch_size)
    total, t = SETTINGS.epochs * batches, 0
    for epoch in range(SETTINGS.epochs):
        order = epoch_order(data_key, epoch, len(ids))
        for start in range(0, len(ids), SETTINGS.batch_size):
            rows = ids[order[start : start + SETTINGS.batch_size]]
            gradient = {name: np.zeros_like(value) for name, value in weights.items()}
            for row in rows:
                x = INPUTS[row].astype(np.float64)
                powers = np.exp(x @ weights["kernel"] + weights["bias"])
                error = powers / powers.sum() - np.eye(CLASSES)[LABELS[row]]
                gradient["kernel"] += np.outer(x, error) / len(rows)
                gradient["bias"] += error / len(rows)
            rate = SETTINGS.learning_rate * (1 + np.cos(np.pi * t / total)) / 2
            for name in weights:
                if optimizer == "adamw":
                    decay, g = SETTINGS.momentum, gradient[name]
                    velocity[name] = decay * velocity[name] + (1 - decay) * g
                    squares[name] = 0.999 * squares[name] + 0.001 * g**2
                    mean, square = velocity[name] / (1 - decay ** (t + 1)), squares[name] / (1 - 0.999 ** (t + 1))
                    update = mean / (np.sqrt(square) + 1e-8) + SETTINGS.weight_decay * weights[name]
                    weights[name] = weights[name] - rate * update
                    continue
                g = gradient[name] + SETTINGS.weight_decay * weights[name]
                velocity[name] = g + SETTINGS.momentum * velocity[name]
                weights[name] = weights[name] - rate * (g + SETTINGS.momentum * velocity[name])
            t += 1
    return weights


def test_a_progress_function_sees_each_epoch_begin_once_for_all_seeds_and_changes_nothing():
    seen = []
    keys = jax.random.split(jax.random.key(4), 3)
    told = oracle_program(linear, init_linear, SETTINGS, lambda done, epochs: seen.append((int(done), int(epochs))))
    params, _ = told(keys, examples(IDS))
    jax.effects_barrier()
    assert sorted(seen) == [(epoch, SETTINGS.epochs) for epoch in range(SETTINGS.epochs)]
    silent, _ = oracle_program(linear, init_linear, SETTINGS)(keys, examples(IDS))
    jax.tree.map(np.testing.assert_array_equal, params, silent)


def test_training_is_what_a_numpy_loop_does_for_every_retained_set_and_seed(programs):
    many, _, traces = programs
    seen = None
    for ids in (IDS, IDS[:8], IDS[:3], np.arange(PADDED)):  # a partial batch, none, less than one, no padding
        keys = jax.random.split(jax.random.key(len(ids)), 2)
        params, _ = many(keys, examples(ids))
        seen = seen or len(traces)
        for s in range(2):
            expected = numpy_training(keys[s], ids)
            for name in expected:
                np.testing.assert_allclose(params[name][s], expected[name], rtol=1e-4, atol=1e-5)
    assert len(traces) == seen > 0, "one program serves them all"


def test_adamw_is_what_a_numpy_loop_does():
    settings, keys = dataclasses.replace(SETTINGS, optimizer="adamw"), jax.random.split(jax.random.key(7), 1)
    params, _ = oracle_program(linear, init_linear, settings)(keys, examples(IDS))
    for name, expected in numpy_training(keys[0], IDS, "adamw").items():
        np.testing.assert_allclose(params[name][0], expected, rtol=1e-4, atol=1e-5)


def test_seeds_of_one_program_equal_separate_ones(programs):
    many, alone, _ = programs
    keys = jax.random.split(jax.random.key(1), 2)
    stacked, _ = many(keys, examples(IDS))
    for s in range(2):
        single, _ = alone(keys[s], examples(IDS))
        jax.tree.map(lambda a, b, s=s: np.testing.assert_allclose(a[s], b, rtol=1e-5, atol=1e-6), stacked, single)
    assert not np.allclose(stacked["kernel"][0], stacked["kernel"][1], atol=1e-3)


def test_nothing_retained_leaves_the_fresh_network(programs):
    _, alone, _ = programs
    params, _ = alone(jax.random.key(2), examples([]))
    fresh, _ = init_linear(jax.random.split(jax.random.key(2), 3)[0])
    jax.tree.map(np.testing.assert_array_equal, params, fresh)


def test_every_example_is_seen_once_an_epoch_and_no_other_ever():
    steps = SETTINGS.epochs * -(-len(IDS) // SETTINGS.batch_size)

    def log(params, model_state, inputs, *, train, rng_key):
        at = model_state["step"]
        state = {"step": at + 1, "rows": model_state["rows"].at[at].set(inputs)}
        return params + jnp.zeros((inputs.shape[0], 2)), state

    def init(rng_key):
        return jnp.zeros(2), {"step": jnp.int32(0), "rows": jnp.zeros((steps, SETTINGS.batch_size), jnp.int32)}

    train = jax.jit(functools.partial(train_from_scratch, apply_fn=log, init_fn=init, settings=SETTINGS))
    orders = []
    for seed in range(2):
        _, state = train(jax.random.key(seed), examples(IDS, inputs=np.arange(ROWS)))
        assert int(state["step"]) == steps
        epochs = np.asarray(state["rows"]).reshape(SETTINGS.epochs, -1)
        # Rows that fill up the last batch weigh nothing, but BatchNorm looks at them too.
        assert set(epochs.ravel()) <= set(IDS)
        for epoch in epochs:
            assert sorted(epoch[: len(IDS)]) == sorted(IDS)
            orders.append(tuple(epoch))
    assert len(set(orders)) == len(orders), "another order each epoch and each seed"


def test_cost_counts_every_example_of_every_epoch():
    assert gradient_evaluations(96, OracleSettings(epochs=4)) == 6.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch_size", 0), ("learning_rate", -0.1), ("learning_rate", np.nan), ("learning_rate", np.inf),
     ("momentum", 1.0), ("momentum", -0.1), ("weight_decay", -1e-9)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*{value:g}"):
        OracleSettings(**{name: value})
