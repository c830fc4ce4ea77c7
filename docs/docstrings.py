"""Docstrings as they are written here, to be read as they stand, for Sphinx.

Three habits are not reStructuredText: an indented block is a formula or a drawing, to be shown as it is; a list needs
no blank line around it; and stars and bars are arithmetic. What Google's sections (`Args:` and so on) hold is
Napoleon's, which comes after.
"""

import re

from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Raises|References|Returns|Yields):$")
_NAME = re.compile(r"(`+[^`]+`+)")


def readable(lines: list[str]) -> list[str]:
    """The lines with indented blocks made literal, lists set apart and arithmetic escaped.

    >>> readable(["A step:", "    x ← x * m", "and so on, 2 * 3."])
    ['A step:', '', '::', '', '    x ← x * m', '', 'and so on, 2 \\\\* 3.']
    """
    result: list[str] = []
    section = literal = doctest = listed = False
    for line in lines:
        indented = line.startswith("    ")
        doctest = bool(line.strip()) and (doctest or line.lstrip().startswith(">>>"))
        if line and not indented:
            section = _SECTION.match(line) is not None
        if indented and not section and not literal and not doctest:
            result += ["", "::", ""]
            literal = True
        elif literal and line and not indented:
            literal = False
            if result[-1]:
                result.append("")
        bullet = line.startswith("- ")
        if result and result[-1] and line and line[0] != " " and bullet != listed:
            result.append("")
        listed = bullet or (listed and line.startswith(" "))
        result.append(line if literal or doctest else _escaped(line))
    return result


def _escaped(line: str) -> str:
    """Stars and bars outside of names, and a name with a plural's s."""
    parts = _NAME.split(line)
    parts[::2] = [re.sub(r"(?<![*\\])([*|])(?!\*)", r"\\\1", part) for part in parts[::2]]
    return "".join(part + r"\ " if i % 2 and parts[i + 1][:1].isalnum() else part for i, part in enumerate(parts))


def setup(app: Sphinx) -> None:
    """Before Napoleon, whose sections are read from what this leaves; what stands below a value has none."""
    of_values: dict[str, list[str]] = {}

    def before(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        # An alias without a docstring of its own has that of what it stands for, which is not written here.
        borrowed = lines and lines[0].strip() == (obj.__doc__ or "").strip().split("\n")[0]
        foreign = not str(getattr(obj, "__module__", "ugclu_jax")).startswith("ugclu_jax")
        lines[:] = [] if borrowed and foreign else readable(lines)
        if what in ("data", "attribute"):
            of_values[name] = list(lines)

    def after(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
        if name in of_values:  # Napoleon takes all before the first colon for a type
            lines[:] = of_values.pop(name)

    app.connect("autodoc-process-docstring", before, priority=400)
    app.connect("autodoc-process-docstring", after, priority=600)
