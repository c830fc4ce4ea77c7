"""The network of a run: its functions, and the description that names what was trained with it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ugclu_jax import models, named
from ugclu_jax.data import augment
from ugclu_jax.data.dataset import Dataset
from ugclu_jax.devices import AXIS
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.models import own
from ugclu_jax.models.adapters import Preprocess, linen_apply_fn, normalise
from ugclu_jax.types import ApplyFn, Array, Augment, InitFn, ModelState, Params


class Network(NamedTuple):
    """A model for a data set.

    Attributes:
        apply_fn: augments in training, where the configuration says so.
        shared_apply_fn: the same for a batch that is divided over the axis `devices.AXIS`; None for a model whose state
            would then be that of one device's share.
        init_fn: from a key to fresh or pretrained parameters.
        description: of all that decides both but the key, for `oracle.content_hash`.
    """

    apply_fn: ApplyFn
    shared_apply_fn: ApplyFn | None
    init_fn: InitFn
    description: str


def make_network(config: ExperimentConfig, dataset: Dataset) -> Network:
    """The network that a configuration names.

    Raises:
        ValueError, FileNotFoundError: the model or the augmentation does not fit the data, or has no such option.
    """
    shape, options = dataset.train_inputs.shape[1:], config.model_options
    model = models.create(
        config.model,
        dataset.num_classes,
        input_shape=shape,
        vocabulary_size=dataset.vocabulary_size,
        options=options,
    )
    tokens = dataset.vocabulary_size is not None
    # Numbers are normalised; token ids go to the embedding as they are.
    preprocess = jnp.asarray if tokens else normalise(*_pixels(config, dataset), dataset.scale)
    example = jax.device_put(dataset.train_inputs[:1])  # `asarray` would compile a program of its own
    augmented = augment.create(config.augment, shape)
    if named.is_name(config.model):
        return own_network(config, dataset.num_classes, model, preprocess, example, augmented)
    assert isinstance(model, nn.Module)  # as every bundled one is
    if options.pretrained is not None and tokens:
        check_tokenizer(options.pretrained, dataset.tokenizer)
    if options.train != "whole":
        part = models.part_functions(config.model, model, preprocess, example, options, augmented)
        return Network(part.apply_fn, part.apply_fn, part.init_fn, describe(config))

    def init_fn(rng_key: Array) -> tuple[Params, ModelState]:
        return models.initialise(config.model, model, preprocess, rng_key, example, options)

    return Network(
        apply_fn=linen_apply_fn(model, preprocess, augmented),
        shared_apply_fn=linen_apply_fn(models.over_devices(model, AXIS), preprocess, augmented),
        init_fn=init_fn,
        description=describe(config),
    )


def _pixels(config: ExperimentConfig, dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: those by which a model's weights were trained, or the data's own."""
    own = None if named.is_name(config.model) else models.MODELS[config.model].pixels
    if own is None:
        return dataset.mean, dataset.std
    channels = dataset.train_inputs.shape[-1]
    return (own[0],) * channels, (own[1],) * channels


def check_tokenizer(weights: Path, tokenizer: Path | None) -> None:
    """Refuse texts that were cut into other tokens than those that a file of weights has vectors for.

    Args:
        weights: of which the tokenizer, if it is known, lies beside.
        tokenizer: of the data set.

    Raises:
        ValueError: their vocabularies differ.
    """
    theirs = weights.with_name("tokenizer.json")
    if not theirs.is_file() or tokenizer is None:
        return
    own, other = (json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"] for path in (tokenizer, theirs))
    if own != other:
        raise ValueError(
            f"data.tokenizer made other tokens than {weights} has vectors for: their numbers mean other words; give "
            f"--data.tokenizer {theirs}"
        )


def own_network(
    config: ExperimentConfig,
    num_classes: int,
    model: own.Model,
    preprocess: Preprocess,
    example: Array,
    augmented: Augment | None,
) -> Network:
    """The network of a model of one's own, after a look at what its functions return.

    Raises:
        ValueError: see `own.check_fit`.
    """
    functions = own.functions(model, preprocess, example, augmented)
    own.check_fit(config.model, functions, example, num_classes)
    _, model_state = jax.eval_shape(functions.init_fn, jax.random.key(0))
    shared: ApplyFn | None = functions.apply_fn
    if isinstance(model, nn.Module) and hasattr(model, "norm_axis"):
        shared = own.functions(models.over_devices(model, AXIS), preprocess, example, augmented).apply_fn
    elif jax.tree.leaves(model_state):
        shared = None
    return Network(functions.apply_fn, shared, functions.init_fn, describe(config))


def describe(config: ExperimentConfig) -> str:
    """Model, options and augmentation as JSON; a file of weights, and the source of a model of one's own, stand there
    by their content.

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
    description = {"augment": config.augment, "model": config.model, "options": options}
    if named.is_name(config.model):
        description["source"] = named.source_digest("model", config.model)
    return json.dumps(description, sort_keys=True)
