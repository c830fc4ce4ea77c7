"""What the golden files hold and how it is computed: numbers that a change of the house's layout must not change.

`python tests/golden_runs.py record` writes `tests/golden/*.json`, each with its own configuration; with `--only WORD …`
only the cases with one of these words in their name, the others stay on file. Without `record` it prints how far
today's numbers are from those on file, and how many are equal bit for bit. `test_golden.py` asserts it.

Everything is computed in float64, so that what a machine's compiler rounds otherwise does not decide.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

GOLDEN = Path(__file__).parent / "golden"
ROWS, FEATURES, CLASSES, CAPACITY, HIDDEN = 60, 4, 3, 12, 5
STREAM = (("learn", range(0, 20)), ("learn", range(20, 36)), ("unlearn", range(5, 25)), ("learn", range(40, 48)))


def apply_fn(params, model_state, inputs, *, train, rng_key):
    """One hidden layer, a running mean, as BatchNorm has, and noise where there is a key, as dropout."""
    mean = inputs.mean(0) if train else model_state["mean"]
    new_state = {"mean": 0.9 * model_state["mean"] + 0.1 * mean} if train else model_state
    hidden = jnp.tanh((inputs - mean) @ params["kernel1"] + params["bias1"])
    if rng_key is not None:
        hidden = hidden * (1 + 0.1 * jax.random.normal(rng_key, hidden.shape, hidden.dtype))
    return hidden @ params["kernel2"] + params["bias2"], new_state


def init_fn(rng_key):
    first, second = jax.random.split(rng_key)
    params = {
        "kernel1": jax.random.normal(first, (FEATURES, HIDDEN), jnp.float64),
        "bias1": jnp.zeros(HIDDEN, jnp.float64),
        "kernel2": jax.random.normal(second, (HIDDEN, CLASSES), jnp.float64),
        "bias2": jnp.zeros(CLASSES, jnp.float64),
    }
    return params, {"mean": jnp.zeros(FEATURES, jnp.float64)}


def conv_apply_fn(params, model_state, inputs, *, train, rng_key):
    """The same network on images of 2 by 2, whose hidden layer is a convolution as large as they are."""
    flat = params["kernel1"].reshape(FEATURES, HIDDEN)
    return apply_fn({**params, "kernel1": flat}, model_state, inputs, train=train, rng_key=rng_key)


def conv_init_fn(rng_key):
    params, model_state = init_fn(rng_key)
    return {**params, "kernel1": params["kernel1"].reshape(2, 2, 1, HIDDEN)}, model_state


NETWORKS = {"dense": (apply_fn, init_fn), "convolution": (conv_apply_fn, conv_init_fn)}


def projections(tree: Any) -> list[list[float]]:
    """Of each leaf its length and its product with a random vector: a digest that can be compared with a bound."""
    found = []
    for leaf in jax.tree.leaves(tree):
        flat = np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        flat = flat.astype(np.float64).reshape(-1)
        direction = np.random.default_rng(flat.size).normal(size=flat.size)
        found.append([float(np.linalg.norm(flat)), float(flat @ direction)])
    return found


def digest(tree: Any) -> str:
    """Of all bits of a tree."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        hashed.update(np.asarray(leaf).tobytes())
    return hashed.hexdigest()[:16]


SMALL = {"task_batch_size": 4, "remain_batch_size": 4}
STEPS = {"steps": 5, **SMALL}
UG = {"outer_steps": 4, "inner_steps": 2, "saliency_batches": 2, **SMALL}
MIXED = {**UG, "inner_data": "mixed"}
ADAM = {"optimizer": "adamw"}
TAUGHT = {"distillation": True}
MOVING = {"learning_rate": 0.05, "momentum": 0.8, "weight_decay": 0.01}


def _one(kind: str, method: str, settings: dict | None = None, hyper: dict | None = None, **rest: Any) -> dict:
    return {"kind": kind, "method": method, "settings": settings, "hyper": hyper, **rest}


