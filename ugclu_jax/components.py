"""The four components of the steepest descent direction, and their Euclidean combination (Proposition 1).

    θ_{k+1} − θ_k ≈ −α_k [ p_R · g_R + p_L · S_L g_L + p_U · S_U g_U ]

| component  | function                  | definition                                                      |
|------------|---------------------------|-----------------------------------------------------------------|
| learning   | `learning_gradient`       | `g_L = +∇ mean_i ε_i ℓ_i(θ)` over a batch of new data           |
| unlearning | `unlearning_gradient`     | `g_U = −∇ mean_i ε_i ℓ_i(θ)` over a batch to remove: ascent     |
| preserving | `preserving_gradient`     | `g_R = +∇ mean_i ℓ_i(θ)` over a batch of remaining data         |
| modulation | `modulate`                | `S ⊙ g`, in practice a saliency mask                            |

The sums of the paper are means over the mini-batch here, padding excluded: a change of the step size only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.coefficients import CoefficientFn, uniform
from ugclu_jax.losses import cross_entropy, soft_cross_entropy
from ugclu_jax.types import ApplyFn, Array, Batch, ModelState, Params, PyTree, Rows

LossesFn = Callable[[Array, Batch], Array]
"""`(logits [B, C], batch) -> losses [B]`: what an example costs."""


class Component(NamedTuple):
    """A gradient component, with what its forward pass yields on the way."""

    gradient: Params  # like params
    model_state: ModelState  # after the forward pass; unchanged where the batch was all padding
    loss: Array  # [] unweighted mean loss of the batch, padding excluded; 0 for a batch of padding
    logits: Array  # [B, C] of that forward pass; under `axis_name` of this device's part


class Shares(NamedTuple):
    """`p_R, p_L, p_U` of Proposition 1: the shares of the data, non-negative."""

    remain: Array | float
    learn: Array | float = 0.0
    unlearn: Array | float = 0.0


def batch_losses(logits: Array, batch: Batch) -> Array:
    """`[B]` cross-entropy to the labels, or to the targets where the batch has them.

    >>> import jax.numpy as jnp
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1), targets=jnp.array([[0.0, 1.0]]))
    >>> bool(batch_losses(jnp.array([[-9.0, 9.0]]), batch)[0] < 1e-6)
    True
    """
    return cross_entropy(logits, batch.labels) if batch.targets is None else soft_cross_entropy(logits, batch.targets)


def weighted_gradient(
    apply_fn: ApplyFn,
    params: Params,
    model_state: ModelState,
    batch: Batch,
    coefficient_fn: CoefficientFn = uniform,
    *,
    losses_fn: LossesFn = batch_losses,
    train: bool = True,
    rng_key: Array | None = None,
    axis_name: str | None = None,
) -> Component:
    """`∇_θ [ Σ_i v_i ε_i ℓ_i(θ) / Σ_i v_i ]`, `v` the batch weights and `ε` the coefficients, held constant.

    Args:
        apply_fn: the model.
        params: tree of parameters.
        model_state: mutable statistics of the model.
        batch: `[B]` examples; weight 0 marks padding.
        coefficient_fn: from the losses of this very forward pass to `ε [B]`.
        losses_fn: from the logits to `ℓ [B]`.
        train: whether the model runs in training mode.
        rng_key: key for the model (dropout), or None where it needs none. Under `axis_name` each device folds in its
            place, so that its rows are not treated like those of another.
        axis_name: mapped axis that splits the batch; gradient, state and loss are then those of the whole batch.

    Returns:
        The component. A batch of padding has gradient 0 and leaves `model_state` alone.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.eye(2), jnp.array([0, 1]), jnp.ones(2))
    >>> weighted_gradient(linear, jnp.zeros((2, 2)), {}, batch).gradient.tolist()
    [[-0.25, 0.25], [0.25, -0.25]]

    Raises:
        ValueError: `apply_fn` or `losses_fn` returns something of another form or shape than it must.

    References: arXiv 2505.15178, Proposition 1.
    """
    count = jnp.sum(batch.weights)
    if axis_name:
        count = lax.psum(count, axis_name)
        rng_key = None if rng_key is None else jax.random.fold_in(rng_key, lax.axis_index(axis_name))
    safe_count = jnp.maximum(count, 1.0)

    def losses_of(params: Params) -> tuple[Array, tuple[ModelState, Array]]:
        returned = apply_fn(params, model_state, batch.inputs, train=train, rng_key=rng_key)
        logits, new_state = _checked_outputs(returned, model_state, batch.labels.shape)
        losses = losses_fn(logits, batch)
        _assert_shape(losses, batch.labels.shape, "losses_fn must return one loss an example, [B]")
        return losses, (new_state, logits)

    losses, pull_back, (new_state, logits) = jax.vjp(losses_of, params, has_aux=True)
    # The coefficients enter as the cotangent: constants of this gradient, and yet a hypergradient of what is made of it
    # still sees how they follow the losses. A stop_gradient here would cut that path too.
    cotangent = batch.weights * coefficient_fn(losses, batch.weights) / safe_count
    (gradient,) = pull_back(cotangent.astype(losses.dtype))
    loss = jnp.sum(batch.weights * losses) / safe_count
    if axis_name:
        gradient, loss = lax.psum((gradient, loss), axis_name)
        # Equal on all devices where the model normalises across them; a mean of states that are averages of batches.
        new_state = lax.pmean(new_state, axis_name)
    new_state = jax.tree.map(lambda new, old: jnp.where(count > 0, new, old), new_state, model_state)
    return Component(gradient, new_state, loss, logits)


def _assert_shape(array: Array, shape: tuple[int | None, ...], rule: str) -> None:
    chex.assert_shape(array, shape, custom_message=rule, exception_type=ValueError)


def _checked_outputs(returned: Any, model_state: ModelState, examples: tuple[int, ...]) -> tuple[Array, ModelState]:
    """What a user's model returned, right after it did: later a wrong form would surface far from its cause."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ValueError(f"apply_fn must return (logits [B, C], new_model_state), got {type(returned).__name__}")
    logits, new_state = returned
    _assert_shape(logits, (*examples, None), "apply_fn must return logits [B, C]")
    given: Any = jax.tree.structure(model_state)
    found: Any = jax.tree.structure(new_state)
    if found != given:
        raise ValueError(f"apply_fn must return a model_state of the structure that it was given, {given}, got {found}")
    return logits, new_state


