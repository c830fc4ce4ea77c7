"""What the study of networks says from its differences, and which networks it leaves out."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.architectures import NETWORKS, ArchitecturesConfig, Network, cells, name_of
from ugclu_jax.evidence import Estimate
from ugclu_jax.models import ModelOptions
from ugclu_jax.models.padded import SmallSwin, SmallViT, padded
from ugclu_jax.report.trends import nearer


def test_each_network_is_told_by_its_own_error():
    less = {
        "a": Estimate(0.3, 0.1),
        "b": Estimate(-0.3, 0.1),
        "c": Estimate(0.3, 0.2),
        "d": Estimate(0.3, None),
        "e": None,
    }
    said = nearer("ug_clu", "finetune_remain", less, ["1 of ug_clu on e"])
    assert "nearer to the oracles than finetune_remain: a (.300 ±.100); further: b (-.300 ±.100)" in said
    assert "no difference beyond noise: c (.300 ±.200); not to be told with two seeds: d (.300)" in said
    assert said.endswith("not to be told, seeds were lost: e. Seeds lost: 1 of ug_clu on e.")


def test_what_is_not_there_is_named_with_what_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = {each.title: each.missing() for each in NETWORKS}
    assert missing["ViT"] == "" and missing["text encoder"] == "data not there; make data-r8"
    Path("data/emoji").mkdir(parents=True)
    assert NETWORKS[8].missing() == "weights not there; make weights-lite0"
    assert Network("x", "none").missing() == "this version has no model none"
    names = [cell.name for cell in cells(ArchitecturesConfig())]
    assert names == ["mlp", "cnn", "cnn-batchnorm", "resnet-18", "vit", "swin", "cnn-on-emoji"]


def test_a_cell_has_the_settings_of_its_data_and_of_its_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/r8").mkdir(parents=True)
    (cell,) = (cell for cell in cells(ArchitecturesConfig()) if cell.name == "text-encoder")
    assert cell.settings["data"] == {"directory": "data/r8", "text_length": 64}
    assert cell.settings["model_options"] == {"width": 64, "depth": 2}
    assert cell.settings["oracle"] == {
        "epochs": 30,
        "optimizer": "adamw",
        "learning_rate": 0.0005,
        "weight_decay": 0.01,
    }
    assert len({name_of(each) for each in NETWORKS}) == len(NETWORKS)


def test_no_pretrained_network_keeps_the_classes_of_its_file():
    """Files of ImageNet have 1,000; a run on 38 was refused for it."""
    pretrained = [each for each in NETWORKS if each.weights is not None]
    assert len(pretrained) == 4
    for each in pretrained:
        assert ModelOptions(**each.settings["model_options"]).fresh_head(each.model)


@pytest.mark.parametrize("kind", [SmallViT, SmallSwin])
def test_small_transformers_take_pictures_of_28_pixels(kind):
    module, pictures = kind(num_classes=10), jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    logits, _ = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x, train=False), pictures)
    assert logits.shape == (2, 10)


def test_the_picture_lies_in_the_middle_of_the_padding():
    picture = np.random.default_rng(0).normal(size=(1, 5, 28, 2))
    found = np.array(padded(jnp.asarray(picture)))
    np.testing.assert_allclose(found[:, 13:18, 2:30], picture, rtol=1e-6)
    assert np.abs(found).sum() == pytest.approx(np.abs(picture).sum(), rel=1e-5)
    with pytest.raises(ValueError, match="at most 32 pixels"):
        padded(jnp.zeros((1, 33, 33, 1)))
