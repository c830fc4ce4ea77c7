"""How do time and memory of the buffer grow with its capacity, and with the stream that passes through it?

Images of 28×28 bytes; a full buffer gets 4,096 new examples, loses 4,096 of its own (half of them where it has fewer
than 8,192), is sampled for one batch of 64. Then streams of ids through a buffer of 10,000, in requests of 8,192.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks import document, timing
from benchmarks.document import Section, Table
from ugclu_jax import buffer as buffer_lib
from ugclu_jax.buffer import Buffer
from ugclu_jax.types import Array, Examples, PyTree

SHAPE = (28, 28, 1)
RAW_BYTES = math.prod(SHAPE) + 4
"""Of one example: its image and its label."""


def full(capacity: int, first_id: int) -> Buffer:
    """A buffer that holds the ids from `first_id` on, as many as it can."""
    empty = buffer_lib.init(capacity, SHAPE, jnp.uint8, jax.random.key(0))
    ids = first_id + jnp.arange(capacity, dtype=jnp.int32)
    ranks = buffer_lib.rank(ids, empty.hash_key)
    order = jnp.argsort(ranks)
    return empty._replace(ids=ids[order], ranks=ranks[order], labels=ids[order] % 10, count=jnp.int32(capacity))


def bytes_of(capacity: int) -> int:
    """Bytes of all arrays of a buffer; nothing is allocated."""
    shapes = jax.eval_shape(lambda key: buffer_lib.init(capacity, SHAPE, jnp.uint8, key), jax.random.key(0))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def capacities(sizes: tuple[int, ...], request: int, repeats: int) -> Table:
    """Insert, remove, sample, and bytes, by capacity."""
    programs = {
        "insert": jax.jit(buffer_lib.insert),
        "remove": jax.jit(buffer_lib.remove),
        "sample": jax.jit(lambda buffer, key: buffer_lib.at_rows(buffer, buffer_lib.sample_rows(buffer, key, (64,)))),
    }
    rows, medians = [], {name: [] for name in programs}
    newcomers = Examples(
        jnp.ones((request, *SHAPE), jnp.uint8), jnp.zeros(request, jnp.int32), jnp.arange(request), jnp.int32(request)
    )
    for capacity in sizes:
        buffer = full(capacity, first_id=request)
        leaving = buffer.ids[: min(request, capacity // 2)]
        arguments = {"insert": (buffer, newcomers), "remove": (buffer, leaving), "sample": (buffer, jax.random.key(1))}
        count, kept = (int(programs[name](*arguments[name]).count) for name in ("insert", "remove"))
        assert (count, kept) == (capacity, capacity - len(leaving)), "the buffer is full, then lacks what left"
        calls = {name: functools.partial(_finish, program, *arguments[name]) for name, program in programs.items()}
        seconds = {name: timing.spread(values) for name, values in timing.interleaved(calls, repeats).items()}
        for name, found in seconds.items():
            medians[name].append(found.median)
        size, raw = bytes_of(capacity), capacity * RAW_BYTES
        rows.append(
            (
                f"{capacity:,}",
                *(str(found) for found in seconds.values()),
                f"{size / 2**20:,.1f}",
                f"{100 * (size / raw - 1):.2f} %",
            )
        )
    slopes = [f"{timing.slope(sizes, medians[name]):.2f}" for name in programs]
    by_bytes = timing.slope(sizes, [bytes_of(size) for size in sizes])
    rows.append(("slope, log-log", *slopes, f"{by_bytes:.2f}", "–"))
    header = ("capacity", "insert, s", "remove, s", "sample, s", "MiB", "above raw bytes")
    note = (
        f"Raw bytes: {RAW_BYTES} an example, image and label. A slope of 1 is proportional to the capacity, 0 "
        "independent of it. Insert and remove return a new buffer and leave the old one whole, as in a request."
    )
    return Table("By capacity", header, rows, note)


def streams(sizes: tuple[int, ...], capacity: int, request: int, repeats: int) -> Table:
    """Whole streams of ids through a buffer of fixed capacity."""

    @functools.partial(jax.jit, static_argnums=1)
    def run(buffer: Buffer, size: int) -> Buffer:
        inputs, labels = jnp.zeros((1, 1), jnp.uint8), jnp.zeros(1, jnp.int32)

        def offer(buffer: Buffer, start: Array) -> tuple[Buffer, None]:
            ids = start + jnp.arange(request, dtype=jnp.int32)
            # One input stands for all: indices beyond it are clamped.
            return buffer_lib.insert(buffer, Examples(inputs, labels, ids, jnp.minimum(request, size - start))), None

        return jax.lax.scan(offer, buffer, jnp.arange(0, size, request, dtype=jnp.int32))[0]

    empty = buffer_lib.init(capacity, (1,), jnp.uint8, jax.random.key(0))
    for size in sizes:
        kept = run(empty, size)
        assert int(kept.count) == min(capacity, size) and int(kept.ids.max()) < size
    calls = {str(size): functools.partial(_finish, run, empty, size) for size in sizes}
    seconds = {name: timing.spread(values) for name, values in timing.interleaved(calls, repeats).items()}
    rows = [
        (f"{size:,}", str(found), timing.number(found.median / size * 1e9))
        for size, found in zip(sizes, seconds.values(), strict=True)
    ]
    rows.append(("slope, log-log", f"{timing.slope(sizes, [found.median for found in seconds.values()]):.2f}", "–"))
    note = f"A buffer of {capacity:,}, requests of {request:,} ids with inputs of one byte, all in one program."
    return Table("By length of the stream", ("ids", "s", "ns an id"), rows, note)


def _finish(program: Callable[..., PyTree], *arguments: PyTree) -> None:
    jax.block_until_ready(program(*arguments))


def run(smoke: bool) -> Section:
    """Both tables."""
    sizes = (100, 1000) if smoke else (1_000, 10_000, 100_000, 1_000_000)
    lengths = (1_000, 10_000) if smoke else (10_000, 100_000, 1_000_000, 10_000_000)
    request, repeats = 64 if smoke else 4096, timing.REPEATS
    return Section(
        [
            capacities(sizes, request, repeats),
            streams(lengths, 100 if smoke else 10_000, 512 if smoke else 8192, repeats),
        ]
    )


if __name__ == "__main__":
    document.main("buffer_sizes", __doc__, run)
