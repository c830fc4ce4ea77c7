"""Settings: dataclass defaults, then the file, then the command line; whatever is wrong is refused by name."""

import dataclasses
import itertools
import json
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ugclu_jax import data
from ugclu_jax.buffer import init as init_buffer
from ugclu_jax.data import DataOptions
from ugclu_jax.harness import settings_file
from ugclu_jax.harness.budget import budget, build, ug_clu_settings
from ugclu_jax.harness.catalogue import METHODS, REFERENCE_POINTS, WITHOUT_STEPS, Setup, of_defaults, split_name
from ugclu_jax.harness.command_line import defaults, first_words, parse, presets
from ugclu_jax.harness.config import (
    EXPERIMENTS,
    SETTINGS,
    ExperimentConfig,
    from_dict,
    merge,
    nearest,
    to_dict,
)
from ugclu_jax.harness.options import KindConfig
from ugclu_jax.harness.scenarios import SCENARIOS, ClassWiseConfig, TaskAwareConfig
from ugclu_jax.types import Examples
from ugclu_jax.ugclu_plain import PLAIN, PLAIN_HYPER
from ugclu_jax.ugclu_settings import (
    LEARNING,
    LEARNING_HYPER,
    UNLEARNING,
    UNLEARNING_HYPER,
    UGCLUHyper,
    UGCLUSettings,
)


def linear(params, model_state, inputs, *, train, rng_key):
    """Its kernel is that of a convolution of one pixel, for methods that look for one."""
    return inputs @ params.reshape(3, 10), model_state


def linear_init(rng_key):
    return jax.random.normal(rng_key, (1, 1, 3, 10)), {}


SHORT = ["--unlearn.settings.outer-steps", "1", "--unlearn.settings.inner-steps", "2"]
SETUP = Setup(linear, linear_init, 10, num_examples=30, capacity=20, largest_task=16)


def parsed(*arguments, kind=TaskAwareConfig, experiment="task_aware"):
    start, file = defaults(kind, experiment, first_words(arguments))
    return parse([start], arguments, experiment, "what it is", file).configurations[0]


def write(path, **values):
    path.write_text(json.dumps(values))
    return path


# --- from and to dictionaries ----------------------------------------------------------------------------------------


