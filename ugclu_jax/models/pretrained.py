"""Weights that others trained, as our trees: torchvision's or timm's, EfficientNet-Lite0's and MiniLM's."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ugclu_jax.extras import installed_by
from ugclu_jax.types import ModelState, Params

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


class Names(NamedTuple):
    """How a library names its tensors.

    Attributes:
        rules: substitutions, in this order, from our name with torch's word for the leaf to the library's.
        ignored: pattern of buffers that carry nothing learned.
    """

    rules: tuple[Rule, ...]
    ignored: str


_RESNET = Names(
    (
        (r"^stem_conv\.", "conv1."),
        (r"^stem_norm\.", "bn1."),
        (r"^stage(\d)_block", lambda m: f"layer{int(m[1]) + 1}."),
        (r"\.norm(\d)\.", r".bn\1."),
        (r"\.shortcut_conv\.", ".downsample.0."),
        (r"\.shortcut_norm\.", ".downsample.1."),
        (r"^head\.", "fc."),
    ),
    r"\.num_batches_tracked$",
)
_SWIN_INDEX = r"\.relative_position_index$"
_SWIN_TORCHVISION = Names(
    (
        (r"^patch_embedding\.", "features.0.0."),
        (r"^patch_norm\.", "features.0.2."),
        (r"^merge(\d)_", lambda m: f"features.{2 * int(m[1])}."),
        (r"^stage(\d)_block", lambda m: f"features.{2 * int(m[1]) + 1}."),
        (r"\.attention_norm\.", ".norm1."),
        (r"\.mlp_norm\.", ".norm2."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.relative_position_bias$", ".attn.relative_position_bias_table"),
        (r"\.attention\.", ".attn."),
        (r"\.mlp\.hidden\.", ".mlp.0."),
        (r"\.mlp\.out\.", ".mlp.3."),
    ),
    _SWIN_INDEX,
)
_SWIN_TIMM = Names(
    (
        (r"^patch_embedding\.", "patch_embed.proj."),
        (r"^patch_norm\.", "patch_embed.norm."),
        (r"^merge(\d)_", r"layers.\1.downsample."),
        (r"^stage(\d)_block", r"layers.\1.blocks."),
        (r"\.attention_norm\.", ".norm1."),
        (r"\.mlp_norm\.", ".norm2."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.attention\.relative_position_bias$", ".attn.relative_position_bias_table"),
        (r"\.attention\.", ".attn."),
        (r"\.mlp\.hidden\.", ".mlp.fc1."),
        (r"\.mlp\.out\.", ".mlp.fc2."),
        (r"^head\.", "head.fc."),
    ),
    _SWIN_INDEX,
)
_NOTHING = r"(?!)"
_VIT_TORCHVISION = Names(
    (
        (r"^patch_embedding\.", "conv_proj."),
        (r"^position_embedding$", "encoder.pos_embedding"),
        (r"^norm\.", "encoder.ln."),
        (r"^head\.", "heads.head."),
        (r"^layer(\d+)\.", r"encoder.layers.encoder_layer_\1."),
        (r"\.attention_norm\.", ".ln_1."),
        (r"\.mlp_norm\.", ".ln_2."),
        (r"\.attention\.qkv\.", ".self_attention.in_proj_"),
        (r"\.attention\.out\.", ".self_attention.out_proj."),
        (r"\.mlp\.hidden\.", ".mlp.0."),
        (r"\.mlp\.out\.", ".mlp.3."),
    ),
    _NOTHING,
)
_VIT_TIMM = Names(
    (
        (r"^patch_embedding\.", "patch_embed.proj."),
        (r"^position_embedding$", "pos_embed"),
        (r"^class_token$", "cls_token"),
        (r"^layer(\d+)\.", r"blocks.\1."),
        (r"\.attention_norm\.", ".norm1."),
        (r"\.mlp_norm\.", ".norm2."),
        (r"\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.out\.", ".attn.proj."),
        (r"\.mlp\.hidden\.", ".mlp.fc1."),
        (r"\.mlp\.out\.", ".mlp.fc2."),
    ),
    _NOTHING,
)
_LITE = Names(
    (
        (r"^stem_conv\.", "_conv_stem."),
        (r"^stem_norm\.", "_bn0."),
        (r"^last_conv\.", "_conv_head."),
        (r"^last_norm\.", "_bn1."),
        (r"^head\.", "_fc."),
        (r"^block(\d+)\.", r"_blocks.\1."),
        (r"\.(expand|depthwise|project)_conv\.", r"._\1_conv."),
        (r"\.expand_norm\.", "._bn0."),
        (r"\.depthwise_norm\.", "._bn1."),
        (r"\.project_norm\.", "._bn2."),
    ),
    r"\.num_batches_tracked$",
)
_MINILM = Names(
    (
        (r"^token_embedding\.embedding$", "embeddings.word_embeddings.weight"),
        (r"^position_embedding$", "embeddings.position_embeddings.weight"),
        (r"^segment_embedding$", "embeddings.token_type_embeddings.weight"),
        (r"^norm\.", "embeddings.LayerNorm."),
        (r"^layer(\d+)\.", r"encoder.layer.\1."),
        (r"\.attention\.(query|key|value)\.", r".attention.self.\1."),
        (r"\.attention\.out\.", ".attention.output.dense."),
        (r"\.attention_norm\.", ".attention.output.LayerNorm."),
        (r"\.mlp\.hidden\.", ".intermediate.dense."),
        (r"\.mlp\.out\.", ".output.dense."),
        (r"\.mlp_norm\.", ".output.LayerNorm."),
    ),
    r"^pooler\.|^embeddings\.position_ids$",  # the pooler is of no use to the mean
)
_VIT = {"torchvision": _VIT_TORCHVISION, "timm": _VIT_TIMM}
NAMES: dict[str, dict[str, Names]] = {
    "resnet18": {"torchvision or timm": _RESNET},
    "swin_t": {"torchvision": _SWIN_TORCHVISION, "timm": _SWIN_TIMM},
    "vit_tiny": _VIT,
    "vit_small": _VIT,
    "vit_base": _VIT,
    "efficientnet_lite0": {"its package": _LITE},
    "minilm": {"Hugging Face": _MINILM},
}
"""By model, then by the library whose names the file may have."""

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def load_pretrained(
    name: str,
    tensors_or_path: Mapping[str, np.ndarray] | Path | str,
    params: Params,
    model_state: ModelState,
    *,
    new_head: bool = False,
) -> tuple[Params, ModelState]:
    """Replace freshly initialised weights by those of a state dict, in the names of torchvision, timm or a package.

    Every tensor is used exactly once, except BatchNorm's `num_batches_tracked`, Swin's `relative_position_index` and
    BERT's `position_ids`, which hold nothing learned, and BERT's pooler, which the mean does not use. Kernels go from
    torch's (out, in, height, width) to ours (height, width, in, out).

    Args:
        name: a key of `NAMES`: resnet18, swin_t, vit_tiny, vit_small, vit_base, efficientnet_lite0, minilm.
        tensors_or_path: the state dict as arrays by name, or a `.safetensors` file of it.
        params: of the model by that name; the new ones have the same structure, shapes and types. A
            `ShapeDtypeStruct` will do for what the file has.
        model_state: likewise.
        new_head: leave out the file's classifier and keep the one in `params`, for another number of classes.

    Returns:
        `(params, model_state)`.

    Raises:
        ValueError: for a model without pretrained weights, a file that is not safetensors, and a tensor that is
            missing, superfluous, of another shape or not of floating point, by its name.
        FileNotFoundError: if the file is not there.

    Example:
        >>> import jax
        >>> from ugclu_jax.models.resnet import ResNet
        >>> module = ResNet(num_classes=3, width=2, depths=(1,))
        >>> model_state = dict(module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))
        >>> params = model_state.pop("params")
        >>> load_pretrained("resnet18", {"fc.bias": np.zeros(3)}, params, model_state)
        Traceback (most recent call last):
        ...
        ValueError: state dict lacks bn1.bias, bn1.running_mean, bn1.running_var, bn1.weight and 12 more: by \
