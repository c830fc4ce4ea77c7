"""Pictures to pixels: every format, mode and depth by its full range, or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from ugclu_jax.data import images
from ugclu_jax.data.formats import candidates


def encoded(image, tmp_path, suffix="png", **options):
    path = tmp_path / f"one.{suffix}"
    image.save(path, **options)
    return path.read_bytes()


def test_modes_become_rgb_on_white(tmp_path):
    half = Image.new("RGBA", (2, 2), (200, 100, 0, 51))  # a fifth opaque
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 30, 60, 90])
    clear = Image.new("P", (2, 2), 1)
    clear.putpalette([0, 0, 0, 30, 60, 90])
    cases = [
        (encoded(Image.new("L", (2, 2), 77), tmp_path), (77, 77, 77)),
        (encoded(half, tmp_path), (244, 224, 204)),  # 255 − (255 − c) / 5
        (encoded(palette, tmp_path), (30, 60, 90)),
        (encoded(clear, tmp_path, transparency=1), (255, 255, 255)),
        (encoded(Image.new("1", (2, 2), 1), tmp_path), (255, 255, 255)),
        (encoded(Image.new("LA", (2, 2), (10, 0)), tmp_path), (255, 255, 255)),
    ]
    for content, colour in cases:
        np.testing.assert_array_equal(images.decode("it", content, 3), np.broadcast_to(colour, (2, 2, 3)))
    gray = images.decode("it", encoded(Image.new("RGB", (2, 2), (50, 50, 50)), tmp_path), 1)
    np.testing.assert_array_equal(gray, np.full((2, 2, 1), 50))


def test_jpeg_is_near(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8)[None, :, None], (16, 16, 3))
    jpeg = images.decode("it", encoded(Image.fromarray(ramp.copy()), tmp_path, "jpg", quality=95), 3)
    assert np.abs(jpeg.astype(int) - ramp).max() <= 6


@pytest.mark.parametrize("size", [4, 7, 16, 37])
def test_resizing_is_bicubic(tmp_path, size):
    image = np.random.default_rng(size).integers(0, 256, (16, 16), dtype=np.uint8)
    resized = images.decode("it", encoded(Image.fromarray(image), tmp_path), 1, size=size)[..., 0]
    weights = bicubic_weights(16, size)
    across = np.clip(np.round(image @ weights.T), 0, 255)  # rounded between the passes, as bytes are
    np.testing.assert_allclose(resized, np.clip(weights @ across, 0, 255), atol=1)


def bicubic_weights(size, new):
    """Keys' kernel with a = -0.5, widened where the image shrinks, cut at the border and normalised: [new, size]."""
    step = size / new
    width = max(step, 1.0)
    x = np.abs((np.arange(size) + 0.5 - (np.arange(new)[:, None] + 0.5) * step) / width)
    kernel = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0.0))
    return kernel / kernel.sum(1, keepdims=True)


# ---- formats, modes and depths

RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
GRAY = np.round(RAMP / 257).astype(np.uint8)


def saved(image, fmt, **options):
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def read(content, channels=1, suffix=""):
    return images.read("it", content, channels, None, candidates(suffix))


def png(depth, kind, row, width, transparent=b"", palette=b""):
    """One row of a PNG, byte by byte, for Pillow writes few kinds."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))]
    parts += [(b"PLTE", palette)] * bool(palette) + [(b"tRNS", transparent)] * bool(transparent)
    parts += [(b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(bits, row, width, photometric=1, sample_format=1):
    """One row of a gray TIFF, little-endian, byte by byte."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(row)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(row) + len(row) % 2
    body = row + b"\0" * (len(row) % 2)
    return struct.pack("<2sHI", b"II", 42, start) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "PPM", "JPEG2000", "ICO"])
def test_sixteen_bits_are_scaled(fmt):
    np.testing.assert_array_equal(read(saved(Image.fromarray(RAMP), fmt)).pixels[..., 0], GRAY)


