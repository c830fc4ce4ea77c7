"""Pictures to pixels: every format, mode and depth by its full range, or refused."""

import numpy as np
import pytest
from PIL import Image

from ugclu_jax.data import images


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
