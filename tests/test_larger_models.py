"""The paper's models on their data by name, and texts: all three experiments at smoke size, on archives made here."""

import json
from pathlib import Path

import archives
import numpy as np
import pytest
from tensorflow_datasets.core import constants
from test_text import write

from ugclu_jax.harness.cli import main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.network import describe
from ugclu_jax.models.options import ModelOptions

EXPERIMENTS = {
    "task_aware": ["--sequence", "L1 L2 U1"],
    "class_wise": ["--unlearn-classes", "0"],
    "random_sample": [],
}
SETTINGS = {
    "cifar10": ["--model", "resnet18", "--tasks", "2"],
    "tiny_imagenet": ["--model", "swin_t", "--tasks", "3"],
    "text": ["--model", "text_encoder", "--tasks", "3"],
}
MAKERS = {"cifar10": archives.cifar10, "tiny_imagenet": archives.tiny_imagenet}
TEXTS = [(f"{word} {i} film", word) for i in range(8) for word in ("good", "bad", "dull")]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The official archives of each set, and two files of texts."""
    made = {name: tmp_path_factory.mktemp(name) for name in MAKERS}
    for name, folder in made.items():
        MAKERS[name](folder)
    return made | {"text": write(tmp_path_factory.mktemp("text") / "films", TEXTS, TEXTS[:6])}


@pytest.fixture(scope="module")
def caches(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("dataset", SETTINGS)
def test_runs_at_smoke_size(dataset, experiment, folders, caches, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    if dataset in MAKERS:
        archives.trust(monkeypatch, dataset, folders[dataset])
        archives.small_tiny_imagenet(monkeypatch)
    places = {
        "--data.directory": folders[dataset],
        "--data.cache-dir": caches / "data",
        "--cache-dir": caches,
        "--run-dir": tmp_path / "run",
    }
    flags = [str(part) for place in places.items() for part in place]
    command = ["--smoke", "--dataset", dataset, *SETTINGS[dataset], *EXPERIMENTS[experiment], *flags]
    assert main(experiment, "", command) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "unlearn"
    for line in lines:
        assert np.isfinite(line["model"]["KL"]["retained"]) and 0 <= line["model"]["LA"] <= 1
        assert line["cost"]["gradient_evaluations"] > 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    augmented = {"cifar10": "crop_flip", "tiny_imagenet": "rand_augment", "text": "none"}
    assert config["augment"] == augmented[dataset] and config["model"] == SETTINGS[dataset][1]


def test_a_preset_is_checked_where_its_data_are_and_refused_where_not(folders, caches, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))
    archives.trust(monkeypatch, "cifar10", folders["cifar10"])
    (tmp_path / "empty").mkdir()
    command = [
        "--preset",
        "cifar10-resnet18",
        "--dry-run",
        "--cache-dir",
        str(tmp_path),
        "--run-dir",
        str(tmp_path / "r"),
    ]
    for folder, cache, code in ((folders["cifar10"], caches / "data", 0), (tmp_path / "empty", tmp_path / "data", 2)):
        assert (
            main("class_wise", "", [*command, "--data.directory", str(folder), "--data.cache-dir", str(cache)]) == code
        )
    said = capsys.readouterr()
    assert "unlearn" in said.out and "Error: " in said.err and "cifar-10-binary.tar.gz" in said.err


def test_the_description_names_all_that_decides_a_network(tmp_path):
    """A file of weights counts by its content: under another name it is the same, with other bytes it is not."""
    first, copy, other = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors"))
    first.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    other.write_bytes(b"Weights")

    def described(augment="crop_flip", **options) -> str:
        return describe(ExperimentConfig(model="resnet18", augment=augment, model_options=ModelOptions(**options)))

    assert described(pretrained=first) == described(pretrained=copy)
    different = [
        described(),
        described("none"),
        described(width=8),
        described(depth=8),
        described(dtype="bfloat16"),
        described(pretrained=first),
        described(pretrained=other),
        described(pretrained=other, new_head=True),
        described(pretrained=other, train="head"),
        describe(ExperimentConfig(model="swin_t", augment="crop_flip")),
    ]
    assert len(set(different)) == len(different)
    assert json.loads(described(width=8)) == {"augment": "crop_flip", "model": "resnet18", "options": {"width": 8}}
