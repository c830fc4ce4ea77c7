"""Data sets: what is refused, the seeded cuts, the sources and their files."""

import dataclasses
import gzip
import hashlib
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import ugclu_jax.data as data
from ugclu_jax.data import fashion_mnist
from ugclu_jax.data.draws import stratified_rows
from ugclu_jax.data.keys import position_keys

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def toy(examples=30, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.integers(0, 256, (examples, 2, 2, 1), dtype=np.uint8)
    inputs[:, 0, 0, 0] = np.arange(examples)  # a row is known by its first pixel
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, examples - classes)])
    return data.from_arrays("toy", inputs, labels, inputs[:5] // 2, labels[:5])


def rows_of(inputs):
    return inputs[:, 0, 0, 0].tolist()


# ---- validation


def changed(**fields):
    return dataclasses.replace(toy(), **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name is ''.*non-empty"),
        ({"class_names": ["0", "1", "2"]}, "class_names is .*must be a tuple"),
        ({"class_names": ("a", "b", "b")}, "at least two different names.*once"),
        (
            {"train_inputs": toy().train_inputs.astype(np.int32)},
            r"train_inputs has type int32.*uint8 or float32.*astype",
        ),
        ({"train_inputs": [[0]]}, "train_inputs has type list"),
        (
            {"test_inputs": np.zeros((0, 2, 2, 1), np.uint8)},
            r"test_inputs has shape \(0, 2, 2, 1\).*at least one example",
        ),
        ({"train_inputs": np.zeros(30, np.uint8)}, r"train_inputs has shape \(30,\).*add a feature axis"),
        ({"test_inputs": np.zeros((5, 2, 3, 1), np.uint8)}, r"test_inputs is uint8\[5, 2, 3, 1\].*must agree"),
        ({"test_inputs": np.zeros((5, 2, 2, 1), np.float32)}, "test_inputs is float32.*must agree"),
        ({"train_labels": toy().train_labels[:-1]}, r"train_labels has shape \(29,\): it must be \(30,\)"),
        ({"train_labels": toy().train_labels.astype(np.int64)}, r"dtype int64.*must be int32.*astype\(np.int32\)"),
        ({"test_labels": np.zeros(5)}, "test_labels has type float64: labels must be integers"),
        (
            {"test_labels": np.array([0, 1, 3, 0, 0], np.int32)},
            r"test_labels\[2\] is 3: labels lie in 0..2 \(3 classes\)",
        ),
        ({"test_labels": np.array([0, -1, 0, 0, 0], np.int32)}, r"test_labels\[1\] is -1"),
        ({"scale": 0.0}, "scale is 0.0.*> 0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": 20.0}, "inputs reach 2[0-9][0-9] and scale is 20.0"),
        ({"mean": (0.1, 0.2)}, r"mean is \(0.1, 0.2\).*tuple of 1 finite numbers"),
        ({"mean": (float("inf"),)}, "mean is .inf.*finite"),
        ({"std": (0.0,)}, "std is .*must be > 0; use 1.0"),
        ({"train_keys": position_keys("train", 29)}, r"train_keys is <U8\[29\]: it must be an array of 30 strings"),
        ({"train_keys": np.arange(30)}, r"train_keys is int64\[30\]"),
        ({"train_keys": (np.arange(30) // 2).astype(str)}, "train_keys holds '0' more than once"),
        ({"test_keys": position_keys("train", 5)}, "test_keys holds 'train/0', which train_keys has too"),
        ({"test_keys": np.array(["a", "b", "", "c", "d"])}, r"test_keys\[2\] is empty"),
        ({"vocabulary_size": 9}, "train_inputs has type uint8: with a vocabulary_size it must hold int32 tokens"),
    ],
)
def test_validate_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        data.validate(changed(**fields))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_non_finite_floats_are_refused_by_row(value):
    inputs = np.zeros((4, 3))
    inputs[2, 1] = value  # 1e300 overflows float32
    with pytest.raises(ValueError, match=r"train_inputs\[2\] holds NaN or infinity"):
        data.from_arrays("toy", inputs, [0, 1, 0, 1], np.zeros((1, 3)), [0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2**32, 1], r"train_labels\[2\] is 4294967296"),
        ([0, 1, -1, 1], r"train_labels\[2\] is -1"),
        ([0.0, 1.0, 0.0, 1.0], "train_labels has type float64"),
        ([0, 1, 0], r"train_labels has shape \(3,\)"),
        ([0, 0, 0, 0], "at least two different names"),
    ],
)
def test_from_arrays_refuses_labels(labels, message):
    inputs = np.zeros((4, 1), np.uint8)
    with pytest.raises(ValueError, match=message):
        data.from_arrays("toy", inputs, labels, inputs[:1], [0], class_names=["only"] if not any(labels) else None)


