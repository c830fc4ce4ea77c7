"""Augmentation against loops and Pillow, which share no code with it; the laws of its draws; what stays as it was."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from ugclu_jax.data import augment
from ugclu_jax.data.image_operations import OPERATIONS

SIDE = 16
RNG = np.random.default_rng(0)
# A gradient with noise: smooth enough for blends to matter, rough enough for every pixel to be told from the next.
RAMP = np.add.outer(np.arange(SIDE), 2 * np.arange(SIDE))[..., None] * np.array([1, 3, 2])
IMAGE = np.clip(40 + RAMP + RNG.integers(-30, 30, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
crop, flip, crop_flip = jax.jit(augment.crop), jax.jit(augment.flip), jax.jit(augment.crop_flip)
rand_augment = jax.jit(augment.rand_augment, static_argnames=("operations", "magnitude"))


@functools.cache
def operation(name):
    return jax.jit(OPERATIONS[name].apply)


def many(image, number):
    return np.broadcast_to(image, (number, *image.shape))


# --- crop and flip ---------------------------------------------------------------------------------------------------


def crop_offsets(image, results, margin):
    """The offset of each crop, found by trying all of them; a crop that no offset explains is an error."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * margin, width + 2 * margin, channels), np.uint8)
    padded[margin : margin + height, margin : margin + width] = image
    cuts = {
        padded[dy : dy + height, dx : dx + width].tobytes(): (dy, dx)
        for dy in range(2 * margin + 1)
        for dx in range(2 * margin + 1)
    }
    return [cuts[np.asarray(result).tobytes()] for result in results]


def test_crops_are_cuts_of_the_padded_image_at_uniform_offsets():
    offsets = crop_offsets(IMAGE, crop(jax.random.key(0), many(IMAGE, 2500)), margin=2)
    _, counts = np.unique(offsets, axis=0, return_counts=True)
    assert len(counts) == 25 and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("side", "margin"), [(32, 4), (28, 3), (64, 8), (8, 1)])
def test_the_margin_is_an_eighth_of_the_side(side, margin):
    image = np.arange(side * side, dtype=np.uint32).view(np.uint8).reshape(side, side, 4)  # no two pixels are alike
    offsets = np.array(crop_offsets(image, crop(jax.random.key(1), many(image, 200)), margin))
    assert offsets.min() == 0 and offsets.max() == 2 * margin


def test_flips_mirror_columns_half_of_the_time():
    mirrored = np.stack([[row[column] for column in reversed(range(SIDE))] for row in IMAGE])
    results = np.asarray(flip(jax.random.key(2), many(IMAGE, 1000)))
    flipped = np.array([np.array_equal(result, mirrored) for result in results])
    assert all(np.array_equal(result, IMAGE) for result in results[~flipped])
    assert stats.binomtest(int(flipped.sum()), 1000).pvalue > 1e-3
    drawn = [bool(jax.random.bernoulli(jax.random.fold_in(jax.random.key(2), position))) for position in range(20)]
    assert flipped[:20].tolist() == drawn, "the documented key of each example"


def test_crop_and_flip_together_are_independent():
    results = np.asarray(crop_flip(jax.random.key(3), many(IMAGE, 2500)))
    seen = []
    for result in results:
        (found,) = [
            (flipped, *crop_offsets(IMAGE, [turned], 2)[0])
            for flipped, turned in enumerate((result, result[:, ::-1]))
            if turned.tobytes() in _cuts()
        ]
        seen.append(found)
    _, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(counts) == 50 and stats.chisquare(counts).pvalue > 1e-3


@functools.cache
def _cuts():
    padded = np.pad(IMAGE, [(2, 2), (2, 2), (0, 0)])
    return {padded[dy : dy + SIDE, dx : dx + SIDE].tobytes() for dy in range(5) for dx in range(5)}


# --- the operations --------------------------------------------------------------------------------------------------


def affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=0)


