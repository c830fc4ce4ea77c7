"""Bundled models and the adapters: contract, transformations, agreement of Linen and NNX."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ugclu_jax.models import CNN, MLP
from ugclu_jax.models.adapters import linen_apply_fn, linen_init, nnx_split, normalise

# Each program runs a few times: compiling is the cost.
PREPROCESS = normalise((0.4, 0.6), (0.2, 0.3), 255.0)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 2), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1])


class NnxNet(nnx.Module):
    """What CNN(num_classes=3, widths=(4,), batch_norm=True) is, written in NNX."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 4, (3, 3), (2, 2), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.dense = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(nnx.relu(self.norm(self.conv(x))).reshape(len(x), -1))


class NnxDropouts(nnx.Module):
    """Two dropout layers, whose masks must differ, beside a BatchNorm, whose statistics are the state."""

    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x = self.norm(x)
        return jnp.stack([dropout(x) for dropout in self.dropouts])


class DropoutNet(nn.Module):
    @nn.compact
    def __call__(self, inputs, *, train):
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(50)(inputs.reshape(len(inputs), -1)))


@functools.cache
def linen_parts():
    module = CNN(num_classes=3, widths=(4,), batch_norm=True)
    initialise = jax.jit(lambda key: linen_init(module, PREPROCESS, key, IMAGES[:1]))
    params, model_state = initialise(jax.random.key(0))
    return params, model_state, linen_apply_fn(module, PREPROCESS)


@functools.cache
def nnx_parts():
    return nnx_split(NnxNet(nnx.Rngs(0)), PREPROCESS)


@functools.cache
def train_step(parts):
    """A jitted gradient step of a (params, state) pair; shared by tests, for compiling dominates."""
    apply_fn = parts()[2]

    def step(params, model_state):
        def loss(params):
            logits, new_state = apply_fn(params, model_state, IMAGES, train=True, rng_key=None)
            return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(4), LABELS]), new_state

        (value, new_state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), new_state, value

    return step, jax.jit(step)


@functools.cache
def jitted_apply(parts):
    return jax.jit(functools.partial(parts()[2], rng_key=None), static_argnames="train")


PARTS = pytest.mark.parametrize("parts", [linen_parts, nnx_parts])


def same_structure(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(left)] == [(x.shape, x.dtype) for x in jax.tree.leaves(right)]


@PARTS
def test_training_updates_the_state_and_evaluation_returns_it_as_it_came(parts):
    params, model_state, _ = parts()
    logits, new_state = jitted_apply(parts)(params, model_state, IMAGES, train=True)
    assert logits.shape == (4, 3) and logits.dtype == jnp.float32
    same_structure(new_state, model_state)
    assert any(
        not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(new_state), jax.tree.leaves(model_state), strict=True)
    )
    _, kept = jitted_apply(parts)(params, model_state, IMAGES, train=False)
    jax.tree.map(np.testing.assert_array_equal, kept, model_state)


@PARTS
def test_batch_norm_statistics_have_momentum_nine_tenths(parts):
    params, model_state, _ = parts()
    _, new_state = jitted_apply(parts)(params, model_state, IMAGES, train=True)
    layer = params["Conv_0"] if "Conv_0" in params else params["conv"]
    normalised = (IMAGES / 255.0 - np.array([0.4, 0.6])) / np.array([0.2, 0.3])
    padded = np.pad(normalised, ((0, 0), (0, 1), (0, 1), (0, 0)))  # "SAME" of an even size at stride 2
    kernel = np.asarray(layer["kernel"], np.float64)
    out = np.stack(
        [
            np.einsum("bijc,ijco->bo", padded[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3], kernel)
            for y in range(4)
            for x in range(4)
        ]
    ).reshape(-1, 4)
    statistics = new_state["batch_stats"]["BatchNorm_0"] if "batch_stats" in new_state else new_state["norm"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * out.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * out.var(0), rtol=1e-4)