def test_empty_arrays_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        data.from_arrays("toy", np.zeros((0, 2), np.uint8), [], np.zeros((1, 2), np.uint8), [0])


def test_from_arrays_computes_statistics_by_channel_over_several_chunks():
    inputs = np.random.default_rng(0).integers(0, 256, (5000, 2, 3), dtype=np.uint8)
    inputs[..., 2] = 51
    built = data.from_arrays("toy", inputs, np.arange(5000) % 4, inputs[:1], [0])
    scaled = inputs.astype(np.float64) / 255
    np.testing.assert_allclose(built.mean, scaled.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(built.std, [*scaled[..., :2].std((0, 1)), 1.0], rtol=1e-12)  # a constant channel: 1
    assert (built.scale, built.num_classes, built.train_labels.dtype) == (255.0, 4, np.int32)


def test_from_arrays_takes_floats_and_given_statistics():
    inputs = np.array([[-3.0, 0.5], [9.0, 1.5]])
    built = data.from_arrays("toy", inputs, [0, 1], inputs, [0, 1], mean=[1, 2], std=[3, 4], class_names=["a", "b"])
    assert built.train_inputs.dtype == np.float32 and built.scale == 1.0
    assert (built.mean, built.std, built.class_names) == ((1.0, 2.0), (3.0, 4.0), ("a", "b"))


def test_fingerprint_sees_every_field():
    base = toy()
    pixel = base.train_inputs.copy()
    pixel[7, 1, 1, 0] ^= 1
    variants = [
        base,
        changed(name="other"),
        changed(train_inputs=pixel),
        changed(test_labels=(base.test_labels + 1) % 3),
        changed(test_labels=base.test_labels.astype(np.int64)),
        changed(train_inputs=base.train_inputs.reshape(30, 4, 1, 1)),
        changed(class_names=("0", "1", "zwei")),
        changed(mean=(0.0,)),
        changed(scale=256.0),
        changed(train_keys=position_keys("tra1n", 30)),
        changed(train_keys=base.train_keys[::-1].copy()),
        changed(test_keys=position_keys("other", 5)),
        changed(keys_are="content"),
        changed(vocabulary_size=256),
    ]
    prints = [variant.fingerprint() for variant in variants]
    assert len(set(prints)) == len(prints)
    assert toy().fingerprint() == prints[0] and len(prints[0]) == 64


def test_several_processes_read_the_fingerprint_together():
    base = toy()
    whole = base.digests()
    assert len(whole) > 4 and np.all(whole.any(axis=1))
    parts = [base.digests(part, 3) for part in range(3)]
    assert [int(part.any(axis=1).sum()) for part in parts] == [len(whole[i::3]) for i in range(3)]
    assert base.fingerprint(sum(parts)) == base.fingerprint()


def test_fingerprint_reads_values_not_memory_layout():
    inputs = toy().train_inputs
    assert changed(train_inputs=np.asfortranarray(inputs)).fingerprint() == toy().fingerprint()


# ---- tokens


def tokens(**fields):
    inputs = np.array([[1, 4, 0], [1, 2, 3]], np.int32)
    return data.from_arrays("toy", inputs, [0, 1], inputs, [0, 1], **{"vocabulary_size": 5} | fields)


def test_tokens_are_inputs_without_statistics():
    built = tokens()
    assert (built.vocabulary_size, built.mean, built.std, built.scale) == (5, (), (), 1.0)
    assert built.train_inputs.dtype == np.int32 and built.train_keys.tolist() == ["train/0", "train/1"]
    part = data.subset(built, 1, seed=0)
    assert part.vocabulary_size == 5 and part.fingerprint() == built.fingerprint()
    assert tokens(vocabulary_size=6).fingerprint() != built.fingerprint()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary_size": 4}, r"train_inputs\[0\] holds token 4: tokens lie in 0\.\.3"),
        ({"vocabulary_size": 1}, "vocabulary_size is 1: it must be an integer of at least 2"),
        ({"vocabulary_size": 5.0}, "vocabulary_size is 5.0"),
        ({"vocabulary_size": None}, "train_inputs has type int32: it must be a uint8 or float32"),
        ({"mean": (0.0,)}, r"mean, std, scale are \(0.0,\).*tokens have none"),
        ({"scale": 2.0}, r"\(\), \(\), 2.0: tokens have none"),
    ],
)
def test_tokens_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        tokens(**fields)


