"""The first page: short; its links, commands and files are there, its figures are the tables', its example runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()
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
    distances = {}  # name: every distance that a table of all methods has for it
    for name, value, *_ in rows(RESULTS):
        distances.setdefault(name.strip("*"), set()).add(value.split(" ")[0])
    table = TEXT[TEXT.index("| what is unlearned") :]
    found = rows(table)[2:7]
    assert len(found) == 5
    for _, floor, nothing, first, _, paper in found:
        name, first_distance = re.fullmatch(r"`(\w+)` (\S+)", first).groups()
        assert floor in distances["oracle · noise floor"]
        assert nothing in distances["do_nothing"]
        assert first_distance in distances[name]
        assert paper in distances["ug_clu"]


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
