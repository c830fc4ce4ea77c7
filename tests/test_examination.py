"""Measures are examined on networks that are known beforehand: which take what for oracles, good and bad."""

import doctest
import re

import pytest

from benchmarks import examination
from benchmarks.examination import FRESH, HALVED, KNOWING, MEAN, NOTHING, UNSURE

CANDIDATES = {FRESH, NOTHING, HALVED, MEAN, KNOWING, UNSURE}
TAKEN_FOR_ORACLES = {
    "E, unlearned": set(),
    "E, test": {KNOWING},  # on test inputs these are oracles
    "matched E, unlearned": {UNSURE},  # by design it does not see a temperature
    "Gaussian KLoM, mean": set(),
    "RMIA, AUC": {MEAN, UNSURE},  # they answer on unlearned examples as on others
    "U-LiRA, AUC": set(),
    "U-LiRA, true positives at 1 %": set(),
    "forgetting quality F": set(),
    "relative test": {MEAN, KNOWING, UNSURE},  # nearer than before, which is all that it asks
    "KL / floor, unlearned": {MEAN},  # and better than oracles themselves, see below
}


@pytest.fixture(scope="module")
def findings():
    """Of half as many networks as the table's, trained for as long."""
    found = examination.train(networks=12)
    return {name: examination.examine(candidate, found) for name, candidate in examination.candidates(found).items()}


@pytest.mark.slow
def test_every_measure_is_on_the_list(findings):
    assert [measure.name for measure in examination.MEASURES] == list(TAKEN_FOR_ORACLES)
    assert set(findings) == CANDIDATES


@pytest.mark.slow
@pytest.mark.parametrize("measure", examination.MEASURES, ids=lambda measure: measure.name)
def test_fresh_oracles_pass_and_what_else_does_is_known(measure, findings):
    passed = {name for name, found in findings.items() if measure.passes(found, findings[FRESH])}
    assert passed == {FRESH} | TAKEN_FOR_ORACLES[measure.name]


@pytest.mark.slow
def test_fresh_oracles_are_at_nothing_and_the_others_far_beyond_it(findings):
    for of in ("energy", "matched"):
        fresh = getattr(findings[FRESH], of)
        assert abs(fresh.value) < 3 * fresh.standard_error < 0.01
        for name in CANDIDATES - {FRESH} - ({UNSURE} if of == "matched" else set()):
            found = getattr(findings[name], of)
            assert found.value - fresh.value > 5 * (found.standard_error**2 + fresh.standard_error**2) ** 0.5, name
    assert abs(findings[FRESH].test_energy.value) < 3 * findings[FRESH].test_energy.standard_error


@pytest.mark.slow
def test_matching_does_not_see_a_temperature(findings):
    assert findings[NOTHING].matched.value == pytest.approx(findings[HALVED].matched.value, rel=1e-6)
    assert findings[FRESH].matched.value == pytest.approx(findings[UNSURE].matched.value, abs=1e-6)


@pytest.mark.slow
def test_kl_prefers_a_mean_to_an_oracle(findings):
    assert findings[MEAN].kl < 0.7 < 0.9 < findings[FRESH].kl < 1.1


@pytest.mark.slow
def test_an_audit_passes_retraining_and_fails_doing_nothing(findings):
    assert findings[FRESH].relative.p_value < 0.01 and findings[NOTHING].relative.p_value > 0.5
    assert not findings[HALVED].relative.nearer


def test_the_page_runs():
    (code,) = re.findall(r"```pycon\n(.*?)```", examination.DOCUMENT.read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest(code, {}, "evidence.md", None, 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(test, out=said.append).failed == 0 and test.examples, "".join(said)


def test_the_page_has_the_table_of_these_measures_dated():
    text = examination.DOCUMENT.read_text()
    assert re.search(r"^Measured \d{4}-\d\d-\d\d, commit `[0-9a-f]{7}`", text, re.MULTILINE)
    assert re.findall(r"^\| (.*?) \| \*\*", text, re.MULTILINE) == list(TAKEN_FOR_ORACLES)
    (head,) = re.findall(r"^\| measure \| (.*) \| it takes", text, re.MULTILINE)
    columns = head.split(" | ")
    for measure, *cells, _ in (line.strip("| \n").split(" | ") for line in text.splitlines() if " | **" in line):
        bold = {name for name, cell in zip(columns, cells, strict=True) if cell.startswith("**")}
        assert bold == {FRESH} | TAKEN_FOR_ORACLES[measure]
