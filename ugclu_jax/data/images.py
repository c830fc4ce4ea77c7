"""Encoded images to arrays, by Pillow and nothing else, so that equal bytes give equal pixels."""

import io
import warnings

import numpy as np

from ugclu_jax.extras import installed_by

with installed_by("run"):
    import PIL
    from PIL import Image

DECODER = f"Pillow {PIL.__version__}"
"""Part of every cache key: another version may decode JPEG or resize differently."""


def decode(where: str, encoded: bytes, channels: int, size: int | None = None) -> np.ndarray:
    """Decode one image.

    Transparent images are laid on white. Resizing is bicubic to `size` × `size`, whatever the aspect ratio.

    Args:
        where: what an error calls the image.
        encoded: a PNG or JPEG file's bytes.
        channels: 1 (gray) or 3 (RGB).
        size: height and width of the result; as it is when left out.

    Returns:
        [height, width, channels] uint8.

    Raises:
        ValueError: if the image cannot be read, naming it.

    Example:
        >>> stream = io.BytesIO()
        >>> Image.new("L", (2, 2), 7).save(stream, "png")
        >>> decode("seven", stream.getvalue(), channels=3)[0, 0].tolist()
        [7, 7, 7]
    """
    try:
        with warnings.catch_warnings():
            # Bombs are refused; and what else Pillow warns of, such as broken metadata, leaves the pixels intact.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as opened:
                image = _opaque(opened).convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{where} is not a readable PNG or JPEG image ({type(error).__name__}: {error}); replace or remove it"
        ) from error
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
