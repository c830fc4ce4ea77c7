"""The ledger of a model: every example that it ever learned, and everything that was done to it, in SQLite.

Two chains of rows (`chain.py`): `examples`, and `entries`, one an operation, whose rows name the head of the other. An
example that left, because it was unlearned or because its learning was rolled back, keeps number and commitment; its
key, content hash, class and metadata are erased, and an unlearned one leaves tombstones.
"""

import contextlib
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ugclu_jax.living import chain
from ugclu_jax.living.rows import Entry, Example, Left, Row, content_of, fixed, operation, spelled
from ugclu_jax.strict_json import parse

FORMAT = 1
NAME = "ledger.sqlite"
PATIENCE_SECONDS = 20.0
"""How long a statement waits for another process."""
_SCHEMA = """
create table facts (name text primary key, value blob not null) without rowid;
create table examples (
    number integer primary key, learned_by integer not null, held_out integer not null, commitment blob not null,
    chain blob not null, left_by integer, salt blob, key text, content blob, class text, metadata text,
    key_tombstone blob, content_tombstone blob);
create index examples_key on examples (key) where key is not null;
create index examples_left on examples (left_by) where left_by is not null;
create index examples_key_tombstone on examples (key_tombstone) where key_tombstone is not null;
create index examples_content_tombstone on examples (content_tombstone) where content_tombstone is not null;
create table entries (number integer primary key, kind text not null, body text not null, chain blob not null);
"""


