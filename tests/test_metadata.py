"""Metadata: columns by key, the types of a CSV, and conditions against Python's own comparisons."""

import datetime
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.data.conditions import rows_where
from ugclu_jax.data.metadata import Metadata

COLUMNS = {"key": ["a", "b", "c", "d"], "class": ["cat", "dog", "cat", "dog"], "split": ["train"] * 3 + ["test"]}
KNOWN = Metadata(
    ["d", "c", "b", "zzz"],
    {"user": [17, 18, None, 17], "Name with space": ["x", "y", "it's", "w"], "day": [datetime.date(2024, 1, 2)] * 4},
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("user == 17", [3]),
        ("user = 17", [3]),
        ("USER = 17 OR user is null", [0, 1, 3]),  # a has no row of metadata, b no user
        ("not user = 17", [2]),  # of those that have one
        ("user in (17, 18) and class = 'cat'", [2]),
        ("day < '2024-01-03' and split = 'train'", [1, 2]),
        ("\"Name with space\" = 'it''s'", [1]),
        ("key like '%b%' -- the second", [1]),
        ("true", [0, 1, 2, 3]),
        ("false", []),
    ],
)
def test_a_condition_chooses_what_it_is_true_of(condition, rows):
    found = rows_where(condition, COLUMNS, KNOWN)
    assert found.tolist() == rows and found.dtype == np.int64


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "no condition"),
        ("   ", "no condition"),
        ("usr == 17", "asks for 'usr', which is no column; columns are key, class, split, user .INTEGER., Name with"),
        ("current_user = 'x'", "asks for 'current_user', which is no column"),
        ("user", "is INTEGER; a condition must be true or false"),
        ("user == 17, user == 18", "is more than one expression"),
        ("user == 17; drop table metadata", "no condition"),
        ("user == 17) or (1 = 1", "no condition"),
        ("user == 'abc'", "no condition .Could not convert string 'abc'"),
        ("user ==", "no condition"),
        ("select 1", "no condition"),
        ("user == 17 /*", "no condition"),
        ("nofunction(user)", "no condition"),
        ("exists(select * from read_csv('/etc/passwd'))", "no condition"),
        ("key in (select content from read_text('/etc/passwd'))", "asks for 'content', which is no column"),
        ("count(*) > 1", "no condition"),
        ("user == 17 \0", "no condition"),
    ],
)
def test_what_is_no_condition_is_refused_and_reads_nothing(condition, message):
    with pytest.raises(ValueError, match=message) as error:
        rows_where(condition, COLUMNS, KNOWN)
    assert repr(condition) in str(error.value) and "root:" not in str(error.value)
    assert rows_where("user == 17", COLUMNS, KNOWN).tolist() == [3], "the metadata are as they were"


@pytest.mark.parametrize(
    "condition",
    ["code == 7", "7 = code", "code in ('x', 7)", "code between 1 and 9", "not (user = 1 or -7 >= code)", "key < 7.5"],
)
def test_text_is_not_compared_with_a_number(condition):
    """DuckDB would take both for a number, and 007 for 7: another person."""
    known = Metadata(["a", "b"], {"user": [1, 2], "code": ["007", "7"]})
    columns = {"key": ["a", "b"], "class": ["1", "2"], "split": ["train"] * 2}
    with pytest.raises(
        ValueError, match=r"compares (code|key), which is text, with a number: write the number in quotes"
    ):
        rows_where(condition, columns, known)
    for meant, rows in (("code == '7'", [1]), ("cast(code as bigint) == 7", [0, 1]), ("user < 2 and code != '7'", [0])):
        assert rows_where(meant, columns, known).tolist() == rows


def test_without_a_column_of_that_name_user_is_not_the_user_of_the_database():
    with pytest.raises(ValueError, match="asks for 'user', which is no column; columns are key, class, split"):
        rows_where("user != 'x'", COLUMNS, None)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.none() | st.integers(-3, 3), min_size=1, max_size=8),
    st.sampled_from(["<", "<=", "==", "!=", ">"]),
    st.integers(-3, 3),
    st.randoms(),
)
def test_conditions_agree_with_python(users, operator, value, random):
    keys = [key for key in users if "\0" not in key]
    known = Metadata(
        [key for key in keys if users[key] != 3], {"user": [users[key] for key in keys if users[key] != 3]}
    )
    random.shuffle(keys)
    columns = {"key": keys, "class": ["c"] * len(keys), "split": ["train"] * len(keys)}
    if not any(isinstance(users[key], int) and users[key] != 3 for key in keys):
        return  # a column of nothing has no numbers to compare with
    compare = {"<": int.__lt__, "<=": int.__le__, "==": int.__eq__, "!=": int.__ne__, ">": int.__gt__}[operator]
    expected = [
        row for row, key in enumerate(keys) if users[key] is not None and users[key] != 3 and compare(users[key], value)
    ]
    assert rows_where(f"user {operator} {value}", columns, known).tolist() == expected