METHOD_CASES: dict[str, dict] = {
    "ug_clu": _one("both", "ug_clu", UG, {}, learn=MIXED),
    "ug_clu bounded by midpoints, clipped, masked": _one(
        "unlearn",
        "ug_clu",
        {**UG, "mask": "hard", "unlearn_loss": "bounded", "levels": "midpoint", **TAUGHT},
        {"slow_step_size": 0.5, "remain_clip_norm": 0.1, "kept_share": 0.5},
    ),
    "ug_clu target by midpoints": _one(
        "unlearn", "ug_clu", {**UG, "unlearn_loss": "target", "levels": "midpoint", "inner_schedule": "outer"}, {}
    ),
    "ug_clu without fast step": _one(
        "both", "ug_clu", {**UG, "fast_step": "none", "inner_schedule": "constant"}, {}, learn={**MIXED, **TAUGHT}
    ),
    "ug_clu_plain": _one("both", "ug_clu_plain", UG, {}),
    "ug_clu_plain mixed, soft mask of gradients": _one(
        "both", "ug_clu_plain", {**UG, "mask": "soft", "saliency": "gradient"}, {"saliency_threshold": 0.5}, learn=MIXED
    ),
    "ug_clu_plain straight_through, batch_fisher, own statistics": _one(
        "both",
        "ug_clu_plain",
        {**UG, "mask": "straight_through", "saliency": "batch_fisher", "keep_fast_statistics": True},
        {"slow_step_size": 0.5, "clip_norm": 0.1},
    ),
    "ug_clu_plain without inner steps": _one(
        "both",
        "ug_clu_plain",
        {**UG, "mask": "none", "inner_steps": 0, "coefficient_decay": False, "inner_schedule": "constant"},
        {"loss_exponent": 0.0},
    ),
    "ug_clu_plain bounded, distilling": _one(
        "unlearn",
        "ug_clu_plain",
        {**UG, "mask": "none", "unlearn_loss": "bounded", **TAUGHT},
        {"remain_weight_decay": 0.01},
    ),
    "ug_clu_plain target": _one("unlearn", "ug_clu_plain", {**UG, "unlearn_loss": "target", "rematerialise": True}, {}),
    "ug_clu_plain euclidean": _one("both", "ug_clu_plain", {**UG, "manifold": "euclidean"}, {}),
    "finetune": _one("learn", "finetune", {"steps": 5, "task_batch_size": 4}, MOVING),
    "er": _one("learn", "er", STEPS, MOVING),
    "er adamw, distilling": _one("learn", "er", {**STEPS, **ADAM, **TAUGHT, "schedule": "cosine"}, MOVING),
    "agem": _one("learn", "agem", STEPS, MOVING),
    "der": _one("learn", "der", STEPS, MOVING),
    "der_pp adamw, distilling": _one("learn", "der_pp", {**STEPS, **ADAM, **TAUGHT}, MOVING),
    "ewc": _one("learn", "ewc", {"steps": 5, "task_batch_size": 4, "fisher_batches": 2}, MOVING),
    "lwf": _one("learn", "lwf", {"steps": 5, "task_batch_size": 4}, MOVING),
    "joint": _one("both", "joint", {"steps": 5, "remain_batch_size": 4}, MOVING),
    "gradient_ascent": _one("unlearn", "gradient_ascent", {"steps": 5, "task_batch_size": 4}, MOVING),
    "finetune_remain": _one("both", "finetune_remain", {"steps": 5, "remain_batch_size": 4}, MOVING),
    "finetune_remain distilling": _one(
        "unlearn", "finetune_remain", {"steps": 5, "remain_batch_size": 4, **TAUGHT, "schedule": "constant"}, MOVING
    ),
    "neg_grad_plus": _one("unlearn", "neg_grad_plus", STEPS, MOVING),
    "random_label": _one("unlearn", "random_label", {**STEPS, **TAUGHT}, MOVING),
    "salun": _one("unlearn", "salun", {**STEPS, "saliency_batches": 2}, MOVING),
    "salun adamw, mask on gradient": _one(
        "unlearn", "salun", {**STEPS, **ADAM, "saliency_batches": 2, "mask_applies_to": "gradient"}, MOVING
    ),
    "sfron": _one("unlearn", "sfron", {**STEPS, "saliency_batches": 2, "forget_every": 2}, {}),
    "sfron adamw, mask on update": _one(
        "unlearn",
        "sfron",
        {**STEPS, **ADAM, **TAUGHT, "saliency_batches": 2, "mask_applies_to": "update"},
        {"momentum": 0.5},
    ),
    "scrub": _one("unlearn", "scrub", STEPS, MOVING),
    "scrub adamw, distilling": _one("unlearn", "scrub", {**STEPS, **ADAM, **TAUGHT}, MOVING),
    "bad_teacher": _one("unlearn", "bad_teacher", STEPS, MOVING),
    "bad_teacher distilling": _one("unlearn", "bad_teacher", {**STEPS, **TAUGHT}, MOVING),
    "l1_sparse": _one("unlearn", "l1_sparse", {"steps": 5, "remain_batch_size": 4, **TAUGHT}, MOVING),
    "uniclun": _one("both", "uniclun", {**STEPS, **TAUGHT}, MOVING),
    "clpu_der_pp": _one("both", "clpu_der_pp", STEPS, MOVING),
    "retrain": _one("both", "retrain", {"epochs": 2, "batch_size": 8}),
    "do_nothing": _one("both", "do_nothing"),
    "er_las": _one("learn", "er_las", {**STEPS, "window_steps": 2}, {**MOVING, "adjustment": 1.5}),
    "er_las adamw, distilling": _one("learn", "er_las", {**STEPS, **ADAM, **TAUGHT}, MOVING),
    "msg": _one("unlearn", "msg", {"steps": 5, "remain_batch_size": 4, "saliency_batches": 2}, MOVING),
    "msg adamw, distilling": _one(
        "unlearn",
        "msg",
        {"steps": 5, "remain_batch_size": 4, "saliency_batches": 2, **ADAM, **TAUGHT},
        {"reset_share": 0.5, "kept_gradient_share": 0.25},
    ),
    "ct": _one("unlearn", "ct", {"steps": 5, "remain_batch_size": 4}, MOVING, network="convolution"),
    "ct distilling": _one(
        "unlearn", "ct", {"steps": 5, "remain_batch_size": 4, **TAUGHT}, MOVING, network="convolution"
    ),
    "mu_mis": _one("unlearn", "mu_mis", {"steps": 5, "task_batch_size": 4}, {**MOVING, "stop_ratio": 5.0}),
    "mu_mis adamw, stopped": _one("unlearn", "mu_mis", {"steps": 5, "task_batch_size": 4, **ADAM}, {"stop_ratio": 0.5}),
    "ssd": _one("unlearn", "ssd", STEPS, {"selection": 1.0, "dampening": 0.5}),
    "ssd batch_fisher": _one("unlearn", "ssd", {**STEPS, "importance": "batch_fisher"}, {"selection": 2.0}),
    "analytic_head": _one("both", "analytic_head", {"batch_size": 8}, {"ridge": 0.5}),
    "retrain_on_buffer": _one("unlearn", "retrain_on_buffer", {"steps": 5, "remain_batch_size": 4}, MOVING),
}


