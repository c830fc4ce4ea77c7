"""The runner where something is amiss: nothing retained, damaged files, divergence, an interrupt, wrong places.

What a run leaves, kills and refusals of settings are in `test_experiments.py`.
"""

import gc
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from rich.console import Console

import ugclu_jax
from ugclu_jax import checkpoints, data, requests
from ugclu_jax.data import fashion_mnist
from ugclu_jax.harness import clock, oracles, plan, predictions, scenarios, server, stream_run
from ugclu_jax.harness.answers import ANSWERS
from ugclu_jax.harness.budget import build
from ugclu_jax.harness.catalogue import METHODS, Setup
from ugclu_jax.harness.cli import main
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.run import start
from ugclu_jax.harness.run_data import take_up
from ugclu_jax.harness.run_folder import RunFolder
from ugclu_jax.learner import RequestCost
from ugclu_jax.types import Info

# Where a load fails, Orbax leaves a closed event loop to the garbage collector, which pytest would report: here, and
# not in whichever test comes next.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Sharding info not provided"),  # wanted so: states are compared as stored
]
SMALL = ["--smoke", "--learn.settings.inner-data", "buffer", "--learn.settings.no-distillation"]
STREAM = ["--sequence", "L1 U1 L1", "--keep", "3"]


@pytest.fixture
def collected() -> Iterator[None]:
    yield
    gc.collect()


