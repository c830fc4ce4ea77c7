"""The tensors of a state dict that torch saved before its version 1.6, read without torch and without running pickles.

    pickle: a magic number · pickle: 1001 · pickle: the machine · pickle: the dict · pickle: keys of the storages ·
    for each key, 8 bytes how many numbers, then the numbers

A pickle is a program. Here it may call what makes a dict of tensors, and nothing else.
"""

import collections
import io
import math
import pickle
from typing import Any, NamedTuple

import numpy as np

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_SIZE = np.dtype("<i8")
_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Storage(NamedTuple):
    """What a pickle says of a row of numbers that stands behind it."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A block of a storage, the shape that it is given, and the axes from the outermost to the innermost one."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    order: tuple[int, ...]


def state_dict(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file by name, copied.

    Args:
        content: of the file.

    Raises:
        ValueError: it is damaged, of another format, or asks for anything but tensors.

    Example:
        >>> state_dict(b"not a pickle")
        Traceback (most recent call last):
        ...
        ValueError: not a state dict that torch saved before 1.6: invalid load key, 'n'.
    """
    file = io.BytesIO(content)
    try:
        if (_Tensors(file).load(), _Tensors(file).load()) != (_MAGIC, _PROTOCOL):
            raise ValueError("it does not begin with torch's numbers")
        if not _Tensors(file).load().get("little_endian"):
            raise ValueError("its bytes are in another order")
        found, keys = _Tensors(file).load(), _Tensors(file).load()
        if not isinstance(found, dict) or not all(isinstance(one, _Tensor) for one in found.values()):
            raise ValueError("it holds something else than tensors by name")
        sizes = {tensor.storage.key: tensor.storage for tensor in found.values()}
        numbers = {key: _numbers(file, sizes[key]) for key in keys}
        return {str(name): _array(tensor, numbers[tensor.storage.key]) for name, tensor in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"not a state dict that torch saved before 1.6: {error}") from error


class _Tensors(pickle.Unpickler):
    """Reads a pickle that makes tensors: any other name in it is refused, before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for here."""
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            **{("torch", kind): np.dtype(dtype) for kind, dtype in _TYPES.items()},
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which makes no tensor")
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, of which the pickle has the key alone."""
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(size) is not int or view is not None:
            raise pickle.UnpicklingError(f"it asks for {kind!r}, which is no whole storage")
        return _Storage(str(key), dtype, size)


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    """What the pickle calls for each tensor: its numbers lie in a block, in whatever order of the axes."""
    if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
        raise pickle.UnpicklingError(f"a tensor {shape} has the strides {strides} and the offset {offset}")
    # Outermost first; where an axis has one place, its stride says nothing.
    order = tuple(sorted(range(len(shape)), key=lambda axis: (-strides[axis], -shape[axis])))
    step = 1
    for axis in reversed(order):
        if shape[axis] > 1 and strides[axis] != step:
            raise pickle.UnpicklingError(f"a tensor {shape} has the strides {strides}, and must be one block")
        step *= shape[axis]
    return _Tensor(storage, offset, tuple(shape), order)


def _numbers(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    (size,) = np.frombuffer(file.read(_SIZE.itemsize), _SIZE)
    content = file.read(storage.size * storage.dtype.itemsize)
    if size != storage.size or len(content) != storage.size * storage.dtype.itemsize:
        raise ValueError(f"its storage {storage.key} must have {storage.size} numbers, and is cut off")
    return np.frombuffer(content, storage.dtype)


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    size = math.prod(tensor.shape)
    found = numbers[tensor.offset : tensor.offset + size]
    if len(found) != size:
        raise ValueError(f"a tensor {tensor.shape} goes beyond its storage of {len(numbers)} numbers")
    block = found.reshape([tensor.shape[axis] for axis in tensor.order])
    return block.transpose(np.argsort(tensor.order)).copy(order="C")