FEW_AND_MANY_BITS = {
    "TIFF, big-endian": (lambda: saved(Image.fromarray(RAMP.astype(">u2")), "TIFF"), GRAY.ravel()),
    "TIFF, white is zero": (lambda: saved(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0}), 255 - GRAY.ravel()),
    "PGM of numbers": (lambda: saved(Image.fromarray(RAMP.astype(np.int32)), "PPM"), GRAY.ravel()),
    "PGM up to 100": (lambda: b"P5 3 1 100\n" + bytes([0, 50, 100]), [0, 128, 255]),
    "PGM up to 1000": (lambda: b"P2 3 1 1000\n0 500 1000\n", [0, 128, 255]),
    "PBM": (lambda: b"P1 3 1\n0 1 0\n", [255, 0, 255]),
    "TIFF of 12 bits": (lambda: tiff(12, b"\x00\x08\x00\xff\xf0\x00", 4), [0, 128, 255, 0]),
    "TIFF of 4 bits": (lambda: tiff(4, b"\x0f\x80", 4), [0, 255, 136, 0]),
    "TIFF of 1 bit": (lambda: tiff(1, b"\xa0", 4), [255, 0, 255, 0]),
    "TIFF of 1 bit, white is zero": (lambda: tiff(1, b"\xa0", 4, photometric=0), [0, 255, 0, 255]),
    "TIFF of 8 bits, white is zero": (lambda: tiff(8, b"\x00\x01\xff\xfe", 4, photometric=0), [255, 254, 0, 1]),
    "PNG of 1 bit": (lambda: png(1, 0, b"\x50", 4), [0, 255, 0, 255]),
    "PNG of 2 bits": (lambda: png(2, 0, b"\x1b", 4), [0, 85, 170, 255]),
    "PNG of 4 bits": (lambda: png(4, 0, b"\x01\x2f", 4), [0, 17, 34, 255]),
    "PNG of 2 bits, a level clear": (lambda: png(2, 0, b"\x1b", 4, b"\0\1"), [0, 255, 170, 255]),
    "PNG of 4 bits, a level clear": (lambda: png(4, 0, b"\x01\x2f", 4, b"\0\0"), [255, 17, 34, 255]),
    "PNG of 1 bit, black clear": (lambda: png(1, 0, b"\x50", 4, b"\0\0"), [255] * 4),
    "PNG of 1 bit, white clear": (lambda: png(1, 0, b"\x50", 4, b"\0\1"), [0, 255, 0, 255]),
    "PNG of 8 bits, a level clear": (lambda: png(8, 0, b"\5\6\7\x08", 4, b"\0\5"), [255, 6, 7, 8]),
    "PNG of 16 bits, a level clear": (lambda: png(16, 0, b"\5\0\5\1\6\7", 3, b"\5\0"), [255, 5, 6]),
    "PNG of 16 bits and opacity": (lambda: png(16, 4, b"\5\0\0\0\5\0\xff\xff", 2), [255, 5]),
}  # fmt: skip


@pytest.mark.parametrize("case", FEW_AND_MANY_BITS)
def test_every_depth_has_its_full_range(case):
    make, levels = FEW_AND_MANY_BITS[case]
    assert read(make()).pixels.ravel().tolist() == list(levels)


