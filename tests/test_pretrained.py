"""Conversion of state dicts, from names and shapes written out here: each tensor lands in one place, once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from ugclu_jax.models import (
    EfficientNetLite,
    MiniLM,
    ModelOptions,
    ResNet,
    SwinTransformer,
    VisionTransformer,
    initialise,
    load_pretrained,
)
from ugclu_jax.models.adapters import linen_init
from ugclu_jax.models.efficientnet_lite import Stage

CLASSES = 5
BLOCK = {  # the transformers' blocks: torchvision's swin, timm's swin and vit, torchvision's vit, ours
    "attention_norm": ("norm1", "norm1", "ln_1"),
    "mlp_norm": ("norm2", "norm2", "ln_2"),
    "attention/qkv": ("attn.qkv", "attn.qkv", "self_attention.in_proj"),
    "attention/out": ("attn.proj", "attn.proj", "self_attention.out_proj"),
    "mlp/hidden": ("mlp.0", "mlp.fc1", "mlp.0"),
    "mlp/out": ("mlp.3", "mlp.fc2", "mlp.3"),
}


def transformer(blocks, layers, flavour):
    """Our module → theirs, for `blocks` {ours: theirs} and the single layers {ours: theirs}."""
    inner = {f"{o}/{part}": f"{t}.{names[flavour]}" for o, t in blocks.items() for part, names in BLOCK.items()}
    return {**inner, **layers}


RESNET_LAYERS = {
    "stem_conv": "conv1",
    "stem_norm": "bn1",
    "stage0_block0/conv1": "layer1.0.conv1",
    "stage0_block0/norm1": "layer1.0.bn1",
    "stage0_block0/conv2": "layer1.0.conv2",
    "stage0_block0/norm2": "layer1.0.bn2",
    "stage1_block0/conv1": "layer2.0.conv1",
    "stage1_block0/norm1": "layer2.0.bn1",
    "stage1_block0/conv2": "layer2.0.conv2",
    "stage1_block0/norm2": "layer2.0.bn2",
    "stage1_block0/shortcut_conv": "layer2.0.downsample.0",
    "stage1_block0/shortcut_norm": "layer2.0.downsample.1",
    "head": "fc",
}
SWIN_TORCHVISION = transformer(
    {"stage0_block0": "features.1.0", "stage0_block1": "features.1.1", "stage1_block0": "features.3.0"},
    {
        "patch_embedding": "features.0.0",
        "patch_norm": "features.0.2",
        "merge1_norm": "features.2.norm",
        "merge1_reduction": "features.2.reduction",
        "norm": "norm",
        "head": "head",
    },
    0,
)
SWIN_TIMM = transformer(
    {"stage0_block0": "layers.0.blocks.0", "stage0_block1": "layers.0.blocks.1", "stage1_block0": "layers.1.blocks.0"},
    {
        "patch_embedding": "patch_embed.proj",
        "patch_norm": "patch_embed.norm",
        "merge1_norm": "layers.1.downsample.norm",
        "merge1_reduction": "layers.1.downsample.reduction",
        "norm": "norm",
        "head": "head.fc",
    },
    1,
)
VIT_TORCHVISION = transformer(
    {f"layer{i}": f"encoder.layers.encoder_layer_{i}" for i in range(2)},
    {"patch_embedding": "conv_proj", "norm": "encoder.ln", "head": "heads.head"},
    2,
)
VIT_TIMM = transformer(
    {f"layer{i}": f"blocks.{i}" for i in range(2)},
    {"patch_embedding": "patch_embed.proj", "norm": "norm", "head": "head"},
    1,
)
LITE_LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_norm": "_bn0",
    "block0/depthwise_conv": "_blocks.0._depthwise_conv",
    "block0/depthwise_norm": "_blocks.0._bn1",
    "block0/project_conv": "_blocks.0._project_conv",
    "block0/project_norm": "_blocks.0._bn2",
    "block1/expand_conv": "_blocks.1._expand_conv",
    "block1/expand_norm": "_blocks.1._bn0",
    "block1/depthwise_conv": "_blocks.1._depthwise_conv",
    "block1/depthwise_norm": "_blocks.1._bn1",
    "block1/project_conv": "_blocks.1._project_conv",
    "block1/project_norm": "_blocks.1._bn2",
    "last_conv": "_conv_head",
    "last_norm": "_bn1",
    "head": "_fc",
}
MINILM_LAYERS = {
    "norm": "embeddings.LayerNorm",
    "layer0/attention/query": "encoder.layer.0.attention.self.query",
    "layer0/attention/key": "encoder.layer.0.attention.self.key",
    "layer0/attention/value": "encoder.layer.0.attention.self.value",
    "layer0/attention/out": "encoder.layer.0.attention.output.dense",
    "layer0/attention_norm": "encoder.layer.0.attention.output.LayerNorm",
    "layer0/mlp/hidden": "encoder.layer.0.intermediate.dense",
    "layer0/mlp/out": "encoder.layer.0.output.dense",
    "layer0/mlp_norm": "encoder.layer.0.output.LayerNorm",
    "head": "head",  # which the package's file has not
}
TABLES = {
    f"{block}/attention/relative_position_bias": block for block in ("stage0_block0", "stage0_block1", "stage1_block0")
}
CASES = {  # name, module, our layers → theirs, single parameters of ours → theirs, buffers to ignore
    "resnet18": (
        "resnet18",
        ResNet(CLASSES, 2, (1, 1)),
        RESNET_LAYERS,
        {},
        ["bn1.num_batches_tracked", "layer2.0.downsample.1.num_batches_tracked"],
    ),
    "swin torchvision": (
        "swin_t",
        SwinTransformer(CLASSES, 4, (2, 1), 2, 2, 2),
        SWIN_TORCHVISION,
        {
            path: SWIN_TORCHVISION[f"{block}/attention/qkv"].replace("qkv", "relative_position_bias_table")
            for path, block in TABLES.items()
        },
        ["features.1.0.attn.relative_position_index"],
    ),
    "swin timm": (
        "swin_t",
        SwinTransformer(CLASSES, 4, (2, 1), 2, 2, 2),
        SWIN_TIMM,
        {
            path: SWIN_TIMM[f"{block}/attention/qkv"].replace("qkv", "relative_position_bias_table")
            for path, block in TABLES.items()
        },
        ["layers.0.blocks.0.attn.relative_position_index"],
    ),
    "vit torchvision": (
        "vit_base",
        VisionTransformer(CLASSES, 4, 2, 4),
        VIT_TORCHVISION,
        {"class_token": "class_token", "position_embedding": "encoder.pos_embedding"},
        [],
    ),
    "vit timm": (
        "vit_tiny",
        VisionTransformer(CLASSES, 4, 2, 4),
        VIT_TIMM,
        {"class_token": "cls_token", "position_embedding": "pos_embed"},
        [],
    ),
    "efficientnet_lite0": (
        "efficientnet_lite0",
        EfficientNetLite(CLASSES, (Stage(1, 3, 1, 1, 4), Stage(1, 5, 2, 2, 6)), 3, 7, least_side=0),
        LITE_LAYERS,
        {},
        ["_bn0.num_batches_tracked", "_blocks.1._bn2.num_batches_tracked"],
    ),
    "minilm": (
        "minilm",
        MiniLM(CLASSES, 11, 9, width=4, depth=1, head_size=2),
        MINILM_LAYERS,
        {
            "token_embedding/embedding": "embeddings.word_embeddings.weight",
            "position_embedding": "embeddings.position_embeddings.weight",
            "segment_embedding": "embeddings.token_type_embeddings.weight",
        },
        ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"],
    ),
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
EVERY = pytest.mark.parametrize("case", CASES)


def inputs_of(case):
    return jnp.zeros((1, 6), int) if case == "minilm" else jnp.zeros((1, 8, 8, 3))


def trees(case):
    """Zeros in the shapes of the module's trees."""
    shapes = jax.eval_shape(lambda: linen_init(CASES[case][1], lambda x: x, jax.random.key(0), inputs_of(case)))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def state_dict(case):
    """For fresh random trees of ours: the trees, and the same weights as torch would lay them out and name them."""
    _, _, layers, singles, buffers = CASES[case]
    generator = np.random.default_rng(0)
    ours = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), trees(case))
    tensors = {buffer: np.array([3]) for buffer in buffers}
    for path, leaf in (flatten_dict(ours[0], sep="/") | flatten_dict(ours[1].get("batch_stats", {}), sep="/")).items():
        layer, _, kind = path.rpartition("/")
        theirs = singles.get(path) or f"{layers[layer]}.{LEAVES[kind]}".replace("in_proj.", "in_proj_")
        assert theirs not in tensors
        if kind == "kernel":
            leaf = np.moveaxis(leaf, (-1, -2), (0, 1)) if leaf.ndim == 4 else leaf.T
        tensors[theirs] = np.ascontiguousarray(leaf)
    return ours, tensors


