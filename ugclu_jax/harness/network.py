"""The network of a run: its functions, and the description that names what was trained with it."""

import dataclasses
import hashlib
import json
from typing import Any, NamedTuple

import jax.numpy as jnp

from ugclu_jax import models
from ugclu_jax.data import augment
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.devices import AXIS
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.models.adapters import linen_apply_fn, normalise
from ugclu_jax.oracle import InitFn
from ugclu_jax.types import ApplyFn, Array, ModelState, Params


class Network(NamedTuple):
    """A bundled model for a data set.

    Attributes:
        apply_fn: augments in training, where the configuration says so.
        shared_apply_fn: the same for a batch that is divided over the axis `devices.AXIS`.
        init_fn: from a key to fresh or pretrained parameters.
        description: of all that decides both but the key, for `oracle.content_hash`.
    """

    apply_fn: ApplyFn
    shared_apply_fn: ApplyFn
    init_fn: InitFn
    description: str


def make_network(config: ExperimentConfig, dataset: Dataset) -> Network:
    """The network that a configuration names.

    Raises:
        ValueError, FileNotFoundError: the model or the augmentation does not fit the data, or has no such option.
    """
    shape, options = dataset.train_inputs.shape[1:], config.model_options
    module = models.create(
        config.model,
        dataset.num_classes,
        input_shape=shape,
        vocabulary_size=dataset.vocabulary_size,
        options=options,
    )
    tokens = dataset.vocabulary_size is not None
    # Numbers are normalised; token ids go to the embedding as they are.
    preprocess = jnp.asarray if tokens else normalise(dataset.mean, dataset.std, dataset.scale)
    example = jnp.asarray(dataset.train_inputs[:1])

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        return models.initialise(config.model, module, preprocess, rng_key, example, options)

    augmented = augment.create(config.augment, shape)
    return Network(
        apply_fn=linen_apply_fn(module, preprocess, augmented),
        shared_apply_fn=linen_apply_fn(models.over_devices(module, AXIS), preprocess, augmented),
        init_fn=init_fn,
        description=describe(config),
    )


def describe(config: ExperimentConfig) -> str:
    """Model, options and augmentation as JSON; a file of weights stands there by its content, not by its name.

    >>> describe(ExperimentConfig(model="cnn"))
    '{"augment": "none", "model": "cnn", "options": {}}'
    """
    options: dict[str, Any] = {}
    for field in dataclasses.fields(config.model_options):
        value = getattr(config.model_options, field.name)
        if value != field.default:
            options[field.name] = value
    if config.model_options.pretrained is not None:
        with config.model_options.pretrained.open("rb") as file:
            options["pretrained"] = hashlib.file_digest(file, "sha256").hexdigest()
    return json.dumps({"augment": config.augment, "model": config.model, "options": options}, sort_keys=True)