CSV = """file_name,user,day,at,share,kept,nothing,code,note
a,17,2024-01-02,2024-01-02 03:04:05,0.5,true,,007,"it is ""so"",
on two lines"
b,-3,2023-12-31,2024-01-02T03:04,2,FALSE,,12,
"""


def test_a_csv_keeps_what_its_values_were_written_as(tmp_path):
    (tmp_path / "metadata.csv").write_text(CSV)
    read = Metadata.read(tmp_path / "metadata.csv")
    assert read.types() == {
        "user": "BIGINT",
        "day": "DATE",
        "at": "TIMESTAMP",
        "share": "DOUBLE",
        "kept": "BOOLEAN",
        "nothing": "VARCHAR",
        "code": "VARCHAR",  # 007 is not 7
        "note": "VARCHAR",
    }
    assert read.keys() == ["a", "b"]
    columns = {"key": ["b", "a"], "class": ["c", "c"], "split": ["train", "train"]}
    for condition in (
        "code = '007'",
        "day >= '2024-01-01'",
        "note = 'it is \"so\",\non two lines'",
        "kept and user > 0",
        "share < 1",
    ):
        assert rows_where(condition, columns, read).tolist() == [1], condition


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_files_say_the_types_themselves(tmp_path, kind):
    import duckdb

    path = tmp_path / f"metadata.{kind}"
    rows = [{"file": "a", "user": "007", "tags": ["x"]}, {"file": "b", "user": "8"}]
    text = "\n".join(map(json.dumps, rows))
    if kind == "jsonl":
        path.write_text(text)
    else:
        (tmp_path / "rows.jsonl").write_text(text)
        duckdb.sql(f"copy (select * from read_json('{tmp_path / 'rows.jsonl'}')) to '{path}'")
    read = Metadata.read(path)
    assert read.types()["user"] == "VARCHAR" and read.keys() == ["a", "b"]
    columns = {"key": ["a", "b"], "class": ["c", "c"], "split": ["train", "train"]}
    assert rows_where("user = '007' and list_contains(tags, 'x')", columns, read).tolist() == [0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.csv", b"user,day\n1,2\n", "must have one column file_name or file or path.*none among user, day"),
        ("metadata.csv", b"file,path\na,b\n", "it has the columns file, path"),
        ("metadata.csv", b"file,user\na,1\na,2\n", "more than one row of 'a': keep one"),
        ("metadata.csv", b"file,user\n,1\n", "a row that names no example"),
        ("metadata.csv", b"file,class\na,1\n", "a column 'class', which every data set has of its own"),
        ("metadata.csv", b'file,user\na,"1\n', "is not readable as CSV"),
        ("metadata.csv", b"file,user\na,1,2\n", "is not readable as CSV"),
        ("metadata.csv", b"file,user\na,\xff\n", "is not readable as CSV"),
        ("metadata.jsonl", b'{"file": "a"\n', "is not readable as JSONL"),
        ("metadata.parquet", b"PAR1", "is not readable as PARQUET"),
    ],
)
def test_a_file_that_is_no_metadata_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        Metadata.read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_columns_must_be_of_the_examples():
    with pytest.raises(ValueError, match="column 'user' has 1 values for 2 examples"):
        Metadata(["a", "b"], {"user": [1]})
    with pytest.raises(ValueError, match="a column 'Key', which every data set has of its own"):
        Metadata(["a"], {"Key": [1]})
    with pytest.raises(ValueError, match="more than one row of 'a'"):
        Metadata(["a", "a"], {"user": [1, 2]})
    assert Metadata([], {}).keys() == []


def test_other_keys_have_the_same_columns():
    renamed = KNOWN.renamed({"d": "train/d.png", "b": "test/b.png"})
    assert renamed.keys() == ["test/b.png", "train/d.png"] and renamed.types() == KNOWN.types()
    columns = {"key": ["train/d.png", "d"], "class": ["c", "c"], "split": ["train", "train"]}
    assert rows_where("user == 17", columns, renamed).tolist() == [0]
