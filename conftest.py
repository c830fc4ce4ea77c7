"""What every process of the tests does: compile cheaply and once, and hand programs back before memory maps run out.

XLA's optimisation is off: no test measures speed, and compiling is most of their time. Equal programs are compiled once
for all modules, workers and subprocesses, through JAX's cache on disk, in a folder that ends with the session.
"""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

XLA_FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",  # the older emitters compile in a third of the time
    "--xla_cpu_parallel_codegen_split_count=1",  # a small program is not worth 32 modules of LLVM
)
CONTROLLER = "PYTEST_XDIST_WORKER" not in os.environ
if CONTROLLER:  # before XLA starts; workers, and the programs that tests start, inherit it
    os.environ["XLA_FLAGS"] = " ".join((*XLA_FLAGS, os.environ.get("XLA_FLAGS", ""))).strip()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="ugclu-programs-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"  # smaller programs compile as fast as they load
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_num_cpu_devices", 8)  # before anything asks for a device; programs use the first as ever

MAPS = Path("/proc/self/maps")
FREE_ABOVE = 8_000  # memory maps; a compiled program keeps about 15
MOST_MAPS = 30_000  # the kernel allows 65,530, and a compilation that gets none dies of a segmentation fault


def pytest_unconfigure() -> None:
    if CONTROLLER:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


def memory_maps() -> int:
    return MAPS.read_bytes().count(b"\n") if MAPS.exists() else 0


@pytest.fixture(autouse=True, scope="module")
def _programs_freed() -> Iterator[None]:
    """Frees the programs of a module when there are many; fails in a module that ends with too many all the same."""
    yield
    most = memory_maps()
    if most > FREE_ABOVE:
        jax.clear_caches()
        gc.collect()
    assert most < MOST_MAPS, f"{most} memory maps at the end of this module, which must stay below {MOST_MAPS}"