@PARTS
def test_gradient_jit_scan_and_vmap(parts):
    params, model_state, _ = parts()
    step, jitted = train_step(parts)
    once = jitted(params, model_state)
    same_structure(once[:2], (params, model_state))
    twice = jitted(*once[:2])

    @jax.jit
    def scanned(params, model_state):
        def body(carry, _):
            *carry, value = step(*carry)
            return tuple(carry), value

        return jax.lax.scan(body, (params, model_state), length=2)

    carry, values = scanned(params, model_state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), carry, twice[:2])
    assert values[1] < values[0]

    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), (params, model_state), once[:2])
    together = jax.jit(jax.vmap(step))(*stacked)
    for seed, alone in enumerate((once, twice)):
        lane = jax.tree.map(lambda leaf, seed=seed: leaf[seed], together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), lane, alone)


def test_linen_and_nnx_agree_on_the_same_weights():
    params, model_state, _ = linen_parts()
    nnx_params = {"conv": params["Conv_0"], "norm": params["BatchNorm_0"], "dense": params["Dense_0"]}
    nnx_state = {"norm": model_state["batch_stats"]["BatchNorm_0"]}
    same_structure(nnx_params, nnx_parts()[0])
    for train in (True, False):
        apart = jitted_apply(linen_parts)(params, model_state, IMAGES, train=train)
        together = jitted_apply(nnx_parts)(nnx_params, nnx_state, IMAGES, train=train)
        np.testing.assert_allclose(together[0], apart[0], rtol=1e-4, atol=1e-5)
        statistics = together[1]["norm"], apart[1]["batch_stats"]["BatchNorm_0"]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *statistics)


