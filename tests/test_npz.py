"""Arrays of .npz files: what comes out, under which keys, and what is refused without unpacking."""

import datetime
import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax import data
from ugclu_jax.data import npz_members


def npz(path):
    return data.load("npz", data.DataOptions(directory=path))


def saved(path, **arrays):
    np.savez(path, **arrays)
    return npz(path)


def whole(built, field):
    return np.concatenate([getattr(built, f"train_{field}"), getattr(built, f"test_{field}")])


X, Y = np.arange(40, dtype=np.uint8).reshape(20, 2), np.arange(20) % 4


def test_npz_with_and_without_a_split(tmp_path):
    built = saved(tmp_path / "whole.npz", x=X, y=Y)
    keys = data.content_keys([x.tobytes() + f" {y}".encode() for x, y in zip(X, Y, strict=True)])
    test = data.rows_for_test(keys, Y, 0.2)
    assert built.name == "whole" and built.test_keys.tolist() == keys[test].tolist() and 0 < len(test) < 10
    np.testing.assert_array_equal(built.test_inputs, X[test])
    rows = whole(built, "inputs")
    assert sorted(rows.tolist()) == X.tolist()
    assert built.train_inputs[:, 0].tolist() == sorted(built.train_inputs[:, 0])
    np.testing.assert_array_equal(whole(built, "labels"), rows[:, 0] // 2 % 4)
    assert not built.notes and built.keys_are == "content"
    built = saved(
        tmp_path / "split.npz", x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:],
        class_names=np.array(["n", "e", "s", "w"]),
    )  # fmt: skip
    np.testing.assert_array_equal(built.test_inputs, X[15:])
    assert built.class_names == ("n", "e", "s", "w") and built.test_labels.tolist() == Y[15:].tolist()


# ---- labels

