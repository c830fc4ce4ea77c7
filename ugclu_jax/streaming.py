"""Training inputs that stay in host memory: what they are, how rows of them are read, how many steps a read serves.

Where inputs lie decides speed and memory, never the result. A step draws as it always does; only the rows that the
draws of a chunk of K' steps will take are found and read ahead, at once:

    resident   scan over k:  step(draw(key_k)),  take = gather from the data set
    streamed   scan over chunks:  rows = vmap(rows of draw)(key_{1…K'});  table = one host read
                   scan over k:  step(draw(key_k)),  take = gather from the table

So the program of a step is the same but for the size of the array it gathers from. This matters: drawn outside of the
step, batches would be fused with it differently, and the last bits with them.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ugclu_jax.types import Rows

CHUNK_STEPS = 64
"""Steps that one host read serves at most: a read costs about 0.1 ms besides its bytes."""
CHUNK_BYTES = 2**26
"""What the rows of a chunk may take of the device's memory, where those of one step do not take more."""


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class HostArray:
    """A NumPy array, memory-mapped or not, that may stand where a device array of inputs does; read by `take` alone.

    Part of a program's structure, by identity: keep one for a data set, since another one compiles anew.

    Raises:
        ValueError: a type that JAX would change on its way to the device.

    >>> import numpy as np
    >>> HostArray(np.zeros((2, 3), np.uint8)).shape
    (2, 3)
    >>> HostArray(np.zeros(2, ">f4"))
    Traceback (most recent call last):
        ...
    ValueError: host inputs have dtype >f4, which the device would hold as float32; convert them with .astype first
    """

    array: np.ndarray

    def __post_init__(self) -> None:
        held = jax.dtypes.canonicalize_dtype(self.array.dtype.newbyteorder("="))
        if held != self.array.dtype:
            raise ValueError(
                f"host inputs have dtype {self.array.dtype}, which the device would hold as {held}; "
                "convert them with .astype first"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """`[N, ...]`."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """Number of axes, that of the examples included."""
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        """As stored, and as read."""
        return self.array.dtype

    def read(self, rows: Any) -> np.ndarray:
        """`[..., *shape[1:]]`: the rows in a fresh array, or the errors of `check`."""
        self.check()
        return self.array[np.asarray(rows)]

    def check(self) -> None:
        """See that the file behind a memory map is whole: to read past its end would kill the process.

        Raises:
            FileNotFoundError, OSError: the file is gone, or shorter than it was; named.
        """
        maps: list[np.memmap] = []
        base: object = self.array
        while base is not None:
            maps += [base] if isinstance(base, np.memmap) else []
            base = getattr(base, "base", None)
        if not maps or maps[-1].filename is None:
            return
        path, needed = Path(maps[-1].filename), maps[-1].offset + maps[-1].nbytes
        fix = "put it back, or start again so that it is made anew"
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}, from which training inputs are read, is gone; {fix}") from error
        if size < needed:
            raise OSError(
                f"{path}, from which training inputs are read, has {size} bytes and must have {needed}; {fix}"
            )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Referred:
    """Rows of an array in host memory by their numbers, in place of a copy of them; read by `take` alone.

    >>> import numpy as np
    >>> some = Referred(jnp.array([3, 1]), HostArray(np.arange(5, dtype=np.int32) ** 2))
    >>> some.shape, take(some, jnp.array([0, 0, 1])).tolist()
    ((2,), [9, 9, 1])
    """

    rows: jax.Array  # [M] int32, of the source
    source: HostArray

    @property
    def shape(self) -> tuple[int, ...]:
        """`[M, ...]`."""
        return (*self.rows.shape, *self.source.shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes, that of the examples included."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """As stored."""
        return self.source.dtype


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShardedArray:
    """Rows divided over the devices of a mapped axis, for inputs that no host holds whole; read by `take` alone.

    Device d has the rows d·n … (d+1)·n − 1 of D·n, of which the first `length` count. Made by `devices.shard_rows`.
    """

    local: jax.Array  # [n, ...] inside of the mapped function, [D, n, ...] outside
    length: int = field(metadata={"static": True})
    axis_name: str = field(metadata={"static": True})
    mapped: bool = field(default=False, metadata={"static": True})  # whether this is the inside

    @property
    def shape(self) -> tuple[int, ...]:
        """`[N, ...]`, of the whole."""
        return (self.length, *self.local.shape[1 if self.mapped else 2 :])

    @property
    def ndim(self) -> int:
        """Number of axes, that of the examples included."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """As stored."""
        return self.local.dtype

    def take(self, rows: jax.Array) -> jax.Array:
        """Each device's own rows, wherever they lie: all ask for all, and the owner answers.

        A row crosses between devices once, D·r of them where every device asks for r.
        """
        asked = lax.all_gather(rows.reshape(-1), self.axis_name)
        place = asked - lax.axis_index(self.axis_name) * self.local.shape[0]
        owned = (place >= 0) & (place < self.local.shape[0])
        there = self.local[jnp.where(owned, place, 0)]
        answer = jnp.where(owned.reshape(owned.shape + (1,) * (there.ndim - 2)), there, 0)
        found = lax.psum_scatter(answer, self.axis_name, scatter_dimension=0)
        return found.reshape(rows.shape + found.shape[1:])


def _read_now(inputs: HostArray, rows: jax.Array) -> jax.Array:
    result = jax.ShapeDtypeStruct(rows.shape + inputs.shape[1:], inputs.dtype)
    return jax.pure_callback(inputs.read, result, rows, vmap_method="broadcast_all")


_READ: ContextVar[Callable[[HostArray, jax.Array], jax.Array]] = ContextVar("_READ", default=_read_now)
"""How `take` reads host memory: at once, unless `read_ahead` is tracing a draw."""


@contextlib.contextmanager
def _reading_by(read: Callable[[HostArray, jax.Array], jax.Array]) -> Iterator[None]:
    token = _READ.set(read)
    try:
        yield
    finally:
        _READ.reset(token)


def take(inputs: Rows, rows: jax.Array) -> jax.Array:
    """`inputs[rows]`, `[..., *inputs.shape[1:]]` on the device, wherever the inputs lie.

    Args:
        inputs: `[N, ...]`, a `HostArray`, rows that are `Referred` to, a `ShardedArray`, or an array of the device.
        rows: `[...]` integers in 0 … N−1. From host memory they are read by one call, however often the whole is
            mapped by `vmap`.

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> squares = np.arange(5, dtype=np.int32) ** 2
    >>> [take(x, jnp.array([3, 1])).tolist() for x in (jnp.asarray(squares), HostArray(squares))]
    [[9, 1], [9, 1]]
    """
    if isinstance(inputs, ShardedArray):
        return inputs.take(rows)
    if isinstance(inputs, Referred):
        return take(inputs.source, inputs.rows[rows])
    return _READ.get()(inputs, rows) if isinstance(inputs, HostArray) else jnp.asarray(inputs)[rows]


def _asked(draw: Callable[[jax.Array], Any]) -> Callable[[jax.Array], list[tuple[HostArray, jax.Array]]]:
    """`x -> what draw(x) takes from host memory, in order`; nothing is read."""

    def asked(x: jax.Array) -> list[tuple[HostArray, jax.Array]]:
        found = []

        def note(inputs: HostArray, rows: jax.Array) -> jax.Array:
            found.append((inputs, rows))
            return jnp.zeros(rows.shape + inputs.shape[1:], inputs.dtype)

        with _reading_by(note):
            draw(x)
        return found

    return asked


def chunk_of(draw: Callable[[jax.Array], Any], x: jax.Array) -> int | None:
    """How many steps that read `draw(x)` each one host read is to serve; None where a draw reads no host memory.

    Found by tracing `draw`, so that whoever writes one need not know where inputs lie.

    >>> import jax.numpy as jnp, numpy as np
    >>> draw = lambda inputs: lambda rows: take(inputs, rows)
    >>> chunk_of(draw(jnp.zeros((4, 2**20))), jnp.arange(2))
    >>> [chunk_of(draw(HostArray(np.zeros((4, size), np.uint8))), jnp.arange(2)) for size in (1, 2**20, 2**26)]
    [64, 32, 1]
    """
    asked = jax.eval_shape(_asked(draw), x)
    if not asked:
        return None
    size = sum(rows.size * math.prod(host.shape[1:]) * host.dtype.itemsize for host, rows in asked)
    return max(1, min(CHUNK_STEPS, CHUNK_BYTES // max(size, 1)))


def read_ahead(draw: Callable[[jax.Array], Any], xs: jax.Array) -> Callable[[jax.Array, jax.Array], Any]:
    """Read, by one call a host array, all rows that the draws of a chunk will take.

    Args:
        draw: `x -> batches`. What it takes must depend on x alone.
        xs: `[K', ...]`, one x a step.

    Returns:
        `(i, xs[i]) -> draw(xs[i])`, which gathers from what was read.

    >>> import jax.numpy as jnp, numpy as np
    >>> inputs = HostArray(np.arange(5, dtype=np.int32) ** 2)
    >>> drawn = read_ahead(lambda x: take(inputs, x + jnp.arange(2)), jnp.array([0, 3]))
    >>> [drawn(i, x).tolist() for i, x in enumerate((0, 3))]
    [[0, 1], [9, 16]]
    """
    wanted: dict[HostArray, list[jax.Array]] = {}
    for inputs, rows in jax.vmap(_asked(draw))(xs):
        wanted.setdefault(inputs, []).append(rows.reshape(rows.shape[0], -1))
    tables = {inputs: _read_now(inputs, jnp.concatenate(rows, axis=1)) for inputs, rows in wanted.items()}

    def drawn(i: jax.Array, x: jax.Array) -> Any:
        begins = dict.fromkeys(tables, 0)

        def serve(inputs: HostArray, rows: jax.Array) -> jax.Array:
            table = tables[inputs]
            places = i * table.shape[1] + begins[inputs] + jnp.arange(rows.size).reshape(rows.shape)
            begins[inputs] += rows.size
            return table.reshape(-1, *table.shape[2:])[places]

        with _reading_by(serve):
            return draw(x)

    return drawn


@contextlib.contextmanager
def reading(inputs: Rows) -> Iterator[None]:
    """Around programs that read `inputs`: an error of `HostArray.check` leaves as itself, not as XLA's report of it.

    >>> import numpy as np
    >>> with reading(HostArray(np.zeros((2, 3), np.uint8))):
    ...     pass
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError):  # the second where the call itself waited for the program
        if isinstance(inputs, HostArray):
            inputs.check()
        raise
