"""The vision transformer and the text encoder against NumPy loops, and what padding may do: nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from ugclu_jax.models import TextEncoder, VisionTransformer
from ugclu_jax.models.transformer import attend, number_of_heads

LENGTH, VOCABULARY = 7, 11


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def normalise(x, layer):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]


def mlp(x, layer):
    hidden = dense(x, layer["hidden"])
    return dense(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, layer["out"])


def attention(x, layer, heads, present):
    """One example [T, D], head by head; columns of qkv are all queries, all keys, all values, each head after head."""
    size = x.shape[1] // heads
    qkv, mixed = dense(x, layer["qkv"]), []
    for head in range(heads):
        query, key, value = (qkv[:, part * x.shape[1] + head * size :][:, :size] for part in range(3))
        scores = query @ key[present].T / np.sqrt(size)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        mixed.append(weights / weights.sum(1, keepdims=True) @ value[present])
    return dense(np.concatenate(mixed, 1), layer["out"])


def encoder_layer(x, layer, heads, norm, present):
    first, second = (functools.partial(normalise, layer=layer[f"{part}_norm"]) for part in ("attention", "mlp"))
    if norm == "pre":
        x = x + attention(first(x), layer["attention"], heads, present)
        return x + mlp(second(x), layer["mlp"])
    x = first(x + attention(x, layer["attention"], heads, present))
    return second(x + mlp(x, layer["mlp"]))


def random_params(module, inputs):
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, train=False)["params"])
    return jax.tree.map(lambda leaf: 0.5 * generator.normal(size=leaf.shape), shapes)


def test_vision_transformer_against_numpy_loops(x64):
    images = np.random.default_rng(1).normal(size=(2, 4, 6, 3))
    module = VisionTransformer(3, width=6, depth=2, patch=2, head_size=3, dtype=jnp.float64)
    params = random_params(module, images)
    expected = []
    for image in images:
        patches = [image[y : y + 2, x : x + 2].reshape(-1) for y in (0, 2) for x in (0, 2, 4)]
        kernel = params["patch_embedding"]["kernel"].reshape(12, 6)
        tokens = np.stack(patches) @ kernel + params["patch_embedding"]["bias"]
        x = np.concatenate([params["class_token"][0], tokens]) + params["position_embedding"][0]
        for i in range(2):
            x = encoder_layer(x, params[f"layer{i}"], 2, "pre", np.ones(7, bool))
        expected.append(dense(normalise(x, params["norm"])[0], params["head"]))
    ours = jax.jit(functools.partial(module.apply, train=False))({"params": params}, images)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)


TOKENS = np.array([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 0, 0, 0], [8, 0, 9, 7, 9, 0, 0], [2, 0, 0, 0, 0, 0, 0]])
KINDS = pytest.mark.parametrize(
    ("norm", "pooling"), [("pre", "mean"), ("pre", "cls"), ("post", "mean"), ("post", "cls")]
)


@functools.cache
def text_encoder(norm, pooling):
    """Parameters, and the jitted module in float64 as a function of parameters and tokens."""
    settings = {"width": 6, "depth": 2, "norm": norm, "pooling": pooling, "head_size": 3, "dtype": "float64"}
    module = TextEncoder(3, VOCABULARY, LENGTH, **settings)
    params = random_params(module, TOKENS)
    return params, jax.jit(lambda params, tokens: module.apply({"params": params}, tokens, train=False))


@KINDS
def test_text_encoder_against_numpy_loops(norm, pooling, x64):
    params, run = text_encoder(norm, pooling)
    expected = []
    for tokens in TOKENS:
        present = tokens != 0
        x = params["token_embedding"]["embedding"][tokens] + params["position_embedding"]
        x = normalise(x, params["norm"]) if norm == "post" else x
        for i in range(2):
            x = encoder_layer(x, params[f"layer{i}"], 2, norm, present)
        x = normalise(x, params["norm"]) if norm == "pre" else x
        expected.append(dense(x[present].mean(0) if pooling == "mean" else x[0], params["head"]))
    np.testing.assert_allclose(run(params, TOKENS), expected, rtol=1e-10, atol=1e-10)


sequences = st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=LENGTH)


@KINDS
@settings(max_examples=15, deadline=None)
@given(tokens=sequences, seed=st.integers(0, 2**32 - 1))
def test_padding_changes_nothing(norm, pooling, tokens, seed):
    """Neither how much of it there is nor what its embedding is."""
    with jax.enable_x64(True):
        params, run = text_encoder(norm, pooling)
        padded = np.array([tokens + [0] * (LENGTH - len(tokens))])
        logits = run(params, padded)
        np.testing.assert_allclose(logits, run(params, np.array([tokens])), rtol=1e-10, atol=1e-12)
        other = jax.tree.map(np.copy, params)
        other["token_embedding"]["embedding"][0] = np.random.default_rng(seed).normal(size=6)
        np.testing.assert_array_equal(run(other, padded), logits)


def test_padding_alone_has_finite_logits_and_gradients():
    module = TextEncoder(3, VOCABULARY, LENGTH, width=4, depth=1)
    tokens = jnp.zeros((2, LENGTH), jnp.int32)
    params = jax.tree.map(jnp.float32, random_params(module, tokens))
    run = jax.jit(jax.value_and_grad(lambda params: module.apply({"params": params}, tokens, train=True).sum()))
    value, gradient = run(params)
    np.testing.assert_allclose(value, 2 * params["head"]["bias"].sum(), rtol=1e-6)  # the mean of nothing is zeros
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    "tokens",
    [np.ones((2, LENGTH), np.float32), np.ones((LENGTH,), np.int32), np.ones((2, LENGTH + 1), np.int32)],
    ids=["float", "one axis", "too long"],
)
def test_text_encoder_refuses(tokens):
    module = TextEncoder(3, VOCABULARY, LENGTH, width=4, depth=1)
    with pytest.raises(ValueError, match=r"integer token ids \[B, L\] with L at most 7; pass them without"):
        module.init(jax.random.key(0), tokens, train=False)


def test_attention_in_bfloat16_has_a_softmax_in_float32():
    """2,000 equal weights of 1/2000 add up to one; their sum in bfloat16 would stick at 256 of them."""
    ones = jnp.ones((1, 2000, 1, 4), jnp.bfloat16)
    exponentials = [line for line in str(jax.make_jaxpr(attend)(ones, ones, ones)).splitlines() if " = exp " in line]
    assert exponentials and all(":f32[" in line for line in exponentials)
    np.testing.assert_allclose(np.float32(attend(ones[:, :1], ones, ones)), 1, rtol=2**-8)


@pytest.mark.parametrize(("features", "heads"), [(64, 1), (1, 1), (32, 1), (128, 2), (768, 12)])
def test_number_of_heads(features, heads):
    assert number_of_heads(features, 64) == heads


@pytest.mark.parametrize("features", [65, 100, 127, 200])
def test_number_of_heads_refuses(features):
    with pytest.raises(ValueError, match=f"{features} features: it must be a multiple of 64"):
        number_of_heads(features, 64)


@pytest.mark.parametrize("make", [VisionTransformer, functools.partial(TextEncoder, vocabulary_size=9, length=4)])
def test_widths_that_heads_do_not_divide_are_refused_before_use(make):
    with pytest.raises(ValueError, match="layer of 100 features"):
        make(num_classes=3, width=100)
