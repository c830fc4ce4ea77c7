"""The study of audits without an oracle: what it reads of its requests, those too that diverged."""

import json

import jax
import numpy as np
import pytest

from experiments import estimates, oracle_free
from ugclu_jax import files
from ugclu_jax.harness.config import ExperimentConfig, from_dict
from ugclu_jax.harness.plan import load_dataset
from ugclu_jax.harness.study import Findings

MEASURED = {"method": "salun", "steps": 2, "of": "class", "examples": 9, "passes": {"attack": True, "rmia": False}}
LOST = {"method": "neg_grad_plus", "steps": 40, "of": "random", "examples": 9, "lost": "numbers that are not finite"}


def _folder(tmp_path, *entries):
    lines = [json.dumps({"request": place, **each}) for place, each in enumerate(entries)]
    (tmp_path / estimates.FILE).write_text("".join(f"{line}\n" for line in lines))
    return {"set-0": tmp_path}


def _measured(distance, **more):
    return {
        **MEASURED,
        **{each: distance for each in oracle_free.ESTIMATES},
        "distance": distance,
        "floor": 1.0,
        **more,
    }


def _concluded(folders):
    return oracle_free.conclude(oracle_free.OracleFreeConfig(), None, folders)


def test_a_request_that_diverged_is_counted_and_in_no_table(tmp_path):
    kept = [_measured(distance) for distance in (1.0, 3.0, 2.5, 8.0)]
    findings = _concluded(_folder(tmp_path, *kept[:2], LOST, *kept[2:]))
    ranks, passes = findings.tables
    assert {row[1] for row in ranks.rows} == {"1.00"}
    assert "4 requests, 1.0 to 8.0 times the floor" in ranks.caption
    assert "Of 5 requests these diverged and are in no table: neg_grad_plus with 40 steps" in ranks.caption
    assert passes.rows[0][:3] == ["attack", "4 of 4", "3"]


def test_a_set_whose_requests_all_diverged_says_so(tmp_path):
    assert _concluded(_folder(tmp_path, LOST, LOST)) == Findings("set: all 2 requests diverged.", ())


@pytest.mark.parametrize("entry", [{}, {"distance": float("nan"), "floor": 1.0}, {"distance": 1.0}, {"floor": "x"}])
def test_a_line_without_numbers_is_damaged(tmp_path, entry):
    with pytest.raises(files.DamagedFileError, match="line 1 is no request"):
        estimates.read(_folder(tmp_path, {**MEASURED, **entry})["set-0"])


@pytest.mark.slow
def test_what_diverges_is_a_lost_request_and_not_the_end_of_the_run():
    cell = oracle_free.cells(oracle_free.OracleFreeConfig(smoke=True))[0]
    settings = {name: value for name, value in cell.settings.items() if name != "requests"}
    config = from_dict(ExperimentConfig, settings)
    model = estimates.Model(load_dataset(config), config)
    model.held = model.held._replace(params=jax.tree.map(lambda leaf: leaf * np.nan, model.held.params))
    asked = estimates.Request("finetune_remain", 2, np.arange(16), "random")
    entry = model.measured(asked, 3)
    assert entry.pop("lost").startswith("finetune_remain led to numbers that are not finite")
    assert entry == {"request": 3, "method": "finetune_remain", "steps": 2, "of": "random", "examples": 16}