COLOURS = {
    "RGB of 16 bits": (lambda: png(16, 2, b"\x05\0\x06\x07\xff\xff", 1), (5, 6, 255)),
    "RGBA of 16 bits": (lambda: png(16, 6, b"\x05\0\x06\x07\xff\xff\0\0", 1), (255, 255, 255)),
    "palette of 2 bits": (lambda: png(2, 3, b"\x80", 1, palette=bytes(range(12))), (6, 7, 8)),
    "palette, one clear": (lambda: png(8, 3, b"\1", 1, b"\xff\0", palette=bytes(6)), (255, 255, 255)),
    "a colour clear": (lambda: png(8, 2, b"\1\2\3", 1, b"\0\1\0\2\0\3"), (255, 255, 255)),
    "CMYK TIFF": (lambda: saved(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
    "CMYK JPEG": (lambda: saved(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
    "YCbCr TIFF": (lambda: saved(Image.new("YCbCr", (1, 1), (76, 85, 255)), "TIFF"), (254, 0, 0)),
    "CIELAB TIFF": (lambda: saved(Image.new("LAB", (1, 1), (138, 166, 174)), "TIFF"), (199, 100, 50)),
    "palette and opacity": (lambda: saved(clear_palette(), "TIFF"), (255, 255, 255)),
    "GIF": (lambda: saved(Image.new("RGB", (2, 2), (1, 2, 3)), "GIF"), (1, 2, 3)),
    "clear GIF": (lambda: saved(Image.new("RGBA", (2, 2), (1, 2, 3, 0)), "GIF"), (255, 255, 255)),
    **{
        fmt: (lambda fmt=fmt: saved(Image.new("RGB", (8, 8), (10, 200, 30)), fmt), (10, 200, 30))
        for fmt in ("PNG", "TIFF", "BMP", "DIB", "PPM", "ICO", "ICNS", "SGI", "PCX", "QOI", "DDS", "JPEG2000", "TGA")
    },
    **{
        f"half clear {fmt}": (lambda fmt=fmt: saved(Image.new("RGBA", (8, 8), (0, 0, 0, 51)), fmt), (204, 204, 204))
        for fmt in ("PNG", "TIFF", "ICO", "ICNS", "SGI", "QOI", "DDS", "JPEG2000", "TGA")
    },
}  # fmt: skip


def clear_palette():
    image = Image.new("PA", (1, 1), (1, 0))
    image.putpalette([0, 0, 0, 30, 60, 90])
    return image


@pytest.mark.parametrize("case", COLOURS)
def test_every_mode_becomes_rgb_on_white(case):
    make, colour = COLOURS[case]
    suffix = {"TGA": ".tga"}.get(case.split()[-1], "")
    assert tuple(read(make(), 3, suffix).pixels[0, 0].tolist()) == colour


@pytest.mark.parametrize("fmt", ["WEBP", "AVIF", "JPEG"])
def test_formats_that_lose_a_little_are_near(fmt):
    pixel = read(saved(Image.new("RGB", (16, 16), (10, 200, 30)), fmt), 3).pixels[8, 8].astype(int)
    assert np.abs(pixel - (10, 200, 30)).max() <= 6


NO_RANGE = {
    "fractions": lambda: saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
    "fractions, PFM": lambda: saved(Image.fromarray(RAMP.astype(np.float32)), "PPM"),
    "32 bits": lambda: saved(Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
    "32 bits, unsigned": lambda: tiff(32, b"\0\0\0\xff" * 2, 2),
    "8 bits, signed": lambda: tiff(8, b"\x80\x7f", 2, sample_format=2),
    "16 bits, signed": lambda: tiff(16, b"\x00\x80\xff\x7f", 2, sample_format=2),
    "a clear colour of 16 bits": lambda: png(16, 2, bytes(6), 1, bytes(6)),
}


@pytest.mark.parametrize("case", NO_RANGE)
def test_numbers_whose_range_nobody_knows_are_refused(case):
    with pytest.raises(ValueError, match=r"it is not a readable picture \(ValueError: .*; replace or remove it"):
        read(NO_RANGE[case]())


TURNS = {  # EXIF's orientation → how the stored picture is to be shown
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.T, 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T, 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "WEBP"])
def test_a_picture_is_turned_as_the_file_says(fmt, orientation):
    stored = np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if fmt == "WEBP" else {}
    shown = read(saved(Image.fromarray(stored), fmt, exif=exif, **options))
    np.testing.assert_array_equal(shown.pixels[..., 0], TURNS[orientation](stored))
    assert (shown.width, shown.height) == shown.pixels.shape[1::-1]
    if fmt == "PNG":
        deep = read(saved(Image.fromarray(stored.astype(np.uint16) * 257), fmt, exif=exif))
        np.testing.assert_array_equal(deep.pixels[..., 0], TURNS[orientation](stored))


def test_a_jpeg_is_turned_before_it_is_resized():
    exif = Image.Exif()
    exif[274] = 6
    wide = Image.new("L", (32, 8))
    wide.paste(255, (0, 0, 16, 8))
    shown = images.read("it", saved(wide, "JPEG", exif=exif), 1, 8, ("JPEG",))
    assert (shown.width, shown.height) == (8, 32)
    assert shown.pixels[:3].min() > 230 and shown.pixels[-3:].max() < 25


CUT = ["PNG", "TIFF", "JPEG", "GIF", "BMP", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF", "SGI", "PCX", "QOI", "DDS", "XBM"]


@pytest.mark.parametrize("fmt", CUT)
def test_a_picture_that_was_cut_off_is_refused(fmt, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(noise).convert("1" if fmt == "XBM" else "RGB"), fmt)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # somebody else's wish is not ours
    assert read(whole).pixels.shape == (24, 24, 1)
    for share in (0, 0.02, 0.3, 0.6, 0.9):
        with pytest.raises(ValueError, match="it is not a readable picture"):
            read(whole[: int(share * len(whole))])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("fmt", ["PNG", "GIF", "TIFF", "JPEG", "WEBP", "BMP", "AVIF"])
def test_any_damage_is_refused_in_one_sentence_or_read(fmt):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(noise), fmt)
    right = read(whole, 3).pixels
    wrong = 0
    for place in generator.permutation(len(whole))[:80]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        try:
            pixels = read(bytes(damaged), 3).pixels
        except ValueError as error:
            assert type(error) is ValueError
        else:
            wrong += pixels.shape != right.shape or bool((pixels != right).any())
    assert wrong == 0 or fmt != "PNG"  # the others have no checksum
