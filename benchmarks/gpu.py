"""How fast is the library on one GPU, against PyTorch compiled for it?

Whole unlearn requests of an MLP, a CNN and ResNet-18 on 32 × 32 pictures, in bfloat16, TF32 and float32, with batches
of 64 and 512: the library's one program against PyTorch, eager and by `torch.compile(mode="max-autotune")`, whose CUDA
graphs have the same batches on the device. Then 32 oracles, one after another and in one program by several ways; a
request whose inputs stay in host memory; and one whole ResNet-18 stream of seven requests with its oracles. What is
compared is compared before it is timed. It needs no network, and ends after eight minutes with what it has; what it did
not come to is named. Without a GPU it runs at smoke size on a CPU, and says so.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import document, process, timing
from benchmarks.document import Section, Table

SECONDS = 480.0
"""Of the whole script."""
RESERVE = 10.0
"""Of them, for the end."""
PRECISIONS: Mapping[str, str | None] = {"bfloat16": None, "TF32": "tensorfloat32", "float32": "highest"}
"""And JAX's name of the precision of products, where parameters and activations are float32."""
PEAKS: Mapping[str, Mapping[str, float]] = {
    "H100 PCIe": {"bfloat16": 756e12, "TF32": 378e12, "float32": 51e12},
    "H100": {"bfloat16": 989e12, "TF32": 494e12, "float32": 67e12},
    "H200": {"bfloat16": 989e12, "TF32": 494e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "TF32": 156e12, "float32": 19.5e12},
}
"""Dense operations a second by the makers' data sheets; the first whose name stands in the card's."""
GOALS = (
    "Goals: 1.5 times compiled PyTorch at batch 64 and 1.0 at 512; a quarter of the bfloat16 peak at 512; 32 oracles "
    "in a tenth of 32 times one."
)
ORACLES = 32
REPEATS = 5


def card() -> str:
    """The name of JAX's first device: a card's, or cpu."""
    import jax

    device = jax.devices()[0]
    return str(device.device_kind) if device.platform == "gpu" else "cpu"


def peak(name: str, precision: str) -> float | None:
    """Operations a second of a card; None: it is not in the table.

    >>> peak("NVIDIA H100 80GB HBM3", "TF32"), peak("cpu", "TF32")
    (494000000000000.0, None)
    """
    return next((rates[precision] for known, rates in PEAKS.items() if known in name), None)


