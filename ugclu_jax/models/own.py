"""A model of one's own by name, `package.module:attribute`: a Linen or NNX class, or a factory of two functions.

    class Net(nn.Module):                          flax.linen: num_classes where it has such a field
    class Net(nnx.Module):                         flax.nnx: its __init__ takes rngs, and num_classes where it likes
    def net(num_classes, input_shape):             anything else in JAX
        return apply_fn, init_fn

Classes are also given `input_shape` (of one example) and, where inputs are token ids, `vocabulary_size`, if they have
a field or an argument of that name. They see normalised inputs. The factory's `apply_fn` is an `ApplyFn`, which sees
inputs as they are stored, and `init_fn(rng_key)` returns `(params, model_state)`.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NoReturn

import flax.linen as nn
import jax

from ugclu_jax import named
from ugclu_jax.models.adapters import (
    Functions,
    NNXRecipe,
    Preprocess,
    augmented,
    linen_apply_fn,
    linen_init,
    nnx_functions,
)
from ugclu_jax.types import Array, Augment, PyTree

Model = nn.Module | NNXRecipe | Functions
_KINDS = "a Flax Linen or NNX module class, or a function (num_classes, input_shape) -> (apply_fn, init_fn)"


def load_model(name: str, num_classes: int, input_shape: tuple[int, ...], vocabulary_size: int | None = None) -> Model:
    """What a name stands for, made for these data.

    Args:
        name: `package.module:attribute`.
        num_classes: C.
        input_shape: of one example.
        vocabulary_size: ids are below it; None = the inputs are not tokens.

    Returns:
        A Linen module, a recipe of an NNX module, or the two functions of a factory, for `functions`.

    Raises:
        ValueError: nothing of that name, or nothing that can be made into a model.

    >>> load_model("ugclu_jax.models.mlp:MLP", 10, (8, 8, 1)).num_classes
    10
    >>> load_model("ugclu_jax.models.mlp:nn", 10, (8, 8, 1))
    Traceback (most recent call last):
        ...
    ValueError: model is 'ugclu_jax.models.mlp:nn': it is a module; it must be a Flax Linen or NNX module class, or a \
function (num_classes, input_shape) -> (apply_fn, init_fn)
    """
    target = named.load("model", name)
    offered: dict[str, Any] = {"num_classes": num_classes, "input_shape": input_shape}
    if vocabulary_size is not None:
        offered["vocabulary_size"] = vocabulary_size
    if inspect.isclass(target) and issubclass(target, nn.Module):
        return target(**_accepted(name, target, offered))
    if inspect.isclass(target) and _is_nnx(target):
        accepted = _accepted(name, target, offered | {"rngs": None})
        if "rngs" not in accepted:
            _refuse(name, f"{target.__name__} takes no rngs, from which its weights are drawn; add that argument")
        return NNXRecipe(functools.partial(target, **{k: v for k, v in accepted.items() if k != "rngs"}))
    if inspect.isclass(target) or not callable(target) or isinstance(target, nn.Module) or _is_nnx(type(target)):
        kind = f"the class {target.__name__}" if inspect.isclass(target) else f"a {type(target).__name__}"
        _refuse(name, f"it is {kind}; it must be {_KINDS}")
    try:
        inspect.signature(target).bind(num_classes, input_shape)
    except TypeError as error:
        _refuse(name, f"it cannot be called with (num_classes, input_shape): {error}; it must be {_KINDS}")
    found = target(num_classes, input_shape)
    if not isinstance(found, tuple) or len(found) != 2 or not all(map(callable, found)):
        _refuse(name, f"it returns {_brief(found)}; it must return the functions (apply_fn, init_fn)")
    return Functions(*found)


def functions(model: Model, preprocess: Preprocess, inputs: Array, augment: Augment | None = None) -> Functions:
    """The two functions of a model.

    Args:
        model: from `load_model` or `create`.
        preprocess: from stored inputs to what a module takes; a factory's functions see inputs as stored.
        inputs: [B, ...] as stored; only shape and dtype matter, one example is enough.
        augment: applied to stored inputs, in training only.

    >>> import jax.numpy as jnp
    >>> model = load_model("ugclu_jax.models.mlp:MLP", 3, (4,))
    >>> apply_fn, init_fn = functions(model, lambda x: x, jnp.zeros((1, 4)))
    >>> apply_fn(*init_fn(jax.random.key(0)), jnp.zeros((2, 4)), train=False, rng_key=None)[0].shape
    (2, 3)
    """
    if isinstance(model, NNXRecipe):
        return nnx_functions(model, preprocess, augment)
    if isinstance(model, Functions):
        return Functions(augmented(model.apply_fn, augment), model.init_fn)
    return Functions(
        linen_apply_fn(model, preprocess, augment), lambda rng_key: linen_init(model, preprocess, rng_key, inputs)
    )


def check_fit(name: str, found: Functions, inputs: Array, num_classes: int) -> None:
    """Refuse a model whose functions do not return what the library needs; nothing is computed.

    Args:
        name: by which the user named it.
        found: its functions.
        inputs: [B, ...] as stored; only shape and dtype matter.
        num_classes: C.

    Raises:
        ValueError: `init_fn` returns no `(params, model_state)`, `apply_fn` no `(logits [B, C], model_state)`, or a
            state that training changes in structure, shapes or types.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> check_fit("my.net:net", Functions(linear, lambda key: (jnp.ones((4, 5)), {})), jnp.zeros((1, 4)), 3)
    Traceback (most recent call last):
        ...
    ValueError: model is 'my.net:net': its outputs for 2 examples have the shape (2, 5); it must be (2, 3), a number \
