"""Per-example losses: logits `[B, C]` in, `[B]` out; nothing here takes a mean."""

import jax
import jax.numpy as jnp

from ugclu_jax.types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of each example, `ℓ_i = −log softmax(logits_i)[labels_i]`, in nats.

    Args:
        logits: `[B, C]`, any float type.
        labels: `[B]` integers in `[0, C)`.

    Returns:
        `[B]` losses ≥ 0 of the type of `logits`.

    >>> import jax.numpy as jnp
    >>> bool(jnp.allclose(cross_entropy(jnp.zeros((1, 4)), jnp.array([2])), jnp.log(4.0)))
    True
    """
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


def soft_cross_entropy(logits: Array, targets: Array) -> Array:
    """Cross-entropy to a distribution, `ℓ_i = −Σ_c q_ic log softmax(logits_i)_c`, in nats.

    Args:
        logits: `[B, C]`, any float type.
        targets: `[B, C]` distributions `q`; constants of the gradient.

    Returns:
        `[B]` losses ≥ the entropy of the target, and equal to it where the softmax is the target. A class of target 0
        adds 0, however unlikely.

    >>> import jax.numpy as jnp
    >>> bool(jnp.allclose(soft_cross_entropy(jnp.zeros((1, 4)), jnp.array([[0.5, 0.5, 0.0, 0.0]])), jnp.log(4.0)))
    True
    """
    terms = jnp.where(targets > 0, targets * jax.nn.log_softmax(logits), 0.0)
    return -jnp.sum(terms, axis=-1)


def divergence(logits: Array, teacher_logits: Array, temperature: Array | float = 1.0) -> Array:
    """Divergence from a teacher, `ℓ_i = T² KL(q_i ‖ p_i)`, `q` and `p` the softmax of its logits and of ours over T.

    The factor keeps the size of the gradient, `T (p − q)` by the logits, comparable to that of a cross-entropy.

    Args:
        logits: `[B, C]`, any float type.
        teacher_logits: `[B, C]`; constants of the gradient.
        temperature: T > 0.

    Returns:
        `[B]` losses ≥ 0 (to rounding), in nats.

    >>> import jax.numpy as jnp
    >>> bool(jnp.allclose(divergence(jnp.zeros((1, 2)), jnp.array([[0.0, -jnp.inf]])), jnp.log(2.0)))
    True

    References: Hinton, Vinyals, Dean, arXiv 1503.02531.
    """
    teacher = jax.nn.log_softmax(teacher_logits / temperature)
    student = jax.nn.log_softmax(logits / temperature)
    targets = jnp.exp(teacher)
    terms = jnp.where(targets > 0, targets * (jnp.where(targets > 0, teacher, 0.0) - student), 0.0)
    return temperature**2 * jnp.sum(terms, axis=-1)
