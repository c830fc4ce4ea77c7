"""Models by name: what each bundled one takes and which options it has, the module, and its first parameters."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import flax.linen as nn

from ugclu_jax import named
from ugclu_jax.models import efficientnet_lite, minilm, swin, vit
from ugclu_jax.models.adapters import Preprocess, linen_init
from ugclu_jax.models.cnn import CNN
from ugclu_jax.models.efficientnet_lite import EfficientNetLite
from ugclu_jax.models.minilm import MiniLM
from ugclu_jax.models.mlp import MLP
from ugclu_jax.models.options import ModelOptions
from ugclu_jax.models.own import Model, load_model
from ugclu_jax.models.part import TARGETS
from ugclu_jax.models.pretrained import load_pretrained
from ugclu_jax.models.resnet import ResNet
from ugclu_jax.models.swin import SwinTransformer
from ugclu_jax.models.text_encoder import TextEncoder
from ugclu_jax.models.vit import VisionTransformer
from ugclu_jax.types import Array, ModelState, Params

Build = Callable[[int, tuple[int, ...], int | None, ModelOptions], nn.Module]


class Architecture(NamedTuple):
    """One bundled model.

    Attributes:
        build: from `num_classes`, `input_shape`, `vocabulary_size` and options, all checked, to the module.
        options: those of `ModelOptions` that it has.
        inputs: what it takes; "numbers" of any shape.
        sides: of the square images for which it has settings; None = every image.
        pixels: mean and standard deviation of every channel by which its inputs are normalised, of values from 0 to 1;
            None = the data set's own.
    """

    build: Build
    options: frozenset[str]
    inputs: Literal["numbers", "images", "tokens"] = "images"
    sides: tuple[int, ...] | None = None
    pixels: tuple[float, float] | None = None


def _mlp(num_classes: int, _shape: tuple[int, ...], _vocabulary: int | None, options: ModelOptions) -> nn.Module:
    return MLP(num_classes, dtype=options.dtype)


def _cnn(batch_norm: bool) -> Build:
    def build(num_classes: int, _shape: tuple[int, ...], _vocabulary: int | None, options: ModelOptions) -> nn.Module:
        return CNN(num_classes, batch_norm=batch_norm, lowering=options.lowering, dtype=options.dtype)

    return build


def _resnet18(num_classes: int, _shape: tuple[int, ...], _vocabulary: int | None, options: ModelOptions) -> nn.Module:
    depths = (2 if options.depth is None else options.depth,) * 4
    return ResNet(
        num_classes,
        width=options.width or ResNet.width,
        depths=depths,
        stem=options.stem,
        dtype=options.dtype,
        remat=options.remat,
        lowering=options.lowering,
    )


def _swin_t(num_classes: int, shape: tuple[int, ...], _vocabulary: int | None, options: ModelOptions) -> nn.Module:
    setting = swin.SETTINGS[shape[0] if options.pretrained is None else 224]
    return SwinTransformer(
        num_classes,
        width=options.width or SwinTransformer.width,
        depths=(2, 2, 6, 2) if options.depth is None else (options.depth,) * 4,
        stochastic_depth=options.stochastic_depth,
        dtype=options.dtype,
        remat=options.remat,
        **setting._asdict(),
    )


def _vit(width: int) -> Build:
    def build(num_classes: int, shape: tuple[int, ...], _vocabulary: int | None, options: ModelOptions) -> nn.Module:
        return VisionTransformer(
            num_classes,
            width=options.width or width,
            depth=options.depth or VisionTransformer.depth,
            dtype=options.dtype,
            remat=options.remat,
            **vit.SETTINGS[shape[0]]._asdict(),
        )

    return build


def _text_encoder(num_classes: int, shape: tuple[int, ...], vocabulary: int | None, options: ModelOptions) -> nn.Module:
    assert vocabulary is not None
    return TextEncoder(
        num_classes,
        vocabulary,
        shape[0],
        width=options.width or TextEncoder.width,
        depth=options.depth or TextEncoder.depth,
        norm=options.norm,
        pooling=options.pooling,
        dtype=options.dtype,
        remat=options.remat,
    )


def _lite0(num_classes: int, _shape: tuple[int, ...], _vocabulary: int | None, options: ModelOptions) -> nn.Module:
    return EfficientNetLite(num_classes, lowering=options.lowering, dtype=options.dtype, remat=options.remat)


def _minilm(num_classes: int, _shape: tuple[int, ...], vocabulary: int | None, options: ModelOptions) -> nn.Module:
    assert vocabulary is not None
    return MiniLM(
        num_classes,
        vocabulary,
        width=options.width or MiniLM.width,
        depth=options.depth or MiniLM.depth,
        dtype=options.dtype,
        remat=options.remat,
    )


_SIZES = frozenset({"dtype", "remat", "width", "depth"})
_PART = frozenset({"pretrained", "train", "lora_rank", "lora_alpha"})
_FILES = _PART | {"new_head"}
MODELS: Mapping[str, Architecture] = {
    "mlp": Architecture(_mlp, frozenset({"dtype"}), "numbers"),
    "cnn": Architecture(_cnn(batch_norm=False), frozenset({"dtype", "lowering"})),
    "cnn_bn": Architecture(_cnn(batch_norm=True), frozenset({"dtype", "lowering"})),
    "resnet18": Architecture(_resnet18, _SIZES | _FILES | {"stem", "lowering"}),
    "swin_t": Architecture(_swin_t, _SIZES | _FILES | {"stochastic_depth"}, sides=tuple(swin.SETTINGS)),
    **{
        name: Architecture(_vit(width), _SIZES | _FILES, sides=tuple(vit.SETTINGS))
        for name, width in vit.WIDTHS.items()
    },
    "text_encoder": Architecture(_text_encoder, _SIZES | {"norm", "pooling"}, "tokens"),
    "efficientnet_lite0": Architecture(
        _lite0, _FILES | {"dtype", "remat", "lowering"}, pixels=(efficientnet_lite.MEAN, efficientnet_lite.STD)
    ),
    "minilm": Architecture(_minilm, _SIZES | _PART, "tokens"),
}


def create(
    name: str,
    num_classes: int,
    *,
    input_shape: tuple[int, ...],
    vocabulary_size: int | None = None,
    options: ModelOptions | None = None,
) -> Model:
    """Make a model by name, after checking that it can take the inputs and has the options.

    Args:
        name: a key of `MODELS`, or `package.module:attribute` for a model of one's own, see `ugclu_jax.models.own`.
        num_classes: C.
        input_shape: of one example: (height, width, channels) of images, (L,) of token ids, any for mlp.
        vocabulary_size: ids are below it; None = the inputs are not tokens.
        options: None = the defaults. `pretrained` is read by `initialise`, or `part.part_functions` where a part of it
            is trained.

    Returns:
        A module that `linen_apply_fn`, `linen_init` and `initialise` take; what `own.functions` takes, for a model of
        one's own that is no Linen module.

    Raises:
        ValueError: if the name is unknown (the nearest valid names are given), `num_classes` is below 2, the model
            takes no such inputs, or an option is not the model's (one's own has none).
        FileNotFoundError: if the file of pretrained weights is not there.

    Example:
        >>> create("mlp", 10, input_shape=(8, 8, 1)).features
        (64, 64)
        >>> create("vit_tiny", 10, input_shape=(32, 32, 3), options=ModelOptions(depth=2)).depth
        2
        >>> create("cnn-bn", 10, input_shape=(8, 8, 1))
        Traceback (most recent call last):
        ...
        ValueError: unknown model 'cnn-bn': it must be one of mlp, cnn, cnn_bn, resnet18, swin_t, vit_tiny, vit_small, \
