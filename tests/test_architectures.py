"""What all bundled models have in common: size, shapes, training and evaluation, bfloat16, recomputation."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from ugclu_jax.models import (
    CNN,
    MLP,
    MODELS,
    EfficientNetLite,
    MiniLM,
    ModelOptions,
    ResNet,
    SwinTransformer,
    TextEncoder,
    VisionTransformer,
    create,
)
from ugclu_jax.models.adapters import linen_apply_fn, linen_init
from ugclu_jax.models.efficientnet_lite import Stage

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 9, (4, 6), dtype=np.int32)


class Tiny(NamedTuple):
    make: object  # from keyword arguments
    inputs: np.ndarray
    blocks: bool  # can be recomputed


TINY = {
    "mlp": Tiny(functools.partial(MLP, 3, (5,)), IMAGES, False),
    "cnn": Tiny(functools.partial(CNN, 3, (4,)), IMAGES, False),
    "cnn_bn": Tiny(functools.partial(CNN, 3, (4,), True), IMAGES, False),
    "resnet": Tiny(functools.partial(ResNet, 3, 4, (1, 1)), IMAGES, True),
    "resnet imagenet": Tiny(functools.partial(ResNet, 3, 4, (1,), "imagenet"), IMAGES, True),
    "swin": Tiny(functools.partial(SwinTransformer, 3, 4, (2, 1), 2, 2, head_size=2), IMAGES, True),
    "vit": Tiny(functools.partial(VisionTransformer, 3, 8, 2, 4, head_size=4), IMAGES, True),
    "text pre mean": Tiny(functools.partial(TextEncoder, 3, 9, 6, 8, 2, head_size=4), TOKENS, True),
    "text post cls": Tiny(functools.partial(TextEncoder, 3, 9, 6, 8, 1, "post", "cls", head_size=4), TOKENS, True),
    "lite": Tiny(
        functools.partial(EfficientNetLite, 3, (Stage(1, 3, 1, 1, 4), Stage(1, 3, 1, 2, 4)), 4, 8, least_side=0),
        IMAGES[..., :1],
        True,
    ),
    "minilm": Tiny(functools.partial(MiniLM, 3, 9, 6, 8, 2, head_size=4), TOKENS, True),
}
EVERY = pytest.mark.parametrize("name", TINY)
COUNTS = [  # name, classes, input_shape, vocabulary size, parameters
    ("mlp", 10, (28, 28, 1), None, 55_050),
    ("cnn", 10, (28, 28, 1), None, 33_546),
    ("cnn_bn", 10, (28, 28, 1), None, 33_658),  # trades 112 biases for 112 scales and 112 shifts
    ("resnet18", 10, (32, 32, 3), None, 11_173_962),
    ("resnet18", 10, (64, 64, 3), None, 11_173_962),
    ("swin_t", 1000, (224, 224, 3), None, 28_288_354),
    ("vit_tiny", 1000, (224, 224, 3), None, 5_717_416),
    ("vit_small", 1000, (224, 224, 3), None, 22_050_664),
    ("vit_base", 1000, (224, 224, 3), None, 86_567_656),
    # 100 · 256 + 16 · 256 of embeddings, 4 · (12 · 256² + 13 · 256) of layers, 2 · 256 of the norm, 257 · 4 of the head
    ("text_encoder", 4, (16,), 100, 25_600 + 4_096 + 4 * 789_760 + 512 + 1_028),
    ("efficientnet_lite0", 1000, (64, 64, 3), None, 4_652_008),
    ("minilm", 2, (16,), 30_522, 22_713_216 - 385 * 384 + 385 * 2),  # of BERT without its pooler
]


@functools.cache
def variables_of(name: str) -> dict:
    """Weights of all leaves drawn at random, large enough that softmax and GELU are not linear."""
    module, inputs = TINY[name].make(), TINY[name].inputs
    shapes = jax.eval_shape(
        lambda: dict(zip(("params", "state"), linen_init(module, jnp.asarray, jax.random.key(0), inputs), strict=True))
    )
    generator = np.random.default_rng(2)

    def draw(path, leaf):
        values = generator.normal(size=leaf.shape)
        if path[-1].key == "var":
            values = 0.5 + values**2
        elif path[-1].key == "scale":
            values = 1 + 0.2 * values
        elif path[-1].key == "kernel":
            values = values * np.prod(leaf.shape[:-1]) ** -0.5
        return values.astype(leaf.dtype)

    values = jax.tree_util.tree_map_with_path(draw, shapes)
    return {"params": values["params"], **values["state"]}


def loss_and_logits(module: nn.Module, inputs: np.ndarray, variables: dict, **kwargs) -> tuple:
    state = {key: value for key, value in variables.items() if key != "params"}

    def loss(params):
        logits, new_state = module.apply({"params": params, **state}, inputs, train=True, mutable=list(state), **kwargs)
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 1]), (logits, new_state)

    gradient, (logits, new_state) = jax.grad(loss, has_aux=True)(variables["params"])
    return gradient, logits, new_state


@pytest.mark.parametrize(("name", "classes", "shape", "vocabulary", "count"), COUNTS)
def test_parameter_counts(name, classes, shape, vocabulary, count):
    options = ModelOptions(stem="imagenet") if name == "resnet18" and shape[0] > 64 else None
    module = create(name, classes, input_shape=shape, vocabulary_size=vocabulary, options=options)
    inputs = jnp.zeros((1, *shape), jnp.int32 if vocabulary else jnp.float32)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    assert ("batch_stats" in variables) == (name in ("cnn_bn", "resnet18", "efficientnet_lite0"))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_every_model_is_counted():
    assert {name for name, *_ in COUNTS} == set(MODELS)


@EVERY
def test_training_and_evaluation(name):
    module, inputs, variables = TINY[name].make(), TINY[name].inputs, variables_of(name)
    apply_fn = linen_apply_fn(module, lambda x: x)
    state = {key: value for key, value in variables.items() if key != "params"}

    @jax.jit
    def run(params, state, inputs):
        evaluated, recorded = module.apply(
            {"params": params, **state}, inputs, train=False, mutable=["batch_stats", "params"]
        )
        alone = apply_fn(params, state, inputs[:1], train=False, rng_key=None)[0]
        return evaluated, alone, recorded, apply_fn(params, state, inputs, train=True, rng_key=None)

    evaluated, alone, recorded, (trained, new_state) = run(variables["params"], state, inputs)
    assert evaluated.shape == trained.shape == (4, 3)
    assert np.isfinite(evaluated).all() and np.ptp(evaluated, axis=0).min() > 1e-3  # the inputs matter
    np.testing.assert_allclose(alone[0], evaluated[0], rtol=1e-4, atol=1e-5)  # other examples do not
    jax.tree.map(np.testing.assert_array_equal, recorded.get("batch_stats", {}), state.get("batch_stats", {}))
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True):
        assert np.all(before != after)
    assert bool(state) == np.any(evaluated != trained)


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(jnp.bfloat16).astype(values.dtype) if values.dtype == np.float32 else values


def wide(params: dict) -> dict[tuple[str, ...], bool]:
    """Of each leaf, whether it is used in float32 always: in a norm, the head, or among the scores of Swin."""
    leaves = traverse_util.flatten_dict(params)
    head = "head" if "head" in params else max(name for name in params if name.startswith("Dense"))
    return {
        path: path[0] == head or (*path[:-1], "scale") in leaves or path[-1] == "relative_position_bias"
        for path in leaves
    }


@EVERY
def test_bfloat16_is_near_float32_and_rounds_what_it_multiplies(name):
    """Rounding to 8 bits of mantissa errs by 2⁻⁹ of the value at most, about 2⁻¹⁰ in the root mean square. The longest
    path here is rounded some 60 times, at random: √60 · 2⁻¹⁰ ≈ 2⁻⁷. That it rounds at all is exact: inputs and weights
    that NumPy rounded before are rounded to themselves, so no bit of the result may change, where float32's does."""
    inputs, variables = TINY[name].inputs, variables_of(name)
    always = wide(variables["params"])

    def with_rounded(chosen: bool) -> dict:
        leaves = traverse_util.flatten_dict(variables["params"])
        leaves = {path: rounded(leaf) if always[path] == chosen else leaf for path, leaf in leaves.items()}
        return {**variables, "params": traverse_util.unflatten_dict(leaves)}

    @jax.jit
    def run(variables, inputs):
        return [TINY[name].make(dtype=dtype).apply(variables, inputs, train=False) for dtype in ("float32", "bfloat16")]

    full, half = run(variables, inputs)
    assert full.dtype == half.dtype == jnp.float32
    assert np.sqrt(np.mean((half - full) ** 2) / np.mean(full**2)) < 2**-7
    fewer_bits, same = run(with_rounded(False), rounded(inputs))
    assert np.all(same == half) and np.all(fewer_bits != full)
    assert np.any(run(with_rounded(True), inputs)[1] != half), "norms and head keep their bits"


