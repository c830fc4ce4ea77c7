"""What a user names as `package.module:attribute`: found from the current folder on, and told apart by its source."""

import difflib
import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def is_name(text: str) -> bool:
    """Whether a text is such a name, right or wrong, and not one of this library's own words.

    >>> is_name("my_package.net:Net"), is_name("resnet18")
    (True, False)
    """
    return ":" in text


def load(what: str, name: str) -> Any:
    """The attribute of a module that a user names; the module may lie in the current folder.

    Args:
        what: the option that gave the name, with which a message begins.
        name: `package.module:attribute`.

    Raises:
        ValueError: another form, a module that is not there or that imports one that is not, or no such attribute.

    >>> load("model", "collections:Counter")("abb").most_common(1)
    [('b', 2)]
    >>> load("model", "collections:Countr")
    Traceback (most recent call last):
        ...
    ValueError: model is 'collections:Countr': collections has no attribute Countr; did you mean Counter?
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ValueError(
            f"{what} is {name!r}: it must be package.module:attribute, such as my_package.net:Net; correct it"
        )
    module = _imported(what, name, module_name)
    if not hasattr(module, attribute):
        nearest = difflib.get_close_matches(attribute, vars(module), n=1)
        cure = f"did you mean {nearest[0]}?" if nearest else "define it there, or correct the name"
        raise ValueError(f"{what} is {name!r}: {module_name} has no attribute {attribute}; {cure}")
    return getattr(module, attribute)


def source_digest(what: str, name: str) -> str:
    """A hash of the Python files that a name may stand for: all of its outermost package, or its module's alone.

    Args:
        what, name: as for `load`.

    Returns:
        64 hexadecimal digits; another place of the same files gives the same.

    Raises:
        ValueError: as from `load`.

    >>> len(source_digest("model", "collections:Counter"))
    64
    """
    load(what, name)
    parts = name.partition(":")[0].split(".")
    modules = [sys.modules[".".join(parts[:number])] for number in range(1, len(parts) + 1)]
    digest = hashlib.sha256()
    # A folder without an __init__.py has no file: it need not belong to the user alone.
    for module in (each for each in modules if getattr(each, "__file__", None)):
        path = Path(str(module.__file__))
        for file in sorted(path.parent.rglob("*.py")) if hasattr(module, "__path__") else [path]:
            digest.update(f"{file.relative_to(path.parent).as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
        break
    return digest.hexdigest()


def _imported(what: str, name: str, module_name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{what} is {name!r}: there is no module {error.name} in {folder} or among the installed packages; run "
                "where it lies, or correct the name"
            ) from error
        raise ValueError(
            f"{what} is {name!r}: {module_name} imports {error.name}, which is not there; install it, or run where it "
            "lies"
        ) from error
    finally:
        sys.path.remove(folder)