class Ledger:
    """An open ledger.

    Args:
        path: of the file.
        write: whether rows may be added; readers see the last whole state, whatever a writer does.

    Raises:
        OSError: there is no such file, or it cannot be opened.
        ValueError: it is no ledger.
    """

    def __init__(self, path: Path, write: bool = False) -> None:
        if not path.is_file():
            raise FileNotFoundError(2, "there is no such ledger", str(path))
        self.path = path
        try:
            self.connection = _connect(path)
            with contextlib.ExitStack() as refused:
                refused.callback(self.connection.close)  # or its files would lie beside one that nobody can read
                self.connection.execute("pragma synchronous = full")
                self.connection.execute("pragma secure_delete = on")
                if not write:
                    self.connection.execute("pragma query_only = on")
                ((version,),) = self.connection.execute("pragma user_version").fetchall()
                self.secret: bytes = self._one("select value from facts where name = 'secret'")[0]
                if version != FORMAT:
                    raise ValueError(f"{path} has format {version}: this library reads {FORMAT}")
                refused.pop_all()
        except (sqlite3.DatabaseError, TypeError) as error:
            raise ValueError(f"{path} is no ledger of this library, or damaged ({error}): put it back") from error

    @classmethod
    def create(cls, path: Path) -> "Ledger":
        """A new one, to be written.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder, NAME)) as ledger:
        ...     with ledger.transaction():
        ...         _ = ledger.enter([Example("cat/1.png", bytes(32), "cat", {})], by=1)
        ...         _ = ledger.append("init", {"model": "mlp"})
        ...     [row.example.key for row in ledger.present()], len(ledger.entries())
        (['cat/1.png'], 1)
        """
        connection = _connect(path)
        connection.execute("pragma journal_mode = wal")
        connection.executescript(f"begin; {_SCHEMA} pragma user_version = {FORMAT}; commit")
        connection.execute("insert into facts values ('secret', ?)", [secrets.token_bytes(32)])
        connection.close()
        return cls(path, write=True)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what SQLite cannot do with it is said with its path.

        Raises:
            ValueError: for an error of SQLite in the block.
        """
        self.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise ValueError(f"{self.path} cannot be read or written ({error}): put back a whole copy") from error

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block writes, or nothing of it."""
        self.connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.connection.execute("rollback")
            raise
        self.connection.execute("commit")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that the block reads is of one state."""
        self.connection.execute("begin")
        try:
            yield
        finally:
            self.connection.execute("rollback")

    def secret_digest(self) -> str:
        """SHA-256 of the secret of tombstones, in hexadecimal, by which it is known to be the same."""
        return hashlib.sha256(self.secret).hexdigest()

    def settle(self) -> bool:
        """Bring everything into the one file; False where a reader holds the state before open.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder, NAME)) as ledger:
        ...     ledger.settle()
        True
        """
        return self._one("pragma wal_checkpoint(truncate)")[0] == 0

    def content(self) -> bytes:
        """Its file, page by page, as this connection reads it.

        Nobody may open and close the file itself: that takes from a process all locks of its connections to it (POSIX),
        and another process, as it closes its own, would then remove the log that this one still writes.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Ledger.create(Path(folder, NAME)) as ledger:
        ...     ledger.settle(), len(ledger.content()) == ledger.path.stat().st_size
        (True, True)
        """
        return self.connection.serialize()

    def enter(self, examples: Iterable[Example], by: int) -> list[int]:
        """Add examples that entry `by` learns; their numbers."""
        first, head = self.next_number(), self.head()
        rows: list[tuple[Any, ...]] = []
        for number, example in enumerate(examples, start=first):
            salt, held_out = secrets.token_bytes(16), int(example.held_out)
            metadata = spelled(chain.canonical(example.metadata).decode(errors="surrogatepass"))
            key = spelled(example.key)
            sealed = chain.commitment(salt, content_of(key, example.content, example.class_name, metadata))
            head = chain.link(head, fixed(number, by, held_out, sealed))
            rows.append((number, by, held_out, sealed, head, salt, key, example.content, example.class_name, metadata))
        self.connection.executemany(
            "insert into examples (number, learned_by, held_out, commitment, chain, salt, key, content, class, "
            "metadata) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        return list(range(first, first + len(rows)))

    def leave(self, numbers: Sequence[int], by: int, *, tombstones: bool) -> None:
        """Erase what is known of examples; of what is unlearned, leave tombstones."""
        for start in range(0, len(numbers), 500):
            for number, key, content in self._among("number, key, content", numbers[start : start + 500]):
                marks: list[bytes | None] = [None, None]
                if tombstones:
                    marks = [
                        chain.tombstone(self.secret, "key", key.encode()),
                        chain.tombstone(self.secret, "content", content),
                    ]
                self.connection.execute(
                    "update examples set left_by = ?, salt = null, key = null, content = null, class = null, "
                    "metadata = null, key_tombstone = ?, content_tombstone = ? where number = ?",
                    (by, *marks, number),
                )

    def commitments(self, numbers: Sequence[int]) -> list[str]:
        """Of some examples, in hexadecimal, by number."""
        found: list[tuple[int, bytes]] = []
        for start in range(0, len(numbers), 500):
            found += self._among("number, commitment", numbers[start : start + 500])
        return [sealed.hex() for _, sealed in sorted(found)]

    def left_commitments(self, by: int) -> list[str]:
        """Of what an entry made leave, in hexadecimal, by number."""
        query = "select commitment from examples where left_by = ? order by number"
        return [sealed.hex() for (sealed,) in self.connection.execute(query, [by])]

    def next_number(self) -> int:
        """That the next example gets."""
        return 1 + int(self._one("select coalesce(max(number), -1) from examples")[0])

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Add an operation, after the examples that it touches: its row names them."""
        last = self.last()
        number, before = (1, chain.START) if last is None else (last.number + 1, last.chain)
        body = {**body, "examples": self.head().hex(), "left": self.left_digest(number)}
        text = chain.canonical(body).decode(errors="surrogatepass")
        head = chain.link(before, operation(number, kind, text))
        self.connection.execute("insert into entries values (?, ?, ?, ?)", (number, kind, text, head))
        return Entry(number, kind, parse("the entry", text), head)

    def head(self) -> bytes:
        """Of the chain of examples."""
        found = self._one("select chain from examples order by number desc limit 1")
        return chain.START if found is None else found[0]

    def left_digest(self, by: int) -> str:
        """SHA-256 of the numbers, commitments and tombstones of what an entry made leave, in hexadecimal."""
        digest = hashlib.sha256()
        for number, *parts in self.connection.execute(
            "select number, commitment, key_tombstone, content_tombstone from examples where left_by = ? "
            "order by number",
            [by],
        ):
            digest.update(b"".join((number.to_bytes(8), *(part or b"-" for part in parts))))
        return digest.hexdigest()

    def last(self, kinds: Sequence[str] = ()) -> Entry | None:
        """The newest entry, of some kinds."""
        marks = ", ".join("?" * len(kinds))
        where = f"where kind in ({marks})" if kinds else ""
        found = self._one(f"select number, kind, body, chain from entries {where} order by number desc limit 1", kinds)
        return None if found is None else _entry(found)

    def entry(self, number: int) -> Entry:
        """An entry by its number.

        Raises:
            ValueError: there is none.
        """
        found = self._one("select number, kind, body, chain from entries where number = ?", [number])
        if found is None:
            last = self.last()
            raise ValueError(f"there is no entry {number}: the last is {0 if last is None else last.number}")
        return _entry(found)

    def entries(self) -> list[Entry]:
        """All, from the first on."""
        return [_entry(row) for row in self._all("select number, kind, body, chain from entries order by number")]

    def present(self) -> list[Row]:
        """Examples that did not leave, by number."""
        rows = self._all(f"select {_KNOWN} from examples where left_by is null order by number")
        return [_row(row) for row in rows]

    def left(self) -> list[Left]:
        """Examples that left, by number."""
        columns = "number, left_by, key_tombstone, content_tombstone"
        return [Left(*row) for row in self._all(f"select {columns} from examples where left_by is not null")]

    def counts(self) -> dict[str, int]:
        """How many examples are trained on, held out, unlearned, rolled back."""
        query = """select sum(left_by is null and not held_out), sum(left_by is null and held_out),
            sum(key_tombstone is not null), sum(left_by is not null and key_tombstone is null) from examples"""
        found = self._one(query)
        return dict(zip(("retained", "held_out", "unlearned", "rolled_back"), (n or 0 for n in found), strict=True))

    def class_counts(self) -> dict[str, int]:
        """How many examples of each class are trained on."""
        query = "select class, count(*) from examples where left_by is null and not held_out group by class"
        return dict(self._all(query))

    def learned_after(self, entry: int) -> list[int]:
        """Numbers of present examples that later entries learned."""
        query = "select number from examples where left_by is null and learned_by > ? order by number"
        return [number for (number,) in self.connection.execute(query, [entry])]

    def known(self, keys: Sequence[str]) -> dict[str, Row]:
        """Those of some keys that are present."""
        found: dict[str, Row] = {}
        for start in range(0, len(keys), 500):
            part = [spelled(key) for key in keys[start : start + 500]]
            marks = ", ".join("?" * len(part))
            query = f"select {_KNOWN} from examples where left_by is null and key in ({marks})"
            found |= {row[2]: _row(row) for row in self.connection.execute(query, part)}
        return found

    def buried(self, examples: Sequence[Example]) -> list[Example]:
        """Those of some examples that were unlearned before, by key or by content."""
        query = "select 1 from examples where key_tombstone = ? or content_tombstone = ? limit 1"
        return [
            example
            for example in examples
            if self._one(
                query,
                (
                    chain.tombstone(self.secret, "key", spelled(example.key).encode()),
                    chain.tombstone(self.secret, "content", example.content),
                ),
            )
        ]

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        return self.connection.execute(query, list(values)).fetchone()

    def _all(self, query: str) -> list[Any]:
        return self.connection.execute(query).fetchall()

    def _among(self, columns: str, numbers: Sequence[int]) -> list[Any]:
        marks = ", ".join("?" * len(numbers))
        query = f"select {columns} from examples where number in ({marks}) and left_by is null"
        return self.connection.execute(query, list(numbers)).fetchall()


_KNOWN = "number, learned_by, key, content, class, metadata, held_out"


def _row(row: Any) -> Row:
    number, by, key, content, name, metadata, held_out = row
    return Row(number, by, Example(key, content, name, json.loads(metadata), bool(held_out)))


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)


def _entry(row: Any) -> Entry:
    number, kind, body, head = row
    return Entry(number, kind, parse(f"entry {number}", body), head)
