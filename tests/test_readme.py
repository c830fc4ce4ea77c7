"""The first page: short; its links, commands and files are there, its figures are the tables', its example runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()
ONE_DEFAULT = (ROOT / "docs" / "results" / "one_default.md").read_text()
LONGEST = 170


def rows(text: str) -> list[list[str]]:
    """The cells of every line of every table."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_it_is_read_in_two_minutes():
    assert len(TEXT.splitlines()) <= LONGEST


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    if "generated" in page.parts:
        return
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if not target.startswith("https://"):
            beside = target.replace("notebooks/", "../notebooks/") if page.parent.name == "docs" else target
            assert (page.parent / beside).exists(), target


def test_the_notebooks_come_first():
    first = re.findall(r"\]\(([^)]+)\)", TEXT)[:4]
    assert first == [f"notebooks/{path.name}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_commands_are_there(page):
    text = page.read_text()
    for name in re.findall(r"python -m (?:ugclu_jax\.)?experiments\.([a-z_]+)", text):
        assert (ROOT / "experiments" / f"{name}.py").is_file(), name
    for name in re.findall(r"python -m ((?:ugclu_jax|benchmarks)\.(?!experiments)[a-z_.]+)", text):
        assert (ROOT / f"{name.rstrip('.').replace('.', '/')}.py").is_file(), name
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"(?<![\w/])(?:experiments|ugclu_jax|tests|notebooks)/[\w/]+\.(?:py|json)", text):
        assert (ROOT / path).is_file(), path


def test_its_results_are_those_of_the_tables():
    """Each row is one of the page's first table, cell for cell, in its order; what unlearns nothing is among them."""
    table = rows(TEXT[TEXT.index("| method | geometric mean") :])
    table = [row for row in table if len(row) == len(table[0])]
    page = rows(ONE_DEFAULT[ONE_DEFAULT.index("| method | geometric mean") :])
    columns = [page[0].index(name) for name in table[0]]
    found = [[row[column] for column in columns] for row in page if len(row) == len(page[0])]
    assert table[0] == found[0] and len(table) > 8
    names = [row[0] for row in found]
    assert [names.index(row[0]) for row in table[2:]] == sorted(names.index(row[0]) for row in table[2:])
    for row in table[2:]:
        assert row == found[names.index(row[0])]
    assert {"ug_clu", "ug_clu_plain", "finetune_remain", "do_nothing"} <= {row[0] for row in table}


def test_its_demo_is_that_of_the_results():
    figures = {row[0]: row for row in rows(RESULTS) if row[0] in ("4 unlearn U2", "7 unlearn U4")}
    for request, row in figures.items():
        (line,) = re.findall(rf"^{request} (.*)$", TEXT, re.MULTILINE)
        after = (cell.split("→")[-1] for cell in line.split()[:7])
        la, ua, _, _, *divergences = (cell.split("|")[0] for cell in after)
        assert [la, ua, *divergences] == [*row[2:4], *row[6:9]]
    assert len(figures) == 2


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "examples in the buffer, none of them a three" in capsys.readouterr().out
