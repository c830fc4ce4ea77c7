"""Our networks with converted weights against plain torch: logits, gradients, BatchNorm in training."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test-torch` installs it")

import torch_reference as reference  # noqa: E402
from flax.traverse_util import flatten_dict  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from ugclu_jax.models import ResNet, SwinTransformer, VisionTransformer, load_pretrained  # noqa: E402
from ugclu_jax.models.adapters import linen_init  # noqa: E402

CLASSES = 7
SWIN = {"patch": 4, "head_size": 4, "depths": (2, 2, 2, 1)}
VIT = {"patch": 4, "depth": 3}
CASES: dict[str, tuple[str, int, Callable[[], Any], Callable[..., Any]]] = {  # weights of, side, theirs, ours
    "resnet18": ("resnet18", 32, lambda: reference.ResNet18(CLASSES, "cifar"), ResNet),
    "resnet18 imagenet": (
        "resnet18",
        64,
        lambda: reference.ResNet18(CLASSES, "imagenet"),
        functools.partial(ResNet, stem="imagenet"),
    ),
    "resnet18 narrow": (  # quick in float64
        "resnet18",
        16,
        lambda: reference.ResNet18(CLASSES, "imagenet", width=2),
        functools.partial(ResNet, stem="imagenet", width=2),
    ),
    # 14, 7, 4, 2 patches a side: windows that divide and shift, cover, and exceed
    "swin window 7": (
        "swin_t",
        56,
        lambda: reference.Swin(CLASSES, window=7, features=8, **SWIN),
        functools.partial(SwinTransformer, window=7, width=8, **SWIN),
    ),
    # 9, 5, 3, 2: windows that do not divide and shift, and odd sides to merge
    "swin window 4": (
        "swin_t",
        36,
        lambda: reference.Swin(CLASSES, window=4, features=8, **SWIN),
        functools.partial(SwinTransformer, window=4, width=8, **SWIN),
    ),
    "vit": (
        "vit_base",
        16,
        lambda: reference.ViT(CLASSES, side=16, features=24, heads=3, **VIT),
        functools.partial(VisionTransformer, width=24, head_size=8, **VIT),
    ),
}


def images(side: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(side).normal(size=(3, side, side, 3)).astype(dtype)


def to_torch(inputs: np.ndarray) -> Any:
    return torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())


def arrays(module: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def ours_with(tensors: dict[str, np.ndarray] | Path, case: str, dtype: type) -> tuple[Any, Any, Any]:
    """Our module, and its trees filled from the tensors; the fresh weights are ones, so that none can hide."""
    name, side, _, make = CASES[case]
    module = make(num_classes=CLASSES, dtype=dtype)
    shapes = jax.eval_shape(lambda: linen_init(module, jnp.asarray, jax.random.key(0), images(side)))
    fresh = jax.tree.map(lambda leaf: np.ones(leaf.shape, dtype), shapes)
    return module, *load_pretrained(name, tensors, *fresh)


@pytest.mark.parametrize("case", CASES)
def test_logits_in_evaluation(case):
    _, side, make, _ = CASES[case]
    theirs = reference.randomise(make(), seed=0)
    module, params, model_state = ours_with(arrays(theirs), case, np.float32)
    with torch.no_grad():
        expected = theirs(to_torch(images(side))).numpy()
    run = jax.jit(functools.partial(module.apply, train=False))
    logits = run({"params": params, **model_state}, images(side))
    assert expected.std() > 0.1  # else agreement would mean little
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["resnet18 narrow", "swin window 4", "vit"])
def test_loss_gradient_and_statistics_in_training(case, x64):
    """In float64, where neither a ReLU that flips nor the order of a sum can hide an error."""
    _, side, make, _ = CASES[case]
    inputs, labels = images(side, np.float64), np.array([1, 5, 2])
    theirs = reference.randomise(make(), seed=1).double()
    module, params, model_state = ours_with(arrays(theirs), case, np.float64)
    theirs.train()
    expected = torch.nn.functional.cross_entropy(theirs(to_torch(inputs)), torch.from_numpy(labels))
    expected.backward()
    slopes = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    after = arrays(theirs)  # statistics as training recorded them
    _, gradient, statistics = ours_with({**after, **slopes}, case, np.float64)

    def loss(params):
        variables = {"params": params, **model_state}
        logits, new_state = module.apply(variables, inputs, train=True, mutable=list(model_state))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new_state

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, new_state), slope = run(params)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), slope, gradient)
    assert bool(model_state) == case.startswith("resnet18")
    if model_state:
        before, ours, theirs_after = (
            flatten_dict(tree["batch_stats"]) for tree in (model_state, new_state, statistics)
        )
        means = [path for path in ours if path[-1] == "mean"]
        assert len(means) == 20
        for path in means:
            np.testing.assert_allclose(ours[path], theirs_after[path], rtol=1e-10, atol=1e-12)
        # torch records n / (n - 1) of the variance that it uses; n = 3 images of 8x8 pixels after the first convolution
        path = ("stem_norm", "var")
        recorded = (theirs_after[path] - 0.9 * before[path]) * 191 / 192
        np.testing.assert_allclose(ours[path], 0.9 * before[path] + recorded, rtol=1e-9)


def test_a_file_gives_what_the_arrays_give(tmp_path):
    theirs = reference.randomise(CASES["vit"][2](), seed=2)
    path = tmp_path / "vit.safetensors"
    save_file(theirs.state_dict(), path)
    _, *from_file = ours_with(path, "vit", np.float32)
    _, *from_arrays = ours_with(arrays(theirs), "vit", np.float32)
    jax.tree.map(np.testing.assert_array_equal, from_file, from_arrays)
