"""Stable ids: what they are made of, and streams that are written with them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax import data, requests
from ugclu_jax.data.ids import example_id, split_and_position, split_ids
from ugclu_jax.requests import Request


@given(st.sampled_from(["train", "test"]), st.integers(0, 2**40 - 1))
def test_split_and_position_come_back(split, position):
    made = example_id(split, position)
    assert split_and_position(made) == (split, position)
    assert made == position + (1099511627776 if split == "test" else 0)
    assert np.int64(made) == made  # a signed 64-bit integer holds it, and so does a JSON number
    assert float(made) == made


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: example_id("validation", 0), "split is 'validation': it must be 'train' or 'test'"),
        (lambda: example_id("train", -1), "position is -1"),
        (lambda: example_id("train", 2**40), "position is 1099511627776"),
        (lambda: split_and_position(-1), "id is -1"),
        (lambda: split_and_position(2**41), "id is 2199023255552"),
    ],
)
def test_what_is_no_id_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ids_of_a_whole_split():
    assert split_ids("test", 3).tolist() == [2**40, 2**40 + 1, 2**40 + 2] and split_ids("test", 3).dtype == np.int64


LABELS = np.arange(40) % 4


def dataset():
    inputs = np.arange(40, dtype=np.uint8)[:, None]  # an example is known by its input
    return data.from_arrays("toy", inputs, LABELS, inputs[:4], LABELS[:4])


@st.composite
def rows_and_cut(draw):
    cut = data.subset(dataset(), draw(st.integers(1, 10)), seed=draw(st.integers(0, 9)))
    rows = draw(st.sets(st.integers(0, len(cut.train_labels) - 1), min_size=1))
    return cut, sorted(rows)


@settings(max_examples=100, deadline=None)
@given(rows_and_cut())
def test_a_stream_of_a_cut_names_examples_of_the_whole(drawn):
    cut, rows = drawn
    stream = (Request("learn", "a", rows), Request("unlearn", "b", rows[:1]))
    text = requests.to_json(stream, cut.train_ids)
    assert requests.from_json(text, cut.train_labels, cut.train_ids) == stream
    whole = requests.from_json(text, LABELS, dataset().train_ids)
    assert whole[0].ids.tolist() == cut.train_inputs[rows, 0].tolist()
    assert whole[0].ids.dtype == np.int32


def test_ids_in_any_order_find_their_rows():
    ids = np.array([30, 2, 2**39, 7])
    text = document([7, 2**39])
    assert requests.from_json(text, [0, 1, 0, 1], ids)[0].ids.tolist() == [2, 3]
    assert requests.from_json(text, [0, 1, 0, 1], ids) == requests.from_json(
        requests.to_json((Request("learn", "a", [3, 2]),), ids), [0, 1, 0, 1], ids
    )


def document(ids=None, **selector):
    selector = selector or {"ids": ids}
    return json.dumps(
        {"format": "ugclu-requests", "version": 1, "requests": [{"kind": "learn", "name": "a", **selector}]}
    )


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"ids": [4, 2**40 + 1]}, r"request 1 \('a'\) has ids 1099511627777 of the test split"),
        ({"ids": [4, 5, 6]}, r"has ids 5 of examples that were cut away"),
        ({"ids": [-1]}, "has ids -1 that no example can have"),
        ({"ids": [4, 2**70]}, "has ids 1180591620717411303424 that no example can have"),
        ({"ids": [4, 4]}, r"ids 4 \(1 in all\) more than once"),
        ({"ids": []}, "has 0 ids"),
        ({"id_ranges": [[2, 7]]}, "has ids 3, 5 of examples that were cut away"),
        ({"id_ranges": [[4, 2**40 + 2]]}, "has ids 5, 7, 9, 11, 13, … of examples that were cut away"),
        ({"id_ranges": [[2**40, 2**40 + 2]]}, "has ids 1099511627776, 1099511627777 of the test split"),
        ({"id_ranges": [[0, 2**41 + 1]]}, "0 ≤ start < stop ≤ 2199023255552"),
    ],
)
def test_an_id_without_a_row_is_refused_with_the_reason(selector, message):
    even = np.arange(0, 20, 2)
    with pytest.raises(ValueError, match=message):
        requests.from_json(document(**selector), even % 4, even)


def test_the_ledger_speaks_of_stable_ids():
    ids = np.array([100, 200])
    entries = [{"kind": "learn", "name": "a", "ids": [200]}, {"kind": "learn", "name": "b", "ids": [200]}]
    text = json.dumps({"format": "ugclu-requests", "version": 1, "requests": entries})
    with pytest.raises(ValueError, match=r"learns ids 200 \(1 in all\) that are retained already"):
        requests.from_json(text, [0, 1], ids)


def test_a_held_out_example_is_no_training_example():
    part = data.hold_out(dataset(), 8, seed=0)
    with pytest.raises(ValueError, match=rf"has ids {part.test_ids[0]} of examples that were cut away"):
        requests.from_json(document([int(part.test_ids[0])]), part.train_labels, part.train_ids)