def test_a_configuration_survives_json():
    config = TaskAwareConfig(
        data=DataOptions(directory=Path("some/where"), image_size=32),
        seeds=(3, 1),
        methods=("do_nothing",),
        per_class=7,
        learn=KindConfig(UGCLUSettings(outer_steps=3, mask="soft"), UGCLUHyper(clip_norm=2.5)),
        references={"finetune_remain": {"hyper": {"learning_rate": 0.25}}},
        evaluate_on="validation",
    )
    assert from_dict(TaskAwareConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_whole_numbers_do_for_floats_and_nothing_else_is_bent():
    made = from_dict(UGCLUHyper, {"clip_norm": 2})
    assert made.clip_norm == 2.0 and isinstance(made.clip_norm, float)
    assert from_dict(ExperimentConfig, {"seeds": [4], "per_class": None}).seeds == (4,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"capacty": 5}, r"unknown setting 'capacty'; did you mean capacity\?"),
        ({"learn": {"setings": {}}}, r"unknown setting 'learn.setings'; did you mean settings\?"),
        ({"learn": {"settings": {"outer_step": 3}}}, r"'learn.settings.outer_step'; did you mean outer_steps\?"),
        ({"learn": 3}, "'learn' must be an object of settings, got 3"),
        ({"capacity": "many"}, "'capacity' must be int, got 'many'"),
        ({"capacity": 2.5}, "'capacity' must be int, got 2.5"),
        ({"capacity": True}, "'capacity' must be int, got True"),
        ({"smoke": 1}, "'smoke' must be bool, got 1"),
        ({"seeds": 1}, "'seeds' must be .*, got 1"),
        ({"seeds": ["a"]}, "setting 'seeds' is 'a': it must be a whole number"),
        ({"learn": {"hyper": {"clip_norm": "1"}}}, "'learn.hyper.clip_norm' must be float, got '1'"),
        ({"learn": {"hyper": {"clip_norm": True}}}, "'learn.hyper.clip_norm' must be float, got True"),
        ({"evaluate_on": "tset"}, "'evaluate_on' must be 'test' or 'validation', got 'tset'"),
        ({"data": {"directory": 3}}, "'data.directory' must be Path, got 3"),
        ({"data": {"image_size": 0}}, "image_size is 0: it must be at least 1"),
        ({"capacity": 0}, "capacity must be at least 1, got 0"),
        ({"tasks": 0}, "tasks must be at least 1, got 0"),
        ({"oracle_seeds": 1}, "oracle_seeds must be at least 2, got 1"),
        ({"validation_examples": 0}, "validation_examples must be at least 1, got 0"),
        ({"evaluation_examples": 0}, "evaluation_examples must be at least 1, got 0"),
        ({"per_class": 0}, "per_class must be at least 1, got 0"),
        ({"seeds": []}, "seeds must be one or more different values"),
        ({"seeds": [1, 1]}, "seeds must be one or more different values"),
        ({"seeds": [-1]}, "seeds must be non-negative"),
        ({"methods": []}, "methods must be one or more different values"),
        ({"oracle": {"epochs": 0}}, "epochs must be at least 1, got 0"),
        ({"learn": {"settings": {"mask": "hrad"}}}, "'learn.settings.mask' must be 'hard' or .*, got 'hrad'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_dotted_name(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(ExperimentConfig, values)


def test_classes_to_unlearn_are_different():
    with pytest.raises(ValueError, match="unlearn_classes must be different values"):
        from_dict(ClassWiseConfig, {"unlearn_classes": ["3", "3"]})


@pytest.mark.parametrize("other", [{"unlearn_where": "user == 17"}, {"unlearn_ids": "ids.txt"}, {"stream": "a.json"}])
def test_a_run_is_about_one_thing(other):
    with pytest.raises(ValueError, match=r"--.* and --.* are given; a run has one of them: leave the others out"):
        from_dict(ClassWiseConfig, {"unlearn_classes": ["3"], **other})


def test_the_nearest_name_is_offered_where_there_is_one():
    assert nearest("ug-clu", ["ug_clu", "do_nothing"]) == "did you mean ug_clu? Valid: do_nothing, ug_clu"
    assert nearest("xyz", ["ug_clu", "do_nothing"]) == "Valid: do_nothing, ug_clu"


def test_merge_goes_deep_and_leaves_its_arguments_alone():
    base, over = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": {"e": 4}}, "d": {"f": 5}}
    assert merge(base, over) == {"a": {"b": {"e": 4}, "c": 2}, "d": {"f": 5}}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3} and over == {"a": {"b": {"e": 4}}, "d": {"f": 5}}


# --- settings files --------------------------------------------------------------------------------------------------


