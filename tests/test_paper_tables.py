"""The rules behind the verdicts, on rows made here."""

import pytest
from test_compared import row_of

from experiments import paper_tables as study
from ugclu_jax.harness.catalogue import METHODS, VARIANTS
from ugclu_jax.report import claims
from ugclu_jax.report.claims import DEFAULT, FAILS, HOLDS, NOISE, PAPER, UNTESTED
from ugclu_jax.report.metrics import Cost, ModelMetrics, Numbers, OracleMetrics
from ugclu_jax.report.summaries import Statistic, statistic


def exact(value: float) -> Statistic:
    return Statistic(value, 0.0, 3)


def with_numbers(row, own: float, oracle: float, cost: tuple[float, float] = (200.0, 1000.0)):
    """The row with every metric at one value, and the oracle's at another."""
    model = ModelMetrics(LA=exact(own), RA=exact(own), UA=exact(own), MIA={"loss": exact(own)}, FM=exact(own))
    theirs = OracleMetrics(LA=exact(oracle), RA=exact(oracle), UA=exact(oracle), MIA={"loss": exact(oracle)})
    return row._replace(statistics=Numbers(model=model, oracle=theirs, cost=Cost(*map(exact, cost))))


def test_the_methods_are_those_of_the_catalogue_less_the_default_s_ablations():
    known = {name for name in METHODS if not name.startswith("ug_clu_")} | {PAPER, claims.BEHIND, *claims.ABLATIONS}
    assert set(study.ALL) == known
    assert not set(study.ALL) & (set(VARIANTS) - {DEFAULT})


def test_the_lowest_kl_is_of_what_competes():
    rows = {
        DEFAULT: row_of(0.1, kl=(1.0, 1.02)),
        PAPER: row_of(0.1, kl=(3.0, 3.02)),
        "salun": row_of(0.1, kl=(2.0, 2.02)),
        "mean_of_oracles": row_of(0.1, kl=(0.1, 0.1)),
        claims.BEHIND: row_of(0.1, kl=(0.2, 0.2)),
        "msg": row_of(0.1, kl=(0.3, 0.3), unfinished=1),
    }
    assert claims.lowest_kl(rows, DEFAULT).word == HOLDS
    assert claims.lowest_kl(rows, PAPER).word == FAILS
    assert claims.lowest_kl({**rows, DEFAULT: row_of(0.1, kl=(1.0, 3.0))}, DEFAULT).word == NOISE
    assert claims.lowest_kl({**rows, DEFAULT: row_of(0.1, unfinished=1)}, DEFAULT).word == FAILS
    assert claims.lowest_kl({DEFAULT: row_of(0.1)}, DEFAULT).word == UNTESTED


@pytest.mark.parametrize(
    ("own", "gap", "word"), [(0.2, 0.0, HOLDS), (0.2, 0.06, FAILS), (0.49, 0.0, NOISE), (0.9, 0.0, FAILS)]
)
def test_unlearning_is_nearer_than_doing_nothing_with_the_oracle_s_accuracy(own, gap, word):
    rows = {PAPER: with_numbers(row_of(own), 0.5 + gap, 0.5), "do_nothing": with_numbers(row_of(0.5), 1.0, 0.5)}
    assert claims.nearer_than_nothing(rows, PAPER).word == word


def test_costs_attacks_and_accuracies_are_held_against_the_oracle_s():
    rows = {DEFAULT: with_numbers(row_of(0.1), 0.85, 0.88)}
    assert claims.near_in("LA", 0.04)(rows, DEFAULT).word == HOLDS
    assert claims.near_in("MIA", 0.02)(rows, DEFAULT).word == FAILS
    assert claims.near_in("LA", 0.04)(rows, PAPER).word == UNTESTED
    assert claims.cheaper_than_retraining(rows, DEFAULT).word == HOLDS
    costly = {DEFAULT: with_numbers(row_of(0.1), 0.9, 0.9, cost=(1000.0, 1000.0))}
    assert claims.cheaper_than_retraining(costly, DEFAULT).word == FAILS


def test_a_part_of_the_paper_s_form_is_judged_behind_one_learner():
    rule = claims.better_than("ug_clu_plain_no_mask")
    rows = {claims.BEHIND: row_of(0.2), "ug_clu_plain_no_mask": row_of(0.5), PAPER: row_of(9.0)}
    assert rule(rows, PAPER).word == HOLDS
    assert rule({**rows, claims.BEHIND: row_of(0.8)}, PAPER).word == FAILS
    assert rule(rows, DEFAULT).word == UNTESTED


def test_scores_are_small_where_a_metric_is_good():
    row = with_numbers(row_of(0.1), 0.75, 0.5)
    assert claims.BY_TITLE["LA"].score(row, row).value == -0.75
    assert claims.BY_TITLE["UA"].score(row, row).value == 0.25
    assert claims.BY_TITLE["FM"].score(row, row).value == 0.75
    assert claims.BY_TITLE["ToW"].score(row, row) is None
    assert claims.BY_TITLE["LA"].score(row._replace(unfinished=1), row) is None


def test_every_claim_has_a_verdict_for_both_forms():
    rows = {
        name: with_numbers(row_of(value), 0.5, 0.5)._replace(floor=statistic([0.5, 0.5]))
        for name, value in {DEFAULT: 0.1, PAPER: 0.3, "do_nothing": 0.9, "salun": 0.2}.items()
    }
    table, words = study.verdicts({"fashion_class": rows}, claims.Verdict(HOLDS, "as measured"))
    assert len(table.rows) == len(claims.CLAIMS) + 1 + len(claims.ELSEWHERE)
    assert all(len(row) == len(table.head) for row in table.rows)
    assert words["unlearns categories across tasks", PAPER] == HOLDS
    assert words["unlearns random samples", PAPER] == UNTESTED, "there is no such table"
    without = {name: row for name, row in rows.items() if name != PAPER}
    _, words = study.verdicts({"fashion_class": without}, claims.Verdict(HOLDS, ""))
    assert {words[claim.text, PAPER] for claim in claims.CLAIMS} == {UNTESTED}, "a form that was not run failed nothing"
    firsts = study.firsts({"fashion_class": rows})
    assert dict(zip([row[0] for row in firsts.rows], firsts.rows, strict=True))["E, low"][1] == f"{DEFAULT} (0)"