PILLOW = {
    "identity": lambda image, amount: image,
    "shear_x": lambda image, amount: affine(image, 1, amount, 0, 0, 1, 0),
    "shear_y": lambda image, amount: affine(image, 1, 0, 0, amount, 1, 0),
    "translate_x": lambda image, amount: affine(image, 1, 0, int(amount * image.width), 0, 1, 0),
    "translate_y": lambda image, amount: affine(image, 1, 0, 0, 0, 1, int(amount * image.height)),
    "rotate": lambda image, amount: image.rotate(amount, Image.Resampling.NEAREST, fillcolor=0),
    "brightness": lambda image, amount: ImageEnhance.Brightness(image).enhance(1 + amount),
    "color": lambda image, amount: ImageEnhance.Color(image).enhance(1 + amount),
    "contrast": lambda image, amount: ImageEnhance.Contrast(image).enhance(1 + amount),
    "sharpness": lambda image, amount: ImageEnhance.Sharpness(image).enhance(1 + amount),
    "posterize": lambda image, amount: ImageOps.posterize(image, 8 - round(amount)),
    "solarize": lambda image, amount: ImageOps.solarize(image, 255 - amount),
    "autocontrast": lambda image, amount: ImageOps.autocontrast(image),
    "equalize": lambda image, amount: ImageOps.equalize(image),
}
# Blends are float32 and truncated: a fused multiply-add may end on the other side of a whole number. Pillow stretches
# contrast in float64, where an exact whole number may come out just below; ours is in integers.
OFF_BY_ONE = {"brightness", "color", "contrast", "sharpness", "autocontrast"}


def by_pillow(name, image, amount):
    """Pillow's result as [H, W, C]."""
    pillow = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    return np.asarray(PILLOW[name](pillow, amount)).reshape(image.shape)


