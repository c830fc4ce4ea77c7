"""Which examples of the ledger a request means: by a condition on their metadata, by id, by file or by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ugclu_jax.data.conditions import rows_where
from ugclu_jax.data.metadata import Metadata
from ugclu_jax.living.rows import Row, spelled
from ugclu_jax.requests.select import read_keys
from ugclu_jax.requests.validate import nearest

_SHOWN = 5


class Asked(NamedTuple):
    """How a request names its examples; one of these.

    Attributes:
        where: a condition in SQL, such as "user = 17 and date < '2024-01-01'".
        ids: a file of one key a line.
        files: keys, or paths that end in one.
        classes: names.
    """

    where: str | None = None
    ids: Path | None = None
    files: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def words(self) -> str:
        """In words, without the names of single examples, which the ledger must not keep.

        >>> Asked(where="user = 17").words(), Asked(files=("a.png",)).words()
        ('user = 17', '1 file')
        """
        if self.where is not None:
            return self.where
        if self.ids is not None:
            return "a list of ids"
        if self.files:
            return f"{len(self.files)} file{'s' if len(self.files) > 1 else ''}"
        return f"class {', '.join(self.classes)}"


def chosen(asked: Asked, rows: Sequence[Row]) -> list[Row]:
    """The rows that a request means.

    Args:
        asked: one way to name them.
        rows: of present examples.

    Raises:
        ValueError: no way or several, an example or a class that is not there, a condition that is none or that is
            true of nothing.
        OSError: the file of ids cannot be read.

    >>> from ugclu_jax.living.ledger import Example
    >>> rows = [Row(n, 1, Example(f"{n}.png", b"", "cat", {"user": str(n)})) for n in (16, 17)]
    >>> [row.number for row in chosen(Asked(where="user = 17"), rows)]
    [17]
    >>> chosen(Asked(files=("18.png",)), rows)
    Traceback (most recent call last):
        ...
    ValueError: '18.png' (1 in all) is not retained: it was never learned, or is unlearned already; the nearest there \
is '17.png'
    """
    given = [name for name, value in asked._asdict().items() if value not in (None, ())]
    if len(given) != 1:
        raise ValueError(f"{' and '.join(given) or 'nothing'} is given; a request has one of where, ids, files, class")
    if asked.where is not None:
        found = _where(asked.where, rows)
    elif asked.classes:
        there = {row.example.class_name for row in rows}
        for name in asked.classes:
            if name not in there:
                raise ValueError(f"class {name!r} has no retained example; did you mean {nearest(name, there)!r}?")
        found = [row for row in rows if row.example.class_name in asked.classes]
    else:
        found = _keys(read_keys(asked.ids) if asked.ids is not None else list(asked.files), rows)
    if not found:
        raise ValueError(f"{asked.words()!r} is true of no retained example: correct it")
    return found


def _where(condition: str, rows: Sequence[Row]) -> list[Row]:
    """DuckDB's expression on columns in memory, which can neither write nor read anything else."""
    names = list(dict.fromkeys(name for row in rows for name in row.example.metadata))
    keys = [row.example.key for row in rows]
    columns = {name: [row.example.metadata.get(name) for row in rows] for name in names}
    known = Metadata.of_text(keys, columns)
    own = {
        "key": keys,
        "class": [row.example.class_name for row in rows],
        "split": ["test" if row.example.held_out else "train" for row in rows],
    }
    return [rows[place] for place in rows_where(condition, own, known).tolist()]


def _keys(wanted: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    there = {row.example.key: row for row in rows}
    found, absent = dict[int, Row](), list[str]()
    for key in map(spelled, wanted):
        parts = key.split("/")
        names = ("/".join(parts[start:]) for start in range(len(parts)))
        row = next((there[name] for name in names if name in there), None)
        if row is None:
            absent.append(key)
        else:
            found[row.number] = row
    if absent:
        shown = ", ".join(map(repr, absent[:_SHOWN])) + (", …" if len(absent) > _SHOWN else "")
        close = f"; the nearest there is {nearest(absent[0], there)!r}" if 0 < len(there) <= 100_000 else ""
        raise ValueError(
            f"{shown} ({len(absent)} in all) is not retained: it was never learned, or is unlearned already{close}"
        )
    return sorted(found.values())
