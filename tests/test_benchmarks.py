"""Benchmarks run at smoke size and say what they claim to; no time decides anything here."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from benchmarks import document
from benchmarks.__main__ import NAMES
from benchmarks.document import Section, Table
from benchmarks.machine import operations
from ugclu_jax.models.lowering.fast_conv import fast_conv

NEED_TORCH = ("requests_against_torch",)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in NEED_TORCH])
def test_runs_at_smoke_size(name):
    section = importlib.import_module(f"benchmarks.{name}").run(True)
    assert section.tables
    for table in section.tables:
        assert table.rows and table.markdown().startswith(f"**{table.title}**")
        assert any(any(character.isdigit() for character in cell) for cell in table.rows[0])
    assert all(content.startswith(b"\x89PNG") for content in section.figures.values())


def test_whole_requests_agree_with_torch_before_they_are_timed():
    pytest.importorskip("torch", reason="torch is an extra: make test-torch")
    section = importlib.import_module("benchmarks.requests_against_torch").run(True)
    assert len(section.tables[0].rows) == 3  # a disagreement raises


def test_every_benchmark_is_a_module_with_a_question():
    for name in NAMES:
        module = importlib.import_module(f"benchmarks.{name}") if name not in NEED_TORCH else None
        assert module is None or module.__doc__.splitlines()[0].endswith("?")


@pytest.mark.parametrize(
    "strides, pads, sides", [((1, 1), ((1, 1), (1, 1)), (6, 6)), ((2, 2), ((0, 1), (0, 1)), (3, 3))]
)
def test_operations_of_a_fast_convolution_and_its_gradients_are_three_times_the_sum(strides, pads, sides):
    x, kernel = jnp.zeros((5, 6, 6, 2)), jnp.zeros((3, 3, 2, 4))

    def loss(x, kernel):
        return fast_conv(x, kernel, strides, pads).sum()

    each = 2 * 5 * sides[0] * sides[1] * 4 * 3 * 3 * 2  # a multiplication and an addition a tap, channel and output
    assert operations(jax.make_jaxpr(loss)(x, kernel).jaxpr) == each
    traced = jax.make_jaxpr(jax.value_and_grad(loss, (0, 1)))(x, kernel)
    assert operations(traced.jaxpr) == 3 * each


def test_a_section_replaces_its_own_alone(tmp_path):
    path = tmp_path / "docs" / "benchmarks.md"

    def text(name, value):
        section = Section([Table("t", ("a",), [(value,)])])
        return document.section_text(name, "Why?", "here", 1.0, section)

    for name, value in (("one", "1"), ("two", "2"), ("one", "3")):
        document.write(name, text(name, value), {"f.png": b"x"}, path)
    found = path.read_text()
    assert "| 3 |" in found and "| 2 |" in found and "| 1 |" not in found
    assert found.index("## one") < found.index("## two")
    assert (path.parent / "f.png").read_bytes() == b"x"
    path.write_text(found.replace("<!-- end one -->", ""))
    with pytest.raises(ValueError, match="one of the markers"):
        document.write("one", text("one", "4"), {}, path)
    with pytest.raises(ValueError, match="has 1 cells; it must have 2"):
        Table("t", ("a", "b"), [("1",)]).markdown()
