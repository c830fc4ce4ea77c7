"""Book-keeping of a stream against Python sets; random parts of it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.requests import Groups, Request, drawn, rows_of, situations, task_aware, validate

TRAIN_LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
TEST_LABELS = np.array([0, 1, 2, 3, 3])
GROUPS = Groups({"low": (0, 1), "high": (2, 3)})
SIZES = len(TRAIN_LABELS), len(TEST_LABELS)


def group_of(label):
    return next(name for name, classes in GROUPS.classes.items() if label in classes)


def after_each(stream):
    return situations(stream, TRAIN_LABELS, TEST_LABELS, 4, GROUPS)


@st.composite
def streams(draw):
    """Valid streams of any subsets: re-learning, partial unlearning, and unlearning of everything included."""
    retained, stream = set(), []
    for index in range(draw(st.integers(1, 7))):
        free = sorted(set(range(len(TRAIN_LABELS))) - retained)
        kinds = ["learn"] * bool(free) + ["unlearn"] * bool(retained)
        kind = draw(st.sampled_from(kinds))
        ids = draw(st.sets(st.sampled_from(free if kind == "learn" else sorted(retained)), min_size=1))
        retained = retained | ids if kind == "learn" else retained - ids
        stream.append(Request(kind, f"request {index}", sorted(ids)))
    return tuple(stream)


def ids(array):
    return None if array is None else set(array.tolist())


@settings(max_examples=100, deadline=None)
@given(streams())
def test_situations_are_what_sets_say(stream):
    validate(stream, len(TRAIN_LABELS))
    retained, seen, learned_at, past = set(), set(), {}, {}
    found = after_each(stream)
    assert len(found) == len(stream)
    for index, (request, situation) in enumerate(zip(stream, found, strict=True)):
        asked = set(request.ids.tolist())
        had = {group_of(TRAIN_LABELS[i]) for i in retained}
        seen |= asked
        if request.kind == "learn":
            retained |= asked
            for group in {group_of(TRAIN_LABELS[i]) for i in asked} - had:
                learned_at[group] = index  # a group anew, for the first time or again
            past = {t: left - asked for t, left in past.items() if left - asked}
        else:
            retained -= asked
            past[index] = asked
        has = {group_of(TRAIN_LABELS[i]) for i in retained}
        learned_groups = {group_of(TRAIN_LABELS[i]) for i in seen}
        test_rows = {name: {r for r, y in enumerate(TEST_LABELS) if group_of(y) == name} for name in GROUPS.classes}

        assert ids(situation.retained) == retained
        assert situation.retained.tolist() == sorted(retained) and situation.retained.dtype == np.int32
        assert ids(situation.learned) == (asked if request.kind == "learn" else None)
        assert ids(situation.unlearned) == ((seen - retained) or None)
        if situation.unlearned is not None:
            assert situation.unlearned.tolist() == sorted(seen - retained) and situation.unlearned.dtype == np.int32
        assert ids(situation.test) == set().union(*(test_rows[name] for name in has))
        gone = learned_groups - has
        assert ids(situation.unlearned_test) == (set().union(*(test_rows[name] for name in gone)) if gone else None)
        assert {name: ids(array) for name, array in situation.groups.items()} == {
            n: test_rows[n] for n in learned_groups
        }
        assert set(situation.retained_groups) == has
        assert situation.learned_at == learned_at
        assert {t: ids(array) for t, array in situation.past_unlearned.items()} == past


@settings(max_examples=50, deadline=None)
@given(streams(), st.integers(1, 4))
def test_drawn_situations_are_parts_of_the_whole_ones(stream, limit):
    found = after_each(stream)
    try:
        parts = drawn(found, *SIZES, limit)
    except ValueError as error:
        assert limit < len(TEST_LABELS) and f"evaluation_examples is {limit}: none of them is" in str(error)
        return
    by_set = {}
    for whole, part in zip(found, parts, strict=True):
        sets = [(getattr(whole, name), getattr(part, name)) for name in ("retained", "learned", "unlearned")]
        sets += [(whole.past_unlearned[t], part.past_unlearned[t]) for t in whole.past_unlearned]
        for every, some in sets:
            assert (every is None) == (some is None)
            if every is not None:
                assert ids(some) <= ids(every) and len(some) == min(limit, len(every))
                assert by_set.setdefault(tuple(every), tuple(some)) == tuple(some)  # equal sets, equal examples
        of_groups = set().union(*map(ids, part.groups.values()))
        assert len(of_groups) <= limit and ids(part.test) == ids(whole.test) & of_groups
        train, test = rows_of(part)
        assert ids(train) == set().union(*(ids(some) for _, some in sets if some is not None))
        assert ids(part.test) <= ids(test)


def test_a_draw_of_everything_is_the_whole():
    stream = task_aware(TRAIN_LABELS, [(0, 1), (2, 3)], "L1 L2 U1 L1")
    found = after_each(stream)
    for whole, part in zip(found, drawn(found, *SIZES, 1000), strict=True):
        np.testing.assert_equal(dataclasses.asdict(part), dataclasses.asdict(whole))


def test_a_task_learned_again_is_no_longer_unlearned():
    stream = task_aware(TRAIN_LABELS, [(0, 1), (2, 3)], "L1 L2 U1 L1")
    *_, unlearned, again = after_each(stream)
    assert ids(unlearned.unlearned) == {0, 1, 4, 5, 8, 9} and list(unlearned.past_unlearned) == [2]
    assert again.unlearned is None and again.unlearned_test is None and again.past_unlearned == {}
    assert again.learned_at == {"low": 3, "high": 1}


def test_a_stream_that_cannot_be_carried_out_has_no_situations():
    with pytest.raises(ValueError, match=r"request 2 \('b'\) unlearns ids 3 \(1 in all\) that were never learned"):
        after_each((Request("learn", "a", [0, 1]), Request("unlearn", "b", [1, 3])))