for each class: let its last layer have num_classes
    """
    key = jax.random.key(0)
    network = jax.eval_shape(found.init_fn, key)
    if not _is_pair(network):
        _refuse(name, f"its init_fn returns {_brief(network)}; it must return (params, model_state)")
    batch = jax.ShapeDtypeStruct((2, *inputs.shape[1:]), inputs.dtype)
    for train in (False, True):
        result = jax.eval_shape(functools.partial(_call, found.apply_fn, train), network, batch, key)
        if not _is_pair(result):
            _refuse(name, f"its apply_fn returns {_brief(result)}; it must return (logits, model_state)")
        logits, model_state = result
        if getattr(logits, "shape", None) != (2, num_classes):
            shape = getattr(logits, "shape", _brief(logits))
            _refuse(
                name,
                f"its outputs for 2 examples have the shape {shape}; it must be (2, {num_classes}), a number for each "
                "class: let its last layer have num_classes",
            )
        if _description(model_state) != _description(network[1]):
            _refuse(
                name,
                f"its model_state is {_brief(_description(network[1]))} from init_fn and "
                f"{_brief(_description(model_state))} from apply_fn; they must agree in structure, shapes and types",
            )


def _call(apply_fn: Any, train: bool, network: tuple[PyTree, PyTree], inputs: Array, rng_key: Array) -> Any:
    return apply_fn(*network, inputs, train=train, rng_key=rng_key if train else None)


def _description(tree: PyTree) -> tuple[str, list[str]]:
    leaves, structure = jax.tree.flatten(tree)
    return str(structure), [f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves]


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _is_nnx(kind: type) -> bool:
    """Without the import of NNX, half a second that only its users need to spend."""
    return any(base.__module__.startswith("flax.nnx") and base.__name__ == "Module" for base in kind.__mro__)


def _accepted(name: str, kind: type, offered: Mapping[str, Any]) -> dict[str, Any]:
    """What of `offered` a class takes."""
    # Of `__init__`, for the metaclass of NNX hides it.
    _, *own = inspect.signature(inspect.getattr_static(kind, "__init__")).parameters.values()
    parameters = {parameter.name: parameter for parameter in own}
    given = {key: value for key, value in offered.items() if key in parameters}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in variable and key not in given
    ]
    if missing:
        _refuse(
            name,
            f"{kind.__name__} needs {', '.join(missing)}, and is given {', '.join(offered)} alone; give it a default "
            "for the rest",
        )
    return given


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse(name: str, problem: str) -> NoReturn:
    raise ValueError(f"model is {name!r}: {problem}")
