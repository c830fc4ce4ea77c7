"""Unlearned examples that a run keeps to be looked at in its report: thumbnails, or the beginnings of texts.

They are traces of what was unlearned, as is a report that shows them: `PAGE_MARK` tells such a page, and
`experiments.purge` removes both.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ugclu_jax import seals

FOLDER = "unlearned"
MOST = 12
LONGEST = 80
"""Characters of a text."""
PAGE_MARK = b"data-unlearned"
PICTURE, TEXT = "picture", "text"


class Shown(NamedTuple):
    """An unlearned example."""

    row: int  # of the training split
    label: str
    kind: str  # `PICTURE`: a PNG file in base64, or `TEXT`
    content: str


def name_of(request: int) -> str:
    """File of the examples that are shown after a request, within the run's folder."""
    return f"{FOLDER}/{request}.json"


def write(run_dir: Path, request: int, shown: Sequence[Shown]) -> None:
    """Keep examples for the report, under a digest."""
    seals.write(run_dir, name_of(request), (json.dumps([each._asdict() for each in shown], indent=1) + "\n").encode())


def read(run_dir: Path, request: int) -> list[Shown]:
    """What `write` kept; nothing where there is no such file.

    Raises:
        ValueError: it is damaged.
    """
    path = run_dir / name_of(request)
    try:
        return [_checked(Shown(**each)) for each in json.loads(seals.read(run_dir, name_of(request)))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, RecursionError, OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); delete it to go on without it") from error


def _checked(each: Shown) -> Shown:
    """What goes into a page is what its kind says."""
    if type(each.row) is not int or not isinstance(each.label, str) or each.kind not in (PICTURE, TEXT):
        raise ValueError("an entry is no example")
    if each.kind == PICTURE:
        base64.b64decode(each.content, validate=True)
    return each._replace(content=each.content if each.kind == PICTURE else each.content[:LONGEST])


def files_of(run_dir: Path) -> list[Path]:
    """All that `write` kept in a run's folder."""
    return sorted((run_dir / FOLDER).glob("*.json"))


def is_in(page: Path) -> bool:
    """Whether a page shows unlearned examples; one that cannot be read may.

    >>> is_in(Path("nowhere.html"))
    False
    """
    try:
        return PAGE_MARK in page.read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True
