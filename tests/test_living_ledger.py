"""The ledger's chain: whatever is changed, taken away or moved in it is seen; what left is erased, and known again."""

import hashlib
import hmac
import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.living import chain, signing
from ugclu_jax.living.ledger import NAME, Ledger
from ugclu_jax.living.rechecked import problems
from ugclu_jax.living.rows import Example, spelled
from ugclu_jax.living.store import Store

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
EXAMPLES = st.builds(
    Example,
    key=TEXTS,
    content=st.binary(min_size=32, max_size=32),
    class_name=TEXTS,
    metadata=st.dictionaries(TEXTS, st.none() | TEXTS, max_size=2),
    held_out=st.booleans(),
)


def filled(path, groups, gone=()):
    """A ledger of one learn entry a group, and one that makes some examples leave."""
    ledger = Ledger.create(path)
    for number, group in enumerate(groups, start=1):
        with ledger.transaction():
            ledger.enter(group, by=number)
            ledger.append("learn", {"name": f"week {number}"})
    if gone:
        with ledger.transaction():
            ledger.leave(list(gone), by=len(groups) + 1, tombstones=True)
            ledger.append("unlearn", {})
    return ledger


def example(number, **changes):
    content = hashlib.sha256(str(number).encode()).digest()
    return Example(f"cat/{number}.png", content, "cat", {"user": str(number % 3)})._replace(**changes)


