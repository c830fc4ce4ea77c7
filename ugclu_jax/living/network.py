"""What decides a network but its weights, as `config.json` says it; and the network, with a head that grows."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ugclu_jax import last_layer
from ugclu_jax.data.dataset import Dataset, from_arrays
from ugclu_jax.harness.budget import Entry, build
from ugclu_jax.harness.catalogue import Setup
from ugclu_jax.harness.config import ExperimentConfig, from_dict, merge
from ugclu_jax.harness.network import Network, make_network
from ugclu_jax.learner import predict_program
from ugclu_jax.strict_json import parse
from ugclu_jax.types import Array, ModelState, Params

InputKind = Literal["pictures", "arrays", "texts"]
SETTINGS = ("model", "model_options", "augment", "capacity", "learn", "unlearn", "oracle", "references")
"""Settings of an experiment that a model's folder has too."""
LARGEST_TASK = 4096
"""Padded rows of a request by which methods estimate what one costs."""


@dataclass(frozen=True)
class Described:
    """A network without its weights.

    Attributes:
        classes: names, in the order of the outputs.
        inputs: what an example is.
        shape: of one example, as stored.
        dtype: likewise.
        scale, mean, std: stored values become `(x / scale − mean) / std`; empty for texts.
        image_size: side of pictures.
        vocabulary_size: of texts.
        settings: see `SETTINGS`, those that are not their defaults.
        held_out: most held-out examples that the folder keeps, to measure on.
        seed: of everything that is drawn.
    """

    classes: tuple[str, ...]
    inputs: InputKind
    shape: tuple[int, ...]
    dtype: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int | None = None
    vocabulary_size: int | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    held_out: int = 500
    seed: int = 0

    def to_json(self) -> str:
        """As `config.json` has it."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Described":
        """What `to_json` wrote.

        Raises:
            ValueError: it did not.

        >>> made = Described(("a", "b"), "arrays", (4,), "float32", 1.0, (0.0,) * 4, (1.0,) * 4)
        >>> Described.from_json(made.to_json()) == made
        True
        """
        return from_dict(cls, parse("config.json", text))

    def __hash__(self) -> int:
        return hash(self.to_json())

    def config(self, method: str = "ug_clu") -> ExperimentConfig:
        """The settings of a method on this network.

        Raises:
            ValueError: a setting that is none.
        """
        return from_dict(ExperimentConfig, merge(self.settings, {"methods": [method]}))

    def dataset(self) -> Dataset:
        """One blank example, which is all that a network needs to see of its data."""
        blank = np.zeros((1, *self.shape), self.dtype)
        return from_arrays(
            "blank",
            blank,
            np.zeros(1, np.int32),
            blank,
            np.zeros(1, np.int32),
            class_names=self.classes,
            mean=self.mean,
            std=self.std,
            scale=self.scale,
            vocabulary_size=self.vocabulary_size,
        )


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that a model's folder has not.

    Raises:
        ValueError: naming the setting.

    >>> check_settings({"tasks": 3})
    Traceback (most recent call last):
        ...
    ValueError: setting 'tasks' is none of a model: it has model, model_options, augment, capacity, learn, unlearn, \
oracle, references
    """
    for name in settings:
        if name not in SETTINGS:
            raise ValueError(f"setting {name!r} is none of a model: it has {', '.join(SETTINGS)}")
    from_dict(ExperimentConfig, dict(settings))


class Served(NamedTuple):
    """A network and a method on it; made once, so that their programs are compiled once."""

    network: Network
    entry: Entry
    config: ExperimentConfig


@functools.lru_cache(maxsize=16)
def served(described: Described, method: str) -> Served:
    """The network, and a method that serves it within the budget of its settings.

    Raises:
        ValueError, FileNotFoundError: an unknown method or model, or settings that do not fit.
    """
    config, made = described.config(method), network(described)
    setup = Setup(
        made.apply_fn,
        made.init_fn,
        num_classes=len(described.classes),
        num_examples=1,
        capacity=config.capacity,
        largest_task=LARGEST_TASK,
    )
    return Served(made, build(config, setup)[method], config)


@functools.lru_cache(maxsize=16)
def network(described: Described) -> Network:
    """The functions of the network.

    Raises:
        ValueError, FileNotFoundError: there is no such model, or it does not fit the inputs.
    """
    return make_network(described.config(), described.dataset())


@functools.lru_cache(maxsize=16)
def predictor(described: Described) -> Any:
    """`(params, model_state, inputs [N, ...]) -> logits [N, C]`, compiled."""
    return predict_program(network(described).apply_fn)


def shapes(described: Described) -> tuple[Params, ModelState]:
    """Parameters and state as shapes and types."""
    return jax.eval_shape(network(described).init_fn, jax.random.key(0))


def grown(described: Described, params: Params, more: Described, rng_key: Array) -> Params:
    """Parameters for more classes: the last layer gets columns, fresh ones, behind those that it has.

    Args:
        described: of the network as it is, C classes.
        params: of it.
        more: the same with further classes behind.
        rng_key: of the new columns.

    Raises:
        ValueError: the network has no last layer that can grow (`last_layer.find`), or other layers depend on the
            number of classes.
    """
    fresh, _ = network(more).init_fn(rng_key)
    head = last_layer.find(params, len(described.classes))
    old, structure = jax.tree.flatten(params)
    new, other = jax.tree.flatten(fresh)
    different = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if jnp.shape(a) != jnp.shape(b)]
    if str(structure) != str(other) or not {head.kernel} <= set(different) <= {head.kernel, head.bias}:
        raise ValueError("the network's size depends on the number of classes in more than its last layer: retrain it")
    for place in different:
        old[place] = jnp.concatenate([old[place], new[place][..., len(described.classes) :]], axis=-1)
    return jax.tree.unflatten(structure, old)
