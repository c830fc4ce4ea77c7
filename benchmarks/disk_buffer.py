"""What does a request cost whose data and buffer are a million pictures on disk, against the same in memory?

Noise of 28×28 bytes in one file, all of it in the buffer; 1,000 examples are unlearned by the default, without its
teacher, who would answer for the whole buffer. In memory: data on the device, copies in the buffer. On disk: the file
is memory-mapped, and the buffer refers to its rows. Both draw the same batches and end with the same parameters up to
rounding, which is looked at first: XLA may fuse two programs differently. Seconds were measured in turns in one
process, memory in one for each; the file is in the system's cache.
"""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import document, process, timing
from benchmarks.document import Section, Table
from ugclu_jax import api, models
from ugclu_jax.learner import CLUState, request_program
from ugclu_jax.models import ModelOptions
from ugclu_jax.models.adapters import linen_apply_fn, normalise
from ugclu_jax.streaming import HostArray
from ugclu_jax.types import Examples
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_settings import LEARNING, UNLEARNING, UNLEARNING_HYPER

MEASURE = "benchmarks.disk_buffer:measure"
SHAPE = (28, 28, 1)
WAYS = ("memory", "disk")
NETWORKS = {"mlp": "MLP", "cnn": "CNN"}


def write_pictures(path: Path, count: int) -> None:
    """Noise, a piece at a time."""
    rng = np.random.default_rng(0)
    pictures = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, 50_000):
        piece = pictures[start : start + 50_000]
        piece[:] = rng.integers(0, 256, piece.shape, np.uint8)
    pictures.flush()


def made(path: Path, way: str, method: Any, params: Any) -> tuple[CLUState, Examples]:
    """The state before the request, whose buffer has everything, and what is to be unlearned."""
    pictures = np.load(path, mmap_mode="r")
    data = api.Data(HostArray(pictures) if way == "disk" else pictures, np.arange(len(pictures)) % 10)
    capacity = len(pictures)
    state = api.init(
        jax.random.key(1), method, params, data, capacity=capacity, remember=range(capacity), refer=way == "disk"
    )
    return jax.block_until_ready(state), data[np.arange(0, capacity, max(capacity // 1000, 1))]


def measure(cores: int, path: str, network: str, ways: list[str], smoke: bool, repeats: int) -> dict[str, list[float]]:
    """Seconds of the request by way, in a process with `cores` cores.

    Raises:
        AssertionError: the ways end with different parameters.
    """
    options, example = ModelOptions(), jnp.zeros((1, *SHAPE), jnp.uint8)
    module = models.create(network, 10, input_shape=SHAPE, options=options)
    preprocess = normalise(np.full(1, 0.5), np.full(1, 0.25), 255.0)
    params, _ = models.initialise(network, module, preprocess, jax.random.key(0), example, options)
    steps = {"outer_steps": 2, "inner_steps": 2} if smoke else {}
    unlearn = dataclasses.replace(UNLEARNING, **steps, distillation=False)
    method = ug_clu(linen_apply_fn(module, preprocess), LEARNING, unlearn, num_classes=10)
    run, begun = request_program(), {way: made(Path(path), way, method, params) for way in ways}

    def serve(way: str) -> CLUState:
        state, task = begun[way]
        return run(method, "unlearn", jax.random.key(2), state, UNLEARNING_HYPER, task)[0]

    ends = [serve(way).method.params for way in ways]
    for other in ends[1:]:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), ends[0], other)
    return timing.interleaved({way: lambda way=way: jax.block_until_ready(serve(way)) for way in ways}, repeats)


def run(smoke: bool) -> Section:
    """Each network in both ways."""
    count, cores, rows = 5_000 if smoke else 1_000_000, process.cores_here(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.npy"
        write_pictures(path, count)
        for network, title in list(NETWORKS.items())[: 1 if smoke else None]:
            given = {"path": str(path), "network": network, "smoke": smoke}
            seconds, _ = process.call(MEASURE, cores=cores, ways=WAYS, repeats=timing.REPEATS, **given)
            peaks = [
                process.call(MEASURE, cores=cores, ways=[way], repeats=1, **given)[1].peak_bytes / 2**20 for way in WAYS
            ]
            rows.append(
                (
                    title,
                    *(str(timing.spread(seconds[way])) for way in WAYS),
                    str(timing.ratio(seconds["disk"], seconds["memory"])),
                    *(f"{peak:,.0f}" for peak in peaks),
                )
            )
    header = (
        "network", "in memory, s", "on disk, s", "on disk / in memory", "most memory, in memory, MiB", "on disk, MiB",
    )  # fmt: skip
    note = (
        f"{count:,} pictures, {count * np.prod(SHAPE) / 2**20:,.0f} MiB. What is resident of a memory-mapped file "
        "counts as memory, and leaves it where others need it. The goal is 1.1 times the seconds."
    )
    return Section([Table("One unlearn request", header, rows, note)])


if __name__ == "__main__":
    document.main("disk_buffer", __doc__, run)
