"""Padding of ids: sizes, order, and refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugclu_jax import examples


@given(st.integers(0, 10**6))
def test_bucket_is_the_least_power_of_two(count):
    bucket = examples.bucket_size(count)
    assert bucket in [2**power for power in range(6, 31)]
    assert bucket >= count and (bucket == 64 or bucket // 2 < count)


@given(st.lists(st.integers(0, 99), max_size=64), st.integers(0, 5))
def test_padding_follows_the_ids(ids, extra):
    padded = examples.pad_ids(np.array(ids, np.int32), len(ids) + extra)
    assert padded.dtype == np.int32
    assert padded.tolist() == ids + [-1] * extra


@pytest.mark.parametrize(
    "call, fragments",
    [
        (lambda: examples.bucket_size(-1), ["-1", "not be negative"]),
        (lambda: examples.pad_ids(np.arange(70), 64), ["70 ids", "64", "128"]),
    ],
)
def test_bad_arguments(call, fragments):
    with pytest.raises(ValueError) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value)