def test_tokens_below_zero_and_of_other_shape_are_refused():
    good = tokens()
    with pytest.raises(ValueError, match=r"test_inputs\[1\] holds token -1"):
        data.validate(dataclasses.replace(good, test_inputs=np.array([[0, 1, 1], [0, 0, -1]], np.int32)))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 1\): tokens must be \[N, L\]"):
        data.validate(dataclasses.replace(good, train_inputs=good.train_inputs[..., None]))


# ---- cuts


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.floats(0.01, 0.99), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_stratified_rows_follow_the_shares(counts, fraction, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    room = sum(counts) - len(counts)
    examples = max(1, round(fraction * room))
    if room == 0:
        with pytest.raises(ValueError, match=r"examples is 1: it must lie in 1\.\.0"):
            stratified_rows(labels, 1, np.random.default_rng(seed).random(len(labels)))
        return
    rows = stratified_rows(labels, examples, np.random.default_rng(seed).random(len(labels)))
    taken = np.bincount(labels[rows], minlength=len(counts))
    assert len(np.unique(rows)) == examples and np.all(np.diff(rows) > 0)
    assert np.all(taken < counts)
    shares = np.array(counts) * examples / sum(counts)
    if min(counts) > 1 and np.all(np.ceil(shares) < counts):  # nobody at the limit: within one of the exact share
        assert np.all(np.abs(taken - shares) < 1)


def test_hold_out_splits_the_training_rows_and_drops_the_test_split():
    base = toy()
    part = data.hold_out(base, 9, seed=4)
    assert sorted(rows_of(part.train_inputs) + rows_of(part.test_inputs)) == list(range(30))
    assert rows_of(part.train_inputs) == sorted(rows_of(part.train_inputs)) and len(part.test_labels) == 9
    np.testing.assert_array_equal(part.test_labels, base.train_labels[rows_of(part.test_inputs)])
    np.testing.assert_array_equal(part.train_labels, base.train_labels[rows_of(part.train_inputs)])
    assert part.train_keys.tolist() == [f"train/{row}" for row in rows_of(part.train_inputs)]
    assert part.test_keys.tolist() == [f"train/{row}" for row in rows_of(part.test_inputs)]
    assert (part.mean, part.std) == (base.mean, base.std)
    assert part.fingerprint() == data.hold_out(base, 9, seed=4).fingerprint()
    assert part.fingerprint() != data.hold_out(base, 9, seed=5).fingerprint()


@pytest.mark.parametrize("examples", [0, -1, 28, 1000])
def test_hold_out_refuses(examples):
    with pytest.raises(ValueError, match=rf"examples is {examples}: it must lie in 1\.\.27"):
        data.hold_out(toy(), examples, seed=0)


def test_subset_takes_at_most_so_many_of_each_class_and_is_nested():
    base = toy()
    counts = np.bincount(base.train_labels)
    smaller, larger, whole = (data.subset(base, size, seed=1) for size in (2, 6, 30))
    np.testing.assert_array_equal(np.bincount(larger.train_labels), np.minimum(counts, 6))
    assert set(rows_of(smaller.train_inputs)) < set(rows_of(larger.train_inputs))
    np.testing.assert_array_equal(larger.train_labels, base.train_labels[rows_of(larger.train_inputs)])
    assert larger.train_keys.tolist() == [f"train/{row}" for row in rows_of(larger.train_inputs)]
    assert larger.test_keys is base.test_keys
    nested = data.hold_out(larger, 4, seed=2)
    assert nested.test_keys.tolist() == [f"train/{row}" for row in rows_of(nested.test_inputs)]
    assert whole.fingerprint() == base.fingerprint()
    with pytest.raises(ValueError, match="per_class is 0: it must be at least 1"):
        data.subset(base, 0, seed=0)


@given(st.floats(0, 1), st.integers(2, 5), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_label_noise_changes_exactly_the_ids(fraction, classes, seed):
    base = toy(classes=classes)
    before = base.train_labels.copy()
    noisy, ids = data.with_label_noise(base, fraction, seed)
    np.testing.assert_array_equal(np.flatnonzero(noisy.train_labels != before), ids)
    np.testing.assert_array_equal(base.train_labels, before)
    assert len(ids) == round(fraction * 30) and ids.dtype == np.int32


def test_wrong_labels_are_uniform_over_the_others():
    examples = 20_000
    inputs = np.zeros((examples, 1), np.uint8)
    base = data.from_arrays("toy", inputs, np.arange(examples) % 4, inputs[:4], np.arange(4))
    noisy, _ = data.with_label_noise(base, 0.6, seed=0)
    wrong = np.zeros((4, 4))
    np.add.at(wrong, (base.train_labels, noisy.train_labels), 1)
    observed = wrong[~np.eye(4, dtype=bool)]
    chi_square = np.sum((observed - 1000) ** 2) / 1000
    assert chi_square < 34.5  # 11 degrees of freedom and a little more, for class totals vary: p < 0.001


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_label_noise_refuses(fraction):
    with pytest.raises(ValueError, match=r"fraction is .*must lie in 0\.\.1"):
        data.with_label_noise(toy(), fraction, seed=0)


# ---- sources


def test_digits_are_all_of_the_source_split_once():
    digits, source = data.load("digits"), load_digits()
    assert digits.train_inputs.shape == (1437, 8, 8, 1) and digits.test_inputs.shape == (360, 8, 8, 1)
    assert (digits.scale, digits.train_inputs.dtype, digits.train_inputs.max()) == (16.0, np.uint8, 16)
    everything = np.concatenate([digits.train_inputs, digits.test_inputs]).reshape(-1, 64)
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    ours, theirs = (
        sorted((*image, label) for image, label in zip(images.tolist(), names.tolist(), strict=True))
        for images, names in ((everything, labels), (source.data.astype(int), source.target))
    )
    assert ours == theirs
    shares = np.bincount(source.target) * 360 / 1797
    assert np.all(np.abs(np.bincount(digits.test_labels) - shares) < 1)


def write_idx(path, values):
    header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def directory(tmp_path):
    generator = np.random.default_rng(0)
    for images, labels, count in ((FILES[0], FILES[1], 20), (FILES[2], FILES[3], 10)):
        write_idx(tmp_path / images, generator.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(tmp_path / labels, (np.arange(count) % 10).astype(np.uint8))
    return tmp_path


def test_fashion_mnist_from_a_directory(directory):
    built = data.load("fashion_mnist", data.DataOptions(directory=directory))
    raw = gzip.decompress((directory / FILES[0]).read_bytes())[16:]
    assert built.train_inputs.shape == (20, 28, 28, 1) and built.test_inputs.shape == (10, 28, 28, 1)
    assert built.train_inputs.tobytes() == raw
    assert built.test_labels.tolist() == list(range(10)) and built.class_names[9] == "Ankle boot"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "truncated or not gzip"),
        (lambda content: b"", r"starts with : an idx file|truncated"),
        (lambda content: b"<html>not found</html>", "truncated or not gzip"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "its header says"),
        (lambda content: gzip.compress(gzip.decompress(content)[:6]), "an idx file of"),
        (lambda content: gzip.compress(b"\0\0\x0d" + gzip.decompress(content)[3:]), "starts with 00000d"),
        (
            lambda content: content[:30] + bytes(byte ^ 255 for byte in content[30:40]) + content[40:],
            "truncated or not gzip",
        ),
    ],
    ids=["truncated", "empty", "html", "short", "header", "floats", "flipped"],
)
def test_damaged_idx_files_are_named(directory, name, damage, message):
    path = directory / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        fashion_mnist.load(directory)
    assert name in str(error.value)


