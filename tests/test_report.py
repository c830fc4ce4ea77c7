"""The report against numbers worked out by hand, on run folders made here: no training, no JAX."""

import io
import json
import math
import re
import shutil
import statistics
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.report import run
from ugclu_jax.data import from_arrays
from ugclu_jax.data.record import content_digest, record
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.report.checks import cheaper_retraining, kl_ratio, scorecard, verdict, warnings
from ugclu_jax.report.columns import KL_TEST
from ugclu_jax.report.ending import WARNINGS_SHOWN, say_requests, say_verdicts
from ugclu_jax.report.format import count, number
from ugclu_jax.report.metrics import Numbers, from_json, read_metrics
from ugclu_jax.report.page import write_html
from ugclu_jax.report.remains import Remain, remaining
from ugclu_jax.report.summaries import summarise
from ugclu_jax.report.tables import request_markdown, request_table
from ugclu_jax.requests import Request, to_json

FEATURES = ("loss", "entropy", "confidence", "modified_entropy")
STREAM = (
    ("learn", "learn task 1"),
    ("learn", "learn task 2"),
    ("learn", "learn task 3"),
    ("unlearn", "unlearn task 2"),
    ("learn", "learn task 4"),
    ("learn", "learn task 5"),
    ("unlearn", "unlearn task 4"),
)


def one_line(method="ug_clu", seed=0, request=0, kind="learn", name="learn task 1", **model):
    """A line with round numbers; keywords replace the model's."""
    numbers = {
        "LA": 0.9, "UA": None, "UA_test": None, "RA": 0.95, "TA": 0.9, "FM": 0.02,
        "MIA": dict.fromkeys(FEATURES, 0.5), "MIA_AUC": dict.fromkeys(FEATURES, 0.52),
        "KL": {"retained": 0.06, "learned": None, "unlearned": 0.4, "test": 0.08},
        "JS": {"retained": 0.02, "learned": None, "unlearned": 0.1, "test": 0.03},
        "ToW": 0.95, "relapse": None, "group_accuracy": {"task 1": 0.98},
    }  # fmt: skip
    oracle = {"LA": 0.92, "UA": None, "UA_test": None, "RA": 0.97, "TA": 0.92, "MIA": dict.fromkeys(FEATURES, 0.48),
              "MIA_AUC": dict.fromkeys(FEATURES, 0.5), "group_accuracy": {"task 1": 0.97}}  # fmt: skip
    floor = {"retained": 0.03, "learned": None, "unlearned": 0.2, "test": 0.04}
    line = {"method": method, "seed": seed, "request": request, "kind": kind, "name": name, "examples": 12000,
            "retained": 24000, "buffer": 5000, "model": numbers, "oracle": oracle,
            "noise_floor": {"KL": floor, "JS": floor},
            "cost": {"gradient_evaluations": 900, "oracle_gradient_evaluations": 7500},
            "timing": {"RTE": 3.14, "compile_seconds": 4.2, "evaluation_seconds": 1.0, "oracle_seconds": 12.0},
    }  # fmt: skip
    numbers.update(model)
    if kind == "unlearn":
        oracle["UA"] = 0.01
        numbers["UA"] = model.get("UA", 0.02)
    return line


