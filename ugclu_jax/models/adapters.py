"""From a Flax model, Linen or NNX, to the library's contract `ApplyFn`."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax.types import ApplyFn, Array, Augment, ModelState, Params

Preprocess = Callable[[Array], Array]


class Functions(NamedTuple):
    """A model as the library takes it."""

    apply_fn: ApplyFn
    init_fn: Callable[[Array], tuple[Params, ModelState]]  # from a key


class NNXRecipe(NamedTuple):
    """An NNX model before its weights are drawn."""

    make: Callable[..., Any]  # called with `rngs=nnx.Rngs(...)`


def normalise(mean: Sequence[float], std: Sequence[float], scale: float) -> Preprocess:
    """Make the function `(inputs / scale − mean) / std`, per channel, from stored values to float32.

    Args:
        mean: per channel (last axis) of inputs divided by `scale`.
        std: likewise, positive.
        scale: positive, e.g. 255 for uint8 images.

    Returns:
        A function from [B, ..., channels] of any number type to float32 of the same shape.

    Raises:
        ValueError: if lengths differ, a value is not finite, or `std` or `scale` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> normalise((0.5,), (0.25,), 255.0)(jnp.array([[0], [255]], jnp.uint8)).tolist()
        [[-2.0], [2.0]]
    """
    if len(mean) != len(std) or not np.isfinite([*mean, *std, scale]).all() or min([*std, scale]) <= 0:
        raise ValueError(
            f"mean, std, scale are {mean}, {std}, {scale}: as many finite means as stds, std and scale > 0; pass those "
            "of a validated Dataset"
        )
    means, stds = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def preprocess(inputs: Array) -> Array:
        return (inputs.astype(jnp.float32) / np.float32(scale) - means) / stds

    return preprocess


def _augmented(augment: Augment | None, inputs: Array, rng_key: Array | None) -> tuple[Array, Array | None]:
    """Training inputs, and the key that is left for the model: all of it where nothing is augmented."""
    if augment is None:
        return inputs, rng_key
    if rng_key is None:
        raise ValueError("rng_key is None: training draws an augmentation from it; pass a key")
    augment_key, model_key = jax.random.split(rng_key)
    return augment(augment_key, inputs), model_key


def linen_apply_fn(module: nn.Module, preprocess: Preprocess, augment: Augment | None = None) -> ApplyFn:
    """Wrap a Linen module whose `__call__` is `(inputs)` or `(inputs, train)`.

    Args:
        module: called as `module.apply(variables, preprocess(inputs))`, and with `train=train` where its `__call__` has
            that argument. Its random stream, if any, is "dropout".
        preprocess: from stored inputs to what the module takes, e.g. `normalise(...)`.
        augment: applied to stored inputs before `preprocess`, in training only, e.g. `augment.create(...)`.

    Returns:
        `apply_fn(params, model_state, inputs, *, train, rng_key) -> (logits, new_model_state)`; the state is returned
        as it came unless `train`.

    Raises:
        ValueError: (from `apply_fn`) if an augmented model is trained without `rng_key`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from ugclu_jax.models import create
        >>> module, preprocess = create("mlp", 10, input_shape=(8, 8, 1)), normalise((0.5,), (0.3,), 255.0)
        >>> images = jnp.zeros((2, 8, 8, 1), jnp.uint8)
        >>> params, model_state = linen_init(module, preprocess, jax.random.key(0), images)
        >>> apply_fn = linen_apply_fn(module, preprocess)
        >>> logits, model_state = apply_fn(params, model_state, images, train=True, rng_key=None)
        >>> logits.shape, model_state
        ((2, 10), {})
    """

    has_train = _has_train(module)

    def apply_fn(
        params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
    ) -> tuple[Array, ModelState]:
        variables = {"params": params, **model_state}
        mode: dict[str, Any] = {"train": train} if has_train else {}
        if not train:
            # Flax's type has the pair in it that `apply` returns where collections are mutable; here none is.
            return cast(Array, module.apply(variables, preprocess(inputs), **mode)), model_state
        inputs, model_key = _augmented(augment, inputs, rng_key)
        rngs = None if model_key is None else {"dropout": model_key}
        return module.apply(variables, preprocess(inputs), **mode, mutable=list(model_state), rngs=rngs)

    return apply_fn


def linen_init(module: nn.Module, preprocess: Preprocess, rng_key: Array, inputs: Array) -> tuple[Params, ModelState]:
    """Initialise a Linen module; `jax.vmap` over `rng_key` gives several seeds at once.

    Args:
        module: as for `linen_apply_fn`.
        preprocess: as for `linen_apply_fn`.
        rng_key: of the weights.
        inputs: [B, ...] as stored; only shape and dtype matter, one example is enough.

    Returns:
        `(params, model_state)`; the state is an empty dict for a model without any.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from ugclu_jax.models import create
        >>> images = jnp.zeros((1, 8, 8, 1), jnp.uint8)
        >>> module, preprocess = create("mlp", 10, input_shape=(8, 8, 1)), normalise((0.5,), (0.3,), 16.0)
        >>> params, model_state = linen_init(module, preprocess, jax.random.key(0), images)
        >>> sorted(params), model_state
        (['Dense_0', 'Dense_1', 'Dense_2'], {})
    """
    mode: dict[str, Any] = {"train": False} if _has_train(module) else {}
    variables = module.init(rng_key, preprocess(inputs), **mode)
    return variables["params"], {name: value for name, value in variables.items() if name != "params"}


def _has_train(module: nn.Module) -> bool:
    """Whether a module's `__call__` tells training from evaluation; one that takes any keyword (`nn.Sequential`) hands
    them on, and does not.
    """
    return "train" in inspect.signature(type(module).__call__).parameters


def nnx_split(model: Any, preprocess: Preprocess, augment: Augment | None = None) -> tuple[Params, ModelState, ApplyFn]:
    """Take an NNX model apart into pure dicts of arrays and an `apply_fn` that puts it together for each call.

    Random streams (Dropout) are no part of `model_state`: each training call reseeds them from its `rng_key`, so equal
    keys give equal results and the state holds numbers only.

    Args:
        model: an `nnx.Module` called as `model(inputs)` that heeds `model.train()` and `model.eval()`.
        preprocess: from stored inputs to what the model takes.
        augment: as for `linen_apply_fn`.

    Returns:
        `(params, model_state, apply_fn)`; later changes of `model` do not reach them.

    Raises:
        ValueError: (from `apply_fn`) if a model with random streams or an augmentation is trained without `rng_key`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> params, model_state, apply_fn = nnx_split(model, normalise((0.5,) * 3, (0.3,) * 3, 255.0))
        >>> logits, _ = apply_fn(params, model_state, jnp.zeros((4, 3), jnp.uint8), train=True, rng_key=None)
        >>> sorted(params), logits.shape
        (['bias', 'kernel'], (4, 2))
    """
    from flax import nnx  # half a second that only users of NNX need to spend

    tags = sorted({node.key.tag for _, node in nnx.iter_graph(model) if isinstance(node, nnx.RngStream)})
    graph, *states = nnx.split(model, nnx.Param, nnx.RngState, ...)
    # Pure dicts: merging nnx.State inside a gradient would change variables of an outer trace, which JAX forbids.
    params, streams, model_state = map(nnx.to_pure_dict, states)

    def apply_fn(
        params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
    ) -> tuple[Array, ModelState]:
        merged = nnx.merge(graph, params, streams, model_state)
        if not train:
            merged.eval()
            return merged(preprocess(inputs)), model_state
        merged.train()
        inputs, model_key = _augmented(augment, inputs, rng_key)
        if tags:
            if model_key is None:
                raise ValueError(f"rng_key is None: training this model draws from {', '.join(tags)}; pass a key")
            keys: dict[str, Any] = {tag: jax.random.fold_in(model_key, i) for i, tag in enumerate(tags)}
            nnx.reseed(merged, **keys)
        logits = merged(preprocess(inputs))
        return logits, nnx.to_pure_dict(nnx.state(merged, nnx.Not(nnx.Any(nnx.Param, nnx.RngState))))

    return params, model_state, apply_fn


def nnx_functions(recipe: NNXRecipe, preprocess: Preprocess, augment: Augment | None = None) -> Functions:
    """`nnx_split` of a model that is made anew for every key.

    Args:
        recipe: of the model; its structure must not depend on `rngs`.
        preprocess, augment: as for `nnx_split`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> recipe = NNXRecipe(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
        >>> apply_fn, init_fn = nnx_functions(recipe, lambda x: x)
        >>> params, model_state = jax.vmap(init_fn)(jax.random.split(jax.random.key(0), 4))
        >>> params["kernel"].shape, model_state
        ((4, 3, 2), {})
    """
    from flax import nnx  # half a second that only users of NNX need to spend

    _, _, apply_fn = nnx_split(recipe.make(rngs=nnx.Rngs(0)), preprocess, augment)

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        params, model_state, _ = nnx_split(recipe.make(rngs=nnx.Rngs(rng_key)), preprocess)
        return params, model_state

    return Functions(apply_fn, init_fn)


def augmented(apply_fn: ApplyFn, augment: Augment | None) -> ApplyFn:
    """A function that sees augmented inputs in training; the same function where nothing is augmented.

    Args:
        apply_fn: of inputs as stored.
        augment: as for `linen_apply_fn`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
        >>> doubled = augmented(linear, lambda key, inputs: 2 * inputs)
        >>> doubled(jnp.ones((1, 1)), {}, jnp.ones((1, 1)), train=True, rng_key=jax.random.key(0))[0].tolist()
        [[2.0]]
    """
    if augment is None:
        return apply_fn

    def of_augmented(
        params: Params, model_state: ModelState, inputs: Array, *, train: bool, rng_key: Array | None
    ) -> tuple[Array, ModelState]:
        if train:
            inputs, rng_key = _augmented(augment, inputs, rng_key)
        return apply_fn(params, model_state, inputs, train=train, rng_key=rng_key)

    return of_augmented
