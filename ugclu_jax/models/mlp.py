"""A multilayer perceptron."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import head_product
from ugclu_jax.types import Array


class MLP(nn.Module):
    """Flatten, then dense layers with ReLU between them.

    Attributes:
        num_classes: C.
        features: width of each hidden layer.
        dtype: of the computation; parameters and logits are float32.

    Example:
        >>> import jax
        >>> images = jnp.zeros((2, 8, 8, 1))
        >>> logits, _ = MLP(num_classes=10).init_with_output(jax.random.key(0), images, train=False)
        >>> logits.shape
        (2, 10)
    """

    num_classes: int
    features: tuple[int, ...] = (64, 64)
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, ...] to logits [B, C]; nothing depends on `train`, which every bundled model accepts."""
        x = inputs.reshape(inputs.shape[0], -1)
        for width in self.features:
            x = nn.relu(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.num_classes, dot_general=head_product, dtype=jnp.promote_types(self.dtype, jnp.float32))(x)
