"""What is killed at its n-th file event, for every n: run by test_crash_points.py, in a process of its own.

Everything is imported once; each act runs in a forked child whose audit hook kills it before its n-th file event (a
file opened to write, a folder made, a rename, a removal) below the folder at hand. JAX is started in children only.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from test_report import one_line

from ugclu_jax import bank, checkpoints, data, files
from ugclu_jax.data import cache
from ugclu_jax.harness.run_folder import RunFolder, check_writable
from ugclu_jax.living import signing
from ugclu_jax.living.rechecked import problems
from ugclu_jax.living.rows import Example
from ugclu_jax.living.store import Store
from ugclu_jax.report import page

WRITING = os.O_WRONLY | os.O_RDWR
EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
CONFIG = {"dataset": "digits"}
RUN_FILES = ["config.json", "digests.json", "examples.csv", "stream.json"]


class Act(NamedTuple):
    """What is killed, what was there before, and what must hold at the next start."""

    prepare: Callable[[Path], Any]
    act: Callable[[Path], Any]
    resume: Callable[[Path], Any]  # the next start, which asserts


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Plain files.


def make_run(folder: Path) -> None:
    RunFolder(folder).open(CONFIG, "examples", "stream")
    RunFolder(folder).write_metrics([{"old": 1}])
    RunFolder(folder).write_trace("er", 0, 0, {"losses": np.zeros(3)})


def read_losses(folder: Path) -> list[float]:
    with np.load(RunFolder(folder).trace("er", 0, 0)) as stored:
        return stored["losses"].tolist()


def resume_metrics(folder: Path) -> None:
    run = RunFolder(folder)
    run.open(CONFIG, "examples", "stream")
    run.sweep()
    assert json.loads((folder / "metrics.jsonl").read_text()) in ({"old": 1}, {"new": 2})
    assert read_losses(folder) in ([0.0] * 3, [1.0] * 3)
    write_run(folder)
    assert json.loads((folder / "metrics.jsonl").read_text()) == {"new": 2} and read_losses(folder) == [1.0] * 3
    assert listed(folder) == sorted([*RUN_FILES, "metrics.jsonl", "runs/er/seed-0/traces/0.npz"])


def write_run(folder: Path) -> None:
    RunFolder(folder).write_trace("er", 0, 0, {"losses": np.ones(3)})
    RunFolder(folder).write_metrics([{"new": 2}])


def open_run(folder: Path) -> None:
    check_writable(folder / "run", "--run-dir")
    with (run := RunFolder(folder / "run")).lock():
        run.sweep()
        run.open(CONFIG, "examples", "stream")


def resume_open(folder: Path) -> None:
    open_run(folder)
    assert RunFolder(folder / "run").run_id() and listed(folder / "run") == sorted([*RUN_FILES, "lock"])


def make_reported(folder: Path) -> None:
    make_run(folder)
    RunFolder(folder).write_metrics([one_line(method="er")])
    (folder / "report.html").write_text("old")


def resume_report(folder: Path) -> None:
    RunFolder(folder).sweep()
    assert (text := (folder / "report.html").read_text()) == "old" or text.rstrip().endswith("</html>")
    page.write_html(folder)
    assert (folder / "report.html").read_text() != "old"
    assert len(listed(folder)) == 7


TREE = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2], np.uint8)]


def store_oracle(folder: Path) -> Any:
    return dict(bank.members(folder / "oracles" / "key", [7], TREE, lambda *_: [TREE], at_once=1))


def resume_oracle(folder: Path) -> None:
    files.sweep(folder / "oracles" / "key")
    found = store_oracle(folder)[7]
    assert all(np.array_equal(a, b) for a, b in zip(found, TREE, strict=True))
    assert bank.seeds_in(folder / "oracles" / "key", [7]) and listed(folder) == ["oracles/key/7.npz"]


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)


def store_dataset(folder: Path) -> data.Dataset:
    def build(partial: Path) -> data.Dataset:
        (partial / "extra.txt").write_text("kept beside the arrays")
        return data.from_arrays("toy", IMAGES, np.arange(6) % 2, IMAGES[:2], [0, 1])

    return cache.cached(folder, "toy", {"size": 4}, build)


def resume_dataset(folder: Path) -> None:
    assert np.array_equal(store_dataset(folder).train_inputs, IMAGES)
    assert [path.name for path in folder.iterdir()] == [cache.entry_path(folder, "toy", {"size": 4}).name]


# Checkpoints.


def whose(request: int) -> dict[str, Any]:
    return {"run": "a1", "request": request}


def state_of(value: float) -> Any:
    return {"weights": np.full(64, value), "inputs": np.full(64, 200 + int(value), np.uint8)}


def without_inputs(state: Any) -> Any:
    return {**state, "inputs": np.zeros_like(state["inputs"])}


def save_one(folder: Path, request: int, value: float) -> None:
    checkpoints.save(folder, request, state_of(value), {"identity": whose(request), "value": value})


def read(folder: Path, request: int) -> Any:
    return checkpoints.restore(folder, request, state_of(0.0), whose(request))


def newest(folder: Path) -> int:
    """As `last_good` finds it; all that is there must be whole."""
    found = {request: read(folder, request) for request in checkpoints.requests(folder)}
    assert all(one.state["weights"][0] == one.metadata["value"] for one in found.values())
    return max(found)


def save_two(folder: Path) -> None:
    for request in (0, 1):
        save_one(folder, request, float(request))


def save_again(folder: Path) -> None:
    """A request that is served anew, over a checkpoint that was passed over, and the one after it."""
    save_one(folder, 1, 5.0)
    save_one(folder, 2, 2.0)


def resume_saves(folder: Path) -> None:
    checkpoints.sweep(folder)
    assert read(folder, 0).metadata["value"] == 0.0, "the one before is as it was"
    assert newest(folder) in (0, 1, 2)
    save_again(folder)
    assert checkpoints.requests(folder) == [0, 1, 2] and len(list(folder.iterdir())) == 3
    assert [read(folder, request).metadata["value"] for request in range(3)] == [0.0, 5.0, 2.0]


def save_four(folder: Path) -> None:
    for request in range(4):
        save_one(folder, request, float(request))


def unlearn(folder: Path) -> None:
    """As a run ends an unlearn request: save, read back, keep three, and purge those before."""
    save_one(folder, 4, 4.0)
    read(folder, 4)
    finish_unlearning(folder)


def finish_unlearning(folder: Path) -> None:
    checkpoints.keep_newest(folder, 3, 4)
    checkpoints.purge(folder, 4, state_of(0.0), without_inputs, whose)


def resume_unlearning(folder: Path) -> None:
    checkpoints.sweep(folder)
    if (last := newest(folder)) < 4:
        assert last == 3, "nothing that was published is lost"
        unlearn(folder)
    else:
        finish_unlearning(folder)
    assert newest(folder) == 4 and set(checkpoints.requests(folder)) <= {2, 3, 4}
    assert len(list(folder.iterdir())) == len(checkpoints.requests(folder))
    for request in checkpoints.requests(folder)[:-1]:
        assert not np.asarray(read(folder, request).state["inputs"]).any(), "purged"


# A model's folder.


def example(number: int) -> Example:
    return Example(f"cat/{number}.png", sha256(str(number).encode()).digest(), "cat", {"user": str(number)})


def make_model(folder: Path) -> None:
    with Store.create(folder / "model") as store, store.writing("init") as ledger:
        facts = {"public_key": signing.load(store.path).public, "secret": ledger.secret_digest()}
        numbers = range(3)
        store.commit(ledger, "init", facts, entering=[example(n) for n in numbers], generation={"n": b"0"})


def serve_model(folder: Path) -> None:
    """A request to learn and one to unlearn, after whatever a kill has left."""
    store = Store(folder / "model")
    with store.writing("act") as ledger:
        last = ledger.last()
        if last.number == 1:
            last = store.commit(ledger, "learn", {}, entering=[example(n) for n in (3, 4)], generation={"n": b"1"})
        if last.number == 2:
            store.commit(ledger, "unlearn", {}, leaving=[0, 3], generation={"n": b"2"})


def resume_model(folder: Path) -> None:
    store = Store(folder / "model")
    with store.ledger() as ledger:
        number = ledger.last().number
        assert problems(ledger) == [] and number in (1, 2, 3)
        assert len(ledger.present()) == {1: 3, 2: 5, 3: 3}[number]
        assert store.head_problems(ledger, ledger.entry(1).body["public_key"]) == []
        assert all("a kill came between" in each for each in store.stray(ledger))
    assert store.current().files == {"n": str(number - 1).encode()}, "ledger and network are of one request"
    serve_model(folder)
    with store.ledger() as ledger:
        assert problems(ledger) == [] and store.stray(ledger) == [] and ledger.last().number == 3
        assert store.head_problems(ledger, ledger.entry(1).body["public_key"]) == []
    assert store.current().files == {"n": b"2"}
    left = [name for name in listed(folder / "model") if not name.startswith("ledger.sqlite-")]
    assert left == ["generations/3/n", "head.json", "ledger.sqlite", "lock", "private.pem", "public.pem"]
    assert (folder / "model" / "lock").read_bytes() == b""


def resume_new_model(folder: Path) -> None:
    swept = files.sweep(folder)
    assert (folder / "model").exists() or not list(folder.iterdir()), swept
    if not (folder / "model").exists():
        make_model(folder)
    with Store(folder / "model").ledger() as ledger:
        assert problems(ledger) == [] and len(ledger.present()) == 3
    assert Store(folder / "model").current().files == {"n": b"0"}


ACTS = {
    "new model": Act(lambda folder: None, make_model, resume_new_model),
    "model": Act(make_model, serve_model, resume_model),
    "run": Act(make_run, write_run, resume_metrics),
    "open": Act(lambda folder: None, open_run, resume_open),
    "report": Act(make_reported, page.write_html, resume_report),
    "oracle": Act(lambda folder: None, store_oracle, resume_oracle),
    "dataset": Act(lambda folder: None, store_dataset, resume_dataset),
    "save": Act(save_two, save_again, resume_saves),
    "unlearn": Act(save_four, unlearn, resume_unlearning),
}


def kill_at(number: int, folder: Path) -> list[int]:
    """Kill this process before its n-th file event below a folder; the list's only item counts the events so far."""
    seen, below = [0], os.fsencode(folder)

    def inside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.fsencode(path)
        if name.startswith(b"/proc/self/fd/"):
            opened, _, rest = name.removeprefix(b"/proc/self/fd/").partition(b"/")
            name = os.readlink(b"/proc/self/fd/" + opened) + b"/" + rest if opened.isdigit() else b""
        return name.startswith(below)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING)
        # What is removed by a name within an open folder (`shutil.rmtree`) counts too.
        relative = event in EVENTS and isinstance(arguments[-1], int) and arguments[-1] >= 0
        if changes and (relative or inside(arguments[0])):
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def in_child(work: Callable[[], Any]) -> int:
    """How a forked child ended: 0, 1 after a traceback, or below 0 by a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(name: str, stride: int) -> None:
    """Print as JSON how many points were tried, and at which of them the next start went wrong."""
    from orbax.checkpoint import v1  # noqa: F401 (so that no child need import it)

    root, act = Path(tempfile.mkdtemp(prefix="crash-")), ACTS[name]
    before = root / "before"
    before.mkdir()
    assert in_child(lambda: act.prepare(before)) == 0
    tried, lost, number, ended = 0, [], 1, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        folder = root / str(number)
        shutil.copytree(before, folder)

        def killed(number: int = number, folder: Path = folder) -> None:
            kill_at(number, folder)
            act.act(folder)

        ended = in_child(killed)
        assert ended in (0, -signal.SIGKILL), f"ended with {ended}"
        if in_child(lambda folder=folder: act.resume(folder)) != 0:
            lost.append(number)
        shutil.rmtree(folder)
        tried += ended != 0
        number += stride
    shutil.rmtree(root)
    print(json.dumps({"tried": tried, "lost": lost}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
