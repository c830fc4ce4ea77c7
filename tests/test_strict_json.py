"""JSON as its standard has it, in every encoding of Unicode; what is refused has a line and a column."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.strict_json import DEEPEST, parse, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
@settings(max_examples=300, deadline=None)
def test_what_json_writes_is_read_as_python_reads_it(value, escape, indent):
    text = json.dumps(value, ensure_ascii=escape, indent=indent)
    assert parse("it", text) == json.loads(text) == value


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"],
)
def test_every_encoding_of_unicode_is_read(tmp_path, encoding):
    value = [{"é 文 𝄞": "\u2028\u0085\r\n\0"}, 1]
    (tmp_path / "it.json").write_bytes(json.dumps(value, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "it.json") == value


REFUSED = {
    "nothing": ("", "^it is empty"),
    "space": (" \n", "^it is empty"),
    "comma in an object": ('{"a": 1,\n}', "line 2, column 1: not JSON|line 1, column 8: not JSON"),
    "comma in a list": ("[1,\n2,]", "line 2, column [23]: not JSON"),
    "twice": ('{"a": 1, "b": {"a": 1},\r "a": 2}', "line 2, column 2: the key 'a' stands twice"),
    "twice, written otherwise": ('{"a": 1, "\\u0061": 2}', "column 10: the key 'a' stands twice"),
    "twice, deep": ('[[{"x": [{"b": 1, "b": 1}]}]]', "column 19: the key 'b' stands twice"),
    "twice, a space before the colon": ('{"a" : 1, "a"\n: 2}', "column 11: the key 'a'"),
    "not a number": ("[1,\n NaN]", "line 2, column 2: NaN is no JSON"),
    "infinity": ('{"a": Infinity}', "column 7: Infinity is no JSON"),
    "minus infinity": ("[-Infinity]", "column 2: -Infinity is no JSON"),
    "beyond float64": ("[1e999]", "column 2: 1e999 is larger than the largest number"),
    "below float64": ("[-1E+400]", "column 2: -1E.400 is larger"),
    "digits": (f"[{'9' * 5000}]", "a number of 5000 digits"),
    "half a pair": ('["ab\\ud800"]', r"column 5: \\ud800 is half of a surrogate pair"),
    "the second half": ('["\\uDC00x"]', r"column 3: \\uDC00 is half"),
    "pair in the wrong order": ('["\\udc00\\ud800"]', "column 3"),
    "half a pair in a key": ('{"\\ud83dx": 1}', "half of a surrogate pair"),
    "deep": ("[" * 100_000, f"column {DEEPEST + 1}: more than {DEEPEST} brackets"),
    "deep objects": ('{"a":' * 200 + "1" + "}" * 200, f"more than {DEEPEST} brackets"),
    "single quotes": ("{'a': 1}", "line 1, column 2: not JSON"),
    "comment": ("[1] // one", "column 5: not JSON"),
    "control character": ('["a\tb"]', "column 4: not JSON"),
    "open string": ('["a', "not JSON"),
    "two values": ("1 2", "column 3: not JSON"),
    "leading zero": ("[01]", "not JSON"),
    "digits of another script": ("[١]", "not JSON"),
    "space of another script": ("[\u00a01]", "not JSON"),
    "python's words": ("[True]", "column 2: not JSON"),
    "wrong escape": ('{"\\x": 1, "\\x": 2}', "column 3: not JSON"),
    "closing alone": ("]", "not JSON"),
    "crossed": ("[}", "not JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_json_is_refused_with_its_place(case):
    text, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as error:
        parse("it", text)
    assert type(error.value) is ValueError and len(str(error.value)) < 200


def test_what_looks_like_a_fault_within_a_string_is_text():
    value = {"a": 'NaN [[ {"a": 1, "a": 2} \\ud800 1e999', "\\": "\\\\ud800", "b": ["\U0001d11e", "\\" * 7]}
    assert parse("it", json.dumps(value)) == value
    assert parse("it", "[" * DEEPEST + "]" * DEEPEST) is not None
    assert parse("it", f"[{10**300}, 1e-999, -0.0]") == [10**300, 0.0, -0.0]
    assert math.copysign(1, parse("it", "-0.0")) == -1


def test_files_that_are_no_json_are_named(tmp_path):
    path = tmp_path / "it.json"
    path.write_bytes(b'{"a": 1,\r\n\r\n"\xe9": 2}')
    with pytest.raises(ValueError, match=r"it\.json, line 3, byte 13 of the file: not UTF-8 .*; convert the file"):
        read_json(path)
    path.write_bytes(b"\xff\xfe[\0\n\x001\0]")
    with pytest.raises(ValueError, match=r"line 2, byte 8 of the file: not UTF-16 \(truncated data\)"):
        read_json(path)
    with pytest.raises(ValueError, match="is a folder"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nowhere.json")


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\u0dD8ceE+-.NaInfinity 1\n\t').map(str.encode))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        value = read_json(path)
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error)
    else:
        json.dumps(value, allow_nan=False).encode()
