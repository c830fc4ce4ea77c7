"""A second start compiles nothing again, and no example lies among the programs that are kept."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax._src import compilation_cache  # what is kept is compressed, and JAX has no public way to read it

from ugclu_jax import data
from ugclu_jax.harness import program_cache

RUN = (
    *("-m", "experiments.task_aware", "--sequence", "L1 L2 U1", "--seeds", "0", "--oracle-seeds", "2"),
    *("--oracle.epochs", "1", "--learn.settings.outer-steps", "2", "--unlearn.settings.outer-steps", "2"),
)


def environment(**over):
    cleared = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    return {**{name: value for name, value in os.environ.items() if name not in cleared}, **over}


def programs(cache):
    return {path.name: path for path in (cache / program_cache.FOLDER).glob("*-cache")}


def holders(found, needles):
    """Programs that hold one of these bytes."""
    plain = {name: compilation_cache.decompress_executable(path.read_bytes()) for name, path in found.items()}
    return [name for name, content in plain.items() if any(needle in content for needle in needles)]


@pytest.mark.slow
def test_the_second_start_compiles_nothing_and_no_example_is_in_a_program(tmp_path):
    cache = tmp_path / "cache"
    found = []
    for name in ("first", "second"):
        subprocess.run(
            [sys.executable, *RUN, "--run-dir", str(tmp_path / name), "--cache-dir", str(cache)],
            env=environment(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0"),
            check=True,
            capture_output=True,
        )
        found.append(programs(cache))
    assert len(found[0]) > 10
    # The first start trained the oracles, the second one read them: it may only need less.
    assert set(found[1]) == set(found[0])

    digits = data.load("digits")
    rows = digits.train_inputs.reshape(len(digits.train_inputs), -1)
    needles = [rows.tobytes(), *(row.tobytes() for row in rows[:200])]
    needles += [scaled.tobytes() for row in rows[:200] for scaled in (row.astype(np.float32), np.float32(row / 16))]
    assert min(len(needle) for needle in needles) >= 64
    assert holders(found[0], needles) == []
    # A program that had taken the examples in as constants would be seen.
    show = (
        f"keep_programs(Path({str(tmp_path)!r})); from ugclu_jax import data; rows = data.load('digits').train_inputs; "
    )
    told(show + "jax.jit(lambda x: x + rows)(1).block_until_ready()", JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert holders(programs(tmp_path), needles) != []


def told(code, **over):
    code = f"import jax; from pathlib import Path; from ugclu_jax.harness.program_cache import keep_programs; {code}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(**over), check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_programs_lie_below_the_cache_unless_a_variable_says_otherwise(tmp_path):
    show = (
        f"keep_programs(Path({str(tmp_path)!r})); print(jax.config.jax_compilation_cache_dir, "
        "jax.config.jax_compilation_cache_max_size, jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    ours = [str(tmp_path / "programs"), str(program_cache.MOST_BYTES), str(program_cache.LEAST_SECONDS)]
    assert told(show) == ours
    assert told(show, JAX_COMPILATION_CACHE_MAX_SIZE="5") == [ours[0], "5", ours[2]]
    assert told(show, JAX_COMPILATION_CACHE_DIR="/elsewhere") == ["/elsewhere", "-1", "1.0"]
    assert jax.config.jax_compilation_cache_dir != ours[0]