def run(*arguments: str) -> int:
    return main("task_aware", "", arguments)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def timeless(path: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines_of(path)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> Path:
    """A run that unlearns everything and learns it again."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    assert run(*SMALL, *STREAM, "--run-dir", str(path), "--cache-dir", cache) == 0
    return path


def state_digest(path: Path, request: int) -> str:
    """Digest of the state in a checkpoint, without the metadata, which hold times."""
    return checkpoints.digest(ocp.load(RunFolder(path).checkpoints("ug_clu", 0) / str(request)), {})


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Names of what is compiled while a test runs, whatever was compiled before it."""
    found: list[str] = []

    def note(event: str, duration_secs: float, **details: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(str(details.get("fun_name")))

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


def test_a_finished_run_asked_for_again_compiles_nothing(finished, cache, compiled, capsys):
    arguments = [*SMALL, *STREAM, "--run-dir", str(finished), "--cache-dir", cache]
    before = [(finished / name).read_bytes() for name in ("metrics.jsonl", "report.html")]
    assert run(*arguments) == 0
    assert compiled == []
    assert [(finished / name).read_bytes() for name in ("metrics.jsonl", "report.html")] == before
    said = capsys.readouterr().out
    assert "2 unlearn U1" in said and "ug_clu: UA is" in said
    assert "request 1/3" not in said, "nothing happened"


def test_a_line_has_every_metric_and_none_where_nothing_is_retained(finished):
    first, empty, again = lines_of(finished)
    for line in (first, empty, again):
        of_unlearning = {"before", "undefined"} if line is empty else set()
        assert set(line) == of_unlearning | {
            "method", "seed", "request", "kind", "name", "examples", "retained", "buffer", "model", "oracle",
            "noise_floor", "cost", "mask_density", "timing",
        }  # fmt: skip
        own = {"LA", "RA", "TA", "UA", "UA_test", "MIA", "MIA_AUC", "group_accuracy", "past_UA"}
        assert set(line["oracle"]) == own
        assert set(line["model"]) == own | {"KL", "JS", "FM", "ToW", "relapse"}
        sides = {"retained", "learned", "unlearned", "test", "unlearned_test"}
        assert set(line["noise_floor"]) == {"KL", "JS"} and set(line["noise_floor"]["KL"]) == sides
        assert set(line["timing"]) == {"RTE", "compile_seconds", "evaluation_seconds", "oracle_seconds"}
    assert [line["retained"] for line in (first, empty, again)] == [60, 0, 60]
    assert empty["buffer"] == 0 < again["buffer"]
    assert empty["model"]["LA"] is None and empty["model"]["KL"]["unlearned"] > 0
    assert empty["undefined"] == ["nothing is retained: LA, RA, TA, FM and MIA are undefined"]
    assert empty["before"]["UA"] == first["model"]["RA"], "what is unlearned was all that was retained"
    assert empty["before"]["MIA"] is None and empty["before"]["KL"]["unlearned"] > 0
    assert again["model"]["UA"] is None and again["model"]["FM"] == 0, "a group learned again starts anew"


def test_a_checkpoint_carries_the_configuration_and_the_lines_so_far(finished):
    folder = RunFolder(finished).checkpoints("ug_clu", 0)
    for number in (1, 2):
        content = ocp.metadata(folder / str(number)).custom_metadata["content"]
        configuration = json.loads((finished / "config.json").read_text())
        assert content["identity"] == {
            "run": configuration.pop("run"),
            "method": "ug_clu",
            "seed": 0,
            "request": number,
            "version": ugclu_jax.__version__,
            "data": configuration["made_of"]["data"]["fingerprint"],
        }
        assert content["configuration"] == configuration
        assert content["lines"] == lines_of(finished)[: number + 1]


def test_an_evaluation_of_drawn_examples_measures_those_and_changes_nothing_else(finished, cache, tmp_path):
    def measured(examples: int) -> list[dict]:
        path, limit = tmp_path / str(examples), ("--evaluation-examples", str(examples))
        assert run(*SMALL, *STREAM, *limit, "--run-dir", str(path), "--cache-dir", cache) == 0
        return timeless(path)

    whole, part = measured(10_000), measured(50)
    assert whole == timeless(finished), "a draw of everything is everything"
    for all_of_it, some in zip(whole, part, strict=True):
        assert {key: some[key] for key in ("cost", "buffer", "mask_density", "retained")} == {
            key: all_of_it[key] for key in ("cost", "buffer", "mask_density", "retained")
        }
        assert some["model"]["KL"] != all_of_it["model"]["KL"]
        assert some["noise_floor"] != all_of_it["noise_floor"], "the oracles are measured on the same examples"
    assert part[0]["model"]["RA"] == pytest.approx(whole[0]["model"]["RA"], abs=0.25)
    assert float(50 * part[0]["model"]["RA"]).is_integer()


def prepared_plan(config, scenario):
    found = take_up(plan.path_of("task_aware", config), scenario.dataset, config)
    return plan.prepare("task_aware", config, scenario, found, Console(quiet=True), "the command")


def test_an_evaluation_passes_over_what_it_reads_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "BATCHES_GATHERED", 2)
    monkeypatch.setattr(predictions, "prediction_batch", lambda shape: 4)  # 40 rows: five chunks of 8
    dataset = data.subset(data.load("digits"), 20, seed=0)
    scenario = scenarios.task_aware(config := scenarios.TaskAwareConfig(run_dir=tmp_path, sequence="L1 L3"), dataset)
    prepared = prepared_plan(config, scenario)
    run = start(prepared, clock.Clock())
    network = run.server.fresh_state("ug_clu", 0).method[:2]
    passed, own = [], run.predictions
    predict = own.predict
    monkeypatch.setattr(own, "predict", lambda *rest: passed.append(len(rest[2])) or predict(*rest))
    measured = own.measured_logits(0, *network)
    of_test = np.isin(dataset.test_labels, (0, 1))
    assert passed == [8] * (5 + -(-of_test.sum() // 8))
    whole = own.logits(*network)
    for part, full, read in (
        (measured.train, whole.train, np.isin(dataset.train_labels, (0, 1))),
        (measured.test, whole.test, of_test),
    ):
        np.testing.assert_allclose(part, full[read], rtol=1e-5, atol=1e-6)
    view = prepared.steps[0].view
    assert np.array_equal(np.flatnonzero(of_test), view.test) and len(view.situation.learned) == 40
    assert np.array_equal(view.train[view.situation.learned], scenario.stream[0].ids)
    prepared.lock.close()


def test_what_a_block_compiles_counts_as_compilation(monkeypatch):
    monkeypatch.setattr(clock.time, "perf_counter", iter([100.0, 107.0]).__next__)
    with clock.Clock() as own, own.spending("evaluation"):
        for event in (*clock.COMPILING, "/jax/core/compile/jaxpr_trace_duration"):
            jax.monitoring.record_event_duration_secs(event, 2.0)
    assert own.spent == {"evaluation": pytest.approx(3.0), "compilation": pytest.approx(4.0)}


def test_a_block_within_another_counts_once(monkeypatch):
    # 10 s of oracles, 4 of them compilation, and a request of 3 s and 2 of compilation, in 30 s of evaluation with 1.
    monkeypatch.setattr(clock.time, "perf_counter", iter([100.0, 110.0, 120.0, 130.0]).__next__)
    (event, *_) = clock.COMPILING
    with clock.Clock() as own, own.spending("evaluation"):
        jax.monitoring.record_event_duration_secs(event, 1.0)
        with own.spending("oracles"):
            jax.monitoring.record_event_duration_secs(event, 4.0)
        jax.monitoring.record_event_duration_secs(event, 2.0)
        own.note(RequestCost(3.0, 2.0))
    assert own.spent == {"oracles": 6.0, "requests": 3.0, "compilation": 7.0, "evaluation": 14.0}
    assert sum(own.spent.values()) == 30.0, "every second once"


def test_jax_tells_what_it_compiles():
    def compile_one(constant: float) -> None:
        jax.jit(lambda x: x + constant).lower(jax.ShapeDtypeStruct((3,), "float32")).compile()

    with clock.Clock() as own:
        compile_one(0.125)
    assert set(own.compiled) == clock.COMPILING
    before = Counter(own.compiled)
    compile_one(0.375)
    assert own.compiled == before, "a clock that is left hears nothing more"


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("damaged", [[2, 1], [2, 1, 0]])
def test_every_damaged_checkpoint_is_named_and_passed_over(finished, cache, tmp_path, capsys, damaged):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    folder = RunFolder(copy).checkpoints("ug_clu", 0)
    for request in damaged:
        files = [path for path in (folder / str(request)).rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 0xFF
        largest.write_bytes(content)
    (folder / "2" / "_CHECKPOINT_METADATA").write_text("{")  # which Orbax reads of every checkpoint, asked or not
    assert run(*SMALL, *STREAM, "--run-dir", str(copy), "--cache-dir", cache) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == len(damaged)
    for request, warning in zip(damaged, warnings, strict=True):
        assert f"checkpoint {folder / str(request)} " in warning and "falling back to the one before" in warning
    assert timeless(copy) == timeless(finished)
    for request in range(3):
        assert state_digest(copy, request) == state_digest(finished, request)


def test_a_damaged_oracle_is_named_and_made_anew_once_deleted(finished, cache, tmp_path, capsys):
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    for stored in (copy / "oracles").glob("*/*.npz"):
        stored.write_bytes(stored.read_bytes()[:-100])
    arguments = [*SMALL, *STREAM, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(copy)]
    assert run(*arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"Run failed: oracle cache file {copy / 'oracles'}") and "delete it" in message
    for stored in (copy / "oracles").glob("*/*.npz"):
        stored.unlink()
    assert run(*arguments) == 0
    assert timeless(tmp_path / "run") == timeless(finished)


def test_an_oracle_that_diverges_stops_the_run(cache, tmp_path, capsys, monkeypatch):
    def diverged(folder, seeds, like, train, **how):
        yield seeds[0], jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), like)

    monkeypatch.setattr(oracles.bank, "members", diverged)
    assert run(*SMALL, "--sequence", "L1", "--run-dir", str(tmp_path / "run"), "--cache-dir", cache) == 1
    message = capsys.readouterr().err
    assert "training from scratch on 60 examples diverged" in message and "--oracle.learning-rate" in message


def info_of(**fields: list) -> Info:
    return Info(**{name: np.asarray(fields.get(name, [])) for name in Info._fields})


def test_the_first_step_that_is_not_finite_is_named():
    step = SimpleNamespace(index=1, request=SimpleNamespace(kind="unlearn", name="U2"))
    planned = SimpleNamespace(resume_command="the command")
    fine = info_of(task_losses=[1.0, 2.0], remain_losses=[[1.0], [0.0]], displacement_norms=[0.1, 0.2])
    stream_run.check_finite(planned, "ug_clu", 0, step, fine)
    stream_run.check_finite(planned, "do_nothing", 0, step, info_of())
    cases = [
        ({"task_losses": [1.0, np.nan]}, "task losses became non-finite at outer step 2 of request 2"),
        ({"task_losses": [1.0, np.nan], "remain_losses": [[1.0, np.inf], [1.0, 1.0]]}, "remain losses .* step 1 "),
        ({"task_losses": [1.0, 2.0], "displacement_norms": [0.1, np.inf]}, "displacement norms .* step 2 "),
    ]
    for fields, message in cases:
        with pytest.raises(plan.RunFailed, match=message):
            stream_run.check_finite(planned, "ug_clu", 0, step, info_of(**fields))
    with pytest.raises(
        plan.RunFailed, match=r"Lower the rates under references\.finetune_remain\.hyper of .*\n  the command"
    ):
        stream_run.check_finite(planned, "finetune_remain", 0, step, info_of(remain_losses=[[np.nan]]))


def test_an_interrupt_says_how_to_resume(cache, tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(server.Server, "serve", interrupt)
    monkeypatch.chdir(tmp_path)
    assert run("--smoke", "--cache-dir", cache) == 130
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.startswith("task_aware-digits-")
    command = f"python -m experiments.task_aware --smoke --cache-dir {cache} --run-dir runs/{made.name}"
    assert capsys.readouterr().err == f"Interrupted; what was finished is saved. Resume with:\n  {command}\n"


@pytest.mark.parametrize("setting", ["--run-dir", "--cache-dir"])
@pytest.mark.parametrize("place", ["file", "file/[/deeper]"])  # the second looks like markup, too
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys, setting, place):
    (tmp_path / "file").write_text("in the way")
    places = {"--run-dir": tmp_path / "run", "--cache-dir": tmp_path / "cache", setting: tmp_path / place}
    assert run("--smoke", *(str(part) for pair in places.items() for part in pair)) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith(f"Error: folder {places[setting]}")
    assert f"give another {setting}\n" in output.err


def test_fashion_mnist_that_is_not_there_is_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "nowhere")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "empty").mkdir()
    for arguments in ([], ["--data.directory", str(tmp_path / "empty")]):
        assert run("--dataset", "fashion_mnist", *arguments, "--run-dir", str(tmp_path / "run")) == 2
        message = capsys.readouterr().err
        for way in ("apt-get install dataset-fashion-mnist", "directory of the four files", "TensorFlow Datasets"):
            assert way in message
    assert not (tmp_path / "run").exists()


