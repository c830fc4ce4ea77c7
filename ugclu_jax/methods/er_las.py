"""ER with logit adjusted softmax: replay whose loss knows how often each class is taught just now.

    π    = mean over the last W steps of the mean of the class frequencies of their two batches
    ℓ_i  = −log softmax(z_i + τ log π)[y_i]                     z the logits; without the addition in evaluation
    θ_{k+1} = θ_k − η_k (∇L_L(θ_k) + ∇L_R(θ_k) + w θ_k)         with these losses, otherwise `er`

What is taught more often needs no higher logit for it, so new classes do not outgrow the old ones. τ = 0 is `er`.

Huang, Li, Yuan, Wu, Huang 2024 (Online Continual Learning via Logit Adjusted Softmax, arXiv 2311.06460, TMLR), ER-LAS
with its sliding window of batches.

Differences:
- The window slides over the steps of a request and begins empty with every request, which is one scan; in the paper it
  slides over the stream. For W = 1, the published default, that is no difference.
- The paper counts labels in the one batch that both halves make. Here each half is averaged by itself, as in `er`, so
  that frequencies are, too: for halves of one size the same. An empty half counts nowhere.
- A class that the window lacks has the smallest normal number for π, where the published code adds 10⁻⁵⁰ to its count;
  in float32 both leave it no probability.
- Two forward passes, as in `er`. With `distillation` what counts of buffer data is
  their target and not the label alone (ours): a class that is only taught by the teacher is not rare.
- The losses that are reported are the adjusted ones.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ugclu_jax.at import At
from ugclu_jax.components import batch_losses
from ugclu_jax.descent import Batches, Direction, OwnStep, Prepared, Report, StepFn, along, descent
from ugclu_jax.stepping import Carry, DescentHyper, DescentSettings, check_reads, check_settings
from ugclu_jax.types import ApplyFn, Array, Batch, Buffer, Examples, Method, ModelState, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ERLASHyper(DescentHyper):
    """Continuous settings of ER-LAS, traced."""

    adjustment: Scalar = 1.0
    """τ ≥ 0, how much of the logarithm of a class's frequency is added to its logit; 0 is `er`."""


@dataclass(frozen=True, kw_only=True)
class ERLASSettings(DescentSettings):
    """Static settings of ER-LAS.

    Raises:
        ValueError: a size below its bound.

    >>> ERLASSettings(window_steps=0)
    Traceback (most recent call last):
        ...
    ValueError: window_steps must be at least 1, got 0
    """

    window_steps: int = 1
    """W, steps whose batches tell how frequent a class is, the step at hand among them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {"window_steps": 1}, {})


def frequencies(batch: Batch, num_classes: int, *, axis_name: str | None = None) -> Array:
    """`[C]` mean of what a batch teaches: its labels as one-hot, or its targets; zeros for a batch of padding.

    >>> frequencies(Batch(jnp.zeros((3, 1)), jnp.array([0, 0, 1]), jnp.array([1.0, 1.0, 0.0])), 3).tolist()
    [1.0, 0.0, 0.0]
    """
    taught = jax.nn.one_hot(batch.labels, num_classes) if batch.targets is None else batch.targets
    total, count = jnp.sum(taught * batch.weights[:, None], axis=0), jnp.sum(batch.weights)
    if axis_name:
        total, count = lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1.0)


def log_prior(window: Array) -> Array:
    """`log π [C]` of a window `[W, C]` of class frequencies, each a sum over the halves of a step.

    >>> jnp.exp(log_prior(jnp.array([[1.5, 0.5], [0.0, 0.0]]))).round(2).tolist()
    [0.75, 0.25]
    """
    total = jnp.sum(window, axis=0)
    whole = jnp.sum(total)
    return jnp.log(jnp.maximum(total / jnp.where(whole > 0, whole, 1.0), jnp.finfo(window.dtype).tiny))


def direction(at: At, batches: Batches[Batch, Batch], hyper: ERLASHyper) -> Direction:
    """`g_L + g_R` of the adjusted losses; `at.memory` is the window `[W, C]` with this step's frequencies in it."""
    added = hyper.adjustment * log_prior(at.memory)

    def losses(logits: Array, batch: Batch) -> Array:
        return batch_losses(logits + added.astype(logits.dtype), batch)

    for_task, for_remain = at.split(2)
    task = for_task.gradient(batches.task, losses_fn=losses)
    remain = for_remain._replace(model_state=task.model_state).gradient(batches.remain, losses_fn=losses)
    gradient = optax.tree.add(task.gradient, remain.gradient)
    return Direction(gradient, remain.model_state, Report(task.loss, remain.loss))


def step_with(settings: ERLASSettings) -> StepFn:
    """One step; the window slides first."""
    advance = along(direction, settings)

    def step(
        at: At, carry: Carry, batches: Batches[Batch, Batch], hyper: ERLASHyper
    ) -> tuple[Carry, ModelState, Report]:
        window = carry.memory
        task, remain = (frequencies(batch, window.shape[1], axis_name=at.axis_name) for batch in batches)
        window = jnp.roll(window, 1, axis=0).at[0].set((task + remain).astype(window.dtype))
        return advance(at._replace(memory=window), carry._replace(memory=window), batches, hyper)

    return step


def er_las(apply_fn: ApplyFn, settings: ERLASSettings = ERLASSettings(), *, num_classes: int) -> Method:
    """The method; it only learns.

    Args:
        apply_fn: the model.
        settings: static settings.
        num_classes: C, of the head.

    >>> er_las(lambda *a, **k: None, num_classes=2).kinds
    ('learn',)
    """
    check_reads("er_las", settings, ERLASSettings)

    def empty_window(at: At, hyper: ERLASHyper, task: Examples, buffer: Buffer) -> Prepared:
        return Prepared(task, carried=jnp.zeros((settings.window_steps, num_classes)))

    return descent(
        "er_las",
        apply_fn,
        settings,
        learn=OwnStep(step_with(settings)),
        hyper=ERLASHyper(),
        prepare=empty_window,
        num_classes=num_classes,
    )