torchvision or timm, resnet18 of this size has them; take the file of the same architecture, width and depth
    """
    if name not in NAMES:
        raise ValueError(
            f"name is {name!r}: weights can be loaded for {', '.join(NAMES)}; initialise this model afresh"
        )
    tensors = read(tensors_or_path) if isinstance(tensors_or_path, Path | str) else tensors_or_path
    ours = {("params", *path): leaf for path, leaf in flatten_dict(params).items()}
    ours |= {("state", *path): leaf for path, leaf in flatten_dict(model_state).items()}
    # The library is the one whose names are met most often; if none fits, its error is the most useful one.
    paths, library, ignored = max(
        ((_paths(ours, names), library, names.ignored) for library, names in NAMES[name].items()),
        key=lambda candidate: len(candidate[0].keys() & tensors.keys()),
    )
    head = {theirs for theirs, path in paths.items() if path[:2] == ("params", "head")} if new_head else set()
    wanted = paths.keys() - head
    given = {key for key in tensors if not re.search(ignored, key)} - head
    for verb, names, fix in (
        ("lacks", wanted - given, "has them"),
        ("has", given - wanted, "has no place for them"),
    ):
        if names:
            raise ValueError(
                f"state dict {verb} {_listed(names)}: by {library}, {name} of this size {fix}; take the file of the "
                "same architecture, width and depth"
            )
    loaded = {path: _convert(theirs, tensors[theirs], ours[path]) for theirs, path in paths.items() if theirs in wanted}
    params, model_state = (
        unflatten_dict({path[1:]: leaf for path, leaf in {**ours, **loaded}.items() if path[0] == tree})
        for tree in ("params", "state")
    )
    return params, model_state


def read(path: Path | str) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, by name.

    Raises:
        ValueError: for another kind of file, or a damaged one.
        FileNotFoundError: if it is not there.

    Example:
        >>> read("resnet18.pth")
        Traceback (most recent call last):
        ...
        ValueError: file is resnet18.pth: its name must end in .safetensors; convert a state dict with \
safetensors.torch.save_file
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"file is {path}: its name must end in .safetensors; convert a state dict with safetensors.torch.save_file"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: it must be a state dict in safetensors format; check the path")
    with installed_by("run"):
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"file {path} is not in safetensors format ({error}); save or download it again") from error


def _paths(ours: Mapping[tuple[str, ...], object], names: Names) -> dict[str, tuple[str, ...]]:
    """Our paths by the library's names."""
    paths = {}
    for path in ours:
        modules = path[1:-1] if path[0] == "params" else path[2:-1]
        theirs = ".".join([*modules, _LEAVES.get(path[-1], path[-1])])
        for pattern, replacement in names.rules:
            theirs = re.sub(pattern, replacement, theirs)
        paths[theirs] = path
    return paths


def _convert(name: str, tensor: np.ndarray, leaf: jax.Array) -> jax.Array:
    array = np.asarray(tensor)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"tensor {name} is of type {array.dtype}: weights must be floating-point; save it as float32")
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2 and not name.endswith(("_table", "_embeddings.weight")):
        array = array.T
    if array.shape != leaf.shape:
        raise ValueError(
            f"tensor {name} has shape {np.shape(tensor)}, {array.shape} in our order: the model takes {leaf.shape}; "
            "build the model with the file's width, stem, image size and channels, and pass new_head=True for another "
            "number of classes"
        )
    return jnp.array(array, leaf.dtype)  # a copy: the caller may go on writing into the tensor's memory


def _listed(names: set[str]) -> str:
    first = ", ".join(sorted(names)[:4])
    return first if len(names) <= 4 else f"{first} and {len(names) - 4} more"
