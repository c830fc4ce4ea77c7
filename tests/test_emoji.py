"""The maker of emoji, on small archives in the format of the packages."""

import csv
import io
import json

import numpy as np
import pytest
from archives import tar
from PIL import Image

from ugclu_jax import data
from ugclu_jax.data import emoji, npm


def png(color, size=(64, 64)):
    stream = io.BytesIO()
    Image.new("RGBA", size, color).save(stream, "png")
    return stream.getvalue()


def entry(image, category, subcategory, **more):
    return {
        "image": f"{image}.png",
        "category": category,
        "subcategory": subcategory,
        "short_name": f"name-{image}",
        "has_img_google": True,
        "has_img_twitter": True,
    } | more


def toned(image, **tones):
    return {
        f"{tone}": {"image": f"{image}-{tone.lower()}.png", "has_img_google": True, "has_img_twitter": drawn}
        for tone, drawn in tones.items()
    }


LIST = [
    entry("1a", "Animals", "bird"),
    entry("1b", "Animals", "bird", skin_variations=toned("1b", **{"1F3FB": True, "1F3FF": False})),
    entry("1c", "Animals", "bug"),
    entry("2a", "Things & Co", "sky & weather"),
    entry("2b", "Things & Co", "sky & weather"),
    entry("3a", "Component", "skin-tone"),
]
DRAWN = ["1a", "1b", "1b-1f3fb", "1b-1f3ff", "1c", "2a", "2b"]


def archive(path, artist, listed=None, **spoiled):
    """Each picture of its own colour; pictures in `spoiled` have another content, or none."""
    shade = {"google": 10, "twitter": 200}[artist]
    pictures = {name: png((number * 30, shade, 0, 255)) for number, name in enumerate(DRAWN)} | spoiled
    files = {
        f"package/img/{artist}/64/{name}.png": content for name, content in pictures.items() if content is not None
    }
    text = listed if isinstance(listed, bytes) else json.dumps(LIST if listed is None else listed).encode()
    tar(path / f"{artist}.tgz", {**files, **({"package/emoji.json": text} if text else {}), "package/README.md": b"x"})
    return path / f"{artist}.tgz"


def both(path, **spoiled):
    return {artist: archive(path, artist, **spoiled) for artist in emoji.PACKAGES}


def rows(folder):
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return {row.pop("file_name"): row for row in csv.DictReader(file)}


def test_the_folder_is_read_with_its_metadata(tmp_path):
    counts = emoji.make(both(tmp_path), tmp_path / "data" / "emoji", least=4)
    assert counts == ({"bird": 7, "sky & weather": 4}, 0, 0, 2)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["emoji"]
    assert rows(tmp_path / "data" / "emoji")["bird/google_1b-1f3ff.png"] == {
        "artist": "google",
        "category": "Animals",
        "subcategory": "bird",
        "name": "name-1b",
        "skin_tone": "dark",
    }
    assert "CC-BY" in (tmp_path / "data" / "emoji" / "CREDITS.md").read_text()
    options = data.DataOptions(directory=tmp_path / "data" / "emoji", image_size=64, cache_dir=tmp_path / "cache")
    built = data.load("image_folder", options)
    assert built.class_names == ("bird", "sky & weather")
    assert [note for note in built.notes if "row" in note] == []
    keys = np.concatenate([built.train_keys, built.test_keys]).tolist()
    assert sorted(keys) == sorted(rows(tmp_path / "data" / "emoji"))
    for condition, wanted in {
        "artist = 'twitter'": lambda key: "twitter" in key,
        "skin_tone is not null": lambda key: "-1f3f" in key,
        "name = 'name-2a'": lambda key: "_2a." in key,
    }.items():
        chosen = built.train_keys[built.where(condition)[0]].tolist()
        assert chosen == [key for key in built.train_keys.tolist() if wanted(key)], condition
    (where,) = np.flatnonzero(np.array(keys) == "sky & weather/google_2a.png")
    pixels = np.concatenate([built.train_inputs, built.test_inputs])[where]
    np.testing.assert_array_equal(pixels, np.broadcast_to((150, 10, 0), (64, 64, 3)))


