"""Fixtures of several test files: float64 for one test, compiling once, and two tiny networks with NumPy twins."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_num_cpu_devices", 8)  # before anything asks for a device; programs use the first as ever
collect_ignore = ["torch_reference.py"]  # imports torch, an extra; has no doctests
FEATURES, HIDDEN, CLASSES = 3, 4, 3


class Tiny(NamedTuple):
    """The same network twice, with one draw of parameters."""

    apply_fn: object  # an ApplyFn without state
    twin: reference.Network
    params: reference.Tree  # float64


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def compilations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compilations")


@pytest.fixture(scope="module")
def compiled_once(compilations: Path) -> Iterator[dict[str, str]]:
    """Equal programs are compiled once, though each run makes its own: JAX's cache on disk, and the same for a process.

    Yields:
        Environment variables that switch it on in a subprocess.
    """
    settings = {
        "jax_compilation_cache_dir": str(compilations),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # it looks at its folder once
        if values is settings:
            yield {name.upper(): str(value) for name, value in settings.items()}


def _regression(params, model_state, inputs, *, train, rng_key):
    return inputs @ params["kernel"] + params["bias"], model_state


def _mlp(params, model_state, inputs, *, train, rng_key):
    return jnp.tanh(inputs @ params["kernel1"] + params["bias1"]) @ params["kernel2"] + params["bias2"], model_state


def _draw(**shapes: tuple[int, ...]) -> reference.Tree:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def regression() -> Tiny:
    return Tiny(_regression, reference.REGRESSION, _draw(kernel=(FEATURES, CLASSES), bias=(CLASSES,)))


@pytest.fixture(scope="session")
def mlp() -> Tiny:
    params = _draw(kernel1=(FEATURES, HIDDEN), bias1=(HIDDEN,), kernel2=(HIDDEN, CLASSES), bias2=(CLASSES,))
    return Tiny(_mlp, reference.MLP, params)


@pytest.fixture(scope="session", params=["regression", "mlp"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return request.getfixturevalue(request.param)
