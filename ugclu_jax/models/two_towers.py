"""Two towers, for pictures and for the names of their classes: a picture's logits are its likeness to each name.

`ugclu_jax.models.two_towers:TwoTowers` is a model of one's own to the library. The names are constants, their
embeddings are not: a request changes both towers.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax.models.cnn import CNN
from ugclu_jax.types import Array

FEATURES = 64
"""Of what both towers end in."""
FIRST_SCALE = 10.0
"""What cosines are multiplied by before training, the inverse of a temperature."""
EMOJI = (
    "alphanum",
    "animal-bird",
    "animal-mammal",
    "arrow",
    "av-symbol",
    "body-parts",
    "clothing",
    "country-flag",
    "drink",
    "event",
    "face-concerned",
    "family",
    "food-fruit",
    "food-prepared",
    "game",
    "geometric",
    "hand-fingers-closed",
    "hand-fingers-open",
    "hand-fingers-partial",
    "hand-single-finger",
    "hands",
    "heart",
    "household",
    "office",
    "other-symbol",
    "person",
    "person-activity",
    "person-fantasy",
    "person-gesture",
    "person-resting",
    "person-role",
    "person-sport",
    "place-building",
    "sky & weather",
    "sport",
    "time",
    "tool",
    "transport-ground",
)
"""The subcategories that `make data-emoji` makes classes of, in their order."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES = {len(names): names for names in (EMOJI, DIGITS)}
"""By their number, which is all that a model is told of its classes."""


def tokens_of(names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The words of names as ids, 0 for padding.

    Args:
        names: of the classes, words apart by anything but letters and digits.

    Returns:
        `[C, L]` int32, and the words, of which word i has the id i + 1.

    >>> tokens_of(("face-smiling", "cat-face"))
    (array([[2, 3],
           [1, 2]], dtype=int32), ('cat', 'face', 'smiling'))
    """
    split = [re.findall(r"\w+", name.replace("_", " ")) for name in names]
    words = tuple(sorted({word for own in split for word in own}))
    ids = np.zeros((len(names), max(map(len, split))), np.int32)
    for row, own in zip(ids, split, strict=True):
        row[: len(own)] = [words.index(word) + 1 for word in own]
    return ids, words


class TwoTowers(nn.Module):
    """`z_c = s cos(f(picture), g(name_c))`: a CNN, a small encoder of words, and a scale that is learned.

    The name's encoder is the mean of its words' embeddings and two dense layers: what is learned of a word in one name
    is known of it in others.

    Attributes:
        num_classes: C, one of `NAMES`.

    Raises:
        ValueError: on use, for a number of classes whose names are not known.

    Example:
        >>> module, pictures = TwoTowers(num_classes=38), jnp.zeros((2, 32, 32, 3))
        >>> logits, variables = module.init_with_output(jax.random.key(0), pictures, train=False)
        >>> logits.shape, sorted(variables["params"])
        ((2, 38), ['log_scale', 'picture', 'text'])

    References:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020.
    """

    num_classes: int

    @nn.compact
    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """[B, H, W, channels] to logits [B, C]; nothing depends on `train`."""
        if self.num_classes not in NAMES:
            raise ValueError(
                f"num_classes is {self.num_classes}: names are known of {', '.join(map(str, NAMES))} classes, "
                "emoji by subcategory and digits; use one of these data sets"
            )
        ids, words = tokens_of(NAMES[self.num_classes])
        pictures = CNN(FEATURES, name="picture")(inputs, train=train)
        names = NameEncoder(len(words) + 1, name="text")(jnp.asarray(ids))
        log_scale = self.param("log_scale", nn.initializers.constant(float(np.log(FIRST_SCALE))), ())
        return jnp.exp(log_scale) * unit(pictures) @ unit(names).T


class NameEncoder(nn.Module):
    """Mean of the words' embeddings, dense, ReLU, dense.

    Attributes:
        vocabulary_size: words and padding.
    """

    vocabulary_size: int

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        """[C, L] ids, 0 for padding, to [C, FEATURES]."""
        present = (ids != 0)[..., None]
        embedded = nn.Embed(self.vocabulary_size, FEATURES)(ids)
        mean = jnp.sum(embedded * present, axis=1) / jnp.maximum(1, jnp.sum(present, axis=1))
        return nn.Dense(FEATURES)(nn.relu(nn.Dense(FEATURES)(mean)))


def unit(vectors: Array) -> Array:
    """Vectors of length 1, along the last axis; the gradient at 0 is finite.

    >>> unit(jnp.array([[3.0, 4.0]])).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-12)