def case_of(network: str, precision: str, batch: int, smoke: bool) -> Any:
    """The request of a network on noise of 32 × 32 pictures, whose mask needs no gradient of each example."""
    from benchmarks.cases import make, random_images
    from ugclu_jax.models import ModelOptions
    from ugclu_jax.ugclu_plain import PLAIN

    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    small = {"width": 4, "depth": 1} if smoke and network == "resnet18" else {}
    settings = dataclasses.replace(
        PLAIN,
        outer_steps=1 if smoke else 20,
        inner_steps=1 if smoke else 5,
        task_batch_size=batch,
        remain_batch_size=batch,
        saliency="batch_fisher",
        saliency_batches=1,
    )
    count, side = (160, 8) if smoke else (10_000, 32)
    # Grey for the MLP: PyTorch would flatten colours first, the library last.
    dataset = random_images("noise", count, (side, side, 1 if network == "mlp" else 3))
    options = ModelOptions(dtype=dtype, **small)  # type: ignore[arg-type]
    return make(network, network, f"random {side}×{side} images", dataset, settings, count // 2, options)


@contextlib.contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """JAX's and PyTorch's products in a precision; bfloat16 in PyTorch by autocast, as its users have it."""
    import jax
    import torch

    tensor_cores = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tensor_cores
    half = torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with half, jax.default_matmul_precision(PRECISIONS[precision] or "default"):
        yield


def agreement(network: str, smoke: bool, device: str) -> float:
    """How far the library and PyTorch are apart in float64 after the first steps, on the device.

    Raises:
        AssertionError: further than rounding.
    """
    import jax

    from benchmarks.cases import in_float64
    from benchmarks.requests_against_torch import AGREED_STEPS, TOLERANCE, difference, ours, theirs

    with jax.enable_x64(True):
        made = in_float64(case_of(network, "float32", 16, smoke), AGREED_STEPS)
        # With all weights free: at a statistic of 0, rounding would decide the mask.
        free = dataclasses.replace(made.hyper, saliency_threshold=jax.numpy.float64(0.0))
        made = made._replace(hyper=free)
        module, losses = theirs(made, device=device)()
        request = ours(made)
        apart = difference(made, request, module)
        assert apart <= TOLERANCE, f"{network}: parameters differ by {apart:.2g}, relative to how far they moved"
        np.testing.assert_allclose(losses, request.task_losses, rtol=TOLERANCE)
    return apart


def request(network: str, precision: str, batch: int, smoke: bool, device: str) -> dict[str, Any]:
    """Seconds of one request by the library, by PyTorch eager, and compiled."""
    from benchmarks.machine import gradient_operations
    from benchmarks.requests_against_torch import WAYS, difference, ours, theirs
    from ugclu_jax.types import EVALUATION_EXAMPLES

    made, channels_last = case_of(network, precision, batch, smoke), network != "mlp" and device == "cuda"
    with computing(precision, device):
        mine = ours(made)
        begin = time.perf_counter()
        programs = {way: theirs(made, channels_last, device, compiled) for way, compiled in WAYS.items()}
        apart = {name: difference(made, mine, serve()[0]) for name, serve in programs.items()}
        torch_seconds = time.perf_counter() - begin
        assert np.isfinite(list(apart.values())).all(), "a program gave parameters that are not finite"

        seconds = timing.interleaved({"ours": mine.serve, **programs}, 2 if smoke else REPEATS)
    return {
        "what": [network, precision, batch],
        "images": mine.evaluations * EVALUATION_EXAMPLES,
        "operations": mine.evaluations * gradient_operations(made),
        "compile": [mine.compile_seconds, torch_seconds],
        "apart": apart,
        "seconds": seconds,
    }


def oracles(network: str, smoke: bool, device: str) -> dict[str, Any]:
    """Networks trained from scratch, one after another and in one program: by `vmap`, by `lax.map`, and by `vmap` with
    convolutions that are products of patches, which stay batched products under it."""
    import functools

    import jax

    from benchmarks.many_at_once import TOLERANCE, compare
    from ugclu_jax.oracle import OracleSettings, train_from_scratch

    count = 2 if smoke else ORACLES
    made = case_of(network, "TF32", 16 if smoke else 64, smoke)
    by_patches = made
    if network != "mlp":
        from benchmarks.cases import make

        options = dataclasses.replace(made.options, lowering="matmul")
        by_patches = make(network, network, made.data, made.dataset, made.settings, 100, options)
    settings = OracleSettings(epochs=1, batch_size=16 if smoke else 128)

    def train(case: Any) -> Callable[[Any], Any]:
        one = functools.partial(train_from_scratch, apply_fn=case.apply_fn, init_fn=case.init_fn, settings=settings)
        return lambda key: one(key, made.task)[0]

    alone, native, patches = jax.jit(train(made)), train(made), train(by_patches)

    def one_by_one(keys: Any) -> Any:
        each = [jax.block_until_ready(alone(key)) for key in keys]
        return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *each)

    programs = {"vmap": jax.jit(jax.vmap(native)), "lax.map": jax.jit(lambda keys: jax.lax.map(native, keys))}
    if network != "mlp":
        programs["vmap, convolutions as products"] = jax.jit(jax.vmap(patches))
    keys = jax.random.split(jax.random.key(0), count)
    # Batch normalisation spreads every flip of a rectifier, and tensor cores round coarsely: the table shows it.
    tolerance = TOLERANCE if device == "cpu" and network != "resnet18" else None
    found = compare({"separately": one_by_one, **programs}, keys, 2 if smoke else 3, tolerance)
    return {"what": [network, count], **found}


def pictures(folder: Path, smoke: bool) -> Path:
    """A file of noise that an experiment takes for a data set."""
    from benchmarks.cases import random_images

    dataset = random_images("noise", 200 if smoke else 5000, (8, 8, 3) if smoke else (32, 32, 3))
    names = {"x_train": dataset.train_inputs, "y_train": dataset.train_labels}
    path = folder / "noise.npz"
    np.savez(path, **names, x_test=dataset.train_inputs[:100], y_test=dataset.train_labels[:100])
    return path


