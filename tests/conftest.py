"""Fixtures of several test files: float64 for one test, and two tiny networks with NumPy twins."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

collect_ignore = ["torch_encoders.py", "torch_reference.py"]  # import torch, an extra; have no doctests
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