vit_base, text_encoder, efficientnet_lite0, minilm, or package.module:attribute of your own; did you mean cnn_bn or cnn?
    """
    if name not in MODELS and not named.is_name(name):
        nearest = difflib.get_close_matches(str(name), MODELS)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else ""
        names = ", ".join((*MODELS, "or package.module:attribute of your own"))
        raise ValueError(f"unknown model {name!r}: it must be one of {names}{hint}")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}: it must be at least 2, one output a class")
    options = options or ModelOptions()
    _check_options(name, options)
    if named.is_name(name):
        return load_model(name, num_classes, tuple(input_shape), vocabulary_size)
    _check_inputs(name, tuple(input_shape), vocabulary_size)
    if options.pretrained is not None:
        _check_pretrained(name, options.pretrained, tuple(input_shape), vocabulary_size)
    return MODELS[name].build(num_classes, tuple(input_shape), vocabulary_size, options)


def over_devices(module: nn.Module, axis_name: str) -> nn.Module:
    """The module whose BatchNorm, if it has one, takes its statistics from the batches of all devices of an axis.

    The parameters are the same; in training, it runs only where the axis is mapped.

    >>> over_devices(create("cnn_bn", 10, input_shape=(8, 8, 1)), "device").norm_axis
    'device'
    >>> over_devices(create("mlp", 10, input_shape=(8, 8, 1)), "device") == create("mlp", 10, input_shape=(8, 8, 1))
    True
    """
    return module.clone(norm_axis=axis_name) if hasattr(module, "norm_axis") else module


def initialise(
    name: str, module: nn.Module, preprocess: Preprocess, rng_key: Array, inputs: Array, options: ModelOptions
) -> tuple[Params, ModelState]:
    """`linen_init`, then the weights of `options.pretrained`, if any.

    Args:
        name: by which `create` made the module.
        module: as for `linen_init`.
        preprocess: as for `linen_init`.
        rng_key: of the weights that no file gives.
        inputs: as for `linen_init`.
        options: with which `create` made the module.

    Returns:
        `(params, model_state)`; inside `jax.jit` it takes seconds, outside half a minute for a large model.

    Raises:
        ValueError, FileNotFoundError: see `load_pretrained`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> images, options = jnp.zeros((1, 8, 8, 1)), ModelOptions()
        >>> module = create("mlp", 10, input_shape=images.shape[1:], options=options)
        >>> params, model_state = initialise("mlp", module, lambda x: x, jax.random.key(0), images, options)
        >>> sorted(params), model_state
        (['Dense_0', 'Dense_1', 'Dense_2'], {})
    """
    fresh = linen_init(module, preprocess, rng_key, inputs)
    if options.pretrained is None:
        return fresh
    return load_pretrained(name, options.pretrained, *fresh, new_head=options.fresh_head(name))


def _check_options(name: str, options: ModelOptions) -> None:
    has = MODELS[name].options if name in MODELS else frozenset()
    for field in dataclasses.fields(ModelOptions):
        value = getattr(options, field.name)
        if field.name not in has and value != field.default:
            owners = [other for other, architecture in MODELS.items() if field.name in architecture.options]
            raise ValueError(
                f"{field.name} is {value!r}: {name} has no such option (it is one of {', '.join(owners)}); leave it at "
                f"{field.default!r}"
            )
    if options.train == "lora" and name not in TARGETS:
        raise ValueError(
            f"train is 'lora': {name} has no layers for low-rank updates ({', '.join(TARGETS)} have); give head or "
            "whole"
        )


def _check_inputs(name: str, shape: tuple[int, ...], vocabulary_size: int | None) -> None:
    takes, sides = MODELS[name].inputs, MODELS[name].sides
    if not shape or min(shape) < 1:
        raise ValueError(f"input_shape is {shape}: it must be one or more positive sizes, those of one example")
    if takes != "tokens" and vocabulary_size is not None:
        raise ValueError(f"vocabulary_size is {vocabulary_size}: {name} takes no token ids; use text_encoder")
    if takes == "images" and len(shape) != 3:
        raise ValueError(f"input_shape is {shape}: {name} takes images (height, width, channels); use another model")
    if sides is not None and (shape[0] != shape[1] or shape[0] not in sides):
        raise ValueError(
            f"input_shape is {shape}: {name} has settings for square images of side {', '.join(map(str, sides))}; "
            "resize the images"
        )
    if takes == "tokens":
        if vocabulary_size is None or len(shape) != 1:
            raise ValueError(
                f"input_shape is {shape} and vocabulary_size {vocabulary_size}: {name} takes token ids, (L,) and the "
                "size of their vocabulary; for images use another model"
            )
        if vocabulary_size < 2:
            raise ValueError(f"vocabulary_size is {vocabulary_size}: it must be at least 2, padding and a token")
        if name == "minilm" and shape[0] > MiniLM.positions:
            raise ValueError(
                f"input_shape is {shape}: minilm has {MiniLM.positions} positions; cut the texts, --data.text-length"
            )
    if name == "efficientnet_lite0" and shape[-1] not in (1, 3):
        raise ValueError(f"input_shape is {shape}: {name} takes images of 3 channels, or gray ones; use another model")


def _check_pretrained(name: str, path: Path, shape: tuple[int, ...], vocabulary_size: int | None) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"pretrained is {path}: there is no such file; give one in safetensors format")
    if name in vit.WIDTHS and shape[0] != 224:
        raise ValueError(
            f"input_shape is {shape}: pretrained {name} has positions for 224 pixels only; resize the images"
        )
    if name == "minilm" and vocabulary_size != minilm.VOCABULARY_SIZE:
        raise ValueError(
            f"vocabulary_size is {vocabulary_size}: pretrained minilm has vectors for the {minilm.VOCABULARY_SIZE} "
            f"tokens of its own vocabulary; cut the texts by it, --data.tokenizer {path.with_name('tokenizer.json')}"
        )