def plausible_line(rng, method, offset, seed, request, kind, name):
    """A line as a run on five tasks might leave it."""
    learned = [1, 2, 3, 3, 4, 5, 5][request]
    removed = {2} if request >= 3 else set()
    removed |= {4} if request >= 6 else set()
    tasks = {f"task {t}": t for t in range(1, 6)}
    line = one_line(method, seed, request, kind, name)

    def jitter(scale=0.006):
        return float(abs(rng.normal(0, scale)))

    for who, drop in (("model", 0.012 * offset * (request + 1)), ("oracle", 0.0)):
        accuracy = {
            g: jitter() if t in removed or t > learned else 0.985 - drop * (0.4 + 0.3 * (learned - t)) - jitter()
            for g, t in tasks.items()
        }
        kept = [accuracy[g] for g, t in tasks.items() if t <= learned and t not in removed]
        line[who] |= {
            "group_accuracy": accuracy,
            "LA": float(np.mean(kept)),
            "RA": min(1.0, float(np.mean(kept)) + 0.01),
        }
        ua = (0.0 if who == "oracle" else 0.02 * offset) + jitter() if removed else None
        line[who] |= {"UA": ua, "UA_test": ua}
        line[who]["MIA"] = {f: 0.45 + 0.02 * offset + jitter(0.03) for f in FEATURES}
    floor = {"retained": 0.02, "learned": 0.02, "unlearned": 0.18 if removed else None, "test": 0.03}
    grow = offset * (1 + 0.25 * (request + 1))
    for key, value in floor.items():
        if value is not None:
            floor[key] = value * float(rng.uniform(0.9, 1.1))
            line["model"]["KL"][key] = value * grow * float(rng.uniform(0.9, 1.2))
        else:
            line["model"]["KL"][key] = None
    line["noise_floor"] = {"KL": floor, "JS": floor}
    line["model"]["FM"] = None if request == 0 else 0.006 * offset * request
    line["cost"] = {
        "gradient_evaluations": 310 if kind == "learn" else 155,
        "oracle_gradient_evaluations": 940 * (request + 1),
    }
    line["timing"] |= {"RTE": 3 + jitter(0.5), "compile_seconds": 4.1 if request in (0, 3) else 0.0}
    return line


def write_trace(folder, line, rng, steps=40):
    traces = folder / "runs" / line["method"] / f"seed-{line['seed']}" / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 1, steps)
    task = 2.3 * np.exp(-3 * ramp) if line["kind"] == "learn" else 0.1 + 3 * ramp
    np.savez(
        traces / f"{line['request']}.npz",
        task_losses=task + rng.uniform(0, 0.15, steps),
        remain_losses=0.2 + 0.1 * np.sin(6 * ramp)[:, None] + rng.uniform(0, 0.05, (steps, 2)),
        fast_norms=rng.uniform(0.5, 2, steps),
        clipped=rng.uniform(size=steps) < 0.4,
        displacement_norms=rng.uniform(0, 0.1, steps),
    )


