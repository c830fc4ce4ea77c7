"""Where a step stands: the network, the moment of the request, and what was made once for all its steps."""

from typing import Any, NamedTuple

import jax

from ugclu_jax.coefficients import CoefficientFn, uniform
from ugclu_jax.components import Component, LossesFn, batch_losses, weighted_gradient
from ugclu_jax.loop import Moment
from ugclu_jax.types import ApplyFn, Array, Batch, ModelState, Params, PyTree


class At(NamedTuple):
    """What a direction may read beside its batches and its hyperparameters.

    Attributes:
        apply_fn: the model.
        params, model_state: θ_k and the model's mutable statistics.
        rng_key: of this step, consumed once; None where the model needs none.
        moment: k and the share of the request that is left.
        known: what `prepare` made once for the request.
        memory: the method's own memory.
        mask: of the weights that may change, a tree like params, or None for ones.
        axis_name: mapped axis that splits the batches.
    """

    apply_fn: ApplyFn
    params: Params
    model_state: ModelState
    rng_key: Array | None = None
    moment: Moment = Moment()
    known: Any = None
    memory: PyTree = None
    mask: PyTree | None = None
    axis_name: str | None = None

    def split(self, number: int) -> list["At"]:
        """As many of them, each with a key of its own.

        >>> [at.rng_key for at in At(lambda *a, **k: None, {}, {}).split(2)]
        [None, None]
        """
        keys = [None] * number if self.rng_key is None else jax.random.split(self.rng_key, number)
        return [self._replace(rng_key=key) for key in keys]

    def gradient(
        self,
        batch: Batch,
        coefficient_fn: CoefficientFn = uniform,
        *,
        losses_fn: LossesFn = batch_losses,
        train: bool = True,
    ) -> Component:
        """`components.weighted_gradient` of a batch here: a descent of its loss.

        >>> import jax.numpy as jnp
        >>> linear = lambda params, state, x, *, train, rng_key: (x @ params, state)
        >>> batch = Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.ones(1))
        >>> At(linear, jnp.zeros((1, 2)), {}).gradient(batch).gradient.tolist()
        [[-0.5, 0.5]]
        """
        return weighted_gradient(
            self.apply_fn,
            self.params,
            self.model_state,
            batch,
            coefficient_fn,
            losses_fn=losses_fn,
            train=train,
            rng_key=self.rng_key if train else None,  # in evaluation mode a model draws nothing
            axis_name=self.axis_name,
        )

    def logits(self, network: tuple[Params, ModelState], inputs: Array) -> Array:
        """Outputs of another network, a teacher, in evaluation mode; constants of every gradient."""
        return self.apply_fn(*network, inputs, train=False, rng_key=None)[0]
