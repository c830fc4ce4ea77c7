"""Models by name: every option reaches the model or is refused, and so are inputs that it cannot take."""

import dataclasses
from pathlib import Path

import pytest
import tyro

from ugclu_jax.models import MODELS, ModelOptions, create

INPUTS = {  # what each model surely takes
    name: {"input_shape": (32, 32, 3)}
    if MODELS[name].inputs != "tokens"
    else {"input_shape": (5,), "vocabulary_size": 9}
    for name in MODELS
}
VALUES = {  # every option at another value than its default
    "dtype": "bfloat16",
    "remat": True,
    "width": 8,
    "depth": 1,
    "stem": "imagenet",
    "lowering": "matmul",
    "norm": "post",
    "pooling": "cls",
    "stochastic_depth": 0.1,
    "pretrained": Path("weights.safetensors"),
    "new_head": True,
    "train": "head",
    "lora_rank": 4,
    "lora_alpha": 2.0,
}
OF_FILES = ("pretrained", "new_head", "train", "lora_rank", "lora_alpha")
PAIRS = [(name, option) for name in MODELS for option in VALUES if option not in OF_FILES]


def test_the_names_and_the_options():
    assert list(MODELS) == [
        "mlp", "cnn", "cnn_bn", "resnet18", "swin_t", "vit_tiny", "vit_small", "vit_base", "text_encoder",
        "efficientnet_lite0", "minilm",
    ]  # fmt: skip
    assert list(VALUES) == [field.name for field in dataclasses.fields(ModelOptions)]
    assert all(value != getattr(ModelOptions(), option) for option, value in VALUES.items())


@pytest.mark.parametrize(("name", "option"), PAIRS)
def test_an_option_reaches_the_module_or_is_refused(name, option):
    value = VALUES[option]
    options = ModelOptions(**{option: value})
    if option not in MODELS[name].options:
        with pytest.raises(ValueError, match=rf"{option} is {value!r}: {name} has no such option \(it is one of .*"):
            create(name, 3, **INPUTS[name], options=options)
        return
    module, default = (create(name, 3, **INPUTS[name], options=given) for given in (options, None))
    attribute, expected = option, value
    if option == "depth" and name in ("resnet18", "swin_t"):
        attribute, expected = "depths", (value,) * 4
    assert getattr(module, attribute) == expected
    assert module == default.clone(**{attribute: expected})  # and nothing else changed


def test_which_models_have_which_options():
    owners = {option: [name for name in MODELS if option in MODELS[name].options] for option in VALUES}
    large = ["resnet18", "swin_t", "vit_tiny", "vit_small", "vit_base"]
    assert owners == {
        "dtype": list(MODELS),
        "remat": [*large, "text_encoder", "efficientnet_lite0", "minilm"],
        **{option: [*large, "text_encoder", "minilm"] for option in ("width", "depth")},
        "stem": ["resnet18"],
        "lowering": ["cnn", "cnn_bn", "resnet18", "efficientnet_lite0"],
        "norm": ["text_encoder"],
        "pooling": ["text_encoder"],
        "stochastic_depth": ["swin_t"],
        "new_head": [*large, "efficientnet_lite0"],
        **{option: [*large, "efficientnet_lite0", "minilm"] for option in OF_FILES if option != "new_head"},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float16': it must be one of float32, bfloat16"),
        ({"stem": "resnet"}, "stem is 'resnet': it must be one of cifar, imagenet"),
        ({"lowering": "im2col"}, "lowering is 'im2col': it must be one of auto, fast, matmul, native"),
        ({"norm": "both"}, "norm is 'both': it must be one of pre, post"),
        ({"pooling": "max"}, "pooling is 'max': it must be one of mean, cls"),
        ({"width": 0}, "width is 0: it must be at least 1"),
        ({"depth": -1}, "depth is -1: it must be at least 1"),
        ({"stochastic_depth": 1.0}, r"stochastic_depth is 1.0: it must be in \[0, 1\)"),
        ({"stochastic_depth": float("nan")}, "stochastic_depth is nan"),
        ({"new_head": True}, "new_head is True without pretrained"),
        ({"train": "adapters"}, "train is 'adapters': it must be one of whole, head, lora"),
        ({"train": "head"}, "train is 'head' without pretrained: what is not trained would stay random; name a file"),
        (
            {"train": "lora", "pretrained": Path("a"), "stochastic_depth": 0.1},
            "stochastic_depth is 0.1 with train 'lora': blocks that are not trained are not dropped; leave it at 0",
        ),
        ({"lora_rank": 0}, "lora_rank is 0: it must be at least 1"),
        ({"lora_alpha": 0.0}, "lora_alpha is 0.0: it must be positive and finite"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan: it must be positive"),
        ({"lora_rank": 4}, "lora_rank is 4 with train 'whole': only train 'lora' has such updates; leave it at 8"),
        ({"lora_alpha": 4.0, "train": "head", "pretrained": Path("a")}, "lora_alpha is 4.0 with train 'head': only"),
    ],
)
def test_options_refuse(values, message):
    with pytest.raises(ValueError, match=message):
        ModelOptions(**values)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("resnet19", {"input_shape": (32, 32, 3)}, r"unknown model 'resnet19': it must be one of mlp, .*mean resnet18"),
        ("mlp", {"input_shape": ()}, r"input_shape is \(\): it must be one or more positive sizes"),
        ("cnn", {"input_shape": (8, 0, 3)}, r"input_shape is \(8, 0, 3\): it must be one or more positive"),
        ("mlp", {"input_shape": (5,), "vocabulary_size": 9}, "vocabulary_size is 9: mlp takes no token ids; use text_"),
        ("cnn", {"input_shape": (5,), "vocabulary_size": 9}, "vocabulary_size is 9: cnn takes no token ids"),
        ("cnn", {"input_shape": (5,)}, r"input_shape is \(5,\): cnn takes images \(height, width, channels\)"),
        ("resnet18", {"input_shape": (8, 8)}, r"input_shape is \(8, 8\): resnet18 takes images"),
        ("swin_t", {"input_shape": (28, 28, 1)}, "swin_t has settings for square images of side 32, 64, 224; resize"),
        ("vit_tiny", {"input_shape": (32, 64, 3)}, "vit_tiny has settings for square images of side 32, 64, 224"),
        ("text_encoder", {"input_shape": (32, 32, 3)}, "text_encoder takes token ids.*for images use another model"),
        (
            "text_encoder",
            {"input_shape": (5,)},
            r"input_shape is \(5,\) and vocabulary_size None: text_encoder takes t",
        ),
        ("text_encoder", {"input_shape": (5,), "vocabulary_size": 1}, "vocabulary_size is 1: it must be at least 2"),
        ("minilm", {"input_shape": (513,), "vocabulary_size": 9}, r"\(513,\): minilm has 512 positions; cut the texts"),
        ("efficientnet_lite0", {"input_shape": (32, 32, 2)}, "efficientnet_lite0 takes images of 3 channels, or gray"),
    ],
)
def test_inputs_that_a_model_cannot_take_are_refused(name, inputs, message):
    with pytest.raises(ValueError, match=message):
        create(name, 3, **inputs)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="num_classes is 1: it must be at least 2"):
        create("mlp", 1, input_shape=(4,))