LABELS = {
    "from 1": (Y + 1, ("1", "2", "3", "4"), "label 1 is class 0, label 2 is class 1"),
    "signs": (np.where(Y > 1, 1, -1), ("-1", "1"), "label -1 is class 0, label 1 is class 1"),
    "a gap": (np.where(Y == 3, 10**9, Y), ("0", "1", "2", "1000000000"), "label 1000000000 is class 3"),
    "booleans": (Y > 1, ("False", "True"), "label False is class 0, label True is class 1"),
    "bytes": (Y.astype("S"), ("0", "1", "2", "3"), None),
    "strings": (np.array(["cat", "dog", "ant", "bee"])[Y], ("ant", "bee", "cat", "dog"), "label ant is class 0"),
    "numbers as strings": (np.array(["10", "9", "1", "0"])[Y], ("0", "1", "9", "10"), "label 9 is class 2"),
    "small unsigned": (Y.astype(np.uint8), ("0", "1", "2", "3"), None),
    "large": (Y.astype(np.uint64) + 2**62, tuple(str(2**62 + n) for n in range(4)), "is class 0"),
    "near twins": (np.array(["Cat", "cat", "dog", "ＤＯＧ"])[Y], ("Cat", "cat", "dog", "ＤＯＧ"), "label Cat"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_may_be_anything_that_is_said(tmp_path, case):
    labels, names, note = LABELS[case]
    built = saved(tmp_path / "it.npz", x=X, y=labels)
    assert built.class_names == names
    assert any(note in said for said in built.notes) if note else not built.notes
    texts = [str(y.decode() if isinstance(y, bytes) else y) for y in labels.tolist()]
    originals = {tuple(x): text for x, text in zip(X.tolist(), texts, strict=True)}
    for x, number in zip(whole(built, "inputs").tolist(), whole(built, "labels").tolist(), strict=True):
        assert names[number] == originals[tuple(x)]
    assert sum("nearly one" in said for said in built.notes) == (2 if case == "near twins" else 0)


# ---- inputs

RAMP = np.arange(20)[:, None] * np.array([1, 2])
INPUTS = {
    "booleans": (RAMP % 2 > 0, RAMP % 2, np.uint8, 1.0, "x is boolean: read as 0 and 1"),
    "uint16": ((RAMP * 1000).astype(np.uint16), RAMP * 1000 / 65535, np.float32, 1.0, "x is uint16: divided by 65535"),
    "int16": ((RAMP * -100).astype(np.int16), RAMP * -100 / 32767, np.float32, 1.0, "x is int16: divided by 32767"),
    "int8": ((RAMP - 20).astype(np.int8), (RAMP - 20) / 127, np.float32, 1.0, "x is int8: divided by 127"),
    "int64 of bytes": (RAMP * 6, RAMP * 6, np.uint8, 255.0, "x is int64 within 0..255: read as uint8"),
    "int32 of 16 bits": ((RAMP * 900).astype(np.int32), RAMP * 900 / 65535, np.float32, 1.0, "divided by 65535"),
    "int64 of signed 16 bits": (RAMP * 800 - 99, (RAMP * 800 - 99) / 32767, np.float32, 1.0, "divided by 32767"),
    "uint64": ((RAMP * 900).astype(np.uint64), RAMP * 900 / 65535, np.float32, 1.0, "divided by 65535"),
    "big-endian": ((RAMP * 900).astype(">u2"), RAMP * 900 / 65535, np.float32, 1.0, "x is uint16"),
    "float64": (RAMP / 7, RAMP / 7, np.float32, 1.0, None),
    "float16": ((RAMP / 7).astype(np.float16), (RAMP / 7).astype(np.float16), np.float32, 1.0, None),
    "Fortran's order": (np.asfortranarray(RAMP.astype(np.uint8)), RAMP, np.uint8, 255.0, None),
}


@pytest.mark.parametrize("case", INPUTS)
def test_every_type_of_number_is_scaled_and_said(tmp_path, case):
    x, right, dtype, scale, note = INPUTS[case]
    built = saved(tmp_path / "it.npz", x=x, y=Y, id=np.arange(20))
    order = np.argsort(whole(built, "keys").astype(int))
    assert (built.train_inputs.dtype, built.scale) == (dtype, scale)
    np.testing.assert_allclose(whole(built, "inputs")[order], right, rtol=1e-6)
    said = [text for text in built.notes if "split" not in text]
    assert len(said) == (note is not None) and (note is None or note in said[0])


def test_flat_pictures_get_a_channel(tmp_path):
    built = saved(tmp_path / "it.npz", x=np.zeros((20, 6, 5), np.uint8), y=Y, id=np.arange(20))
    assert built.train_inputs.shape[1:] == (6, 5, 1)
    assert built.notes[-1] == "x is [N, 6, 5]: read as pictures of one channel"
    assert saved(tmp_path / "it.npz", x=np.zeros((20, 6, 3)), y=Y, id=Y + np.arange(20) * 4).train_inputs.ndim == 3


# ---- keys and metadata


def by_key(built):
    return {
        key: (split, image.tobytes(), int(label))
        for split in ("train", "test")
        for key, image, label in zip(
            *(getattr(built, f"{split}_{part}") for part in ("keys", "inputs", "labels")), strict=True
        )
    }


@given(st.permutations(range(20)), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_plays_no_part(tmp_path_factory, order, with_ids):
    path = tmp_path_factory.getbasetemp() / "permuted.npz"
    ids = {"id": np.array([f"n{n}" for n in range(20)])} if with_ids else {}
    x = X // 4  # so that some rows are equal
    y = Y // 2
    before = by_key(saved(path, x=x, y=y, **ids))
    after = by_key(saved(path, x=x[order], y=y[order], **{name: values[order] for name, values in ids.items()}))
    assert after == before


def test_a_row_that_goes_moves_no_other(tmp_path):
    x = np.arange(80, dtype=np.uint8).reshape(40, 2)
    y = np.arange(40) % 2 + 1
    before = by_key(saved(tmp_path / "it.npz", x=x, y=y))
    for gone in range(0, 40, 7):
        after = by_key(saved(tmp_path / "it.npz", x=np.delete(x, gone, 0), y=np.delete(y, gone)))
        assert len(after) == 39 and after.items() <= before.items()


def test_ids_are_keys_and_other_arrays_are_metadata(tmp_path):
    dates = np.array(["2024-01-01", "NaT"], "datetime64[D]")[Y // 2]
    known = {"user": Y * 10, "who": np.array(["a", "b"])[Y % 2], "score": np.where(Y, Y / 2, np.nan), "date": dates}
    built = saved(tmp_path / "it.npz", x=np.zeros((20, 3), np.uint8), y=Y % 2, id=np.arange(20) + 100, **known)
    assert built.keys_are == "id" and sorted(whole(built, "keys").tolist()) == [str(n + 100) for n in range(20)]
    assert built.metadata.types() == {"user": "BIGINT", "who": "VARCHAR", "score": "DOUBLE", "date": "DATE"} or (
        set(built.metadata.types()) == set(known)
    )

    def chosen(condition):
        train, test = built.where(condition)
        return sorted(int(key) - 100 for key in (*built.train_keys[train], *built.test_keys[test]))

    assert chosen("user = 20 and who = 'a'") == [row for row in range(20) if row % 4 == 2]
    assert chosen("score > 0") == [row for row in range(20) if row % 4]  # what is no number is missing
    assert chosen("date = '2024-01-01'") == [row for row in range(20) if row % 4 < 2]
    assert chosen("key = '103'") == [3]
    split = {f"{name}_{part}": values[:15] if part == "train" else values[15:] for name, values in known.items()
             for part in ("train", "test")}  # fmt: skip
    built = saved(
        tmp_path / "it.npz", x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:],
        id_train=np.arange(15).astype("S"), id_test=np.arange(15, 20).astype("S"), **split,
    )  # fmt: skip
    assert whole(built, "keys").tolist() == [str(n) for n in range(20)]
    assert chosen("user = 20") == [row - 100 for row in range(20) if row % 4 == 2]


def test_nanoseconds_are_dates(tmp_path):
    when = np.full(20, "2024-01-01T12:00:00", "datetime64[ns]")
    built = saved(tmp_path / "it.npz", x=X, y=Y, when=when)
    ((value,),) = built.metadata.connection.execute('select distinct "when" from metadata').fetchall()
    assert value == datetime.datetime(2024, 1, 1, 12)


def test_equal_rows_need_ids_where_their_metadata_differ(tmp_path):
    x = X // 4 * 0
    with pytest.raises(
        ValueError,
        match=r"it\.npz: x\[0\] and x\[4\] are equal but for their metadata, of which user is 0 and 4, .*an id",
    ):
        saved(tmp_path / "it.npz", x=x, y=Y, user=np.arange(20))
    assert len(by_key(saved(tmp_path / "it.npz", x=x, y=Y, user=Y))) == 20
    assert len(by_key(saved(tmp_path / "it.npz", x=x, y=Y, user=np.arange(20), id=np.arange(20)))) == 20


# ---- what is refused

ZEROS, HALVES = np.zeros((4, 2), np.uint8), np.array([0, 1, 0, 1])
RISING = ZEROS + np.arange(4, dtype=np.uint8)[:, None]
SPLIT = {"x_train": ZEROS, "y_train": HALVES, "x_test": ZEROS, "y_test": HALVES}
REFUSED = [
    ({"x": ZEROS}, "it holds x and must hold x, y or x_train"),
    ({"x": ZEROS, "y": np.array([0.0, 1, 0, 1])}, "y is float64.*class numbers"),
    ({"x": ZEROS, "y": np.array([0, 1, 0])}, r"x has shape \(4, 2\) and y \(3,\)"),
    ({"x": np.array([None] * 4), "y": HALVES}, "not a .npz file of plain arrays"),
    ({"x": ZEROS, "y": HALVES, "x_train": ZEROS, "y_train": HALVES, "x_test": ZEROS, "y_test": HALVES}, "rename them"),
    ({"arr_0": ZEROS, "arr_1": HALVES}, "it holds arr_0, arr_1 and must hold x, y or x_train"),
    ({"x": ZEROS, "y": HALVES[:, None]}, r"y is int64\[4, 1\]: it must be one flat array .*np.ravel\(y\)"),
    ({"x": ZEROS, "y": np.eye(4, dtype=int)}, r"y is int64\[4, 4\]: .*np.argmax\(y, axis=1\)"),
    ({"x": ZEROS, "y": np.array(3)}, r"y is int64\[\]: it must be one flat"),
    ({"x": ZEROS[:0], "y": HALVES[:0]}, r"y is int64\[0\]: it must be one flat"),
    ({"x": ZEROS[:, :0], "y": HALVES}, r"x has shape \[4, 0\]: it must be \[N, ...\]"),
    ({"x": ZEROS[:, 0], "y": HALVES}, r"x has shape \[4\]: .*x\[:, None\]"),
    ({"x": np.array(["a"] * 4), "y": HALVES}, "x has type <U1: inputs must be numbers"),
    ({"x": np.zeros((4, 2), "M8[D]"), "y": HALVES}, "x has type datetime64"),
    ({"x": ZEROS.astype(complex), "y": HALVES}, "x is of type complex128; plain arrays are of booleans"),
    ({"x": np.zeros(4, "i4,f4"), "y": HALVES}, "x is of type .*'f0'.*; plain arrays"),
    ({"x": np.zeros(4, "V3"), "y": HALVES}, "plain arrays"),
    ({"x": np.zeros(4, "m8[s]"), "y": HALVES}, "plain arrays"),
    ({"x": np.zeros((4, 3, 8, 8), np.uint8), "y": HALVES}, r"channels must be last.*np.moveaxis\(x, 1, -1\)"),
    ({"x": np.zeros((8, 8, 3, 4), np.uint8), "y": HALVES}, r"equally many examples; use np.moveaxis\(x, -1, 0\)"),
    ({"x": np.full((4, 2), np.nan), "y": HALVES}, r"x\[0\] holds NaN"),
    ({"x": np.array([[0], [1], [1e300], [0]]), "y": HALVES}, r"x\[2\] holds NaN, infinity or more than float32"),
    ({"x": np.full((4, 2), 2**20), "y": HALVES}, "x is int64 from 1048576 to 1048576: nobody knows the range"),
    ({"x": ZEROS - np.int64(40000), "y": HALVES}, "nobody knows the range"),
    ({"x": ZEROS, "y": np.array([2**64 - 1, 0, 1, 0], np.uint64), "id": [0, 1]}, r"id has shape \[2\]"),
    ({"x": ZEROS, "y": HALVES, "id": [0, 1, 2, 2]}, r"x\[2\] and x\[3\] have one id, '2'"),
    ({"x": ZEROS, "y": HALVES, "id": [0.5, 1, 2, 3]}, "id has type float64: ids must be strings or integers"),
    ({"x": ZEROS, "y": HALVES, "id": ["a", "", "c", "d"]}, r"x\[1\]: id is ''"),
    ({"x": ZEROS, "y": HALVES, "id": ["a", "\ud800", "c", "d"]}, r"x\[1\]: id is '\\ud800', which is no text"),
    ({"x": ZEROS, "y": HALVES, "user": [0, 1, 2]}, r"user has shape \[3\]: arrays beside .* are metadata, .*\[4\]"),
    ({"x": ZEROS, "y": HALVES, "z": ZEROS}, r"z has shape \[4, 2\]: arrays beside"),
    ({"x": RISING, "y": HALVES, "class": HALVES}, "column 'class', which every"),
    ({"x": RISING, "y": HALVES, "key": HALVES}, "column 'key', which every"),
    ({"x": RISING, "y": HALVES, "u": np.array([b"\xff"] * 4)}, r"u holds b'\\xff', which is not UTF-8"),
    ({"x": RISING, "y": np.array([b"\xff", b"a"] * 2)}, r"y holds b'\\xff', which is not UTF-8"),
    ({"x": RISING, "y": HALVES, "id": np.full(4, 0x110000, np.uint32).view("<U1")}, "id holds characters that Unicode"),
    ({"x": RISING, "y": HALVES, "when": np.array(["29999"] * 4, "M8[Y]")}, "when holds dates beyond the years"),
    ({"x": RISING, "y": np.array([2**64 - 1, 0, 1, 0], np.uint64), "class_names": ["a", "b"]}, "is 184467440737"),
    ({"x": RISING, "y": HALVES, "a": HALVES, "A": HALVES}, "columns 'a' and 'A'"),
    ({"x": ZEROS, "y": HALVES, "class_names": [1, 2]}, r"class_names is int64\[2\]: it must be flat and of strings"),
    ({"x": ZEROS, "y": HALVES, "class_names": "ab"}, r"class_names is <U2\[\]"),
    ({"x": ZEROS, "y": HALVES + 1, "class_names": ["a", "b"]}, r"label of x\[1\] is 2: with 2 class_names"),
    ({"x": ZEROS, "y": HALVES - 1, "class_names": ["a", "b"]}, r"label of x\[0\] is -1: with 2 class_names"),
    ({"x": ZEROS, "y": ["a", "b"] * 2, "class_names": ["a", "b"]}, "y is of strings: with class_names"),
    ({"x": ZEROS, "y": HALVES, "class_names": ["a", "a"]}, "at least two different names"),
    ({"x": ZEROS, "y": ["a", "a "] * 2}, "labels 'a' and 'a ' differ by space or by form of Unicode alone"),
    ({"x": ZEROS, "y": ["\u00e9", "e\u0301"] * 2}, r"labels .*'e\\u0301'.* differ by space or by form"),
    ({"x": ZEROS, "y": ["a", " "] * 2}, "label ' ' is empty"),
    ({"x": ZEROS, "y": [1, 1, 1, 1]}, "at least two different names"),
    ({"x": ZEROS[:2], "y": HALVES[:2]}, "none can be spared"),
    ({**SPLIT, "x_test": ZEROS.astype(float)}, r"x_train is uint8\[4, 2\] and x_test is float64\[4, 2\]: .* agree"),
    ({**SPLIT, "x_test": ZEROS[:, :1]}, r"x_test is uint8\[4, 1\]: .* agree"),
    ({**SPLIT, "y_test": ["a", "b"] * 2}, "y_train and y_test are integers and strings"),
    ({**SPLIT, "id_train": [0, 1, 2, 3]}, "it lacks id_test"),
    ({**SPLIT, "id": np.arange(8)}, "it lacks id_train"),
    ({**SPLIT, "id_train": [0, 1, 2, 3], "id_test": [3, 4, 5, 6]}, r"x_train\[3\] and x_test\[0\] have one id, '3'"),
    ({**SPLIT, "user_test": HALVES}, "it lacks user_train"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), REFUSED)
def test_npz_arrays_are_checked(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        npz(tmp_path / "bad.npz")
    assert "bad.npz" in str(error.value) and str(error.value).count("bad.npz") == 1


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


def member(shape, dtype="|u1", content=b"", order=False, header=None):
    """A .npy file whose header may lie."""
    text = header or f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + content


def array(values):
    stream = io.BytesIO()
    np.save(stream, np.asarray(values), allow_pickle=True)
    return stream.getvalue()


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


GOOD = {"x.npy": array(ZEROS), "y.npy": array(HALVES)}
HOSTILE = {
    "a huge shape": ({"x.npy": member((1 << 60, 2))}, "x has 0 bytes, and its header says uint8"),
    "a shape that wraps around": ({"x.npy": member((1 << 32, 1 << 32))}, "x has 0 bytes"),
    "a shape below zero": ({"x.npy": member((-4, 2), content=bytes(8))}, r"x has the shape \(-4, 2\)"),
    "two below zero": ({"x.npy": member((-4, -2), content=bytes(8))}, "x has the shape"),
    "a shape of booleans": ({"x.npy": member((True, 2), content=bytes(2))}, "x has the shape"),
    "a shape that is no tuple": ({"x.npy": member("[4, 2]", content=bytes(8))}, "not a .npz file of plain arrays"),
    "too few bytes": ({"x.npy": member((4, 2), content=bytes(7))}, "x has 7 bytes, and its header says uint8"),
    "too many bytes": ({"x.npy": member((4, 2), content=bytes(9))}, "x has 9 bytes"),
    "a pickle": ({"x.npy": array([Bomb()] * 4)}, "x is of type object; plain arrays"),
    "a pickle alone": ({"x.npy": pickle.dumps(Bomb())}, "not a .npz file of plain arrays"),
    "a type of no bytes": ({"x.npy": member((1 << 50,), "|U0")}, "plain arrays"),
    "a record": ({"x.npy": member((4,), [("a", "<i4")], bytes(16))}, "plain arrays"),
    "a type with a shape": ({"x.npy": member((4,), ("<i4", (2,)), bytes(32))}, "plain arrays"),
    "a header that is a program": ({"x.npy": member((), header="__import__('os').abort()")}, "not a .npz file"),
    "a header of many brackets": ({"x.npy": member((), header="(" * 5000)}, "not a .npz file"),
    "a header without an end": ({"x.npy": b"\x93NUMPY\x01\0\xff\xff{"}, "not a .npz file"),
    "a header of gigabytes": ({"x.npy": b"\x93NUMPY\x02\0\xff\xff\xff\xff{"}, "not a .npz file"),
    "a version to come": ({"x.npy": b"\x93NUMPY\x09\0" + array(ZEROS)[8:]}, r"version \(9, 0\)"),
    "a member that is no array": ({"x.txt": b"hello"}, "'x.txt' is no array with a plain name"),
    "a file in a file": ({"more.npz": b"PK"}, "'more.npz' is no array"),
    "a way out": ({"../x.npy": array(ZEROS)}, "'../x.npy' is no array"),
    "an absolute name": ({"/x.npy": array(ZEROS)}, "'/x.npy' is no array"),
    "a folder": ({"sub/": b""}, "'sub/' is no array"),
    "no name": ({".npy": array(ZEROS)}, "'.npy' is no array"),
    "another order": ({"x.npy": member((4, 2), content=bytes(8), order="'maybe'")}, "not a .npz file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused_unread(tmp_path, case, monkeypatch):
    members, message = HOSTILE[case]
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
        for name, content in (GOOD | members).items():
            file.writestr(name, content)
    monkeypatch.setattr(npz_members, "arrays", lambda path: pytest.fail("arrays were unpacked"))
    monkeypatch.setattr(np, "load", lambda *args, **more: pytest.fail("arrays were unpacked"))
    with pytest.raises(ValueError, match=message):
        npz(tmp_path / "bad.npz")


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in members:
            file.writestr(name, content)


def test_archives_that_lie_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "bad.npz"
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(path, [*GOOD.items(), ("x.npy", array(ZEROS + 1))])
    with pytest.raises(ValueError, match=r"the member 'x\.npy' more than once"):
        npz(path)
    zipped(path, GOOD.items(), compression=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="is packed as NumPy does not pack"):
        npz(path)
    zipped(path, [*GOOD.items(), *((f"a{n}.npy", b"") for n in range(1000))])
    with pytest.raises(ValueError, match="it has 1002 members"):
        npz(path)
    zipped(path, GOOD.items())
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\1\2")
    content[central + 24 : central + 28] = struct.pack("<I", 1 << 31)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'x\.npy' says that it has 2147483648 bytes"):
        npz(path)
    content = bytearray(content[:central] + content[central:])
    content[central + 24 : central + 28] = struct.pack("<I", len(GOOD["x.npy"]))
    content[central + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'x\.npy' is encrypted"):
        npz(path)


def test_what_the_memory_cannot_hold_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((1000, 1000), np.uint8), y=np.arange(1000) % 2)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("ugclu_jax.data.memory.memory_bytes", lambda: 10**6)
    monkeypatch.setattr(np, "load", lambda *args, **more: pytest.fail("arrays were unpacked"))
    with pytest.raises(ValueError, match=r"bomb\.npz, unpacked, would take 0 GB .*: give fewer or smaller arrays"):
        npz(path)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_is_read_or_refused_in_one_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    if data.draw(st.booleans()):
        np.savez(path, x=X, y=Y)
    else:
        np.savez_compressed(path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    try:
        built = npz(path)
    except ValueError as error:
        assert type(error) is ValueError and "any.npz" in str(error) and "\n" not in str(error)
    else:
        assert sorted(whole(built, "inputs").tolist()) == X.tolist()
