"""What a generation holds: network, memory buffer, held-out sample and configuration; to files and back."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import buffer as buffer_lib
from ugclu_jax import checkpoints
from ugclu_jax.living import tensors
from ugclu_jax.living.network import Described, predictor, shapes
from ugclu_jax.types import Array, Buffer, Examples, ModelState, Params

NETWORK, BUFFER, CONFIG = "network.safetensors", "buffer.safetensors", "config.json"
TOKENIZER = "tokenizer.json"


class Held(NamedTuple):
    """A model as it stands.

    Attributes:
        described: all but the weights.
        params, model_state: of the network.
        buffer: sample of what is retained, by number in the ledger.
        held_out: sample of what is held out, likewise.
        tokenizer: file of the one that makes tokens of texts; None where inputs are none.
    """

    described: Described
    params: Params
    model_state: ModelState
    buffer: Buffer
    held_out: Buffer
    tokenizer: bytes | None = None

    def files(self) -> dict[str, bytes]:
        """Contents by file name."""
        own = {} if self.tokenizer is None else {TOKENIZER: self.tokenizer}
        return own | {
            NETWORK: tensors.packed({"params": self.params, "model_state": self.model_state}),
            BUFFER: tensors.packed({"buffer": self.buffer._asdict(), "held_out": self.held_out._asdict()}),
            CONFIG: self.described.to_json().encode(),
        }

    def digest(self) -> str:
        """Of parameters and state, in hexadecimal."""
        return checkpoints.digest({"params": self.params, "model_state": self.model_state}, {})

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs in evaluation mode, [N, C]; inputs as stored, [N, ...]."""
        rows = len(inputs)
        size = 100 * -(-max(rows, 1) // 100)  # few sizes, few programs
        padded = np.zeros((size, *inputs.shape[1:]), inputs.dtype)
        padded[:rows] = inputs
        found = predictor(self.described)(self.params, self.model_state, jnp.asarray(padded))
        return np.asarray(found)[:rows]


def fresh_buffers(described: Described, rng_key: Array) -> tuple[Buffer, Buffer]:
    """Both samples, empty."""
    capacities = described.config().capacity, described.held_out
    keys = jax.random.split(rng_key)
    first, second = (
        buffer_lib.init(capacity, described.shape, described.dtype, key)
        for capacity, key in zip(capacities, keys, strict=True)
    )
    return first, second


def from_files(files: Mapping[str, bytes]) -> Held:
    """What `Held.files` made.

    Raises:
        ValueError: it did not make these; the tensor is named.
    """
    described = Described.from_json(files[CONFIG].decode())
    params, model_state = shapes(described)
    network = tensors.unpacked(files[NETWORK], {"params": params, "model_state": model_state})
    buffers = jax.eval_shape(lambda: fresh_buffers(described, jax.random.key(0)))
    like = {name: each._asdict() for name, each in zip(("buffer", "held_out"), buffers, strict=True)}
    found = {name: Buffer(**values) for name, values in tensors.unpacked(files[BUFFER], like).items()}
    tokenizer = files.get(TOKENIZER)
    return Held(described, network["params"], network["model_state"], found["buffer"], found["held_out"], tokenizer)


def filled(buffer: Buffer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, labels and numbers of a sample's examples."""
    count = int(buffer.count)
    return np.asarray(buffer.inputs)[:count], np.asarray(buffer.labels)[:count], np.asarray(buffer.ids)[:count]


def inserted(buffer: Buffer, task: Examples, numbers: np.ndarray) -> Buffer:
    """The sample after examples were offered to it, by their numbers in the ledger."""
    names = np.full(task.ids.shape[0], -1, np.int32)
    names[: len(numbers)] = numbers
    return buffer_lib.insert(buffer, task, names=jnp.asarray(names))


def removed(buffer: Buffer, numbers: np.ndarray) -> Buffer:
    """The sample without some examples, and without a byte of them."""
    return buffer_lib.remove(buffer, jnp.asarray(numbers, jnp.int32))
