"""Forgetting senders: who is chosen, what is asked for, what the attack says, and that nobody is named."""

import json

import numpy as np
import pytest

from experiments.people import answer, mean_of
from experiments.senders import area, most, senders_of, stream
from ugclu_jax import requests
from ugclu_jax.data import from_arrays
from ugclu_jax.evidence import Estimate
from ugclu_jax.harness.scenarios import names_of

ROWS = np.arange(24, dtype=np.float32).reshape(12, 2)
DATA = from_arrays("toy", ROWS, np.arange(12) % 2, ROWS + 100, np.arange(12) % 2)


def test_the_stream_learns_all_and_forgets_each_sender_with_the_test_examples():
    training, test = senders_of(DATA, None)
    chosen = most(training, 2)
    assert chosen == ["0", "1"]
    found = requests.from_json(stream(DATA, chosen, training, test), names_of(DATA))
    assert [(each.kind, each.name, len(each.ids)) for each in found] == [
        ("learn", "all", 12),
        ("unlearn", "sender 1", 3),
        ("unlearn", "sender 2", 3),
    ]
    assert found[2].ids.tolist() == [3, 4, 5]


def test_senders_are_read_by_the_ids_of_mails_and_no_name_is_in_the_stream(tmp_path):
    keys = DATA.train_keys.tolist(), DATA.test_keys.tolist()
    for split, own in zip(("train", "test"), keys, strict=True):
        rows = [
            {"id": key, "text": "secret", "sender": f"ada{place % 2}" if place else None}
            for place, key in enumerate(own)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training, test = senders_of(DATA, tmp_path)
    assert training[:3] == [None, "ada1", "ada0"] and len(test) == 12
    text = stream(DATA, most(training, 2), training, test)
    assert "ada" not in text and "secret" not in text and "sender 2" in text


def test_the_area_is_the_share_of_pairs_in_order_within_the_same_folders():
    rng = np.random.default_rng(0)
    own, others = rng.normal(size=(5, 3)) + np.array([1, 0, 0]), rng.normal(size=(9, 3))
    labels, theirs = np.zeros(5, int), np.arange(9) % 3

    def margin(z, label):
        rest = [value for c, value in enumerate(z) if c != label]
        return z[label] - np.log(np.sum(np.exp(rest)))

    pairs = [margin(a, 0) > margin(b, 0) for a in own for b, label in zip(others, theirs, strict=True) if label == 0]
    assert area(own, labels, others, theirs) == pytest.approx(np.mean(pairs))


def test_the_answer_goes_by_the_error_over_senders():
    after = {"a": Estimate(0.1, 0.2), "b": Estimate(0.5, 0.1), "c": Estimate(-0.5, 0.1), "d": None}
    said = answer(dict.fromkeys(after, Estimate(0.6, 0.1)), after, {"a": 0, "b": 2})
    parts = said.split(". ")
    assert "a: forgotten senders are told from strangers no better than by oracles, beyond noise (area" in parts[0]
    assert "b: forgotten senders are still told" in said and "2 seeds were lost" in said
    assert "c: forgotten senders look stranger than strangers" in said and "d: too few senders" in said
    assert mean_of([float("nan"), 0.5]) == 0.5 and mean_of([]) is None
