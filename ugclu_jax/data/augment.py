"""Random augmentation on the device: pure functions `(rng_key, images [B, H, W, C] uint8) -> [B, H, W, C] uint8`.

They run inside jit, scan and vmap. Each example has a key of its own, `fold_in(rng_key, position in the batch)`, so the
examples are independent and a longer batch begins with what a shorter one gives.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from ugclu_jax.data.checks import refuse_name
from ugclu_jax.data.image_operations import OPERATIONS, STRONGEST_LEVEL
from ugclu_jax.types import Array, Augment

_SMALLEST_SIDE = 8


def _map_examples(one: Callable[[Array, Array], Array], rng_key: Array, images: Array) -> Array:
    if images.ndim != 4 or images.dtype != jnp.uint8:
        raise ValueError(
            f"images are {images.dtype}{list(images.shape)}: they must be uint8 [B, H, W, C]; augment them as stored, "
            "before they are normalised"
        )
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng_key, jnp.arange(len(images)))
    return jax.vmap(one)(keys, images)


def crop(rng_key: Array, images: Array) -> Array:
    """Pad with 0 by an eighth of each side (4 at 32 pixels, 8 at 64, 3 at 28), cut the old size at a uniform offset.

    Args:
        rng_key: consumed.
        images: [B, H, W, C] uint8.

    Raises:
        ValueError: other inputs than uint8 [B, H, W, C].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> crop(jax.random.key(1), jnp.ones((1, 8, 8, 1), jnp.uint8))[0, :, 3, 0].tolist()
        [0, 1, 1, 1, 1, 1, 1, 1]
    """

    def one(key: Array, image: Array) -> Array:
        margins = image.shape[0] // 8, image.shape[1] // 8
        padded = jnp.pad(image, [(margins[0],) * 2, (margins[1],) * 2, (0, 0)])
        offset = jax.random.randint(key, (2,), 0, 2 * jnp.array(margins) + 1)
        return lax.dynamic_slice(padded, (*offset, 0), image.shape)

    return _map_examples(one, rng_key, images)


def flip(rng_key: Array, images: Array) -> Array:
    """Mirror each image, left to right, with probability 1/2.

    Args:
        rng_key: consumed.
        images: [B, H, W, C] uint8.

    Raises:
        ValueError: other inputs than uint8 [B, H, W, C].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> flip(jax.random.key(3), jnp.arange(2, dtype=jnp.uint8).reshape(1, 1, 2, 1)).ravel().tolist()
        [1, 0]
    """
    return _map_examples(
        lambda key, image: jnp.where(jax.random.bernoulli(key), image[:, ::-1], image), rng_key, images
    )


def crop_flip(rng_key: Array, images: Array) -> Array:
    """`crop`, then `flip`, of independent draws; arguments and errors are theirs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> crop_flip(jax.random.key(0), jnp.ones((3, 32, 32, 1), jnp.uint8)).shape
        (3, 32, 32, 1)
    """
    crop_key, flip_key = jax.random.split(rng_key)
    return flip(flip_key, crop(crop_key, images))


def rand_augment(rng_key: Array, images: Array, *, operations: int = 2, magnitude: int = 2) -> Array:
    """RandAugment: to each image, one after the other, `operations` draws with replacement from `OPERATIONS`.

    An operation has `magnitude / 30` of its strongest amount, negated with probability 1/2 where it has a sign. At the
    default, weak strength some do nothing: posterising removes 0 bits, a translation of 2 pixels needs a side of 67.

    Args:
        rng_key: consumed.
        images: [B, H, W, C] uint8 with values 0..255, C = 1 or 3.
        operations: how many, at least 1.
        magnitude: 0..30.

    Raises:
        ValueError: other inputs, a number of operations below 1, or a magnitude outside 0..30.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> images = jnp.arange(64, dtype=jnp.uint8).reshape(1, 8, 8, 1)
        >>> rand_augment(jax.random.key(0), images).shape
        (1, 8, 8, 1)

    References:
        Cubuk et al., arXiv 1909.13719; operations, amounts and levels as torchvision counts them.
    """
    if operations < 1:
        raise ValueError(f"operations is {operations}: it must be at least 1; use no augmentation for none")
    if not 0 <= magnitude <= STRONGEST_LEVEL:
        raise ValueError(f"magnitude is {magnitude}: it must lie in 0..{STRONGEST_LEVEL}; 30 is the strongest level")
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        raise ValueError(f"images have {images.shape[-1]} channels: operations on colour need 1 or 3")
    share = magnitude / STRONGEST_LEVEL
    branches = [
        lambda image, sign, op=op: op.apply(image, (sign if op.signed else 1.0) * (op.strongest * share))
        for op in OPERATIONS.values()
    ]

    def apply_one(image: Array, key: Array) -> tuple[Array, None]:
        choice_key, sign_key = jax.random.split(key)
        sign = jnp.where(jax.random.bernoulli(sign_key), 1.0, -1.0)
        return lax.switch(jax.random.randint(choice_key, (), 0, len(branches)), branches, image, sign), None

    def one(key: Array, image: Array) -> Array:
        return lax.scan(apply_one, image, jax.random.split(key, operations))[0]

    return _map_examples(one, rng_key, images)


AUGMENTATIONS: dict[str, Augment | None] = {"none": None, "crop_flip": crop_flip, "rand_augment": rand_augment}


def create(name: str, image_shape: tuple[int, ...]) -> Augment | None:
    """An augmentation by name, for images of one shape; None where nothing is to be augmented.

    Args:
        name: a key of `AUGMENTATIONS`.
        image_shape: of one example, (H, W, C).

    Raises:
        ValueError: an unknown name (the nearest valid ones are given), inputs that are no images, images of a side
            below 8 pixels, or of other than 1 or 3 channels for "rand_augment".

    Example:
        >>> create("none", (64,)) is None, create("crop_flip", (32, 32, 3)) is crop_flip
        (True, True)
        >>> create("crop_flip", (64,))
        Traceback (most recent call last):
        ...
        ValueError: examples have shape (64,): crop_flip takes images (H, W, C); use 'none' for other inputs
    """
    if name not in AUGMENTATIONS:
        refuse_name("augmentation", name, AUGMENTATIONS)
    if name == "none":
        return None
    if len(image_shape) != 3:
        raise ValueError(
            f"examples have shape {tuple(image_shape)}: {name} takes images (H, W, C); use 'none' for other inputs"
        )
    if min(image_shape[:2]) < _SMALLEST_SIDE:
        raise ValueError(
            f"images have shape {tuple(image_shape)}: {name} needs sides of at least {_SMALLEST_SIDE} pixels, below "
            "which an eighth of a side is no pixel; use 'none'"
        )
    if name == "rand_augment" and image_shape[2] not in (1, 3):
        raise ValueError(f"images have {image_shape[2]} channels: rand_augment needs 1 or 3; use 'crop_flip'")
    return AUGMENTATIONS[name]
