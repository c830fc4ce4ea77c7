"""Every row of the table of bad inputs: its exit code, its one message, and the folder that it leaves as it was."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_inputs import GROUPS, Row

ROOT = Path(__file__).parent.parent
ROWS = [pytest.param(row, id=f"{group}: {row.name}") for group, rows in GROUPS.items() for row in rows]
RUNS = ("task_aware", "class_wise", "random_sample", "compare", "search", "hypergradients")


class Zygote:
    """The process that all rows are forks of."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def serve(self, **row: object) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(row) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote()
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    assert found.process.stdout is not None
    found.process.stdout.close()
    assert found.process.wait(timeout=60) == 0


def complete(row: Row) -> list[str]:
    """The words of a row, and those that keep a run that is not refused short and in its place."""
    given = [re.split("=| ", word)[0].replace("_", "-") for word in row.arguments]
    more: list[str] = []
    if row.program in RUNS:
        more += ["--cache-dir", "cache"] * ("--cache-dir" not in given)
        more += ["--run-dir", "run", "--dry-run"] * ("--run-dir" not in given)
        more += ["--smoke"] * (not {"--smoke", "--no-smoke", "--settings"} & set(given))
    # In front, flags last: a row may end in an option without its value, or begin with a word that has none.
    return [*more, *row.arguments]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def what_was_said(text: str) -> str:
    """On one line, without the boxes of the parser that `report` has."""
    return " ".join(re.sub("[╭╮╰╯─│]", " ", text).split())


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_input_is_refused_in_one_sentence_before_work(row: Row, zygote: Zygote, tmp_path: Path):
    folder = tmp_path / "here"
    folder.mkdir()
    for name, content in row.files.items():
        (folder / name).write_bytes(content)
    before = tree(folder)
    found = zygote.serve(program=row.program, arguments=complete(row), folder=str(folder))
    message = what_was_said(found["err"])
    assert found["code"] == 2, found
    assert row.said in message
    assert message.startswith("Error: ") and message.count("Error: ") == 1
    assert "Traceback" not in found["out"] + found["err"]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", found["out"] + found["err"])
    assert tree(folder) == before


def test_the_table_is_long_and_no_row_stands_in_it_twice():
    rows = [row for group in GROUPS.values() for row in group]
    assert len(rows) >= 340
    alike = [(row.program, row.arguments, tuple(row.files.items())) for row in rows]
    assert len(set(alike)) == len(alike)


def test_a_good_input_passes(zygote: Zygote, tmp_path: Path):
    """So that a row which is refused is refused for what it is."""
    arguments = ["--smoke", "--dry-run", "--run-dir", "run", "--cache-dir", "cache", "--seeds", "0", "4294967295"]
    found = zygote.serve(program="task_aware", arguments=arguments, folder=str(tmp_path))
    assert (found["code"], found["err"]) == (0, "") and "Requests:" in found["out"]