@EVERY
def test_every_tensor_lands_in_its_place(case, tmp_path):
    ours, tensors = state_dict(case)
    fresh = trees(case)
    loaded = load_pretrained(CASES[case][0], tensors, *fresh)
    assert jax.tree.structure(loaded) == jax.tree.structure(fresh)
    jax.tree.map(np.testing.assert_array_equal, loaded, ours)
    save_file(tensors, tmp_path / "weights.safetensors")
    from_file = load_pretrained(CASES[case][0], str(tmp_path / "weights.safetensors"), *fresh)
    jax.tree.map(np.testing.assert_array_equal, from_file, ours)


@EVERY
def test_each_missing_tensor_is_named(case):
    _, tensors = state_dict(case)
    fresh = trees(case)
    for name in set(tensors) - set(CASES[case][4]):
        fewer = {key: tensor for key, tensor in tensors.items() if key != name}
        with pytest.raises(ValueError, match=rf"lacks {name}: by \w+"):
            load_pretrained(CASES[case][0], fewer, *fresh)
    without = {key: tensor for key, tensor in tensors.items() if key not in CASES[case][4]}
    load_pretrained(CASES[case][0], without, *fresh)


@EVERY
def test_a_superfluous_tensor_is_named(case):
    _, tensors = state_dict(case)
    with pytest.raises(ValueError, match=r"state dict has fc2\.weight: by .* has no place for them; take the file of"):
        load_pretrained(CASES[case][0], {**tensors, "fc2.weight": np.zeros(3)}, *trees(case))