def stream(smoke: bool, *words: str, model: str = "resnet18") -> dict[str, Any]:
    """One seed of `experiments.task_aware` on noise, in a process of its own: its seconds, and its lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = pictures(Path(folder), smoke)
        size = ["--smoke"] if smoke else ["--oracle.epochs", "5", "--capacity", "1000"]
        tiny = ["--model-options.width", "4", "--model-options.depth", "1"] if smoke and model == "resnet18" else []
        command = [sys.executable, "-m", "experiments.task_aware", "--dataset", "npz", "--data.directory", str(path)]
        command += ["--model", model, "--seeds", "0", "--run-dir", f"{folder}/run", "--cache-dir", f"{folder}/cache"]
        command += [*size, *tiny, *words]
        finished = process.run(command)
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    return {"seconds": finished.seconds, "lines": lines}


def streaming(smoke: bool) -> dict[str, Any]:
    """A learn request with its inputs on the device, and read from the host in chunks: the same numbers, and their
    seconds."""
    words = ["--sequence", "L1", "--tasks", "5"]
    found = {
        name: stream(smoke, *words, "--device-budget-mb", budget, model="cnn_bn")
        for name, budget in {"on the device": "2048", "from the host": "0"}.items()
    }
    numbers = [[{**line, "timing": None} for line in each["lines"]] for each in found.values()]
    assert numbers[0] == numbers[1], "a request that is read from the host gave other numbers"
    return {"what": {name: each["lines"][-1]["timing"]["RTE"] for name, each in found.items()}}


def whole(smoke: bool) -> dict[str, Any]:
    """The whole stream."""
    found = stream(smoke)
    timings = [line["timing"] for line in found["lines"]]
    return {
        "seconds": found["seconds"],
        "requests": len(timings),
        **{name: sum(each.get(name) or 0.0 for each in timings) for name in ("RTE", "oracle_seconds")},
    }


def parts(smoke: bool, device: str) -> dict[str, Callable[[], Any]]:
    """Everything that is measured by name, in the order of its weight: what goals are about comes first."""
    networks = ("resnet18", "cnn", "mlp")
    batches = (8,) if smoke else (64, 512)

    def of_requests(names: tuple[str, ...], precisions: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
        return {
            f"request {network} {precision} {batch}": lambda n=network, p=precision, b=batch: request(
                n, p, b, smoke, device
            )
            for precision in precisions
            for network in names
            for batch in batches
        }

    agreed = {f"agreement {network}": lambda n=network: agreement(n, smoke, device) for network in networks}
    found: dict[str, Callable[[], Any]] = dict(agreed)
    found |= of_requests(("resnet18",), ("bfloat16",))
    found |= {f"oracles {network}": lambda n=network: oracles(n, smoke, device) for network in ("resnet18", "cnn")}
    found["whole stream"] = lambda: whole(smoke)
    found |= of_requests(("cnn", "mlp"), ("bfloat16",))
    found["streaming"] = lambda: streaming(smoke)
    precisions = ("TF32",) if smoke else ("TF32", "float32")
    return found | of_requests(networks, precisions)


def work(smoke: bool) -> None:
    """The process that measures: a line of JSON a part, as soon as it is known."""
    name = card()
    device = "cpu" if name == "cpu" else "cuda"
    _told("card", name)
    for part, measure in parts(smoke, device).items():
        _told(part, measure())


def _told(part: str, found: Any) -> None:
    print(json.dumps([part, found]), flush=True)


def measured(smoke: bool, seconds: float) -> tuple[dict[str, Any], str]:
    """Run the process that measures, for so long at most.

    Returns:
        What is known by part, and what it said last where it failed or was ended.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.gpu", "--work", *(["--smoke"] if smoke else [])]
    # PyTorch shares the card with JAX.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    found: dict[str, Any] = {}
    lines: queue.Queue[str | None] = queue.Queue()
    end = time.monotonic() + seconds
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command, cwd=process.ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert child.stdout is not None

        def listen(stdout: Any) -> None:
            for line in stdout:
                lines.put(line)
            lines.put(None)

        listener = threading.Thread(target=listen, args=(child.stdout,), daemon=True)
        listener.start()
        ended = ""
        while True:
            try:
                line = lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                child.kill()
                ended = f"ended after {seconds:.0f} seconds"
                break
            if line is None:
                break
            if line.startswith("["):  # what a compiler prints is no part
                part, value = json.loads(line)
                found[part] = value
                print(f"{part}: {json.dumps(value)[:150]}", file=sys.stderr, flush=True)
        code = child.wait()
        listener.join()
        child.stdout.close()
        if code and not ended:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with code {code}:\n{errors.read()[-3000:]}")
    return found, ended


