"""Texts cut by a given tokenizer, pretrained encoders on them, and runs of which a part of the network is trained."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_text import write

from ugclu_jax import data
from ugclu_jax.data import text
from ugclu_jax.data.dataset import from_arrays
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.network import describe, make_network
from ugclu_jax.models import ModelOptions
from ugclu_jax.models.efficientnet_lite import EfficientNetLite
from ugclu_jax.models.minilm import VOCABULARY_SIZE, MiniLM

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "##s")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
TEXTS = [(f"{word} film", word) for word in ("good", "bad")] * 12
WIDTH = 4


def tokenizer_file(path, words=WORDS, size=VOCABULARY_SIZE):
    """A WordPiece tokenizer of BERT's kind that pads and cuts by itself, as files of encoders do."""
    vocabulary = {word: i for i, word in enumerate((*words, *(f"w{i}" for i in range(size - len(words)))))}
    special = [
        {"id": vocabulary[word], "content": word, "special": True, "single_word": False, "lstrip": False}
        | {"rstrip": False, "normalized": False}
        for word in SPECIAL
        if word in vocabulary
    ]
    template = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    adds = {word: {"id": word, "ids": [vocabulary[word]], "tokens": [word]} for word in ("[CLS]", "[SEP]")}
    fixed = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
    whole = {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {**fixed, "pad_token": "[PAD]"},
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": template, "pair": template, "special_tokens": adds},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
        | {"max_input_chars_per_word": 100, "vocab": vocabulary},
    }
    path.write_text(json.dumps(whole))
    return path


