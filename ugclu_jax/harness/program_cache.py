"""Compiled programs are kept on disk, so that a second start compiles nothing again."""

import os
from pathlib import Path

import jax

FOLDER = "programs"
"""Below the folder of caches."""
MOST_BYTES = 2 * 1024**3
"""What was not used for longest leaves first. A ResNet's request is about 70 MB on a CPU."""
LEAST_SECONDS = 0.1
"""A program that compiles faster is compiled again: a run has many of them, and each kept one is a file more."""


def keep_programs(cache: Path) -> None:
    """Let JAX keep what it compiles below `cache/programs`, and read it from there.

    The variables `JAX_COMPILATION_CACHE_DIR`, `JAX_COMPILATION_CACHE_MAX_SIZE` and
    `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` have the last word, and `JAX_ENABLE_COMPILATION_CACHE=false` turns it
    off. A program's name is a hash of its code, of JAX's version and of the processor, so that a folder may serve
    several machines. Programs get data as arguments: no example lies in one.

    Args:
        cache: a folder; made where it is missing, as the first program is written.

    >>> import tempfile
    >>> given = jax.config.values["jax_compilation_cache_dir"]
    >>> keep_programs(Path(tempfile.gettempdir()))
    >>> given is None or jax.config.values["jax_compilation_cache_dir"] == given
    True
    """
    settings = {
        "jax_compilation_cache_dir": str((cache / FOLDER).absolute()),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": LEAST_SECONDS,
    }
    if jax.config.values["jax_compilation_cache_dir"] is not None:  # by the variable, or by a program
        return
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