def test_settings_are_chosen_without_the_test_split():
    digits = data.load("digits")
    held = plan.load_dataset(ExperimentConfig(evaluate_on="validation", validation_examples=300, per_class=20))
    train = {image.tobytes() for image in digits.train_inputs}
    assert len(held.test_labels) == 300 and len(held.train_labels) == 200
    assert all(image.tobytes() in train for image in (*held.test_inputs, *held.train_inputs))


def test_methods_of_one_learner_learn_by_the_same_function():
    def nothing(*args, **kwargs):
        return None

    config = ExperimentConfig(methods=METHODS)
    entries = build(config, Setup(nothing, nothing, 10, num_examples=9, capacity=config.capacity, largest_task=4))
    assert tuple(entries) == METHODS
    of_ug_clu = [entry for entry in entries.values() if entry.learner == "ug_clu"]
    assert len(of_ug_clu) > 10
    assert len({entry.method.learn for entry in of_ug_clu}) == 1
    # An answer without training leaves the network as `do_nothing` does, and is made of its outputs.
    assert len({entry.method.unlearn for entry in of_ug_clu}) == len(of_ug_clu) - len(ANSWERS)
    assert all(entry.hyper["learn"] == entries["ug_clu"].hyper["learn"] for entry in of_ug_clu)


