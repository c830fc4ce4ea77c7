"""Batch normalisation, with the rectifier that follows it, in as few passes over the activations as it takes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from ugclu_jax.models.lowering import Lowering, resolve
from ugclu_jax.types import Array

Normalised = tuple[Array, Array, Array]
"""y of the shape of x, and mean and biased variance [channels] of the batch."""


class BatchNorm(nn.Module):
    """y = (x − mean) · scale / √(var + ε) + bias, then max(y, 0) if `relu`: `nn.BatchNorm`, its parameters and state.

    Attributes:
        use_running_average: take the recorded statistics and record nothing, not those of the batch.
        momentum: what the recorded statistics keep of themselves.
        epsilon: ε.
        dtype: of the result, None = of the input and the parameters; statistics are float32 at least.
        axis_name: mapped axis of devices over which the statistics of a batch are taken.
        relu: whether max(·, 0) follows.
        lowering: of the convolutions beside it: where that is "fast", training has derivatives of its own, with one
            pass less over the activations and the same values.

    Example:
        >>> norm = BatchNorm(use_running_average=False, relu=True)
        >>> y, variables = norm.init_with_output(jax.random.key(0), jnp.array([[1.0], [3.0]]))
        >>> y.round(2).tolist(), jax.tree.map(jnp.shape, variables["batch_stats"])
        ([[0.0], [1.0]], {'mean': (1,), 'var': (1,)})

    References:
        Ioffe and Szegedy, Batch Normalization, arXiv 1502.03167, algorithm 1.
    """

    use_running_average: bool
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    axis_name: str | None = None
    relu: bool = False
    lowering: Lowering = "auto"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., channels] to the same shape."""
        shape = x.shape[-1:]
        means = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variances = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        dtype = jnp.result_type(x, scale) if self.dtype is None else self.dtype
        wide = jnp.promote_types(jnp.result_type(x, dtype), jnp.float32)
        x, scale, bias = x.astype(wide), scale.astype(wide), bias.astype(wide)
        if self.use_running_average:
            y = _affine(x, means.value, variances.value, scale, bias, self.epsilon, self.relu)
            return y.astype(dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        if resolve(self.lowering) == "fast":
            y, mean, variance = _fused(x, scale, bias, self.epsilon, self.relu, axis_name)
        else:
            mean, variance = _statistics(x, axis_name)
            y = _affine(x, mean, variance, scale, bias, self.epsilon, self.relu)
        if not self.is_initializing():
            means.value = self.momentum * means.value + (1 - self.momentum) * mean
            variances.value = self.momentum * variances.value + (1 - self.momentum) * variance
        return y.astype(dtype)


def _means(first: Array, second: Array, axis_name: str | None) -> Array:
    """[2, channels] means of two arrays [..., channels] over the batch, of all devices in one exchange."""
    axes = tuple(range(first.ndim - 1))
    means = jnp.stack([first.mean(axes), second.mean(axes)])
    return means if axis_name is None else lax.pmean(means, axis_name)


def _statistics(x: Array, axis_name: str | None) -> tuple[Array, Array]:
    mean, square = _means(x, lax.square(x), axis_name)
    return mean, jnp.maximum(square - lax.square(mean), 0)  # rounding may leave the difference below 0


def _affine(x: Array, mean: Array, variance: Array, scale: Array, bias: Array, epsilon: float, relu: bool) -> Array:
    y = (x - mean) * (scale * lax.rsqrt(variance + epsilon)) + bias
    return nn.relu(y) if relu else y


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _fused(x: Array, scale: Array, bias: Array, epsilon: float, relu: bool, axis_name: str | None) -> Normalised:
    mean, variance = _statistics(x, axis_name)
    return _affine(x, mean, variance, scale, bias, epsilon, relu), mean, variance


@_fused.defjvp
def _fused_derivative(
    epsilon: float,
    relu: bool,
    axis_name: str | None,
    primals: tuple[Array, ...],
    tangents: tuple[Array, ...],
) -> tuple[Normalised, Normalised]:
    """With a = scale / √(var + ε), and d for a tangent:

        d mean = mean(dx)      d var = 2 mean((x − mean) dx)      da = a (d scale / scale − ½ d var / (var + ε))
        dy = [y > 0] (a dx + (x − mean) da + (d bias − a d mean))

    Transposed, that is two sums over the batch, Σ g and Σ g (x − mean) with g = [y > 0] dy, and one pass that makes
    dx; the rule of a composition has a third sum. Mask and x − mean are cheaper made again than kept.
    """
    x, scale, bias = primals
    dx, dscale, dbias = tangents
    y, mean, variance = _fused(x, scale, bias, epsilon, relu, axis_name)
    inverse, centred = lax.rsqrt(variance + epsilon), x - mean
    factor = scale * inverse
    dmean, dcentred = _means(dx, centred * dx, axis_name)
    dvariance = 2 * dcentred
    dfactor = inverse * dscale - 0.5 * factor * lax.square(inverse) * dvariance
    dy = factor * dx + centred * dfactor + (dbias - factor * dmean)
    if relu:
        dy = jnp.where(centred * factor + bias > 0, dy, 0)
    return (y, mean, variance), (dy, dmean, dvariance)