def number_of_classes(apply_fn: ApplyFn, params: Params, model_state: ModelState, inputs: Rows) -> int:
    """C, of the logits that a model gives; nothing is computed.

    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> number_of_classes(linear, jnp.ones((4, 3)), {}, jnp.ones((9, 4)))
    3
    """
    one = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)

    def outputs(params: Params, model_state: ModelState, inputs: Array) -> Any:
        return apply_fn(params, model_state, inputs, train=False, rng_key=None)

    returned = jax.eval_shape(outputs, params, model_state, one)
    return _checked_outputs(returned, model_state, (1,))[0].shape[-1]


def check_num_classes(
    num_classes: int, apply_fn: ApplyFn, params: Params, model_state: ModelState, inputs: Rows
) -> None:
    """Refuse a method made for another number of classes than its model has.

    Raises:
        ValueError: naming both.
    """
    found = number_of_classes(apply_fn, params, model_state, inputs)
    if found != num_classes:
        raise ValueError(f"num_classes is {num_classes}, and the model gives logits of {found} classes: make both one")


def learning_gradient(
    apply_fn: ApplyFn,
    params: Params,
    model_state: ModelState,
    batch: Batch,
    coefficient_fn: CoefficientFn = uniform,
    *,
    rng_key: Array | None = None,
    axis_name: str | None = None,
) -> Component:
    """Learning component `g_L = +∇ mean_i ε^L_i ℓ_i(θ)`: a step against it acquires the batch.

    Arguments and result as in `weighted_gradient`, in training mode.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> learning_gradient(linear, jnp.zeros((1, 2)), {}, batch).gradient.tolist()
    [[-0.5, 0.5]]

    References: arXiv 2505.15178, Proposition 1, first term.
    """
    return weighted_gradient(apply_fn, params, model_state, batch, coefficient_fn, rng_key=rng_key, axis_name=axis_name)


