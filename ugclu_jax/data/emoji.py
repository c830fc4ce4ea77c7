"""Makes a folder of emoji by two artists, 64x64, from two npm packages (136 MB, downloaded and not installed).

    python -m ugclu_jax.data.emoji data/emoji

The result is read by `image_folder`. Classes are the subcategories of Unicode with at least 40 pictures, or with
`--classes category` its nine categories. `metadata.csv` says of each picture its artist, category, subcategory, name
and skin tone: `--unlearn-where "artist = 'twitter'"`.

The pictures are Google's Noto Emoji (Apache-2.0) and Twitter's Twemoji (CC-BY-4.0); `CREDITS.md` in the folder names
them.
"""

import collections
import csv
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from ugclu_jax import makers
from ugclu_jax.data import npm
from ugclu_jax.extras import installed_by, require

if TYPE_CHECKING:
    from PIL import Image

Classes = Literal["subcategory", "category"]
PACKAGES = {
    "google": npm.Package(
        "emoji-datasource-google", "16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
    ),
    "twitter": npm.Package(
        "emoji-datasource-twitter", "16.0.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"
    ),
}
"""By artist. Those of Apple and Facebook have no free licence."""
SIZE = 64
COMPARED_SIZE = 32
AT_LEAST = 40
SKIN_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium light",
    "1F3FD": "medium",
    "1F3FE": "medium dark",
    "1F3FF": "dark",
}
"""By code point; two people of different tones are `mixed`."""
_NO_CATEGORY = "Component"  # five swatches of skin, in no menu
_LIST = "emoji.json"
_FILE_NAME = re.compile(r"[0-9a-f]+(-[0-9a-f]+)*\.png")
_COLUMNS = ("file_name", "artist", "category", "subcategory", "name", "skin_tone")
CREDITS = """\
# Credits

Made by `python -m ugclu_jax.data.emoji` from the npm packages emoji-datasource-google and emoji-datasource-twitter
16.0.0 (https://github.com/iamcal/emoji-data, MIT License, Cal Henderson).

- `google_*.png`: Noto Emoji, copyright Google, Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0),
  https://github.com/googlefonts/noto-emoji
- `twitter_*.png`: Twemoji, copyright Twitter, Inc and other contributors, CC-BY 4.0
  (https://creativecommons.org/licenses/by/4.0/), https://github.com/jdecked/twemoji

Changed: the pictures are laid on a white ground and named anew; some are left out.
"""


class Emoji(NamedTuple):
    """One picture as the package describes it; `skin_tone` is empty where a person's is not chosen."""

    image: str
    category: str
    subcategory: str
    name: str
    skin_tone: str


class Counts(NamedTuple):
    """What became of the pictures: kept by class, and why the others were left out."""

    kept: dict[str, int]
    repeated: int
    ambiguous: int
    of_small_classes: int


def make(archives: Mapping[str, Path], target: Path, classes: Classes = "subcategory", least: int = AT_LEAST) -> Counts:
    """Write `target/class/artist_codes.png`, `target/metadata.csv` and `target/CREDITS.md`.

    A picture is laid on white, for `image_folder` reads colours alone. Of pictures that are equal at 32x32 the first is
    kept, and none where their classes differ: one that is unlearned must not stay as a copy. Other drawings of one
    emoji, by another artist or of another skin tone, stay; they have one `name`.

    Args:
        archives: of `npm.fetch`, by artist.
        target: is made, and must not be there yet.
        classes: what the folders are.
        least: pictures of a class; smaller ones are left out.

    Raises:
        FileExistsError: if `target` is there.
        ValueError: if an archive is damaged or not as expected; the file in it is named.
    """
    makers.check_target(target)
    found: dict[bytes, list[tuple[str, str, Emoji]]] = collections.defaultdict(list)  # what is equal at 32x32
    pictures: dict[str, bytes] = {}
    for artist, archive in archives.items():
        for emoji, picture in read(archive, artist):
            name = f"{artist}_{emoji.image}"
            found[compared(picture)].append((name, artist, emoji))
            pictures[name] = encoded(picture)
    repeated, ambiguous = 0, 0
    kept: dict[str, list[tuple[str, str, Emoji]]] = collections.defaultdict(list)
    for rows in found.values():
        names = {getattr(emoji, classes) for _, _, emoji in rows}
        if len(names) > 1:
            ambiguous += len(rows)
        else:
            repeated += len(rows) - 1
            kept[names.pop()].append(rows[0])
    whole = {name: kept[name] for name in sorted(kept) if len(kept[name]) >= least}
    if len(whole) < 2:
        raise ValueError(f"{len(whole)} of {len(kept)} classes have {least} pictures or more: there must be two")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        folder = Path(temporary, "whole")
        for class_name, rows in whole.items():
            (folder / class_name).mkdir(parents=True)
            for name, _, _ in rows:
                (folder / class_name / name).write_bytes(pictures[name])
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(_COLUMNS)
            for class_name, rows in whole.items():
                for name, artist, emoji in rows:
                    table.writerow((f"{class_name}/{name}", artist, *emoji[1:]))
        (folder / "CREDITS.md").write_text(CREDITS, encoding="utf-8")
        os.rename(folder, target)
    counts = {name: len(rows) for name, rows in whole.items()}
    return Counts(counts, repeated, ambiguous, sum(map(len, kept.values())) - sum(counts.values()))


