"""The core is light: its functions need no module that only an extra installs, and what needs one names the extra."""

import subprocess
import sys
from pathlib import Path

import pytest

from ugclu_jax.extras import MODULES, MissingExtraError, installed_by, require

ROOT = Path(__file__).parent.parent

ABSENT = sorted((set(MODULES["run"]) | set(MODULES["text"])) - {"orbax", "rich"})
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
"""As where only the core is installed, but for orbax and rich, which flax imports by itself."""

IMPORTS = """
import pkgutil
import ugclu_jax
from ugclu_jax import data, membership, methods, metrics, models, tuning

for package in (ugclu_jax, methods, models, tuning):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("ugclu_jax.experiments", "ugclu_jax.harness", "ugclu_jax.report")):
            __import__(module.name)
"""

REQUEST = """
import jax, jax.numpy as jnp
from ugclu_jax import Batch, hard_mask, gradient_statistic, unlearning_gradient
from ugclu_jax.data import from_arrays

apply_fn = lambda params, state, x, *, train, rng_key: (x @ params, state)
batch = Batch(jnp.ones((4, 8)), jnp.arange(4) % 3, jnp.ones(4))
gradient = unlearning_gradient(apply_fn, jnp.zeros((8, 3)), {}, batch).gradient
assert jnp.isfinite(gradient).all()
data = from_arrays("ones", *[jnp.ones((4, 8)), [0, 1, 0, 1]] * 2)
"""

MESSAGES = """
import pathlib
from ugclu_jax import data, membership
from ugclu_jax.extras import MissingExtraError

pathlib.Path("train.csv").write_text("text,label\\ngood,up\\nbad,down\\n")
for name, options, extra in (("digits", {}, "run"), ("image_folder", {"directory": "."}, "run"), ("text", {}, "text")):
    try:
        data.load(name, data.DataOptions(**options))
    except MissingExtraError as error:
        assert f"pip install 'ugclu_jax[{extra}]'" in str(error), error
    else:
        raise AssertionError(name)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("code", [IMPORTS, REQUEST, MESSAGES], ids=["imports", "a component", "messages"])
def test_without_extras(code, tmp_path):
    done = run(tmp_path, "-c", WITHOUT_EXTRAS + code)
    assert done.returncode == 0, done.stderr


def test_a_program_says_in_one_line_what_to_install(tmp_path):
    code = "import runpy; runpy.run_module('experiments.task_aware', run_name='__main__')"
    done = run(tmp_path, "-c", WITHOUT_EXTRAS + code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: safetensors is not installed: pip install 'ugclu_jax[run]'\n"


def test_the_error_names_the_module_and_the_command():
    message = r"^nothing_here is not installed: pip install 'ugclu_jax\[text\]'$"
    with pytest.raises(MissingExtraError, match=message) as e, installed_by("text"):
        import nothing_here  # noqa: F401
    assert e.value.name == "nothing_here"


def test_another_error_stays_as_it_is():
    with pytest.raises(ImportError) as e, installed_by("run"):
        from math import nothing_here  # noqa: F401
    assert not isinstance(e.value, MissingExtraError)


@pytest.mark.parametrize("extra", MODULES)
def test_what_an_extra_installs_is_here(extra):
    require(extra)
