"""What can be offered to a model: every kind of source comes out the same, and what is none is refused."""

import json

import duckdb
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ugclu_jax.data.text import train_tokenizer
from ugclu_jax.living import gather, offered, run
from ugclu_jax.living.network import Described
from ugclu_jax.living.results import Estimate, Understood

ROWS = [{"id": f"m{n}", "text": f"word{n} and more", "label": "ab"[n % 2], "user": n % 4} for n in range(40)]


def csv_of(rows):
    names = list(rows[0])
    return "\n".join(",".join(map(str, row)) for row in [names, *(row.values() for row in rows)]) + "\n"


def write_table(path, rows):
    if path.suffix == ".csv":
        path.write_text(csv_of(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (path.parent / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        duckdb.connect().execute(f"copy (from read_json('{path.parent}/t.jsonl')) to '{path}' (format parquet)")
        (path.parent / "t.jsonl").unlink()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_of_texts(suffix, tmp_path):
    write_table(tmp_path / f"it.{suffix}", ROWS)
    found = offered.read(str(tmp_path / f"it.{suffix}"), None)
    assert (found.kind, found.keys[:2], found.classes[:3]) == ("texts", ["m0", "m1"], ["a", "b", "a"])
    assert found.inputs[3] == "word3 and more" and found.columns[5] == {"user": "1"}
    assert 0 < found.held_out.sum() < 20


def picture(path, n):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(n).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)


def test_a_folder_of_pictures_and_a_table_of_their_paths_are_the_same(tmp_path):
    for n in range(20):
        picture(tmp_path / "photos" / "ab"[n % 2] / f"{n:02}.png", n)
    lines = [f"{'ab'[n % 2]}/{n:02}.png,{n % 5}" for n in range(20)]
    (tmp_path / "photos" / "metadata.csv").write_text("\n".join(["file_name,user", *lines]))
    rows = [{"file": f"photos/{line.split(',')[0]}", "label": line[0], "user": line[-1]} for line in lines]
    write_table(tmp_path / "list.csv", rows)
    folder = offered.read(str(tmp_path / "photos"), 6)
    table = offered.read(str(tmp_path / "list.csv"), 6)
    assert folder.kind == table.kind == "pictures" and folder.inputs.shape == (20, 6, 6, 3)
    by_key = {key: row for key, row in zip(table.keys, table.inputs, strict=True)}
    for key, row, name, columns in zip(folder.keys, folder.inputs, folder.classes, folder.columns, strict=True):
        assert np.array_equal(row, by_key[f"photos/{key}"]) and key[0] == name
        assert columns == {"user": str(int(key[2:4]) % 5)}
    some = offered.read(str(tmp_path / "photos"), 6, {"a/04.png"})
    assert some.keys == ["a/04.png"] and np.array_equal(some.inputs[0], folder.inputs[folder.keys.index("a/04.png")])
    one = offered.read_any(str(tmp_path / "photos" / "a" / "04.png"), 6)
    assert np.array_equal(one.inputs, some.inputs)


def test_a_single_class_can_be_offered_and_no_other_is_moved(tmp_path):
    for n in range(30):
        picture(tmp_path / "new" / "a" / f"{n:02}.png", n)
    before = offered.read(str(tmp_path / "new"), 4)
    (tmp_path / "new" / "a" / "29.png").unlink()
    after = offered.read(str(tmp_path / "new"), 4)
    assert set(before.classes) == {"a"} and 0 < before.held_out.sum() < 15
    assert after.held_out.tolist() == before.held_out[:29].tolist()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("it.csv", "text\nhello\n", "there must be 'label'"),
        ("it.csv", "text,label\nhello,\n", "line 2: text is 'hello' and label ''"),
        ("it.csv", "text,label\n", "has no row"),
        ("it.jsonl", '{"text": 3, "label": "a"}\n', "text is 3"),
        ("it.csv", "file,label\ngone.png,a\n", "gone.png cannot be read"),
        ("it.tar", "x", r"is no folder, .npz, .csv, .jsonl or .parquet"),
        ("it.parquet", "x", "is not readable as parquet"),
    ],
)
def test_what_is_no_source(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        offered.read(str(tmp_path / name), 8)
    picture(tmp_path / "photos" / "a" / "1.png", 1)
    with pytest.raises(ValueError, match="give --image-size"):
        offered.read(str(tmp_path / "photos"), None)


def test_texts_become_tokens_by_the_model_s_own_tokenizer(tmp_path):
    write_table(tmp_path / "it.csv", ROWS)
    tokenizer = train_tokenizer([row["text"] for row in ROWS], 270).to_str().encode()
    described = Described(("a", "b"), "texts", (12,), "int32", 1.0, (), (), vocabulary_size=270)
    found = gather.encoded(offered.read(str(tmp_path / "it.csv"), None), tokenizer, described)
    assert found.inputs.shape == (40, 12) and (found.inputs[:, 0] == 1).all()
    pictures = Described(("a", "b"), "pictures", (6, 6, 3), "uint8", 255.0, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ValueError, match="these are texts, and the model has learned pictures"):
        gather.encoded(offered.read(str(tmp_path / "it.csv"), None), None, pictures)


CHEAP = Estimate("ug_clu", 616.0, 40.0, 261.0, 17.0, (), ())
ASKED = Understood("unlearn", "user = 17", (1,), (), {"cat": 1}, ("a",), (), 0, CHEAP, 1)


@pytest.mark.parametrize(
    ("answer", "method"), [("", "retrain"), ("y", "retrain"), ("n", "ug_clu"), ("No", "ug_clu"), (None, "retrain")]
)
def test_a_terminal_is_asked_and_a_pipe_is_not(answer, method, monkeypatch):
    console = Console(force_terminal=answer is not None)
    monkeypatch.setattr("sys.stdin", type("", (), {"isatty": lambda self: answer is not None})())
    asked = []
    monkeypatch.setattr(console, "input", lambda text: asked.append(text) or answer)
    assert run._chosen(console, ASKED, None, yes=False) == method
    assert asked == ([] if answer is None else ["Retrain? [Y/n] "])
    assert run._chosen(console, ASKED, None, yes=True) == "retrain"
    assert run._chosen(console, ASKED, "salun", yes=True) == "salun"
    dear = ASKED._replace(estimate=CHEAP._replace(retraining=700.0))
    gone = ASKED._replace(estimate=CHEAP._replace(missing=("photos",)))
    assert {run._chosen(console, each, None, yes=False) for each in (dear, gone)} == {"ug_clu"}
    assert len(asked) <= 1
