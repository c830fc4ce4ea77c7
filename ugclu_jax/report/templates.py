"""Pages from the templates beside this file: text there, numbers and names from here, escaped."""

from pathlib import Path
from typing import Any

import jinja2

_FILES = [path for path in Path(__file__).parent.iterdir() if path.suffix in (".html", ".css")]
_TEMPLATES = jinja2.Environment(
    # Read here and now: a run of many hours ends with the page that belongs to the code it began with.
    loader=jinja2.DictLoader({path.name: path.read_text(encoding="utf-8") for path in _FILES}),
    autoescape=True,
    undefined=jinja2.StrictUndefined,  # a name that is missing is an error, not a gap in the page
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """A page from a template beside this file; every value is escaped unless it is `Markup`.

    >>> row = ["<b>", "1"]
    >>> "<td class=left>&lt;b&gt;</td>" in render(
    ...     "study.html", title="A study", lead="", head=["name", "LA"], rows=[row], image="", caption=""
    ... )
    True
    """
    return _TEMPLATES.get_template(template).render(values)