def minilm_file(path):
    """Random weights of a tiny MiniLM with the whole vocabulary, under the names of its package."""
    generator = np.random.default_rng(0)

    def draw(*shape):
        return generator.normal(size=shape).astype(np.float32)

    layer = "encoder.layer.0."
    dense = {f"{layer}attention.self.{each}": (WIDTH, WIDTH) for each in ("query", "key", "value")}
    dense |= {f"{layer}attention.output.dense": (WIDTH, WIDTH), f"{layer}intermediate.dense": (4 * WIDTH, WIDTH)}
    dense |= {f"{layer}output.dense": (WIDTH, 4 * WIDTH)}
    norms = ["embeddings.LayerNorm", f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    tables = {"word": VOCABULARY_SIZE, "position": MiniLM.positions, "token_type": 2}
    tensors = {f"embeddings.{name}_embeddings.weight": draw(rows, WIDTH) for name, rows in tables.items()}
    for name, (outputs, inputs) in dense.items():
        tensors |= {f"{name}.weight": draw(outputs, inputs), f"{name}.bias": draw(outputs)}
    for name in norms:
        tensors |= {f"{name}.weight": draw(WIDTH), f"{name}.bias": draw(WIDTH)}
    tensors["embeddings.position_ids"] = np.arange(4)[None]
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tokenizer_file(folder / "tokenizer.json")
    return minilm_file(folder / "model.safetensors")


def load(folder, tokenizer, length=6):
    options = {"directory": write(folder / "films", TEXTS, [("Good films, bad", "good"), ("[CLS]", "bad")])}
    return data.load("text", data.DataOptions(**options, cache_dir=folder, tokenizer=tokenizer, text_length=length))


def test_texts_are_cut_by_the_given_tokenizer(tmp_path, weights):
    built = load(tmp_path, weights.with_name("tokenizer.json"))
    ids = {word: i for i, word in enumerate(WORDS)}
    cls, sep, unknown = ids["[CLS]"], ids["[SEP]"], ids["[UNK]"]
    assert built.vocabulary_size == VOCABULARY_SIZE and built.train_inputs.dtype == np.int32
    assert built.train_inputs[0].tolist() == [cls, ids["good"], ids["film"], sep, 0, 0]
    # Cut to the length with the closing token kept; what the file says of lengths is not heeded.
    assert built.test_inputs[0].tolist() == [cls, ids["good"], ids["film"], ids["##s"], unknown, sep]
    # Text that spells a special token is text.
    assert built.test_inputs[1].tolist()[:3].count(cls) == 1
    other = tokenizer_file(tmp_path / "other.json", (*SPECIAL, "bad", "good", "film", "##s"))
    assert load(tmp_path, other).train_inputs[0].tolist() == [cls, 5, 6, sep, 0, 0]


def test_tokenizers_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer is .*none\.json: there is no such file"):
        text.given_tokenizer(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad\.json: it is no tokenizer \(.*\); give a tokenizer\.json"):
        text.given_tokenizer(tmp_path / "bad.json")
    moved = tokenizer_file(tmp_path / "moved.json", ("[UNK]", "[PAD]", "[CLS]", "[SEP]"), 9)
    with pytest.raises(ValueError, match=r"moved\.json: its padding is id 1; it must be id 0"):
        text.given_tokenizer(moved)
    without = tokenizer_file(tmp_path / "without.json", ("[UNK]", "[CLS]", "[SEP]"), 9)
    with pytest.raises(ValueError, match=r"without\.json: its padding is missing; it must be id 0"):
        text.given_tokenizer(without)


def config_of(weights, **options):
    return ExperimentConfig(
        model="minilm", model_options=ModelOptions(pretrained=weights, width=WIDTH, depth=1, **options)
    )


def test_a_network_refuses_the_tokens_of_another_vocabulary(tmp_path, weights):
    other = tokenizer_file(tmp_path / "other.json", (*SPECIAL, "bad", "good", "film", "##s"))
    with pytest.raises(
        ValueError, match=r"data\.tokenizer made other tokens than .*; give --data\.tokenizer .*weights"
    ):
        make_network(config_of(weights, train="head"), load(tmp_path, other))


def test_a_network_of_which_the_head_is_trained_keeps_no_copy_of_the_rest(tmp_path, weights):
    found = make_network(config_of(weights, train="head"), load(tmp_path, weights.with_name("tokenizer.json")))
    shapes = jax.eval_shape(jax.vmap(found.init_fn), jax.random.split(jax.random.key(0), 3))
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == ({"head": {"bias": (3, 2), "kernel": (3, WIDTH, 2)}}, {})
    described = {
        describe(config_of(weights, **options))
        for options in ({}, {"train": "head"}, {"train": "lora"}, {"train": "lora", "lora_rank": 2})
    }
    assert len(described) == 4
    other = weights.with_name("other.safetensors")
    other.write_bytes(weights.read_bytes() + b" ")
    assert describe(config_of(other, train="head")) not in described


def test_lite0_sees_pixels_as_its_training_did(monkeypatch):
    seen = []
    monkeypatch.setattr(EfficientNetLite, "__call__", lambda self, x, *, train: seen.append(np.asarray(x)))
    images = np.array([0, 127, 255, 255], np.uint8).reshape(4, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)
    dataset = from_arrays("few", images, [0, 1, 0, 1], images, [0, 1, 0, 1])
    network = make_network(ExperimentConfig(model="efficientnet_lite0"), dataset)
    network.apply_fn({}, {}, images, train=False, rng_key=None)
    expected = (images.astype(np.float64) - 127) / 128
    np.testing.assert_allclose(seen[0], expected, rtol=0, atol=1e-6)


def test_a_stream_with_a_head_alone(tmp_path, weights, capsys):
    small = {"outer_steps": 2, "inner_steps": 1, "mask": "none", "task_batch_size": 4, "remain_batch_size": 4}
    settings = {"capacity": 8, "oracle": {"epochs": 1, "batch_size": 8}, "oracle_seeds": 2, "tasks": 2}
    settings |= {"oracles": "milestones", "learn": {"settings": small}, "unlearn": {"settings": small}}
    (tmp_path / "small.json").write_text(json.dumps(settings))
    options = {
        "--dataset": "text",
        "--model": "minilm",
        "--sequence": "L1 L2 U1",
        "--data.directory": write(tmp_path / "films", TEXTS, TEXTS[:6]),
        "--data.tokenizer": weights.with_name("tokenizer.json"),
        "--data.text-length": "6",
        "--data.cache-dir": tmp_path / "data",
        "--model-options.pretrained": weights,
        "--model-options.width": WIDTH,
        "--model-options.depth": "1",
        "--model-options.train": "head",
        "--settings": tmp_path / "small.json",
        "--run-dir": tmp_path / "run",
        "--cache-dir": tmp_path / "cache",
    }
    command = [str(part) for pair in options.items() for part in pair]
    assert main("task_aware", "", [*command, "--data.vocabulary-size", "300"]) == 2
    assert "--data.vocabulary-size is not read beside --data.tokenizer" in " ".join(capsys.readouterr().err.split())
    assert main("task_aware", "", command) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["L1", "L2", "U1"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["made_of"]["network"]["options"]["train"] == "head"
    # Neither an oracle nor a checkpoint holds the vectors of 30,522 tokens.
    kept = [path for folder in ("cache", "run") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(kept) > 3 and max(path.stat().st_size for path in kept) < 4 * WIDTH * VOCABULARY_SIZE
