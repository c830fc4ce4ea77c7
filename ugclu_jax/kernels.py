"""Which leaves of a tree of parameters are kernels: of convolutions, told by their four axes, or matrices.

A kernel of a convolution of pictures is `[height, width, in, out]`, as Flax, Haiku and XLA have it; nothing else in the
bundled models has four axes. Kernels of one or three spatial axes are not told from other arrays.
"""

import jax
import jax.numpy as jnp

from ugclu_jax.types import Params, PyTree

CONVOLUTION_AXES = 4


def convolutions(params: Params) -> PyTree:
    """Which leaves are kernels of convolutions: a tree like params of bool.

    >>> convolutions({"conv": jnp.zeros((3, 3, 1, 8)), "bias": jnp.zeros(8)})
    {'bias': False, 'conv': True}
    """
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) == CONVOLUTION_AXES, params)


def kernels(params: Params) -> PyTree:
    """Kernels of convolutions where there are any, else every leaf of two or more axes: a tree like params of bool.

    >>> kernels({"conv": jnp.zeros((3, 3, 1, 8)), "head": jnp.zeros((8, 2))})
    {'conv': True, 'head': False}
    >>> kernels({"bias": jnp.zeros(2), "head": jnp.zeros((8, 2))})
    {'bias': False, 'head': True}
    """
    found = convolutions(params)
    return found if any(jax.tree.leaves(found)) else jax.tree.map(lambda leaf: jnp.ndim(leaf) >= 2, params)
