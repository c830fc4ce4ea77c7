"""CSV and JSON Lines as their standards have them: any encoding, keys, metadata, and what is refused by line."""

import csv
import io
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax import data
from ugclu_jax.data import text_files
from ugclu_jax.data.keys import content_keys
from ugclu_jax.data.tables import csv_rows, jsonl_rows

GOOD = 'text,label\na,up\nb,down\n'  # fmt: skip
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS | st.sampled_from("\r\n\0\",;\t\u2028\u2029\u0085\u000b\u000c\u001c\ufeff '\\"), max_size=12)


def folder(tmp_path, train, test=GOOD, suffix="csv", encoding="utf-8"):
    tmp_path.mkdir(exist_ok=True)
    for name, content in (("train", train), ("test", test)):
        content = content.encode(encoding) if isinstance(content, str) else content
        (tmp_path / f"{name}.{suffix}").write_bytes(content)
    return tmp_path


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


GOOD_JSONL = jsonl([{"text": "a", "label": "up"}, {"text": "b", "label": "down"}])


def read(where, encoding=None):
    return text_files.read(where, encoding)


def load(where, **options):
    options = data.DataOptions(
        directory=where, cache_dir=where / "cache", text_length=8, vocabulary_size=258, **options
    )
    return data.load("text", options)


# ---- the standards


@given(
    st.lists(st.tuples(TEXTS, TEXTS.filter(str.strip), TEXTS), min_size=1, max_size=5),
    st.sampled_from(["\r\n", "\n", "\r"]),
)
@settings(max_examples=200, deadline=None)
def test_what_csv_writes_is_read_whatever_stands_in_quotes(rows, end):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "label", "more"])
    writer.writerows(rows)
    found = list(csv_rows("it", stream.getvalue(), ["text", "label"]))
    assert [tuple(row.values.values()) for row in found] == rows
    assert found[0].line == 2


@given(st.lists(st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=3), max_size=5), st.booleans(),
       st.sampled_from(["\n", "\r\n", "\r"]))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_what_json_writes_is_read_line_by_line(rows, escape, end):
    text = end.join(json.dumps(row, ensure_ascii=escape) for row in rows)
    found = list(jsonl_rows("it", text, ["text"]))
    assert [row.values for row in found] == rows
    assert [row.line for row in found] == list(range(1, len(rows) + 1))


@given(
    st.lists(st.tuples(TEXTS, st.sampled_from(["up", "down"])), min_size=1, max_size=5),
    st.sampled_from(["csv", "jsonl"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]),
)
@settings(max_examples=100, deadline=None)
def test_texts_come_back_from_files(tmp_path_factory, rows, suffix, encoding):
    where = tmp_path_factory.getbasetemp() / f"texts-{suffix}"
    if suffix == "csv":
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
        content = stream.getvalue().replace('"text"', "text", 1)
        test = GOOD
    else:
        content, test = jsonl({"text": text, "label": label} for text, label in rows), GOOD_JSONL
    found = read(folder(where, content.encode(encoding), test, suffix))
    assert list(zip(found.texts[: found.train], found.labels[: found.train], strict=True)) == rows
    assert found.places[0] == f"{where}/train.{suffix}, line {2 if suffix == 'csv' else 1}"