def test_a_file_is_overridden_by_experiment_by_size_and_by_the_command_line(tmp_path):
    path = write(
        tmp_path / "mine.json",
        capacity=10,
        tasks=10,
        per_class=40,
        seeds=[5],
        experiments={"task_aware": {"capacity": 11, "per_class": 41}, "class_wise": {"capacity": 99}},
        smoke={"per_class": 42},
    )
    plain = parsed("--settings", str(path))
    assert (plain.capacity, plain.tasks, plain.per_class, plain.seeds) == (11, 10, 41, (5,))
    smoke = parsed("--settings", str(path), "--smoke", "--seeds", "7", "8")
    assert (smoke.capacity, smoke.tasks, smoke.per_class, smoke.seeds) == (11, 10, 42, (7, 8))
    assert smoke.smoke and smoke.settings == path
    assert smoke.oracle == TaskAwareConfig().oracle, "what nobody mentions stays as the code has it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, column 2: not JSON"),
        ("[]", "the file must be a JSON object, got list"),
        ('{"experiments": []}', "'experiments' must be a JSON object, got list"),
        ('{"smoke": 3}', "'smoke' must be a JSON object, got int"),
        ('{"experiments": {"task_awar": {}}}', r"unknown experiment 'task_awar'; did you mean task_aware\?"),
        ('{"experiments": {"class_wise": 1}}', "'class_wise' must be a JSON object, got int"),
    ],
)
def test_a_damaged_settings_file_is_named(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        settings_file.read(path, "task_aware", smoke=False)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("dataset", sorted(path.stem for path in SETTINGS.glob("*.json")))
@pytest.mark.parametrize("smoke", [False, True])
def test_the_settings_of_every_dataset_make_every_experiment(dataset, experiment, smoke):
    kind = SCENARIOS[experiment].config
    config = parsed("--dataset", dataset, *["--smoke"] * smoke, kind=kind, experiment=experiment)
    assert isinstance(config, kind) and config.dataset == dataset and config.smoke == smoke
    assert set(build(config, SETUP)) == set(config.methods)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("preset", presets())
def test_every_preset_makes_every_experiment(preset, experiment):
    kind = SCENARIOS[experiment].config
    for size in ([], ["--smoke"]):
        config = parsed("--preset", preset, *size, kind=kind, experiment=experiment)
        assert config.preset == preset and set(build(config, SETUP)) == set(config.methods) == {"ug_clu_plain"}
        assert (config.dataset, config.model) == {
            "cifar10-resnet18": ("cifar10", "resnet18"),
            "tiny-imagenet-swin-t": ("tiny_imagenet", "swin_t"),
        }[preset]
        assert (config.capacity == 5000) == (not size)


def test_presets_that_are_none_or_not_alone_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown preset 'cifar'; .*Valid: cifar10-resnet18, tiny-imagenet-swin-t"):
        parsed("--preset", "cifar")
    path = write(tmp_path / "mine.json", capacity=3)
    with pytest.raises(
        ValueError, match=r"--preset cifar10-resnet18 and --settings .*mine\.json are given; leave one out"
    ):
        parsed("--preset", "cifar10-resnet18", "--settings", str(path))
    path = write(tmp_path / "mine.json", preset="cifar10-resnet18")
    with pytest.raises(ValueError, match="preset is of the command line alone; give --preset there"):
        parsed("--settings", str(path))


def test_every_experiment_has_a_scenario():
    assert tuple(SCENARIOS) == EXPERIMENTS


def test_every_settings_file_is_of_a_dataset():
    names = {path.stem for path in SETTINGS.glob("*.json")}
    assert {"digits", "fashion_mnist"} <= names <= set(data.DATASETS)


# --- the command line ------------------------------------------------------------------------------------------------


def test_every_setting_is_documented_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        parsed("--help")
    lines = [line.strip("│| ") for line in capsys.readouterr().out.splitlines()]
    assert stop.value.code == 0 and "what it is" in lines
    heads = [i for i, line in enumerate(lines) if line.startswith("-") and not lines[i - 1].endswith(",")]
    entries = {
        lines[i].split()[0].strip(","): " ".join(lines[i:j]) for i, j in itertools.pairwise([*heads, len(lines)])
    }

    def check(kind, prefix):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if dataclasses.is_dataclass(hints[field.name]):
                check(hints[field.name], f"{prefix}{field.name}.")
                continue
            option = "--" + f"{prefix}{field.name}".replace("_", "-")
            if option == "--references":  # of the settings file alone
                assert option not in entries
                continue
            said, default = entries[option].split("(default:")[:2]
            assert len(said.split()) >= 4, f"{option}: its type and what it means, got {said!r}"
            assert default.strip() != ")", option

    check(TaskAwareConfig, "")


def test_an_unknown_dataset_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown dataset 'fashion-mnist'; did you mean fashion_mnist\?"):
        parsed("--dataset", "fashion-mnist")


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["0:4"], (0, 1, 2, 3)),
        (["7", "0:2", "100:102"], (7, 0, 1, 100, 101)),
        (["3:4"], (3,)),
        (["0", "1", "2"], (0, 1, 2)),
    ],
)
def test_seeds_are_numbers_and_ranges_of_them(words, seeds):
    assert parsed("--seeds", *words).seeds == seeds
    given = [word if ":" in word else int(word) for word in words]
    assert from_dict(ExperimentConfig, {"seeds": given}).seeds == seeds


