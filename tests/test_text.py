"""Texts to tokens and back, and what is refused, by file and line."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer

from ugclu_jax import data
from ugclu_jax.data import text

TRAIN = [
    ("good film, très bon", "up"),
    ("bad film", "down"),
    ("a good good day\nwith a second line", "up"),
    ("  spaced   out  ", "down"),
    ("", "down"),
]
TEST = [("good bad 文", "up"), ("film " * 40, "down")]


def write(folder, train=TRAIN, test=TEST, suffix="jsonl"):
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        with (folder / f"{name}.{suffix}").open("w", encoding="utf-8", newline="") as file:
            if suffix == "csv":
                writer = csv.DictWriter(file, ["label", "text", "more"])
                writer.writeheader()
                writer.writerows({"text": t, "label": label, "more": 1} for t, label in rows)
            else:
                file.writelines(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows)
    return folder


def load(folder, cache_dir, **options):
    options = {"text_length": 24, "vocabulary_size": 280} | options
    return data.load("text", data.DataOptions(directory=folder, cache_dir=cache_dir, **options))


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_tokens_give_the_text_back(tmp_path, suffix):
    built = load(write(tmp_path / "films", suffix=suffix), tmp_path / "cache")
    assert (built.name, built.class_names) == ("films", ("down", "up"))
    assert built.train_labels.tolist() == [1, 0, 1, 0, 0] and built.test_labels.tolist() == [1, 0]
    assert built.train_inputs.shape == (5, 24) and built.train_inputs.dtype == np.int32
    assert 258 < built.vocabulary_size <= 280
    (entry,) = (tmp_path / "cache").iterdir()
    tokenizer = Tokenizer.from_file(str(entry / text.TOKENIZER_FILE))
    for rows, inputs in ((TRAIN, built.train_inputs), (TEST[:1], built.test_inputs)):
        for (written, _), tokens in zip(rows, inputs, strict=False):
            assert tokens[0] == text.CLS == 1
            count = np.count_nonzero(tokens)
            assert tokens[count:].tolist() == [text.PAD] * (24 - count) and text.PAD == 0
            decoded = tokenizer.decode(tokens[1:count].tolist(), skip_special_tokens=False)
            whole = written if written.startswith(" ") or not written else " " + written
            assert whole.startswith(decoded) and (decoded == whole or count == 24)
    assert np.count_nonzero(built.test_inputs[1]) == 24  # cut
    assert np.count_nonzero(built.train_inputs[4]) == 1  # no text: CLS alone


def test_text_that_spells_a_special_token_is_text(tmp_path):
    folder = write(tmp_path / "films", test=[("[CLS] [PAD]", "up")])
    tokens = load(folder, tmp_path / "cache").test_inputs[0]
    assert (tokens == text.CLS).sum() == 1
    assert text.PAD not in tokens[: np.count_nonzero(tokens)]


def test_the_tokenizer_sees_training_texts_alone_and_is_kept(tmp_path, monkeypatch):
    first = load(write(tmp_path / "films"), tmp_path / "cache")
    calls = []
    train = text.train_tokenizer
    monkeypatch.setattr(text, "train_tokenizer", lambda texts, size: calls.append(texts) or train(texts, size))
    again = load(tmp_path / "films", tmp_path / "cache")
    assert calls == [] and again.fingerprint() == first.fingerprint()
    other = load(write(tmp_path / "films", test=[("qqqq qqqq", "up")]), tmp_path / "cache")
    assert calls == [[t for t, _ in TRAIN]]
    np.testing.assert_array_equal(other.train_inputs, first.train_inputs)


@pytest.mark.parametrize("options", [{"text_length": 23}, {"vocabulary_size": 270}])
def test_settings_make_another_entry(tmp_path, options):
    first = load(write(tmp_path / "films"), tmp_path / "cache")
    assert load(tmp_path / "films", tmp_path / "cache", **options).fingerprint() != first.fingerprint()
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_training_is_the_same_in_another_process():
    texts = [" ".join(f"{'abcdefgh'[i % 8]}{i * j % 97}" for j in range(30)) for i in range(200)]
    here = text.train_tokenizer(texts, 400).to_str()
    script = (
        "import sys, json; from ugclu_jax.data import text;"
        "print(text.train_tokenizer(json.loads(sys.stdin.read()), 400).to_str())"
    )
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", script], input=json.dumps(texts), capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout) == json.loads(here)


def test_whole_numbers_are_labels_and_a_mark_at_the_start_is_none(tmp_path):
    folder = write(tmp_path / "films", train=[("a", 3), ("b", 10)], test=[("a", "3")])
    content = (folder / "train.jsonl").read_bytes()
    (folder / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + content + b"\n")
    built = load(folder, tmp_path / "cache")
    assert built.class_names == ("3", "10") and built.test_labels.tolist() == [0]
    assert built.notes[:1] == ("label 3 is class 0, label 10 is class 1",)


JSONL = {
    "no utf-8": (b'{"text": "a", "label": "up"}\n{"text": "b\xff"', r"train.jsonl, line 2, byte 40 of the file: not"),
    "no utf-8 after a mark": (b'\xef\xbb\xbf{"text": "\xe9"}', r"line 1, byte 13 of the file: not UTF-8"),
    "no json": (b'{"text": "a", "label": "up"}\n\n{"text" "b"}\n', r"train.jsonl, line 3, column 9: not JSON"),
    "no object": (b'["a", "up"]\n', r"line 1: \[\"a\", \"up\"\] is no JSON object"),
    "no label": (b'{"text": "a"}\n', "line 1: text is 'a' and label None; there must be"),
    "no text": (b'{"text": 3, "label": "a"}\n', "line 1: text is 3 and"),
    "label true": (b'{"text": "a", "label": true}\n', "line 1: .*label True"),
    "label empty": (b'{"text": "a", "label": ""}\n', "line 1: .*label ''"),
    "label fraction": (b'{"text": "a", "label": 0.5}\n', "line 1: .*label 0.5"),
    "nothing": (b"\n", "train.jsonl has no example"),
}  # fmt: skip


@pytest.mark.parametrize("case", JSONL)
def test_a_damaged_jsonl_file_is_named_with_the_line(tmp_path, case):
    content, message = JSONL[case]
    (write(tmp_path / "films") / "train.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "films", tmp_path / "cache")


CSV = {
    "no utf-8": (b"text,label\na,up\n\xe9,up\n", r"test.csv, line 3, byte 16 of the file: not UTF-8"),
    "columns": (b"txt,label\na,up\n", r"test.csv, line 1: columns are \['txt', 'label'\]; there must be"),
    "too many": (b"text,label\na,b,up\n", "line 2: more fields than columns"),
    "too few": (b"text,label\na\n", "line 2: fewer fields than columns, 1 for text, label"),
    "open quote": (b'text,label\n"a,up\n', "line 2: not CSV"),
    "nothing": (b"text,label\n", "test.csv has no example"),
    "empty": (b"", "test.csv, line 1: columns are None"),
}


@pytest.mark.parametrize("case", CSV)
def test_a_damaged_csv_file_is_named_with_the_line(tmp_path, case):
    content, message = CSV[case]
    (write(tmp_path / "films", suffix="csv") / "test.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "films", tmp_path / "cache")


@pytest.mark.parametrize(("suffix", "line"), [("jsonl", 2), ("csv", 3)])
def test_a_test_label_that_training_lacks_is_named(tmp_path, suffix, line):
    folder = write(tmp_path / "films", test=[("a", "up"), ("b", "sideways")], suffix=suffix)
    with pytest.raises(ValueError, match=rf"test.{suffix}, line {line}: label 'sideways' .*\(down, up\)"):
        load(folder, tmp_path / "cache")


def test_files_that_are_not_one_a_split_are_refused(tmp_path):
    folder = write(tmp_path / "films")
    (folder / "test.jsonl").rename(folder / "tests.jsonl")
    with pytest.raises(FileNotFoundError, match=r"has neither of test\.jsonl and test\.csv"):
        load(folder, tmp_path / "cache")
    write(folder)
    write(folder, suffix="csv")
    with pytest.raises(FileNotFoundError, match=r"has train.jsonl and train.csv of .*exactly one"):
        load(folder, tmp_path / "cache")
    with pytest.raises(ValueError, match="directory is None: text needs the folder"):
        data.load("text")


def test_a_cached_tokenizer_that_was_changed_is_refused(tmp_path):
    load(write(tmp_path / "films"), tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    (entry / text.TOKENIZER_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is damaged"):
        load(tmp_path / "films", tmp_path / "cache")
