"""Streams against Python sets, round trips, and each refusal with what its message must name."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax import requests
from ugclu_jax.requests import Groups, Ledger, Request

NUM_EXAMPLES = 30
LABELS = np.arange(NUM_EXAMPLES) % 6
TASKS = ((0, 1), (2, 3), (4, 5))


def after(stream, labels=LABELS):
    """The situation at the end, of a test split without examples."""
    groups = Groups({"all": tuple(range(10))})
    return requests.situations(stream, labels, np.zeros(0, int), 10, groups)[-1]


def ids_of(*classes):
    return [i for i in range(NUM_EXAMPLES) if i % 6 in classes]


@st.composite
def valid_streams(draw):
    retained, stream = set(), []
    for position in range(draw(st.integers(1, 6))):
        absent = set(range(NUM_EXAMPLES)) - retained
        learn = not retained or (bool(absent) and draw(st.booleans()))
        ids = draw(st.sets(st.sampled_from(sorted(absent if learn else retained)), min_size=1))
        retained = retained | ids if learn else retained - ids
        stream.append(Request("learn" if learn else "unlearn", draw(st.text(max_size=4)) + str(position), list(ids)))
    return tuple(stream)


@settings(max_examples=100, deadline=None)
@given(valid_streams())
def test_bookkeeping_agrees_with_sets(stream):
    requests.validate(stream, NUM_EXAMPLES)
    retained, unlearned = set(), set()
    ledger = Ledger(NUM_EXAMPLES)
    for request in stream:
        ids = set(request.ids.tolist())
        ledger.enter(request)
        retained_ids, unlearned_ids = ledger.retained(), ledger.unlearned()
        if request.kind == "learn":
            retained, unlearned = retained | ids, unlearned - ids
        else:
            retained, unlearned = retained - ids, unlearned | ids
        assert retained_ids.dtype == unlearned_ids.dtype == np.int32
        assert retained_ids.tolist() == sorted(retained)
        assert unlearned_ids.tolist() == sorted(unlearned)
        assert ledger.seen().tolist() == sorted(retained | unlearned)


@settings(max_examples=100, deadline=None)
@given(valid_streams())
def test_json_round_trip_is_exact(stream):
    text = requests.to_json(stream)
    again = requests.from_json(text, LABELS)
    assert again == stream
    assert requests.to_json(again) == text
    assert [request.ids.dtype for request in again] == [np.int32] * len(stream)


@settings(max_examples=100, deadline=None)
@given(valid_streams(), st.data())
def test_a_spoilt_stream_is_refused(stream, data):
    """Repeating any request of a valid stream right after itself learns or unlearns twice."""
    position = data.draw(st.integers(0, len(stream) - 1))
    spoilt = stream[: position + 1] + stream[position:]
    with pytest.raises(ValueError, match=rf"request {position + 2} \("):
        requests.validate(spoilt, NUM_EXAMPLES)


def test_requests_compare_by_value_and_are_read_only():
    a, b = Request("learn", "a", [2, 1]), Request("learn", "a", np.array([1, 2], np.int64))
    assert a == b and hash(a) == hash(b)
    assert a != Request("learn", "a", [1, 3]) and a != Request("unlearn", "a", [1, 2]) and a != "a"
    with pytest.raises(ValueError, match="read-only"):
        a.ids[0] = 5
    mine = np.array([3, 4], np.int32)
    Request("learn", "a", mine)
    mine[0] = 0  # the caller's array stays the caller's


def test_task_aware_defaults_and_relearning():
    labels = np.arange(50) % 5
    stream = requests.task_aware(labels, [[c] for c in range(5)])
    assert [r.name for r in stream] == ["L1", "L2", "L3", "U2", "L4", "L5", "U4"]
    assert [r.kind for r in stream] == ["learn"] * 3 + ["unlearn"] + ["learn"] * 2 + ["unlearn"]
    assert stream[3].ids.tolist() == [i for i in range(50) if i % 5 == 1]
    assert after(stream, labels).retained.tolist() == [i for i in range(50) if i % 5 in (0, 2, 4)]
    again = requests.task_aware(LABELS, TASKS, "L2 L1 U2 L2")
    assert after(again).retained.tolist() == ids_of(0, 1, 2, 3)
    assert after(again).unlearned is None


def test_class_wise_unlearns_across_tasks():
    stream = requests.class_wise(LABELS, TASKS, [0, 3])
    assert [(r.kind, r.name) for r in stream[:3]] == [("learn", "L1"), ("learn", "L2"), ("learn", "L3")]
    assert stream[-1].kind == "unlearn" and stream[-1].ids.tolist() == ids_of(0, 3)


def test_random_sample_takes_its_share_of_what_was_learned():
    labels = np.arange(1000) % 10
    stream = requests.random_sample(labels, [[0, 1], [2, 3], [4]], fraction=0.1, seed=3)  # 500 of 1000 are learned
    sample = stream[-1]
    assert sample.name == "U 10%" and len(sample.ids) == 50
    assert set(labels[sample.ids]) == {0, 1, 2, 3, 4}
    assert stream == requests.random_sample(labels, [[0, 1], [2, 3], [4]], fraction=0.1, seed=3)
    assert sample != requests.random_sample(labels, [[0, 1], [2, 3], [4]], fraction=0.1, seed=4)[-1]
    whole = requests.random_sample(labels, [[0, 1]], fraction=1.0)
    assert after(whole, labels).retained.size == 0


def test_random_sample_draws_every_example_equally_often():
    labels, due = np.zeros(20, int), 1000 * 5 / 20
    draws = np.concatenate([requests.random_sample(labels, [[0]], 0.25, seed)[-1].ids for seed in range(1000)])
    counts = np.bincount(draws, minlength=20)
    # Five standard deviations of a binomial count: about 1e-5 for twenty examples.
    assert np.abs(counts - due).max() < 5 * np.sqrt(1000 * 0.25 * 0.75)


def test_json_selectors():
    text = json.dumps(
        [
            {"learn": {"classes": [0, 1]}},
            {"learn": {"id_ranges": [[2, 4], [8, 9]]}, "name": "b"},
            {"unlearn": {"ids": [0, 2]}, "name": "c"},
            {"unlearn": {"classes": [0, "2"]}},
            {"unlearn": {"fraction": 0.5, "seed": 1}},
        ]
    )
    stream = requests.from_json(text, LABELS.tolist())
    assert stream[0].ids.tolist() == ids_of(0, 1)
    assert stream[1].ids.tolist() == [2, 3, 8]
    assert stream[3].ids.tolist() == [6, 8, 12, 18, 24]  # of classes 0 and 2, what is retained by then
    assert len(stream[4].ids) == 3 and set(stream[4].ids) <= {1, 3, 7, 13, 19, 25}
    assert [request.name for request in stream] == ["L 0,1", "b", "c", "U 0,2", "U 0.5"]
    assert [bool(request.asked) for request in stream] == [True, False, False, True, True]
    assert stream == requests.from_json(text, LABELS)
    assert stream == requests.from_json(requests.to_json(stream), LABELS)


def test_long_runs_are_written_as_ranges():
    assert '"id_ranges": [[0, 1000]]' in requests.to_json([Request("learn", "a", range(1000))])
    assert '"ids": [0, 2]' in requests.to_json([Request("learn", "a", [0, 2])])


LEARN = Request("learn", "start", range(10))
REFUSED = {
    "empty stream": ([], ["0 requests", "add a learn request"]),
    "empty request": ([Request("learn", "none", [])], ["request 1 ('none')", "0 ids", "leave the request out"]),
    "unknown kind": ([Request("unlern", "x", [1])], ["request 1 ('x')", "'unlern'", "did you mean 'unlearn'"]),
    "too large": ([Request("learn", "x", [1, 30])], ["request 1 ('x')", "ids 30 (1 in all)", "from 0 to 29"]),
    "negative": ([Request("learn", "x", [-1, 4])], ["request 1 ('x')", "ids -1 (1 in all)", "from 0 to 29"]),
    "duplicated": ([Request("learn", "x", [4, 1, 4, 4])], ["request 1 ('x')", "ids 4 (1 in all)", "np.unique"]),
    "retained": ([LEARN, Request("learn", "x", [9, 10])], ["request 2 ('x')", "ids 9 (1 in all)", "retained already"]),
    "never learned": (
        [LEARN, Request("unlearn", "x", range(8, 20))],
        ["request 2 ('x')", "ids 10, 11, 12, 13, 14, … (10 in all)", "never learned", "take them out"],
    ),
    "twice": (
        [LEARN, Request("unlearn", "x", [3]), Request("unlearn", "y", [3, 4])],
        ["request 3 ('y')", "ids 3 (1 in all)", "twice", "learn them again"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_validate_names_request_ids_rule_and_fix(case):
    stream, fragments = REFUSED[case]
    with pytest.raises(ValueError) as error:
        requests.validate(stream, NUM_EXAMPLES)
    for fragment in fragments:
        assert fragment in str(error.value)


def document(*entries):
    return json.dumps(entries)


A = {"learn": {"ids": [0, 1]}, "name": "a"}


def unlearning(**selector):
    return {"unlearn": selector, "name": "b"}


MALFORMED = {
    "not JSON": ('[{"learn":\n {"ids" [1]}}]', ["the request stream, line 2, column 9"]),
    "not a list": (json.dumps(A), ["the request stream", "a list of at least one request"]),
    "twice": ('[{"learn": {"ids": [0]}, "learn": {"ids": [1]}}]', ["the key 'learn' stands twice in one object"]),
    "no number": ('[{"learn": {"ids": [NaN]}}]', ["line 1, column 21"]),
    "no requests": (document(), ["the request stream", "at least one request"]),
    "nested": ("[" * 100_000, ["brackets are open; nest less deeply"]),
    "request no object": (document(A, 3), ["request 2", "is 3", "an object such as"]),
    "lacks kind": (document({"name": "a"}), ["request 1", "none of ['learn', 'unlearn']", "exactly one"]),
    "two kinds": (document(A | {"unlearn": {"ids": [0]}}), ["request 1", "['learn', 'unlearn']", "exactly one"]),
    "unknown kind": (document({"lern": {"ids": [1]}}), ["request 1", "'lern'", "did you mean 'learn'"]),
    "unknown field": (document({"learn": {"clases": [1]}}), ["request 1", "'clases'", "did you mean 'classes'"]),
    "name": (document(A | {"name": 1}), ["request 1", "'name'", "a string"]),
    "empty name": (document(A | {"name": ""}), ["request 1", "'name'", "not empty"]),
    "no object": (document({"learn": [0, 1]}), ["request 1", "[0, 1]", "an object with one of"]),
    "no selector": (document({"learn": {}}), ["request 1", "none of", "exactly one"]),
    "two selectors": (document({"learn": {"ids": [1], "classes": [0]}}), ["['ids', 'classes']", "exactly one"]),
    "ids": (document({"learn": {"ids": [0, 1.5]}}), ["'ids'", "[0, 1.5]", "a list of ids"]),
    "ids true": (document({"learn": {"ids": [True]}}), ["'ids'", "[True]", "a list of ids"]),
    "ids huge": (document({"learn": {"ids": [2**70]}}), ["'train/1180591620717411303424'", "does not have"]),
    "ids beyond": (document({"learn": {"ids": [30]}, "name": "a"}), ["request 1 ('a')", "'train/30' (1 in all)"]),
    "ids negative": (document({"learn": {"ids": [-1]}}), ["'-1' (1 in all)", "does not have"]),
    "range": (document({"learn": {"id_ranges": [[4, 4]]}}), ["'id_ranges'", "0 ≤ start < stop"]),
    "range end": (document({"learn": {"id_ranges": [[0, 10**12]]}}), ["'train/30', 'train/31'", "does not have"]),
    "range absurd": (document({"learn": {"id_ranges": [[0, 10**30]]}}), ["'id_ranges'", "0 ≤ start < stop"]),
    "no ranges": (document({"learn": {"id_ranges": []}}), ["request 1", "0 ids"]),
    "class": (document({"learn": {"classes": [0, 9]}}), ["request 1", "class 9", "Classes: 0 = 0, 1 = 1"]),
    "class null": (document({"learn": {"classes": None}}), ["'classes'", "None", "by name or number"]),
    "no classes": (document({"learn": {"classes": []}}), ["'classes'", "[]", "by name or number"]),
    "where": (document({"learn": {"where": 3}}), ["'where'", "a condition, such as"]),
    "where without columns": (document({"learn": {"where": "user == 17"}}), ["no columns to ask"]),
    "class of none left": (document(A, unlearning(classes=[5])), ["request 2 ('b')", "none of which is retained"]),
    "seedless": (document(A, unlearning(fraction=0.5)), ["request 2", "'seed'"]),
    "seed": (document(A, unlearning(fraction=0.5, seed=-1)), ["'seed'", "is -1"]),
    "stray seed": (document({"learn": {"ids": [1], "seed": 1}}), ["request 1", "'fraction' and 'seed'"]),
    "fraction": (document(A, unlearning(fraction="x", seed=0)), ["'fraction'", "'x'"]),
    "fraction range": (document(A, unlearning(fraction=1.5, seed=0)), ["('b')", "1.5"]),
    "fraction of learn": (document({"learn": {"fraction": 0.5, "seed": 0}}), ["only unlearn"]),
    "asked": (document(A | {"asked": {"ids": [1]}}), ["'asked'", "classes, where, fraction"]),
    "held out": (document(A | {"held_out": ["train/3"]}), ["'train/3' in 'held_out'", "no test example"]),
    "stream": (document(A, A | {"name": "b"}), ["request 2 ('b')", "retained already", "train/0, train/1"]),
    "format of before": (json.dumps({"format": "ugclu-requests", "version": 1, "requests": []}), ["a list of"]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_json_names_the_place(case):
    text, fragments = MALFORMED[case]
    with pytest.raises(ValueError) as error:
        requests.from_json(text, LABELS)
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    "call, fragments",
    [
        (lambda: requests.task_aware(LABELS, TASKS, "L1 X2"), ["token 2", "'X2'", "L1 or U1"]),
        (lambda: requests.task_aware(LABELS, TASKS, "L1 L4"), ["token 2", "'L4'", "from 1 to 3"]),
        (lambda: requests.task_aware(LABELS, TASKS, "L0"), ["token 1", "'L0'", "counted from 1"]),
        (lambda: requests.task_aware(LABELS, TASKS, "L1 U2"), ["request 2 ('U2')", "never learned"]),
        (lambda: requests.task_aware(LABELS, TASKS, "L1 U1 U1"), ["request 3 ('U1')", "twice"]),
        (lambda: requests.task_aware(LABELS, TASKS, ""), ["0 requests"]),
        (lambda: requests.task_aware(LABELS, [[0, 1], [1, 2]]), ["[1]", "more than once"]),
        (lambda: requests.task_aware(LABELS, [[0], [7]], "L1"), ["task 2", "[7]", "[0, 1, 2, 3, 4, 5]"]),
        (lambda: requests.task_aware(LABELS, TASKS, "L1", 0), ["parts is 0", "from 1 to 10"]),
        (lambda: requests.task_aware(LABELS, TASKS, "L1", 11), ["parts is 11", "10 examples"]),
        (lambda: requests.class_wise(LABELS, TASKS[:2], [0, 5]), ["[5]", "belong to no task", "[0, 1, 2, 3]"]),
        (lambda: requests.class_wise(LABELS, TASKS, []), ["request 4", "0 ids"]),
        (lambda: requests.random_sample(LABELS, TASKS, 0.0), ["fraction 0.0", "above 0"]),
        (lambda: requests.random_sample(LABELS, TASKS, float("nan")), ["fraction nan"]),
        (lambda: requests.random_sample(LABELS, TASKS, 0.001), ["fraction 0.001", "of 30", "larger fraction"]),
        (lambda: requests.random_sample(LABELS, [], 0.1), ["of 0 retained examples", "learn first"]),
        (lambda: requests.split_classes(10, 3), ["10 classes", "3 equal tasks", "[1, 2, 5, 10]"]),
        (lambda: requests.split_classes(10, 0), ["0 equal tasks"]),
        (lambda: Request("learn", "a", [[1]]), ["'a'", "[[1]]", "flat list"]),
        (lambda: Request("learn", "a", [0.5]), ["'a'", "[0.5]"]),
        (lambda: Request("learn", "a", [2**31]), ["'a'", "2147483648", "32-bit"]),
    ],
)
def test_bad_arguments(call, fragments):
    with pytest.raises(ValueError) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value)
