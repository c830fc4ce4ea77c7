"""The site that `make docs` builds."""

import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

project = "ugclu_jax"
author = "The ugclu_jax maintainers"
project_copyright = "2026, The ugclu_jax maintainers"
release = installed("ugclu_jax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3

# A notebook whose source did not change keeps the outputs of its last run; one that fails, fails the build.
# NOTEBOOKS=off leaves the outputs out, where the tests run them anyway.
nb_execution_mode = os.environ.get("NOTEBOOKS", "cache")
nb_execution_cache_path = str(ROOT / "docs/_build/notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Array": "Array", "Params": "Params", "ModelState": "ModelState", "PyTree": "PyTree"}
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
# A package hands on what its modules define, where names of attributes are looked up beside those of all other classes.
suppress_warnings = ["ref.python"]
default_role = "code"  # in docstrings `name` is a name, as in Markdown

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "ugclu_jax"
html_theme_options = {"show_navbar_depth": 1, "use_download_button": False, "show_toc_level": 2}
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


def copy_notebooks(app) -> None:
    """The notebooks lie beside docs/, where Sphinx does not look: they are pages of the site under notebooks/."""
    pages = Path(app.srcdir) / "notebooks"
    pages.mkdir(exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        target = pages / path.name
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.write_bytes(path.read_bytes())


def setup(app) -> None:
    app.connect("builder-inited", copy_notebooks)
