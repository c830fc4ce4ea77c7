"""Book-keeping of a stream against Python sets, and measurements against numbers worked out by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ugclu_jax.data.dataset import from_arrays
from ugclu_jax.evaluation import (
    MIA_LEAST,
    Accuracies,
    Groups,
    Labels,
    Logits,
    ModelMetrics,
    as_dict,
    drawn,
    measure_model,
    measure_oracles,
    rows_of,
    situations,
)
from ugclu_jax.requests import Request, task_aware, validate

TRAIN_LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
TEST_LABELS = np.array([0, 1, 2, 3, 3])
GROUPS = Groups({"low": (0, 1), "high": (2, 3)})


def rows(count):
    return np.zeros((count, 1), np.uint8)


def make_dataset(train_labels, test_labels):
    classes = [str(c) for c in range(4)]
    names = {"class_names": classes}
    return from_arrays("toy", rows(len(train_labels)), train_labels, rows(len(test_labels)), test_labels, **names)


DATASET = make_dataset(TRAIN_LABELS, TEST_LABELS)


def group_of(label):
    return next(name for name, classes in GROUPS.classes.items() if label in classes)


# --- situations ------------------------------------------------------------------------------------------------------


@st.composite
def streams(draw):
    """Valid streams of any subsets: re-learning, partial unlearning, and unlearning of everything included."""
    retained, stream = set(), []
    for index in range(draw(st.integers(1, 7))):
        free = sorted(set(range(len(TRAIN_LABELS))) - retained)
        kinds = ["learn"] * bool(free) + ["unlearn"] * bool(retained)
        kind = draw(st.sampled_from(kinds))
        ids = draw(st.sets(st.sampled_from(free if kind == "learn" else sorted(retained)), min_size=1))
        retained = retained | ids if kind == "learn" else retained - ids
        stream.append(Request(kind, f"request {index}", sorted(ids)))
    return tuple(stream)


def ids(array):
    return None if array is None else set(array.tolist())


@settings(max_examples=100, deadline=None)
@given(streams())
def test_situations_are_what_sets_say(stream):
    validate(stream, len(TRAIN_LABELS))
    retained, seen, learned_at, past = set(), set(), {}, {}
    found = situations(stream, DATASET, GROUPS)
    assert len(found) == len(stream)
    for index, (request, situation) in enumerate(zip(stream, found, strict=True)):
        asked = set(request.ids.tolist())
        had = {group_of(TRAIN_LABELS[i]) for i in retained}
        seen |= asked
        if request.kind == "learn":
            retained |= asked
            for group in {group_of(TRAIN_LABELS[i]) for i in asked} - had:
                learned_at[group] = index  # a group anew, for the first time or again
            past = {t: left - asked for t, left in past.items() if left - asked}
        else:
            retained -= asked
            past[index] = asked
        has = {group_of(TRAIN_LABELS[i]) for i in retained}
        learned_groups = {group_of(TRAIN_LABELS[i]) for i in seen}
        test_rows = {name: {r for r, y in enumerate(TEST_LABELS) if group_of(y) == name} for name in GROUPS.classes}

        assert ids(situation.retained) == retained
        assert ids(situation.learned) == (asked if request.kind == "learn" else None)
        assert ids(situation.unlearned) == ((seen - retained) or None)
        assert ids(situation.test) == set().union(*(test_rows[name] for name in has))
        gone = learned_groups - has
        assert ids(situation.unlearned_test) == (set().union(*(test_rows[name] for name in gone)) if gone else None)
        assert {name: ids(array) for name, array in situation.groups.items()} == {
            n: test_rows[n] for n in learned_groups
        }
        assert set(situation.retained_groups) == has
        assert situation.learned_at == learned_at
        assert {t: ids(array) for t, array in situation.past_unlearned.items()} == past


@settings(max_examples=50, deadline=None)
@given(streams(), st.integers(1, 4))
def test_drawn_situations_are_parts_of_the_whole_ones(stream, limit):
    found = situations(stream, DATASET, GROUPS)
    try:
        parts = drawn(found, DATASET, limit)
    except ValueError as error:
        assert limit < len(TEST_LABELS) and f"evaluation_examples is {limit}: none of them is" in str(error)
        return
    by_set = {}
    for whole, part in zip(found, parts, strict=True):
        sets = [(getattr(whole, name), getattr(part, name)) for name in ("retained", "learned", "unlearned")]
        sets += [(whole.past_unlearned[t], part.past_unlearned[t]) for t in whole.past_unlearned]
        for every, some in sets:
            assert (every is None) == (some is None)
            if every is not None:
                assert ids(some) <= ids(every) and len(some) == min(limit, len(every))
                assert by_set.setdefault(tuple(every), tuple(some)) == tuple(some)  # equal sets, equal examples
        of_groups = set().union(*map(ids, part.groups.values()))
        assert len(of_groups) <= limit and ids(part.test) == ids(whole.test) & of_groups
        train, test = rows_of(part)
        assert ids(train) == set().union(*(ids(some) for _, some in sets if some is not None))
        assert ids(part.test) <= ids(test)


def test_a_draw_of_everything_is_the_whole():
    stream = task_aware(TRAIN_LABELS, [(0, 1), (2, 3)], "L1 L2 U1 L1")
    found = situations(stream, DATASET, GROUPS)
    for whole, part in zip(found, drawn(found, DATASET, 1000), strict=True):
        np.testing.assert_equal(dataclasses.asdict(part), dataclasses.asdict(whole))


def test_a_task_learned_again_is_no_longer_unlearned():
    stream = task_aware(TRAIN_LABELS, [(0, 1), (2, 3)], "L1 L2 U1 L1")
    *_, unlearned, again = situations(stream, DATASET, GROUPS)
    assert ids(unlearned.unlearned) == {0, 1, 4, 5, 8, 9} and list(unlearned.past_unlearned) == [2]
    assert again.unlearned is None and again.unlearned_test is None and again.past_unlearned == {}
    assert again.learned_at == {"low": 3, "high": 1}


# --- measurements ----------------------------------------------------------------------------------------------------

LABELS = Labels(TRAIN_LABELS, TEST_LABELS)
HALF, QUARTER = math.log(2), math.log(4)


def logits_of(predictions, sure=20.0):
    """Outputs that put all but e^-20 on the predicted class."""
    return sure * np.eye(4)[np.asarray(predictions)]


def after(sequence):
    return situations(task_aware(TRAIN_LABELS, [(0, 1), (2, 3)], sequence), DATASET, GROUPS)


def measure(train, test, oracles, situation, history=()):
    theirs = measure_oracles(oracles, LABELS, situation, seed=0)
    return measure_model(Logits(train, test), LABELS, situation, history, 0, oracles, theirs.oracle), theirs


UNIFORM = np.zeros((2, 12, 4))
UNIFORM_ORACLES = Logits(UNIFORM, UNIFORM[:, :5])
KNOWN = ModelMetrics(  # an earlier request, all right
    Accuracies(1.0, 1.0, 1.0, None, None, None, None, {"low": 1.0, "high": 1.0}, {}), 0.0, None, None, None
)


def test_accuracies_and_divergences_of_a_model_by_hand():
    situation = after("L1 L2 U1")[-1]
    # Retained ids 2, 3, 6, 7, 10, 11: the last is wrong. Unlearned 0, 1, 4, 5, 8, 9: the first two are still known.
    train = logits_of([0, 1, 2, 3, 3, 3, 2, 3, 3, 3, 2, 2])
    # Test labels 0 1 2 3 3: class 0 known, 1 not; 2 known, 3 known once.
    test = logits_of([0, 2, 2, 3, 2])
    uniform_theirs = measure_oracles(UNIFORM_ORACLES, LABELS, situation, seed=0).oracle
    own, theirs = measure(train, test, UNIFORM_ORACLES, situation, [KNOWN, KNOWN])
    assert pytest.approx(1 - 2 / 3) == own.FM
    assert pytest.approx(5 / 6) == own.accuracies.RA
    assert pytest.approx(2 / 6) == own.accuracies.UA
    assert own.accuracies.TA == own.accuracies.LA == pytest.approx(2 / 3)
    assert own.accuracies.UA_test == pytest.approx(1 / 2)
    assert own.accuracies.group_accuracy == pytest.approx({"low": 1 / 2, "high": 2 / 3})
    assert own.accuracies.past_UA == pytest.approx({2: 2 / 6})
    # KL(uniform ‖ nearly one-hot) = Σ ¼ (log ¼ + 20·[wrong]) up to e^-20; the same on every input.
    for side in ("retained", "unlearned", "test", "unlearned_test"):
        assert getattr(own.divergences.KL, side) == pytest.approx(0.75 * 20 - QUARTER, abs=1e-6)
        assert getattr(theirs.noise_floor.KL, side) == pytest.approx(0, abs=1e-12)
    assert own.divergences.KL.learned is None and theirs.noise_floor.KL.learned is None
    # Uniform logits: argmax is class 0, hence UA* = 3/6, RA* = TA* = 0.
    assert pytest.approx(1 / 2) == uniform_theirs.UA and uniform_theirs.RA == uniform_theirs.TA == 0
    assert own.ToW == pytest.approx((1 - 1 / 6) * (1 - 5 / 6) * (1 - 2 / 3))
    assert own.accuracies.MIA is None and len(situation.retained) < MIA_LEAST  # too few to fit an attacker


def test_divergence_of_two_half_sure_models_by_hand():
    situation = after("L1")[-1]
    # Oracles: uniform over all four classes. Model: uniform over the first two, e^-40 on the others.
    half = np.tile([0.0, 0.0, -40.0, -40.0], (12, 1))
    own, _ = measure(half, half[:5], UNIFORM_ORACLES, situation)
    assert own.divergences.KL.learned == pytest.approx(0.5 * (-HALF) + 0.5 * (40 - HALF), rel=1e-6)
    # JS with m = (3/8, 3/8, 1/8, 1/8)
    js = 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2)) + 0.5 * math.log(4 / 3)
    assert own.divergences.JS.learned == pytest.approx(js, rel=1e-6)


def test_noise_floor_and_oracle_metrics_are_means_over_oracles():
    situation = after("L1")[-1]
    half = np.tile([0.0, 0.0, -40.0, -40.0], (12, 1))
    pair = Logits(np.stack([np.zeros((12, 4)), half]), np.stack([np.zeros((5, 4)), half[:5]]))
    theirs = measure_oracles(pair, LABELS, situation, seed=0)
    there, back = 0.5 * (-HALF) + 0.5 * (40 - HALF), HALF  # KL of either direction
    assert theirs.noise_floor.KL.retained == pytest.approx((there + back) / 2, rel=1e-6)
    sure = Logits(
        np.stack([logits_of(TRAIN_LABELS), logits_of([2] * 12)]), np.stack([logits_of(TEST_LABELS), logits_of([2] * 5)])
    )
    assert pytest.approx((1 + 0) / 2) == measure_oracles(sure, LABELS, situation, seed=0).oracle.RA


def test_forgetting_and_relapse_look_back():
    stages = after("L1 L2 U1 L1 U1")
    perfect, nothing = [0, 1, 2, 3], [1, 0, 3, 2]
    # Predictions for labels 0..3 after each request.
    predictions = [perfect, [0, 0, 2, 3], nothing, [0, 1, 3, 2], [0, 0, 2, 3]]
    history, results = [], []
    for situation, answers in zip(stages, predictions, strict=True):
        answers = np.array(answers)
        train, test = logits_of(answers[TRAIN_LABELS]), logits_of(answers[TEST_LABELS])
        own, _ = measure(train, test, UNIFORM_ORACLES, situation, history)
        history.append(own)
        results.append(own)
    assert results[0].FM == 0  # nothing can have been forgotten
    assert pytest.approx(0.5) == results[1].FM  # "low" fell from 1 to 1/2; "high" is new
    assert pytest.approx(1.0) == results[2].FM  # "high" fell from 1 to 0; "low" is not retained
    assert pytest.approx(1.0) == results[3].FM  # "low" was learned anew and starts anew; "high" is still at 0
    assert pytest.approx(0.0) == results[4].FM  # "high" is back
    assert [own.relapse for own in results] == [None, None, 0.0, None, 0.0]
    assert results[2].accuracies.past_UA == {2: 0.0} and results[4].accuracies.past_UA == {4: 0.5}


def test_relapse_is_the_largest_rise_over_what_is_still_unlearned():
    stages = after("L1 U1 L2")
    values = []
    history = []
    for answers in ([0, 1, 2, 3], [1, 0, 2, 3], [0, 0, 2, 3]):
        answers = np.array(answers)
        train, test = logits_of(answers[TRAIN_LABELS]), logits_of(answers[TEST_LABELS])
        own, _ = measure(train, test, UNIFORM_ORACLES, stages[len(history)], history)
        history.append(own)
        values.append(own.relapse)
    assert values == [None, 0.0, 0.5]
    nothing_retained = history[1]
    assert (
        nothing_retained.accuracies.LA
        is nothing_retained.accuracies.RA
        is nothing_retained.FM
        is nothing_retained.ToW
        is None
    )
    assert nothing_retained.divergences.KL.retained is nothing_retained.divergences.KL.test is None
    assert nothing_retained.divergences.KL.unlearned is not None


def test_membership_is_attacked_where_there_are_enough():
    many = make_dataset(np.tile(TRAIN_LABELS, 10), np.tile(TEST_LABELS, 20))
    situation = situations(task_aware(many.train_labels, [(0, 1), (2, 3)], "L1 L2 U1"), many, GROUPS)[-1]
    labels = Labels(many.train_labels, many.test_labels)
    rng = np.random.default_rng(0)
    oracles = Logits(rng.normal(size=(2, 120, 4)), rng.normal(size=(2, 100, 4)))
    theirs = measure_oracles(oracles, labels, situation, seed=0).oracle
    # A model that is sure of whatever it was trained on, retained or not: members are told apart, and so is the rest.
    sure = Logits(logits_of(many.train_labels), rng.normal(size=(100, 4)))
    own = measure_model(sure, labels, situation, [KNOWN, KNOWN], 0, oracles, theirs)
    assert own.accuracies.MIA["loss"] > 0.95 and own.accuracies.MIA_AUC["loss"] > 0.95
    assert set(own.accuracies.MIA) == set(own.accuracies.MIA_AUC) == set(theirs.MIA)
    assert abs(theirs.MIA_AUC["loss"] - 0.5) < 0.25
    again = measure_model(sure, labels, situation, [KNOWN, KNOWN], 0, oracles, theirs)
    assert again == own


def test_metrics_survive_the_line_that_they_are_written_to():
    situation = after("L1 L2 U1")[-1]
    answers = logits_of(TRAIN_LABELS), logits_of(TEST_LABELS)
    whole, theirs = measure(*answers, UNIFORM_ORACLES, situation, [KNOWN, KNOWN])
    alone = measure_model(Logits(*answers), LABELS, situation, [KNOWN, KNOWN], seed=0)
    for own in (whole, alone):
        assert ModelMetrics.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    accuracies = ["LA", "RA", "TA", "UA", "UA_test", "MIA", "MIA_AUC", "group_accuracy", "past_UA"]
    assert list(alone.to_dict()) == [*accuracies, "FM", "relapse"]
    assert list(whole.to_dict()) == [*accuracies, "FM", "relapse", "KL", "JS", "ToW"]
    assert list(whole.to_dict()["KL"]) == ["retained", "learned", "unlearned", "test", "unlearned_test"]
    assert as_dict(theirs) == {"oracle": as_dict(theirs.oracle), "noise_floor": as_dict(theirs.noise_floor)}
