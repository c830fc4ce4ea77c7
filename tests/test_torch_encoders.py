"""EfficientNet-Lite0 and MiniLM with converted weights against plain torch, and a file of torch against torch."""

import functools
import io
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-torch` installs it")

import torch_encoders as encoders  # noqa: E402
import torch_reference as reference  # noqa: E402

from ugclu_jax.models import EfficientNetLite, MiniLM, load_pretrained, torch_file  # noqa: E402
from ugclu_jax.models.adapters import linen_init  # noqa: E402
from ugclu_jax.models.efficientnet_lite import Stage  # noqa: E402

BLOCKS = [(1, 3, 1, 1, 4), (2, 5, 2, 6, 6), (1, 3, 2, 2, 6)]
STAGES = tuple(Stage(*block) for block in BLOCKS)


class WithHead(torch.nn.Module):
    """The encoder, and the classifier that ours has behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = encoders.Encoder(50, 12, 8, 2, 2), torch.nn.Linear(8, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.body(tokens))


def lite(side: int) -> tuple[np.ndarray, Any, Any]:
    images = np.random.default_rng(side).normal(size=(3, side, side, 3)).astype(np.float32)
    module = EfficientNetLite(7, STAGES, stem=5, features=9, least_side=0)
    return images, encoders.Lite0(7, BLOCKS, 5, 9), module


def minilm(length: int) -> tuple[np.ndarray, Any, Any]:
    tokens = np.random.default_rng(length).integers(1, 50, (3, length))
    tokens[0, 3:], tokens[1, -1] = 0, 0
    return tokens, WithHead(), MiniLM(7, 50, 12, width=8, depth=2, head_size=4)


CASES: dict[str, tuple[str, Callable[[int], tuple[np.ndarray, Any, Any]], int]] = {
    "lite, even sides": ("efficientnet_lite0", lite, 32),
    "lite, odd sides": ("efficientnet_lite0", lite, 27),
    "minilm": ("minilm", minilm, 10),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_plain_torch(case: str) -> None:
    name, make, size = CASES[case]
    inputs, theirs, module = make(size)
    theirs = reference.randomise(theirs, seed=0)
    tensors = {key.removeprefix("body."): tensor.numpy() for key, tensor in theirs.state_dict().items()}
    shapes = jax.eval_shape(lambda: linen_init(module, jnp.asarray, jax.random.key(0), inputs))
    params, model_state = load_pretrained(name, tensors, *shapes)
    with torch.no_grad():
        moved = inputs.transpose(0, 3, 1, 2).copy() if inputs.ndim == 4 else inputs
        expected = theirs(torch.from_numpy(moved)).numpy()
    logits = jax.jit(functools.partial(module.apply, train=False))({"params": params, **model_state}, inputs)
    assert expected.std() > 0.1  # else agreement would mean little
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_a_file_of_torch_is_read_as_torch_reads_it() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 3, 2, 2, generator=generator)
    tensors = {
        "plain": base,
        "another order": base.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1),
        "part": base.flatten()[5:11],
        "count": torch.tensor(7),
        "half": base.half(),
    }
    file = io.BytesIO()
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    found = torch_file.state_dict(file.getvalue())
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found[name], tensor.numpy())