def build(case: dict) -> tuple[Any, dict[str, Any]]:
    """The method of a case, and its hyperparameters by kind."""
    from ugclu_jax import combine
    from ugclu_jax.methods.do_nothing import do_nothing
    from ugclu_jax.ugclu import ug_clu
    from ugclu_jax.ugclu_plain import PLAIN, ug_clu_plain
    from ugclu_jax.ugclu_settings import UNLEARNING

    name, nothing = case["method"], do_nothing()
    apply_fn, init_fn = NETWORKS[case.get("network", "dense")]
    if name == "do_nothing":
        return nothing, nothing.hyper
    if name in ("ug_clu", "ug_clu_plain"):
        base, of = (UNLEARNING, ug_clu) if name == "ug_clu" else (PLAIN, ug_clu_plain)
        learn, unlearn = (dataclasses.replace(base, **each) for each in (case.get("learn", UG), case["settings"]))
        method = of(apply_fn, learn, unlearn, num_classes=CLASSES)
    else:
        module = importlib.import_module(f"ugclu_jax.methods.{'der' if name == 'der_pp' else name}")
        factory = getattr(module, name)
        there = {"capacity": CAPACITY, "num_examples": ROWS, "num_classes": CLASSES, "init_fn": init_fn}
        needs = inspect.signature(factory).parameters
        settings = type(needs["settings"].default)(**case["settings"])
        method = factory(apply_fn, settings, **{key: value for key, value in there.items() if key in needs})
    given = case["hyper"] or {}
    hyper = {kind: dataclasses.replace(each, **given) if given else each for kind, each in method.hyper.items()}
    # The other kind of request is served without an update, so that a file speaks of its method alone.
    if case["kind"] == "learn":
        return combine(learn=method, unlearn=nothing), {"learn": hyper["learn"], "unlearn": ()}
    if case["kind"] == "unlearn":
        return combine(learn=nothing, unlearn=method), {"learn": (), "unlearn": hyper["unlearn"]}
    return method, hyper


