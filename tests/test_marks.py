"""Series that can be told apart: by marker and dashes without colour, by colour for every kind of colour vision."""

import itertools
import re
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest

from ugclu_jax import report
from ugclu_jax.report.marks import SERIES, mark_of

CSS = (Path(report.__file__).parent / "style.css").read_text()
LIGHT, DARK = (re.findall(r"--series-\d: (#\w+);", part) for part in CSS.split("prefers-color-scheme", 1))
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colours):
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in colours])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* under D65, in which a difference of 2.3 is just seen."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = rgb @ matrix.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def nearest(colours, vision):
    seen = lab(np.clip(linear(colours) @ np.asarray(VISION[vision]).T, 0, 1))
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", [SERIES, LIGHT, DARK], ids=["file", "light page", "dark page"])
def test_colours_are_apart_for_every_kind_of_colour_vision(palette, vision):
    assert len(palette) == len(SERIES)
    assert nearest(palette, vision) > 15


def test_the_measure_sees_two_series_that_are_one_to_a_deuteranope():
    before = ["#0068a6", "#c75400", "#00855f", "#b4588a", "#a87000", "#2b8cc4"]
    assert nearest(before, "normal") > 15 > 5 > nearest(before, "deuteranopia")


@pytest.mark.parametrize(("palette", "paper"), [(LIGHT, "#ffffff"), (DARK, "#14171a")])
def test_colours_stand_out_from_the_paper(palette, paper):
    light = linear([*palette, paper]) @ [0.2126, 0.7152, 0.0722] + 0.05
    contrast = np.maximum(light[:-1] / light[-1], light[-1] / light[:-1])
    assert contrast.min() >= 3  # of WCAG 2.1 for graphics


def test_no_two_series_share_marker_and_dashes_or_marker_and_fill():
    marks = [mark_of(series) for series in range(35)]
    assert (
        len({(mark.marker, mark.dashes) for mark in marks}) == len({(mark.marker, mark.fill) for mark in marks}) == 35
    )