AS_WRITTEN = {
    "a separator of lines": ('text,label\n"a\u2028b\u2029c\u0085d",up\n', "a\u2028b\u2029c\u0085d"),
    "the same unquoted": ("text,label\na\u2028b\x0b\x0c\x1c\x1d\x1e\x85c,up\n", "a\u2028b\x0b\x0c\x1c\x1d\x1e\x85c"),
    "lines": ('text,label\r\n"a\r\nb\rc\n",up\r\n', "a\r\nb\rc\n"),
    "quotes": ('text,label\n"a ""b"" c",up\n', 'a "b" c'),
    "a quote within": ('text,label\n5" screen,up\n', '5" screen'),
    "nothing": ("text,label\n,up\n", ""),
    "zero": ("text,label\na\0b,up\n", "a\0b"),
    "space": ("text,label\n  a  ,up\n", "  a  "),
    "a long field": (f"text,label\n{'x' * 300_000},up\n", "x" * 300_000),
    "lines that end in \\r": ("text,label\ra,up\rb,up\r", "a"),
    "no end of line": ("text,label\na,up", "a"),
    "empty lines": ("\n\ntext,label\n\n\na,up\n\n", "a"),
    "other order": ("label,more,text\nup,1,other\n", "other"),
    "a column without a name": (",text,label\n0,a,up\n", "a"),
}  # fmt: skip


@pytest.mark.parametrize("case", AS_WRITTEN)
def test_a_csv_is_read_as_written(tmp_path, case):
    content, text = AS_WRITTEN[case]
    limit = csv.field_size_limit()
    assert read(folder(tmp_path, content)).texts[0] == text
    assert csv.field_size_limit() == limit


# ---- encodings

ENCODED = {
    "Polish": ("cp1250", "Zażółć gęślą jaźń dobrze,tak\nŚwietny film był źle,nie\n"),
    "Russian": ("cp1251", "Хороший фильм про любовь,да\nПлохая погода сегодня,нет\n"),
    "Russian of old": ("koi8-r", "Хороший фильм про любовь,да\nПлохая погода сегодня,нет\n"),
    "Chinese": ("big5", "這部電影非常好看,好\n天氣很糟糕,壞\n"),
    "Japanese in 7 bits": ("iso2022_jp", "とても良い映画でした,良い\n天気が悪い,悪い\n"),
}


@pytest.mark.parametrize("case", ENCODED)
def test_an_encoding_that_leaves_no_doubt_is_read_and_said(tmp_path, case):
    encoding, lines = ENCODED[case]
    content = "text,label\n" + lines * 3
    found = read(folder(tmp_path, content, content, encoding=encoding))
    right = read(folder(tmp_path, content, content))
    assert found.texts == right.texts and found.keys.tolist() == right.keys.tolist() and not right.notes
    assert len(found.notes) == 2 and all("is not UTF-8: read as" in note for note in found.notes)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-be", "shift_jis", "UTF8", "utf-8-sig", "cp037"])
