"""A pretrained network of which a part is trained: its head, or its head and low-rank updates of some kernels (LoRA).

    y = x W + s (x Aᵀ) B,    A [r, in], B [r, out], s = lora_alpha / r;    B = 0 at first

`params` are the trained part and nothing else, so every method, mask, decay and Fisher information is of it alone. The
rest is read once and closed over: no state, seed, oracle or checkpoint has a copy. What names them has the digest of
the file of weights instead, see `harness.network.describe`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ugclu_jax.models.adapters import Functions, Preprocess, augmented, linen_init
from ugclu_jax.models.options import ModelOptions
from ugclu_jax.models.pretrained import load_pretrained
from ugclu_jax.types import Array, Augment, ModelState, Params

Path = tuple[str, ...]
HEAD, LORA = "head", "lora"
_ATTENTION = r"(.*/)?attention/(qkv|out)"
TARGETS: Mapping[str, str] = {
    "swin_t": _ATTENTION,
    "vit_tiny": _ATTENTION,
    "vit_small": _ATTENTION,
    "vit_base": _ATTENTION,
    "efficientnet_lite0": r"block\d+/(expand|project)_conv|last_conv",
    "minilm": r"layer\d+/attention/(query|key|value|out)",
}
"""By model, the layers with a low-rank update: of attention, or the pointwise convolutions, which are dense layers of
each pixel and hold nine tenths of Lite0's weights. A depthwise kernel has one column a channel: nothing of low rank."""


def part_functions(
    name: str,
    module: nn.Module,
    preprocess: Preprocess,
    inputs: Array,
    options: ModelOptions,
    augment: Augment | None = None,
) -> Functions:
    """The two functions of a bundled model whose `params` are the part that is trained.

    The frozen part runs as in evaluation: BatchNorm keeps its recorded statistics, and `model_state` is empty.

    Args:
        name: by which `create` made the module.
        module: of a head called "head".
        preprocess: as for `linen_init`.
        inputs: [B, ...] as stored; only shape and dtype matter.
        options: `train` is "head" or "lora", `pretrained` the file of weights; without `new_head` the head is the
            file's at first.
        augment: as for `linen_apply_fn`.

    Returns:
        `(apply_fn, init_fn)`; `params` are {"head": …}, with "lora" the tree of {"a": A, "b": B} beside it.

    Raises:
        ValueError, FileNotFoundError: see `load_pretrained`; a rank that a kernel does not have.

    Example:
        >>> import pathlib, tempfile, numpy as np
        >>> from safetensors.numpy import save_file
        >>> from ugclu_jax.models import VisionTransformer
        >>> shapes = {"patch_embed.proj.weight": (8, 3, 4, 4), "patch_embed.proj.bias": 8, "cls_token": (1, 1, 8),
        ...           "pos_embed": (1, 5, 8), "norm.weight": 8, "norm.bias": 8, "head.weight": (2, 8), "head.bias": 2}
        >>> with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        ...     save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, file.name)
        ...     options = ModelOptions(pretrained=pathlib.Path(file.name), train="head")
        ...     module, images = VisionTransformer(2, width=8, depth=0, patch=4), jnp.zeros((1, 8, 8, 3))
        ...     apply_fn, init_fn = part_functions("vit_tiny", module, lambda x: x, images, options)
        >>> jax.tree.map(jnp.shape, init_fn(jax.random.key(0)))
        ({'head': {'bias': (2,), 'kernel': (8, 2)}}, {})

    References:
        Hu et al., LoRA, arXiv 2106.09685, section 4.1.
    """
    assert options.pretrained is not None  # `ModelOptions` sees to it
    shapes = jax.eval_shape(lambda: linen_init(module, preprocess, jax.random.key(0), inputs))
    with jax.ensure_compile_time_eval():  # read once, even where a program is being traced
        params, statistics = load_pretrained(name, options.pretrained, *shapes, new_head=options.fresh_head(name))
    frozen = {key: value for key, value in params.items() if key != HEAD}
    targets = _targets(name, frozen, options.lora_rank) if options.train == LORA else {}
    scale = options.lora_alpha / options.lora_rank

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        head_key, lora_key = jax.random.split(rng_key)
        # What is not used of a whole fresh network is not computed under `jit`.
        head = linen_init(module, preprocess, head_key, inputs)[0][HEAD] if options.fresh_head(name) else params[HEAD]
        if options.train != LORA:
            return {HEAD: head}, {}
        updates: dict[Path, Array] = {}
        for number, (path, (rows, columns)) in enumerate(sorted(targets.items())):
            key = jax.random.fold_in(lora_key, number)
            updates[*path, "a"] = jax.random.normal(key, (options.lora_rank, rows)) * rows**-0.5
            updates[*path, "b"] = jnp.zeros((options.lora_rank, columns))
        return {HEAD: head, LORA: unflatten_dict(updates)}, {}

    def apply_fn(
        params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
    ) -> tuple[Array, ModelState]:
        variables = {"params": {**frozen, HEAD: params[HEAD]}, **statistics}
        with nn.intercept_methods(_adding(flatten_dict(params.get(LORA, {})), scale)):
            # Flax's type has the pair in it that `apply` returns where collections are mutable; here none is.
            return cast(Array, module.apply(variables, preprocess(inputs), train=False)), model_state

    return Functions(augmented(apply_fn, augment), init_fn)


def _targets(name: str, frozen: Params, rank: int) -> dict[Path, tuple[int, int]]:
    """Rows and columns of the kernels that get an update, by the path of their layer."""
    found = {}
    for path, leaf in flatten_dict(frozen).items():
        layer = "/".join(path[:-1])
        if path[-1] == "kernel" and re.fullmatch(TARGETS[name], layer):
            found[path[:-1]] = leaf.shape[-2:]
            if rank > min(leaf.shape[-2:]):
                raise ValueError(
                    f"lora_rank is {rank}: the kernel of {layer}, {leaf.shape[-2]} x {leaf.shape[-1]}, has no higher "
                    f"rank than {min(leaf.shape[-2:])}; give less"
                )
    return found


def _adding(updates: Mapping[Path, Array], scale: float) -> Callable[..., Any]:
    """What adds the low-rank products to the outputs of their layers, while a module is applied."""

    def intercept(
        layer: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        path = context.module.path
        outputs = layer(*args, **kwargs)
        if context.method_name != "__call__" or (*path, "a") not in updates:
            return outputs
        inner, outer = (updates[*path, part].astype(outputs.dtype) for part in ("a", "b"))
        return outputs + scale * ((args[0].astype(outputs.dtype) @ inner.T) @ outer)

    return intercept
