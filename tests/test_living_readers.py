"""Readers during fifty writes of another process: each sees the last whole state, or the one before it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ugclu_jax.living.rechecked import problems
from ugclu_jax.living.store import Store

WRITES = 50
WRITER = f"""
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from crash_points import example
from ugclu_jax.living.store import Store

store = Store(Path(sys.argv[1]))
for number in range({WRITES}):
    with store.writing("learn") as ledger:
        content = str(ledger.next_number() + 1).encode()
        store.commit(ledger, "learn", {{}}, entering=[example(3 + number)], generation={{"n": content}})
"""

READER = """
import sys
from pathlib import Path
from ugclu_jax.living.store import Store

Store(Path(sys.argv[1])).current()
"""


@pytest.mark.slow
def test_readers_see_whole_states_during_fifty_writes(tmp_path):
    from crash_points import make_model

    make_model(tmp_path)
    store, stop = Store(tmp_path / "model"), threading.Event()
    seen: list[int] = []
    wrong: list[str] = []

    def read() -> None:
        last = 0
        while not stop.is_set():
            try:
                found = store.current()
                with store.ledger() as ledger, ledger.snapshot():
                    number, present = ledger.last().number, len(ledger.present())
                    if present != 2 + number:
                        wrong.append(f"{present} examples after {number} entries")
                expected = b"0" if found.entry.number == 1 else str(2 + found.entry.number).encode()
                if found.files != {"n": expected} or found.entry.number < last:
                    wrong.append(f"{found.files} after entry {found.entry.number}, {last} was seen before")
                last = found.entry.number
                seen.append(last)
            except Exception as error:
                wrong.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for each in readers:
        each.start()
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", WRITER, str(store.path)], cwd=root, capture_output=True, text=True)
    stop.set()
    for each in readers:
        each.join()
    assert done.returncode == 0, done.stderr
    assert wrong == [] and len(set(seen)) > 5, "they read while it wrote"
    with store.ledger() as ledger:
        assert ledger.last().number == 1 + WRITES and problems(ledger) == [] and store.stray(ledger) == []


@pytest.mark.parametrize(
    "look",
    [
        lambda store, ledger: store.commit(ledger, "audit", {}),
        lambda store, ledger: store.head_problems(ledger, ledger.entry(1).body.get("public_key", "")),
    ],
    ids=["writing", "checking"],
)
def test_a_reader_that_goes_leaves_the_writer_its_log(look, tmp_path):
    from crash_points import make_model

    make_model(tmp_path)
    store = Store(tmp_path / "model")
    with store.writing("audit") as ledger:
        look(store, ledger)  # a digest of the ledger's file is taken
        subprocess.run([sys.executable, "-c", READER, str(store.path)], check=True)
        # Had the digest cost this process its locks, the reader would have been the last to close: the log would go.
        assert (store.path / "ledger.sqlite-wal").exists()
        store.commit(ledger, "audit", {})
        content = ledger.content()
    assert content == (store.path / "ledger.sqlite").read_bytes()
