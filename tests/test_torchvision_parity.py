"""torchvision's and timm's own networks at full size against ours, and against the plain torch of `torch_reference`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

import torch  # noqa: E402
import torch_reference as reference  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from ugclu_jax.models import ModelOptions, create, initialise  # noqa: E402

CLASSES = 1000


def resnet18_cifar() -> Any:
    theirs = torchvision.models.resnet18(num_classes=CLASSES)
    theirs.conv1, theirs.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    return theirs


TORCHVISION: dict[str, tuple[str, int, dict[str, Any], Callable[[], Any]]] = {  # our model, side, options, theirs
    "resnet18": ("resnet18", 224, {"stem": "imagenet"}, torchvision.models.resnet18),
    "resnet18 cifar": ("resnet18", 32, {}, resnet18_cifar),
    "swin_t": ("swin_t", 224, {}, torchvision.models.swin_t),
    # 16, 8, 4, 2 patches: windows of 7 that do not divide and shift, and exceed
    "swin_t at 64": ("swin_t", 64, {}, torchvision.models.swin_t),
    "vit_b_16": ("vit_base", 224, {}, torchvision.models.vit_b_16),
}
PLAIN: dict[str, Callable[[], Any]] = {
    "resnet18": lambda: reference.ResNet18(CLASSES, "imagenet"),
    "resnet18 cifar": lambda: reference.ResNet18(CLASSES, "cifar"),
    "swin_t": lambda: reference.Swin(CLASSES, patch=4, window=7, features=96, head_size=32, depths=(2, 2, 6, 2)),
    "vit_b_16": lambda: reference.ViT(CLASSES, side=224, patch=16, features=768, heads=12, depth=12),
}
PLAIN["swin_t at 64"] = PLAIN["swin_t"]
TIMM = {
    "resnet18": ("resnet18", {"stem": "imagenet"}),
    "swin_tiny_patch4_window7_224": ("swin_t", {}),
    "vit_tiny_patch16_224": ("vit_tiny", {}),
    "vit_base_patch16_224": ("vit_base", {}),
}


def logits_of(theirs: Any, side: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(side).normal(size=(2, side, side, 3)).astype(np.float32)
    with torch.no_grad():
        logits = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert logits.std() > 0.1  # else agreement would mean little
    return images, logits


def agrees(theirs: Any, name: str, side: int, options: dict[str, Any], folder: Any) -> None:
    """As a user would: save the state dict, name it as an option, initialise."""
    path = folder / "weights.safetensors"
    save_file(theirs.state_dict(), path)
    settings = ModelOptions(pretrained=path, **options)
    images, expected = logits_of(theirs, side)
    module = create(name, CLASSES, input_shape=images.shape[1:], options=settings)
    params, model_state = initialise(name, module, jnp.asarray, jax.random.key(0), images[:1], settings)
    logits = jax.jit(functools.partial(module.apply, train=False))({"params": params, **model_state}, images)
    print(f"\n{name} at {side}: largest difference {np.abs(logits - expected).max():.1e}, std {expected.std():.2f}")
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", TORCHVISION)
def test_ours_gives_the_logits_of_torchvision(case, tmp_path):
    name, side, options, make = TORCHVISION[case]
    agrees(reference.randomise(make(), seed=0), name, side, options, tmp_path)


@pytest.mark.parametrize("case", TORCHVISION)
def test_plain_torch_gives_the_logits_of_torchvision(case):
    _, side, _, make = TORCHVISION[case]
    theirs, plain = reference.randomise(make(), seed=1), PLAIN[case]().eval()
    plain.load_state_dict(theirs.state_dict())
    images, expected = logits_of(theirs, side)
    with torch.no_grad():
        logits = plain(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", TIMM)
def test_ours_gives_the_logits_of_timm(case, tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    name, options = TIMM[case]
    agrees(reference.randomise(timm.create_model(case, pretrained=False), seed=2), name, 224, options, tmp_path)
