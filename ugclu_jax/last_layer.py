"""The last layer of any network, and its inputs: from the network's function alone, whatever library wrote it.

    f(x) = Wᵀφ(x) + b    ⇒    φ_j(x) = ∂f_0(x) / ∂W_j0

So features need no second function of a model. That the outputs are of this form is seen before the network is used:
once, at other weights and one input, where the two sides are compared in numbers.
"""

import functools
import math
from collections.abc import Hashable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import keystr

from ugclu_jax.types import ApplyFn, Array, ModelState, Params, Rows

_TOLERANCE = 1e-2
"""Of outputs, in parts of their largest: half-precision networks pass, another function does not."""


class LastLayer(NamedTuple):
    """Where its weights are among the leaves of the parameters, `jax.tree.leaves(params)`."""

    name: str
    kernel: int  # [F, C]
    bias: int | None  # [C], or None where it has none


def find(params: Params, num_classes: int, name: str | None = None) -> LastLayer:
    """The layer with an output a class: a matrix [F, C], and a vector [C] beside it, if any.

    Args:
        params: of the network; only shapes matter.
        num_classes: C.
        name: of the layer, its path in the parameters, where several have C outputs; None = the only one.

    Raises:
        ValueError: there is none, or there are several, by their names.

    >>> layer = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    >>> find({"body": {"kernel": jnp.zeros((5, 4))}, "head": layer}, 3)
    LastLayer(name='head', kernel=2, bias=1)
    >>> find({"a": layer, "b": layer}, 3)
    Traceback (most recent call last):
        ...
    ValueError: several layers of the network have 3 outputs: a, b; say by layer=… which is the last
    """
    leaves = jax.tree.leaves_with_path(params)
    layers: dict[str, LastLayer] = {}
    for index, (path, leaf) in enumerate(leaves):
        if np.ndim(leaf) == 2 and np.shape(leaf)[1] == num_classes:
            beside = {
                keystr(other[-1:], simple=True): i
                for i, (other, vector) in enumerate(leaves)
                if path and other[:-1] == path[:-1] and np.shape(vector) == (num_classes,)
            }
            bias = beside.get("bias", next(iter(beside.values()), None))
            layer = keystr(path[:-1], simple=True, separator="/")
            layers[layer] = LastLayer(layer, index, bias)
    names = ", ".join(layer or "the outermost one" for layer in layers)
    if name is not None and name not in layers:
        raise ValueError(f"layer is {name!r}: no layer of that name has {num_classes} outputs; these have: {names}")
    if not layers:
        raise ValueError(
            f"no layer of the network has {num_classes} outputs, a matrix [F, {num_classes}] of its parameters: the "
            "analytic head needs a dense last layer"
        )
    if name is None and len(layers) > 1:
        raise ValueError(
            f"several layers of the network have {num_classes} outputs: {names}; say by layer=… which is the last"
        )
    return layers[name] if name is not None else next(iter(layers.values()))


def put(params: Params, layer: LastLayer, kernel: Array, bias: Array) -> Params:
    """The parameters with another last layer, of the same types; a bias where the layer has none is left out.

    >>> put({"kernel": jnp.zeros((1, 2))}, LastLayer("", 0, None), jnp.ones((1, 2)), jnp.zeros(2))["kernel"].tolist()
    [[1.0, 1.0]]
    """
    leaves, structure = jax.tree.flatten(params)
    leaves[layer.kernel] = kernel.astype(leaves[layer.kernel].dtype)
    if layer.bias is not None:
        leaves[layer.bias] = bias.astype(leaves[layer.bias].dtype)
    return jax.tree.unflatten(structure, leaves)


