"""The numbers of a run for TensorBoard, or for Weights & Biases offline: the same as in its metrics.jsonl.

    python -m experiments.export RUN_DIR --to tensorboard     then: tensorboard --logdir RUN_DIR/tensorboard
    python -m experiments.export RUN_DIR --to wandb           then: wandb sync RUN_DIR/wandb/offline-run-*

Each method and seed is a run of its own, and a request a step, from 1. Nothing leaves the machine. What was exported
before is written anew.
"""

import functools
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from ugclu_jax.extras import MissingExtraError
from ugclu_jax.harness import export
from ugclu_jax.harness.config import path_of
from ugclu_jax.harness.terminal import consoles, ended, say
from ugclu_jax.report.auditable import read_config
from ugclu_jax.report.metrics import read_metrics


def run(arguments: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    return ended(lambda: tyro.cli(main, args=list(arguments), prog="python -m experiments.export"))


def main(
    run_dir: Annotated[str, tyro.conf.arg(metavar="RUN_DIR")],
    /,
    to: Literal["tensorboard", "wandb"] = "tensorboard",
) -> int:
    """Write the numbers of a run for TensorBoard, or for Weights & Biases offline.

    Args:
        run_dir: the run's folder; a run that has not finished is exported as far as it got.
        to: whose files are written, into a folder of this name in the run's folder.
    """
    console, errors = consoles()
    try:
        folder = path_of(run_dir, "RUN_DIR")
        lines, config, out = read_metrics(folder), read_config(folder), folder / to
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise ValueError(f"{out} is no folder: delete it")
        if out.exists():
            shutil.rmtree(out)
        if to == "tensorboard":
            opened = functools.partial(export.tensorboard, out)
        else:  # which makes a folder of this name in the one that it is given
            opened = functools.partial(export.wandb, folder, folder.resolve().name, config)
        runs = export.export(lines, opened)
    except (ValueError, OSError, MissingExtraError) as error:
        say(errors, "Error:", str(error))
        return 2
    say(console, "", f"{runs} runs, {len(lines)} steps: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