@pytest.mark.parametrize("range_", ["5:2", "0:", ":3", "a:b", "0:9999999", "1 2"])
def test_a_range_of_a_settings_file_is_refused_by_its_setting(range_):
    with pytest.raises(ValueError, match=f"setting 'seeds' is '{range_}': "):
        from_dict(ExperimentConfig, {"seeds": [range_]})


def test_seeds_in_plenty_are_not_listed_in_a_message():
    with pytest.raises(ValueError, match="seeds must be one or more different values, got 511 more than once") as error:
        from_dict(ExperimentConfig, {"seeds": ["0:512", 511]})
    assert len(str(error.value)) < 100


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--capacit", "3"], ["Unrecognized options: --capacit", "--capacity INT"]),
        (["--learn.settings.outer-step", "3"], ["Unrecognized", "--learn.settings.outer-steps INT"]),
        (["--capacity", "0"], ["capacity must be at least 1, got 0"]),
        (["--capacity", "many"], ["--capacity", "'many'"]),
        (["--learn.settings.outer-steps", "0"], ["--learn.settings.outer-steps must be at least 1, got 0"]),
        (["--learn.settings.outer_steps", "0"], ["--learn.settings.outer_steps must be at least 1, got 0"]),
        (["--learn.settings.inner-steps", "-1"], ["--learn.settings.inner-steps must be at least 0, got -1"]),
        (["--unlearn.settings.mask", "hrad"], ["'hrad'", "--unlearn.settings.mask", "straight_through"]),
        (["--oracle.epochs", "0"], ["--oracle.epochs must be at least 1, got 0"]),
        (["--oracle.momentum", "1"], ["--oracle.momentum must be in [0, 1), got 1"]),
        (["--seeds"], ["--seeds must be one or more different values"]),
    ],
)
def test_a_bad_command_line_is_refused_by_the_option_as_it_was_typed(arguments, messages):
    with pytest.raises(ValueError) as refused:
        parsed(*arguments)
    for message in messages:
        assert message in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learn.hyper.fast-learning-rate", "-1"], "--learn.hyper.fast-learning-rate must be in"),
        (["--unlearn.hyper.slow-step-size", "1.5"], r"--unlearn.hyper.slow-step-size must be in \[0, 1\], got 1.5"),
        (["--unlearn.hyper.loss-exponent", "nan"], "--unlearn.hyper.loss-exponent must be in .*, got nan"),
        (["--unlearn.hyper.clip-norm", "0"], "--unlearn.hyper.clip-norm must be in .*, got 0"),
        (["--unlearn.settings.inner-data", "mixed"], "unlearn.settings.inner_data of an unlearn request must be"),
        (["--methods", "ug-clu"], r"unknown method 'ug-clu'; did you mean ug_clu\? Valid: agem, .*, uniclun"),
        (["--methods", "salun+er"], r"'salun' in method 'salun\+er' does not learn; these do: ug_clu, .*, retrain"),
        (["--methods", "er+ewc"], r"'ewc' in method 'er\+ewc' does not unlearn; these do: ug_clu, .*, retrain"),
        (["--methods", "er+salun+er"], r"has 3 parts; it must be METHOD or LEARNER\+UNLEARNER"),
        (["--methods", "salun", *SHORT], "leaves no step for salun to unlearn: give"),
    ],
)
def test_continuous_settings_out_of_range_and_unknown_methods_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(parsed(*arguments), SETUP)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"saln": {}}, r"unknown method 'saln'; did you mean salun\?"),
        ({"salun": {"hyperr": {}}}, r"unknown setting 'references.salun.hyperr'; did you mean hyper\?"),
        ({"salun": {"hyper": {"rate": 1.0}}}, "unknown setting 'references.salun.hyper.rate'"),
        ({"salun": {"hyper": {"learning_rate": -1.0}}}, r"salun.hyper.learning_rate must be in \[0, ∞\), got -1"),
        ({"salun": {"hyper": {"keep_share": 1.5}}}, r"salun.hyper.keep_share must be in \[0, 1\], got 1.5"),
        ({"salun": {"settings": {"steps": 3}}}, "salun.settings.steps must be left out: the budget of gradient"),
        ({"salun": {"settings": {"schedule": "square"}}}, "salun.settings.schedule' must be 'constant' or 'linear'"),
        ({"ug_clu_target": {"hyper": {"slow_step_size": 2.0}}}, r"slow_step_size must be in \[0, 1\], got 2"),
        (
            {"salun": {"unlearn": {}}},
            "references.salun.unlearn: it has one kind of request, unlearn; give settings and",
        ),
        ({"uniclun": {"learn": {}, "hyper": {}}}, "references.uniclun.hyper must stand in references.uniclun.learn: "),
        ({"uniclun": {"lern": {}}}, r"unknown setting 'references.uniclun.lern'; did you mean learn\?"),
        ({"uniclun": {"learn": 3}}, "references.uniclun.learn must be an object of settings, got 3"),
        (
            {"uniclun": {"learn": {"settings": {"steps": 3}}}},
            "uniclun.learn.settings.steps must be left out: the budget",
        ),
        ({"uniclun": {"learn": {"hyper": {"learning_rate": -1.0}}}}, r"uniclun.learn.hyper.learning_rate must be in"),
        ({"ug_clu_plain": {"unlearn": {"hyper": {"clip_norm": 0.0}}}}, r"_plain.unlearn.hyper.clip_norm must be in"),
        (
            {"ug_clu_plain_no_mask": {"settings": {"preconditioner": "adam"}}},
            "references.ug_clu_plain_no_mask.settings.preconditioner of ug_clu_plain must be 'sgd', got 'adam'",
        ),
    ],
)
def test_bad_settings_of_other_methods_are_refused_by_their_dotted_names(references, message):
    config = parsed("--methods", "salun", "ug_clu_target", "uniclun", "ug_clu_plain_no_mask")
    config = dataclasses.replace(config, references=references)
    with pytest.raises(ValueError, match=message):
        build(config, SETUP)