def read(archive: Path, artist: str) -> Iterator[tuple[Emoji, "Image.Image"]]:
    """The emoji of a package in the order of its list, each with its picture, 64x64 RGB.

    Raises:
        ValueError: as `make`.
    """
    folder = f"img/{artist}/{SIZE}/"
    files = npm.contents(archive, lambda path: path == _LIST or path.startswith(folder))
    if _LIST not in files:
        raise ValueError(f"{archive} holds no {_LIST}: another version of the package?")
    try:
        listed = list(described(json.loads(files[_LIST]), artist))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{_LIST} in {archive} is not a list of emoji ({error!r}): another version?") from error
    for emoji in listed:
        content = files.get(folder + emoji.image)
        if content is None:
            raise ValueError(f"{archive} lists {emoji.image} and holds no {folder}{emoji.image}: fetch it again")
        try:
            yield emoji, on_white(content)
        except ValueError as error:
            raise ValueError(f"{folder}{emoji.image} in {archive}: {error}") from error


def described(entries: list[dict[str, Any]], artist: str) -> Iterator[Emoji]:
    """What the list of a package says of the pictures that an artist has drawn, each tone of skin for itself.

    Raises:
        KeyError: a field is missing.
        ValueError: a name could not be one of a file in a folder.

    Example:
        >>> tones = {"1F3FF": {"image": "1f44b-1f3ff.png", "has_img_google": True}}
        >>> wave = {"image": "1f44b.png", "has_img_google": True, "category": "People & Body", "subcategory": "hand",
        ...         "short_name": "wave", "skin_variations": tones}
        >>> [(emoji.image, emoji.skin_tone) for emoji in described([wave], "google")]
        [('1f44b.png', ''), ('1f44b-1f3ff.png', 'dark')]
    """
    for entry in entries:
        category, subcategory, name = (str(entry[field]) for field in ("category", "subcategory", "short_name"))
        if category == _NO_CATEGORY:
            continue
        if {category, subcategory} & {"", ".", ".."} or "/" in category + subcategory:
            raise ValueError(f"{category!r} and {subcategory!r} must be names of folders")
        for codes, drawn in [("", entry), *entry.get("skin_variations", {}).items()]:
            if not _FILE_NAME.fullmatch(drawn["image"]):
                raise ValueError(f"image {drawn['image']!r} must be code points with .png")
            if drawn[f"has_img_{artist}"]:
                yield Emoji(drawn["image"], category, subcategory, name, skin_tone(codes))


def skin_tone(codes: str) -> str:
    """The tone of one or two people, empty where none is chosen.

    Raises:
        KeyError: a code point that is no skin tone.

    Example:
        >>> skin_tone("1F3FB"), skin_tone("1F3FB-1F3FB"), skin_tone("1F3FB-1F3FF"), skin_tone("")
        ('light', 'light', 'mixed', '')
    """
    tones = {SKIN_TONES[code] for code in codes.split("-") if codes}
    return "mixed" if len(tones) > 1 else "".join(tones)


def on_white(content: bytes) -> "Image.Image":
    """A picture of 64x64 on a white ground, in RGB.

    Raises:
        ValueError: it is no PNG, or of another size.
    """
    with installed_by("run"):
        from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (SIZE, SIZE):
                raise ValueError(f"it is {image.width}x{image.height}, and must be {SIZE}x{SIZE}")
            layer = image.convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a readable PNG ({error}); fetch the package again") from error
    ground = Image.new("RGBA", (SIZE, SIZE), "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")


def compared(picture: "Image.Image") -> bytes:
    """What two pictures share that look alike at 32x32: a digest of their pixels there."""
    with installed_by("run"):
        from PIL import Image

    small = picture.resize((COMPARED_SIZE, COMPARED_SIZE), Image.Resampling.BICUBIC)
    return hashlib.sha256(small.tobytes()).digest()


def encoded(picture: "Image.Image") -> bytes:
    """A picture as PNG."""
    stream = io.BytesIO()
    picture.save(stream, "png")
    return stream.getvalue()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = makers.parser("ugclu_jax.data.emoji", __doc__ or "", "folder to make")
    parser.add_argument("--classes", choices=get_args(Classes), default="subcategory", help="what the classes are")
    options = parser.parse_args(arguments)

    def check() -> Path:
        require("run")  # before 136 MB are fetched
        return makers.check_target(options.target)

    def work(target: Path) -> None:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="emoji-") as folder:
            archives = {artist: npm.fetch(package, Path(folder)) for artist, package in PACKAGES.items()}
            counts = make(archives, target, options.classes, AT_LEAST)
        for name, count in counts.kept.items():
            print(f"{name:24} {count:5}")
        kept = sum(counts.kept.values())
        print(f"{len(counts.kept)} classes {kept:17}  in {time.perf_counter() - start:.0f} s")
        repeated = f"{counts.repeated} repeated at {COMPARED_SIZE}x{COMPARED_SIZE}"
        ambiguous = f"{counts.ambiguous} equal there and under two classes"
        print(f"left out: {repeated}, {ambiguous}, {counts.of_small_classes} of classes with fewer than {AT_LEAST}")

    return makers.ended(check, work)


if __name__ == "__main__":
    sys.exit(main())
