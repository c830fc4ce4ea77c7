"""Arrays of .npz files: what comes out, under which keys, and what is refused without unpacking."""

import numpy as np
import pytest

from ugclu_jax import data


def npz(path):
    return data.load("npz", data.DataOptions(directory=path))


def test_npz_with_and_without_a_split(tmp_path):
    inputs, labels = np.arange(40, dtype=np.uint8).reshape(20, 2), np.arange(20) % 4
    np.savez(tmp_path / "whole.npz", x=inputs, y=labels)
    built = npz(tmp_path / "whole.npz")
    assert built.name == "whole" and np.bincount(built.test_labels).tolist() == [1, 1, 1, 1]
    rows = np.concatenate([built.train_inputs, built.test_inputs])
    assert sorted(rows.tolist()) == inputs.tolist() and built.train_inputs[:, 0].tolist() == sorted(
        built.train_inputs[:, 0]
    )
    np.testing.assert_array_equal(np.concatenate([built.train_labels, built.test_labels]), rows[:, 0] // 2 % 4)
    names = np.array(["n", "e", "s", "w"])
    np.savez(
        tmp_path / "split.npz", x_train=inputs[:15], y_train=labels[:15], x_test=inputs[15:], y_test=labels[15:],
        class_names=names,
    )  # fmt: skip
    built = npz(tmp_path / "split.npz")
    np.testing.assert_array_equal(built.test_inputs, inputs[15:])
    assert built.class_names == ("n", "e", "s", "w") and built.test_labels.tolist() == labels[15:].tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 2), np.uint8)}, "it holds x and must hold x, y or x_train"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0.0, 1, 0, 1])}, "y is float64.*class numbers"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0, 1, 0])}, r"x has shape \(4, 2\) and y \(3,\)"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0, 1, 0, -1])}, "class numbers"),
        ({"x": np.zeros((4, 2), np.uint8), "y": np.array([0, 1, 0, 10**9])}, "y reaches 1000000000"),
        ({"x": np.zeros((4, 2), np.int64), "y": np.array([0, 1, 0, 1])}, "train_inputs has type int64"),
        ({"x": np.array([None] * 4), "y": np.array([0, 1, 0, 1])}, "not a .npz file of plain arrays"),
    ],
)
def test_npz_arrays_are_checked(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        npz(tmp_path / "bad.npz")
    assert "bad.npz" in str(error.value)


def test_npz_files_are_checked(tmp_path):
    np.savez(tmp_path / "good.npz", x=np.zeros((400, 2), np.uint8), y=np.arange(400) % 2)
    content = (tmp_path / "good.npz").read_bytes()
    for name, spoilt in {"cut.npz": content[:-30], "empty.npz": b"", "text.npz": b"hello"}.items():
        (tmp_path / name).write_bytes(spoilt)
        with pytest.raises(ValueError, match=f"{name} is truncated or not a .npz file"):
            npz(tmp_path / name)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"one\.npy is truncated or not a .npz file"):
        npz(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz is not a file"):
        npz(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="directory is None: npz needs the file"):
        data.load("npz")
