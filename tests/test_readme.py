"""What the README shows runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(capsys):
    # The first; the others show a call among names of the reader's own.
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    exec(compile(code, "README.md", "exec"), {})
    assert "[" in capsys.readouterr().out


def test_the_file_map_is_that_of_the_library():
    root = README.parent / "ugclu_jax"
    named = set(re.findall(r"^  (\w+\.py|\w+/) ", README.read_text(), re.MULTILINE))
    there = {path.name + "/" * path.is_dir() for path in root.iterdir() if not path.name.startswith("__")}
    assert named == there
