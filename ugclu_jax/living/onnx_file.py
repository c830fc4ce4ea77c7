"""The network as ONNX, for programs that have neither JAX nor this library; run once before it is handed over.

The function of the network is traced first, and what is translated is the trace: `jax2onnx` puts functions of its own
in the place of Flax's and JAX's while it traces, and not all of these do the same as the ones that they replace.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import jaxpr_as_fun

from ugclu_jax import models
from ugclu_jax.extras import installed_by
from ugclu_jax.harness.config import merge
from ugclu_jax.living.held import Held, filled
from ugclu_jax.living.network import Described, network
from ugclu_jax.types import Array

TOLERANCE = 1e-4
"""Most that an output of the file may differ from the library's; of the largest output where that is above 1."""
_CHECKED = 100


def portable(described: Described) -> Described:
    """The same network with XLA's own convolutions: ours run by primitives that no other program knows.

    >>> made = Described(("a", "b"), "arrays", (8, 8, 1), "uint8", 255.0, (0.5,), (0.2,), settings={"model": "cnn"})
    >>> portable(made).settings
    {'model': 'cnn', 'model_options': {'lowering': 'native'}}
    """
    known = models.MODELS.get(described.config().model)
    if known is None or "lowering" not in known.options:
        return described
    settings = merge(described.settings, {"model_options": {"lowering": "native"}})
    return dataclasses.replace(described, settings=settings)


def packed(held: Held) -> bytes:
    """A network as an ONNX file: `inputs` [B, ...] as stored to `logits` [B, C], of any number B of examples.

    Args:
        held: the model.

    Raises:
        MissingExtraError: the extra `onnx` is not installed.
        ValueError: the network has an operation that the translator lacks, or the file does not say what it says.
    """
    with installed_by("onnx"):
        import onnxruntime  # noqa: F401 (asked for before the work, and needed after it)
        from jax2onnx import to_onnx
    described = held.described
    apply_fn = network(portable(described)).apply_fn

    def logits(inputs: Array) -> Array:
        return apply_fn(held.params, held.model_state, inputs, train=False, rng_key=None)[0]

    (batch,) = export.symbolic_shape("B")
    wanted = jax.ShapeDtypeStruct((batch, *described.shape), jnp.dtype(described.dtype))
    try:
        traced = jax.make_jaxpr(logits)(wanted)
        with _quiet():
            made = to_onnx(
                lambda inputs: jaxpr_as_fun(traced)(inputs)[0],
                inputs=[wanted],
                input_names=["inputs"],
                output_names=["logits"],
                model_name=described.config().model,
            )
        content = bytes(made.SerializeToString())
        check(content, held)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # What a translator raises at an operation that it lacks is of no one type; a file that was made anew would be
        # no other.
        raise ValueError(
            f"{described.config().model} cannot be written as ONNX ({_first_line(error)}): export safetensors, without "
            "--onnx"
        ) from error
    return content


def check(content: bytes, held: Held) -> None:
    """Run a file on what the model's samples hold, or on zeros where they hold nothing, one example and many.

    Raises:
        ValueError: its outputs are not the network's, see `TOLERANCE`.
    """
    with installed_by("onnx"):
        import onnxruntime
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    known = np.concatenate([filled(each)[0] for each in (held.held_out, held.buffer)])[:_CHECKED]
    inputs = known if len(known) else np.zeros((2, *held.described.shape), held.described.dtype)
    for some in (inputs, inputs[:1]):
        (own,) = session.run(["logits"], {"inputs": some})
        wanted = held.logits(some)
        allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        if own.shape != wanted.shape or not np.abs(own - wanted).max() <= allowed:
            raise ValueError(f"outputs of the file and of the network differ by more than {allowed:.1g}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The translator warns of plugins for libraries that this one has nothing to do with."""
    logger = logging.getLogger("jax2onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