def run_method(case: dict) -> list[dict]:
    """The stream served by a method: after each request what it left and what it told."""
    from ugclu_jax import buffer as buffer_lib
    from ugclu_jax.learner import CLUState, apply_request
    from ugclu_jax.types import Examples

    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    inputs = jnp.asarray(rng.normal(size=(ROWS, FEATURES)) + np.eye(CLASSES, FEATURES)[labels])
    method, hyper = build(case)
    _, init_fn = NETWORKS[case.get("network", "dense")]
    empty = buffer_lib.init(CAPACITY, (FEATURES,), inputs.dtype, jax.random.key(2))
    state = CLUState(method.init(*init_fn(jax.random.key(1))), empty)
    programs = {
        kind: jax.jit(
            functools.partial(apply_request, method, kind), compiler_options={"xla_backend_optimization_level": 0}
        )
        for kind in ("learn", "unlearn")
    }
    found = []
    for request, (kind, ids) in enumerate(STREAM):
        padded = np.r_[np.asarray(ids, np.int32), np.full(24 - len(ids), -1, np.int32)]
        task = Examples(inputs, jnp.asarray(labels, jnp.int32), jnp.asarray(padded), jnp.int32(len(ids)))
        as_arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), hyper[kind])
        key = jax.random.fold_in(jax.random.key(3), request)
        state, info = programs[kind](key, state, as_arrays, task)
        found.append(
            {
                "params": projections(state.method.params),
                "model_state": projections(state.method.model_state),
                "memory": projections(state.method.extra),
                "buffer": projections(state.buffer.ids),
                "info": {name: projections(value) for name, value in info._asdict().items()},
                "gradient_evaluations": float(info.gradient_evaluations),
                "digest": digest(state.method),
            }
        )
    return found


SCENARIO_CASES: dict[str, dict] = {
    "task_aware": {"experiment": "task_aware", "arguments": ["--smoke"], "methods": ["ug_clu_plain"]},
    "class_wise": {"experiment": "class_wise", "arguments": ["--smoke"], "methods": ["salun"]},
    "random_sample": {"experiment": "random_sample", "arguments": ["--smoke"], "methods": ["sfron"]},
    "wrong_labels": {
        "experiment": "random_sample",
        "arguments": ["--smoke", "--regime", "wrong_labels"],
        "methods": ["ug_clu_plain", "scrub"],
    },
}
"""Every method has cases of its own above; here the experiments are held. The default of UG-CLU unlearns by a
divergence of logits, which pass through float32 here: that rounds it by more than these numbers may differ."""


NOT_COMPARED = ("timing", "before", "undefined")
"""Of a line of metrics."""


