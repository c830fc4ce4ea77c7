"""Trees of arrays as safetensors, which every library of the field reads: a tensor is named by its path in the tree."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ugclu_jax.extras import installed_by
from ugclu_jax.types import Array, PyTree

with installed_by("run"):
    from safetensors import SafetensorError
    from safetensors.flax import load, save


def packed(trees: Mapping[str, PyTree]) -> bytes:
    """Trees by name as the content of a file.

    >>> unpacked(packed({"a": {"b": jnp.ones(2)}}), {"a": {"b": jnp.zeros(2)}})["a"]["b"].tolist()
    [1.0, 1.0]
    """
    return save({name: jnp.asarray(leaf) for name, leaf in named_leaves(trees).items()})


def named_leaves(trees: Mapping[str, PyTree]) -> dict[str, Array]:
    """Leaves by `tree/path/of/the/leaf`.

    >>> list(named_leaves({"params": {"Dense_0": {"bias": jnp.zeros(1)}}, "model_state": {}}))
    ['params/Dense_0/bias']
    """
    return {
        "/".join(filter(None, (name, jax.tree_util.keystr(path, simple=True, separator="/")))): leaf
        for name, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def unpacked(content: bytes, like: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Trees from the content of a file.

    Args:
        content: of a safetensors file.
        like: trees whose structure, shapes and types the file must have; their values do not count.

    Raises:
        ValueError: it is no such file, or a tensor is missing, superfluous, or of another shape or type, by its name.
    """
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"not safetensors ({error})") from error
    wanted = named_leaves(like)
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        what = "is missing" if odd[0] in wanted else "is one too many"
        raise ValueError(f"tensor {odd[0]!r} {what}: tensors must be {', '.join(wanted)}")
    for name, leaf in wanted.items():
        found = tensors[name]
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(
                f"tensor {name!r} is {found.dtype}{list(found.shape)}; it must be {leaf.dtype}{list(leaf.shape)}"
            )
    leaves, structure = jax.tree.flatten(dict(like))
    names = list(named_leaves({key: like[key] for key in sorted(like)}))
    assert len(names) == len(leaves)
    return jax.tree.unflatten(structure, [tensors[name] for name in names])