def test_settings_by_image_size():
    found = {
        side: (create("vit_base", 3, input_shape=(side, side, 3)), create("swin_t", 3, input_shape=(side, side, 1)))
        for side in (32, 64, 224)
    }
    assert {side: (v.patch, s.patch, s.window) for side, (v, s) in found.items()} == {
        32: (4, 1, 4),
        64: (8, 2, 4),
        224: (16, 4, 7),
    }


def test_pretrained_swin_has_the_windows_of_its_weights_at_every_size(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.touch()
    module = create("swin_t", 3, input_shape=(64, 64, 3), options=ModelOptions(pretrained=path))
    assert (module.patch, module.window) == (4, 7)
    with pytest.raises(ValueError, match="pretrained vit_base has positions for 224 pixels only; resize"):
        create("vit_base", 3, input_shape=(64, 64, 3), options=ModelOptions(pretrained=path))


def test_pretrained_is_refused_where_it_is_not_there_or_not_known(tmp_path):
    options = ModelOptions(pretrained=tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"pretrained is .*none\.safetensors: there is no such file"):
        create("resnet18", 3, input_shape=(32, 32, 3), options=options)
    with pytest.raises(ValueError, match="cnn has no such option"):
        create("cnn", 3, input_shape=(32, 32, 3), options=options)


def test_pretrained_combinations_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.touch()
    lora = ModelOptions(pretrained=path, train="lora")
    with pytest.raises(
        ValueError, match=r"train is 'lora': resnet18 has no layers for low-rank updates \(swin_t, .*head"
    ):
        create("resnet18", 3, input_shape=(32, 32, 3), options=lora)
    with pytest.raises(
        ValueError, match=r"vocabulary_size is 9: pretrained minilm has .* --data\.tokenizer .*tokenizer.j"
    ):
        create("minilm", 3, input_shape=(5,), vocabulary_size=9, options=lora)
    with pytest.raises(ValueError, match=r"pretrained is .*: text_encoder has no such option"):
        create("text_encoder", 3, input_shape=(5,), vocabulary_size=9, options=lora)


def test_options_come_from_a_command_line():
    arguments = ["--dtype", "bfloat16", "--remat", "--width", "32", "--pretrained", "a.safetensors", "--new-head"]
    expected = ModelOptions("bfloat16", remat=True, width=32, pretrained=Path("a.safetensors"), new_head=True)
    assert tyro.cli(ModelOptions, args=arguments) == expected