@EVERY
def test_another_head_only_when_asked_for(case):
    name, _, layers, _, _ = CASES[case]
    ours, tensors = state_dict(case)
    weight, bias = (f"{layers['head']}.{part}" for part in ("weight", "bias"))
    larger = {**tensors, weight: np.ones((9, tensors[weight].shape[1])), bias: np.ones(9)}
    fresh = trees(case)
    with pytest.raises(ValueError, match=rf"tensor {layers['head']}\.\w+ has shape \(9.*pass new_head=True"):
        load_pretrained(name, larger, *fresh)
    headless = {key: tensor for key, tensor in tensors.items() if key not in (weight, bias)}
    for given in (larger, headless):
        params, state = load_pretrained(name, given, *fresh, new_head=True)
        jax.tree.map(np.testing.assert_array_equal, params, {**ours[0], "head": fresh[0]["head"]})
        jax.tree.map(np.testing.assert_array_equal, state, ours[1])


@EVERY
def test_each_wrong_shape_is_named(case):
    _, tensors = state_dict(case)
    fresh = trees(case)
    for name in set(tensors) - set(CASES[case][4]):
        wrong = {**tensors, name: np.concatenate([tensors[name]] * 2)}
        with pytest.raises(ValueError, match=rf"tensor {name} has shape .*: the model takes \("):
            load_pretrained(CASES[case][0], wrong, *fresh)


def test_weights_take_the_type_of_the_model_and_are_copies():
    ours, tensors = state_dict("resnet18")
    tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    params, state = load_pretrained("resnet18", tensors, *trees("resnet18"))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype("float32")}
    tensors["fc.bias"][:] = 0
    np.testing.assert_array_equal(params["head"]["bias"], ours[0]["head"]["bias"])


@pytest.mark.parametrize("new_head", [False, True])
def test_initialise_reads_the_file_of_the_options(new_head, tmp_path):
    ours, tensors = state_dict("resnet18")
    module, key, images = CASES["resnet18"][1], jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    save_file(tensors, tmp_path / "weights.safetensors")
    options = ModelOptions(pretrained=tmp_path / "weights.safetensors", new_head=new_head)
    run = jax.jit(lambda key: initialise("resnet18", module, lambda x: x, key, images, options))
    params, model_state = run(key)
    expected = ours[0]
    if new_head:
        expected = {
            **expected,
            "head": jax.jit(lambda key: linen_init(module, lambda x: x, key, images))(key)[0]["head"],
        }
    jax.tree.map(np.testing.assert_array_equal, (params, model_state), (expected, ours[1]))


def test_refusals(tmp_path):
    _, tensors = state_dict("resnet18")
    fresh = trees("resnet18")
    with pytest.raises(ValueError, match="name is 'mlp': weights can be loaded for resnet18, swin_t, vit_tiny"):
        load_pretrained("mlp", tensors, *fresh)
    with pytest.raises(ValueError, match=r"tensor bn1\.weight is of type int64: weights must be floating-point"):
        load_pretrained("resnet18", {**tensors, "bn1.weight": np.array([1, 2])}, *fresh)
    with pytest.raises(ValueError, match=r"weights.pth: its name must end in .safetensors; convert"):
        load_pretrained("resnet18", tmp_path / "weights.pth", *fresh)
    with pytest.raises(FileNotFoundError, match=r"no file .*none.safetensors: it must be a state dict"):
        load_pretrained("resnet18", tmp_path / "none.safetensors", *fresh)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(ValueError, match=r"damaged.safetensors is not in safetensors format \(.*\); save or download"):
        load_pretrained("resnet18", damaged, *fresh)