@contextlib.contextmanager
def in_float64() -> Iterator[dict[tuple, dict]]:
    """Networks of an experiment with parameters of float64; gives what is noted of them by method, seed, and request.

    It stands beside the metrics and not in them: the run's report refuses what it does not know.
    """
    from ugclu_jax.harness import evaluator, plan

    make_network, line_of = plan.make_network, evaluator.Evaluator.line
    noted: dict[tuple, dict] = {}

    def made(*arguments: Any) -> Any:
        network = make_network(*arguments)
        double = lambda key: jax.tree.map(lambda x: x.astype(jnp.float64), network.init_fn(key))  # noqa: E731
        return network._replace(init_fn=double)

    def line(self: Any, method: str, seed: int, step: Any, served: Any, *rest: Any) -> dict:
        network = served.state.method
        found = line_of(self, method, seed, step, served, *rest)
        of_network = {"params": projections(network.params), "digest": digest(network)}
        noted[found["method"], found["seed"], found["request"]] = of_network
        return found

    plan.make_network, evaluator.Evaluator.line = made, line
    try:
        yield noted
    finally:
        plan.make_network, evaluator.Evaluator.line = make_network, line_of


def run_scenario(case: dict) -> list[dict]:
    """The lines of metrics of an experiment, without what is not compared."""
    from ugclu_jax.harness.cli import main

    with tempfile.TemporaryDirectory() as folder, in_float64() as noted:
        arguments = [*case["arguments"], "--run-dir", f"{folder}/run", "--cache-dir", f"{folder}/cache"]
        arguments += ["--methods", *case["methods"]]
        code = main(case["experiment"], "", arguments)
        assert code == 0, f"{case['experiment']} ended with exit code {code}"
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    # What a line says of itself besides its numbers came after these files, and is tested where it is made.
    untimed = ({key: value for key, value in line.items() if key not in NOT_COMPARED} for line in lines)
    return [line | noted[line["method"], line["seed"], line["request"]] for line in untimed]


def differences(found: Any, expected: Any, where: str = "") -> list[tuple[str, float]]:
    """Where two results differ, relative to 1 or to the number if it is larger; infinite where they are not alike."""
    if isinstance(expected, dict) and isinstance(found, dict) and set(found) == set(expected):
        keys = [key for key in expected if key != "digest"]
        return [d for key in keys for d in differences(found[key], expected[key], f"{where}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        return [d for i in range(len(expected)) for d in differences(found[i], expected[i], f"{where}[{i}]")]
    if isinstance(expected, float | int) and isinstance(found, float | int) and not isinstance(expected, bool):
        if found == expected or (np.isnan(found) and np.isnan(expected)):
            return []
        return [(where, abs(found - expected) / max(1.0, abs(expected)))]
    return [] if found == expected else [(f"{where}: {found!r}, and on file {expected!r}", np.inf)]


def read(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", nargs="?", choices=["record"])
    parser.add_argument("--only", nargs="*")
    chosen = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    cases = {f"method {name}": ("method", case) for name, case in METHOD_CASES.items()}
    cases |= {f"scenario {name}": ("scenario", case) for name, case in SCENARIO_CASES.items()}
    files: dict[str, dict] = {}
    for name, (kind, case) in cases.items():
        if chosen.only and not any(word in name for word in chosen.only):
            continue
        result = run_method(case) if kind == "method" else run_scenario(case)
        file = "methods" if kind == "method" else name.split(" ", 1)[1]
        if chosen.record:
            # Some of the cases are recorded among the others, which stay as they are.
            files.setdefault(file, read(file) if chosen.only else {})[name] = {"configuration": case, "result": result}
            print("recorded", name, flush=True)
            continue
        expected = read(file)[name]["result"]
        apart = differences(result, expected)
        same = sum(a.get("digest") == b.get("digest") for a, b in zip(result, expected, strict=True))
        worst = max(apart, key=lambda d: d[1], default=("", 0.0))
        print(f"{name}: {same} of {len(result)} bit for bit, largest difference {worst[1]:.1e} {worst[0]}", flush=True)
    for file, content in files.items():
        (GOLDEN / f"{file}.json").write_text(json.dumps(content, indent=0) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
