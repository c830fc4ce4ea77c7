"""Keys of examples: what they are made of, draws that follow them, and streams that are written with them."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax import data, requests
from ugclu_jax.data.keys import content_keys, key_draws, position_keys, rows_for_test
from ugclu_jax.harness.scenarios import names_of
from ugclu_jax.requests import Request

NAMES = st.lists(st.text(min_size=1, max_size=8).filter(lambda text: "\0" not in text), unique=True, min_size=1)


@settings(max_examples=100, deadline=None)
@given(NAMES, st.data())
def test_a_draw_follows_its_key_whatever_the_others(names, drawn):
    keys = np.array(names, np.str_)
    expected = {
        name: (int.from_bytes(hashlib.sha256(b"a purpose\0" + name.encode()).digest()[:8], "big") >> 11) / 2**53
        for name in names
    }
    assert dict(zip(names, key_draws(keys, "a purpose").tolist(), strict=True)) == expected
    some = drawn.draw(st.lists(st.sampled_from(names), unique=True))
    assert key_draws(np.array(some, np.str_), "a purpose").tolist() == [expected[name] for name in some]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcdef/", min_size=1, max_size=6), st.integers(0, 2), min_size=8), st.data())
def test_an_example_that_goes_moves_no_other_to_the_other_split(folder, drawn):
    """Each key goes by its own hash, but where a class or the split would be empty."""

    def split(names):
        """A model, of sets."""
        draws = dict(zip(names, key_draws(np.array(names), "test split").tolist(), strict=True))
        chosen = {name for name in names if draws[name] < 0.4}
        classes = [[name for name in names if folder[name] == label] for label in set(folder.values())]
        for members in filter(None, classes):
            if chosen >= set(members):
                chosen.discard(max(members, key=draws.__getitem__))
        if not chosen:
            chosen = {min((name for members in classes if len(members) > 1 for name in members), key=draws.__getitem__)}
        return chosen, {name for name in names if draws[name] < 0.4}

    names = sorted(folder)
    gone = drawn.draw(st.sampled_from(names))
    left = [name for name in names if name != gone]
    for some in (names, left):
        found = rows_for_test(np.array(some), np.array([folder[name] for name in some]), 0.4)
        chosen, _ = split(some)
        assert {some[row] for row in found} == chosen
        assert {folder[name] for name in some if name not in chosen} == {folder[name] for name in some}
    (before, by_hash), (after, by_hash_after) = split(names), split(left)
    if before == by_hash and after == by_hash_after:
        assert after == before - {gone}


def test_where_nothing_can_be_spared_there_is_no_test_split():
    with pytest.raises(ValueError, match="3 examples of 3 classes, one of each: none can be spared"):
        rows_for_test(np.array(["a", "b", "c"]), np.arange(3), 0.2)
    assert rows_for_test(np.array(["a", "b", "c"]), np.array([0, 1, 1]), 1e-9).tolist() in ([1], [2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=2), min_size=1), st.randoms())
def test_keys_of_contents_in_another_order_are_the_same_keys(contents, random):
    keys = content_keys(contents)
    assert len(set(keys.tolist())) == len(contents)
    order = list(range(len(contents)))
    random.shuffle(order)
    shuffled = content_keys([contents[place] for place in order])
    named = {key: content for key, content in zip(keys.tolist(), contents, strict=True)}
    assert {key: contents[place] for key, place in zip(shuffled.tolist(), order, strict=True)} == named


LABELS = np.arange(40) % 4
FILES = np.array([f"{'abcd'[c]}/{i}.png" for i, c in enumerate(LABELS)])


def dataset(**fields):
    inputs = np.arange(40, dtype=np.uint8)[:, None]  # an example is known by its input
    return data.from_arrays("toy", inputs, LABELS, inputs[:4], LABELS[:4], class_names=list("abcd"), **fields)


def folder():
    return dataset(train_keys=FILES, test_keys=np.array([f"{c}/test.png" for c in "abcd"]), keys_are="file")


@st.composite
def rows_and_cut(draw):
    whole = draw(st.sampled_from([dataset(), folder()]))
    cut = data.subset(whole, draw(st.integers(1, 10)), seed=draw(st.integers(0, 9)))
    rows = draw(st.sets(st.integers(0, len(cut.train_labels) - 1), min_size=1))
    return whole, cut, sorted(rows)


@settings(max_examples=100, deadline=None)
@given(rows_and_cut())
def test_a_stream_of_a_cut_names_examples_of_the_whole(drawn):
    whole, cut, rows = drawn
    stream = (Request("learn", "a", rows, [1]), Request("unlearn", "b", rows[:1]))
    text = requests.to_json(stream, names_of(cut))
    assert requests.from_json(text, names_of(cut)) == stream
    of_whole = requests.from_json(text, names_of(whole))
    assert of_whole[0].ids.tolist() == cut.train_inputs[rows, 0].tolist()
    assert of_whole[0].ids.dtype == np.int32


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(40)), st.sets(st.integers(0, 39), min_size=1))
def test_a_stream_finds_its_examples_in_any_order(order, rows):
    text = requests.to_json((Request("learn", "a", sorted(rows)),), names_of(folder()))
    names = names_of(folder())
    shuffled = names._replace(train_keys=names.train_keys[order], train_labels=names.train_labels[order])
    assert sorted(np.array(order)[requests.from_json(text, shuffled)[0].ids].tolist()) == sorted(rows)


def document(**selector):
    return json.dumps([{"learn": selector, "name": "a"}])


@pytest.mark.parametrize(
    ("names", "selector", "message"),
    [
        (
            "folder",
            {"ids": ["a/0.png", "a/0.PNG"]},
            r"request 1 \('a'\) names 'a/0.PNG' \(1 in all\).*nearest there is",
        ),
        ("folder", {"ids": [4]}, "names '4' .1 in all., which the data set does not have"),
        ("folder", {"files": ["./a/0.png"]}, "names './a/0.png'"),
        ("folder", {"id_ranges": [[0, 3]]}, "'id_ranges', which only sets with numbered examples have.*'a/0.png'"),
        ("folder", {"ids": ["a/test.png"]}, "names test examples alone .1., which are never learned"),
        ("folder", {"classes": ["e"]}, "names class 'e', which is not there.*Classes: 0 = a, 1 = b"),
        (
            "folder",
            {"where": "key like 'z%'"},
            "which is true of no training example; a request must have at least one",
        ),
        ("folder", {"where": "user == 17"}, "asks for 'user', which is no column; columns are key, class, split"),
        (
            "folder",
            {"ids_file": "none.txt"},
            r"none.txt cannot be read .No such file or directory.: give a file of one id",
        ),
        ("folder", {"ids_file": 3}, r"'ids_file' of request 1 .'a'. is 3; it must be the path of a file"),
        ("cut", {"ids": [5]}, "names 'train/5' .1 in all., which the data set does not have; it may be gone, or cut"),
        ("cut", {"id_ranges": [[0, 40]]}, "names 'train/"),
    ],
)
def test_what_names_nothing_is_refused_by_name(names, selector, message):
    cut = data.subset(dataset(), 1, seed=0)
    with pytest.raises((ValueError, OSError), match=message):
        requests.from_json(document(**selector), names_of({"folder": folder(), "cut": cut}[names]))


def test_every_way_to_name_the_same_examples(tmp_path):
    (tmp_path / "ids.txt").write_text("a/0.png\r\n\na/4.png\nb/1.png\na/test.png\n")
    ways = [
        {"ids": ["a/4.png", "a/0.png", "b/1.png", "a/test.png"]},
        {"files": ["a/0.png", "a/4.png", "b/1.png", "a/test.png"]},
        {"ids_file": "ids.txt"},
        {"where": "key in ('a/0.png', 'a/4.png', 'b/1.png') or split = 'test' and class == 'a'"},
    ]
    for way in ways:
        (found,) = requests.from_json(document(**way), names_of(folder()), folder=tmp_path)
        assert (found.ids.tolist(), found.held_out.tolist()) == ([0, 1, 4], [0]), way


def test_classes_that_are_numbers_are_meant_by_their_name():
    """Folders 0 … 11, in the order of their names as text or of their numbers: 2 is the folder 2."""
    for names in (sorted(map(str, range(12))), [str(c) for c in range(12)]):
        labels = np.arange(12)
        keys = np.array([f"{name}/x.png" for name in names])
        known = requests.Names(keys, labels, keys[:0], labels[:0], tuple(names), positions=False)
        for given_class in (2, "2"):
            found = requests.from_json(document(classes=[given_class]), known)[0]
            assert keys[found.ids].tolist() == ["2/x.png"]


def test_a_stream_goes_on_with_what_its_requests_meant_before():
    names = names_of(folder())
    first = json.dumps([{"learn": {"classes": ["a"]}}])
    longer = json.dumps([{"learn": {"classes": ["a"]}}, {"unlearn": {"where": "key = 'a/0.png'"}}])
    known = requests.from_json(first, names)
    more = names._replace(train_labels=np.zeros(40, int))  # today the class has other members
    stream = requests.from_json(longer, more, known=known)
    assert stream[0] is known[0] and stream[1].ids.tolist() == [0]
    for text in (
        json.dumps([{"learn": {"classes": ["b"]}}]),
        json.dumps([{"learn": {"classes": ["a"]}, "name": "other"}]),
        json.dumps([{"learn": {"ids": ["a/0.png"]}, "name": "L a"}]),
    ):
        with pytest.raises(ValueError, match=r"request 1 is learn 'L a' of 10 examples there, and learn .* here"):
            requests.from_json(text, names, known=known)
    with pytest.raises(ValueError, match=r"request 2 is unlearn .* there, and missing here"):
        requests.from_json(first, names, known=stream)


def test_positions_are_keys_of_a_split():
    assert position_keys("test", 3).tolist() == ["test/0", "test/1", "test/2"]


def test_a_held_out_example_is_no_training_example():
    part = data.hold_out(dataset(), 8, seed=0)
    with pytest.raises(ValueError, match="names test examples alone"):
        requests.from_json(document(ids=[part.test_keys[0].item()]), names_of(part))