def test_the_stream_file_names_examples_of_the_whole_data_set(finished):
    """The run kept 30 training examples a class; its file is read with the uncut data set."""
    digits = data.load("digits")
    text = (finished / "stream.json").read_text()
    learn = requests.from_json(text, scenarios.names_of(digits))[0].ids
    kept = data.subset(digits, 30, seed=0)
    wanted = kept.train_inputs[np.isin(kept.train_labels, (0, 1))]
    assert len(learn) == 60 and learn.max() > len(kept.train_labels)
    np.testing.assert_array_equal(digits.train_inputs[learn], wanted)


def test_where_data_are_cached_is_no_part_of_a_run_and_where_they_come_from_is(tmp_path):
    dataset = data.subset(data.load("digits"), 20, seed=0)
    stream = requests.task_aware(dataset.train_labels, [[0], [1]], "L1")
    scenario = scenarios.Scenario(dataset, stream, requests.Groups({"all": tuple(range(10))}))

    def prepare(**options):
        config = ExperimentConfig(data=data.DataOptions(**options), run_dir=tmp_path / "run", cache_dir=tmp_path)
        prepared_plan(config, scenario).lock.close()

    prepare(directory=Path("a"))
    prepare(directory=Path("a"), cache_dir=tmp_path / "other", download=True)
    with pytest.raises(ValueError, match=r'data.directory \("a" there, "b" here\)'):
        prepare(directory=Path("b"))


