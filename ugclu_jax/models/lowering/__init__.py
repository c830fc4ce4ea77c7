"""How the products of a network run on this machine: convolutions, and the classification head. The one door to them.

On CPU, inside of loops, XLA's own gradient convolutions are 6 to 100 times slower than outside; what stands here avoids
them. `fast_conv` makes primitives of its own, whose rules lean on `jax.interpreters.{ad, batching, mlir}`. No other
file of the library does, so this folder is the one place that a release of JAX can break; the lowering "native" does
without it.
"""

from ugclu_jax.models.lowering.conv import LOWERINGS, Lowering, conv_general_dilated, resolve
from ugclu_jax.models.lowering.head import head_product

__all__ = ["LOWERINGS", "Lowering", "conv_general_dilated", "head_product", "resolve"]
