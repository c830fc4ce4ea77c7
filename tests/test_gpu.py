"""The script for a GPU, on a CPU: it runs, ends in time with what it has, and its table says what was not come to."""

import re
from pathlib import Path

import pytest

from benchmarks import gpu

ROOT = Path(__file__).parent.parent
REQUEST = {
    "what": ["resnet18", "bfloat16", 512],
    "images": 64_000.0,
    "operations": 2e14,
    "compile": [1.0, 60.0],
    "apart": {"eager": 0.01, "compiled": 0.01},
    "seconds": {"ours": [0.5, 0.5, 0.5], "eager": [2.0, 2.0, 2.0], "compiled": [1.0, 1.0, 1.0]},
}


@pytest.mark.parametrize(
    "name, precision, rate",
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H200", "float32", 67e12),
        ("NVIDIA A100-SXM4-40GB", "TF32", 156e12),
        ("cpu", "TF32", None),
    ],
)
def test_peaks_are_those_of_the_card(name, precision, rate):
    assert gpu.peak(name, precision) == rate


def test_a_row_has_quotients_images_and_the_share_of_the_peak():
    row = gpu.request_row("NVIDIA H100 80GB HBM3", REQUEST)
    assert row[0] == "resnet18, bfloat16, 512"
    assert row[4].startswith("2.00 ") and row[5].startswith("4.00 ")
    assert row[6:8] == ("128,000", "40.4 %")
    assert gpu.request_row("cpu", REQUEST)[7] == "–"


def test_what_time_was_not_enough_for_is_named(monkeypatch):
    found = {"card": "NVIDIA H100 PCIe", "agreement resnet18": 1e-12, "request resnet18 bfloat16 512": REQUEST}
    monkeypatch.setattr(gpu, "measured", lambda smoke, seconds: (dict(found), "ended after 470 seconds"))
    requests, oracles, streams = gpu.run(False).tables
    assert "On NVIDIA H100 PCIe." in requests.note and "resnet18 1e-12" in requests.note
    assert (
        "Not measured, ended after 470 seconds: agreement cnn, agreement mlp, request resnet18 bfloat16 64,"
        in requests.note
    )
    assert len(requests.rows) == 1 and not oracles.rows and not streams.rows
    assert all(table.markdown() for table in (requests, oracles, streams))


def test_it_ends_in_time():
    found, ended = gpu.measured(True, 0.5)
    assert ended == "ended after 0 seconds" and set(found) <= {"card"}
    assert gpu.SECONDS <= 480


def test_goals_come_first():
    names = [*gpu.parts(False, "cuda")]
    assert names[:5] == [
        "agreement resnet18", "agreement cnn", "agreement mlp", "request resnet18 bfloat16 64",
        "request resnet18 bfloat16 512",
    ]  # fmt: skip
    assert len([name for name in names if name.startswith("request")]) == 3 * 3 * 2 and len(set(names)) == len(names)


@pytest.mark.slow
def test_it_runs_at_smoke_size_on_a_cpu():
    pytest.importorskip("torch", reason="torch is an extra: make test-torch")
    tables = gpu.run(True, seconds=3000).tables
    assert all(table.rows and table.markdown() for table in tables)
    assert "Not measured" not in tables[0].note
    assert {row[0] for row in tables[0].rows} == {
        f"{network}, {precision}, 8" for network in ("resnet18", "cnn", "mlp") for precision in ("bfloat16", "TF32")
    }


def test_the_tests_for_a_gpu_are_there():
    (names,) = re.findall(r"^GPU_TESTS := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for name in names.replace("\\", " ").split():
        assert (ROOT / "tests" / f"test_{name}.py").is_file(), name