def unlearning_gradient(
    apply_fn: ApplyFn,
    params: Params,
    model_state: ModelState,
    batch: Batch,
    coefficient_fn: CoefficientFn = uniform,
    *,
    rng_key: Array | None = None,
    axis_name: str | None = None,
) -> Component:
    """Unlearning component `g_U = −∇ mean_i ε^U_i ℓ_i(θ)`: a step against it raises the loss of the batch.

    Arguments and result as in `weighted_gradient`, in training mode; `loss` keeps its sign.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
    >>> unlearning_gradient(linear, jnp.zeros((1, 2)), {}, batch).gradient.tolist()
    [[0.5, -0.5]]

    References: arXiv 2505.15178, Proposition 1, second term.
    """
    ascent = weighted_gradient(
        apply_fn, params, model_state, batch, coefficient_fn, rng_key=rng_key, axis_name=axis_name
    )
    return ascent._replace(gradient=jax.tree.map(jnp.negative, ascent.gradient))


def preserving_gradient(
    apply_fn: ApplyFn,
    params: Params,
    model_state: ModelState,
    batch: Batch,
    *,
    rng_key: Array | None = None,
    axis_name: str | None = None,
) -> Component:
    """Preserving component `g_R = +∇ mean_i ℓ_i(θ)` on remaining data (the buffer), unweighted.

    Arguments and result as in `weighted_gradient`, in training mode.

    >>> import jax.numpy as jnp
    >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
    >>> padding = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.zeros(1))
    >>> float(jnp.abs(preserving_gradient(linear, jnp.zeros((1, 2)), {}, padding).gradient).max())
    0.0

    References: arXiv 2505.15178, Proposition 1, third term.
    """
    return weighted_gradient(apply_fn, params, model_state, batch, uniform, rng_key=rng_key, axis_name=axis_name)


def modulate(mask: PyTree | None, gradient: Params) -> Params:
    """Modulation `S_Q g`, here an element-wise mask `m ⊙ g`; `None` stands for a mask of ones.

    Args:
        mask: a tree like params with values in [0, 1], see `saliency.make_mask`.
        gradient: a tree like params.

    Returns:
        A tree like params.

    >>> import jax.numpy as jnp
    >>> modulate(jnp.array([0.0, 1.0]), jnp.array([3.0, 4.0])).tolist()
    [0.0, 4.0]

    References: arXiv 2505.15178, Proposition 1 (`S_Q = H_Q H_R^{-1}`) and its practical binary mask.
    """
    return gradient if mask is None else jax.tree.map(jnp.multiply, mask, gradient)


def euclidean_direction(
    shares: Shares,
    *,
    remain: Params,
    learn: Params | None = None,
    unlearn: Params | None = None,
    learn_mask: PyTree | None = None,
    unlearn_mask: PyTree | None = None,
) -> Params:
    """Steepest direction under the Euclidean metric, `p_R g_R + p_L S_L g_L + p_U S_U g_U`; step against it.

    Args:
        shares: `p_R, p_L, p_U`.
        remain, learn, unlearn: gradients of the components; an absent one counts as 0.
        learn_mask, unlearn_mask: modulation of the two task components; None is a mask of ones.

    Returns:
        A tree like params.

    >>> import jax.numpy as jnp
    >>> g = jnp.array([1.0, 2.0])
    >>> euclidean_direction(Shares(0.5, unlearn=0.5), remain=g, unlearn=-g, unlearn_mask=jnp.array([1.0, 0.0])).tolist()
    [0.0, 1.0]

    References: arXiv 2505.15178, Proposition 1.
    """
    direction = jax.tree.map(lambda g: shares.remain * g, remain)
    for share, gradient, mask in ((shares.learn, learn, learn_mask), (shares.unlearn, unlearn, unlearn_mask)):
        if gradient is not None:
            direction = jax.tree.map(lambda d, g, share=share: d + share * g, direction, modulate(mask, gradient))
    return direction
