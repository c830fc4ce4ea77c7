"""A model in a folder: what each verb does to ledger, network and buffer, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest
from living_cases import QUICK, arrays, root
from scan import found as scan

from ugclu_jax.living import tensors
from ugclu_jax.living.held import filled
from ugclu_jax.living.model import LivingModel
from ugclu_jax.living.network import Described, grown, network
from ugclu_jax.living.rechecked import problems
from ugclu_jax.living.selection import Asked

USER = "user = 4"


@pytest.fixture
def model(tmp_path):
    shutil.copytree(root() / "model", tmp_path / "model")
    return LivingModel.open(tmp_path / "model")


def source(name):
    return str(root() / f"{name}.npz")


def accuracy(model, name, classes=None):
    stored = np.load(source(name))
    return float((model.logits(stored["x"]).argmax(1) == stored["y"]).mean())


def whole(model):
    """Nothing that was written is other than it was; the samples hold present examples and nothing else."""
    with model.store.ledger() as ledger:
        assert problems(ledger) == [] and model.store.stray(ledger) == []
        assert model.store.head_problems(ledger, model.status().public_key) == []
        present = {row.number: row.example for row in ledger.present()}
    held = model.held()
    for buffer, out in ((held.buffer, False), (held.held_out, True)):
        for number, label in zip(*[part.tolist() for part in filled(buffer)[:0:-1]], strict=True):
            assert present[number].held_out == out
            assert held.described.classes[label] == present[number].class_name


def test_init_trains_and_writes_everything_down(model):
    status = model.status()
    assert status.counts["retained"] + status.counts["held_out"] == 150 and status.counts["held_out"] > 15
    assert status.buffer == (60, 60) and status.classes.keys() == {"c0", "c1", "c2"} and status.writer is None
    assert accuracy(model, "first") > 0.9
    entry = model.history()[0]
    assert (entry.kind, entry.body["by"], entry.body["method"]) == ("init", "tests", "retrain")
    whole(model)


def test_learn_adds_what_is_new(model):
    before = model.held()
    asked = model.understand(source("second"))
    done = model.learn(source("second"), name="week 2", by="ann", ticket="T-1")
    assert (done.entry, done.trained, done.held_out) == (2, len(asked.trained), len(asked.held_out))
    assert done.trained + done.held_out == 60 and done.before == before.digest() != done.after
    numbers = set(filled(model.held().buffer)[2].tolist())
    assert numbers & set(asked.trained) and numbers - set(asked.trained)
    with pytest.raises(ValueError, match="has nothing to learn: 60 examples are learned already"):
        model.learn(source("second"))
    assert accuracy(model, "second") > 0.9
    whole(model)


def test_the_head_grows(model):
    asked = model.understand(source("third"))
    assert asked.new_classes == ("c3",)
    model.learn(source("third"))
    assert model.held().described.classes == ("c0", "c1", "c2", "c3")
    assert model.logits(np.load(source("third"))["x"]).shape == (60, 4) and accuracy(model, "third") > 0.7
    whole(model)


def test_growing_keeps_what_the_network_says_of_old_classes():
    old = Described(("a", "b", "c"), "arrays", (6, 6, 1), "uint8", 255.0, (0.5,), (0.5,))
    more = Described(("a", "b", "c", "d"), "arrays", (6, 6, 1), "uint8", 255.0, (0.5,), (0.5,))
    params, state = network(old).init_fn(jax.random.key(0))
    wider = grown(old, params, more, jax.random.key(1))
    pictures = arrays(10, 3, 5)["x"]
    outputs = [
        np.asarray(network(each).apply_fn(tree, state, pictures, train=False, rng_key=None)[0])
        for each, tree in ((old, params), (more, wider))
    ]
    assert np.array_equal(outputs[0], outputs[1][:, :3]) and np.ptp(outputs[1][:, 3]) > 0


@pytest.mark.parametrize("method", ["ug_clu", "retrain", "finetune_remain", "salun"])
def test_unlearn_leaves_nothing_of_the_examples(method, model):
    stored = np.load(source("first"))
    gone = stored["x"][stored["user"] == 4]
    asked = model.understand(Asked(where=USER), method)
    done = model.unlearn(where=USER, by="legal", ticket="DSR-2291", method=method)
    assert done.trained + done.held_out == len(gone) == len(asked.trained) + len(asked.held_out)
    assert done.method == method and done.metrics["unlearned"]["count"] == done.trained
    assert scan(model.store.path, gone) == [], "not a byte, in any form"
    assert scan(model.store.path, filled(model.held().buffer)[0][:2]) != [], "control"
    with model.store.ledger() as ledger:
        assert len(ledger.left()) == len(gone)
    assert done.entry == 2 and model.status().rollback == ()
    for value in stored["id"][stored["user"] == 4].tolist():
        assert f'"{value}"'.encode() not in (model.store.path / "ledger.sqlite").read_bytes()
    whole(model)
    assert model.purge().left == ()


def test_retraining_is_training_without_them(model):
    """Bit for bit what a model gets whose source never had them, by the same key."""
    model.unlearn(where=USER, method="retrain")
    from ugclu_jax.living import serving
    from ugclu_jax.living.requests import key_of

    held = model.held()
    with model.store.ledger() as ledger:
        rows = [row for row in ledger.present() if not row.example.held_out]
    stored = np.load(source("first"))
    place = {key: n for n, key in enumerate(stored["id"].tolist())}
    chosen = [place[row.example.key] for row in rows]
    task = serving.examples(stored["x"][chosen], stored["y"][chosen].tolist(), held.described)
    other = serving.retrain(key_of(held, 2), held, task).held
    assert other.digest() == held.digest()


def test_an_unlearned_example_is_refused_when_it_comes_again(model):
    model.unlearn(classes=("c1",))
    with pytest.raises(ValueError, match="unlearned before, by key or by content"):
        model.learn(source("first"))
    done = model.learn(source("first"), relearn=True)
    assert done.trained > 30 and "learned again" in done.notes[-1]
    whole(model)


def test_what_is_gone_cannot_be_stepped_on_and_is_said(model, tmp_path):
    shutil.copy(source("second"), tmp_path / "there.npz")
    model.learn(str(tmp_path / "there.npz"))
    (tmp_path / "there.npz").unlink()
    asked = model.understand(Asked(where="user = 7"))
    assert asked.estimate.missing == (str(tmp_path / "there.npz"),) and not asked.estimate.retraining_is_cheaper
    assert "retraining is not possible" in asked.notes[0]
    with pytest.raises(ValueError, match="retraining needs all that is retained"):
        model.unlearn(where="user = 7", method="retrain")
    done = model.unlearn(where="user = 7")
    assert "not at hand" in done.notes[-1] and done.trained > done.metrics["unlearned"]["count"] > 0
    whole(model)


def test_held_out_examples_alone_move_no_weight(model):
    with model.store.ledger() as ledger:
        keys = tuple(row.example.key for row in ledger.present() if row.example.held_out)[:3]
    done = model.unlearn(files=keys)
    assert (done.trained, done.held_out, done.method) == (0, 3, "none") and done.before == done.after
    whole(model)


def test_rollback_and_never_past_an_unlearning(model):
    first = model.held()
    model.learn(source("second"))
    done = model.rollback(1, by="ann")
    assert done.after == first.digest() == model.held().digest() and done.trained == 60
    assert model.status().counts["rolled_back"] == 60
    model.learn(source("second"))
    model.unlearn(where=USER)
    for to in (1, 3, 4):
        with pytest.raises(ValueError, match="which unlearned"):
            model.rollback(to)
    with pytest.raises(ValueError, match="there is no entry 9"):
        model.rollback(9)
    whole(model)


def test_requests_grow_the_ledger_alone(model):
    """Fifteen here: generations are as many after each."""
    sizes = []
    for number in range(15):
        key = model.store.ledger().present()[number].example.key
        model.unlearn(files=(key,), method="finetune_remain")
        sizes.append(model.status().bytes)
    rest = [total - ledger for total, ledger in sizes]
    assert max(rest) - min(rest) < 2000
    whole(model)


@pytest.mark.slow
def test_a_hundred_requests_grow_the_ledger_alone(model, tmp_path):
    """Fifty to learn and fifty to unlearn, in turn: every other file is there as often and as large after each pair."""
    new, source = arrays(150, 3, 11, first=500), tmp_path / "new.npz"

    def sizes():
        """Of every file but the ledger, by name; numbers of generations are no names."""
        found = {}
        for path in sorted(model.store.path.rglob("*")):
            if path.is_file() and path.name != "ledger.sqlite":
                found.setdefault(path.name, []).append(path.stat().st_size)
        return found

    seen, ledger = [], []
    for first in range(0, 150, 3):
        rows = {"train": slice(first, first + 2), "test": slice(first + 2, first + 3)}
        parts = {f"{name}_{split}": new[name][rows[split]] for name in ("x", "y", "id") for split in rows}
        np.savez(source, **parts, class_names=new["class_names"])
        assert model.learn(str(source), method="finetune").trained == 2
        with model.store.ledger() as known:
            oldest = [row.example.key for row in known.present() if not row.example.held_out][:2]
        assert model.unlearn(files=tuple(oldest), method="finetune_remain").trained == 2
        seen.append(sizes())
        ledger.append(model.status().bytes[1])
    assert len(model.history()) == 101
    assert seen[0].keys() >= {"network.safetensors", "buffer.safetensors", "config.json", "head.json", "lock"}
    for each in seen:  # a head says the number of its entry, in one to three digits
        assert {**each, "head.json": 0} == {**seen[0], "head.json": 0} and abs(
            each["head.json"][0] - seen[0]["head.json"][0]
        ) <= 2
    page, halves = 4096, (ledger[24] - ledger[0], ledger[49] - ledger[25])
    assert 0 < halves[1] <= 1.2 * halves[0] + page, "by request the ledger grows as much at the end as at the start"
    whole(model)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "nothing is given"),
        ({"where": USER, "classes": ("c1",)}, "where and classes is given"),
        ({"where": "usr = 4"}, "asks for 'usr', which is no column"),
        ({"where": "user = 99"}, "is true of no retained example"),
        ({"where": "1=1); drop table metadata; --"}, "is no condition"),
        ({"where": "exists (select 1 from read_text('/etc/passwd'))"}, "is no condition"),
        ({"where": "exists (select 1 from read_csv('/etc/hosts'))"}, "is no condition"),
        ({"where": "(select count(*) from duckdb_settings()) > 0 and user = 'x'; attach 'a.db'"}, "is no condition"),
        ({"classes": ("c9",)}, "did you mean"),
        ({"files": ("e1", "nobody")}, r"'nobody' \(1 in all\) is not retained"),
    ],
)
def test_what_names_nothing_is_refused_and_changes_nothing(named, message, model):
    before = model.history()
    with pytest.raises(ValueError, match=message):
        model.unlearn(**named)
    assert model.history() == before


@pytest.mark.parametrize(("method", "message"), [("der_pp", "between requests"), ("ug_cl", "did you mean ug_clu")])
def test_a_method_that_a_folder_cannot_serve(method, message, model):
    with pytest.raises(ValueError, match=message):
        model.learn(source("second"), method=method)


def test_other_inputs_are_refused(model, tmp_path):
    other = arrays(20, 3, 7, first=900)
    np.savez(tmp_path / "a.npz", **{**other, "x": other["x"][:, :5]})
    with pytest.raises(ValueError, match=r"inputs are uint8\[5, 6, 1\]; the model takes uint8\[6, 6, 1\]"):
        model.learn(str(tmp_path / "a.npz"))
    stored = dict(np.load(source("first")))
    np.savez(tmp_path / "b.npz", **{**stored, "x": stored["x"] + 1})
    with pytest.raises(ValueError, match="an example of this key is retained with another content"):
        model.learn(str(tmp_path / "b.npz"))


def test_weights_from_elsewhere(model, tmp_path):
    model.export(tmp_path / "out.safetensors")
    config = json.loads((tmp_path / "out.json").read_text())
    assert config["classes"] == ["c0", "c1", "c2"]
    options = {"settings": QUICK, "weights": tmp_path / "out.safetensors", "held_out": 40}
    other, done = LivingModel.init(tmp_path / "other", source("first"), **options)
    assert done.method == "none" and other.held().digest() == model.held().digest()
    content = (tmp_path / "out.safetensors").read_bytes()
    (tmp_path / "bad.safetensors").write_bytes(content[:-4])
    with pytest.raises(ValueError, match=r"bad\.safetensors: not safetensors"):
        LivingModel.init(tmp_path / "no", source("first"), **{**options, "weights": tmp_path / "bad.safetensors"})
    assert not (tmp_path / "no").exists()
    (tmp_path / "odd.safetensors").write_bytes(tensors.packed({"params": {"a": np.zeros(2)}}))
    with pytest.raises(ValueError, match="tensors must be"):
        LivingModel.init(tmp_path / "no", source("first"), **{**options, "weights": tmp_path / "odd.safetensors"})
    with pytest.raises(ValueError, match="is there already"):
        LivingModel.init(tmp_path / "other", source("first"))


def test_predict(model):
    said = model.predict(source("second"), 5)
    assert [each.what for each in said] and all(abs(sum(each.probabilities) - 1) < 1e-4 for each in said)