def test_categories_may_be_the_classes(tmp_path):
    assert emoji.make(both(tmp_path), tmp_path / "emoji", "category", 4).kept == {"Animals": 9, "Things & Co": 4}
    assert (tmp_path / "emoji" / "Things & Co" / "twitter_2b.png").is_file()


def test_copies_are_kept_once_and_never_under_two_classes(tmp_path):
    near = Image.new("RGBA", (64, 64), (0, 10, 0, 255))
    near.putpixel((5, 5), (0, 11, 0, 255))  # too little to be seen at 32x32
    stream = io.BytesIO()
    near.save(stream, "png")
    archives = {"google": archive(tmp_path, "google", **{"1b": stream.getvalue(), "2b": png((120, 10, 0, 255))})}
    counts = emoji.make(archives, tmp_path / "emoji", least=1)
    assert counts == ({"bird": 3, "sky & weather": 1}, 1, 2, 0)  # 1b goes for 1a; 2b is 1c, so both go
    assert not (tmp_path / "emoji" / "bug").exists()
    assert sorted(rows(tmp_path / "emoji")) == [
        "bird/google_1a.png",
        "bird/google_1b-1f3fb.png",
        "bird/google_1b-1f3ff.png",
        "sky & weather/google_2a.png",
    ]


def test_what_is_clear_lies_on_white():
    def pixel(color):
        return np.asarray(emoji.on_white(png(color)))[7, 9].astype(int)

    assert pixel((10, 20, 30, 0)).tolist() == [255, 255, 255]
    assert pixel((10, 20, 30, 255)).tolist() == [10, 20, 30]
    for alpha in (1, 77, 128, 254):
        expected = (np.array([10, 20, 30]) * alpha + 255 * (255 - alpha)) / 255
        assert np.abs(pixel((10, 20, 30, alpha)) - expected).max() <= 1


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"2a": None}, r"google\.tgz lists 2a\.png and holds no img/google/64/2a\.png: fetch it again"),
        ({"2a": b"\x89PNG\r\n"}, r"img/google/64/2a\.png in .*google\.tgz: not a readable PNG"),
        ({"2a": png("red", (32, 32))}, r"2a\.png in .*: it is 32x32, and must be 64x64"),
        ({"listed": b""}, r"google\.tgz holds no emoji\.json: another version"),
        ({"listed": b"{"}, r"emoji\.json in .*google\.tgz is not a list of emoji"),
        ({"listed": {"a": 1}}, "is not a list of emoji"),
        ({"listed": [{"image": "1a.png"}]}, "is not a list of emoji .*category"),
        ({"listed": [entry("../../1a", "a", "b")]}, "is not a list of emoji .*must be code points"),
        ({"listed": [entry("1a", "a", "../b")]}, "is not a list of emoji .*must be names of folders"),
        ({"listed": [entry("1a", "a", "..")]}, "is not a list of emoji .*must be names of folders"),
        ({"listed": [entry("1a", "a", "b", skin_variations=toned("1b", **{"1F600": True}))]}, "emoji .*1F600"),
        ({"listed": LIST[:2]}, "1 of 1 classes have 1 pictures or more: there must be two"),
    ],
)
def test_what_is_amiss_is_named_and_nothing_is_left(tmp_path, spoiled, message):
    with pytest.raises(ValueError, match=message):
        emoji.make({"google": archive(tmp_path, "google", **spoiled)}, tmp_path / "made" / "emoji", least=1)
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())


def test_a_folder_that_is_there_stays(tmp_path):
    (tmp_path / "emoji").mkdir()
    with pytest.raises(FileExistsError, match="emoji is there already: delete it"):
        emoji.make(both(tmp_path), tmp_path / "emoji")


def test_the_program_says_what_it_made(tmp_path, monkeypatch, capsys):
    archives = both(tmp_path)
    monkeypatch.setattr(npm, "fetch", lambda package, folder: archives[package.name.rpartition("-")[2]])
    monkeypatch.setattr(emoji, "AT_LEAST", 4)
    emoji.main([str(tmp_path / "emoji"), "--classes", "category"])
    said = capsys.readouterr().out
    assert "Things & Co                  4" in said and "2 classes                13" in said
    assert "left out: 0 repeated at 32x32, 0 equal there and under two classes, 0 of classes with fewer than 4" in said
