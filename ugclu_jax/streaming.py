"""Training inputs that stay in host memory: what they are, how rows of them are read, how many steps a read serves.

Where inputs lie decides speed and memory, never the result: `take` gives the same rows, and a chunk of K' steps is the
same draw, key by key, made at once:

    resident   scan over k:  x_k = draw(key_k);  step(x_k)
    streamed   scan over chunks:  x_{1…K'} = vmap(draw)(key_{1…K'}), one host read;  scan over k:  step(x_k)
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

CHUNK_STEPS = 64
"""Steps that one host read serves at most: a read costs about 0.1 ms besides its bytes."""
CHUNK_BYTES = 2**26
"""What the batches of a chunk may take of the device's memory, where one step does not take more."""


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
        held = jnp.zeros(0, self.array.dtype.newbyteorder("=")).dtype
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
        maps, base = [], self.array
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
            raise OSError(f"{path}, from which training inputs are read, has {size} bytes and must have {needed}; {fix}")


def take(inputs: jax.Array | HostArray, rows: jax.Array) -> jax.Array:
    """`inputs[rows]`, `[..., *inputs.shape[1:]]` on the device, wherever the inputs lie.

    Args:
        inputs: `[N, ...]`.
        rows: `[...]` integers in 0 … N−1. From host memory they are read by one call, however often the whole is
            mapped by `vmap`.

    >>> import jax, jax.numpy as jnp, numpy as np
    >>> squares = np.arange(5) ** np.int32(2)
    >>> [take(x, jnp.array([3, 1])).tolist() for x in (jnp.asarray(squares), HostArray(squares.astype(np.int32)))]
    [[9, 1], [9, 1]]
    """
    if not isinstance(inputs, HostArray):
        return inputs[rows]
    result = jax.ShapeDtypeStruct(rows.shape + inputs.shape[1:], inputs.dtype)
    return jax.pure_callback(inputs.read, result, rows, vmap_method="broadcast_all")


def chunk_length(batches: Any) -> int:
    """How many steps a host read serves, for steps that read `batches` each (arrays or their shapes).

    >>> import jax, jax.numpy as jnp
    >>> [chunk_length(jax.ShapeDtypeStruct((n, 1024), jnp.uint8)) for n in (1, 2**12, 2**20)]
    [64, 16, 1]
    """
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(batches))
    return max(1, min(CHUNK_STEPS, CHUNK_BYTES // max(size, 1)))


def chunk_of(draw: Callable[[jax.Array], Any], rng_key: jax.Array) -> int | None:
    """`chunk_length` of what `draw(rng_key)` gives, or None where drawing reads nothing from host memory.

    Found in the trace of `draw`, so that whoever writes a draw need not know where the inputs lie.

    >>> import jax, numpy as np
    >>> inputs = np.zeros((4, 1), np.uint8)
    >>> draw = lambda inputs: lambda key: take(inputs, jax.random.randint(key, (2,), 0, 4))
    >>> chunk_of(draw(jax.numpy.asarray(inputs)), jax.random.key(0)), chunk_of(draw(HostArray(inputs)), jax.random.key(0))
    (None, 64)
    """
    jaxpr, batches = jax.make_jaxpr(draw, return_shape=True)(rng_key)
    return chunk_length(batches) if _reads_host(jaxpr) else None


def _reads_host(traced: Any) -> bool:
    if isinstance(traced, ClosedJaxpr):
        return _reads_host(traced.jaxpr)
    if not isinstance(traced, Jaxpr):
        return False
    return any(
        eqn.primitive.name == "pure_callback" or any(_reads_host(inner) for inner in jax.tree.leaves(eqn.params))
        for eqn in traced.eqns
    )


@contextlib.contextmanager
def reading(inputs: jax.Array | HostArray) -> Iterator[None]:
    """Around programs that read `inputs`: an error of `HostArray.check` leaves as itself, not as XLA's report of it.

    >>> import numpy as np
    >>> with reading(HostArray(np.zeros((2, 3), np.uint8))):
    ...     pass
    """
    try:
        yield
    except jax.errors.JaxRuntimeError:
        if isinstance(inputs, HostArray):
            inputs.check()
        raise