def reference_chain(path):
    """Both chains by the formula, from the bare tables; shares no code with the ledger."""
    rows = sqlite3.connect(path)
    heads = []
    fixed = "select number, learned_by, held_out, commitment from examples order by number"
    entries = "select number, kind, body from entries order by number"
    for query, table in ((fixed, "examples"), (entries, "entries")):
        head = bytes(32)
        for row in rows.execute(query):
            parts = [part.hex() if isinstance(part, bytes) else part for part in row]
            text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
            head = hashlib.sha256(head + hashlib.sha256(text.encode()).digest()).digest()
        stored = rows.execute(f"select chain from {table} order by number desc limit 1").fetchone()
        heads.append((head, stored[0]))
    return heads


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.lists(EXAMPLES, min_size=1, max_size=4), min_size=1, max_size=3), data=st.data())
def test_the_chain_is_the_formula_and_what_was_written_is_read(groups, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / NAME
    number = sum(map(len, groups))
    gone = data.draw(st.sets(st.integers(0, number - 1)))
    with filled(path, groups, sorted(gone)) as ledger:
        assert problems(ledger) == []
        flat = [each for group in groups for each in group]
        assert {row.number: row.example for row in ledger.present()} == {
            n: each for n, each in enumerate(flat) if n not in gone
        }
        assert [left.number for left in ledger.left()] == sorted(gone)
        assert ledger.counts()["unlearned"] == len(gone)
    for head, stored in reference_chain(path):
        assert head == stored


CHANGES = {
    "example removed": "delete from examples where number = {n}",
    "example's chain": "update examples set chain = randomblob(32) where number = {n}",
    "commitment": "update examples set commitment = randomblob(32) where number = {n}",
    "learned by": "update examples set learned_by = learned_by + 1 where number = {n}",
    "held out": "update examples set held_out = 1 - held_out where number = {n}",
    "key": "update examples set key = 'other' where number = {n} and left_by is null",
    "class": "update examples set class = 'dog' where number = {n} and left_by is null",
    "metadata": "update examples set metadata = '{{}}' where number = {n} and left_by is null",
    "content": "update examples set content = randomblob(32) where number = {n} and left_by is null",
    "left": "update examples set left_by = 3 where number = {n} and left_by is null",
    "back": "update examples set left_by = null where number = {gone}",
    "tombstone": "update examples set key_tombstone = randomblob(32) where number = {gone}",
    "known again": "update examples set key = 'x' where number = {gone}",
    "entry removed": "delete from entries where number = {entry}",
    "entry's body": "update entries set body = replace(body, 'left', 'lift') where number = {entry}",
    "entry's kind": "update entries set kind = 'audit' where number = {entry}",
    "entry's chain": "update entries set chain = randomblob(32) where number = {entry}",
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("place", [0, 1])
def test_every_change_is_seen(what, place, tmp_path):
    filled(tmp_path / NAME, [[example(n) for n in range(5)], [example(n) for n in range(5, 9)]], [1, 6]).close()
    values = {"n": (0, 7)[place], "gone": (1, 6)[place], "entry": (1, 2)[place]}
    other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    assert other.execute(CHANGES[what].format(**values)).rowcount == 1
    other.close()
    with Ledger(tmp_path / NAME) as ledger:
        assert problems(ledger), what


@pytest.mark.parametrize("table", ["examples", "entries"])
def test_two_rows_that_change_places_are_seen(table, tmp_path):
    filled(tmp_path / NAME, [[example(n)] for n in range(4)]).close()
    other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    first = 1
    for old, new in ((first, -1), (first + 1, first), (-1, first + 1)):
        other.execute(f"update {table} set number = ? where number = ?", [new, old])
    other.close()
    with Ledger(tmp_path / NAME) as ledger:
        assert problems(ledger)


def test_nothing_of_what_left_is_in_the_file(tmp_path):
    gone = example(3, key="secret/person.png", metadata={"user": "a-name-of-somebody"})
    with filled(tmp_path / NAME, [[example(1), gone, example(2)]], [1]) as ledger:
        assert ledger.settle()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"secret/person" not in content and b"a-name-of-somebody" not in content and gone.content not in content
    assert b"cat/2.png" in content


def test_an_unlearned_example_is_known_when_it_comes_again(tmp_path):
    with filled(tmp_path / NAME, [[example(n) for n in range(4)]], [2]) as ledger:
        same, renamed, anew = example(2), example(2, key="dog/9.png"), example(2, content=bytes(32))
        assert ledger.buried([same, renamed, anew, example(9)]) == [same, renamed, anew]
        mark = hmac.new(ledger.secret, b"key\0cat/2.png", hashlib.sha256).digest()
        assert ledger.left()[0].key_tombstone == mark


def test_a_reader_sees_the_last_whole_state(tmp_path):
    writer = filled(tmp_path / NAME, [[example(0)]])
    with Ledger(tmp_path / NAME) as reader, writer.transaction():
        writer.enter([example(1)], by=2)
        assert len(reader.present()) == 1
        writer.append("learn", {})
        assert len(reader.entries()) == 1
    with Ledger(tmp_path / NAME) as reader:
        assert len(reader.present()) == 2
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.connection.execute("delete from examples")
    writer.close()


def test_what_fails_leaves_nothing(tmp_path):
    ledger = filled(tmp_path / NAME, [[example(0)]])
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        ledger.enter([example(1)], by=2)
        raise ZeroDivisionError
    assert len(ledger.present()) == 1 and problems(ledger) == []
    ledger.close()


def test_what_is_no_ledger_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        Ledger(tmp_path / NAME)
    (tmp_path / NAME).write_bytes(b"something else, and long enough to be read as a page " * 40)
    with pytest.raises(ValueError, match="is no ledger"):
        Ledger(tmp_path / NAME)


def test_one_form_of_json():
    assert chain.canonical({"b": 1.5, "a": "é"}) == '{"a":"é","b":1.5}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        chain.canonical(float("nan"))
    assert spelled("\udcff") == "\\udcff"


def made_store(folder):
    with Store.create(folder) as store, store.writing("init") as ledger:
        store.commit(
            ledger,
            "init",
            {"public_key": signing.load(store.path).public},
            entering=[example(0)],
            generation={"a.txt": b"one"},
        )
    return store


def test_a_folder_holds_the_generations_that_a_rollback_may_lead_to(tmp_path):
    store = made_store(tmp_path / "model")
    with store.writing("learn") as ledger:
        for number in range(1, 8):
            store.commit(ledger, "learn", {}, entering=[example(number)], generation={"a.txt": str(number).encode()})
        assert store.kept(ledger) == [8, 7, 6, 5]
        store.commit(ledger, "rollback", {"to": 6}, leaving=[6, 7], generation={"a.txt": b"5"})
        assert store.kept(ledger) == [9, 6, 5] and store.stray(ledger) == []
        store.commit(ledger, "unlearn", {}, leaving=[0], generation={"a.txt": b"u"})
        assert store.kept(ledger) == [10] and store.stray(ledger) == []
        assert [path.name for path in (store.path / "generations").iterdir()] == ["10"]
        assert store.current().files == {"a.txt": b"u"} and problems(ledger) == []


def test_a_writer_is_named_and_readers_go_on(tmp_path):
    store = made_store(tmp_path / "model")
    with store.writing("learn"):
        with (
            pytest.raises(ValueError, match=r"is in use by process \d+ on .*\(learn\): wait for it"),
            store.writing("x"),
        ):
            pass
        assert store.current().files == {"a.txt": b"one"}
    assert (store.path / "lock").read_bytes() == b""
