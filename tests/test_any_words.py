"""Whatever is typed or stands in a settings file: read, or refused in one sentence; never a traceback."""

import contextlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ugclu_jax.harness.command_line import defaults, first_words, parse
from ugclu_jax.harness.config import EXPERIMENTS, hints_of
from ugclu_jax.harness.refusals import check_names, check_needs
from ugclu_jax.harness.scenarios import SCENARIOS
from ugclu_jax.harness.words import options_of
from ugclu_jax.report.visible import copyable, visible

OPTIONS = sorted(options_of([SCENARIOS["random_sample"].config]))
KEYS = ["", "experiments", "smoke", "references", "salun", "ug_clu", "hyper", "settings", "learn", "unlearn", "seeds"]
KEYS += [*EXPERIMENTS, *hints_of(SCENARIOS["task_aware"].config), "learning_rate", "clip_norm", "outer_steps", "mask"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KEYS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
WORDS = (
    st.sampled_from(OPTIONS)
    | st.sampled_from(
        ["", "0", "-1", "3", "1e999", "nan", "inf", "None", "hard", "er+salun", "x:y", "4294967296", "--"]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
DEEP = settings(QUICK, max_examples=5000)


def asked(words: list[str]) -> None:
    """As the programs do it, up to the data."""
    if {"-h", "--help"} & set(words):
        return
    kind = SCENARIOS["random_sample"].config
    start, file = defaults(kind, "random_sample", first_words(words))
    found = parse([start], words, "random_sample", "", file)
    check_names(found.configurations[0])
    check_needs(found.configurations[0], found.origin.given.typed)


def held(words: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        try:
            asked(words)
        except (ValueError, OSError) as error:
            assert str(error), "a sentence"
            assert len(str(error)) < 5000, "one that can be read"


@QUICK
@given(st.lists(WORDS, max_size=8))
def test_any_words(words):
    held(words)


@QUICK
@given(VALUES)
def test_any_settings(tmp_path: Path, value):
    (tmp_path / "s.json").write_text(json.dumps(value))
    held(["--settings", str(tmp_path / "s.json")])


@QUICK
@given(st.binary(max_size=60))
def test_any_bytes(tmp_path: Path, content):
    (tmp_path / "s.json").write_bytes(content)
    held(["--settings", str(tmp_path / "s.json")])


@pytest.mark.slow
@DEEP
@given(st.lists(WORDS, max_size=12), VALUES)
def test_any_words_with_any_settings(tmp_path: Path, words, value):
    (tmp_path / "s.json").write_text(json.dumps({"smoke": {}, **value} if isinstance(value, dict) else value))
    held(["--settings", str(tmp_path / "s.json"), *words])


@given(st.text())
def test_what_is_visible_moves_nothing_and_changes_no_plain_text(text):
    shown = visible(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert visible(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=4
    )
)
def test_a_command_can_be_copied(words):
    """The shell gives back the words, control characters too."""
    import subprocess

    command = copyable(words)
    assert visible(command) == command
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True
    )
    assert done.stdout.decode().split("\0")[:-1] == words
