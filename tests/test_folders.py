"""Kinds of folders that people have: what is a class, a split, a picture, and what is said of all the rest."""

import os
import re
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ugclu_jax import data
from ugclu_jax.data import folders
from ugclu_jax.data.classes import class_table

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def picture(path, number=0, fmt="PNG", size=(4, 4)):
    """A picture whose first channel is a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number, 9, 9)).save(path, fmt)
    return path


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path):
    """Three pictures of a cat, three of a dog."""
    made = tmp_path / "pictures"
    for number in range(3):
        picture(made / "cat" / f"{number}.png", number)
        picture(made / "dog" / f"{number}.png", 10 + number)
    return made


def load(root, size=4, **options):
    options = data.DataOptions(directory=root, cache_dir=root.parent / "cache", image_size=size, **options)
    return data.load("image_folder", options)


def keys(built):
    return sorted([*built.train_keys.tolist(), *built.test_keys.tolist()])


CAT_AND_DOG = sorted(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3))

PASSED_OVER = {
    "a file of another kind": (lambda r: write(r / "cat" / "notes.txt"), r"1 file is .* \(.txt\): cat/notes"),
    "files of other kinds": (
        lambda r: [write(r / "cat" / "a.csv"), write(r / "dog" / "b.npy"), write(r / "README")],
        r"3 files are .* no pictures \(\.csv, \.npy, no suffix\): the first README",
    ),
    "a text that begins as a bitmap does": (lambda r: write(r / "cat" / "bm", b"BMW and others" * 9), "no picture"),
    "a text that begins as a pixmap does": (lambda r: write(r / "cat" / "p", b"P1 was in Rome" * 9), "no picture"),
    "a header in C": (lambda r: write(r / "cat" / "a.h", b"#define A 1\n#include <b>\n" * 9), "no picture"),
    "an empty file": (lambda r: write(r / "cat" / "empty", b""), "no picture"),
    "an archive": (lambda r: write(r / "cat" / "a.zip", b"PK\3\4" + bytes(99)), "no picture"),
    "a picture in no class": (lambda r: picture(r / "x.png"), "in no class's folder: x.png"),
    "a picture deeper": (lambda r: picture(r / "cat" / "more" / "x.png"), "1 picture .* deeper .*: cat/more/x"),
    "a picture much deeper": (lambda r: picture(r / "cat" / "a" / "b" / "x.png"), "deeper .*: cat/a/b/x.png"),
    "a hidden folder": (lambda r: picture(r / ".ipynb_checkpoints" / "x.png"), r"hidden .*: \.ipynb_checkpoints"),
    "a repository": (lambda r: write(r / ".git" / "HEAD"), r"hidden .*: \.git"),
    "what a Mac leaves": (
        lambda r: [picture(r / "__MACOSX" / "x.png"), write(r / "cat" / "._0.png"), write(r / ".DS_Store")],
        r"3 files and folders are .* hidden or made by a system: the first \.DS_Store",
    ),
    "an empty folder": (lambda r: (r / "bird").mkdir(), "1 folder holds no picture and is no class: bird"),
    "folders without pictures": (
        lambda r: [write(r / "logs" / "a.txt"), (r / "bird" / "more").mkdir(parents=True)],
        "2 folders hold no picture and are no classes: bird, logs",
    ),
    "a pipe": (lambda r: os.mkfifo(r / "cat" / "pipe.png"), "1 entry .* neither .*: cat/pipe.png"),
    "a pipe beside the classes": (lambda r: os.mkfifo(r / "pipe"), "neither a file nor a folder: pipe"),
    "a link to a folder in a class": (lambda r: (r / "cat" / "d").symlink_to(r / "dog"), "1 link .*: cat/d"),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSED_OVER)
def test_what_is_passed_over_is_named(root, case):
    make, message = PASSED_OVER[case]
    make(root)
    for _ in range(2):  # read, and from the cache
        built = load(root)
        assert (built.class_names, keys(built)) == (("cat", "dog"), CAT_AND_DOG)
        assert [note for note in built.notes if re.search(message, note)], built.notes


REFUSED = {
    "a class of deeper pictures alone": (
        lambda r: picture(r / "bird" / "images" / "x.png"),
        "bird holds no picture itself, but bird/images/x.png lies deeper: .*pictures/CLASS; name the folder",
    ),
    "one level too high": (
        lambda r: [shutil.move(r / "cat", r / "all" / "cat"), shutil.rmtree(r / "dog")],
        "all holds no picture itself, but all/cat/0.png lies deeper",
    ),
    "train alone": (lambda r: picture(r / "train" / "cat" / "x.png"), "has train and lacks test"),
    "train and val": (
        lambda r: [picture(r / "train" / "cat" / "x.png"), picture(r / "val" / "cat" / "x.png")],
        "has train and val and lacks test: give train and test, under these names",
    ),
    "Train and Test": (
        lambda r: [picture(r / "Train" / "cat" / "x.png"), picture(r / "Test" / "cat" / "x.png")],
        "has Test and Train and lacks train and test",
    ),
    "a third split": (
        lambda r: [picture(r / name / "cat" / "x.png") for name in ("train", "test", "Testing")]
        + [shutil.rmtree(r / "cat"), shutil.rmtree(r / "dog")],
        "Testing looks like a split, beside train and test",
    ),
    "classes beside splits": (
        lambda r: [picture(r / name / "cat" / "x.png") for name in ("train", "test")],
        "cat/0.png lies beside train and test in .*pictures: move it",
    ),
    "splits without classes": (
        lambda r: [shutil.move(r / "cat", r / "train"), shutil.move(r / "dog", r / "test")],
        "has the folders test, train, with pictures and without folders of classes",
    ),
    "one class": (lambda r: shutil.rmtree(r / "cat"), "holds pictures of one class, 'dog': there must be two"),
    "no picture": (lambda r: [shutil.rmtree(r / "cat"), shutil.rmtree(r / "dog")], "holds no picture"),
    "text in a picture's name": (lambda r: write(r / "cat" / "x.png", b"<html>"), "cat/x.png is not a readable"),
    "nothing in a picture's name": (lambda r: write(r / "cat" / "x.JPEG", b""), "cat/x.JPEG is not a readable"),
    "half a picture without a suffix": (
        lambda r: write(r / "cat" / "x", (r / "cat" / "0.png").read_bytes()[:50]),
        r"cat/x is not a readable picture",
    ),
    "a program": (lambda r: write(r / "cat" / "x", b"%!PS-Adobe-3.0 EPSF-3.0\n"), "cat/x is EPS, a program that"),
    "a drawing": (lambda r: write(r / "cat" / "x.wmf", b"\xd7\xcd\xc6\x9a\0\0"), "x.wmf is WMF, drawing commands"),
    "measurements": (lambda r: write(r / "cat" / "x", b"SIMPLE  =                    T" + b" " * 99), "x is FITS"),
    "a picture of a telephone": (lambda r: write(r / "cat" / "x.HEIC"), "x.HEIC is .* Pillow does not open"),
    "the same without a suffix": (
        lambda r: write(r / "cat" / "x", b"\0\0\0\x18ftypheic" + bytes(40)),
        "cat/x is .* Pillow does not open",
    ),
    "a test split without classes": (
        lambda r: [picture(r / "train" / "cat" / "x.png"), picture(r / "test" / "x.png")],
        r"has train and lacks test \(test has pictures, without folders of classes\)",
    ),
    "no height": (lambda r: write(r / "cat" / "x.gif", b"GIF89a" + bytes(7) + b";"), "x.gif is not .* known format"),
    "a raw picture": (
        lambda r: Image.new("RGB", (2, 2)).save(r / "cat" / "x.dng", "TIFF"),
        "x.dng is a picture that Pillow does not open",
    ),
    "a name that is no text": (lambda r: write(r / "cat" / os.fsdecode(b"\xff.png")), "name is not UTF-8"),
    "a link to nowhere": (lambda r: (r / "cat" / "x.png").symlink_to(r / "gone.png"), "x.png is .* leads nowhere"),
    "a class that leads nowhere": (lambda r: (r / "bird").symlink_to(r / "gone"), "bird is .* leads nowhere"),
    "a link to itself": (lambda r: (r / "cat" / "x.png").symlink_to(r / "cat" / "x.png"), "or in a circle"),
    "a link to the folder": (lambda r: (r / "self").symlink_to(r), "self is .* leads back to .*pictures"),
    "a link to a class within it": (lambda r: (r / "cat" / "more").symlink_to(r / "cat"), "more is .* leads back"),
    "a link out to a picture": (
        lambda r: (r / "cat" / "x.png").symlink_to(picture(r.parent / "secret.png")),
        "x.png is a link that leads out of the folder, to .*secret.png: take it away, or give --data.follow-links",
    ),
    "a link out to a folder": (
        lambda r: (r / "bird").symlink_to(picture(r.parent / "elsewhere" / "x.png").parent),
        "bird is a link that leads out of the folder",
    ),
    "one name in two forms": (
        lambda r: [picture(r / "cat" / f"{name}.png") for name in (NFC, NFD)],
        r"cat/e\\u0301.png' and .*cat/\\xe9.png' have one name, 'cat/é.png', in two forms of Unicode",
    ),
    "one name in two forms of a class": (
        lambda r: [picture(r / f"caf{name}" / "x.png") for name in (NFC, NFD)],
        "have one name, 'café/x.png', in two forms",
    ),
    "a test class that training lacks": (
        lambda r: [
            shutil.rmtree(r / "dog"),
            shutil.move(r / "cat", r / "train" / "cat"),
            picture(r / "test" / "bird" / "x.png"),
        ],
        "x.png is of class 'bird', which .*train lacks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_refused(root, case):
    make, message = REFUSED[case]
    make(root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(root)


def test_suffixes_do_not_decide(root):
    picture(root / "cat" / "3.jpg", 3, "PNG")
    picture(root / "cat" / "4.PNG", 4)
    picture(root / "cat" / "5", 5, "BMP")
    picture(root / "cat" / "6.txt", 6, "GIF")
    picture(root / "cat" / "7.tga", 7, "TGA")
    picture(root / "cat" / "8.tiff", 8, "TIFF")
    picture(root / "cat" / "9.x", 9, "PPM")
    built = load(root)
    inputs = np.concatenate([built.train_inputs, built.test_inputs])[:, 0, 0, 0]
    red = dict(zip([*built.train_keys.tolist(), *built.test_keys.tolist()], inputs.tolist(), strict=True))
    names = ["0.png", "1.png", "2.png", "3.jpg", "4.PNG", "5", "6.txt", "7.tga", "8.tiff", "9.x"]
    assert [red[f"cat/{name}"] for name in names] == list(range(10))


def test_links_are_followed_where_they_may(root):
    (root / "cat" / "x.png").symlink_to(root / "dog" / "0.png")
    (root / "kitten").symlink_to(root / "cat")
    built = load(root)
    assert built.class_names == ("cat", "dog", "kitten") and "kitten/x.png" in keys(built)
    (root / "bird").symlink_to(picture(root.parent / "elsewhere" / "y.png", 77).parent)
    (root / "cat" / "y.png").symlink_to(root.parent / "elsewhere" / "y.png")
    with pytest.raises(ValueError, match="leads out"):
        load(root)
    followed = load(root, follow_links=True)
    assert followed.class_names == ("bird", "cat", "dog", "kitten")
    assert {"bird/y.png", "cat/y.png"} < set(keys(followed))
    assert any("are copies of another: cat/x.png is" in note or "copies" in note for note in followed.notes)
    (root.parent / "link").symlink_to(root)
    assert keys(load(root.parent / "link", follow_links=True)) == keys(followed)


def test_what_cannot_be_opened_is_named(root, monkeypatch):
    opened = type(root).open

    def denied(path, *arguments, **more):
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **more)

    monkeypatch.setattr(type(root), "open", denied)
    with pytest.raises(ValueError, match=r"cat/1\.png cannot be read \(Permission denied\): make it readable"):
        load(root)


def test_a_file_that_changes_while_it_is_read_is_named(root, monkeypatch):
    reads = []
    read = type(root).read_bytes

    def changing(path):
        reads.append(path.name)
        return read(path) + b"\0" * (reads.count("1.png") > 2 and path.name == "1.png")

    monkeypatch.setattr(type(root), "read_bytes", changing)
    with pytest.raises(ValueError, match=r"1\.png changes while it is read"):
        load(root)


@pytest.mark.parametrize(
    ("names", "order", "note"),
    [
        ([str(n) for n in range(12)], [str(n) for n in range(12)], None),
        (["0", "1", "3"], ["0", "1", "3"], "folder 3 is class 2$"),
        (["1", "2", "10"], ["1", "2", "10"], "folder 1 is class 0, folder 2 is class 1, folder 10 is class 2$"),
        (["00", "01", "10"], ["00", "01", "10"], "folder 00 is class 0, folder 01 is class 1, folder 10 is class 2"),
        (["7", "cat", "11", "Dog"], ["7", "11", "Dog", "cat"], "folder 7 is class 0, folder 11 is class 1, folder Dog"),
        (["b", "a", "C"], ["C", "a", "b"], None),
        (["1", "01", "2"], ["01", "1", "2"], "folder 01 is class 0$"),
        (["1", "-1", "0"], ["-1", "0", "1"], "folder -1 is class 0, folder 0 is class 1, folder 1 is class 2$"),
        (["9" * 30, "8"], ["8", "9" * 30], "folder 8 is class 0"),
    ],
)
def test_folders_named_by_numbers_stand_in_the_order_of_numbers(tmp_path, names, order, note):
    for number, name in enumerate(names):
        for copy in range(3):
            picture(tmp_path / "it" / name / f"{copy}.png", number)
    built = load(tmp_path / "it")
    assert list(built.class_names) == order
    said = [text for text in built.notes if text.startswith("classes are numbered")]
    assert len(said) == (note is not None)
    if note:
        assert re.search(note, said[0])
    for image, label in zip(built.train_inputs, built.train_labels, strict=True):
        assert names[int(image[0, 0, 0])] == order[label]


def test_forms_of_unicode_are_one_class_and_twins_are_named(root):
    picture(root / f"caf{NFC}" / "a.png", 1)
    picture(root / f"caf{NFD}" / "b.png", 2)
    picture(root / "Cat" / "0.png", 3)
    picture(root / "cat" / "a.png", 4)
    picture(root / "cat" / "A.png", 5)
    built = load(root)
    assert built.class_names == ("Cat", f"caf{NFC}", "cat", "dog")
    assert {"café/a.png", "café/b.png"} < set(keys(built))
    assert "1 group of classes has nearly one name: 'Cat' and 'cat'" in built.notes
    assert any("differ by case alone: the first 'Cat/0.png' and 'cat/0.png'" in note for note in built.notes)


def test_small_classes_and_those_that_the_test_split_lacks_are_named(tmp_path):
    for split, names in (("train", "abc"), ("test", "a")):
        for name in names:
            picture(tmp_path / "it" / split / name / "0.png", size=(3, 5))
    picture(tmp_path / "it" / "train" / "a" / "1.png", size=(9, 2))
    picture(tmp_path / "it" / "val" / "a" / "0.png")
    picture(tmp_path / "it" / "train" / "stray.png")
    (tmp_path / "it" / "train" / "d").mkdir()
    built = load(tmp_path / "it")
    assert built.notes[:2] == (
        "2 classes have a single example each: b, c",
        "2 classes are not in the test split: b, c",
    )
    said = "\n".join(built.notes)
    assert "1 folder holds no picture and is no class: train/d" in said
    assert "1 picture is passed over, which lies in no class's folder: train/stray.png" in said
    assert "1 picture of a validation split is passed over: val/a/0.png" in said
    assert keys(built) == ["test/a/0.png", *(f"train/{name}.png" for name in ("a/0", "a/1", "b/0", "c/0"))]
    assert class_table(built) == [(0, "a", 2, 1, "3×2 to 9×5"), (1, "b", 1, 0, "3×5"), (2, "c", 1, 0, "3×5")]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train", "test"):
        for copy in range(3):
            picture(tmp_path / "it" / name / f"{copy}.png", copy)
    assert load(tmp_path / "it").class_names == ("bus", "test", "train")


def test_several_frames_are_said_also_from_the_cache(root):
    frames = [Image.new("RGB", (4, 4), (number * 90, 0, 0)) for number in range(3)]
    frames[1].save(root / "cat" / "film.gif", save_all=True, append_images=frames[2:])
    frames[2].save(root / "dog" / "pages.tif", save_all=True, append_images=frames[:1])
    for _ in range(2):
        built = load(root)
        assert (
            "2 pictures have several frames or pages, of which the first is read: cat/film.gif, dog/pages.tif"
            in built.notes
        )
    assert class_table(built)[0][4] == "4×4"


def test_copies_are_named(root):
    shutil.copy(root / "cat" / "0.png", root / "dog" / "copy.png")
    assert "1 picture is a copy of another: dog/copy.png is cat/0.png" in load(root).notes


# ---- keys


def by_key(built):
    found = {}
    for split in ("train", "test"):
        parts = (getattr(built, f"{split}_{part}") for part in ("keys", "inputs", "labels"))
        for key, image, label in zip(*parts, strict=True):
            found[str(key)] = (split, image.tobytes(), built.class_names[label])
    return found


def test_a_file_that_goes_moves_no_other(tmp_path):
    for number in range(40):
        picture(tmp_path / "it" / "ab"[number % 2] / f"{number:02d}.png", number)
    before = by_key(load(tmp_path / "it"))
    assert {split for split, _, _ in before.values()} == {"train", "test"}
    for gone in list(before)[::4]:
        content = (tmp_path / "it" / gone).read_bytes()
        (tmp_path / "it" / gone).unlink()
        assert by_key(load(tmp_path / "it")) == {key: value for key, value in before.items() if key != gone}
        (tmp_path / "it" / gone).write_bytes(content)
    picture(tmp_path / "it" / "a" / "zzz.png", 99)
    after = by_key(load(tmp_path / "it"))
    assert {key: value for key, value in after.items() if key != "a/zzz.png"} == before


def test_a_changed_picture_keeps_its_key_and_is_read_anew(root):
    before = by_key(load(root))
    picture(root / "cat" / "1.png", 200)
    after = by_key(load(root))
    assert {key for key in before if before[key] != after[key]} == {"cat/1.png"}


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "rename", "change"]), st.integers(0, 30), st.sampled_from("abc")),
    max_size=8,
)


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_a_folder_is_what_a_dictionary_of_its_files_is(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("model") / "it"
    model = {}
    for number in range(8):
        key = f"{'abc'[number % 3]}/{number}.png"
        picture(root / key, number)
        model[key] = number
    for step, (action, number, name) in enumerate(steps):
        there = sorted(model)
        key = there[number % len(there)]
        free = f"{name}/{100 + number}.png"
        if action == "remove" and sum(k[0] == key[0] for k in there) > 2:
            (root / key).unlink()
            del model[key]
        elif action == "add" and free not in model:
            picture(root / free, 40 + step)
            model[free] = 40 + step
        elif action == "rename" and free not in model and sum(k[0] == key[0] for k in there) > 2:
            (root / free).parent.mkdir(exist_ok=True)
            (root / key).rename(root / free)
            model[free] = model.pop(key)
        elif action == "change":
            picture(root / key, 80 + step)
            model[key] = 80 + step
    found = by_key(load(root, size=2))
    assert {key: (image[0], name) for key, (_, image, name) in found.items()} == {
        key: (number, key[0]) for key, number in model.items()
    }
    order = np.array(sorted(model))
    test = data.rows_for_test(order, np.array(["abc".index(key[0]) for key in order]), 0.2)
    assert {key for key, (split, _, _) in found.items() if split == "test"} == set(order[test].tolist())


@given(st.randoms())
@settings(max_examples=10, deadline=None)
def test_the_order_in_which_a_system_lists_a_folder_plays_no_part(tmp_path_factory, random):
    root = tmp_path_factory.getbasetemp() / "listed"
    for number in range(6):
        if not (path := root / "ab"[number % 2] / f"{number}.png").exists():
            picture(path, number)
    listdir = os.listdir
    before = folders.find(root, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: random.sample(names := listdir(path), len(names)))
        assert folders.find(root, False) == before
