"""A page's terminal is what a terminal shows today."""

from pathlib import Path

import pytest
import transcript

from ugclu_jax.data.fashion_mnist import DEBIAN_DIRECTORY

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    DOCS / "forget_a_person.md",
    pytest.param(
        DOCS / "deletion_request.md",
        marks=pytest.mark.skipif(not DEBIAN_DIRECTORY.is_dir(), reason="package dataset-fashion-mnist not installed"),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(page, tmp_path):
    for command, output in transcript.run(page.read_text(), tmp_path):
        assert transcript.alike(output) == transcript.alike(command.expected), command.typed


def test_steps_of_a_page_are_read_in_their_order():
    page = "```python\n# a.py\nprint(1)\n```\n\n```console\n$ python a.py \\\n  b\n1\n$ ls\n```\n"
    assert transcript.steps(page) == [
        ("a.py", "print(1)\n"),
        transcript.Command("python a.py \\\n  b", "1"),
        transcript.Command("ls", ""),
    ]
    assert transcript.alike("UA 1.00→.956|.9 in 3 s  x\nSeconds: 4") == transcript.alike(
        "UA .95→1.0|1.0 in 3 s x".replace(" x", "  x")
    )
    assert transcript.alike("3 examples") != transcript.alike("4 examples")
