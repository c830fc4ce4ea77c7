"""Encoded pictures to arrays, by Pillow and nothing else, so that equal bytes give equal pixels."""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ugclu_jax.extras import installed_by

with installed_by("run"):
    import PIL
    from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

DECODER = f"Pillow {PIL.__version__}, reading 2"
"""Part of every cache key: another version may decode JPEG or resize differently."""
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError),
    *(struct.error, zlib.error, RuntimeError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning, ImageCms.PyCMSError),
)
"""What Pillow raises on a damaged file, depending on where the damage is."""
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO = 0
_GRAY_STEPS = {"1": 255, "L;2": 85, "L;4": 17}
"""How far apart the gray levels of a PNG of few bits lie, once they are scaled to 0..255."""


class Picture(NamedTuple):
    """What a file shows.

    Attributes:
        pixels: [height, width, channels] uint8, resized if that was asked for.
        width: of the picture as it is shown, before it is resized.
        height: likewise.
        frames: how many frames or pages the file has, of which this is the first.
    """

    pixels: np.ndarray
    width: int
    height: int
    frames: int


def decode(where: str, encoded: bytes, channels: int, size: int | None = None) -> np.ndarray:
    """The pixels of one PNG or JPEG, see `read`.

    Example:
        >>> stream = io.BytesIO()
        >>> Image.new("L", (2, 2), 7).save(stream, "png")
        >>> decode("seven", stream.getvalue(), channels=3)[0, 0].tolist()
        [7, 7, 7]
    """
    return read(where, encoded, channels, size, ("PNG", "JPEG")).pixels


def read(where: str, encoded: bytes, channels: int, size: int | None, formats: Sequence[str]) -> Picture:
    """Decode one picture: its first frame, turned as the file says, its full range of values scaled to 0..255.

    Transparent pictures are laid on white. Resizing is bicubic to `size` × `size`, whatever the aspect ratio. Profiles
    of colour are left unapplied, but for CIELAB, which no screen shows as it is.

    Args:
        where: what an error calls the picture.
        encoded: the file's bytes.
        channels: 1 (gray) or 3 (RGB).
        size: height and width of the result; as it is when left out.
        formats: Pillow's names of those that it may be in.

    Raises:
        ValueError: the picture is damaged, larger than Pillow trusts, or of numbers whose range nobody knows; it is
            named.
    """
    strict, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            # Bombs are refused; and what else Pillow warns of, such as broken metadata, leaves the pixels intact.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=list(formats)) as opened:
                image, frames = _shown(opened), _frames(opened)
                image = image if image.mode in ("1", "L") else image.convert("RGB")
                image = image.convert("RGB" if channels == 3 else "L")
    except UnidentifiedImageError as error:  # its message has an address of memory
        raise ValueError(
            f"{where} is not a readable picture (it begins as none of any known format, or what follows is damaged); "
            "replace or remove it"
        ) from error
    except _UNREADABLE as error:
        raise ValueError(
            f"{where} is not a readable picture ({type(error).__name__}: {error}); replace or remove it"
        ) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = strict
    width, height = image.size
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return Picture(np.asarray(image).reshape(image.height, image.width, channels), width, height, frames)


def _shown(opened: ImageFile.ImageFile) -> Image.Image:
    """The picture in 8 bits, turned and opaque."""
    _correct_transparency(opened)
    whole = _range(opened)
    opened.load()
    image = ImageOps.exif_transpose(_in_eight_bits(opened, whole))
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _frames(opened: ImageFile.ImageFile) -> int:
    """How many frames or pages there are; what Photoshop counts are the layers of one picture."""
    return 1 if opened.format == "PSD" else int(getattr(opened, "n_frames", 1))


def _correct_transparency(opened: ImageFile.ImageFile) -> None:
    """Make the transparent gray level of a PNG one of the levels as Pillow scales them."""
    level = opened.info.get("transparency")
    if opened.format != "PNG" or level is None or not opened.tile:
        return
    raw = opened.tile[0].args
    raw = raw[0] if isinstance(raw, tuple) else raw
    if isinstance(level, int) and raw in _GRAY_STEPS:
        opened.info["transparency"] = level * _GRAY_STEPS[raw]
    elif isinstance(level, tuple) and raw == "RGB;16B":
        raise ValueError("a transparent colour of 16 bits, which Pillow does not tell from its neighbours")


def _range(opened: ImageFile.ImageFile) -> tuple[int, bool] | None:
    """The largest value that the file can hold, and whether it is black; None where 8 bits hold them all."""
    tags = getattr(opened, "tag_v2", {}) if opened.format == "TIFF" else {}
    if set(np.ravel(tags.get(_SAMPLE_FORMAT, 1)).tolist()) - {1, 4}:
        raise ValueError("its values are signed or fractions, whose range nobody knows")
    if not opened.mode.startswith(("I", "F")):
        return None
    if opened.mode.startswith("I;16") and opened.format == "TIFF":
        return (1 << int(np.ravel(tags[_BITS_PER_SAMPLE])[0])) - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if (opened.format, opened.mode[:4]) in (("PPM", "I"), *((f, "I;16") for f in ("PNG", "JPEG2000", "ICO", "ICNS"))):
        return (1 << 16) - 1, False
    raise ValueError(f"its values are of {opened.format}'s kind {opened.mode}, whose range nobody knows")


def _in_eight_bits(image: Image.Image, whole: tuple[int, bool] | None) -> Image.Image:
    """The same picture in a mode of 8 bits that shows as colour."""
    if whole is not None:
        largest, largest_is_black = whole
        values = np.asarray(image).astype(np.uint32)
        scaled = ((values * 255 + largest // 2) // largest).astype(np.uint8)
        result = Image.fromarray(255 - scaled if largest_is_black else scaled)
        level = image.info.get("transparency")
        if isinstance(level, int):
            result.putalpha(Image.fromarray(np.where(values == level, 0, 255).astype(np.uint8)))
        result.info |= {key: image.info[key] for key in ("exif", "xmp") if key in image.info}
        return result
    if image.mode == "LAB":
        shown = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
        assert shown is not None  # it is None where it works in place alone
        return shown
    return image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode]) if image.mode in ("La", "RGBa") else image
