"""Makes a folder of colour pictures, 32x32, from the Debian package openclipart-png (public domain, 131 MB).

    python -m ugclu_jax.data.openclipart data/openclipart

The result is read by `image_folder`. Classes are those eight of the package's folders that list 300 pictures or more;
many are listed in two of them by a link, and are left out.
"""

import collections
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ugclu_jax import makers
from ugclu_jax.extras import installed_by, require

if TYPE_CHECKING:
    from PIL import Image

PACKAGE = "openclipart-png"
CLASSES = (
    "animals",
    "computer",
    "food",
    "people",
    "recreation",
    "shapes",
    "signs_and_symbols",
    "transportation",
)
SIZE = 32
MOST_PIXELS = 64_000_000
"""Larger pictures are left out: they would take up to 2.5 GB to decode, for 1,024 pixels."""


class Counts(NamedTuple):
    """What became of the pictures: kept by class, and why the others were left out."""

    kept: dict[str, int]
    repeated: int
    ambiguous: int
    too_large: list[str]


def fetch(folder: Path) -> Path:
    """Download the package and unpack it, without installing it.

    Returns:
        The folder of its pictures.

    Raises:
        RuntimeError: if a step fails; the message holds what the tool said.
        FileNotFoundError: if a tool is missing.
    """
    _run(["apt-get", "download", PACKAGE], folder)
    packages = list(folder.glob(f"{PACKAGE}_*.deb"))
    if len(packages) != 1:
        raise RuntimeError(f"apt-get left {len(packages)} files {PACKAGE}_*.deb in {folder}: there must be one")
    print(f"{packages[0].name}  sha256 {hashlib.sha256(packages[0].read_bytes()).hexdigest()}")
    _run(["dpkg-deb", "-x", packages[0].name, "unpacked"], folder)
    return folder / "unpacked" / "usr" / "share" / "openclipart" / "png"


def make(source: Path, target: Path) -> Counts:
    """Convert the pictures of `source/class/**/*.png` to `target/class/*.png`.

    A picture is shrunk (bicubic, never enlarged) to fit 32x32 and centred on white. Of pictures that are equal then,
    the first by path is kept; pictures that lie under two classes, by a link or as a copy, are left out altogether.

    Args:
        source: with one folder a class.
        target: is made, and must not be there yet.

    Raises:
        FileExistsError: if `target` is there.
        FileNotFoundError: if a class has no picture.
        ValueError: if a picture cannot be read, naming it.
    """
    makers.check_target(target)
    found: dict[bytes, list[Path]] = collections.defaultdict(list)
    pictures: dict[bytes, Image.Image] = {}
    too_large = []
    for name in CLASSES:
        paths = sorted((source / name).rglob("*.png"))
        if not paths:
            raise FileNotFoundError(f"{source / name} holds no .png file: another version of {PACKAGE}?")
        for path in paths:
            picture = shrink(path)
            if picture is None:
                too_large.append(path.relative_to(source).as_posix())
            else:
                key = picture.tobytes()
                pictures[key] = picture
                found[key].append(path.relative_to(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = collections.Counter[str]()
    repeated, ambiguous = 0, 0
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        for key, paths in found.items():
            if len({path.parts[0] for path in paths}) > 1:
                ambiguous += len(paths)
                continue
            repeated += len(paths) - 1
            kept[paths[0].parts[0]] += 1
            folder = Path(temporary, "whole", paths[0].parts[0])
            folder.mkdir(parents=True, exist_ok=True)
            pictures[key].save(folder / "__".join(paths[0].parts[1:]))
        os.rename(Path(temporary, "whole"), target)
    return Counts(dict(sorted(kept.items())), repeated, ambiguous, too_large)


def shrink(path: Path) -> "Image.Image | None":
    """One picture, 32x32 RGB; None if it has more than `MOST_PIXELS`.

    Raises:
        ValueError: if it cannot be read.
    """
    with installed_by("run"):
        from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours holds instead, and does not only warn
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            layer = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is not a readable PNG ({error}): fetch the package again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    layer.thumbnail((SIZE, SIZE), Image.Resampling.BICUBIC)
    ground = Image.new("RGBA", (SIZE, SIZE), "white")
    ground.alpha_composite(layer, ((SIZE - layer.width) // 2, (SIZE - layer.height) // 2))
    return ground.convert("RGB")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = makers.parser("ugclu_jax.data.openclipart", __doc__ or "", "folder to make")
    options = parser.parse_args(arguments)

    def check() -> Path:
        require("run")  # before 131 MB are fetched
        return makers.check_target(options.target)

    def work(target: Path) -> None:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="openclipart-") as folder:
            counts = make(fetch(Path(folder)), target)
        for name, count in counts.kept.items():
            print(f"{name:20} {count:5}")
        print(f"{'in all':20} {sum(counts.kept.values()):5}  in {time.perf_counter() - start:.0f} s")
        large = f"{len(counts.too_large)} too large"
        print(f"left out: {counts.repeated} repeated, {counts.ambiguous} under two classes, {large}")
        for name in counts.too_large:
            print(f"  too large: {name}")

    return makers.ended(check, work)


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not there: this needs Debian, Ubuntu or a relative")
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {run.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