def test_a_method_that_learns_and_unlearns_can_be_given_for_both_or_apart():
    apart = {"learn": {"hyper": {"learning_rate": 0.2}}, "unlearn": {"hyper": {"output_weight": 0.3}}}
    config = dataclasses.replace(parsed("--methods", "uniclun"), references={"uniclun": apart})
    hyper = build(config, SETUP)["uniclun"].hyper
    default = of_defaults("uniclun").hyper
    assert hyper["learn"] == dataclasses.replace(default["learn"], learning_rate=0.2)
    assert hyper["unlearn"] == dataclasses.replace(default["unlearn"], output_weight=0.3)
    both = dataclasses.replace(config, references={"uniclun": {"hyper": {"learning_rate": 0.2}}})
    assert {each.learning_rate for each in build(both, SETUP)["uniclun"].hyper.values()} == {0.2}


def test_the_papers_form_has_its_own_settings_and_its_ablations_begin_with_them():
    words = ["--learn.hyper.remain-learning-rate", "0.5", "--unlearn.hyper.remain-learning-rate", "0.6"]
    methods = ["ug_clu", "ug_clu_plain", "ug_clu_plain_no_adaptive", "ug_clu_plain_target", "ug_clu_no_decay"]
    unlearn = {"settings": {"inner_steps": 3}, "hyper": {"remain_learning_rate": 0.7, "clip_norm": 2.0}}
    references = {
        "ug_clu_plain": {"learn": {"hyper": {"remain_learning_rate": 0.4}}, "unlearn": unlearn},
        "ug_clu_plain_target": {"hyper": {"fast_learning_rate": 0.9}},
    }
    config = dataclasses.replace(parsed("--methods", *methods, *words), references=references)
    hyper = {name: entry.hyper for name, entry in build(config, SETUP).items()}
    assert hyper["ug_clu"]["learn"] == dataclasses.replace(LEARNING_HYPER, remain_learning_rate=0.5)
    assert hyper["ug_clu"]["unlearn"] == dataclasses.replace(UNLEARNING_HYPER, remain_learning_rate=0.6)
    assert hyper["ug_clu_no_decay"]["unlearn"] == dataclasses.replace(hyper["ug_clu"]["unlearn"], kept_share=1.0)
    plain = dataclasses.replace(PLAIN_HYPER, remain_learning_rate=0.7, clip_norm=2.0)
    assert hyper["ug_clu_plain"]["learn"] == dataclasses.replace(PLAIN_HYPER, remain_learning_rate=0.4)
    assert hyper["ug_clu_plain"]["unlearn"] == plain
    assert hyper["ug_clu_plain_no_adaptive"]["unlearn"] == dataclasses.replace(plain, loss_exponent=0.0)
    # An ablation's own change comes after the form's settings, and what is said of it after that.
    changed = {"fast_learning_rate": 0.9, "remain_learning_rate": 0.051, "clip_norm": np.inf}
    assert hyper["ug_clu_plain_target"]["unlearn"] == dataclasses.replace(plain, **changed)
    settings, _ = ug_clu_settings(config, "ug_clu_plain_no_adaptive", "unlearn")
    assert settings == dataclasses.replace(PLAIN, inner_steps=3)


