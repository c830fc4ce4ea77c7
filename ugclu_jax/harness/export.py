"""The numbers of a run for the tools that others look at runs with: the same as in `metrics.jsonl`, under its names."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ugclu_jax.extras import installed_by
from ugclu_jax.report.metrics import Line
from ugclu_jax.report.summaries import named

Log = Callable[[int, Mapping[str, float]], None]
"""Takes the number of a request, from 1, and its numbers by name."""


def scalars(line: Line) -> dict[str, float]:
    """The numbers of a line by their dotted names, with slashes, which both tools group by.

    >>> from ugclu_jax.report.metrics import ModelMetrics, Numbers, Sides
    >>> scalars(Line("er", 0, 0, "learn", "L1", Numbers(model=ModelMetrics(LA=0.5, KL=Sides(test=0.25)))))
    {'model/LA': 0.5, 'model/KL/test': 0.25}
    """
    return {name.replace(".", "/"): value for name, value in named(line.numbers)}


def export(lines: Sequence[Line], opened: Callable[[str, int], contextlib.AbstractContextManager[Log]]) -> int:
    """Hand every line to a tool, a run of its own for each method and seed.

    Args:
        lines: of a run.
        opened: from a method and a seed, a run of the tool, which is closed at its end.

    Returns:
        The number of such runs.
    """
    runs = dict.fromkeys((line.method, line.seed) for line in lines)
    for method, seed in runs:
        with opened(method, seed) as log:
            own = [line for line in lines if (line.method, line.seed) == (method, seed)]
            for line in sorted(own, key=lambda line: line.request):
                log(line.request + 1, scalars(line))
    return len(runs)


@contextlib.contextmanager
def tensorboard(folder: Path, method: str, seed: int) -> Iterator[Log]:
    """A run of TensorBoard, in a folder of its own below another.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """
    with installed_by("export"):
        from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / method / f"seed-{seed}"), write_to_disk=True) as writer:

        def log(step: int, numbers: Mapping[str, float]) -> None:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

        yield log


@contextlib.contextmanager
def wandb(folder: Path, project: str, config: Mapping[str, Any], method: str, seed: int) -> Iterator[Log]:
    """A run of Weights & Biases, kept on disk (offline) until `wandb sync` sends it: nothing leaves the machine here.

    Raises:
        MissingExtraError: wandb is not installed.
    """
    with installed_by("export"):
        import wandb as tool

    folder.mkdir(parents=True, exist_ok=True)
    settings = tool.Settings(console="off", silent=True, disable_git=True, x_disable_meta=True, x_disable_stats=True)
    name = f"{method}-seed-{seed}"
    run = tool.init(
        project=project,
        name=name,
        group=method,
        dir=str(folder),
        mode="offline",
        config={**config, "method": method, "seed": seed},
        settings=settings,
        reinit="finish_previous",
    )
    try:
        yield lambda step, numbers: run.log(dict(numbers), step=step)
    finally:
        run.finish()