def amounts(name):
    """At the default strength, in between, and at the strongest."""
    op = OPERATIONS[name]
    return [sign * op.strongest * level / 30 for level in (2, 17, 30) for sign in ((1, -1) if op.signed else (1,))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_pillow(name, channels):
    rng = np.random.default_rng(1)
    images = [IMAGE[..., :channels], rng.integers(0, 256, (SIDE, SIDE, channels), dtype=np.uint8),
              rng.integers(90, 120, (SIDE, SIDE, channels), dtype=np.uint8)]  # fmt: skip
    for image in images:
        for amount in amounts(name):
            ours = np.asarray(operation(name)(image, jnp.float32(amount)))
            assert ours.dtype == np.uint8
            off = np.abs(ours.astype(int) - by_pillow(name, image, amount))
            assert off.max() <= (1 if name in OFF_BY_ONE else 0), (amount, off.max())
            assert np.mean(off > 0) < 0.05, "off by one is rare"


def test_stretching_is_that_of_whole_numbers():
    ours = np.asarray(operation("autocontrast")(IMAGE, 0.0))
    for channel in range(3):
        values = IMAGE[..., channel].astype(int)
        low, high = values.min(), values.max()
        for y, x in np.ndindex(SIDE, SIDE):
            assert ours[y, x, channel] == math.floor(255 * int(values[y, x] - low) / int(high - low) + 1e-9)


@pytest.mark.parametrize("name", [name for name, op in OPERATIONS.items() if op.strongest > 0])
def test_an_operation_of_amount_0_changes_no_bit(name):
    np.testing.assert_array_equal(operation(name)(IMAGE, jnp.float32(0.0)), IMAGE)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_a_constant_image_keeps_every_bit(name):
    flat = np.full((SIDE, SIDE, 3), 77, np.uint8)
    np.testing.assert_array_equal(operation(name)(flat, 0.0), flat)


# --- RandAugment -----------------------------------------------------------------------------------------------------


def test_every_operation_and_sign_is_drawn_as_often_as_it_should():
    """One operation at a strength at which no two leave the same image: each result is told by Pillow's."""
    level, number = 24, 2800
    candidates, expected = {}, {}
    for name, op in OPERATIONS.items():
        for sign in (1, -1) if op.signed else (1,):
            candidates[name, sign] = by_pillow(name, IMAGE, sign * op.strongest * level / 30).astype(int)
            expected[name, sign] = number / 14 / (2 if op.signed else 1)
    stack = np.stack(list(candidates.values()))
    counts = np.zeros(len(stack))
    for result in np.asarray(rand_augment(jax.random.key(4), many(IMAGE, number), operations=1, magnitude=level)):
        off = np.abs(stack - result).max((1, 2, 3))
        assert np.sum(off <= 1) == 1, "one operation explains it"
        counts[np.argmin(off)] += 1
    assert stats.chisquare(counts, list(expected.values())).pvalue > 1e-3


def test_two_operations_are_two_draws_in_turn():
    """Each result is one operation of Pillow after another, and both are drawn anew."""
    level = 24
    steps = [(name, sign) for name, op in OPERATIONS.items() for sign in ((1, -1) if op.signed else (1,))]
    amount = {(name, sign): sign * OPERATIONS[name].strongest * level / 30 for name, sign in steps}
    pairs = [(a, b) for a in steps for b in steps]
    once = {step: by_pillow(step[0], IMAGE, amount[step]) for step in steps}
    twice = np.stack([by_pillow(b[0], once[a], amount[b]) for a, b in pairs]).astype(int)
    explained = set()
    for result in np.asarray(rand_augment(jax.random.key(5), many(IMAGE, 40), operations=2, magnitude=level)):
        off = np.mean(np.abs(twice - result), axis=(1, 2, 3))
        # An operation after a blend may turn its off by one into a little more.
        assert off.min() < 1.5
        explained.add(pairs[int(np.argmin(off))])
    assert len(explained) > 30 and any(a != b for a, b in explained)


def test_the_default_is_two_operations_at_magnitude_two():
    """An image stays as it is where both draws are operations that do nothing at that strength: by Pillow, 8 of 14."""
    key, images = jax.random.key(6), many(IMAGE, 300)
    np.testing.assert_array_equal(rand_augment(key, images), rand_augment(key, images, operations=2, magnitude=2))
    idle = sum(np.array_equal(by_pillow(name, IMAGE, op.strongest * 2 / 30), IMAGE) for name, op in OPERATIONS.items())
    assert 0 < idle < 14
    still = np.sum(np.all(np.asarray(rand_augment(key, images)) == images, axis=(1, 2, 3)))
    assert stats.binomtest(int(still), 300, (idle / 14) ** 2).pvalue > 1e-3


# --- keys and contexts -----------------------------------------------------------------------------------------------

ALL = pytest.mark.parametrize("function", [crop, flip, crop_flip, rand_augment])


@ALL
def test_an_example_depends_on_key_and_position_alone(function):
    images = RNG.integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    whole = np.asarray(function(jax.random.key(7), images))
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    np.testing.assert_array_equal(function(jax.random.key(7), images[:4]), whole[:4])
    others = images.copy()
    others[[0, 1, 2, 4, 5]] = 0
    np.testing.assert_array_equal(function(jax.random.key(7), others)[3], whole[3])
    assert not all(np.array_equal(function(jax.random.key(seed), images), whole) for seed in (8, 9, 10))


def test_scan_and_vmap_give_what_single_calls_give():
    images = RNG.integers(0, 256, (3, SIDE, SIDE, 1), dtype=np.uint8)
    keys = jax.random.split(jax.random.key(9), 3)
    single = [np.asarray(rand_augment(key, images)) for key in keys]
    scanned = jax.jit(
        lambda keys: jax.lax.scan(lambda _, key: (None, augment.rand_augment(key, images)), None, keys)[1]
    )
    np.testing.assert_array_equal(scanned(keys), single)
    np.testing.assert_array_equal(jax.jit(jax.vmap(augment.rand_augment, in_axes=(0, None)))(keys, images), single)


# --- by name, and refusals -------------------------------------------------------------------------------------------


def test_names_lead_to_the_functions():
    assert {name: augment.create(name, (32, 32, 3)) for name in augment.AUGMENTATIONS} == {
        "none": None,
        "crop_flip": augment.crop_flip,
        "rand_augment": augment.rand_augment,
    }
    assert augment.create("none", (10,)) is None


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "crop-flip",
            (32, 32, 3),
            "unknown augmentation 'crop-flip': .*none, crop_flip, rand_augment; did you mean cr",
        ),
        ("rand_augment", (64,), r"examples have shape \(64,\): rand_augment takes images \(H, W, C\); use 'none'"),
        ("crop_flip", (32, 7, 3), r"shape \(32, 7, 3\): crop_flip needs sides of at least 8 pixels.*use 'none'"),
        ("rand_augment", (32, 32, 4), "images have 4 channels: rand_augment needs 1 or 3; use 'crop_flip'"),
    ],
)
def test_what_cannot_be_augmented_is_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        augment.create(name, shape)


@pytest.mark.parametrize("function", [augment.crop, augment.flip, augment.crop_flip, augment.rand_augment])
@pytest.mark.parametrize("images", [np.zeros((2, 64), np.uint8), np.zeros((2, 8, 8, 3), np.float32)])
def test_other_inputs_than_stored_images_are_refused(function, images):
    with pytest.raises(ValueError, match=r"images are (uint8\[2, 64\]|float32\[2, 8, 8, 3\]): they must be uint8"):
        function(jax.random.key(0), jnp.asarray(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operations": 0}, "operations is 0: it must be at least 1"),
        ({"magnitude": 31}, r"magnitude is 31: it must lie in 0\.\.30"),
        ({"magnitude": -1}, r"magnitude is -1: it must lie in 0\.\.30"),
    ],
)
def test_strengths_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        augment.rand_augment(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8), **arguments)
    with pytest.raises(ValueError, match="images have 2 channels"):
        augment.rand_augment(jax.random.key(0), jnp.zeros((1, 8, 8, 2), jnp.uint8))
