"""Metadata beside pictures: which row is of which picture, and what has none."""

import json

import numpy as np
import pytest
from PIL import Image

from ugclu_jax import data
from ugclu_jax.data import metadata


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (made / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (2, 2), (number, 0, 0)).save(made / name / f"{number}.png")
    return made


def load(root):
    options = data.DataOptions(directory=root, cache_dir=root.parent / "cache", image_size=2)
    return data.load("image_folder", options)


def users(built):
    rows = built.metadata.connection.execute('select key, "user" from metadata order by key').fetchall()
    return dict(rows)


def said(built):
    return [note for note in built.notes if "metadata" in note]


KEYS = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
SPELLINGS = {
    "as they are": lambda root, key: key,
    "with a dot": lambda root, key: f"./{key}",
    "as Windows has them": lambda root, key: key.replace("/", "\\"),
    "with a detour": lambda root, key: f"cat/../{key}",
    "absolute": lambda root, key: str(root / key),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("column", metadata.FILE_COLUMNS)
def test_rows_find_their_pictures(root, spelling, column):
    lines = [f"{column},user", *(f"{SPELLINGS[spelling](root, key)},{row}" for row, key in enumerate(KEYS))]
    (root / "metadata.csv").write_text("\n".join(lines))
    for _ in range(2):  # read, and from the cache
        built = load(root)
        assert users(built) == {key: row for row, key in enumerate(KEYS)}
        assert not said(built)
        train, test = built.where("user >= 4")
        assert {*built.train_keys[train].tolist(), *built.test_keys[test].tolist()} == set(KEYS[4:])


def test_jsonl_and_parquet_are_read(root):
    (root / "metadata.jsonl").write_text("".join(json.dumps({"file_name": k, "user": k[:3]}) + "\n" for k in KEYS))
    assert users(load(root)) == {key: key[:3] for key in KEYS}
    (root / "metadata.jsonl").unlink()
    metadata.connect().execute(
        'copy (select unnest($1) as path, unnest($2) as "user") to \'' + str(root / "metadata.parquet") + "'",
        [KEYS, list(range(6))],
    )
    assert users(load(root)) == {key: row for row, key in enumerate(KEYS)}


def test_names_of_another_form_of_unicode_are_found(root):
    Image.new("RGB", (2, 2)).save(root / "cat" / "e\u0301.png")
    (root / "metadata.csv").write_text("file,user\ncat/\u00e9.png,7\n", encoding="utf-8")
    assert users(load(root)) == {"cat/\u00e9.png": 7}


def test_rows_and_pictures_without_each_other_are_named(root):
    (root / "metadata.csv").write_text("file,user\ncat/0.png,7\ncat/9.png,8\n../cat/1.png,9\n")
    built = load(root)
    assert said(built) == [
        "metadata.csv has 2 rows of files that are no picture here: ../cat/1.png, cat/9.png",
        "5 pictures have no row in the metadata: cat/1.png, cat/2.png, dog/0.png, dog/1.png, dog/2.png",
    ]
    assert users(built) == {"cat/0.png": 7}


def test_each_split_may_have_its_own(root):
    for split in ("train", "test"):
        for key in KEYS[:: 1 if split == "train" else 2]:
            (root / split / key).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2), (1, 1, 1)).save(root / split / key)
    for key in KEYS:
        (root / key).unlink()
    (root / "train" / "metadata.csv").write_text("file,user\ncat/0.png,7\ndog/1.png,8\n")
    (root / "test" / "metadata.jsonl").write_text('{"file": "cat/0.png", "user": 9, "when": "2024-01-01"}\n')
    built = load(root)
    assert users(built) == {"train/cat/0.png": 7, "train/dog/1.png": 8, "test/cat/0.png": 9}
    assert built.metadata.names == ("user", "when")
    assert said(built) == [
        "6 pictures have no row in the metadata: train/cat/1.png, train/cat/2.png, train/dog/0.png, train/dog/2.png, "
        "test/cat/2.png and 1 more"
    ]
    (root / "metadata.csv").write_text("file,user\ntrain/cat/0.png,7\n")
    with pytest.raises(ValueError, match=r"metadata.csv and .*train/metadata.csv are metadata of the same pictures"):
        load(root)
    (root / "train" / "metadata.csv").unlink()
    (root / "test" / "metadata.jsonl").unlink()
    assert users(load(root)) == {"train/cat/0.png": 7}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"metadata.csv": "file\ncat/0.png\n", "metadata.jsonl": "{}"}, "csv and .*jsonl are metadata of the same"),
        ({"metadata.csv": "file,user\n0.png,7\n"}, "names no picture that is there: it has '0.png'; .* 'cat/0.png'"),
        ({"metadata.csv": "file,user\ncat/0.png,7\n./cat/0.png,8\n"}, "rows './cat/0.png' and 'cat/0.png', both of"),
        ({"metadata.csv": "file,user\n/etc/passwd,7\n"}, "names no picture that is there"),
        ({"metadata.csv": "user\n7\n"}, "must have one column"),
        ({"metadata.csv": "file,User,user\ncat/0.png,7,8\n"}, "columns 'User' and 'user', which are one"),
        ({"metadata.jsonl": '{"file": "cat/0.png", "u": 1, "U": 2}\n'}, "columns 'u' and 'U', which are one"),
        ({"metadata.jsonl": '{"file": "cat/0.png", "u": 1, "u": 2}\n'}, "line 1, column 31: the key 'u' stands twice"),
        ({"metadata.jsonl": '{"file": "cat/0.png", "u": NaN}\n'}, "line 1, column 28: NaN is no JSON"),
    ],
)
def test_metadata_that_cannot_be_matched_are_refused(root, files, message):
    for name, content in files.items():
        (root / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load(root)


def test_metadata_change_neither_pixels_nor_fingerprint(root):
    before = load(root)
    (root / "metadata.csv").write_text("file,user\ncat/0.png,7\n")
    after = load(root)
    assert after.fingerprint() == before.fingerprint()
    assert len(list((root.parent / "cache").iterdir())) == 1
    np.testing.assert_array_equal(before.train_inputs, after.train_inputs)


def test_a_folder_with_signs_of_patterns_in_its_name_is_read(tmp_path, root):
    other = root.rename(tmp_path / "a[b]*?'\"{c} é")
    (other / "metadata.csv").write_text("file,user\ncat/0.png,7\n")
    assert users(load(other)) == {"cat/0.png": 7}
    (other / "metadata.csv").unlink()
    (other / "metadata.jsonl").write_text('{"file": "cat/0.png", "user": 7}\n')
    assert users(load(other)) == {"cat/0.png": 7}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_metadata_in_other_encodings_of_unicode_and_with_long_fields_are_read(root, encoding):
    (root / "metadata.csv").write_bytes(f"file,user,note\ncat/0.png,é,{'x' * 200_000}\n".encode(encoding))
    assert users(load(root)) == {"cat/0.png": "é"}
