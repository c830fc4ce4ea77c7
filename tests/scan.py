"""Whether an example stands in a file or an array, in any of the ways in which one may have been written."""

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

MEAN, STD = 0.4, 0.3  # of the normalised encoding


def encodings(example: np.ndarray) -> dict[str, list[bytes]]:
    """The bytes of one example of uint8, each way; base64 at each of its three alignments."""
    raw, unit = example.tobytes(), example.astype(np.float32) / 255
    return {
        "uint8": [raw],
        "float16": [example.astype(np.float16).tobytes(), unit.astype(np.float16).tobytes()],
        "bfloat16": [np.asarray(jnp.asarray(values, jnp.bfloat16)).tobytes() for values in (example, unit)],
        "float32": [example.astype(np.float32).tobytes(), unit.tobytes()],
        "float64": [example.astype(np.float64).tobytes(), (example / 255).tobytes()],
        "normalised": [((unit - np.float32(MEAN)) / np.float32(STD)).tobytes()],
        "base64": [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)],
        "hex": [raw.hex().encode(), raw.hex().upper().encode()],
    }


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All that a folder holds: bytes of every file, of every member of an archive, of every leaf of a checkpoint."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and (path / "_CHECKPOINT_METADATA").exists():
            for number, leaf in enumerate(jax.tree.leaves(ocp.load(path))):
                is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                yield f"{path} leaf {number}", np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()
        elif path.is_file():
            content = path.read_bytes()
            yield str(path), content
            if zipfile.is_zipfile(io.BytesIO(content)):
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    for name in archive.namelist():
                        yield f"{path} member {name}", archive.read(name)


def found(folder: Path, examples: np.ndarray) -> list[tuple[str, str]]:
    """Where one of some examples stands, and how it is written there."""
    wanted = [(how, bytes_) for example in examples for how, ways in encodings(example).items() for bytes_ in ways]
    return [(where, how) for where, content in contents(folder) for how, way in wanted if way in content]