def test_swapped_files_and_unequal_counts_are_refused(directory):
    shutil.copy(directory / FILES[3], directory / FILES[1])
    with pytest.raises(ValueError, match=r"train_labels has shape \(10,\): it must be \(20,\)"):
        fashion_mnist.load(directory)
    shutil.copy(directory / FILES[2], directory / FILES[1])
    with pytest.raises(ValueError, match="idx file of 1 axes"):
        fashion_mnist.load(directory)


def test_missing_files_are_named(directory, tmp_path):
    (directory / FILES[2]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {FILES[2]}\.(?s:.*)apt-get install dataset-fashion-mnist"):
        fashion_mnist.load(directory)
    with pytest.raises(FileNotFoundError, match="nowhere lacks"):
        fashion_mnist.load(tmp_path / "nowhere")


@pytest.mark.skipif(not fashion_mnist.DEBIAN_DIRECTORY.is_dir(), reason="package dataset-fashion-mnist not installed")
def test_fashion_mnist_at_full_size():
    built = data.load("fashion_mnist")
    assert built.train_inputs.shape == (60_000, 28, 28, 1) and built.test_inputs.shape == (10_000, 28, 28, 1)
    assert set(np.bincount(built.train_labels)) == {6000} and set(np.bincount(built.test_labels)) == {1000}
    np.testing.assert_allclose([*built.mean, *built.std], [0.2860, 0.3530], atol=1e-4)  # as published widely
    first = hashlib.sha256(built.train_inputs[0].tobytes()).hexdigest()
    raw = gzip.decompress((fashion_mnist.DEBIAN_DIRECTORY / FILES[0]).read_bytes())[16 : 16 + 784]
    assert first == hashlib.sha256(raw).hexdigest()


TFDS_SCRIPT = """
import io, json, os, pathlib, numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from ugclu_jax.data import fashion_mnist

fashion_mnist.DEBIAN_DIRECTORY = pathlib.Path("absent")

class Stand(tfds.image_classification.FashionMNIST, skip_registration=True):
    name = "fashion_mnist"
    def _split_generators(self, dl_manager):
        return {"train": self._made(20), "test": self._made(10)}
    def _made(self, count):
        for row in range(count):
            stream = io.BytesIO()
            Image.fromarray(np.full((28, 28), row, np.uint8)).save(stream, "png")
            yield row, {"image": stream.getvalue(), "label": row % 10}

def attempt():
    try:
        built = fashion_mnist.load(cache_dir=pathlib.Path(os.environ["TFDS_DATA_DIR"], "cache"))
    except (FileNotFoundError, ValueError) as error:
        return [type(error).__name__, str(error)]
    return [built.train_inputs[:, 5, 5, 0].tolist(), built.train_labels.tolist(), built.test_inputs.shape]

unprepared = attempt()
builder = Stand(file_format="array_record")
builder.download_and_prepare()
prepared = attempt()
info = pathlib.Path(builder.data_dir) / "dataset_info.json"  # writing tfrecord needs TensorFlow, claiming it does not
info.write_text(info.read_text().replace("array_record", "tfrecord"))
print(json.dumps([unprepared, prepared, attempt()]))
"""


def test_fashion_mnist_through_tfds(tmp_path):
    """Our loader and the genuine builder read what a stand-in of the same name prepared.

    In a process of its own, for TFDS reads its directory from the environment once.
    """
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", TFDS_SCRIPT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    unprepared, prepared, tfrecord = json.loads(run.stdout.splitlines()[-1])
    assert unprepared[0] == "FileNotFoundError"
    for words in (
        "download=True",
        "apt-get install",
        "a directory of the four files",
        "3. TensorFlow Datasets",
        str(tmp_path),
    ):
        assert words in unprepared[1]
    pixels, labels, test_shape = prepared
    assert sorted(pixels) == list(range(20)) and labels == [pixel % 10 for pixel in pixels]
    assert test_shape == [10, 28, 28, 1]
    assert tfrecord[0] == "ValueError" and "is not in array_record format" in tfrecord[1]


def test_load_by_name():
    assert set(data.DATASETS) == {
        "digits", "fashion_mnist", "mnist", "cifar10", "cifar100", "svhn_cropped", "tiny_imagenet", "image_folder",
        "npz", "text",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"unknown dataset 'fashion-mnist'.*did you mean fashion_mnist\?"):
        data.load("fashion-mnist")


UNUSED = [
    ("digits", {"directory": Path("here")}, r"option directory is 'here': digits does not use it \(it uses none\)"),
    ("npz", {"cache_dir": Path("here")}, r"option cache_dir is 'here': npz does not use it \(it uses directory\)"),
    ("cifar10", {"image_size": 64}, r"option image_size is '64': cifar10 does not use it .*leave it out"),
    ("image_folder", {"download": True}, "option download is 'True': image_folder does not use it"),
    ("mnist", {"text_length": 64}, "option text_length is '64': mnist does not use it"),
    ("fashion_mnist", {"vocabulary_size": 300}, "option vocabulary_size is '300'"),
]


@pytest.mark.parametrize(("name", "options", "message"), UNUSED)
def test_an_option_that_a_source_does_not_use_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, data.DataOptions(**options))


@pytest.mark.parametrize("name", data.DATASETS)
def test_a_source_uses_the_options_that_it_names(name):
    source = data.DATASETS[name]
    parameters = list(inspect.signature(importlib.import_module(f"ugclu_jax.data.{source.module}").load).parameters)
    assert set(source.options) <= {field.name for field in dataclasses.fields(data.DataOptions)}
    assert set(parameters[len(source.arguments) :]) == set(source.options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0: it must be at least 1"),
        ({"text_length": 1}, "text_length is 1: it must be at least 2"),
        ({"vocabulary_size": 257}, "vocabulary_size is 257: it must be at least 258"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.DataOptions(**options)