def features(apply_fn: ApplyFn, layer: LastLayer, params: Params, model_state: ModelState, inputs: Array) -> Array:
    """What enters the last layer, `[B, F]`, in evaluation mode.

    Args:
        apply_fn: the network; see `check`.
        layer: its last layer.
        params, model_state: the network; the last layer's own values do not matter.
        inputs: [B, ...] as stored.

    >>> squared = lambda params, state, x, *, train, rng_key: (x**2 @ params, state)
    >>> features(squared, LastLayer("", 0, None), jnp.zeros((2, 3)), {}, jnp.array([[2.0, 3.0]])).tolist()
    [[4.0, 9.0]]
    """
    leaves, structure = jax.tree.flatten(params)
    kernel = jnp.asarray(leaves[layer.kernel])

    def first_output(column: Array, x: Array) -> Array:
        own = [*leaves]
        own[layer.kernel] = kernel.at[:, 0].set(column)
        outputs, _ = apply_fn(jax.tree.unflatten(structure, own), model_state, x[None], train=False, rng_key=None)
        return outputs[0, 0]

    return jax.vmap(jax.grad(first_output), in_axes=(None, 0))(kernel[:, 0], inputs)


def check(
    apply_fn: ApplyFn,
    layer: LastLayer,
    params: Params,
    model_state: ModelState,
    inputs: Rows | jax.ShapeDtypeStruct,
) -> None:
    """Refuse a network that is not `Wᵀφ(x) + b` in this layer, by one evaluation at weights drawn for it.

    Args:
        apply_fn: the network.
        layer: its last layer.
        params, model_state: of which only shapes and types matter: it may be called while a program is traced.
        inputs: [B, ...], likewise.

    Raises:
        ValueError: the outputs are something else.

    >>> bent = lambda params, state, x, *, train, rng_key: (jnp.tanh(x @ params), state)
    >>> check(bent, LastLayer("", 0, None), jnp.zeros((2, 3)), {}, jax.ShapeDtypeStruct((1, 2), jnp.float32))
    Traceback (most recent call last):
        ...
    ValueError: the outputs of the network are not linear in its last layer (the outermost one): the analytic head \
needs logits that are features @ kernel + bias, with nothing behind them
    """
    leaves, structure = jax.tree.flatten((params, model_state))
    described = tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    if not _fits(
        cast(Hashable, apply_fn), layer, structure, described, tuple(inputs.shape[1:]), np.dtype(inputs.dtype)
    ):
        raise ValueError(
            f"the outputs of the network are not linear in its last layer ({layer.name or 'the outermost one'}): the "
            "analytic head needs logits that are features @ kernel + bias, with nothing behind them"
        )


@functools.lru_cache(maxsize=16)
def _fits(
    apply_fn: ApplyFn,
    layer: LastLayer,
    structure: Any,
    described: tuple[tuple[tuple[int, ...], Any], ...],
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> bool:
    generator = np.random.default_rng(0)

    def drawn(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Of the size of initial weights, so that deep networks neither fade nor overflow; vectors near 1."""
        if len(shape) < 2:
            return (1 + 0.1 * generator.random(shape)).astype(dtype)
        return (generator.normal(size=shape) / math.sqrt(math.prod(shape[:-1]))).astype(dtype)

    values = [drawn(*each) for each in described]
    whole = not jnp.issubdtype(dtype, jnp.floating)  # pixels or token ids
    x = (generator.integers(0, 2, (1, *shape)) if whole else generator.random((1, *shape))).astype(dtype)

    def both(arguments: tuple[list[Array], Array]) -> tuple[Array, Array]:
        values, x = arguments
        params, model_state = jax.tree.unflatten(structure, values)
        logits, _ = apply_fn(params, model_state, x, train=False, rng_key=None)
        return logits, features(apply_fn, layer, params, model_state, x)

    with jax.ensure_compile_time_eval():
        # A loop of one turn is one program; step by step, each operation would be compiled on its own.
        turn = jax.tree.map(lambda a: jnp.asarray(a)[None], (values, x))
        outputs, found = (np.asarray(each[0], np.float64) for each in lax.map(both, turn))
    expected = found @ values[layer.kernel] + (0 if layer.bias is None else values[layer.bias])
    return bool(np.allclose(outputs, expected, rtol=0, atol=_TOLERANCE * max(np.abs(outputs).max(), 1e-30)))
