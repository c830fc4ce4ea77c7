"""The wheel: nothing but `ugclu_jax` in it, all that the library and its programs read, and it works installed."""

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"ugclu_jax": "ugclu_jax", "ugclu_jax.experiments": "experiments"}
"""Where the packages lie in a checkout."""
PROGRAMS = sorted(
    path.stem for path in (ROOT / "experiments").glob("*.py") if '__name__ == "__main__"' in path.read_text()
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build leaves folders behind."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(built), str(source)], check=True, timeout=300)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In another folder, with the wheel and the packages beside pip, but without what `.pth` files bring (-S): this
    checkout, where it is installed to be edited."""
    path = [str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_every_package_is_named():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    there = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert set(config["options"]["packages"].split()) == there


def test_it_holds_the_library_alone_and_all_of_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"ugclu_jax", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    there = {
        f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"ugclu_jax/py.typed", "ugclu_jax/data/checksums.tsv", "ugclu_jax/experiments/task_aware.py"} <= there
    assert {name for name in names if ".dist-info/" not in name} == there


def test_the_installed_one_is_imported_and_no_folder_of_the_checkout(installed, tmp_path):
    code = (
        "import importlib.util, ugclu_jax, ugclu_jax.experiments as programs\n"
        "print(ugclu_jax.__file__, programs.__file__, importlib.util.find_spec('experiments'), sep='\\n')"
    )
    done = run(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    library = installed / "ugclu_jax"
    assert done.stdout.splitlines() == [str(library / "__init__.py"), str(library / "experiments/__init__.py"), "None"]


def test_every_program_is_importable(installed, tmp_path):
    assert {"task_aware", "compare"} <= set(PROGRAMS)
    done = run(installed, tmp_path, "-c", "\n".join(f"import ugclu_jax.experiments.{name}" for name in PROGRAMS))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_program_runs_from_another_folder(installed, tmp_path):
    options = ["--smoke", "--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    done = run(installed, tmp_path, "-m", "ugclu_jax.experiments.task_aware", *options)
    assert done.returncode == 0, done.stderr
    assert {"metrics.jsonl", "report.html"} <= {path.name for path in (tmp_path / "run").iterdir()}
