"""A page's terminal is what a terminal shows today."""

import json
import random
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


SENDERS = DOCS / "forget_a_sender.md"
MAILS = DOCS.parent / "data" / "mails"


def invented(folder):
    """Mails that nobody wrote, as `make data-mails` leaves them: twelve senders, the first three with few."""
    draw, words = random.Random(0), [f"word{n}" for n in range(300)]
    folder.mkdir(parents=True)
    rows = [{"label": "easy-ham-1", "sender": f"{1 + n % 12:016x}"} for n in range(12 * 48) if n % 12 > 2 or n < 300]
    rows += [{"label": "spam-1", "sender": None} for _ in range(350)]
    for number, row in enumerate(rows):
        row |= {"id": f"{number:016x}", "text": " ".join(draw.choices(words, k=60))}
    for name, some in (("train", rows[::2]), ("test", rows[1::2])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["invented mails", "real mails"])
def test_the_page_of_a_sender_shows_what_its_commands_print(real, tmp_path):
    """On the mails that the page is about, where they are; everywhere on invented ones, with the same lines."""
    if not real:
        invented(tmp_path / "data" / "mails")
    elif not MAILS.is_dir():
        pytest.skip("make data-mails")
    else:
        (tmp_path / "data").symlink_to(MAILS.parent)
    for command, output in transcript.run(SENDERS.read_text(), tmp_path):
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