def write_run(folder, lines, traces=True):
    """Write a run's folder as the runner leaves it."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "experiment": "task_aware", "dataset": "fashion_mnist", "model": "cnn", "seeds": [0, 1, 2], "smoke": False,
        "command": "python -m experiments.task_aware --dataset fashion_mnist", "run_dir": "runs/<script>&",
        "hyper": {"fast_learning_rate": 0.076, "clip_norm": math.inf, "saliency": {"kind": "fisher"}},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if traces:
        for line in lines:
            write_trace(folder, line, rng)
    return folder


def plausible_run(folder, methods=("ug_clu", "finetune_on_buffer"), seeds=(0, 1, 2)):
    rng = np.random.default_rng(0)
    lines = [
        plausible_line(rng, method, 1.0 + 1.2 * m, seed, request, *STREAM[request])
        for m, method in enumerate(methods)
        for seed in seeds
        for request in range(len(STREAM))
    ]
    return write_run(folder, lines)


def typed(lines):
    """Lines as the report reads them."""
    return [from_json(line) for line in lines]


def rendered(lines, width):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(request_table(lines))
    return console.export_text()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = plausible_run(tmp_path_factory.mktemp("run"))
    write_html(folder)
    return folder


def three_seeds(method="ug_clu", **changes):
    """An unlearn request with LA .8, .9, 1.0 (mean .9, deviation .1) and whatever a test changes."""
    return [
        one_line(method, seed, 3, "unlearn", "unlearn task 2", **({"LA": la} | changes))
        for seed, la in enumerate((0.8, 0.9, 1.0))
    ]


def test_mean_and_deviation_are_those_of_the_standard_library():
    rng = np.random.default_rng(3)
    lines = [one_line(seed=seed, LA=float(rng.uniform()), FM=float(rng.uniform())) for seed in range(5)]
    (summary,) = summarise(typed(lines))
    for name in ("LA", "FM"):
        values = [line["model"][name] for line in lines]
        found = getattr(summary.statistics.model, name)
        assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-12)
        assert found.std == pytest.approx(statistics.stdev(values), rel=1e-12)
    assert summary.seeds == (0, 1, 2, 3, 4)
    assert summary.statistics.cost.oracle_gradient_evaluations.mean == 7500


def test_one_seed_has_no_deviation_and_null_is_absent():
    (summary,) = summarise(typed([one_line()]))
    assert summary.statistics.model.LA == (0.9, None, 1)
    assert summary.statistics.model.UA is None and summary.statistics.model.KL.learned is None


def test_a_value_that_only_some_seeds_have_is_averaged_over_those():
    lines = three_seeds()
    lines[0]["model"]["UA"] = None
    lines[1]["model"]["UA"], lines[2]["model"]["UA"] = 0.1, 0.3
    found = summarise(typed(lines))[0].statistics.model.UA
    assert (found.mean, found.values) == (pytest.approx(0.2), 2)


@pytest.mark.parametrize(("bad", "text"), [(math.nan, "diverged"), (math.inf, "inf"), (1e300, "1e+300")])
def test_one_diverged_seed_is_not_averaged_away(bad, text):
    lines = three_seeds()
    lines[1]["model"]["KL"]["test"] = bad
    lines = typed(lines)
    assert number(summarise(lines)[0].statistics.model.KL.test.mean)[:3] in (text[:3], "3e+")
    assert not all(check.passed for check in scorecard(lines, "ug_clu"))
    assert bad == 1e300 or any("diverged: seed 1: not finite: KL.test" in warning for warning in warnings(lines))


def test_order_is_by_request_and_first_appearance_of_the_method():
    lines = [one_line(method, 0, request) for method in ("zebra", "ant") for request in (0, 1)]
    assert [(s.request, s.method) for s in summarise(typed(lines))] == [
        (0, "zebra"),
        (0, "ant"),
        (1, "zebra"),
        (1, "ant"),
    ]


def test_seeds_of_different_streams_are_not_averaged():
    with pytest.raises(ValueError, match="request 1 of 'ug_clu' is of kinds"):
        summarise(typed([one_line(seed=0), one_line(seed=1, kind="unlearn")]))
    (summary,) = summarise(typed([one_line(seed=0, name="learn 3"), one_line(seed=1, name="learn 5")]))
    assert summary.name == "learn, differs by seed"


def test_terminal_table_shows_each_number_beside_its_reference():
    text = rendered(typed([one_line(request=3, kind="unlearn", name="unlearn task 2")]), 100)
    row = next(line for line in text.splitlines() if line.startswith("4 unlearn task 2"))
    assert row.split()[4:] == [
        *(".900|.920", ".020|.010", ".020", ".500|.480"),
        *(".060|.030", ".400|.200", ".080|.040", "3.14", "4.20", "900|7500"),
    ]


def test_terminal_table_prints_dashes_and_deviations():
    assert rendered(typed([one_line()]), 100).splitlines()[3].split()[5] == "–"
    lines = rendered(typed(three_seeds()), 100).splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("4 unlearn"))
    assert ".900|.920" in lines[row] and "±.100" in lines[row + 1]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 132, 200])
def test_terminal_table_fits(run_dir, width):
    for lines in (read_metrics(run_dir), [line for line in read_metrics(run_dir) if line.method == "ug_clu"]):
        text = rendered(lines, width)
        assert "…" not in text and max(map(len, text.splitlines())) <= width
        # Every number of the last request, whole: a column that wraps or is cut would break one of them.
        last = summarise(lines)[-1].statistics
        assert f"{number(last.model.LA.mean)}|{number(last.oracle.LA.mean)}" in text
        assert f"155|{count(last.cost.oracle_gradient_evaluations.mean)}" in text


@pytest.mark.parametrize("width", [60, 80, 132, 200])
@pytest.mark.parametrize("seeds", [1, 3])
def test_what_was_before_stands_beside_what_is(width, seeds):
    lines = three_seeds()[:seeds]
    for line in lines:
        line["before"] = {"UA": 0.97, "MIA": {"loss": 0.8}, "KL": {"unlearned": 5.25, "test": None}}
    text = rendered(typed(lines), width)
    for cell in (".970→.020|.010", ".800→.500|.480", "5.25→.400|.200"):
        assert cell in text
    assert max(map(len, text.splitlines())) <= width and "…" not in text


def test_control_characters_of_a_name_do_not_reach_the_terminal():
    lines = typed([one_line(method="er\x1b[31m", name="learn \x1b[2J\r\x07cat")])
    for console in (Console(width=200, file=io.StringIO(), force_terminal=force) for force in (True, False)):
        say_requests(console, lines)
        say_verdicts(console, lines)
        found = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # rich's own colours
        assert not {"\x1b", "\r", "\x07"} & set(found)
        assert r"learn \x1b[2J\r\x07cat" in found


@pytest.mark.parametrize("terminal", [True, False])
def test_the_verdict_of_the_report_stands_in_the_terminal(run_dir, terminal):
    lines = read_metrics(run_dir)
    lines += typed([one_line(f"m{i}", 0, 3, "unlearn", "U", UA=0.5) for i in range(7)])
    found = warnings(lines)
    assert len(found) > WARNINGS_SHOWN
    console = Console(width=80, file=io.StringIO(), force_terminal=terminal, color_system=None)
    say_verdicts(console, lines)
    text = console.file.getvalue()
    for method in ("ug_clu", "finetune_on_buffer"):
        assert f"{method}: {verdict(lines, method)}" in " ".join(text.split())
    assert f"and at {len(found) - WARNINGS_SHOWN} more, which the report lists" in " ".join(text.split())
    if terminal:
        assert max(map(len, text.splitlines())) <= 80
    else:
        assert len(text.splitlines()) == 2 + 7 + WARNINGS_SHOWN + 1


def test_what_is_undefined_is_said_in_the_terminal_and_on_the_page(tmp_path):
    lines = three_seeds()
    for line in lines:
        line["undefined"] = ["no test example of <cat>: LA, FM and TA leave it out"]
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    say_verdicts(console, typed(lines))
    sentence = "Undefined: no test example of <cat>: LA, FM and TA leave it out (request 4)"
    assert console.file.getvalue().count(sentence) == 1
    page = write_html(write_run(tmp_path / "run", lines, traces=False)).read_text(encoding="utf-8")
    assert sentence.replace("<cat>", "&lt;cat&gt;") in page
    with pytest.raises(TypeError, match="not a list of sentences"):
        from_json(one_line() | {"undefined": "no test example"})


def test_what_remains_of_the_unlearned_is_a_section_of_the_page(tmp_path):
    folder = write_run(tmp_path / "a run", three_seeds(), traces=False)
    assert "remains of the unlearned" not in write_html(folder).read_text(encoding="utf-8")
    assert "Nothing that is known of" in write_html(folder, []).read_text(encoding="utf-8")
    left = [Remain("oracle cache", Path("/c/<oracles>/a.npz"), 2_500_000), Remain("pixel cache", Path("/c/p.npy"), 12)]
    page = html_text(write_html(folder, left).read_text(encoding="utf-8"))
    assert f"python -m experiments.purge &#39;{folder}&#39;" in page
    assert "oracle cache 2.5 MB /c/&lt;oracles&gt;/a.npz" in page and "pixel cache 12 bytes /c/p.npy" in page
    assert remaining([], folder) == ["Remains of the unlearned: none"]


def test_terminal_table_of_a_diverged_run_keeps_its_names():
    lines = three_seeds(LA=math.nan, KL={"retained": math.nan, "test": math.inf, "unlearned": math.nan})
    for line in lines:
        line["cost"] = {"gradient_evaluations": 12345, "oracle_gradient_evaluations": 123456}
    text = rendered(typed(lines), 100)
    assert "…" not in text and "4 unlearn" in text and "12.3k|123k" in text
    assert text.count("diverged") == 3 and " inf " in text


def test_markdown_rows_are_these():
    table = request_markdown(typed(three_seeds())).splitlines()
    assert table[2] == (
        "| 4 unlearn task 2 | ug_clu | .900 ±.100 | .020 ±.000 | .020 ±.000 | .500 ±.000 | .060 ±.000 | .400 ±.000 | "
        ".080 ±.000 | 3.14 ±.000 | 4.20 ±.000 | 900 |"
    )
    assert table[3].startswith("|  | *oracle · noise floor* | .920 ±.000 | .010 ±.000 | – | .480 ±.000 | .030 ±.000 |")
    assert table[3].endswith("| – | – | 7500 |")
    assert "over 3 seeds" in table[-1]
    assert len({row.count("|") for row in table[:4]}) == 1


def test_markdown_keeps_unlearn_requests_and_the_last(run_dir):
    firsts = [row.split("|")[1].strip() for row in request_markdown(read_metrics(run_dir)).splitlines()[2:8]]
    assert firsts == ["4 unlearn task 2", "", "", "7 unlearn task 4", "", ""]
    lines = [line for line in read_metrics(run_dir) if line.request < 6 and line.seed == 0]
    assert "| 6 learn task 5 | ug_clu |" in request_markdown(lines)
    assert "±" not in request_markdown(lines)


def test_markdown_escapes_a_bar_in_a_name():
    assert "learn a\\|b" in request_markdown(typed([one_line(name="learn a|b")]))


def test_scorecard_by_hand():
    lines = three_seeds(UA=0.02, KL={"retained": 0.06, "test": 0.09, "unlearned": 0.7})
    lines[0]["model"]["UA"] = 0.0  # gaps .01, .01, .01 on both sides of the oracle's .01: they must not cancel
    lines += [one_line(seed=seed, request=0) for seed in range(3)]
    lines = typed(lines)
    ua, mia, la, test, retained, unlearned, cost = scorecard(lines, "ug_clu")
    assert (ua.value, ua.passed) == (pytest.approx(0.01), True)
    assert (mia.value, mia.passed) == (None, None)  # AUC .52 and .5: both attackers guess
    assert (retained.value, retained.passed) == (pytest.approx(0.06 / 0.03), True)
    assert (la.value, la.passed) == (pytest.approx((0.12 + 0.02 + 0.08) / 3), False)
    assert (test.value, test.passed) == (pytest.approx(0.09 / 0.04), True)
    assert (unlearned.value, unlearned.passed) == (pytest.approx(0.7 / 0.2), False)
    assert (cost.value, cost.passed) == (pytest.approx(900 / 7500), True)
    text = verdict(lines, "ug_clu")
    assert "UA is within 5 points of the oracle's (at worst 1 points away)" in text
    assert "MIA says nothing: there is no attacker, or none better than a guess." in text
    assert "2.2× on test inputs, 2.0× on retained and 3.5× on unlearned" in text and "12 % of the gradient" in text
    assert text.endswith("Missed: LA gap to the oracle; KL / floor on unlearned.")


def test_membership_and_retained_data_count_in_the_verdict():
    attacked = {"MIA": dict.fromkeys(FEATURES, 1.0), "MIA_AUC": dict.fromkeys(FEATURES, 0.9)}
    lines = three_seeds(**attacked, KL={"retained": 0.09, "test": 0.08, "unlearned": 0.4}, LA=0.92)
    lines[0]["oracle"]["MIA_AUC"] = dict.fromkeys(FEATURES, 0.6)  # .48 where he does not guess, .5 where he does
    lines = typed(lines)
    assert [check.title for check in scorecard(lines, "ug_clu") if check.passed is False] == [
        "MIA gap to the oracle",
        "KL / floor on retained",
    ]
    text = verdict(lines, "ug_clu")
    assert "MIA is 50.7 points from the oracle's at worst." in text
    assert text.endswith("Missed: MIA gap to the oracle; KL / floor on retained.")


def test_where_retraining_is_cheaper_the_verdict_says_so():
    def costing(request, spent, retraining):
        line = one_line(request=request, name=f"learn {request}")
        line["cost"] = {"gradient_evaluations": spent, "oracle_gradient_evaluations": retraining}
        return line

    dear = typed([costing(0, 616, 261)])
    assert "retraining is cheaper here (616 against 261 gradient evaluations)." in verdict(dear, "ug_clu")
    some = typed([costing(0, 376, 179), costing(1, 376, 359), costing(2, 376, 541), costing(3, 376, 200)])
    assert cheaper_retraining(some, "ug_clu") == (
        "retraining is cheaper at requests 1–2, 4 (1128 against 738 gradient evaluations)"
    )
    assert "cheaper" not in verdict(typed([costing(0, 100, 261)]), "ug_clu")


def test_scorecard_leaves_a_request_learned_from_scratch_out_of_the_cost():
    first = one_line(request=0)
    first["cost"] = {"gradient_evaluations": 7500, "oracle_gradient_evaluations": 7500}
    cost = scorecard(typed([first, *three_seeds()[:1]]), "ug_clu")[-1]
    assert cost.value == pytest.approx(900 / 7500)
    assert scorecard(typed([first]), "ug_clu")[-1].value is None


def test_nothing_unlearned_is_no_success():
    checks = scorecard(typed([one_line()]), "ug_clu")
    assert checks[0].value is None and checks[0].passed is None
    assert verdict(typed([one_line()]), "ug_clu").startswith("Nothing was unlearned. ")


def test_ratio_to_a_floor_of_zero():
    line = three_seeds()[0]
    line["noise_floor"] = {"KL": {"test": 0.0}}
    assert kl_ratio(summarise(typed([line]))[0].statistics, KL_TEST) == math.inf
    line["model"]["KL"]["test"] = 0.0
    assert kl_ratio(summarise(typed([line]))[0].statistics, KL_TEST) == 1.0
    assert kl_ratio(Numbers(), KL_TEST) is None


@pytest.mark.parametrize(
    ("changes", "oracle_ua", "expected"),
    [
        ({"UA": 0.94}, 0.01, "UA did not move: seed 0: .940, oracle .010"),
        ({"UA": 0.3}, 0.01, "UA above the oracle's"),
        ({"UA": 0.5}, 0.84, "UA below the oracle's, over-forgetting: seed 0: .500, oracle .840"),
        ({"RA": 0.85}, 0.01, "RA dropped: seed 0: .950 to .850"),
        ({"relapse": 0.2}, 0.01, "relapse, UA rose after the unlearning: seed 0: .200"),
        ({"LA": math.nan}, 0.01, "diverged: seed 0: not finite: LA"),
        ({}, 0.01, None),
        ({"UA": 0.84}, 0.85, None),  # random samples: UA is high because the oracle's is
    ],
)
def test_guard_rails(changes, oracle_ua, expected):
    after = one_line(request=3, kind="unlearn", name="unlearn task 2", **changes)
    after["oracle"]["UA"] = oracle_ua
    found = warnings(typed([one_line(request=2), after]))
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith("ug_clu, request 4 (unlearn task 2): " + expected)


def test_unfinished_seeds_are_named():
    found = warnings(typed([one_line(seed=0), one_line(seed=2), one_line("other", seed=0)]))
    assert found == ["other, request 1: no result yet for seeds [2]"]


def test_read_metrics_takes_what_json_writes(tmp_path):
    lines = [one_line(LA=math.nan, FM=math.inf)]
    read = read_metrics(write_run(tmp_path / "run", lines, traces=False))
    model = read[0].numbers.model
    assert math.isnan(model.LA) and math.inf == model.FM
    assert model.UA is None


def test_read_metrics_refuses(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_metrics(tmp_path)
    folder = write_run(tmp_path / "run", [], traces=False)
    with pytest.raises(ValueError, match="no request has finished"):
        read_metrics(folder)
    whole = json.dumps(one_line())
    (folder / "metrics.jsonl").write_text(whole + "\n" + whole[:50], encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 is .* not one request's metrics"):
        read_metrics(folder)
    (folder / "metrics.jsonl").write_text(whole + "\n" + whole, encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 repeats line 1"):
        read_metrics(folder)
    (folder / "metrics.jsonl").write_text(json.dumps(one_line(UAA=0.5)), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"line 1: unknown model\.UAA; known are model\.LA, .*another version wrote it"
    ):
        read_metrics(folder)
    (folder / "metrics.jsonl").write_text(whole, encoding="utf-8")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config\.json' does not exist"):
        write_html(folder)


def test_html_loads_nothing(run_dir):
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"https?:|src=|@import|<link|<script|url\((?!#)", page) == []


def test_html_figures_are_well_formed_and_their_ids_unique(run_dir):
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    figures = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 5  # the comparison, accuracy, KL, and the traces of two methods
    for figure in figures:
        ElementTree.fromstring(figure.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    ids = Counter(re.findall(r' id="([^"]+)"', page))
    assert max(ids.values()) == 1
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)) and all(
        (a or b) in ids for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    )
    assert "mathdefault" not in page and "#010203" not in page and "#0072b2" not in page


def test_html_holds_the_numbers_the_settings_and_escaped_names(tmp_path):
    lines = three_seeds()
    for line in lines:
        line["name"] = "unlearn <b>$x_1$</b>"
    page = write_html(write_run(tmp_path / "run", lines, traces=False)).read_text(encoding="utf-8")
    assert "<td>.900 <small>±.100</small></td>" in page
    assert "<td>.080 <small>±.000</small></td>" in page and "<td>.040 <small>±.000</small></td>" in page
    assert html_text(page).count("hyper.clip_norm Infinity") == 1 and "hyper.saliency.kind fisher" in html_text(page)
    assert "<b>$x_1$" not in page and "&lt;b&gt;$x_1$&lt;/b&gt;" in page and "runs/<script>" not in page
    assert "ug_clu left no traces." in page


def html_text(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_html_marks_what_misses_its_target(tmp_path):
    bad = three_seeds(UA=0.2, KL={"retained": 9.0, "test": 0.11, "unlearned": 0.4})
    page = write_html(write_run(tmp_path / "run", bad, traces=False)).read_text(encoding="utf-8")
    off = re.findall(r"<td class=off>(\S+)", page)
    assert off == [".200", "9.00", ".110"]  # .4 is twice its floor, within 3


def test_html_survives_what_is_not_finite_missing_or_empty(tmp_path):
    lines = [one_line(seed=seed, request=request) for seed in (0, 1) for request in (0, 1)]
    lines.append(one_line("do_nothing", 0, 0, KL={"retained": math.inf, "learned": None, "unlearned": None}))
    lines[1]["model"] |= {"LA": math.nan, "group_accuracy": {"task 1": math.nan}}
    lines[2]["model"]["MIA"] = lines[2]["oracle"]["MIA"] = None
    folder = write_run(tmp_path / "run", lines, traces=False)
    rng = np.random.default_rng(0)
    write_trace(folder, lines[0], rng, steps=200)  # more steps than are drawn
    traces = folder / "runs" / "ug_clu" / "seed-0" / "traces"
    np.savez(traces / "1.npz", task_losses=[1.0, math.nan, math.inf], remain_losses=np.zeros((3, 0)), clipped=[])
    write_trace(folder, lines[4], rng)
    np.savez(folder / "runs" / "do_nothing" / "seed-0" / "traces" / "0.npz", task_losses=[], remain_losses=[[]])
    page = write_html(folder).read_text(encoding="utf-8")
    assert "diverged" in page and ">inf</td>" in page
    assert "do_nothing left no traces." in page and "ug_clu left no traces." not in page
    assert "do_nothing, request 2" not in page and "do_nothing, request 1: no result yet for seeds [1]" in page


def test_a_trace_that_is_gone_leaves_a_sentence(tmp_path):
    folder = write_run(tmp_path / "run", [one_line(request=request) for request in (0, 1)])
    assert "No trace of" not in write_html(folder).read_text(encoding="utf-8")
    (folder / "runs" / "ug_clu" / "seed-0" / "traces" / "1.npz").unlink()
    page = write_html(folder).read_text(encoding="utf-8")
    assert "No trace of request 2, seed 0: runs/ug_clu/seed-0/traces/1.npz is gone." in page


def test_a_damaged_trace_is_named_and_the_old_report_stays(tmp_path):
    folder = write_run(tmp_path / "run", [one_line()])
    before = write_html(folder).read_bytes()
    trace = folder / "runs" / "ug_clu" / "seed-0" / "traces" / "0.npz"
    trace.write_bytes(trace.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"0\.npz' is not a readable trace"):
        write_html(folder)
    assert (folder / "report.html").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "metrics.jsonl", "report.html", "runs"]


def test_command_line_makes_the_same_report_again(run_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    rows = np.arange(8, dtype=np.uint8).reshape(4, 2)
    known = record(data := from_arrays("toy", rows, [0, 1, 0, 1], rows + 100, [0, 1, 0, 1]), data.digests())
    facts = {**known.facts, "examples_csv": content_digest(known.to_csv())}
    config |= {"methods": ["ug_clu"], "made_of": {"data": facts}}
    RunFolder(folder).open(config, known.to_csv(), to_json([Request("learn", "all", [0, 1, 2, 3])]))
    assert run([str(folder), "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == request_markdown(read_metrics(folder)).strip()
    (folder / "report.html").unlink()
    assert run([str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    before = write_html(folder, []).read_bytes()
    (folder / "report.html").unlink()
    assert run([str(folder)]) == 0 and (folder / "report.html").read_bytes() == before


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    assert run([str(tmp_path), "--markdown"]) == 2
    assert re.match(r"Error: .* does not exist; give the folder of a run", capsys.readouterr().err)