def write_texts(folder: Path) -> None:
    """Two kinds of text, of words of their own."""
    folder.mkdir()
    for split, count in (("train", 24), ("test", 12)):
        rows = [
            {"text": f"{'rain wind' if i % 2 else 'goal match'} {i}", "label": "weather" if i % 2 else "sport"}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def text_arguments(tmp_path: Path) -> list[str]:
    write_texts(tmp_path / "texts")
    small = {"outer_steps": 2, "inner_steps": 1, "mask": "none", "task_batch_size": 4, "remain_batch_size": 4}
    settings = {"capacity": 8, "oracle": {"epochs": 1}, "oracle_seeds": 2}
    (tmp_path / "small.json").write_text(
        json.dumps({**settings, "learn": {"settings": small}, "unlearn": {"settings": small}})
    )
    given = {"--dataset": "text", "--data.directory": tmp_path / "texts", "--data.cache-dir": tmp_path / "data"}
    sizes = {"--data.text-length": "8", "--data.vocabulary-size": "300", "--tasks": "2", "--sequence": "L1 L2 U1"}
    places = {"--settings": tmp_path / "small.json", "--run-dir": tmp_path / "run", "--cache-dir": tmp_path / "cache"}
    return [str(part) for pair in (given | sizes | places).items() for part in pair]


def test_texts_run_through_a_text_encoder(tmp_path):
    assert run(*text_arguments(tmp_path), "--model", "text_encoder") == 0
    lines = lines_of(tmp_path / "run")
    assert [line["name"] for line in lines] == ["L1", "L2", "U1"]
    assert all(np.isfinite(line["model"]["KL"]["retained"]) for line in lines)
    assert lines[-1]["model"]["UA"] is not None


def test_texts_are_refused_by_a_model_of_numbers(tmp_path, capsys):
    assert run(*text_arguments(tmp_path), "--model", "mlp") == 2
    assert "mlp takes no token ids; use text_encoder" in capsys.readouterr().err


def test_the_table_keeps_the_names_of_the_requests_where_the_output_is_narrow(finished, cache, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert run(*SMALL, *STREAM, "--run-dir", str(finished), "--cache-dir", cache) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("1 learn", "2 unlearn", "3 learn")) and "…" not in said