def test_nnx_dropout_follows_the_key_and_stays_out_of_the_state():
    params, model_state, apply_fn = nnx_split(NnxDropouts(nnx.Rngs(0)), PREPROCESS)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(model_state))
    run = jax.jit(functools.partial(apply_fn, train=True))
    first, again, other = (run(params, model_state, IMAGES, rng_key=jax.random.key(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any((first == 0) != (other == 0))
    assert np.any((first[0] == 0) != (first[1] == 0))
    same_structure(run(params, model_state, IMAGES, rng_key=jax.random.key(1))[1], model_state)
    with pytest.raises(ValueError, match=r"rng_key is None.*pass a key"):
        apply_fn(params, model_state, IMAGES, train=True, rng_key=None)
    evaluated, _ = jax.jit(functools.partial(apply_fn, train=False, rng_key=None))(params, model_state, IMAGES)
    np.testing.assert_array_equal(evaluated[0], evaluated[1])


def test_nnx_parts_do_not_change_with_the_model():
    model = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    params, _, _ = nnx_split(model, PREPROCESS)
    before = np.array(params["kernel"])
    model.kernel[...] = jnp.zeros((2, 2))
    np.testing.assert_array_equal(params["kernel"], before)


def test_linen_dropout_follows_the_key():
    params, model_state = {"Dense_0": {"kernel": np.ones((128, 50)), "bias": np.ones(50)}}, {}
    run = jax.jit(functools.partial(linen_apply_fn(DropoutNet(), PREPROCESS), train=True))
    first, again, other = (run(params, model_state, IMAGES, rng_key=jax.random.key(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_init_depends_on_the_key_only_and_vmaps_over_it():
    module = MLP(num_classes=3, features=(5,))
    plain = functools.partial(linen_init, module, PREPROCESS)
    initialise = jax.jit(plain)
    alone, state = initialise(jax.random.key(3), IMAGES[:1])
    assert state == {}
    jax.tree.map(np.testing.assert_array_equal, alone, initialise(jax.random.key(3), 255 - IMAGES[:1])[0])
    keys = jnp.stack([jax.random.key(3), jax.random.key(4)])
    stacked, _ = jax.jit(jax.vmap(plain, (0, None)))(keys, IMAGES[:1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-6), stacked, alone)
    assert not np.allclose(stacked["Dense_0"]["kernel"][0], stacked["Dense_0"]["kernel"][1])


def test_mlp_is_dense_relu_dense():
    generator = np.random.default_rng(1)
    params = {
        f"Dense_{layer}": {"kernel": generator.normal(size=shape), "bias": generator.normal(size=shape[1])}
        for layer, shape in enumerate([(128, 5), (5, 3)])
    }
    logits, state = linen_apply_fn(MLP(num_classes=3, features=(5,)), PREPROCESS)(
        params, {}, IMAGES, train=True, rng_key=None
    )
    flat = ((IMAGES / 255.0 - np.array([0.4, 0.6])) / np.array([0.2, 0.3])).reshape(4, -1)
    hidden = np.maximum(flat @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    expected = hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert state == {}


def test_normalise_by_channel_and_type():
    for dtype in (np.uint8, np.int32, np.float32):
        out = PREPROCESS(jnp.asarray(np.array([[0, 255], [51, 102]], dtype)))
        assert out.dtype == jnp.float32
        np.testing.assert_allclose(out, [[-2.0, 4 / 3], [-1.0, -2 / 3]], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        ((0.1,), (0.0,), 1.0),
        ((0.1,), (1.0,), 0.0),
        ((0.1, 0.2), (1.0,), 1.0),
        ((np.nan,), (1.0,), 1.0),
        ((0.1,), (-1.0,), 1.0),
    ],
)
def test_normalise_refuses(arguments):
    with pytest.raises(ValueError, match="std and scale > 0"):
        normalise(*arguments)


# --- augmentation ----------------------------------------------------------------------------------------------------


def plus_key(rng_key, inputs):
    """An augmentation that shows the key it got."""
    return inputs + jax.random.randint(rng_key, (), 1, 100).astype(inputs.dtype)


class Echo(nn.Module):
    """What went in, and dropout's noise beside it."""

    @nn.compact
    def __call__(self, inputs, *, train):
        noise = nn.Dropout(0.5, deterministic=not train)(jnp.ones((len(inputs), 50)))
        return jnp.concatenate([inputs.reshape(len(inputs), -1), noise], axis=1)


class NnxEcho(nnx.Module):
    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs):
        noise = self.dropout(jnp.ones((len(inputs), 50)))
        return jnp.concatenate([inputs.reshape(len(inputs), -1), noise], axis=1)


def echo(adapter, augment):
    if adapter == "linen":
        return functools.partial(linen_apply_fn(Echo(), PREPROCESS, augment), {}, {}, jnp.asarray(IMAGES))
    params, model_state, apply_fn = nnx_split(NnxEcho(nnx.Rngs(0)), PREPROCESS, augment)
    return functools.partial(apply_fn, params, model_state, jnp.asarray(IMAGES))


@pytest.mark.parametrize("adapter", ["linen", "nnx"])
def test_training_inputs_are_augmented_before_preprocessing_and_evaluation_never(adapter):
    key = jax.random.key(5)
    augment_key, model_key = jax.random.split(key)
    augmented, plain = echo(adapter, plus_key), echo(adapter, None)
    logits, _ = augmented(train=True, rng_key=key)
    shifted = IMAGES + np.asarray(jax.random.randint(augment_key, (), 1, 100)).astype(np.uint8)
    np.testing.assert_array_equal(logits[:, :128], PREPROCESS(jnp.asarray(shifted)).reshape(4, -1))
    # The model draws from the other half of the key; without augmentation, from the whole of it.
    np.testing.assert_array_equal(logits[:, 128:], plain(train=True, rng_key=model_key)[0][:, 128:])
    np.testing.assert_array_equal(
        plain(train=True, rng_key=key)[0][:, :128], PREPROCESS(jnp.asarray(IMAGES)).reshape(4, -1)
    )
    for rng_key in (key, None):
        evaluated, expected = (run(train=False, rng_key=rng_key)[0] for run in (augmented, plain))
        np.testing.assert_array_equal(evaluated, expected)
    with pytest.raises(ValueError, match=r"rng_key is None: training draws an augmentation from it; pass a key"):
        augmented(train=True, rng_key=None)


def test_a_model_without_augmentation_gets_the_whole_key():
    """As Flax itself draws from it: nothing is split off."""
    logits, _ = echo("linen", None)(train=True, rng_key=jax.random.key(3))
    expected = Echo().apply({}, PREPROCESS(jnp.asarray(IMAGES)), train=True, rngs={"dropout": jax.random.key(3)})
    np.testing.assert_array_equal(logits, expected)
