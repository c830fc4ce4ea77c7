"""The pages of the site: what runs on them runs, tasks take the lines they say, the file map is that of the library."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TASKS = {"components": 4, "unlearn": 5, "stream": 12, "method": 12}
"""The most lines of code of each task; 8, 11, 37 and 30 before there was a front door."""


def sessions(page: Path) -> list[str]:
    return re.findall(r"```pycon\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_runs(task):
    page = DOCS / "tasks" / f"{task}.md"
    test = doctest.DocTestParser().get_doctest("\n".join(sessions(page)), {}, page.name, str(page), 0)
    assert test.examples
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert result.failed == 0, "".join(said)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_takes_the_lines_that_it_says(task):
    page = DOCS / "tasks" / f"{task}.md"
    (code,) = re.findall(r"<!-- task -->\n```pycon\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for line in code.splitlines() if line.startswith((">>> ", "... "))]
    assert 0 < len(lines) <= TASKS[task]
    assert re.search(rf"^The task, {TASKS[task]} lines", page.read_text(), re.MULTILINE)


def test_every_task_has_a_page():
    assert {page.stem for page in (DOCS / "tasks").glob("*.md")} == set(TASKS)


def test_every_page_is_in_the_contents():
    contents = (DOCS / "index.md").read_text()
    for page in [*DOCS.glob("*.md"), *DOCS.glob("tasks/*.md")]:
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or re.search(rf"^{name}$", contents, re.MULTILINE), name


def test_the_file_map_is_that_of_the_library():
    root = ROOT / "ugclu_jax"
    named = set(re.findall(r"^  (\w+\.py|\w+/) ", (DOCS / "architecture.md").read_text(), re.MULTILINE))
    there = {path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("__")}
    assert named == there - {"py.typed"}


@pytest.mark.parametrize(("page", "least"), [("results.md", 3), ("results/archive.md", 16)])
def test_every_result_has_its_command_and_its_date(page, least):
    text = (DOCS / page).read_text()
    row = r"^\| `.*` \| \[.*\]\((.*)\) \| .* \| \d{4}-\d\d-\d\d, `[0-9a-f]{7}` \|$"
    links = re.findall(row, text, re.MULTILINE)
    assert len(links) >= least
    heads = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        dated = re.search(r"^(Measured|Gathered) .*commit `[0-9a-f]{7}`", section, re.MULTILINE)
        assert dated or "|" not in section, section[:60]