def test_a_declared_encoding_is_used(tmp_path, encoding):
    content = "text,label\nどうも,up\n" if encoding == "shift_jis" else "text,label\nun café,up\n"
    found = read(folder(tmp_path, content, content, encoding=encoding), encoding)
    assert found.texts == read(folder(tmp_path, content, content)).texts and not found.notes


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"text,label\nun caf\xe9,up\n", None, r"train\.csv, line 2, byte 17 .*: not UTF-8 .*it may be cp125"),
        (b"text,label\nun gar\xe7on a mang\xe9 une p\xeache,up\n", None, "give its encoding by --data"),
        (b"text,label\nun caf\xc3\xa9,up\nb\xff,up\n", None, r"line 3, byte 24 of the file: not UTF-8 .*byte\);"),
        (b"text,label\nab\x00\xff,up\n", None, "line 2, byte 14"),
        ("text,label\na,up\n".encode("utf-16")[:-1], None, "not UTF-16"),
        (b"text,label\nun caf\xe9,up\n", "utf-8", r"line 2, byte 17 of the file: not UTF-8 .*; give the encoding"),
        (b"text,label\nun caf\xe9,up\n", "ascii", "not ASCII"),
        (b"text,label\na,up\n", "klingon", "encoding is 'klingon': Python knows none"),
        (b"text,label\na,up\n", "base64", "encoding is 'base64': Python knows none"),
        (b"text,label\na,up\n", "rot13", "encoding is 'rot13'"),
        (b"text,label\na,up\n", "idna", "encoding is 'idna'"),
        (b"text,label\na,up\n", "punycode", "encoding is 'punycode'"),
        (b"text,label\na,up\n", "unicode_escape", "encoding is 'unicode_escape'"),
        (b"text,label\na,up\n", "undefined", "encoding is 'undefined'"),
        (b"text,label\na,up\n", "a\0b", r"encoding is 'a\\x00b'"),
        (b"text,label\na,up\n", "x" * 5000, "encoding is 'x*: Python knows none"),
        (b"text,label\na,up\n", "", "encoding is ''"),
        ("text,label\na,up\n".encode("utf-16"), "cp1252", "begins with the mark of UTF-16 and encoding is 'cp1252'"),
        (b"\xef\xbb\xbftext,label\na,up\n", "latin-1", "begins with the mark of UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_text_is_refused_with_line_and_byte(tmp_path, content, encoding, message):
    with pytest.raises(ValueError, match=message):
        read(folder(tmp_path, content), encoding)


# ---- what is refused

REFUSED_CSV = {
    "semicolons": ("text;label\na;up\n", r"line 1: columns are \['text;label'\]; .* apart by semicolons"),
    "tabs": ("text\tlabel\na\tup\n", "apart by tabs"),
    "what a spreadsheet declares": ("sep=;\ntext;label\na;up\n", "apart by semicolons"),
    "no header": ("good film,up\nbad,down\n", r"columns are \['good film', 'up'\].* name them in the first line"),
    "capitals": ("Text,Label\na,up\n", r"columns are \['Text', 'Label'\]"),
    "a column twice": ("text,label,text\na,up,b\n", "line 1: the column 'text' stands twice"),
    "a quote within quotes": ('text,label\n"a"b,up\n', "line 2: not CSV"),
    "a backslash for a quote": ('text,label\na,up\n"say \\"hi\\"",up\n', "line 3: not CSV|line 3: more fields"),
    "a quote that stays open": ('text,label\na,up\n"b,up\nc,down\n', "line 3: not CSV"),
    "a comma too many": ("text,label\na,b,up\n", "line 2: more fields than columns, 3 for text, label"),
    "after a long row": ('text,label\n"a\nb\nc",up\nd\n', "line 5: fewer fields than columns"),
    "no label": ("text,label\na,\n", "line 2: text is 'a' and label ''"),
    "space for a label": ("text,label\na,up\nb, \n", "label ' ' is empty"),
    "labels that differ by space": ("text,label\na,up\nb,up \nc,down\n", "labels 'up' and 'up ' differ by space"),
    "an id that is empty": ("text,label,id\na,up,\n", "line 2: id is ''"),
    "an id twice": ("text,label,id\na,up,1\nb,down,1\n", r"train.csv, line 2 and .*train.csv, line 3 have one id, '1'"),
    "ids of one split alone": ("text,label,id\na,up,1\n", r"test.csv, line 2: id is None"),
    "equal but for metadata": (
        "text,label,user\na,up,1\nb,up,1\na,up,2\n",
        "line 2 and .*line 4 are equal but for their metadata, of which user is '1' and '2', .*an id",
    ),
    "the column of keys": ("text,label,key\nx,up,1\n", "column 'key', which every data set has"),
    "one label": ("text,label\na,up\nb,up\n", "all labels are 'up': at least two different names"),
    "a column of ours": ("text,label,split\nx,up,1\n", "column 'split', which every data set has"),
    "columns that are one": ("text,label,a,A\nx,up,1,1\n", "columns 'a' and 'A'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_CSV)
def test_a_csv_that_cannot_be_told_is_refused(tmp_path, case):
    content, message = REFUSED_CSV[case]
    with pytest.raises(ValueError, match=message):
        load(folder(tmp_path, content))


REFUSED_JSONL = {
    "a key twice": ('{"text": "a", "label": "up", "text": "b"}\n', "line 1, column 30: the key 'text' stands twice"),
    "half a pair": ('{"text": "a", "label": "up"}\n{"text": "\\ud800", "label": "up"}\n', r"column 11: \\ud800"),
    "no number": ('{"text": "a", "label": "up", "x": NaN}\n', "line 1, column 35: NaN is no JSON"),
    "a comma too many": ('{"text": "a", "label": "up",}\n', "line 1, column 28|29: not JSON"),
    "many brackets": ('{"text": "a", "label": "up", "x": ' + "[" * 5000 + "\n", "more than 100 brackets"),
    "an object over lines": ('{"text": "a",\n "label": "up"}\n', "line 1, column 14: not JSON"),
    "two on a line": ('{"text": "a", "label": "up"} {"text": "b", "label": "up"}\n', "line 1, column 30: not JSON"),
    "a list": ('[{"text": "a", "label": "up"}]\n', r'line 1: .* is no JSON object; write {"text": …, "label": …}'),
    "label 1.0": ('{"text": "a", "label": 1.0}\n', "label 1.0; there must be"),
    "label null": ('{"text": "a", "label": null}\n', "label None; there must be"),
    "label false": ('{"text": "a", "label": false}\n', "label False; there must be"),
    "label of parts": ('{"text": "a", "label": ["up"]}\n', r"label \['up'\]; there must be"),
    "id null": ('{"text": "a", "label": "up", "id": null}\n', "line 1: id is None"),
    "id true": ('{"text": "a", "label": "up", "id": true}\n', "line 1: id is True"),
    "id fraction": ('{"text": "a", "label": "up", "id": 1.5}\n', "line 1: id is 1.5"),
    "id with zero": ('{"text": "a", "label": "up", "id": "a\\u0000"}\n', "which is no text"),
    "forms of Unicode": (
        jsonl([{"text": "a", "label": unicodedata.normalize(form, "é")} for form in ("NFC", "NFD")]),
        "differ by space or by form of Unicode alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_JSONL)
def test_json_lines_that_cannot_be_told_are_refused(tmp_path, case):
    content, message = REFUSED_JSONL[case]
    with pytest.raises(ValueError, match=message):
        load(folder(tmp_path, content, GOOD_JSONL, "jsonl"))


# ---- labels, keys and metadata


def test_labels_are_said_and_near_twins_named(tmp_path):
    rows = [("a", "10"), ("b", "9"), ("c", "Cat"), ("d", "cat"), ("e", "ＣＡＴ")]
    train = jsonl({"text": text, "label": label} for text, label in rows)
    built = load(folder(tmp_path, train, jsonl([{"text": "z", "label": 9}]), "jsonl"))
    assert built.class_names == ("9", "10", "Cat", "cat", "ＣＡＴ") and built.test_labels.tolist() == [0]
    assert built.notes == (
        "label 9 is class 0, label 10 is class 1, label Cat is class 2, label cat is class 3, label ＣＡＴ is class 4",
        "3 labels are nearly one: 'Cat', 'cat', 'ＣＡＴ'",
        "4 classes have a single example each: 10, Cat, cat, ＣＡＴ",
        "4 classes are not in the test split: 10, Cat, cat, ＣＡＴ",
        "labels are written as number and as text, and are one: 9",
    )


def test_what_cannot_be_seen_in_a_label_is_said(tmp_path):
    built = load(folder(tmp_path, "text,label\na,up\nb,u\u200bp\nc,\x1b[31mred\n", "text,label\nq,up\n"))
    assert built.notes[0] == r"label \x1b[31mred is class 0, label up is class 1, label u\u200bp is class 2"
    assert built.notes[1] == r"2 labels are nearly one: 'up', 'u\u200bp'"


def test_keys_are_of_content_or_ids(tmp_path):
    built = load(folder(tmp_path, "text,label\na,up\nb,down\na,up\n", "text,label\nc,up\na,up\n"))
    contents = [json.dumps(list(pair)).encode() for pair in ("au", "bd")]
    assert built.keys_are == "content" and contents
    keys = [*built.train_keys.tolist(), *built.test_keys.tolist()]
    right = content_keys(
        [json.dumps([t, {"u": "up", "d": "down"}[k]]).encode() for t, k in ("au", "bd", "au", "cu", "au")]
    )
    assert keys == right.tolist() and keys[4].endswith("#3")
    built = load(folder(tmp_path, "text,label,id\na,up,007\nb,down,x\n", "text,label,id\nc,up,7\n"))
    assert (built.keys_are, [*built.train_keys.tolist(), *built.test_keys.tolist()]) == ("id", ["007", "x", "7"])


@given(st.permutations(range(8)), st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_order_of_lines_plays_no_part(tmp_path_factory, order, with_ids):
    where = tmp_path_factory.getbasetemp() / "lines"
    rows = [{"text": f"t{n}", "label": "ab"[n % 2]} | ({"id": f"n{n}"} if with_ids else {}) for n in range(8)]
    found = []
    for lines in (rows, [rows[n] for n in order]):
        test = jsonl([{"text": "z", "label": "a"} | ({"id": "z"} if with_ids else {})])
        texts = read(folder(where, jsonl(lines), test, "jsonl"))
        found.append(dict(zip(texts.keys.tolist(), zip(texts.texts, texts.labels, strict=True), strict=True)))
    assert found[0] == found[1]


def test_other_fields_are_metadata(tmp_path):
    train = "text,label,user,zip,when\na,up,17,007,2023-05-01\nb,down,18,1,2024-02-01\nc,up,,2,\n"
    built = load(folder(tmp_path, train, "text,label,user\nd,up,17\n"))
    assert built.metadata.types() == {"user": "BIGINT", "zip": "VARCHAR", "when": "DATE"}
    for _ in range(2):  # read, and from the cache
        assert [rows.tolist() for rows in built.where("user == 17 and zip = '007'")] == [[0], []]
        assert [rows.tolist() for rows in built.where("user == 17")] == [[0], [0]]
        assert [rows.tolist() for rows in built.where("\"when\" < '2024-01-01' or user is null")] == [[0, 2], []]
        built = load(tmp_path)
    rows = [{"text": "a", "label": "up", "user": 17, "tags": ["x"], "big": 10**60},
            {"text": "b", "label": "down", "user": None, "more": {"k": 1}}]  # fmt: skip
    (tmp_path / "json").mkdir()
    built = load(
        folder(tmp_path / "json", jsonl(rows), GOOD_JSONL.replace('"b"', '"z"').replace('"a"', '"y"'), "jsonl")
    )
    assert built.metadata.names == ("user", "tags", "big", "more")
    assert [rows.tolist() for rows in built.where("user == 17 and tags = '[\"x\"]'")] == [[0], []]
    assert [rows.tolist() for rows in built.where("big = '1" + "0" * 60 + "'")] == [[0], []]


def test_a_csv_and_json_lines_may_stand_together(tmp_path):
    folder(tmp_path, "text,label,user\na,up,17\nb,down,18\n")
    (tmp_path / "test.csv").unlink()
    (tmp_path / "test.jsonl").write_text('{"text": "c", "label": "up", "user": 17}\n')
    assert [rows.tolist() for rows in load(tmp_path).where("user == 17")] == [[0], [0]]


def test_another_encoding_or_format_of_the_same_bytes_is_another_entry(tmp_path):
    content = "text,label\nun café,up\nb,down\n".encode("cp1252")
    folder(tmp_path, content, content)
    first, second = load(tmp_path, encoding="cp1252"), load(tmp_path, encoding="cp1250")
    assert len(list((tmp_path / "cache").glob("*"))) == 2
    np.testing.assert_array_equal(first.train_inputs, second.train_inputs)  # é is the same in both


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    folder(tmp_path, GOOD)

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "read_bytes", denied)
    with pytest.raises(ValueError, match=r"train\.csv cannot be read \(Permission denied\)"):
        read(tmp_path)
