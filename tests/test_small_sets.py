"""Sets of any size down to one example, and classes that a split lacks: numbers, or None and the reason."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.evaluation import (
    Before,
    Labels,
    Logits,
    ModelMetrics,
    measure_before,
    measure_model,
    measure_oracles,
    undefined,
)
from ugclu_jax.membership import FEATURES, _fit_and_judge, attack_all
from ugclu_jax.report.checks import scorecard, verdict, warnings
from ugclu_jax.report.metrics import from_json
from ugclu_jax.report.tables import request_markdown, request_table
from ugclu_jax.requests import Groups, Request, drawn, situations

CLASSES = 3
NAMES = ("cat", "dog", "eel")
GROUPS = Groups({name: (c,) for c, name in enumerate(NAMES)})


def values(tree):
    """Every number of a tree of measurements; None is none."""
    if tree is None:
        return []
    if isinstance(tree, float | int):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [number for part in parts for number in values(part)]


def outputs(draw, size, kind):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "constant":
        return np.zeros((size, CLASSES))
    found = rng.normal(size=(size, CLASSES)) * draw(st.sampled_from([1e-9, 1.0, 1e4]))
    if kind == "tied":
        found = np.round(found)
    return found


@st.composite
def small_runs(draw):
    """A stream on a handful of examples, of classes that a split may lack, with outputs of models and oracles."""
    train = np.array(draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=12)))
    test = np.array(draw(st.lists(st.integers(0, CLASSES - 1), min_size=0, max_size=10)), int)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(train))
    first = order[: draw(st.integers(1, len(train)))]
    stream = [Request("learn", "first", np.sort(first))]
    if len(first) < len(train) and draw(st.booleans()):
        stream.append(Request("learn", "rest", np.sort(order[len(first) :])))
        first = order
    gone = np.sort(first[: draw(st.integers(1, len(first)))])
    stream.append(Request("unlearn", "some", gone))
    if draw(st.booleans()):
        stream.append(Request("learn", "again", gone))
    found = situations(stream, train, test, CLASSES, GROUPS)
    if draw(st.booleans()):
        try:
            found = drawn(found, len(train), len(test), draw(st.integers(1, 4)))
        except ValueError as error:  # refused before work, by name
            assert "evaluation_examples" in str(error)
    kind = draw(st.sampled_from(["normal", "constant", "tied"]))
    models = [Logits(outputs(draw, len(train), kind), outputs(draw, len(test), kind)) for _ in range(len(stream) + 1)]
    oracles = Logits(*(np.stack([outputs(draw, size, kind) for _ in range(2)]) for size in (len(train), len(test))))
    return stream, Labels(train, test), found, models, oracles


@settings(max_examples=80, deadline=None)
@given(small_runs())
def test_a_small_run_is_measured_finitely_or_says_what_is_undefined(run):
    stream, labels, found, models, oracles = run
    history, lines = [], []
    for index, situation in enumerate(found):
        theirs = measure_oracles(oracles, labels, situation, index)
        own = measure_model(models[index + 1], labels, situation, history, index, oracles, theirs.oracle)
        before = measure_before(models[index], labels, situation, index, oracles)
        history.append(own)
        assert all(math.isfinite(number) for number in values([own, theirs, before]))
        said = " ".join(undefined(situation))
        for name in situation.retained_groups:
            tested = bool((labels.test == NAMES.index(name)).any())
            assert (own.accuracies.group_accuracy[name] is not None) == tested
            assert tested or name in said
        for number in (own.LA, own.RA, own.FM, own.accuracies.TA):
            assert number is not None or said
        if situation.unlearned is not None and own.accuracies.MIA is None:
            assert "MIA" in said
        assert (own.UA is None) == (situation.unlearned is None)
        line = {"method": "er", "seed": 0, "request": index, "kind": stream[index].kind, "name": stream[index].name}
        line |= {"model": own.to_dict(), "undefined": undefined(situation), "cost": {}, "timing": {}}
        line |= {"oracle": theirs.oracle._asdict(), "before": before._asdict() | {"KL": before.KL._asdict()}}
        line |= {"noise_floor": {"KL": theirs.noise_floor.KL._asdict()}}
        lines.append(from_json(line))
        assert ModelMetrics.from_dict(own.to_dict()) == own
    for width in (60, 132):
        assert "nan" not in "\n".join(text.plain for text in request_table(lines).lines(width))
    for text in (verdict(lines, "er"), request_markdown(lines), *warnings(lines), *request_table(lines).plain()):
        assert "nan" not in text and "diverged" not in text
    assert len(scorecard(lines, "er")) == 7


def test_a_class_without_test_examples_is_left_out_and_named():
    train, test = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0])
    stream = [Request("learn", "all", np.arange(5)), Request("unlearn", "cats", np.array([0, 1]))]
    first, second = situations(stream, train, test, CLASSES, GROUPS)
    logits = Logits(np.eye(CLASSES)[train], np.eye(CLASSES)[[0, 0, 1]])
    own = measure_model(logits, Labels(train, test), first, [], 0)
    assert pytest.approx(2 / 3) == own.LA and own.FM == 0.0
    assert own.accuracies.group_accuracy == {"cat": pytest.approx(2 / 3), "dog": None, "eel": None}
    assert undefined(first) == ["no test example of dog, eel: LA, FM and TA leave them out"]
    after = measure_model(logits, Labels(train, test), second, [own], 0)
    assert after.LA is after.FM is after.accuracies.TA is None and after.accuracies.UA_test == pytest.approx(2 / 3)
    no_test, too_few = undefined(second)
    assert no_test == "no test example of dog, eel: LA, FM and TA are undefined"
    assert too_few.startswith("MIA is undefined") and too_few.endswith("there are 3 and 0")


def test_what_was_before_is_measured_on_what_is_unlearned_after():
    train, test = np.array([0, 0, 1, 1]), np.array([0, 1])
    stream = [Request("learn", "all", np.arange(4)), Request("unlearn", "cats", np.array([0, 1]))]
    situation = situations(stream, train, test, CLASSES, GROUPS)[1]
    labels, uniform = Labels(train, test), Logits(np.zeros((2, 4, CLASSES)), np.zeros((2, 2, CLASSES)))
    knew = Logits(20.0 * np.eye(CLASSES)[[0, 2, 1, 1]], 20.0 * np.eye(CLASSES)[test])
    found = measure_before(knew, labels, situation, 0, uniform)
    assert found.UA == 0.5 and found.MIA is None
    assert found.KL.unlearned == pytest.approx(40 / 3 - math.log(3), abs=1e-6)  # of 20 nats on one class of three
    assert measure_before(knew, labels, situation, 0) == Before(0.5, None, None)


def rows(values_of_loss):
    """Two-class logits of given losses on label 0."""
    losses = np.asarray(values_of_loss, float)
    return np.stack([np.zeros(len(losses)), np.log(np.expm1(losses))], axis=1), np.zeros(len(losses), int)


@pytest.mark.parametrize("size", [8, 20])
def test_an_attacker_who_sees_no_difference_says_one_half(size):
    sides = [1.0] * size
    for unlearned in ([5.0, 0.1], [0.01]):
        found = attack_all(*rows(sides), *rows(sides), *rows(unlearned), seed=0)
        assert {result.member_share for result in found.values()} == {0.5}


def test_sides_of_the_same_numbers_are_undecided():
    """Fitted on the same losses on both sides, the regression has no line: every example would be on one side of it."""
    same = np.array([0.3, 1.2, 0.3, 1.2, 2.0, 0.1, 0.7, 0.9])
    known = np.ones(3, bool)
    share, auc = _fit_and_judge(same, same.copy(), np.array([0.0, 0.9, 50.0]), known)
    assert share == 0.5 and auc == 0.5


@pytest.mark.filterwarnings("error")
def test_an_output_that_is_not_finite_is_not_forgotten():
    rng = np.random.default_rng(0)
    members, others = rows(rng.uniform(0.1, 0.2, 50)), rows(rng.uniform(3, 4, 50))
    lost = np.full((4, 2), np.nan), np.zeros(4, int)
    assert {result.member_share for result in attack_all(*members, *others, *lost, seed=0).values()} == {0.5}
    half = rows([0.15, 0.15])
    mixed = np.concatenate([lost[0][:2], half[0]]), np.zeros(4, int)
    assert attack_all(*members, *others, *mixed, seed=0)["loss"].member_share == 0.75


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 12), st.integers(8, 12), st.integers(1, 3), st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_few_examples_give_a_share_and_never_an_error(members, others, unlearned, seed, digits):
    rng = np.random.default_rng(seed)
    sets = []
    for size in (members, others, unlearned):
        sets += [np.round(rng.normal(size=(size, CLASSES)), int(digits)), rng.integers(0, CLASSES, size)]
    for feature, result in attack_all(*sets, seed=0).items():
        assert feature in FEATURES and 0 <= result.member_share <= 1 and 0 <= result.auc <= 1