@EVERY
def test_statistics_and_gradients_are_float32_when_the_computation_is_bfloat16(name):
    inputs, variables = TINY[name].inputs, variables_of(name)
    module = TINY[name].make(dtype="bfloat16")
    trees = jax.eval_shape(functools.partial(loss_and_logits, module, inputs), variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(trees)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if tiny.blocks])
def test_recomputed_gradients_are_the_same(name):
    inputs, variables = TINY[name].inputs, variables_of(name)
    options = {"stochastic_depth": 0.5} if name == "swin" else {}
    rngs = {"dropout": jax.random.key(3)}

    def gradients(remat, variables):
        return loss_and_logits(TINY[name].make(remat=remat, **options), inputs, variables, rngs=rngs)

    plain, recomputed = jax.jit(lambda variables: [gradients(remat, variables) for remat in (False, True)])(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, recomputed)
    programs = [str(jax.make_jaxpr(functools.partial(gradients, remat))(variables)) for remat in (False, True)]
    assert ["checkpoint" in program or "remat" in program for program in programs] == [False, True]


# "resnet imagenet" keeps mostly the patches of its 7x7 stem, which is no block
@pytest.mark.parametrize("name", ["resnet", "swin", "vit", "text pre mean", "text post cls"])
def test_recomputing_keeps_less_for_the_backward_pass(name):
    """What `vjp` keeps, beside the parameters; how a compiler orders the rest is not the model's affair."""
    inputs, variables = TINY[name].inputs, variables_of(name)

    def kept(remat):
        module = TINY[name].make(remat=remat)
        state = {key: value for key, value in variables.items() if key != "params"}

        def backward(params):
            return jax.vjp(lambda params: module.apply({"params": params, **state}, inputs, train=False), params)[1]

        shapes = jax.eval_shape(backward, variables["params"])
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    weights = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert kept(True) - weights < 0.5 * (kept(False) - weights)


@EVERY
def test_no_native_convolution_or_window_reduction_in_the_gradient(name):
    """Either is slow in a scan on XLA's CPU backend."""
    gradient = functools.partial(loss_and_logits, TINY[name].make(), TINY[name].inputs)
    program = str(jax.make_jaxpr(gradient)(variables_of(name)))
    assert "conv_general_dilated" not in program and "reduce_window" not in program and "select_and" not in program