def request_row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table of requests."""
    network, precision, batch = found["what"]
    seconds = found["seconds"]
    spreads = {each: timing.spread(values) for each, values in seconds.items()}
    ours, most = spreads["ours"].median, peak(name, precision)
    share = "–" if most is None else f"{100 * found['operations'] / ours / most:.1f} %"
    return (
        f"{network}, {precision}, {batch}",
        *(str(spreads[each]) for each in ("ours", "eager", "compiled")),
        *(str(timing.ratio(seconds[each], seconds["ours"])) for each in ("compiled", "eager")),
        timing.number(found["images"] / ours),
        share,
        ", ".join(map(timing.number, found["compile"])),
        ", ".join(f"{value:.0e}" for value in found["apart"].values()),
    )


def oracle_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lines of the table of oracles."""
    (network, count), seconds = found["what"], found["seconds"]
    return [
        (
            f"{count} of {network}",
            name,
            str(timing.spread(seconds["separately"])),
            str(timing.spread(seconds[name])),
            str(timing.ratio(seconds["separately"], seconds[name])),
            f"{found['difference']:.0e}",
        )
        for name in seconds
        if name != "separately"
    ]


def run(smoke: bool, seconds: float = SECONDS - RESERVE) -> Section:
    """All parts that the time is enough for."""
    found, ended = measured(smoke, seconds)
    name = found.pop("card", "no device")
    wanted = [*parts(smoke, "cpu" if name == "cpu" else "cuda")]
    left = [part for part in wanted if part not in found]
    tables = []
    rows = [request_row(name, value) for part, value in found.items() if part.startswith("request ")]
    apart = {part.split()[1]: value for part, value in found.items() if part.startswith("agreement ")}
    header = (
        "network, precision, batch", "ours, s", "PyTorch eager, s", "compiled, s", "faster than compiled, times",
        "than eager, times", "images a second", "share of peak", "compilation of ours, of both of PyTorch's, s",
        "apart: eager, compiled",
    )  # fmt: skip
    note = f"On {name}. {GOALS} Agreement in float64, before: " + ", ".join(f"{n} {a:.0e}" for n, a in apart.items())
    note += f". Not measured, {ended}: {', '.join(left)}." if left else "."
    tables.append(Table(f"Requests on {name}", header, rows, note))
    rows = [row for part, value in found.items() if part.startswith("oracles ") for row in oracle_rows(value)]
    header = ("oracles", "at once by", "one by one, s", "at once, s", "times faster", "apart")
    tables.append(Table("Oracles, one epoch", header, rows))
    rows = []
    if "streaming" in found:
        rows += [
            (f"a learn request, cnn_bn, inputs {n}", timing.number(s)) for n, s in found["streaming"]["what"].items()
        ]
    if "whole stream" in found:
        own = found["whole stream"]
        rows += [
            (f"a stream of {own['requests']} requests of resnet18, all of it", timing.number(own["seconds"])),
            ("of it, requests", timing.number(own["RTE"])),
            ("of it, oracles", timing.number(own["oracle_seconds"])),
        ]
    tables.append(Table("Whole streams", ("what", "seconds"), rows))
    return Section(tables)


def main() -> None:
    """Command line: as that of all benchmarks, and `--work`, by which it starts itself."""
    if "--work" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--work", action="store_true")
        parser.add_argument("--smoke", action="store_true")
        work(parser.parse_args().smoke)
        sys.stdout.flush()
        os._exit(0)  # the orderly end of a process with JAX may abort with a corrupted heap: jax-ml/jax#30731
    document.main("gpu", __doc__ or "", run)


if __name__ == "__main__":
    main()
