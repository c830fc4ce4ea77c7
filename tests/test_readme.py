"""The first page: short; its links, commands and files are there, its figures are the tables', its example runs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text()
RESULTS = (ROOT / "docs" / "results.md").read_text()
EVIDENCE = (ROOT / "docs" / "results" / "evidence.md").read_text()
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
    """Each row is of one table: E of what it names, and first is who stands first there that is no reference."""
    table = rows(TEXT[TEXT.index("| what is unlearned") :])[2:]
    table = table[: next((i for i, row in enumerate(table) if len(row) != len(table[0])), len(table))]
    sections = re.split(r"^## ", EVIDENCE, flags=re.MULTILINE)[-len(table) :]
    assert len(table) == 4
    references = {"retrain", "mean_of_oracles", "do_nothing", "mask_logits", "cool", "retrain_on_buffer"}
    for (_, retraining, nothing, mean, first, paper, by_kl), section in zip(table, sections, strict=True):
        found = rows(section)
        distances = {row[0]: row[1].split(" ")[0] for row in found}
        names = [row[0] for row in found[2:] if row[0] not in references and "*" not in row[0]]
        place = {row[0]: int(row[8]) for row in found[2:] if row[0] in names and row[8] != "–"}
        assert retraining == dict((row[0], row[1]) for row in found)["retrain"]
        assert [nothing, mean, paper] == [distances[name] for name in ("do_nothing", "mean_of_oracles", "ug_clu")]
        # The tables are of the paper's form, under the names of their time.
        assert first == f"`{names[0].replace('ug_clu', 'ug_clu_plain')}` {distances[names[0]]}"
        best = min(place, key=place.__getitem__)
        assert by_kl == f"`{best}` {distances[best]}"


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