def test_part_of_the_settings_of_a_kind_of_request_leaves_the_others_as_they_are(tmp_path):
    path = write(tmp_path / "mine.json", learn={"settings": {"outer_steps": 3}}, unlearn={"hyper": {"kept_share": 0.5}})
    config = parsed("--settings", str(path), "--learn.settings.inner-steps", "2")
    assert config.learn == KindConfig(dataclasses.replace(LEARNING, outer_steps=3, inner_steps=2), LEARNING_HYPER)
    assert config.unlearn == KindConfig(UNLEARNING, dataclasses.replace(UNLEARNING_HYPER, kept_share=0.5))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stays_within_the_budget_and_comes_near_it(name):
    """The cost that a method's own request reports, without running it."""
    config = parsed("--methods", name, "--capacity", "20", "--learn.settings.outer-steps", "12")
    entry = build(config, SETUP)[name]
    task = Examples(jnp.zeros((30, 3)), jnp.zeros(30, int), jnp.arange(16), jnp.array(16))
    buffer = init_buffer(20, (3,), np.float32, jax.random.key(0))
    learner, unlearner = split_name(name)
    for kind, part in (("learn", learner), ("unlearn", unlearner)):
        if part in (*WITHOUT_STEPS, *REFERENCE_POINTS):
            continue
        state, hyper = entry.method.init(*linear_init(jax.random.key(0))), entry.hyper[kind]
        update, key = entry.method.update(kind), jax.random.key(1)
        # Nothing else is asked for, so the compiler drops the rest of the request.
        spent = jax.jit(lambda: update(key, state, hyper, task, buffer)[1].gradient_evaluations)()  # noqa: B023
        allowed = budget(config, kind)
        assert 0.9 * allowed < float(spent) <= allowed + 1e-3
